"""Whom a client trusts and who it is: a certificate authority of this emulator's own, and a service account's key file.

The key file's `token_uri` is the emulator, so `google.auth.default()` gets tokens as it does in the cloud; clients
without credentials are let in as well.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from trilho.testing.emulator.http import Json, Reply, Request, Route, to_reply

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

VALID = timedelta(days=825)
HOSTS = ("localhost", "*.googleapis.com")  # Google's hosts too: the emulator's proxy leads gRPC clients here
SKEW = timedelta(hours=1)
TOKEN_SECONDS = 3599
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass(frozen=True)
class Credentials:
    """The files of an emulator's credentials."""

    authority: Path
    """The certificate that clients must trust."""
    identity: tuple[bytes, bytes]
    """The server's key and certificate, for localhost, 127.0.0.1 and Google's hosts."""
    account: Path
    """The service account's key file."""

    @property
    def server(self) -> Path:
        """The server's key and certificate as a file."""
        return self.authority.with_name("server.pem")

    def bundle(self) -> Path:
        """Give a file of the authorities that are trusted anyway and of this one, for clients that take one file."""
        path = self.authority.with_name("bundle.pem")
        known = trusted_file()
        _write(path, (known.read_bytes() + b"\n" if known is not None else b"") + self.authority.read_bytes())
        return path

    def routes(self) -> list[Route]:
        """Give the token endpoint."""
        return [Route("POST", "/token", "", self._token)]

    def _token(self, request: Request) -> Reply:
        given = parse_qs(request.body.read().decode("latin-1"))
        if given.get("grant_type") != [GRANT]:
            return _refused("unsupported_grant_type", f"Invalid grant_type: {given.get('grant_type')}")
        try:
            claims = self._claims(given.get("assertion", [""])[0])
        except ValueError as error:
            return _refused("invalid_grant", str(error))
        if "target_audience" in claims:
            return to_reply({"id_token": _unsigned(claims)})
        token = f"ya29.emulated.{secrets.token_urlsafe(24)}"
        return to_reply({"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": "Bearer"})

    def _claims(self, assertion: str) -> Json:
        """Give the claims of an assertion that the account's key signed and that has not expired. Raises ValueError."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        head, _, signature = assertion.rpartition(".")
        try:
            claims = json.loads(_decoded(head.partition(".")[2]))
            key: Any = _private_key(self.account).public_key()
            key.verify(_decoded(signature), head.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, binascii.Error, ValueError):
            raise ValueError("Invalid JWT Signature.") from None
        if not isinstance(claims, dict) or int(claims.get("exp", 0)) < time.time():
            raise ValueError(
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
            )
        return claims


def trusted_file() -> Path | None:
    """Give the file of the authorities that `requests` trusts here: as the environment says, else certifi's."""
    named = (os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    own = [import_module("certifi").where()] if find_spec("certifi") is not None else []
    files = (Path(name) for name in (*named, *own, ssl.get_default_verify_paths().cafile) if name)
    return next((file for file in files if file.is_file()), None)


def make_credentials(folder: Path, *, project: str, token_uri: str) -> Credentials:
    """Make the credentials of an emulator in a folder; those that an earlier start made are used again."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority, server = folder / "ca.pem", folder / "server.pem"
    if not (authority.exists() and server.exists() and _lasts(server)):
        _write_certificates(authority, server)
    account = folder / "service-account.json"
    key = json.loads(account.read_text())["private_key"] if account.exists() else _new_private_key()
    _write(account, json.dumps(_account(key, project, token_uri), indent=2).encode())
    key_pem, _, certificate = server.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    return Credentials(authority, (key_pem, b"-----BEGIN CERTIFICATE-----" + certificate), account)


def _account(private_key: str, project: str, token_uri: str) -> Json:
    email = f"emulator@{project}.iam.gserviceaccount.com"
    return {"type": "service_account", "project_id": project, "private_key_id": "emulated", "private_key": private_key,
            "client_email": email, "client_id": "100000000000000000000", "auth_uri": token_uri, "token_uri": token_uri,
            "universe_domain": "googleapis.com"}  # fmt: skip


def _write_certificates(authority: Path, server: Path) -> None:
    """Write an authority and a server certificate that it signed; the authority's key is kept nowhere."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = named("trilho emulate: authority")
    own = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = _dated(x509.CertificateBuilder(issuer, issuer, ca_key.public_key(), x509.random_serial_number()))
    signs = x509.KeyUsage(  # Python 3.13 verifies strictly: an authority must say that it signs
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    ca = ca.add_extension(signs, critical=True)
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).add_extension(
        own, critical=False
    )
    hosts = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.DNSName("*.googleapis.com"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    )
    leaf = _dated(x509.CertificateBuilder(issuer, named("localhost"), key.public_key(), x509.random_serial_number()))
    leaf = leaf.add_extension(hosts, critical=False).add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
    )
    leaf = leaf.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False
    ).add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    pem = serialization.Encoding.PEM
    _write(authority, ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    _write(server, _pem(key).encode() + leaf.sign(ca_key, hashes.SHA256()).public_bytes(pem))


def _dated(builder: Any) -> Any:
    now = datetime.now(UTC)
    return builder.not_valid_before(now - SKEW).not_valid_after(now + VALID)


def _lasts(server: Path) -> bool:
    from cryptography import x509

    _, _, certificate = server.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    read = x509.load_pem_x509_certificate(b"-----BEGIN CERTIFICATE-----" + certificate)
    return read.not_valid_after_utc > datetime.now(UTC) + timedelta(days=1)


def _new_private_key() -> str:
    from cryptography.hazmat.primitives.asymmetric import rsa

    return _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def _pem(key: RSAPrivateKey | EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _private_key(account: Path) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(json.loads(account.read_text())["private_key"].encode(), None)


def _write(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".draft")
    draft.touch(mode=0o600)
    draft.write_bytes(content)
    draft.replace(path)


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _unsigned(claims: Json) -> str:
    now = int(time.time())
    body = {"aud": claims["target_audience"], "iss": claims.get("iss"), "email": claims.get("iss"), "iat": now,
            "exp": now + TOKEN_SECONDS}  # fmt: skip
    parts = (json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, body))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."


def _refused(error: str, description: str) -> Reply:
    return to_reply({"error": error, "error_description": description}, 400)
