"""The settings of [serve] as the servers of an endpoint take them.

What is secret is not among them: keys are files that only their owner can read, named on the command line, since
anybody on the machine can read command lines.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from trilho.config import Serve
from trilho.core.vault import reveal
from trilho.errors import ConfigError, DataError
from trilho_runtime.prediction.mask import Mask
from trilho_runtime.web.access import AccessError, read_keys

KEYS = "keys"
MASK_KEY = "TRILHO_MASK_KEY"
OWN = 0o600


def server_module(settings: Serve, alone: str, together: str) -> list[str]:
    """Give the module that serves a version, alone or with several processes.

    >>> server_module(Serve(workers=2), "server", "workers")
    ['workers', '--workers', '2']
    """
    return [alone] if settings.workers == 1 else [together, "--workers", str(settings.workers)]


def server_flags(settings: Serve, log: Path) -> list[str]:
    """Give what a version's server is told; it listens on this machine only, and the router asks who calls."""
    return [
        *("--log", str(log / "predictions"), "--profiles", str(log / "profiles")),
        *("--extra-fields", settings.extra_fields, "--entries", settings.entries),
        *("--max-rows", str(settings.max_rows), *_body(settings)),
        *(["--mask", json.dumps(settings.mask, sort_keys=True)] if settings.mask else []),
        *(["--topic", settings.topic] if settings.topic else []),
        *(["--fsync"] if settings.fsync else []),
    ]


def router_flags(settings: Serve, log: Path, folder: Path, *, opened: bool = False) -> list[str]:
    """Give what the router is told: it is the edge, where a caller shows who it is."""
    callers = [part for email in settings.callers for part in ("--caller", email)]
    return [
        *("--label-dir", str(log / "labels"), *_body(settings)),
        *(["--fsync"] if settings.fsync else []),
        *(["--api-key", f"file:{folder / KEYS}"] if settings.api_keys else []),
        *(["--audience", settings.audience] if settings.audience else []),
        *callers,
        *(["--open"] if opened else []),
    ]


def _body(settings: Serve) -> list[str]:
    return ["--max-body", str(settings.max_body)]


def write_keys(references: Sequence[str], folder: Path) -> None:
    """Write the keys that callers may show to a file of their own. Raises ConfigError for one that is not there."""
    path = folder / KEYS
    if not references:
        path.unlink(missing_ok=True)
        return
    keys = [reveal(reference) for reference in references]
    _write_own(path, "".join(f"{key}\n" for key in keys))
    try:
        read_keys([f"file:{path}"], {})
    except AccessError as error:
        path.unlink(missing_ok=True)
        fact = str(error).replace(f"file:{path}", "serve.api_keys")
        raise ConfigError(fact, hint=error.hint) from None


def environment(settings: Serve, home: Path) -> dict[str, str]:
    """Give what the servers find in their environment: the key that hashed columns are hashed with, made once."""
    if "hash" not in settings.mask.values():
        return {}
    if os.environ.get(MASK_KEY):
        return {}
    path = home / "mask.key"
    if not path.exists():
        _write_own(path, secrets.token_hex(32))
    return {MASK_KEY: path.read_text(encoding="ascii").strip()}


def mask_of(settings: Serve, home: Path) -> Mask:
    """Give the mask that the servers use, for labels whose keys must find their predictions."""
    key = os.environ.get(MASK_KEY) or environment(settings, home).get(MASK_KEY, "")
    return Mask.parse(settings.mask, key)


def _write_own(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWN), "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}", hint="look for a full disk") from None
