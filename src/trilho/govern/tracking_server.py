"""An MLflow tracking server, asked over its REST API 2.0 with the standard library alone.

Every call may be made again: what is made is first looked for by a tag of ours, and what MLflow keeps by name is kept
once. No redirect is followed, since the token would go along.
"""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from trilho.core.vault import reveal
from trilho.errors import DataError, TrilhoError, Unreachable

API = "/api/2.0/mlflow/"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/"
TIMEOUT_SECONDS = 15.0
TAG = "trilho."
RUN_TAG, VERSION_TAG = f"{TAG}run", f"{TAG}version"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PARAMETERS, METRICS = 100, 1000  # that one call may log
VALUE_LENGTH = 500  # characters of a parameter that every version of MLflow keeps
PAGE = 200
PASSING = {408, 429, 500, 502, 503, 504}


class Server:
    """One MLflow server; `token` is a token, a reference to one, or nothing where the environment has it.

    With `within_seconds` no call is made after that time, however many there would be.
    """

    def __init__(self, address: str, token: str | None = None, within_seconds: float = math.inf) -> None:
        self.address = address.rstrip("/")
        self._within, self._end = within_seconds, time.monotonic() + within_seconds
        self._headers = {"Content-Type": "application/json", **_authorization(token)}
        self._opener = urllib.request.build_opener(_NoRedirect)

    @property
    def local(self) -> bool:
        """Whether the server runs on this machine."""
        return urllib.parse.urlsplit(self.address).hostname in LOOPBACK

    def experiment(self, name: str) -> str:
        """Give the id of the experiment of a name, which is made where there is none."""
        found = self._find("GET", "experiments/get-by-name", {"experiment_name": name})
        if found is not None:
            return str(found["experiment"]["experiment_id"])
        made = self._make("experiments/create", {"name": name})
        if made is not None:
            return str(made["experiment_id"])
        return str(
            self._ask("GET", "experiments/get-by-name", {"experiment_name": name})["experiment"]["experiment_id"]
        )

    def run(self, experiment: str, run: str) -> Mapping[str, Any] | None:
        """Give the run that mirrors one of ours, with its `run_id` and `artifact_uri`."""
        body = {
            "experiment_ids": [experiment],
            "filter": f"tags.`{RUN_TAG}` = '{_quoted(run)}'",
            "run_view_type": "ACTIVE_ONLY",
            "max_results": 1,
        }
        found = self._ask("POST", "runs/search", body).get("runs") or []
        return found[0]["info"] if found else None

    def start_run(self, experiment: str, run: str, started: int, tags: Mapping[str, str]) -> Mapping[str, Any]:
        """Give the run that mirrors one of ours, made where there is none; times are milliseconds since 1970."""
        found = self.run(experiment, run)
        if found is not None:
            return found
        body = {"experiment_id": experiment, "run_name": run, "start_time": started}
        made = self._ask("POST", "runs/create", {**body, "tags": _pairs({RUN_TAG: run, **tags})})
        info: Mapping[str, Any] = made["run"]["info"]
        return info

    def log(
        self, run_id: str, parameters: Mapping[str, Any], metrics: Mapping[str, float], at: int, tags: Mapping[str, str]
    ) -> None:
        """Log what a run was given and what it measured; the same again changes nothing."""
        values = [{"key": key, "value": value, "timestamp": at, "step": 0} for key, value in metrics.items()]
        given = _pairs({key: str(value)[:VALUE_LENGTH] for key, value in parameters.items()})
        body = {"run_id": run_id, "metrics": values[:METRICS], "params": given[:PARAMETERS], "tags": _pairs(tags)}
        self._ask("POST", "runs/log-batch", body)

    def end_run(self, run_id: str, succeeded: bool, ended: int) -> None:
        """Say that a run has ended, and how."""
        status = "FINISHED" if succeeded else "FAILED"
        self._ask("POST", "runs/update", {"run_id": run_id, "status": status, "end_time": ended})

    def registered_model(self, name: str) -> None:
        """Make a registered model, where there is none of that name."""
        self._make("registered-models/create", {"name": name, "tags": _pairs({f"{TAG}model": name})})

    def versions(self, name: str) -> dict[int, str]:
        """Give the number that MLflow has for each of our versions of a registered model."""
        found = {}
        for one in self._pages("model-versions/search", {"filter": f"name='{_quoted(name)}'"}, "model_versions"):
            tags = {tag["key"]: tag.get("value", "") for tag in one.get("tags", ())}
            if tags.get(VERSION_TAG, "").isdigit():
                found[int(tags[VERSION_TAG])] = str(one["version"])
        return found

    def add_version(self, name: str, version: int, source: str, run_id: str, tags: Mapping[str, str]) -> str:
        """Register one of our versions, and give MLflow's number of it."""
        body = {"name": name, "source": source, "run_id": run_id}
        made = self._ask("POST", "model-versions/create", {**body, "tags": _pairs({VERSION_TAG: str(version), **tags})})
        return str(made["model_version"]["version"])

    def tag_version(self, name: str, number: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        body = {"name": name, "version": number, "key": f"{TAG}{key}", "value": value[:VALUE_LENGTH]}
        self._ask("POST", "model-versions/set-tag", body)

    def set_alias(self, name: str, alias: str, number: str | None) -> None:
        """Let an alias name a version, or none."""
        if number is not None:
            self._ask("POST", "registered-models/alias", {"name": name, "alias": alias, "version": number})
            return
        self._find("DELETE", "registered-models/alias", {"name": name, "alias": alias})

    def upload(self, folder: Path, artifact_uri: str, name: str) -> str | None:
        """Copy a folder to a run's artifacts and give its URI; None where they lie where only the server can write.

        A server takes them over HTTP, unless it was told otherwise; one on this machine may keep them in a folder.
        """
        scheme, _, rest = artifact_uri.partition(":")
        if self.local and (scheme == "file" or artifact_uri.startswith("/")):
            to = Path(urllib.request.url2pathname(urllib.parse.urlsplit(artifact_uri).path)) / name
            shutil.copytree(folder, to, dirs_exist_ok=True)
            return f"{artifact_uri.rstrip('/')}/{name}"
        if scheme != "mlflow-artifacts":
            return None
        place = urllib.parse.urlsplit(f"//{rest.lstrip('/')}" if rest.startswith("//") else rest).path.strip("/")
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            path = f"{place}/{name}/{file.relative_to(folder).as_posix()}"
            headers = {**self._headers, "Content-Type": "application/octet-stream"}
            self._send("PUT", ARTIFACTS + urllib.parse.quote(path), file.read_bytes(), headers)
        return f"{artifact_uri.rstrip('/')}/{name}"

    def _pages(self, path: str, query: Mapping[str, Any], what: str) -> Iterator[Any]:
        token = ""
        while True:
            page = self._ask("GET", path, {**query, "max_results": PAGE, **({"page_token": token} if token else {})})
            yield from page.get(what, ())
            token = page.get("next_page_token", "")
            if not token:
                return

    def _find(self, method: str, path: str, query: Mapping[str, Any]) -> Any:
        """Ask for what may not be there; None then."""
        try:
            return self._ask(method, path, query)
        except _Answered as error:
            if error.code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND") or error.status == 404:
                return None
            raise

    def _make(self, path: str, body: Mapping[str, Any]) -> Any:
        """Make what may be there already; None then."""
        try:
            return self._ask("POST", path, body)
        except _Answered as error:
            if error.code != "RESOURCE_ALREADY_EXISTS":
                raise
            return None

    def _ask(self, method: str, path: str, given: Mapping[str, Any]) -> Any:
        asked = method == "GET"
        where = f"{API}{path}?{urllib.parse.urlencode(given)}" if asked else API + path
        body = None if asked else json.dumps(given, allow_nan=False).encode()
        answer = self._send(method, where, body, self._headers)
        try:
            found = json.loads(answer or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise DataError(f"{self.address} does not answer as MLflow does: {answer[:80]!r}", hint=ADDRESS_HINT)
        return found

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        request = urllib.request.Request(self.address + path, body, dict(headers), method=method)  # noqa: S310
        left = self._end - time.monotonic()
        if left <= 0:
            fact = f"{self.address} took longer than {self._within:g} seconds for all there is"
            raise Unreachable(fact, hint="trilho models mirror")
        try:
            with self._opener.open(request, timeout=min(TIMEOUT_SECONDS, left)) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise _problem(self.address, error.code, error.read(10_000)) from None
        except (OSError, HTTPException, ValueError) as error:
            said = getattr(error, "reason", None) or error
            raise Unreachable(f"{self.address} does not answer: {said}", hint="trilho models mirror, later") from None


ADDRESS_HINT = "look at mlflow in [tracking]: the address of the server, as MLFLOW_TRACKING_URI has it"


class _Answered(TrilhoError):
    """The server said no; `code` is MLflow's own."""

    def __init__(self, fact: str, *, hint: str, code: str, status: int) -> None:
        super().__init__(fact, hint=hint)
        self.code, self.status = code, status


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow no redirect: it comes back as the answer."""


def _problem(address: str, status: int, body: bytes) -> TrilhoError:
    """Give what an answer that is no success means."""
    try:
        told = json.loads(body)
        code, said = str(told.get("error_code", "")), str(told.get("message", ""))
    except (ValueError, AttributeError):
        code, said = "", body.decode(errors="replace")
    first = (said.strip().splitlines() or [""])[0][:200]
    fact = f"{address} answered {status}{f' {code}' if code else ''}{f': {first}' if first else ''}"
    if status in PASSING:
        return Unreachable(fact, hint="trilho models mirror, later")
    if status in (401, 403):
        hint = "set MLFLOW_TRACKING_TOKEN, or token in [tracking] to secret://NAME"
        return _Answered(fact, hint=hint, code=code, status=status)
    return _Answered(fact, hint=ADDRESS_HINT, code=code, status=status)


def _authorization(token: str | None) -> dict[str, str]:
    """Give the header that says who asks, from the settings or MLflow's own variables."""
    token = reveal(token) if token else reveal(os.environ.get("MLFLOW_TRACKING_TOKEN", ""))
    if token:
        return {"Authorization": f"Bearer {token}"}
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    if not user:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{reveal(password)}'.encode()).decode()}"}


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _quoted(text: str) -> str:
    """Give a text as it may stand in a filter, whose texts have no escapes."""
    if "'" in text:
        raise DataError(f"{text!r} has a quote in it, which no filter of MLflow can hold", hint="rename it")
    return text


def keys_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give values by names that MLflow takes.

    >>> keys_of({"shop.metrics:rmspe": 1.0})
    {'shop.metrics_rmspe': 1.0}
    """
    return {"".join(c if c.isalnum() or c in "_-. /" else "_" for c in key)[:250]: v for key, v in values.items()}


__all__: Sequence[str] = ("Server", "keys_of")
