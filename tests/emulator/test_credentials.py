"""Certificates, service accounts and tokens."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")
pytest.importorskip("google.auth")

import google.auth.exceptions
import google.auth.transport.requests
from google.oauth2 import service_account

from trilho.testing.emulator.credentials import GRANT, Credentials, make_credentials
from trilho.testing.emulator.http import Router, Server
from trilho.testing.emulator.rules import Rules

SCOPE = "https://www.googleapis.com/auth/cloud-platform"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Credentials]:
    router = Router([], Rules())
    server = Server(router)
    credentials = make_credentials(tmp_path / "made", project="shop-1", token_uri=f"{server.address}/token")
    router.add(credentials.routes())
    server.start()
    yield credentials
    server.stop()


def account(path: Path) -> Any:
    return service_account.Credentials.from_service_account_file(str(path), scopes=[SCOPE])  # type: ignore[no-untyped-call]


def test_the_account_gets_tokens(made: Credentials) -> None:
    credentials = account(made.account)
    request = google.auth.transport.requests.Request()
    credentials.refresh(request)
    first = credentials.token
    credentials.refresh(request)
    assert (first[:5], first != credentials.token, credentials.valid) == ("ya29.", True, True)
    assert credentials.service_account_email == "emulator@shop-1.iam.gserviceaccount.com"


def test_an_account_asks_for_an_identity(made: Credentials) -> None:
    credentials: Any = service_account.IDTokenCredentials.from_service_account_file(  # type: ignore[no-untyped-call]
        str(made.account), target_audience="https://service"
    )
    credentials.refresh(google.auth.transport.requests.Request())
    assert credentials.valid


def test_another_key_gets_no_token(made: Credentials, tmp_path: Path) -> None:
    other = make_credentials(tmp_path / "other", project="shop-1", token_uri="http://127.0.0.1:9/token").account
    document = json.loads(made.account.read_text()) | {"private_key": json.loads(other.read_text())["private_key"]}
    other.write_text(json.dumps(document))
    with pytest.raises(google.auth.exceptions.RefreshError, match=r"invalid_grant: Invalid JWT Signature\."):
        account(other).refresh(google.auth.transport.requests.Request())


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": GRANT, "assertion": "x"}, "invalid_grant"),
    ],
)
def test_other_questions_are_refused(made: Credentials, form: dict[str, str], error: str) -> None:
    uri = json.loads(made.account.read_text())["token_uri"]
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(uri, urllib.parse.urlencode(form).encode())
    assert (caught.value.code, json.load(caught.value)["error"]) == (400, error)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "southamerica-east1-aiplatform.googleapis.com"])
def test_the_server_is_trusted_by_the_authority_alone(made: Credentials, tmp_path: Path, host: str) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    key.write_bytes(made.identity[0])
    certificate.write_bytes(made.identity[1])
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))
    answering = threading.Thread(target=_answer, args=(listener, serving), daemon=True)
    answering.start()
    with (
        socket.create_connection(listener.getsockname(), timeout=10) as plain,
        ssl.create_default_context(cafile=str(made.authority)).wrap_socket(plain, server_hostname=host) as safe,
    ):
        assert safe.recv(2) == b"ok"
    answering.join(10)
    listener.close()


def _answer(listener: socket.socket, context: ssl.SSLContext) -> None:
    plain, _ = listener.accept()
    with context.wrap_socket(plain, server_side=True) as safe:
        safe.sendall(b"ok")


def test_files_are_kept_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    first = make_credentials(tmp_path, project="shop-1", token_uri="http://127.0.0.1:1/token")
    again = make_credentials(tmp_path, project="shop-2", token_uri="http://127.0.0.1:2/token")
    assert first.identity == again.identity
    written = json.loads(again.account.read_text())
    assert (written["project_id"], written["token_uri"]) == ("shop-2", "http://127.0.0.1:2/token")
    assert [path.stat().st_mode & 0o077 for path in sorted(tmp_path.iterdir())] == [0, 0, 0]
