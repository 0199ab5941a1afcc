"""The files that steps left in a folder that this machine mounts too, under file:// URIs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from trilho.errors import DataError, UsageError

SCHEME = "file://"


class FolderFiles:
    """The RemoteFiles port on a mounted folder."""

    def read(self, uri: str) -> bytes | None:
        """Give a small file's content, or None where there is no such file."""
        try:
            return _path(uri).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def list(self, uri: str) -> Sequence[str]:
        """Give the URIs of the files directly in a folder, sorted."""
        return sorted(f"{uri.rstrip('/')}/{path.name}" for path in _path(uri).glob("*") if path.is_file())

    def fetch(self, uri: str, to: Path) -> None:
        """Copy a file or folder to a path of this machine. Raises DataError where there is none."""
        source = _path(uri)
        if not source.exists():
            raise DataError(f"{source} does not exist", hint="is the cluster's folder mounted here?")
        to.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, to)
        else:
            shutil.copyfile(source, to)


def _path(uri: str) -> Path:
    if not uri.startswith(SCHEME):
        raise UsageError(f"{uri!r} is not in a mounted folder", hint="file:///FOLDER/PATH is wanted")
    return Path(uri.removeprefix(SCHEME))
