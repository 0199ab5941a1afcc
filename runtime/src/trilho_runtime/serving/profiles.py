"""Where a server pushes its live profile to, where nobody can read its disk: a topic of Pub/Sub, or a bucket.

What is pushed are the files as they are written elsewhere, each the whole of what a process has counted of an hour, so
that a push that fails or comes twice costs nothing: the next one says it all. Pushing has a thread of its own, and no
prediction waits for it.
"""

from __future__ import annotations

import os
import urllib.parse
import uuid
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import orjson

from trilho_runtime.prediction.live import Push
from trilho_runtime.prediction.publish import ADDRESS, MetadataToken
from trilho_runtime.processes.download import google_token

WAIT_SECONDS = 3.0
MOST_BYTES = 5_000_000  # of one publish, before base64
STORAGE = "https://storage.googleapis.com"
SCHEMA = "1"

Token = Callable[[], str]


class TopicPush:
    """Publishes profile files; later states of a file have the same ordering key."""

    def __init__(self, topic: str, token: Token | None = None) -> None:
        """`topic` is projects/PROJECT/topics/NAME; PUBSUB_EMULATOR_HOST says where another Pub/Sub answers."""
        if topic.count("/") != 3 or not topic.startswith("projects/") or topic.split("/")[2] != "topics":
            raise ValueError(f"the profile topic is {topic!r}; wanted projects/PROJECT/topics/NAME")
        emulator = os.environ.get("PUBSUB_EMULATOR_HOST", "").removeprefix("http://")
        self._url = f"{f'http://{emulator}' if emulator else f'https://{ADDRESS}'}/v1/{topic}:publish"
        self._token = token or (None if emulator else MetadataToken())
        self._process = uuid.uuid4().hex[:8]

    def __call__(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Publish files. Raises OSError for the first that cannot be."""
        batch, size = list[dict[str, object]](), 0
        for name, text in files:
            if batch and size + len(text) > MOST_BYTES:
                self._post(batch)
                batch, size = [], 0
            batch.append(self._message(name, text))
            size += len(text)
        if batch:
            self._post(batch)

    def _message(self, name: str, text: bytes) -> dict[str, object]:
        told = orjson.loads(text)
        key = unique(name, self._process)
        attributes = {"kind": "trilho.profile", "schema": SCHEMA, "name": key}
        attributes |= {"model": str(told["model"]), "version": str(told["version"])}
        return {"data": b64encode(text).decode(), "attributes": attributes, "orderingKey": key}

    def _post(self, messages: Sequence[Mapping[str, object]]) -> None:
        ask(self._url, orjson.dumps({"messages": messages}), self._token() if self._token is not None else "")


class BucketPush:
    """Writes profile files to objects below gs://BUCKET/PATH/MODEL/, each anew as it grows."""

    def __init__(self, uri: str, token: Token | None = None) -> None:
        parts = urllib.parse.urlsplit(uri)
        if parts.scheme != "gs" or not parts.netloc:
            raise ValueError(f"{uri!r} is no place for profiles; wanted a folder or gs://BUCKET/PATH")
        emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
        base = emulator or STORAGE
        base = (base if "://" in base else f"http://{base}").rstrip("/")
        self._url = f"{base}/upload/storage/v1/b/{parts.netloc}/o?uploadType=media&name="
        self._path = parts.path.strip("/")
        self._token = token or ((lambda: "") if emulator else _StorageToken())
        self._process = uuid.uuid4().hex[:8]

    def __call__(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Write files. Raises OSError for the first that cannot be."""
        for name, text in files:
            model = str(orjson.loads(text)["model"])
            where = "/".join(filter(None, (self._path, model, unique(name, self._process))))
            ask(self._url + urllib.parse.quote(where, safe=""), text, self._token())


class _StorageToken:
    """What says who asks Cloud Storage, asked for again once it has run out."""

    def __init__(self) -> None:
        self._text, self._until = "", 0.0

    def __call__(self) -> str:
        """Give the token; "" where nobody gives one."""
        import time

        if time.monotonic() >= self._until:
            token = google_token()
            self._text, self._until = ("", 0.0) if token is None else (token.text, token.until)
        return self._text


def unique(name: str, process: str) -> str:
    """Give a file's name among those of all machines.

    >>> unique("2026-01-01T13-7-17000.json", "0a1b")
    '2026-01-01T13-7-17000-0a1b.json'
    """
    return f"{name.removesuffix('.json')}-{process}.json"


def ask(url: str, body: bytes, token: str) -> None:
    """Post JSON. Raises OSError for anything but success, within a few seconds."""
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    parts = urllib.parse.urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.netloc, timeout=WAIT_SECONDS)
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
    try:
        connection.request("POST", f"{parts.path}?{parts.query}" if parts.query else parts.path, body, headers)
        answer = connection.getresponse()
        said = answer.read()
        if not 200 <= answer.status < 300:
            raise OSError(f"{parts.netloc} answered {answer.status}: {said[:200].decode(errors='replace')}")
    except HTTPException as error:
        raise OSError(f"{parts.netloc}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()


def open_pushes(profiles: Path | str | None, topic: str | None) -> tuple[Path | None, list[Push]]:
    """Give the folder that profiles are written to, and where they are pushed. Raises ValueError for what is neither.

    >>> open_pushes("log/profiles", None)
    (PosixPath('log/profiles'), [])
    """
    pushes: list[Push] = [TopicPush(topic)] if topic else []
    if isinstance(profiles, str) and "://" in profiles:
        return None, [*pushes, BucketPush(profiles)]
    return (Path(profiles) if profiles else None), pushes
