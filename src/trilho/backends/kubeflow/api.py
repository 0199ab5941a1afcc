"""Calls of a Kubeflow Pipelines server over HTTP, and what its refusals mean.

The address may have a path before /apis, and name the namespace of a server with several users:
https://kubeflow.example.com/pipeline?namespace=team-a
"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from trilho.core.ports import NoAccess, NotFound
from trilho.core.retry import Patience, retry
from trilho.errors import TrilhoError, Unreachable, UsageError

Json = dict[str, Any]

CALL_SECONDS = 30.0
PAGE = 100
TOKEN, TOKEN_FILE = "TRILHO_KUBEFLOW_TOKEN", "KF_PIPELINES_SA_TOKEN_PATH"
IN_CLUSTER = Path("/var/run/secrets/kubeflow/pipelines/token")
PASSING = (429, 500, 502, 503, 504)
LOGIN = f"{TOKEN}=TOKEN, or {TOKEN_FILE}=FILE, of an account that may use the server"
ATTRIBUTES = re.compile(r"Namespace:(?P<namespace>[^,}]*),Verb:(?P<verb>[^,}]*),.*?Resource:(?P<resource>[^,}]*)")
USER = re.compile(r"[Uu]ser '(?P<user>[^']+)'")
READING = ("get", "list", "readArtifact")


class Refused(Exception):
    """An answer of the server that is no success."""

    def __init__(self, code: int, message: str, *, is_page: bool = False) -> None:
        self.code, self.message, self.is_page = code, message, is_page
        super().__init__(f"{code}: {message}")


class KubeflowApi:
    """A server, as one user of it."""

    def __init__(self, endpoint: str, patience: Patience | None = None) -> None:
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"the endpoint is {endpoint!r}", hint='endpoint = "https://HOST", as in a browser')
        if "@" in parts.netloc:  # it would be shown, and kept on record
            raise UsageError(f"the endpoint of {parts.hostname} names a user or a password", hint=LOGIN)
        self.endpoint = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self.namespace = parse_qs(parts.query).get("namespace", [""])[0]
        self.patience = patience or Patience(seconds=20.0)
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._path = parts.path.rstrip("/")

    def call(self, doing: str, make: Callable[[], Any]) -> Any:
        """Make calls; what passes is tried again for a while, everything else becomes an error of ours.

        `doing` begins the error's sentence, as in "submitting run r1".
        """
        try:
            return retry(make, passing=_is_passing, patience=self.patience)
        except Refused as refused:
            raise self.explain(refused, doing) from None
        except ssl.SSLCertVerificationError as error:
            hint = "SSL_CERT_FILE=FILE names the authorities to trust"
            raise TrilhoError(f"{doing}: {self.endpoint} is not trusted: {error.verify_message}", hint=hint) from None
        except (OSError, http.client.HTTPException) as error:
            fact = f"{doing}: {self.endpoint} does not answer: {error or type(error).__name__}"
            raise Unreachable(fact, hint="correct its address, or try again when it is up") from None

    def ask(self, method: str, path: str, body: Json | None = None, **query: str) -> Json:
        """Make one call and give the JSON that is answered."""
        text = self.text(method, f"/apis/v2beta1/{path}", body, **query)
        try:
            found = json.loads(text or "{}")
        except ValueError:
            raise Refused(200, _shortly(text), is_page=True) from None
        if not isinstance(found, dict):
            raise Refused(200, _shortly(text))
        return found

    def text(self, method: str, path: str, body: Json | None = None, **query: str) -> str:
        """Make one call and give what is answered."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if token := _token():
            headers["Authorization"] = f"Bearer {token}"
        given = {name: value for name, value in query.items() if value}
        target = f"{self._path}{path}" + (f"?{urlencode(given)}" if given else "")
        connection = self._connect()
        try:
            connection.request(method, target, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        is_page = 300 <= answer.status < 400 or "text/html" in (answer.headers.get("Content-Type") or "")
        if answer.status != 200 or is_page:
            raise Refused(answer.status, _message(text), is_page=is_page)
        return text

    def pages(self, path: str, key: str, **query: str) -> Iterator[Json]:
        """Give everything that a list holds, page by page."""
        token = ""
        while True:
            page = self.ask("GET", path, None, page_size=str(PAGE), page_token=token, namespace=self.namespace, **query)
            yield from page.get(key) or ()
            token = page.get("next_page_token") or ""
            if not token:
                return

    def experiment(self) -> Json:
        """Give what puts a new run into the namespace: nothing where the server has a single user."""
        if not self.namespace:
            return {}
        named = json.dumps({"predicates": [{"key": "name", "operation": "EQUALS", "string_value": "trilho"}]})
        found = next(self.pages("experiments", "experiments", filter=named), None)
        body = {"display_name": "trilho", "namespace": self.namespace}
        found = found or self.ask("POST", "experiments", body)
        return {"experiment_id": found["experiment_id"]}

    def explain(self, refused: Refused, doing: str) -> TrilhoError:
        """Turn a refusal into an error of ours."""
        said = refused.message
        if refused.code == 401 or (refused.is_page and refused.code not in PASSING):
            how = "answers with a login page" if refused.is_page else "does not know this account"
            return NoAccess(f"{doing}: {self.endpoint} {how}; the credentials are missing or expired", hint=LOGIN)
        if refused.code == 403:
            return self._denied(said, doing)
        if refused.code in PASSING:
            fact = f"{doing}: {self.endpoint} did not succeed for {self.patience.seconds:g} s: {said}"
            return Unreachable(fact, hint="try again; if it lasts, look at the server's own log")
        if refused.code == 404:
            return NotFound(f"{doing}: {self.endpoint} has none: {said}", hint="correct the endpoint, or the name")
        if refused.code == 400 and "namespace" in said.lower() and not self.namespace:
            hint = f'endpoint = "{self.endpoint}?namespace=NAMESPACE"'
            return UsageError(f"{doing}: the server has several users, and no namespace is named: {said}", hint=hint)
        return TrilhoError(f"{doing}: {self.endpoint} refuses it ({refused.code}): {said}")

    def _denied(self, said: str, doing: str) -> TrilhoError:
        """Say which right is lacking, and the role that has it."""
        found, user = ATTRIBUTES.search(said), USER.search(said)
        who = user["user"] if user else "this account"
        if found is None:
            hint = "who administers the server can give the account the role kubeflow-edit in its namespace"
            return TrilhoError(f"{doing}: {who} may not: {said}", hint=hint)
        role = "kubeflow-pipelines-view" if found["verb"] in READING else "kubeflow-pipelines-edit"
        namespace = found["namespace"] or self.namespace or "NAMESPACE"
        fact = f"{doing}: {who} lacks the right to {found['verb']} {found['resource']} in namespace {namespace}"
        grant = (
            f"kubectl create rolebinding trilho -n {namespace} --clusterrole={role} --user={who if user else 'USER'}"
        )
        return TrilhoError(fact, hint=grant)

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=CALL_SECONDS)
        return http.client.HTTPConnection(self._host, self._port, timeout=CALL_SECONDS)


def segment(name: str) -> str:
    """Write a name as one segment of a path.

    >>> segment("a/b")
    'a%2Fb'
    """
    return quote(name, safe="")


def named(key: str, value: str) -> Mapping[str, str]:
    """Give the query that filters a list by a name."""
    return {"filter": json.dumps({"predicates": [{"key": key, "operation": "EQUALS", "string_value": value}]})}


def _is_passing(error: Exception) -> bool:
    if isinstance(error, Refused):
        return error.code in PASSING
    if isinstance(error, ssl.SSLCertVerificationError):
        return False
    return isinstance(error, (OSError, http.client.HTTPException))


def _token() -> str:
    if given := os.environ.get(TOKEN):
        return given
    named_file = os.environ.get(TOKEN_FILE)
    path = Path(named_file) if named_file else IN_CLUSTER
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        if named_file:
            raise UsageError(f"{TOKEN_FILE} is {named_file!r}: {error.strerror}", hint=LOGIN) from None
        return ""


def _message(text: str) -> str:
    """Give what an error's body says: gRPC's gateway writes {"code", "message", "details"}."""
    try:
        found = json.loads(text)
    except ValueError:
        return _shortly(text)
    if isinstance(found, dict):
        return _shortly(str(found.get("message") or found.get("error_message") or found.get("error") or text))
    return _shortly(text)


def _shortly(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= 500 else f"{plain[:500]} ..."
