"""The walk through a notebook's statements that finds what they would read, write, send and start.

Paths are put together as far as their parts are constants; loops over lists that are known are followed item by item,
and notebook functions where they are called, with what is known of their arguments.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from trilho.adopt.calls import (
    DOWNLOADED,
    READER_METHODS,
    READERS,
    RUNNERS,
    SENDERS,
    WRITER_METHODS,
    WRITERS,
    Place,
)  # fmt: skip
from trilho.adopt.fits import Fits, fits_of, made
from trilho.adopt.folding import MANY, UNKNOWN, Constants, found_files
from trilho.adopt.scopes import IN_PLACE

SQL_TABLE = re.compile(r"\b(?:from|join)\s+`?([\w-]+(?:\.[\w*-]+)+)`?", re.IGNORECASE)
SELECT = re.compile(r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*\(?\s*(select|with)\b", re.IGNORECASE | re.DOTALL)
STATEMENT = re.compile(r"\s*(select|with|insert|update|delete|merge|create|drop|alter|truncate|call|export)\b", re.I)
NOT_FILES = frozenset({"sql", "bigquery", "process", "mail", "database", "mlflow", "wandb", "aws", "storage"})
MOST = 5000
"""More files than this are not counted."""
DEPTH = 4
"""How deep calls of notebook functions are followed."""


@dataclass(frozen=True)
class Access:
    """One thing that the notebook would read, write, send or start."""

    cell: int
    line: int
    kind: str  # "csv", "bigquery", "model", "http", "process", ...
    target: str | None  # path, table, address or command; None where only running it would tell
    exists: bool | None = None  # of local paths
    bytes: int | None = None


@dataclass
class Survey:
    """Goes through the statements in their order, keeping what is constant."""

    folder: Path
    cell: int = 0
    reads: list[Access] = field(default_factory=list)
    writes: list[Access] = field(default_factory=list)
    sends: list[Access] = field(default_factory=list)
    runs: list[Access] = field(default_factory=list)
    fits: Fits = field(default_factory=Fits)
    functions: dict[str, tuple[int, ast.FunctionDef]] = field(default_factory=dict)
    classes: set[str] = field(default_factory=set)  # of the notebook; what their methods fit is counted once
    times: int = 1
    vague: bool = False  # in a loop of unknown length
    depth: int = 0
    turns: int = 2000  # of loops that are still followed one by one

    def __post_init__(self) -> None:
        self.known = Constants(self.folder)

    def _body(self, nodes: Iterable[ast.stmt]) -> None:
        for node in nodes:
            self.statement(node)

    def statement(self, node: ast.stmt) -> None:
        """Go through one statement of the cell that is set."""
        match node:
            case ast.Import() | ast.ImportFrom():
                self.known.imported(node)
            case ast.FunctionDef(name=name):
                self.functions[name] = (self.cell, node)
            case ast.ClassDef(name=name, body=parts):
                self.classes.add(name)
                self._methods(parts)
            case ast.For():
                self._loop(node)
            case ast.If(test=test):
                self._expression(test)
                told = self.known.fold(test)
                self._body([*(node.body if told is UNKNOWN or told else []),
                           *(node.orelse if told is UNKNOWN or not told else [])])  # fmt: skip
            case ast.Try():
                self._body([*node.body, *(s for h in node.handlers for s in h.body), *node.orelse, *node.finalbody])
            case ast.With(items=items):
                for item in items:
                    self._expression(item.context_expr)
                self._body(node.body)
            case ast.While(body=body, test=test):
                self._expression(test)
                with self._repeated(None):
                    self._body(body)
            case _:
                self._simple(node)

    def _simple(self, node: ast.stmt) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._expression(child)
        if isinstance(node, ast.Assign):
            value = self.known.fold(node.value)
            for target in node.targets:
                self.known.assign(target, (made(node.value, self.known) or UNKNOWN) if value is UNKNOWN else value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self.known.assign(node.target, self.known.fold(node.value))
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            joined = ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value)
            self.known.assign(node.target, self.known.fold(joined))

    def _methods(self, parts: Iterable[ast.stmt]) -> None:
        """Look into a class of the notebook once, not knowing who calls what."""
        for part in parts:
            if isinstance(part, ast.FunctionDef):
                with self._inside([arg.arg for arg in part.args.args], {}):
                    self._body(part.body)

    def _loop(self, node: ast.For) -> None:
        self._expression(node.iter)
        items = self._followed(node.iter)
        for item in items or ():
            self.known.assign(node.target, item)
            self._body(node.body)
        if items is None:
            self.known.assign(node.target, UNKNOWN)
            with self._repeated(self.known.length(node.iter) or self._folds(node.iter)):
                self._body(node.body)
        self._body(node.orelse)

    def _followed(self, node: ast.expr) -> list[Any] | None:
        """Give a loop's items where it is followed one by one: they are known, and not too many in all."""
        items = self.known.fold(node)
        if not isinstance(items, list | tuple | dict | range) or len(items) > min(MANY, self.turns):
            return None
        self.turns -= len(items)
        return list(items)

    def _folds(self, node: ast.expr) -> int | None:
        """Say how many parts `kf.split(X)` gives, where `kf` is known."""
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "split"):
            return self._folds(node.args[0]) if isinstance(node, ast.Call) and node.args else None
        maker = made(node.func.value, self.known)
        return maker.folds(self.known) if maker else None

    @contextmanager
    def _repeated(self, times: int | None) -> Iterator[None]:
        before = self.times, self.vague
        self.times, self.vague = self.times * (times or 1), self.vague or times is None
        yield
        self.times, self.vague = before

    @contextmanager
    def _inside(self, names: Iterable[str], given: dict[str, Any]) -> Iterator[None]:
        """Go into a function: its parameters hide the notebook's names."""
        before, self.depth = self.known, self.depth + 1
        values = {**before.values, **dict.fromkeys(names, UNKNOWN), **given}
        self.known = Constants(self.folder, values, dict(before.modules))
        yield
        self.known, self.depth = before, self.depth - 1

    def _expression(self, node: ast.AST) -> None:
        if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp) and len(node.generators) == 1:
            return self._comprehension(node)
        if isinstance(node, ast.Lambda):
            return None
        for child in ast.iter_child_nodes(node):
            self._expression(child)
        if isinstance(node, ast.Call):
            self._call(node)
        return None

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp) -> None:
        loop = node.generators[0]
        self._expression(loop.iter)
        items = self._followed(loop.iter)
        for item in [UNKNOWN] if items is None else items:
            with self._inside([], {}), self._repeated(self.known.length(loop.iter) if items is None else 1):
                self.known.assign(loop.target, item)
                self._expression(node.elt)

    def _call(self, node: ast.Call) -> None:
        name = self.known.dotted(node.func)
        own = self.functions.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if own is not None and self.depth < DEPTH:
            return self._called(node, *own)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if method in IN_PLACE and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            self._changed(node.func.value)
        maker = made(node.func.value, self.known) if isinstance(node.func, ast.Attribute) else None
        if maker is None or maker.name not in self.classes:
            self.fits = self.fits.plus(self.cell, fits_of(node, name, self.known) * self.times, self.vague)
        if name in RUNNERS:
            self.runs.append(self._access(node, self._target(node, RUNNERS[name]), RUNNERS[name].kind))
        if name in SENDERS:
            self.sends.append(self._access(node, self._target(node, SENDERS[name]), SENDERS[name].kind))
        if name == "open" or (method == "open" and isinstance(self._held(node), PurePath)):
            return self._opened(node, method)
        if method == "query" and self._bigquery(node):
            return self._query(node)
        return self._reads_or_writes(node, name, method)

    def _changed(self, name: ast.Name) -> None:
        """Forget a list or dict that a method changes; what only its maker is known of stays known."""
        if isinstance(self.known.fold(name), list | dict):
            self.known.assign(name, UNKNOWN)

    def _called(self, node: ast.Call, cell: int, function: ast.FunctionDef) -> None:
        """Follow a call of a notebook function with what is known of its arguments."""
        names = [arg.arg for arg in [*function.args.args, *function.args.kwonlyargs]]
        defaults = function.args.defaults
        given = dict(
            zip(names[len(function.args.args) - len(defaults) :], map(self.known.fold, defaults), strict=False)
        )
        given |= {name: self.known.fold(value) for name, value in zip(names, node.args, strict=False)}
        given |= {word.arg: self.known.fold(word.value) for word in node.keywords if word.arg}
        before, self.cell = self.cell, cell
        with self._inside(names, given):
            self._body(function.body)
        self.cell = before

    def _opened(self, node: ast.Call, method: str) -> None:
        place = Place("file", -1 if method else 0, "file")
        words = {word.arg: word.value for word in node.keywords}
        given = words.get("mode") or next(iter(node.args[place.position + 1 :]), None)
        writing = given is not None and any(mark in str(self.known.fold(given)) for mark in "wax+")
        (self.writes if writing else self.reads).append(self._access(node, self._target(node, place), "file"))

    def _reads_or_writes(self, node: ast.Call, name: str, method: str) -> None:
        reader = READERS.get(name) or (READER_METHODS.get(method) if name not in WRITERS else None)
        writer = WRITERS.get(name) or WRITER_METHODS.get(method)
        module, _, last = name.rpartition(".")
        if module == "sklearn.datasets":
            fetched = last in DOWNLOADED
            self.reads.append(Access(self.cell, node.lineno, "dataset", last))
            self.sends += [Access(self.cell, node.lineno, "http", last)] if fetched else []
        elif reader is not None and (place := self._given(node, reader)) is not None:
            self.reads.append(self._access(node, place, reader.kind))
        elif writer is not None and (place := self._given(node, writer)) is not None:
            self.writes.append(self._access(node, place, writer.kind))
            if writer.kind == "upload":
                self.sends.append(self._access(node, place, writer.kind))

    def _given(self, node: ast.Call, place: Place) -> Any:
        """Give a call's target, UNKNOWN where it can't be told, None where there is none: `to_csv()` writes nothing."""
        words = {word.arg: word.value for word in node.keywords}
        if place.position == 9 and place.keyword not in words:
            return None
        if place.position >= 0 and len(node.args) <= place.position and place.keyword not in words:
            return None
        return self._target(node, place)

    def _target(self, node: ast.Call, place: Place) -> Any:
        words = {word.arg: word.value for word in node.keywords}
        if place.keyword in words:
            return self.known.fold(words[place.keyword])
        if place.position == -1:
            return self._held(node)
        return self.known.fold(node.args[place.position]) if len(node.args) > place.position else UNKNOWN

    def _held(self, node: ast.Call) -> Any:
        return self.known.fold(node.func.value) if isinstance(node.func, ast.Attribute) else UNKNOWN

    def _bigquery(self, node: ast.Call) -> bool:
        """Say whether `x.query(...)` asks BigQuery: a frame has such a method too."""
        if not isinstance(node.func, ast.Attribute):
            return False
        maker = made(node.func.value, self.known)
        sql = self.known.fold(node.args[0]) if node.args else UNKNOWN
        said = isinstance(sql, str) and STATEMENT.match(sql) is not None
        return said or (maker is not None and "bigquery" in maker.name)

    def _query(self, node: ast.Call) -> None:
        sql = self.known.fold(node.args[0]) if node.args else UNKNOWN
        tables = ", ".join(dict.fromkeys(SQL_TABLE.findall(sql))) if isinstance(sql, str) else ""
        access = Access(self.cell, node.lineno, "bigquery", tables or (sql if isinstance(sql, str) else None))
        (self.reads if not isinstance(sql, str) or SELECT.match(sql) else self.writes).append(access)
        self.sends.append(Access(self.cell, node.lineno, "bigquery", "bigquery.googleapis.com"))

    def _access(self, node: ast.Call, target: Any, kind: str) -> Access:
        """Say what is at a target, where it is a path of this machine."""
        if isinstance(target, list | tuple) and target and all(isinstance(part, str) for part in target):
            target = " ".join(target)
        if not isinstance(target, str | PurePath):
            return Access(self.cell, node.lineno, kind, None)
        text = str(target)
        if kind in NOT_FILES:
            tables = SQL_TABLE.findall(text) if SELECT.match(text) else []
            return Access(self.cell, node.lineno, kind, ", ".join(dict.fromkeys(tables)) or text)
        if "://" in text and kind != "http":
            self.sends.append(Access(self.cell, node.lineno, urlsplit(text).scheme, _host(text)))
        if "://" in text or kind == "http":
            return Access(self.cell, node.lineno, kind, without_secrets(text))
        return Access(self.cell, node.lineno, kind, text, *_at(self.folder, text))


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def without_secrets(url: str) -> str:
    """Leave out of an address what may be a password or a token: it is printed."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, _host(url), parts.path, "..." if parts.query else "", ""))


def _at(folder: Path, text: str) -> tuple[bool, int | None]:
    """Say whether a path, a folder or a pattern is there, and its bytes."""
    path = folder / os.path.expanduser(text)  # noqa: PTH111  a tilde alone
    if any(mark in text for mark in "*?["):
        found = [folder / name for name in found_files(folder, text)]
    else:
        found = list(islice(path.rglob("*"), MOST)) if path.is_dir() else [path]
    there = [part for part in found if part.is_file()]
    return bool(there) or path.is_dir(), sum(part.stat().st_size for part in there) if there else None
