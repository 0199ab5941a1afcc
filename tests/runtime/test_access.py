"""Who may call: keys, Google ID tokens against certificates on this machine, and where nobody is asked."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from tests.runtime.protocol_server import ANSWER, ROW
from tests.runtime.serving import Launcher, call

from trilho_runtime.web import tokens as module
from trilho_runtime.web.access import Access, AccessError, Keys, check_exposure, is_loopback, open_access, read_keys
from trilho_runtime.web.http import HttpError
from trilho_runtime.web.tokens import LONGEST_TOKEN, REMEMBERED, Certificates, Tokens

SERVER = "tests.runtime.protocol_server"
KEY = "0123456789abcdef-key"
NOW = 1_800_000_000.0
AUDIENCE = "https://tiny.example"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class Issuer:
    """Signs tokens, and publishes the certificates by HTTP."""

    address: str = ""
    keys: dict[str, RSAPrivateKey] = field(default_factory=dict)
    fetched: int = 0
    status: int = 200
    max_age: str = "public, max-age=3600"

    def published(self) -> bytes:
        told = []
        for name, key in self.keys.items():
            numbers = key.public_key().public_numbers()
            e, n = (encoded(v.to_bytes((v.bit_length() + 7) // 8, "big")) for v in (numbers.e, numbers.n))
            told.append({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": name, "e": e, "n": n})
        return json.dumps({"keys": told}).encode()

    def token(self, key: str = "one", head: dict[str, Any] | None = None, **claims: Any) -> str:
        told = {
            "iss": "https://accounts.google.com",
            "aud": AUDIENCE,
            "exp": NOW + 3600,
            "iat": NOW - 5,
            "email": "caller@example.com",
            "email_verified": True,
            **claims,
        }
        parts = [{"alg": "RS256", "typ": "JWT", "kid": key, **(head or {})}, told]
        signed = ".".join(encoded(json.dumps(part).encode()) for part in parts)
        signature = self.keys[key].sign(signed.encode(), PKCS1v15(), SHA256())
        return f"{signed}.{encoded(signature)}"


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@pytest.fixture
def issuer(key: RSAPrivateKey) -> Iterator[Issuer]:
    issuer = Issuer(keys={"one": key})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.fetched += 1
            body = issuer.published()
            self.send_response(issuer.status)
            self.send_header("cache-control", issuer.max_age)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    issuer.address = f"http://127.0.0.1:{server.server_address[1]}/certs"
    yield issuer
    server.shutdown()
    server.server_close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that certificates are kept by."""
    now = [1000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0], time=lambda: NOW))
    return now


def make_tokens(issuer: Issuer, *callers: str, now: float = NOW) -> Tokens:
    return Tokens(AUDIENCE, Certificates(issuer.address), callers, lambda: now)


def status_of(tokens: Tokens, token: str) -> int:
    """Give the status that a token gets; 200 when it is let in."""

    async def ask() -> None:
        waiting = tokens.check(token)
        if waiting is not None:
            await waiting

    try:
        asyncio.run(ask())
    except HttpError as error:
        return error.answer.status
    return 200


def test_keys_are_read_by_name_and_their_messages_hold_none(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n{KEY}-2\n")
    keys = read_keys([f"file:{file}", "env:OTHER"], {"OTHER": "z" * 16})
    assert [keys.has(k) for k in (KEY, f"{KEY}-2", "z" * 16, KEY[:-1], "", "é" * 20)] == [True] * 3 + [False] * 3
    for reference, environment, says in (
        ("env:NONE", {}, "env:NONE holds no API key"),
        ("env:SHORT", {"SHORT": "secret-secret"}, "holds a key of 13 characters; allowed: 16 or more"),
        (f"file:{tmp_path / 'none'}", {}, "No such file"),
        (KEY, {}, "not named as env:NAME or file:PATH"),
    ):
        with pytest.raises(AccessError, match=says) as raised:
            read_keys([reference], environment)
        assert "secret" not in str(raised.value)
        assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": KEY}, 200),
        ({"authorization": f"ApiKey {KEY}"}, 200),
        ({"authorization": f"apikey  {KEY} "}, 200),
        ({}, 401),
        ({"x-api-key": ""}, 401),
        ({"x-api-key": KEY[:-1]}, 401),
        ({"x-api-key": "wrong", "authorization": f"ApiKey {KEY}"}, 401),
        ({"authorization": f"Bearer {KEY}"}, 401),
        ({"authorization": KEY}, 401),
        ({"authorization": "Basic eDp5"}, 401),
    ],
)
def test_a_key_is_shown_in_either_header(headers: dict[str, str], status: int) -> None:
    access = Access(Keys([KEY]))
    scope = SimpleNamespace(path="/predict", headers=headers)
    if status == 200:
        assert access.check(scope) is None
        return
    with pytest.raises(HttpError) as raised:
        access.check(scope)
    assert raised.value.answer.status == status
    assert ("www-authenticate", "ApiKey") in raised.value.answer.headers


@pytest.mark.parametrize("path", ["/health", "/v1/health", "/v2/health/live", "/v2/health/ready"])
def test_health_is_open_to_all(path: str) -> None:
    assert Access(Keys([KEY])).check(SimpleNamespace(path=path, headers={})) is None


def test_a_token_is_verified_once_and_certificates_are_fetched_once(issuer: Issuer, clock: list[float]) -> None:
    tokens = make_tokens(issuer)
    assert [status_of(tokens, issuer.token()) for _ in range(3)] == [200] * 3
    assert status_of(tokens, issuer.token(email="other@example.com")) == 200
    assert issuer.fetched == 1
    assert tokens.check(issuer.token()) is None


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"iss": "accounts.google.com"}, 200),
        ({"exp": NOW - 5}, 200),
        ({"exp": NOW - 11}, 401),
        ({"exp": str(NOW + 60)}, 401),
        ({"exp": None}, 401),
        ({"iat": NOW + 60}, 401),
        ({"aud": "https://other.example"}, 401),
        ({"aud": [AUDIENCE]}, 401),
        ({"iss": "https://accounts.google.com.evil.example"}, 401),
    ],
)
def test_each_claim_is_checked(issuer: Issuer, clock: list[float], claims: dict[str, Any], status: int) -> None:
    assert status_of(make_tokens(issuer), issuer.token(**claims)) == status


def test_callers_are_accounts_whose_email_is_verified(issuer: Issuer, clock: list[float]) -> None:
    tokens = make_tokens(issuer, "caller@example.com")
    assert status_of(tokens, issuer.token()) == 200
    assert status_of(tokens, issuer.token(email="other@example.com")) == 403
    assert status_of(tokens, issuer.token(email_verified=False)) == 403
    assert status_of(tokens, issuer.token(email=None)) == 403


def test_a_signature_of_another_or_none_is_401(issuer: Issuer, clock: list[float]) -> None:
    right = issuer.token()
    head, claims, signature = right.split(".")
    none = encoded(json.dumps({"alg": "none", "kid": "one"}).encode())
    symmetric = issuer.token(head={"alg": "HS256"})
    other = encoded(json.dumps({**json.loads(base64.urlsafe_b64decode(claims + "==")), "email": "x"}).encode())
    wrong = [
        f"{head}.{other}.{signature}",
        f"{head}.{claims}.{encoded(bytes(256))}",
        f"{head}.{claims}.",
        f"{none}.{claims}.",
        symmetric,
        f"{head}.{claims}",
        f"{head}.{claims}.{signature}=",
        f"{encoded(b'[]')}.{claims}.{signature}",
        f"{head}.{encoded(b'[]')}.{signature}",
        "",
        "...",
        "é.é.é",
        right + "A" * LONGEST_TOKEN,
    ]
    tokens = make_tokens(issuer)
    assert [status_of(tokens, token) for token in wrong] == [401] * len(wrong)
    assert status_of(tokens, right) == 200


def test_a_token_that_was_right_is_wrong_when_it_has_ended(issuer: Issuer, clock: list[float]) -> None:
    now = [NOW]
    tokens = Tokens(AUDIENCE, Certificates(issuer.address), (), lambda: now[0])
    token = issuer.token()
    assert status_of(tokens, token) == 200
    now[0] += 3700
    assert status_of(tokens, token) == 401


def test_tokens_that_are_remembered_are_bounded(
    issuer: Issuer, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    assert REMEMBERED > 100
    tokens = make_tokens(issuer)
    for number in range(5):
        assert status_of(tokens, issuer.token(sub=str(number))) == 200
    assert len(tokens._known) == 3


def test_a_new_key_is_fetched_but_not_for_every_unknown_one(issuer: Issuer, clock: list[float]) -> None:
    tokens = make_tokens(issuer)
    assert status_of(tokens, issuer.token()) == 200
    issuer.keys["two"] = issuer.keys["one"]
    unknown = issuer.token("two")
    assert status_of(tokens, unknown) == 401
    clock[0] += 31
    assert status_of(tokens, unknown) == 200
    assert issuer.fetched == 2
    assert [status_of(tokens, issuer.token(head={"kid": f"k{n}"})) for n in range(5)] == [401] * 5
    assert issuer.fetched == 2


def test_certificates_are_kept_as_long_as_told_and_longer_when_the_issuer_is_away(
    issuer: Issuer, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    issuer.max_age = "max-age=100"
    tokens = make_tokens(issuer)
    assert status_of(tokens, issuer.token(sub="a")) == 200
    clock[0] += 99
    assert status_of(tokens, issuer.token(sub="b")) == 200
    assert issuer.fetched == 1
    clock[0] += 2
    issuer.status = 500
    assert status_of(tokens, issuer.token(sub="c")) == 200
    assert issuer.fetched == 2
    assert "could not be renewed" in capsys.readouterr().err


def test_without_certificates_a_token_is_503_and_the_log_says_why(
    issuer: Issuer, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    issuer.status = 404
    tokens = make_tokens(issuer)
    assert [status_of(tokens, issuer.token()) for _ in range(2)] == [503, 503]
    assert issuer.fetched == 1
    assert "cannot be fetched" in capsys.readouterr().err
    issuer.status = 200
    clock[0] += 31
    assert status_of(tokens, issuer.token()) == 200


def test_tokens_need_cryptography_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(AccessError, match="cryptography is not installed") as raised:
        open_access([], {}, audience=AUDIENCE)
    assert raised.value.hint == "pip install cryptography"


def test_what_is_asked_for_is_what_is_opened() -> None:
    assert open_access([], {}) is None
    assert open_access(["env:K"], {"K": KEY}) is not None
    assert open_access([], {}, audience=AUDIENCE, callers=["a@example.com"]) is not None
    with pytest.raises(AccessError, match="no audience"):
        open_access([], {}, callers=["a@example.com"])
    for given, environment in (("file:///etc/passwd", {}), (None, {"TRILHO_CERTIFICATES": "file:///etc/passwd"})):
        with pytest.raises(AccessError, match="no address of certificates"):
            open_access([], environment, audience=AUDIENCE, certificates=given)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "example.com"])
def test_nobody_is_asked_on_loopback_only(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(AccessError, match="can be reached from other machines") as raised:
        check_exposure(host, None, opened=False, on_vertex=False)
    assert "--open" in raised.value.hint
    assert check_exposure(host, Access(Keys([KEY])), opened=False, on_vertex=False) is None
    assert "--open" in str(check_exposure(host, None, opened=True, on_vertex=False))
    assert "Vertex AI" in str(check_exposure(host, None, opened=False, on_vertex=True))
    assert check_exposure("127.0.0.1", None, opened=False, on_vertex=False) is None


def test_a_server_that_all_can_reach_does_not_start_without_credentials(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path, Path(sys.executable))
    running = launcher.run(Path(sys.executable), SERVER, "--host", "0.0.0.0")
    assert running.process.wait(15) == 2
    fact, hint = running.errors.read_text().splitlines()
    assert fact.startswith("0.0.0.0 can be reached from other machines")
    assert hint.startswith("Hint: --api-key")
    launcher.end()


def test_a_server_asks_for_a_key_everywhere_but_at_health(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path, Path(sys.executable))
    env = {**os.environ, "TINY_KEY": KEY}
    running = launcher.run(Path(sys.executable), SERVER, "--key-env", "TINY_KEY", "--log-requests", "all", env=env)
    address = running.wait_until_ready()
    right = {"x-api-key": KEY}
    for path in ("/metrics", "/docs", "/openapi.json", "/v2", "/v2/models/tiny", "/nothing"):
        refused = call(address, path)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "ApiKey"), path
        assert call(address, path, headers=right).status == (404 if path == "/nothing" else 200)
    assert call(address, "/predict", {"instances": [ROW]}).status == 401
    assert call(address, "/predict", {"instances": [ROW]}, {"x-api-key": KEY + "x"}).status == 401
    assert call(address, "/predict", {"instances": [ROW]}, right).json["predictions"] == [ANSWER]
    schemes = call(address, "/openapi.json", headers=right).json["components"]["securitySchemes"]
    assert schemes == {"key": {"type": "apiKey", "in": "header", "name": "x-api-key"}}
    assert KEY not in running.errors.read_text()
    launcher.end()


def test_a_server_takes_an_id_token(tmp_path: Path, issuer: Issuer) -> None:
    import time

    launcher = Launcher(tmp_path, Path(sys.executable))
    given = ("--audience", AUDIENCE, "--certificates", issuer.address, "--caller", "caller@example.com")
    address = launcher.run(Path(sys.executable), SERVER, *given).wait_until_ready()
    times: dict[str, Any] = {"iat": time.time(), "exp": time.time() + 60}
    token = {"authorization": f"Bearer {issuer.token(**times)}"}
    assert call(address, "/predict", {"instances": [ROW]}, token).json["predictions"] == [ANSWER]
    assert call(address, "/predict", {"instances": [ROW]}).headers["www-authenticate"] == "Bearer"
    other = {"authorization": f"Bearer {issuer.token(email='other@example.com', **times)}"}
    assert call(address, "/predict", {"instances": [ROW]}, other).status == 403
    launcher.end()


def test_the_prediction_server_keeps_to_the_same_rules(launch: Launcher, package: Path) -> None:
    refused = launch.server(package, "--host", "0.0.0.0")
    assert refused.process.wait(15) == 2
    assert refused.errors.read_text().startswith("0.0.0.0 can be reached from other machines")
    opened = launch.server(package, "--host", "0.0.0.0", "--open").wait_until_bound()
    guarded = launch.server(package, "--api-key", "env:TINY_KEY", env={**os.environ, "TINY_KEY": KEY})
    address = guarded.wait_until_ready()
    assert [call(address, path).status for path in ("/", "/metrics", "/docs", "/profile")] == [401] * 4
    assert call(address, "/", headers={"x-api-key": KEY}).json["model"] == "tiny"
    assert call(opened, "/docs").status in (200, 503)
    short = launch.server(package, "--api-key", "env:TINY_KEY", env={**os.environ, "TINY_KEY": "short"})
    assert short.process.wait(15) == 2
    assert "holds a key of 5 characters" in short.errors.read_text()
