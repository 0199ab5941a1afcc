"""Secret Manager: secrets, numbered versions, aliases, and the states in which a version may be read.

Payloads lie unencrypted in a SQLite file that only its owner can read: secrets for tests, not for keeping.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.cloud.secretmanager_v1 import types
from google.protobuf import empty_pb2

from trilho.testing.emulator import listing
from trilho.testing.emulator.rules import Refusal

LARGEST_BYTES = 65536
TABLES = """
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, document BLOB NOT NULL, last INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS versions (
    secret TEXT NOT NULL, number INTEGER NOT NULL, document BLOB NOT NULL, payload BLOB, PRIMARY KEY (secret, number)
);
"""
STATE = types.SecretVersion.State
PERMISSIONS = {
    f"{verb}SecretVersion{'s' if verb == 'List' else ''}": f"versions.{verb.lower()}"
    for verb in ("Add", "Get", "List", "Access", "Enable", "Disable", "Destroy")
}

Handler = Callable[[Any, Any], Any]


class Secrets:
    """The secrets in one SQLite file; threads may share it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._db = sqlite3.connect(path, check_same_thread=False)
        self._db.executescript(TABLES)
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def handlers(self) -> Mapping[str, Handler]:
        """Give the methods of SecretManagerService, for an RpcServer."""
        return {
            "CreateSecret": self._create, "GetSecret": self._get, "ListSecrets": self._list,
            "UpdateSecret": self._update, "DeleteSecret": self._delete, "AddSecretVersion": self._add,
            "GetSecretVersion": self._get_version, "ListSecretVersions": self._list_versions,
            "AccessSecretVersion": self._access,
            "EnableSecretVersion": lambda _, request: self._turn(request, STATE.ENABLED),
            "DisableSecretVersion": lambda _, request: self._turn(request, STATE.DISABLED),
            "DestroySecretVersion": lambda _, request: self._turn(request, STATE.DESTROYED),
        }  # fmt: skip

    # Secrets

    def _create(self, _: Any, request: Any) -> Any:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", request.secret_id):
            raise Refusal("INVALID_ARGUMENT", f"The secret id {request.secret_id!r} must match [A-Za-z0-9_-]{{1,255}}.")
        secret: Any = types.Secret(request.secret)
        replicated = any(kind in secret.replication for kind in ("automatic", "user_managed"))
        if not replicated and "/locations/" not in request.parent:
            raise Refusal("INVALID_ARGUMENT", "Secret.replication must be provided.")
        secret.name = f"{request.parent}/secrets/{request.secret_id}"
        secret.create_time = datetime.now(UTC)
        with self._changing():
            if self._secret(secret.name, expired=True):
                raise Refusal("ALREADY_EXISTS", f"Secret [{secret.name}] already exists.")
            return self._keep(secret)

    def _get(self, _: Any, request: Any) -> Any:
        with self._lock:
            return self._need(request.name)

    def _list(self, _: Any, request: Any) -> Any:
        with self._lock:
            found = [secret for secret in self._all() if secret.name.rpartition("/secrets/")[0] == request.parent]
        shown, token, total = _paged(found, request, types.Secret)
        return types.ListSecretsResponse(secrets=shown, next_page_token=token, total_size=total)

    def _update(self, _: Any, request: Any) -> Any:
        with self._changing():
            secret = self._need(request.secret.name)
            _require_etag(request.secret.etag, secret)
            paths = list(request.update_mask.paths)
            if not paths:
                raise Refusal("INVALID_ARGUMENT", "The field mask must name at least one field.")
            listing.merge(secret, request.secret, paths)
            self._require_aliases(secret)
            return self._keep(secret)

    def _delete(self, _: Any, request: Any) -> Any:
        with self._changing():
            _require_etag(request.etag, self._need(request.name))
            self._db.execute("DELETE FROM versions WHERE secret = ?", (request.name,))
            self._db.execute("DELETE FROM secrets WHERE name = ?", (request.name,))
        return empty_pb2.Empty()

    def _require_aliases(self, secret: Any) -> None:
        for alias, number in dict(secret.version_aliases).items():
            if self._row(secret.name, number) is None:
                raise Refusal(
                    "FAILED_PRECONDITION", f"The alias {alias!r} names version {number}, which does not exist."
                )

    # Versions

    def _add(self, _: Any, request: Any) -> Any:
        payload = request.payload
        if len(payload.data) > LARGEST_BYTES:
            raise Refusal(
                "INVALID_ARGUMENT", f"The payload has {len(payload.data)} bytes; {LARGEST_BYTES} are allowed."
            )
        checked = "data_crc32c" in payload
        if checked and payload.data_crc32c != _crc32c(payload.data):
            raise Refusal("INVALID_ARGUMENT", "The payload's data_crc32c is not that of its data.")
        with self._changing():
            secret = self._need(request.parent)
            number = self._db.execute("SELECT last + 1 FROM secrets WHERE name = ?", (secret.name,)).fetchone()[0]
            self._db.execute("UPDATE secrets SET last = ? WHERE name = ?", (number, secret.name))
            version = types.SecretVersion(
                name=f"{secret.name}/versions/{number}", create_time=datetime.now(UTC), state=STATE.ENABLED,
                client_specified_payload_checksum=checked,
            )  # fmt: skip
            return self._keep_version(version, bytes(payload.data))

    def _get_version(self, _: Any, request: Any) -> Any:
        with self._lock:
            return self._version(request.name)[0]

    def _list_versions(self, _: Any, request: Any) -> Any:
        with self._lock:
            self._need(request.parent)
            rows = self._db.execute(
                "SELECT document FROM versions WHERE secret = ? ORDER BY number DESC", (request.parent,)
            )
            found = [types.SecretVersion.deserialize(row[0]) for row in rows]
        shown, token, total = _paged(found, request, types.SecretVersion)
        return types.ListSecretVersionsResponse(versions=shown, next_page_token=token, total_size=total)

    def _access(self, _: Any, request: Any) -> Any:
        with self._lock:
            version, payload = self._version(request.name)
        if version.state != STATE.ENABLED:
            raise Refusal("FAILED_PRECONDITION", f"Secret Version [{version.name}] is in {version.state.name} state.")
        content = types.SecretPayload(data=payload, data_crc32c=_crc32c(payload))
        return types.AccessSecretVersionResponse(name=version.name, payload=content)

    def _turn(self, request: Any, state: Any) -> Any:
        with self._changing():
            version, payload = self._version(request.name)
            _require_etag(request.etag, version)
            if version.state == STATE.DESTROYED:
                raise Refusal("FAILED_PRECONDITION", f"Secret Version [{version.name}] is in DESTROYED state.")
            version.state = state
            if state == STATE.DESTROYED:
                version.destroy_time = datetime.now(UTC)
            return self._keep_version(version, None if state == STATE.DESTROYED else payload)

    # Records

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock, self._db:
            yield

    def _secret(self, name: str, *, expired: bool = False) -> Any:
        row = self._db.execute("SELECT document FROM secrets WHERE name = ?", (name,)).fetchone()
        secret = types.Secret.deserialize(row[0]) if row else None
        if secret and not expired and "expire_time" in secret and secret.expire_time < datetime.now(UTC):
            return None
        return secret

    def _need(self, name: str) -> Any:
        secret = self._secret(name)
        if secret is None:
            raise Refusal("NOT_FOUND", f"Secret [{name}] not found or has no versions.")
        return secret

    def _all(self) -> list[Any]:
        names = self._db.execute("SELECT name FROM secrets ORDER BY rowid DESC").fetchall()
        return [secret for (name,) in names if (secret := self._secret(name))]

    def _version(self, name: str) -> tuple[Any, bytes]:
        secret_name, _, which = name.partition("/versions/")
        secret = self._need(secret_name)
        aliases = dict(secret.version_aliases)
        row = self._row(secret_name, aliases.get(which, which))
        if row is None:
            raise Refusal("NOT_FOUND", f"Secret Version [{name}] not found.")
        return types.SecretVersion.deserialize(row[0]), row[1] or b""

    def _row(self, secret: str, which: Any) -> Any:
        chosen = "SELECT document, payload FROM versions WHERE secret = ?"
        if which == "latest":
            return self._db.execute(f"{chosen} ORDER BY number DESC LIMIT 1", (secret,)).fetchone()
        if not re.fullmatch(r"\d{1,18}", str(which)):
            return None
        return self._db.execute(f"{chosen} AND number = ?", (secret, int(which))).fetchone()

    def _keep(self, secret: Any) -> Any:
        if "ttl" in secret:
            secret.expire_time = datetime.now(UTC) + secret.ttl
        secret.etag = _etag(secret)
        self._db.execute(
            "INSERT INTO secrets VALUES (?, ?, 0) ON CONFLICT (name) DO UPDATE SET document = excluded.document",
            (secret.name, types.Secret.serialize(secret)),
        )
        return secret

    def _keep_version(self, version: Any, payload: bytes | None) -> Any:
        secret, _, number = version.name.partition("/versions/")
        version.etag = _etag(version)
        document = types.SecretVersion.serialize(version)
        self._db.execute("REPLACE INTO versions VALUES (?, ?, ?, ?)", (secret, int(number), document, payload))
        return version


def _paged(found: list[Any], request: Any, kind: Any) -> tuple[list[Any], str, int]:
    passes = listing.read_filter(request.filter, kind)
    chosen = [one for one in found if passes(one)]
    shown, token = listing.page(chosen, request.page_size, request.page_token)
    return list(shown), token, len(chosen)


def _require_etag(given: str, message: Any) -> None:
    if given and given != message.etag:
        raise Refusal("FAILED_PRECONDITION", f"The etag {given} is not that of [{message.name}], {message.etag}.")


def _etag(message: Any) -> str:
    message.etag = ""
    return f'"{hashlib.sha256(type(message).serialize(message)).hexdigest()[:14]}"'


def _crc32c(data: bytes) -> int:
    import google_crc32c

    return int(google_crc32c.value(data))
