"""Content digests: what names a file, a folder, a value. The platform and the images must agree on them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

PIECE = 1 << 20


def digest_file(path: Path) -> str:
    """Give the SHA-256 of a file's content, in hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as handle:
        while piece := handle.read(PIECE):
            found.update(piece)
    return found.hexdigest()


def digest_json(value: Any) -> str:
    """Give the SHA-256 of a JSON value, whatever the order of its keys.

    >>> digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_folder(path: Path) -> str:
    """Give the SHA-256 of a folder: of its files' relative names and contents."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return digest_json({str(p.relative_to(path)): digest_file(p) for p in files})


def digest_path(path: Path) -> str:
    """Give the digest of a file or a folder."""
    return digest_folder(path) if path.is_dir() else digest_file(path)
