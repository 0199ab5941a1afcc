"""Who may call: holders of a key, accounts with a Google ID token, or on a loopback address anybody.

What says whether the server is alive and ready is open to all; everything else, /metrics and /docs too, tells about
the model or its traffic and asks for the same credentials. Keys are named, never given on a command line, since
others on the machine can read that; they are kept as digests and compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Iterable, Mapping
from pathlib import Path
from typing import Any

from trilho_runtime.web.answer import HttpError
from trilho_runtime.web.http import health_paths

SHORTEST_KEY = 16
CERTIFICATES_NAME = "TRILHO_CERTIFICATES"  # of another issuer's keys than Google's own address, a proxy's say
ALIVE = ("/v2/health/live", "/v2/health/ready")
KEY_SCHEME, TOKEN_SCHEME = "apikey ", "bearer "
LOOPBACK = ("localhost", "::1")


class AccessError(ValueError):
    """Callers cannot be told apart as asked: a fact, and a hint."""

    def __init__(self, fact: str, hint: str) -> None:
        super().__init__(fact)
        self.hint = hint


class Keys:
    """The keys that a caller may show."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def __len__(self) -> int:
        """Give the number of keys."""
        return len(self._digests)

    def has(self, key: str) -> bool:
        """Say whether a key is one of them; every comparison takes the same time.

        >>> Keys(["a-key-of-20-letters."]).has("a-key-of-20-letters."), Keys([]).has("")
        (True, False)
        """
        digest = _digest(key)
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(known, digest)
        return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def read_keys(references: Iterable[str], environment: Mapping[str, str]) -> Keys:
    """Read keys by name: env:NAME, or file:PATH with one a line.

    Raises AccessError for one that is not there, or too short to be a secret; no message holds a key.

    >>> len(read_keys(["env:KEY"], {"KEY": "an-old-key-of-19-ch a-new-key-of-19-ch"}))
    2
    """
    keys: list[str] = []
    for reference in references:
        found = _look_up(reference, environment).split()
        if not found:
            raise AccessError(f"{reference} holds no API key", "put a key there, 16 characters at least")
        for key in found:
            if len(key) < SHORTEST_KEY:
                fact = f"{reference} holds a key of {len(key)} characters; allowed: {SHORTEST_KEY} or more"
                raise AccessError(fact, "make one with: openssl rand -hex 24")
        keys += found
    return Keys(keys)


def _look_up(reference: str, environment: Mapping[str, str]) -> str:
    kind, _, name = reference.partition(":")
    if kind == "env" and name:
        return environment.get(name, "")
    if kind == "file" and name:
        try:
            return Path(name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not text"
            raise AccessError(f"{name}: {why}; wanted a file of API keys", "--api-key file:PATH") from None
    raise AccessError("an API key is not named as env:NAME or file:PATH", "--api-key env:NAME, or file:PATH")


def open_to_all() -> frozenset[str]:
    """Give the paths that anybody may ask: those that say whether the server is alive and ready."""
    return health_paths() | frozenset(ALIVE)


class Access:
    """Lets callers in who show a key or a token; `tokens` is a `tokens.Tokens` where those are taken."""

    def __init__(self, keys: Keys | None = None, tokens: Any = None, open_paths: Iterable[str] | None = None) -> None:
        self._keys = keys or Keys([])
        self._tokens = tokens
        self._open = open_to_all() if open_paths is None else frozenset(open_paths)

    def check(self, scope: Any) -> Awaitable[None] | None:
        """Let a caller in at once (None), or after a wait. Raises HttpError 401 or 403 for one who may not."""
        if scope.path in self._open:
            return None
        key = scope.headers.get("x-api-key")
        told = "" if key is not None else scope.headers.get("authorization", "")
        scheme = told[:7].lower()
        if key is None and scheme == KEY_SCHEME:
            key = told[7:].strip()
        if key is not None:
            if self._keys.has(key):
                return None
            raise self.refusal("the API key is not one of this server's")
        if scheme == TOKEN_SCHEME and self._tokens is not None:
            waiting: Awaitable[None] | None = self._tokens.check(told[7:].strip())
            return waiting
        raise self.refusal("no credentials that this server takes")

    def refusal(self, why: str) -> HttpError:
        """Give the refusal of a caller, with what would be taken."""
        schemes = [*(["ApiKey"] if len(self._keys) else []), *(["Bearer"] if self._tokens is not None else [])]
        ways = [*(["x-api-key: KEY"] if len(self._keys) else [])]
        ways += ["authorization: Bearer GOOGLE_ID_TOKEN"] if self._tokens is not None else []
        return HttpError(401, f"{why}; send {' or '.join(ways)}", headers=[("www-authenticate", ", ".join(schemes))])


def open_access(
    references: Iterable[str],
    environment: Mapping[str, str],
    *,
    audience: str | None = None,
    callers: Iterable[str] = (),
    certificates: str | None = None,
) -> Access | None:
    """Give the access that a server was started with, or None where it asks nobody who they are.

    The certificates' address is Google's, unless the environment's TRILHO_CERTIFICATES says another. Raises AccessError
    for a key that is not there, and where tokens cannot be verified here.
    """
    references = list(references)
    tokens = None
    if audience:
        from trilho_runtime.web.tokens import CERTIFICATES, Certificates, Tokens

        address = certificates or environment.get(CERTIFICATES_NAME) or CERTIFICATES
        tokens = Tokens(audience, Certificates(address), callers)
    elif list(callers):
        raise AccessError("callers are named, but no audience", "--audience with what their tokens are made for")
    if not references and tokens is None:
        return None
    return Access(read_keys(references, environment), tokens)


def check_exposure(host: str, access: Access | None, *, opened: bool, on_vertex: bool) -> str | None:
    """Give what to say of a server that asks nobody who they are; None where there is nothing to say.

    Raises AccessError where it could be reached from other machines and nobody said that it should be.
    """
    if access is not None or is_loopback(host):
        return None
    if on_vertex:
        return f"{host}: no caller is asked who it is here; Vertex AI does so before a request gets to this container"
    if opened:
        return f"{host}: anybody who can reach this address may call; it was started with --open"
    fact = f"{host} can be reached from other machines, and no caller would be asked who it is"
    raise AccessError(fact, "--api-key env:NAME or --audience URL, or --open where something in front of it asks")


def is_loopback(host: str) -> bool:
    """Say whether an address is this machine's own.

    >>> [is_loopback(host) for host in ("127.0.0.1", "127.8.1.2", "::1", "localhost", "0.0.0.0", "127.example.com")]
    [True, True, True, True, False, False]
    """
    parts = host.split(".")
    own = len(parts) == 4 and parts[0] == "127" and all(part.isdigit() for part in parts)
    return own or host in LOOPBACK
