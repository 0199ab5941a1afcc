"""Files over HTTP with nothing but the standard library: resumed where they broke off, tried again for a while.

Cloud Storage is asked through its JSON API. Who asks is the service account of the machine, as its metadata server
says, or whose token CLOUDSDK_AUTH_ACCESS_TOKEN holds; STORAGE_EMULATOR_HOST is asked without any.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ATTEMPTS = 6  # in a row without a byte of progress
FIRST_WAIT, LONGEST_WAIT = 0.5, 16.0
STALLED_SECONDS = 20.0
METADATA_SECONDS = 3.0
PIECE = 1 << 18
AGAIN = frozenset({408, 429, 500, 502, 503, 504})
STORAGE = "https://storage.googleapis.com"
TOKEN_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"  # noqa: S105  where one is to be had
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # machines of one's own are behind no proxy

Progress = Callable[[int], None]


class DownloadError(Exception):
    """A file could not be had: a fact, then a hint, and the code to exit with; 5 where trying again may help."""

    def __init__(self, fact: str, hint: str, exit_code: int = 5) -> None:
        super().__init__(f"{fact}\nHint: {hint}")
        self.fact, self.hint, self.exit_code = fact, hint, exit_code


class Missing(DownloadError):
    """There is no such file."""


class Source:
    """A folder that is read over HTTP: gs://BUCKET/PATH, or https://HOST/PATH."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        parts = urllib.parse.urlsplit(self.uri)
        self._google = parts.scheme == "gs"
        self._bucket, self._path = parts.netloc, parts.path.strip("/")
        self._emulator = os.environ.get("STORAGE_EMULATOR_HOST", "") if self._google else ""
        self._token: Token | None = None
        if parts.scheme not in ("gs", "http", "https") or not parts.netloc:
            raise DownloadError(f"{uri!r} is no address of a folder", "gs://BUCKET/PATH or https://HOST/PATH", 2)

    def get(self, name: str, to: Path, progress: Progress = lambda _: None) -> None:
        """Put a file where it is wanted, from the byte on that is there already. Raises DownloadError."""
        failures, wait = 0, FIRST_WAIT
        while True:
            before = to.stat().st_size if to.exists() else 0
            try:
                self._attempt(name, to, before, progress)
                return
            except _Again as error:
                gained = to.exists() and to.stat().st_size > before
                failures, wait = (0, FIRST_WAIT) if gained else (failures + 1, wait)
                if failures >= ATTEMPTS:
                    fact = f"{self.uri}/{name}: {error} ({failures} attempts without a byte)"
                    raise DownloadError(fact, "look at the network, then start again: what came is kept") from None
                time.sleep(max(error.wait, wait * random.uniform(0.5, 1)))
                wait = min(2 * wait, LONGEST_WAIT)

    def _attempt(self, name: str, to: Path, start: int, progress: Progress) -> None:
        request = urllib.request.Request(self._url(name))  # noqa: S310  its scheme was looked at
        if start:
            request.add_header("Range", f"bytes={start}-")
        self._authorize(request)
        try:
            with self._open(request) as answer:
                whole = answer.status != 206  # a server that knows no ranges begins anew
                with to.open("wb" if whole else "ab") as file:
                    wanted = answer.headers.get("Content-Length")
                    _copy(answer, file.write, None if wanted is None else int(wanted), progress)
        except urllib.error.HTTPError as error:
            self._judge(error, name, to)
        except (OSError, http.client.HTTPException) as error:
            raise _Again(_why(error)) from None

    def _open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        direct = bool(self._emulator) or urllib.parse.urlsplit(request.full_url).hostname in ("127.0.0.1", "localhost")
        opener = DIRECT.open if direct else urllib.request.urlopen
        answer: http.client.HTTPResponse = opener(request, timeout=STALLED_SECONDS)
        return answer

    def _judge(self, error: urllib.error.HTTPError, name: str, to: Path) -> None:
        """Say what a status means for the file: another attempt, or the end."""
        with error:
            status, after = error.code, error.headers.get("Retry-After", "")
        where = f"{self.uri}/{name}"
        if status in AGAIN:
            raise _Again(f"status {status}", min(float(after), LONGEST_WAIT) if after.isdigit() else 0.0)
        if status == 416:  # what is here is longer than what is there
            to.unlink(missing_ok=True)
            raise _Again("another size than before")
        if status == 401 and self._token is not None and not self._token.fixed:
            self._token = None
            raise _Again("the token was refused")
        if status == 404:
            raise Missing(f"{where}: there is none", "name the folder that holds manifest.json", 1)
        if status in (401, 403):
            role = (
                "give the service account roles/storage.objectViewer on the bucket, or set CLOUDSDK_AUTH_ACCESS_TOKEN"
            )
            raise DownloadError(f"{where}: status {status}: it may not be read", role if self._google else "log in", 1)
        raise DownloadError(f"{where}: status {status}", "look at the address", 1)

    def _url(self, name: str) -> str:
        if not self._google:
            parts = urllib.parse.urlsplit(self.uri)
            return parts._replace(path=f"{parts.path}/{urllib.parse.quote(name)}").geturl()
        base = self._emulator or STORAGE
        base = base if "://" in base else f"http://{base}"
        name = f"{self._path}/{name}" if self._path else name
        return f"{base.rstrip('/')}/storage/v1/b/{self._bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media"

    def _authorize(self, request: urllib.request.Request) -> None:
        if not self._google or self._emulator:
            return
        if self._token is None or self._token.until < time.monotonic():
            self._token = google_token()
        if self._token is not None:  # kept from a server that is redirected to
            request.add_unredirected_header("Authorization", f"Bearer {self._token.text}")


class _Again(Exception):
    """An attempt failed in a way that the next may not."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


@dataclass(frozen=True)
class Token:
    """What says who asks, until when; a fixed one was given by a person, and there is no other."""

    text: str
    until: float
    fixed: bool = False


def google_token() -> Token | None:
    """Give a token for Google's APIs; None where nobody gives one, which is enough for what everybody may read."""
    given = os.environ.get("CLOUDSDK_AUTH_ACCESS_TOKEN")
    if given:
        return Token(given, float("inf"), fixed=True)
    host = os.environ.get("GCE_METADATA_HOST") or "metadata.google.internal"
    request = urllib.request.Request(f"http://{host}{TOKEN_PATH}", headers={"Metadata-Flavor": "Google"})
    try:
        with DIRECT.open(request, timeout=METADATA_SECONDS) as answer:
            told = json.loads(answer.read())
        return Token(str(told["access_token"]), time.monotonic() + float(told.get("expires_in", 300)) - 60)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None


def _copy(
    answer: http.client.HTTPResponse, write: Callable[[bytes], int], size: int | None, progress: Progress
) -> None:
    got = 0
    while piece := answer.read1(PIECE):
        write(piece)
        got += len(piece)
        progress(len(piece))
    if size is not None and got < size:
        raise _Again(f"the connection ended after {got} of {size} bytes")


def _why(error: Exception) -> str:
    """Say in words why nothing came."""
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, TimeoutError):
        return f"nothing came for {STALLED_SECONDS:g} s"
    return str(getattr(inner, "strerror", None) or inner or type(inner).__name__)
