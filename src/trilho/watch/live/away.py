"""Profiles of servers whose disks nobody can read: objects in a bucket, or messages of a subscription to a topic."""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from trilho.errors import Unreachable
from trilho.watch.live.folder import AT_ONCE
from trilho.watch.live.ledger import Ledger, NotAProfile, Profile
from trilho_runtime.processes.download import google_token

STORAGE, PUBSUB = "https://storage.googleapis.com", "https://pubsub.googleapis.com"
WAIT_SECONDS = 10.0
MOST_MESSAGES = 1000  # of one pull
PULLS = 4  # of one look
MOST_UNACKNOWLEDGED = 20_000

Token = Callable[[], str]


class BucketProfiles:
    """Reads what is new in the profile files below gs://BUCKET/PATH, as servers push them there.

    Objects are left where they are: a lifecycle rule of the bucket lets them go.
    """

    def __init__(self, uri: str, *, token: Token | None = None) -> None:
        parts = urlsplit(uri)
        if parts.scheme != "gs" or not parts.netloc:
            raise ValueError(f"{uri!r} is no place in a bucket; allowed: gs://BUCKET/PATH")
        emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
        self._service = _Service(_address(emulator, STORAGE), token or (_nobody if emulator else GoogleToken()))
        self._objects = f"/storage/v1/b/{parts.netloc}/o"
        self._prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        self._ledger = Ledger()
        self._seen: dict[str, str] = {}
        self.broken = 0

    @property
    def passed_over(self) -> int:
        """Count the rows of objects that were old when they were first seen, or changed again long after."""
        return self._ledger.passed_over

    def read(self) -> list[Profile]:
        """Give what is new since the last time, each row once. Raises Unreachable."""
        listed = sorted((_seconds(o["updated"]), o["name"], str(o["generation"])) for o in self._list())
        if listed:
            self._ledger.see(listed[-1][0])
        found: list[Profile] = []
        for updated, name, generation in listed:
            if self._seen.get(name) == generation or len(found) >= AT_ONCE:
                continue
            try:
                new = self._open(name, updated)
            except Unreachable:
                if found:  # what came before is not lost for it
                    break
                raise
            self._seen[name] = generation
            found += [new] if new is not None else []
        there = {name for _, name, _ in listed}
        self._seen = {name: generation for name, generation in self._seen.items() if name in there}
        return found

    def commit(self) -> None:
        """Do nothing: objects stay where they are."""

    def state(self) -> dict[str, Any]:
        """Give what a restarted reader goes on from, as JSON values."""
        return self._ledger.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._ledger.restore(state)
        self._seen = {}

    def _list(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        page = ""
        while True:
            fields = quote("items(name,generation,updated),nextPageToken")
            query = f"prefix={quote(self._prefix, safe='')}&fields={fields}&maxResults=1000"
            told = orjson.loads(self._service.ask("GET", f"{self._objects}?{query}{page}"))
            found += [one for one in told.get("items", ()) if one["name"].endswith(".json")]
            if not told.get("nextPageToken"):
                return found
            page = f"&pageToken={quote(told['nextPageToken'], safe='')}"

    def _open(self, name: str, updated: float) -> Profile | None:
        try:
            text = self._service.ask("GET", f"{self._objects}/{quote(name, safe='')}?alt=media")
            return self._ledger.take(name, Profile.parse(text), updated)
        except NotAProfile:
            self.broken += 1
            return None


class PubSubProfiles:
    """Reads what is new in the profiles that servers publish to a topic, through one subscription to it.

    Messages are acknowledged once what was read is kept; until then Pub/Sub delivers them again, which counts nothing
    twice. Give the subscription an acknowledgement deadline of 600 seconds; order need not be kept.
    """

    def __init__(self, subscription: str, *, token: Token | None = None) -> None:
        if subscription.count("/") != 3 or subscription.split("/")[::2] != ["projects", "subscriptions"]:
            raise ValueError(f"the subscription is {subscription!r}; allowed: projects/PROJECT/subscriptions/NAME")
        emulator = os.environ.get("PUBSUB_EMULATOR_HOST", "")
        self._service = _Service(_address(emulator, PUBSUB), token or (_nobody if emulator else GoogleToken()))
        self._path = f"/v1/{subscription}"
        self._ledger = Ledger()
        self._unacknowledged: dict[str, None] = {}
        self.broken = 0

    @property
    def passed_over(self) -> int:
        """Count the rows of files whose messages were old when they came first, or came long after the others."""
        return self._ledger.passed_over

    def read(self) -> list[Profile]:
        """Give what is new since the last time, each row once. Raises Unreachable."""
        found: list[Profile] = []
        for _ in range(PULLS):
            if len(self._unacknowledged) >= MOST_UNACKNOWLEDGED:
                break
            body = {"maxMessages": MOST_MESSAGES, "returnImmediately": True}
            try:
                told = orjson.loads(self._service.ask("POST", f"{self._path}:pull", orjson.dumps(body)))
            except Unreachable:
                if found:  # what came before is not lost for it
                    break
                raise
            messages = told.get("receivedMessages", ())
            found += filter(None, map(self._take, messages))
            if not messages:
                break
        return found

    def commit(self) -> None:
        """Acknowledge what was read. Raises Unreachable; then it is delivered again, and counts nothing."""
        waiting = list(self._unacknowledged)
        for first in range(0, len(waiting), MOST_MESSAGES):
            some = waiting[first : first + MOST_MESSAGES]
            self._service.ask("POST", f"{self._path}:acknowledge", orjson.dumps({"ackIds": some}))
            for one in some:
                del self._unacknowledged[one]

    def state(self) -> dict[str, Any]:
        """Give what a restarted reader goes on from, as JSON values."""
        return self._ledger.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._ledger.restore(state)

    def _take(self, received: Mapping[str, Any]) -> Profile | None:
        message = received["message"]
        self._unacknowledged[received["ackId"]] = None
        try:
            name, published = message["attributes"]["name"], _seconds(message["publishTime"])
            return self._ledger.take(name, Profile.parse(b64decode(message["data"])), published)
        except (NotAProfile, KeyError, ValueError, TypeError):
            self.broken += 1
            return None


class GoogleToken:
    """What says who asks: the machine's service account, or CLOUDSDK_AUTH_ACCESS_TOKEN."""

    def __init__(self) -> None:
        self._text, self._until = "", 0.0

    def __call__(self) -> str:
        """Give the token. Raises Unreachable where nobody gives one."""
        import time

        if time.monotonic() >= self._until:
            token = google_token()
            if token is None:
                hint = "run where a service account is, or set CLOUDSDK_AUTH_ACCESS_TOKEN"
                raise Unreachable("nobody gives a token for Google Cloud", hint=hint)
            self._text, self._until = token.text, token.until
        return self._text


class _Service:
    """One of Google's HTTP interfaces."""

    def __init__(self, base: str, token: Token) -> None:
        self._base, self._token = urlsplit(base), token

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Ask, and give what was answered. Raises Unreachable for anything but success."""
        kind = HTTPSConnection if self._base.scheme == "https" else HTTPConnection
        token, where = self._token(), self._base.netloc
        headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
        connection = kind(where, timeout=WAIT_SECONDS)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, HTTPException) as error:
            fact = f"{where} does not answer: {error or type(error).__name__}"
            raise Unreachable(fact, hint="look at the network; the watcher asks again") from error
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            fact = f"{where}{path.split('?')[0]} answered {answer.status}: {said[:200].decode(errors='replace')}"
            raise Unreachable(fact, hint="look at its name, and at the roles of who asks")
        return said


def _nobody() -> str:
    return ""


def _address(emulator: str, service: str) -> str:
    base = emulator or service
    return (base if "://" in base else f"http://{base}").rstrip("/")


def _seconds(time: str) -> float:
    """Give a time of Google's in seconds since 1970; its fractions may have nine digits.

    >>> _seconds("1970-01-01T00:00:01.500000001Z")
    1.5
    """
    whole, _, fraction = time.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{(fraction or '0')[:6]}")
