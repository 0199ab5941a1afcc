"""Secrets by their names: what `secret://NAME` stands for on this machine.

A store of secrets that mounts them (Cloud Run, Kubernetes, Docker) shows each as a file in one folder; so does a folder
that a person keeps. That folder is TRILHO_SECRETS, or /run/secrets.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from trilho.errors import ConfigError

FOLDER = "/run/secrets"
REFERENCE = re.compile(r"secret://([A-Za-z0-9][\w.-]*)")


def reveal(value: str) -> str:
    """Give the secret that a value names; a value that names none is given as it is.

    Raises ConfigError for a name that is none, or that no secret has.
    """
    if not value.startswith("secret://"):
        return value
    match = REFERENCE.fullmatch(value)
    if match is None:
        raise ConfigError(
            f"{value!r} names no secret; allowed: letters, digits, dots and hyphens", hint="secret://slack-webhook"
        )
    path = Path(os.environ.get("TRILHO_SECRETS") or FOLDER) / match[1]
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(
            f"{value} is not here: {path}: {said}", hint="TRILHO_SECRETS names the folder that holds secrets as files"
        ) from None
