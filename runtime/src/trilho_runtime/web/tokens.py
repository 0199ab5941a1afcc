"""Google ID tokens: RS256 signatures against Google's certificates, audience, issuer, expiry, account.

Certificates are fetched by a thread and kept for as long as their answer says; tokens that were found right are
remembered until they end, so that a caller's second request costs one look into a dictionary.
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
import re
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import orjson

from trilho_runtime.web.access import AccessError
from trilho_runtime.web.answer import HttpError
from trilho_runtime.web.notes import note

CERTIFICATES = "https://www.googleapis.com/oauth2/v3/certs"
ISSUERS = ("https://accounts.google.com", "accounts.google.com")
LONGEST_TOKEN = 8192
REMEMBERED = 1024
SKEW_SECONDS = 10
FETCH_SECONDS = 5.0
SHORTEST_AGE, LONGEST_AGE = 60.0, 86400.0
AGAIN_SECONDS = 30.0  # an unknown key id, or a failed fetch, is not tried again sooner
LARGEST_ANSWER = 1_000_000
MAX_AGE = re.compile(r"max-age=(\d{1,9})")


class Certificates:
    """The issuer's public keys by id, as last fetched. Fetching blocks: for a thread."""

    def __init__(self, url: str = CERTIFICATES) -> None:
        if not url.startswith(("https://", "http://")):
            raise AccessError(f"{url[:100]} is no address of certificates", "--certificates https://...")
        try:
            import cryptography  # noqa: F401
        except ImportError:
            raise AccessError(
                "ID tokens cannot be verified here: cryptography is not installed", "pip install cryptography"
            ) from None
        self._url = url
        self._keys: dict[str, Any] = {}
        self._until = 0.0
        self._tried = -AGAIN_SECONDS
        self._lock = threading.Lock()

    def at_hand(self, name: str) -> Any:
        """Give a key that is known and fresh, or None."""
        return self._keys.get(name) if time.monotonic() < self._until else None

    def find(self, name: str) -> Any:
        """Give a key, fetching when it is not at hand; None when there is none by that id. Raises OSError."""
        with self._lock:
            key = self.at_hand(name)
            if key is None and time.monotonic() - self._tried >= AGAIN_SECONDS:
                self._tried = time.monotonic()
                self._fetch()
            if not self._keys:
                raise OSError("no certificates were fetched yet")
            return self._keys.get(name)

    def _fetch(self) -> None:
        """Renew the keys; old ones stay good while new ones cannot be had."""
        try:
            self._keys, age = fetch_keys(self._url)
            self._until = time.monotonic() + age
        except OSError as error:
            if not self._keys:
                raise
            note(f"the certificates could not be renewed, the old ones stay in use: {error}", "WARNING")


def fetch_keys(url: str) -> tuple[dict[str, Any], float]:
    """Fetch keys by id, and for how many seconds they hold. Raises OSError when that fails."""
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(url), timeout=FETCH_SECONDS) as answer:  # noqa: S310  http and https only
            data = orjson.loads(answer.read(LARGEST_ANSWER))
            found = MAX_AGE.search(answer.headers.get("cache-control", ""))
        age = float(found[1]) if found else SHORTEST_AGE
        return read_keys_of(data), min(max(age, SHORTEST_AGE), LONGEST_AGE)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OSError(f"{url}: not the certificates of an issuer: {error}") from None


def read_keys_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Read a JSON Web Key Set; keys of other kinds than RSA are passed over."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    keys = {}
    for key in data["keys"]:
        if key.get("kty") == "RSA" and key.get("use", "sig") == "sig" and key.get("alg", "RS256") == "RS256":
            exponent, modulus = (int.from_bytes(_decode(key[part]), "big") for part in ("e", "n"))
            keys[str(key["kid"])] = RSAPublicNumbers(exponent, modulus).public_key()
    return keys


def _decode(text: str) -> bytes:
    if not text.isascii() or set(text) & set("+/="):
        raise ValueError("not base64url")
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Tokens:
    """The tokens of accounts that may call."""

    def __init__(
        self,
        audience: str,
        certificates: Certificates,
        callers: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._audience = audience
        self._certificates = certificates
        self._callers = frozenset(callers)
        self._clock = clock
        self._known: dict[bytes, float] = {}

    def check(self, token: str) -> Awaitable[None] | None:
        """Let in the holder of a token. Raises HttpError 401 for a token that is wrong, 403 for another account."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        ends = self._known.get(digest)
        if ends is not None and ends > self._clock():
            return None
        head, claims, signed, signature = take_apart(token)
        key = self._certificates.at_hand(head["kid"])
        if key is None:
            return self._fetch_and_check(digest, head["kid"], claims, signed, signature)
        self._accept(digest, key, claims, signed, signature)
        return None

    async def _fetch_and_check(
        self, digest: bytes, name: str, claims: dict[str, Any], signed: bytes, signature: bytes
    ) -> None:
        try:
            key = await asyncio.get_running_loop().run_in_executor(None, self._certificates.find, name)
        except OSError as error:
            note(f"the certificates that ID tokens are verified against cannot be fetched: {error}")
            wait = [("retry-after", str(int(AGAIN_SECONDS)))]
            raise HttpError(503, "ID tokens cannot be verified now; try again later", headers=wait) from None
        if key is None:
            raise refused("the ID token is signed with a key that its issuer does not publish")
        self._accept(digest, key, claims, signed, signature)

    def _accept(self, digest: bytes, key: Any, claims: dict[str, Any], signed: bytes, signature: bytes) -> None:
        if not is_signed(key, signed, signature):
            raise refused("the ID token's signature is wrong")
        ends = self._check_claims(claims)
        self._known.pop(digest, None)
        while len(self._known) >= REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[digest] = ends

    def _check_claims(self, claims: Mapping[str, Any]) -> float:
        now = self._clock()
        ends: Any = claims.get("exp")
        made: Any = claims.get("iat", 0)
        if claims.get("iss") not in ISSUERS:
            raise refused("the ID token is not issued by Google")
        if claims.get("aud") != self._audience:
            raise refused(f"the ID token is for another audience; wanted {self._audience}")
        if type(ends) not in (int, float) or ends <= now - SKEW_SECONDS:
            raise refused("the ID token has expired")
        if type(made) not in (int, float) or made > now + SKEW_SECONDS:
            raise refused("the ID token is from the future")
        if self._callers and not (claims.get("email_verified") is True and claims.get("email") in self._callers):
            raise HttpError(403, "the account of this ID token is not among the callers")
        return float(ends)


def refused(why: str) -> HttpError:
    """Give the refusal of a token."""
    return HttpError(401, why, headers=[("www-authenticate", 'Bearer error="invalid_token"')])


def take_apart(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Give a token's head, its claims, what is signed and the signature. Raises HttpError 401 for what is no token."""
    try:
        if len(token) > LONGEST_TOKEN:
            raise ValueError("too long")
        first, second, third = token.split(".")
        head, claims = orjson.loads(_decode(first)), orjson.loads(_decode(second))
        if head["alg"] != "RS256" or not isinstance(head["kid"], str) or not isinstance(claims, dict):
            raise ValueError("not signed with RS256")
        return head, claims, f"{first}.{second}".encode("ascii"), _decode(third)
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise refused("the bearer token is not an ID token signed with RS256") from None


def is_signed(key: Any, signed: bytes, signature: bytes) -> bool:
    """Say whether a signature is right."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        key.verify(signature, signed, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True
