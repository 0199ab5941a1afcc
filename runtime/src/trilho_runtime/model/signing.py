"""Signatures of packages: who packed it, so that a server loads only what a trusted key has signed.

A signature is Ed25519 over the SHA-256 of the manifest's bytes; the manifest lists the digest of every other file. It
stands beside the manifest in manifest.sig and is checked before anything else of the package is read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trilho_runtime.model.manifest import MANIFEST, SIGNATURE, PackageError, read_file, read_manifest

SIGNING_KEY = "TRILHO_SIGNING_KEY"
TRUSTED_KEYS = "TRILHO_TRUSTED_KEYS"
ALGORITHM = "ed25519"
SCHEMA = 1
LARGEST = 1 << 16  # bytes of a key or a signature
INSTALL = "pip install cryptography"
MAKE_KEYS = "python -m trilho_runtime.package keys --out FILE"

Key = str | Path


def write_keys(file: Path) -> tuple[Path, str]:
    """Write a new private key, readable by its owner alone, and its public key beside it; give that and its name."""
    serialization, ed25519 = _cryptography()
    public = file.with_name(file.name + ".pub")
    for path in (file, public):
        if path.exists() or path.is_symlink():
            raise PackageError(f"{path} is there already; no key is overwritten", "name another file with --out")
    key = ed25519.Ed25519PrivateKey.generate()
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
        handle.write(key.private_bytes(pem, form, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return public, key_name(key.public_key())


def sign(folder: Path, key: Key) -> str:
    """Sign a package with a private key, a file or the PEM text itself, and give the key's name."""
    private = _private_key(key)
    name = key_name(private.public_key())
    signed = private.sign(hashlib.sha256(read_manifest(folder / MANIFEST)).digest())
    told = {"schema": SCHEMA, "algorithm": ALGORITHM, "key": name, "signature": signed.hex()}
    beside = folder / f".{SIGNATURE}.{os.getpid()}.part"
    beside.write_text(json.dumps(told, sort_keys=True) + "\n", encoding="utf-8")
    beside.replace(folder / SIGNATURE)
    return name


def check_signature(folder: Path, manifest: bytes, trusted: Sequence[Key]) -> str:
    """Check that a trusted key has signed a manifest, and give the key's name. Raises PackageError saying why not."""
    keys = {key_name(key): key for key in map(_public_key, trusted)}
    told = _read_signature(folder / SIGNATURE, f"only packages of {_listed(keys)} are opened")
    name, signed = str(told.get("key")), str(told.get("signature"))
    if name not in keys:
        raise PackageError(f"{folder / SIGNATURE}: it is signed by the key {name[:16]}, {_listed(keys)} is trusted")
    from cryptography.exceptions import InvalidSignature

    try:
        keys[name].verify(bytes.fromhex(signed), hashlib.sha256(manifest).digest())
    except (InvalidSignature, ValueError):
        raise PackageError(
            f"{folder / MANIFEST}: it is not what the key {name} signed: it was changed, or the signature is of another"
        ) from None
    return name


def trusted_keys(given: Sequence[Key] | None) -> list[Key]:
    """Give the public keys to trust: those given, else those that TRILHO_TRUSTED_KEYS names; without any, all do."""
    if given is not None:
        return list(given)
    named = os.environ.get(TRUSTED_KEYS, "").strip()
    if named.startswith("-----BEGIN"):
        end = "-----END PUBLIC KEY-----"
        return [part.strip() + "\n" + end for part in named.split(end) if part.strip()]
    return [part for part in named.split(os.pathsep) if part]


def key_name(public: Any) -> str:
    """Name a public key: the first half of its SHA-256's first 16 bytes, in hexadecimal."""
    serialization, _ = _cryptography()
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def _listed(keys: Iterable[str]) -> str:
    names = sorted(keys)
    return f"the key {names[0]}" if len(names) == 1 else f"one of the keys {', '.join(names)}"


def _read_signature(path: Path, else_: str) -> dict[str, Any]:
    try:
        told = json.loads(read_file(path, LARGEST))
    except FileNotFoundError:
        raise PackageError(f"{path.parent}: it is not signed, and {else_}") from None
    except (OSError, ValueError) as error:
        raise PackageError(f"{path}: it cannot be read: {error}") from None
    if not isinstance(told, dict) or told.get("schema") != SCHEMA or told.get("algorithm") != ALGORITHM:
        raise PackageError(f"{path}: it is no signature of schema {SCHEMA} with {ALGORITHM}")
    return told


def _private_key(key: Key) -> Any:
    serialization, ed25519 = _cryptography()
    data, where = _pem(key)
    try:
        found = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        raise PackageError(f"{where} is no private key in PEM without a password", f"make one: {MAKE_KEYS}") from None
    if not isinstance(found, ed25519.Ed25519PrivateKey):
        raise PackageError(f"{where} is not a key for {ALGORITHM}", f"make one: {MAKE_KEYS}")
    return found


def _public_key(key: Key) -> Any:
    serialization, ed25519 = _cryptography()
    data, where = _pem(key)
    try:
        found = serialization.load_pem_public_key(data)
    except ValueError:
        raise PackageError(f"{where} is no public key in PEM", f"name the .pub file; make one: {MAKE_KEYS}") from None
    if not isinstance(found, ed25519.Ed25519PublicKey):
        raise PackageError(f"{where} is not a key for {ALGORITHM}", f"make one: {MAKE_KEYS}")
    return found


def _pem(key: Key) -> tuple[bytes, str]:
    """Give a key's PEM, and what an error calls it: never the key itself."""
    if str(key).lstrip().startswith("-----BEGIN"):
        return str(key).encode(), "the key given"
    try:
        with Path(key).open("rb") as file:
            return file.read(LARGEST), str(key)
    except OSError as error:
        raise PackageError(f"{str(key)[:200]}: {error.strerror or error}", f"make keys: {MAKE_KEYS}") from None


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise PackageError("signatures need the package cryptography, which is not installed here", INSTALL) from None
    return serialization, ed25519
