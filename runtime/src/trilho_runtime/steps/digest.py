"""Content digests: what names a file, a folder, a value. The platform and the images must agree on them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
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


def files_of(folder: Path, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    """Give the files in a folder and below, also those that links lead to.

    A link that leads nowhere is no file. Raises OSError for one that leads back to a folder that it is in.
    """
    found = folder.stat()
    here = (found.st_dev, found.st_ino)
    if here in above:
        raise OSError(errno.ELOOP, "a link leads back to a folder that it is in", str(folder))
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir():
                yield from files_of(folder / entry.name, (*above, here))
            elif entry.is_file():
                yield folder / entry.name


def digest_folder(path: Path) -> str:
    """Give the SHA-256 of a folder: of its files' relative names and contents."""
    return digest_json({str(p.relative_to(path)): digest_file(p) for p in files_of(path)})


def digest_path(path: Path) -> str:
    """Give the digest of a file or a folder."""
    return digest_folder(path) if path.is_dir() else digest_file(path)
