"""Freezes what a notebook reads: the source file where there is one, else the table."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import contextmanager
from typing import Any, Callable, Iterator

from .digests import Digester
from .files import Redirects
from .rewrite import Site
from .rows import RowBook
from .store import Store
from .values import describe, full_name, kind_of

KINDS = (("csv", "csv"), ("read_table", "csv"), ("fwf", "csv"), ("parquet", "parquet"), ("excel", "excel"),
         ("parse", "excel"), ("json", "json"), ("sql", "sql"), ("database", "sql"), ("gbq", "bigquery"),
         ("load_", "dataset"), ("fetch_", "dataset"), ("make_", "dataset"))  # fmt: skip
REMOTE = ("http://", "https://", "gs://", "s3://", "ftp://")
FIRST = ("filepath_or_buffer", "path", "io", "path_or_buf", "path_or_buffer", "sql", "query", "file", "fname", "source",
         "name", "url", "database", "con")  # fmt: skip


class Reads:
    """The reads of one run."""

    def __init__(self, scratch: str, book: RowBook, store: Store, redirects: Redirects,
                 where: Callable[[Any], tuple[int, Any]]) -> None:  # fmt: skip
        self.scratch, self.book, self.store, self.redirects, self.where = scratch, book, store, redirects, where
        self.events: list[dict[str, Any]] = []
        self.frozen: dict[str, dict[str, Any]] = {}  # path and digest -> what was frozen
        self.statement = -1
        self.safely: Callable[..., Any] = lambda note, *given: note(*given)
        self.depth = 0
        self.opened_by: list[str] = []
        self.replays: list[dict[str, Any]] = []
        os.makedirs(os.path.join(scratch, "reads"), exist_ok=True)

    def start(self, statement: int) -> None:
        """Go on to another statement."""
        self.statement = statement

    @contextmanager
    def within(self) -> Iterator[None]:
        """Take the files that are opened in it as a part of one read."""
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def read(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        """Do a read, and freeze what it read."""
        source = _source(function, args, kwargs)
        args = tuple(self._found(value) for value in args)
        kwargs = {key: self._found(value) for key, value in kwargs.items()}
        with self.within():
            self.opened_by = []
            result = function(*args, **kwargs)
        name = full_name(function)
        self.safely(self.note, site, name, _kind(name), source, result, self.opened_by)
        return result

    def note(self, site: Any, function: str, kind: str, source: str, result: Any, opened: Any = (),
             query: str = "", job: str = "", size: int | None = None) -> dict[str, Any]:  # fmt: skip
        """Note a read that was done."""
        with self.within():
            return self._noted(site, function, kind, source, result, opened, query, job, size)

    def _noted(self, site: Any, function: str, kind: str, source: str, result: Any, opened: Any, query: str, job: str,
               size: int | None) -> dict[str, Any]:  # fmt: skip
        number = len(self.events)
        cell, span = self.where(site)
        path = self._path(source, list(opened))
        event = {
            "id": number, "statement": self.statement, "cell": cell, "span": span, "kind": kind, "function": function,
            "source": source or path, "query": query, "job": job,
            "arguments": {name: text for name, text in getattr(site, "arguments", []) if name not in ("", "*", "**")},
        }  # fmt: skip
        event.update(self._freeze_path(path, number) if path else self._freeze_value(result, number))
        if size is not None:
            event["bytes"] = size
        event["value"] = self._described(result, number)
        self.events.append(event)
        return event

    def opened(self, path: str) -> None:
        """Note a file that was opened for reading."""
        if self.depth:
            self.opened_by.append(path)
            return
        known = [event for event in self.events if event["statement"] == self.statement]
        if any(path in (event["source"], event.get("path")) for event in known):
            return
        self.safely(self.note, None, "open", "file", path, None, [path])

    def sources(self) -> dict[str, str]:
        """Give the digests of the source files that were read, but those that the notebook wrote itself."""
        return {event["path"]: event["digest"] for event in self.events
                if event.get("path") and self.redirects.for_reading(event["path"]) == event["path"]}  # fmt: skip

    def again(self, event: dict[str, Any]) -> None:
        """Note that what was frozen is read once more."""
        self.replays.append({"read": event["id"], "statement": self.statement})

    def module(self, name: str, path: str) -> None:
        """Note a local module that was imported."""
        self.safely(self.note, None, name, "module", path, None, [path])

    def _described(self, result: Any, number: int) -> dict[str, Any]:
        told = describe(result)
        told["digest"] = Digester().of(result)[0] if result is not None else ""
        parts = list(result) if isinstance(result, tuple) else _bunch(result)
        for part in [result, *parts]:
            if kind_of(part) in ("frame", "series", "array"):
                self.book.add_read(number, part)
        if told["kind"] in ("frame", "series", "array"):
            told["aligned"] = {"read": number, "how": "all"}
        return told

    def _found(self, value: Any) -> Any:
        """Give where a path's file is, of one that the notebook wrote."""
        is_path = isinstance(value, (str, os.PathLike)) and len(str(value)) < 4000 and "\n" not in str(value)
        return self.redirects.for_reading(value) if is_path and str(value) else value

    def _path(self, source: str, opened: Any) -> str:
        """Give the file or folder that was read."""
        if source and not source.startswith(REMOTE) and len(source) < 4000 and "\n" not in source:
            path = os.path.abspath(os.path.expanduser(source))
            if os.path.exists(path):
                return path
        return opened[0] if len(opened) == 1 and not source.startswith(REMOTE) else ""

    def _freeze_path(self, path: str, number: int) -> dict[str, Any]:
        real = str(self.redirects.for_reading(path))
        digest = hash_path(real)
        known = self.frozen.get(f"{path} {digest}")
        if known is not None:
            return known
        name = os.path.join("reads", f"{number}-{os.path.basename(path)}")
        target = os.path.join(self.scratch, name)
        if os.path.isdir(real):
            shutil.copytree(real, target)
            size = sum(os.path.getsize(os.path.join(at, file)) for at, _, files in os.walk(real) for file in files)
        else:
            shutil.copyfile(real, target)
            size = os.path.getsize(real)
        self.frozen[f"{path} {digest}"] = {"digest": digest, "bytes": size, "file": name, "path": path}
        return self.frozen[f"{path} {digest}"]

    def _freeze_value(self, value: Any, number: int) -> dict[str, Any]:
        table = _as_table(value)
        name = "" if table is None else self.store.write_table(table, os.path.join("reads", str(number)))
        if not name:
            return {"digest": "", "bytes": 0, "file": ""}
        path = os.path.join(self.scratch, name)
        return {"digest": hash_path(path), "bytes": os.path.getsize(path), "file": name}


def hash_path(path: str) -> str:
    """Give the sha256 of a file, or of all that is in a folder."""
    hasher = hashlib.sha256()
    if os.path.isdir(path):
        for folder, folders, files in os.walk(path):
            folders.sort()
            for file in sorted(files):
                full = os.path.join(folder, file)
                hasher.update(f"{os.path.relpath(full, path)}\n{hash_path(full)}\n".encode("utf-8", "surrogateescape"))
        return hasher.hexdigest()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            hasher.update(block)
    return hasher.hexdigest()


def _bunch(value: Any) -> list[Any]:
    """Give the tables in what sklearn.datasets gives."""
    if type(value).__name__ != "Bunch" or not isinstance(value, dict):
        return []
    return [value[key] for key in ("data", "target", "frame") if key in value]


def _as_table(value: Any) -> Any:
    """Give the frame in a Bunch where there is one, else the value as it is."""
    frame = value.get("frame") if _bunch(value) else None
    return value if frame is None else frame


def _source(function: Any, args: Any, kwargs: Any) -> str:
    owner = getattr(function, "__self__", None)
    given = args[0] if args else next((kwargs[key] for key in FIRST if key in kwargs), "")
    if full_name(function).startswith("sklearn.datasets"):
        return full_name(function)
    if type(owner).__name__ == "ExcelFile":
        given = getattr(owner, "io", "")
    if isinstance(given, (str, os.PathLike)):
        return os.fspath(given)
    named = getattr(given, "name", "")
    if hasattr(given, "read") and isinstance(named, str):
        return named
    return "" if given is None or hasattr(given, "read") else str(given)[:10_000]


def _kind(name: str) -> str:
    last = name.rsplit(".", 1)[-1]
    return next((kind for part, kind in KINDS if part in last), "file")
