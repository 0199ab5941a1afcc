"""Bytes that were received whole and are nothing yet: a file beside the place where it will stand, and its digests."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

BLOCK = 1 << 20


@dataclass(frozen=True)
class Draft:
    """A file of received bytes, with size, md5 and crc32c as Cloud Storage writes them."""

    path: Path
    size: int
    md5: str
    crc32c: str


class Drafts:
    """A folder of drafts; those of an emulator that was killed are removed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            left.unlink()

    def new(self) -> Path:
        """Make an empty file to receive bytes into."""
        number, path = tempfile.mkstemp(dir=self._folder)
        os.fchmod(number, 0o644)
        os.close(number)
        return Path(path)

    def receive(self, pieces: Iterable[bytes]) -> Draft:
        """Write bytes into a draft, with their digests."""
        path = self.new()
        try:
            with path.open("wb") as file:
                size, md5, crc32c = digests_of(_written(pieces, file))
        except BaseException:
            path.unlink()
            raise
        return Draft(path, size, md5, crc32c)

    def read(self, path: Path) -> Draft:
        """Make a draft of a file that was made with `new` and is written now."""
        with path.open("rb") as file:
            return Draft(path, *digests_of(blocks(file)))


def digests_of(pieces: Iterable[bytes]) -> tuple[int, str, str]:
    """Give the size, and md5 and crc32c as Cloud Storage writes them.

    >>> digests_of([b"hello ", b"world"])
    (11, 'XrY7u+Ae7tCTyyK7j1rNww==', 'yZRlqg==')
    """
    import google_crc32c

    crc32c: Any = google_crc32c.Checksum  # it has no types
    md5, crc32c, size = hashlib.md5(usedforsecurity=False), crc32c(), 0
    for piece in pieces:
        md5.update(piece)
        crc32c.update(piece)
        size += len(piece)
    return size, base64.b64encode(md5.digest()).decode(), base64.b64encode(crc32c.digest()).decode()


def blocks(file: BinaryIO, size: int | None = None) -> Iterator[bytes]:
    """Give the bytes of an open file from where it stands, at most `size` of them."""
    left = size if size is not None else 1 << 62
    while left > 0 and (piece := file.read(min(BLOCK, left))):
        left -= len(piece)
        yield piece


def _written(pieces: Iterable[bytes], file: BinaryIO) -> Iterator[bytes]:
    for piece in pieces:
        file.write(piece)
        yield piece
