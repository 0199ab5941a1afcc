"""Secret Manager, spoken to by its real client over TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.cloud.secretmanager_v1")

from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import secretmanager_v1

from trilho.testing.emulator.resources import Resources
from trilho.testing.emulator.rpc import RpcServer, transport_of
from trilho.testing.emulator.rules import Rules
from trilho.testing.emulator.secrets import PERMISSIONS, Secrets

PARENT = "projects/p"


@pytest.fixture
def rules() -> Rules:
    return Rules()


@pytest.fixture
def client(tmp_path: Path, rules: Rules) -> Iterator[Any]:
    import grpc

    secrets = Secrets(tmp_path / "secrets.sqlite")
    server = RpcServer(Resources(), rules)
    transport = transport_of("secret_manager_service", "google.cloud.secretmanager_v1")
    server.add(transport, secrets.handlers(), permissions=PERMISSIONS)
    server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
    made = transport(channel=channel, credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
    yield secretmanager_v1.SecretManagerServiceClient(transport=made)
    channel.close()
    server.stop()
    secrets.close()


@pytest.fixture
def secret(client: Any) -> str:
    made = client.create_secret(parent=PARENT, secret_id="slack", secret={"replication": {"automatic": {}}})
    return str(made.name)


def add(client: Any, secret: str, text: str) -> str:
    return str(client.add_secret_version(parent=secret, payload={"data": text.encode()}).name)


def read(client: Any, name: str) -> str:
    return str(client.access_secret_version(name=name).payload.data.decode())


def test_the_latest_version_is_read(client: Any, secret: str) -> None:
    assert secret == "projects/p/secrets/slack"
    assert add(client, secret, "one") == f"{secret}/versions/1"
    assert add(client, secret, "two") == f"{secret}/versions/2"
    answer = client.access_secret_version(name=f"{secret}/versions/latest")
    assert (answer.name, answer.payload.data) == (f"{secret}/versions/2", b"two")
    assert answer.payload.data_crc32c > 0
    assert read(client, f"{secret}/versions/1") == "one"


def test_a_version_that_is_disabled_or_destroyed_is_not_read(client: Any, secret: str) -> None:
    name = add(client, secret, "one")
    assert client.disable_secret_version(name=name).state.name == "DISABLED"
    with pytest.raises(exceptions.FailedPrecondition, match="is in DISABLED state"):
        read(client, f"{secret}/versions/latest")
    client.enable_secret_version(name=name)
    assert read(client, name) == "one"
    gone = client.destroy_secret_version(name=name)
    assert (gone.state.name, gone.destroy_time.timestamp() > 0) == ("DESTROYED", True)
    for call in (client.access_secret_version, client.enable_secret_version):
        with pytest.raises(exceptions.FailedPrecondition, match="is in DESTROYED state"):
            call(name=name)


def test_what_is_not_there_is_not_found(client: Any, secret: str) -> None:
    for name in (f"{PARENT}/secrets/none/versions/latest", f"{secret}/versions/latest", f"{secret}/versions/7"):
        with pytest.raises(exceptions.NotFound, match="not found"):
            read(client, name)


def test_mistakes_are_refused(client: Any, secret: str) -> None:
    with pytest.raises(exceptions.AlreadyExists, match=r"Secret \[projects/p/secrets/slack\] already exists"):
        client.create_secret(parent=PARENT, secret_id="slack", secret={"replication": {"automatic": {}}})
    with pytest.raises(exceptions.InvalidArgument, match="replication"):
        client.create_secret(parent=PARENT, secret_id="other", secret={})
    with pytest.raises(exceptions.InvalidArgument, match="secret id"):
        client.create_secret(parent=PARENT, secret_id="a/b", secret={"replication": {"automatic": {}}})
    with pytest.raises(exceptions.InvalidArgument, match="65537 bytes"):
        add(client, secret, "x" * 65537)
    with pytest.raises(exceptions.InvalidArgument, match="data_crc32c"):
        client.add_secret_version(parent=secret, payload={"data": b"x", "data_crc32c": 1})


def test_labels_and_aliases_change(client: Any, secret: str) -> None:
    add(client, secret, "one")
    add(client, secret, "two")
    changed = {"name": secret, "labels": {"team": "ml"}, "version_aliases": {"stable": 1}}
    made = client.update_secret(secret=changed, update_mask={"paths": ["labels", "version_aliases"]})
    assert dict(made.labels) == {"team": "ml"}
    assert read(client, f"{secret}/versions/stable") == "one"
    with pytest.raises(exceptions.FailedPrecondition, match="version 9, which does not exist"):
        client.update_secret(
            secret={"name": secret, "version_aliases": {"next": 9}}, update_mask={"paths": ["version_aliases"]}
        )


def test_lists_have_pages_and_filters(client: Any) -> None:
    for number in range(5):
        secret = {"replication": {"automatic": {}}, "labels": {"even": str(number % 2 == 0).lower()}}
        client.create_secret(parent=PARENT, secret_id=f"s{number}", secret=secret)
    listed = client.list_secrets(request={"parent": PARENT, "page_size": 2})
    assert [secret.name[-2:] for secret in listed] == ["s4", "s3", "s2", "s1", "s0"]
    even = client.list_secrets(request={"parent": PARENT, "filter": "labels.even=true"})
    assert [secret.name[-2:] for secret in even] == ["s4", "s2", "s0"]
    assert list(client.list_secrets(parent="projects/other")) == []
    for text in ("a", "b"):
        add(client, f"{PARENT}/secrets/s1", text)
    assert [version.name[-1] for version in client.list_secret_versions(parent=f"{PARENT}/secrets/s1")] == ["2", "1"]


def test_a_deleted_secret_begins_anew(client: Any, secret: str) -> None:
    add(client, secret, "one")
    with pytest.raises(exceptions.FailedPrecondition, match="etag"):
        client.delete_secret(request={"name": secret, "etag": '"other"'})
    client.delete_secret(name=secret)
    with pytest.raises(exceptions.NotFound):
        client.get_secret(name=secret)
    client.create_secret(parent=PARENT, secret_id="slack", secret={"replication": {"automatic": {}}})
    assert add(client, secret, "two").endswith("/versions/1")


def test_a_denied_permission_is_named(client: Any, secret: str, rules: Rules) -> None:
    add(client, secret, "one")
    rules.deny.append("secretmanager.versions.access")
    with pytest.raises(exceptions.PermissionDenied, match=r"'secretmanager.versions.access' denied on resource"):
        read(client, f"{secret}/versions/1")
    assert client.get_secret(name=secret).name == secret


def test_secrets_outlive_the_emulator(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "secrets.sqlite"
    first = Secrets(path)
    types = secretmanager_v1.types
    created = types.CreateSecretRequest(
        parent=PARENT, secret_id="x", secret=types.Secret(replication={"automatic": {}})
    )  # fmt: skip
    first.handlers()["CreateSecret"](None, created)
    first.handlers()["AddSecretVersion"](
        None, types.AddSecretVersionRequest(parent=f"{PARENT}/secrets/x", payload={"data": b"kept"})
    )
    first.close()
    assert path.stat().st_mode & 0o077 == 0
    again = Secrets(path)
    asked = types.AccessSecretVersionRequest(name=f"{PARENT}/secrets/x/versions/latest")
    assert again.handlers()["AccessSecretVersion"](None, asked).payload.data == b"kept"
    again.close()
