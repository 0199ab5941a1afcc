"""Where an object's bytes are: a file in its bucket's folder, or beside it where the folder cannot hold it.

A folder cannot hold `a` and `a/b` at once, nor `a//b`, nor `folder/` with bytes; an older generation has no name there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from trilho.testing.emulator.drafts import Draft, Drafts
from trilho.testing.emulator.storage import names
from trilho.testing.emulator.storage.index import Stored


class Content:
    """The files of all objects below a root."""

    def __init__(self, root: Path) -> None:
        self.buckets, self._hidden = root / "buckets", root / "storage" / "content"
        self.drafts = Drafts(root / "storage" / "drafts")
        for folder in (self.buckets, self._hidden):
            folder.mkdir(parents=True, exist_ok=True)

    def path_of(self, record: Stored) -> Path:
        """Give the file that holds a generation."""
        if record.hidden:
            return self._hidden / record.bucket / str(record.generation)
        return self.buckets / record.bucket / record.name

    def settle(self, draft: Draft, record: Stored) -> None:
        """Make a draft the content of a generation at once; sets `hidden` and `stamp` of the record."""
        record.hidden = not self._settle_in_folder(draft.path, record)
        if record.hidden:
            path = self.path_of(record)
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.path.replace(path)
        record.stamp = stamp_of(self.path_of(record))

    def _settle_in_folder(self, draft: Path, record: Stored) -> bool:
        folder = self.buckets / record.bucket
        if record.name.endswith("/") and names.fits_a_folder(record.name.rstrip("/")):
            with suppress(OSError):  # where it cannot be a folder, the object exists all the same
                (folder / record.name).mkdir(parents=True, exist_ok=True)
        if not names.fits_a_folder(record.name) or names.inside(folder, record.name) is None:
            return False
        path = folder / record.name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # an empty folder in its place is nothing to keep
                path.rmdir()
            draft.replace(path)
        except OSError:
            return False
        return True

    def archive(self, record: Stored) -> None:
        """Keep a generation's content beside the folder, where another may now take its name."""
        if not record.hidden:
            path = self.path_of(record)
            record.hidden = True
            kept = self.path_of(record)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.unlink(missing_ok=True)
            kept.hardlink_to(path)

    def remove(self, bucket: str, path: Path) -> None:
        """Delete a file of content, and the folders that it leaves empty."""
        path.unlink(missing_ok=True)
        self._prune(path.parent, bucket)

    def remove_folder(self, record: Stored) -> None:
        """Delete the folder that stands for an object such as `a/`, where it is empty."""
        if record.name.endswith("/"):
            self._prune(self.buckets / record.bucket / record.name, record.bucket)

    def _prune(self, folder: Path, bucket: str) -> None:
        top = self.buckets / bucket
        while folder != top and folder.is_relative_to(top):
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def stamp(self, bucket: str, name: str) -> str:
        """Give the stamp of the file that stands in a bucket's folder under a name, or "" where none does."""
        if not names.fits_a_folder(name):
            return ""
        path = names.inside(self.buckets / bucket, name)
        try:
            return stamp_of(path) if path and path.is_file() else ""
        except OSError:  # it has just gone
            return ""

    def files(self, bucket: str, prefix: str) -> Iterator[tuple[str, str]]:
        """Give name and stamp of the files in a bucket's folder whose names begin with a prefix."""
        top = self.buckets / bucket
        start = top / prefix.rpartition("/")[0]
        if any(part in (".", "..") for part in prefix.split("/")) or not start.is_dir():
            return
        for folder, _, found in os.walk(start):
            for file in found:
                path = Path(folder, file)
                name = path.relative_to(top).as_posix()
                if name.startswith(prefix) and (stamp := self.stamp(bucket, name)):
                    yield name, stamp


def stamp_of(path: Path) -> str:
    """Give what changes when a file is written: size, time, inode."""
    at = path.stat()
    return f"{at.st_size} {at.st_mtime_ns} {at.st_ino}"
