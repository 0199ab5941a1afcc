"""Sends the notebook's writes into the scratch folder, and its reads of what it wrote to the same place.

`open` and the path functions of `os` are replaced, which covers what is written in Python; writers in C++ get their
path arguments changed where they are called (writes.py), and what is left Landlock refuses.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import re
import site
import stat
import sys
from typing import Any, Callable, Iterator

WRITING = set("wax+")
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NOT_DATA = ("/dev/", "/proc/", "/sys/", "/etc/", "/usr/", "/lib/", "/lib64/", "/run/", "/var/cache/")
SECRET = re.compile(r"^\.env|secret|credential|service.?account|token|password|\.(pem|key|p12|pfx|jks)$|^id_rsa", re.I)
COPY_LIMIT = 2 << 30
LINKS = 40


class Redirects:
    """Paths that were written, and where their files are."""

    def __init__(self, scratch: str) -> None:
        self.scratch = os.path.realpath(scratch)
        self.root = os.path.join(self.scratch, "writes")
        self.real: dict[str, Any] = {name: getattr(os, name) for name in (*READS, *CHANGES, *MAKES, *PAIRS, "open")}
        self.real_open = builtins.open
        self.written = False  # whether there is any stand-in
        self.folders: dict[str, str] = {}  # folder -> the same without links
        self.noticed: Callable[[str, str], None] = lambda path, file: None
        self.opened: Callable[[str], None] = lambda path: None
        self.libraries = tuple({os.path.realpath(path) + os.sep for path in _library_folders()})
        os.makedirs(self.root, exist_ok=True)

    def install(self) -> None:
        """Put the redirection in place of open, and of the functions of os that take paths."""
        builtins.open = io.open = self.open
        for names, choose in ((READS, self.for_reading), (CHANGES, self.for_reading), (MAKES, self._for_making)):
            for name in names:
                setattr(os, name, self._redirected(self.real[name], choose))
        os.open = self._os_open
        for name in PAIRS:
            setattr(os, name, self._redirected_pair(self.real[name]))
        os.listdir = self._listdir
        os.scandir = self._scandir

    def open(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        """Open a file; for writing, its stand-in."""
        if isinstance(file, int):
            return self.real_open(file, mode, *args, **kwargs)
        if WRITING & set(mode):
            return self.real_open(self.for_writing(file, keep="w" not in mode), mode, *args, **kwargs)
        handle = self.real_open(self.for_reading(file), mode, *args, **kwargs)
        full = self._full(file)
        if self.is_data(full):
            self.opened(full)
        return handle

    def _os_open(self, path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if isinstance(path, (str, bytes, os.PathLike)) and kwargs.get("dir_fd") is None:
            path = self.for_writing(path) if flags & WRITE_FLAGS else self.for_reading(path)
        return int(self.real["open"](path, flags, *args, **kwargs))

    def for_writing(self, path: Any, keep: bool = True, tell: bool = True) -> Any:
        """Give where a write goes; with `keep` what is there is copied first, to be added to."""
        full = self._full(path)
        if self._is_free(full):
            return path
        stand_in = self.stand_in(full)
        if not self._exists(stand_in):
            parent = os.path.dirname(full)
            if not self._exists(parent) and not self._exists(self.stand_in(parent)):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
            self._make(os.path.dirname(stand_in))
            if keep and os.path.isfile(full) and os.path.getsize(full) <= COPY_LIMIT:
                self._bring(full, stand_in)
        if tell:
            self.noticed(full, os.path.relpath(stand_in, self.scratch))
        return stand_in

    def for_reading(self, path: Any) -> Any:
        """Give where a read finds what was written, or the path itself."""
        if not self.written or isinstance(path, int) or path is None:
            return path
        full = self._full(path)
        if self._is_free(full):
            return path
        stand_in = self.stand_in(full)
        return stand_in if self._exists(stand_in) and not self._is_both(full, stand_in) else path

    def original(self, path: str) -> str:
        """Give the path that a stand-in stands for."""
        full = self._full(path)
        return os.sep + os.path.relpath(full, self.root) if full.startswith(self.root + os.sep) else full

    def stand_in(self, full: str) -> str:
        """Give the file in the scratch folder that stands for a path."""
        return os.path.join(self.root, full.lstrip(os.sep))

    def is_data(self, full: str) -> bool:
        """Say whether a file that is read may be the notebook's data, and not a library's own."""
        if self._is_free(full) or full.startswith((*NOT_DATA, *self.libraries)):
            return False
        if SECRET.search(os.path.basename(full)) or full == os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
            return False
        home = os.path.expanduser("~") + os.sep
        hidden = full.startswith(home) and full[len(home) :].startswith(".")
        return not hidden and not full.endswith((".py", ".pyc", ".so")) and os.path.isfile(full)

    def is_allowed(self, path: Any) -> bool:
        """Say whether a write to a path is allowed as it is."""
        return isinstance(path, int) or path is None or self._is_free(self._full(path))

    def _full(self, path: Any) -> str:
        parent, name = os.path.split(os.path.abspath(os.fsdecode(os.fspath(path))))
        return os.path.join(self._without_links(parent), name) if name else parent

    def _without_links(self, folder: str, depth: int = 0) -> str:
        """Do what os.path.realpath does, with the real lstat, and remember it."""
        known = self.folders.get(folder)
        if known is not None or folder == os.sep:
            return known or folder
        parent, name = os.path.split(folder)
        found = os.path.join(self._without_links(parent, depth), name)
        try:
            target = self.real["readlink"](found)
        except (OSError, ValueError):
            target = None
        if target is not None and depth < LINKS:
            found = self._without_links(os.path.normpath(os.path.join(os.path.dirname(found), target)), depth + 1)
        self.folders[folder] = found
        return found

    def _is_free(self, full: str) -> bool:
        return full.startswith((self.scratch + os.sep, "/dev/", "/proc/")) or full == self.scratch

    def _is_both(self, full: str, stand_in: str) -> bool:
        """Say whether a path is a real folder that files were written into: it stays what it was."""
        return self._isdir(stand_in) and self._isdir(full)

    def _exists(self, path: str) -> bool:
        try:
            self.real["stat"](path)
        except (OSError, ValueError):
            return False
        return True

    def _isdir(self, path: str) -> bool:
        try:
            return stat.S_ISDIR(self.real["stat"](path).st_mode)
        except (OSError, ValueError):
            return False

    def _make(self, folder: str) -> None:
        self.written = True
        if not self._isdir(folder):
            self._make(os.path.dirname(folder))
            self.real["mkdir"](folder)

    def _bring(self, full: str, stand_in: str) -> None:
        with self.real_open(full, "rb") as source, self.real_open(stand_in, "wb") as target:
            for block in iter(lambda: source.read(1 << 20), b""):
                target.write(block)

    def _redirected(self, function: Callable[..., Any], choose: Callable[[Any], Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            if kwargs.get("dir_fd") is not None or not isinstance(path, (str, bytes, os.PathLike)):
                return function(path, *args, **kwargs)
            return function(choose(path), *args, **kwargs)

        call.__name__ = function.__name__
        return call

    def _redirected_pair(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(source: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
            return function(self.for_reading(source), self.for_writing(target, keep=False), *args, **kwargs)

        call.__name__ = function.__name__
        return call

    def _for_making(self, path: Any) -> Any:
        full = self._full(path)
        if self._is_free(full):
            return path
        if self._exists(full):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path))
        parent = os.path.dirname(full)
        if not self._isdir(parent) and not self._isdir(self.stand_in(parent)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
        self._make(self.stand_in(parent))
        return self.stand_in(full)

    def _listdir(self, path: Any = ".") -> Any:
        names = set()
        other = self._written_folder(path)
        if other is None:
            return self.real["listdir"](path)
        if self._isdir(self._full(path)):
            names.update(self.real["listdir"](path))
        names.update(self.real["listdir"](os.fsencode(other) if isinstance(path, bytes) else other))
        return sorted(names)

    def _scandir(self, path: Any = ".") -> Any:
        other = self._written_folder(path)
        if other is None:
            return self.real["scandir"](path)
        entries = {entry.name: entry for entry in self.real["scandir"](path)} if self._isdir(self._full(path)) else {}
        entries.update({entry.name: entry for entry in self.real["scandir"](other)})
        return Entries(iter(entries.values()))

    def _written_folder(self, path: Any) -> str | None:
        if not self.written or isinstance(path, int) or path is None:
            return None
        full = self._full(path)
        stand_in = self.stand_in(full)
        return stand_in if not self._is_free(full) and self._isdir(stand_in) else None


READS = ("stat", "lstat", "access", "listdir", "scandir", "readlink", "chdir")
CHANGES = ("remove", "unlink", "rmdir", "chmod", "utime", "truncate")
MAKES = ("mkdir",)
PAIRS = ("rename", "replace", "link")


class Entries:
    """What os.scandir gives, of two folders at once."""

    def __init__(self, entries: Iterator[Any]) -> None:
        self.entries = entries

    def __iter__(self) -> Iterator[Any]:
        return self.entries

    def __next__(self) -> Any:
        return next(self.entries)

    def __enter__(self) -> Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: what was listed is closed already."""


def _library_folders() -> list[str]:
    folders = [sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)]
    with contextlib.suppress(AttributeError):
        folders += [*site.getsitepackages(), site.getusersitepackages()]
    return [folder for folder in folders if folder]
