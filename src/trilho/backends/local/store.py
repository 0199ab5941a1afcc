"""The artifacts on one machine: files and folders under the digest of their content.

An artifact is copied beside the store, hashed there, brought to the disk and renamed into place: whatever is killed
when, a digest names a whole artifact or nothing.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from trilho.core.digest import digest_path, files_of
from trilho.core.processes import alive
from trilho.errors import DataError

PARTIAL = "partial"


class LocalStore:
    """The ArtifactStore port on a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, source: Path) -> str:
        """Keep a copy of a file or folder and give its digest; atomic, and free when it is already there."""
        if not source.exists():
            raise DataError(f"{source}: no such file or folder", hint="an artifact is put after it was written")
        digest = digest_path(source)
        target = self._place(digest)
        if target.exists() and _size(target) == _size(source):
            os.utime(target)  # in use again: a collection that spares what is young spares it
            return digest
        partial = self.root / PARTIAL / f"{os.getpid()}-{uuid.uuid4().hex}"
        try:
            copied = _copy(source, partial)
            if copied != digest:
                raise DataError(f"{source} changed while it was being stored", hint="run it again")
            self._move(partial, target)
        except OSError as error:
            raise DataError(f"{source} cannot be stored: {_why(error)}", hint=_hint(error)) from error
        finally:
            _remove(partial)
        return digest

    def path(self, digest: str) -> Path:
        """Give where an artifact lies. Raises DataError when it is not there."""
        place = self._place(digest)
        if not place.exists():
            raise DataError(f"artifact {digest[:12]} is not in {self.root}", hint="run what made it again")
        return place

    def has(self, digest: str) -> bool:
        """Say whether an artifact is there."""
        return self._place(digest).exists()

    def use(self, digest: str) -> bool:
        """Say whether an artifact is there, and keep what frees old artifacts away from it as if it were new."""
        try:
            os.utime(self._place(digest))
        except OSError:
            return self.has(digest)
        return True

    def discard(self, digest: str) -> None:
        """Forget an artifact: its content is no longer what the digest names."""
        self._discard(self._place(digest))

    def damaged(self) -> list[str]:
        """Hash every artifact and give the digests whose content is no longer what they name."""
        return [digest for digest, place in self._all() if digest_path(place) != digest]

    def gc(self, keep: set[str], dry_run: bool, spare: timedelta = timedelta(0)) -> list[tuple[str, int]]:
        """Remove what is not in `keep` and give it with its bytes; with `dry_run` only say what would go.

        A run that is under way has put or used artifacts that no record names yet: the caller waits for it, or spares
        what was put or used in the last while. What killed processes left half-copied goes too.
        """
        before = time.time() - spare.total_seconds()
        old = [(digest, place) for digest, place in self._all() if digest not in keep and _unused_since(place, before)]
        found = [(digest, place, _size(place)) for digest, place in old]
        gone = [
            (digest, size)
            for digest, place, size in found
            if dry_run or (_unused_since(place, before) and self._discard(place))  # a run may have used it meanwhile
        ]
        for place in self._orphans():
            gone.append((f"{PARTIAL}/{place.name}", _size(place)))
            if not dry_run:
                _remove(place)
        return gone

    def _place(self, digest: str) -> Path:
        return self.root / digest[:2] / digest

    def _all(self) -> Iterator[tuple[str, Path]]:
        for place in sorted(self.root.glob("[0-9a-f][0-9a-f]/*")):
            yield place.name, place

    def _orphans(self) -> list[Path]:
        places = sorted((self.root / PARTIAL).glob("[0-9]*-*"))
        return [place for place in places if not alive(int(place.name.partition("-")[0]))]

    def _move(self, partial: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir() and _size(target) != _size(partial):
            self._discard(target)  # damaged; a folder cannot be renamed over
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():  # else another process put the same folder first
                raise
        _sync(target.parent)

    def _discard(self, place: Path) -> bool:
        # Out of its digest's name first: a removal that is cut short must not leave half an artifact there.
        away = self.root / PARTIAL / f"{os.getpid()}-{uuid.uuid4().hex}"
        away.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.rename(away)
        except FileNotFoundError:  # another process was first
            return False
        _remove(away)
        return True


def _copy(source: Path, to: Path) -> str:
    to.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, to, ignore=_nowhere)
        os.utime(to)  # the copy of an old folder is new
    else:
        shutil.copyfile(source, to)
    for path in [to, *to.rglob("*")]:
        _sync(path)
    return digest_path(to)


def _nowhere(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not Path(folder, name).exists()]  # links that lead nowhere


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unused_since(place: Path, moment: float) -> bool:
    try:
        return place.stat().st_mtime <= moment
    except FileNotFoundError:
        return False


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(part.stat().st_size for part in files_of(path))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _why(error: OSError) -> str:
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return str(error.args[0][0][-1])
    return str(error.strerror or error)


def _hint(error: OSError) -> str:
    return "free some space (trilho gc) and run it again" if error.errno in (28, 122) else "check the folder"
