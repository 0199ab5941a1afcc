"""Names of buckets and objects: which are allowed, and which can be files in a folder."""

from __future__ import annotations

import re
from pathlib import Path

from trilho.testing.emulator.http import ApiError

LONGEST_BYTES = 1024
LONGEST_SEGMENT_BYTES = 255


def require_bucket_name(name: str) -> None:
    """Raise 400 unless a bucket may have this name, which is a folder's name too; here also one of a letter or two.

    >>> require_bucket_name("models-2")
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9._-]{0,220}[a-z0-9])?", name) or ".." in name:
        raise ApiError(400, f"Invalid bucket name: '{name}'")


def require_object_name(name: str) -> None:
    """Raise 400 unless an object may have this name; a name that climbs out of its bucket is refused.

    >>> require_object_name("models/2/model.json")
    """
    size = len(name.encode("utf-8", "surrogatepass"))
    if not name or size > LONGEST_BYTES:
        raise ApiError(400, f"The object name has {size} bytes; 1 to {LONGEST_BYTES} are allowed.")
    if any(part in (".", "..") for part in name.split("/")):
        raise ApiError(400, f"Invalid object name: '{name}' (trilho emulate keeps objects as files: no . or .. in it)")
    if any(character in name for character in "\0\r\n") or not _is_text(name):
        raise ApiError(400, f"Disallowed unicode characters present in object name {name!r}")


def fits_a_folder(name: str) -> bool:
    """Say whether an object of this name can be a file below its bucket's folder.

    >>> [fits_a_folder(name) for name in ("a/b.txt", "a//b", "folder/")]
    [True, False, False]
    """
    parts = name.split("/")
    return all(part and len(part.encode()) <= LONGEST_SEGMENT_BYTES for part in parts)


def inside(folder: Path, name: str) -> Path | None:
    """Give the file of an object, or None where a link on the way leads out of the folder."""
    path = folder
    for part in name.split("/"):
        path /= part
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            return None
    return path


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
