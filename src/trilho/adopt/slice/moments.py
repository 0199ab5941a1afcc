"""The column that says when a row happened, and the one that names it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from trilho.adopt.slice.history import History, Place, argument_of, called_name, calls_in
from trilho.adopt.slice.origin import constant
from trilho.adopt.slice.tables import column_values, is_key, table_columns, times_of
from trilho.adopt.trace import Fit, Read

KEY = re.compile(r"(?i)(^|_)(id|key|uuid|guid|codigo|cod|chave|protocolo|matricula|cpf|cnpj|number|numero|no)($|_)")
ORDERS = {"sort_values", "set_index", "resample", "sort_index"}


@dataclass(frozen=True)
class Moment:
    """A column of times of the main table."""

    column: str  # as the notebook calls the column that was read
    name: str = ""  # under which the notebook has it as times, where that is another
    statement: int | None = None  # that parses it
    shape: str = ""  # of its texts, as strptime has it
    day_first: bool = False


def find_moments(history: History, main: Read) -> list[Moment]:
    """Find the columns of times of the table that is served: read as such, or parsed from a column of it."""
    columns, dtypes = table_columns(history, main), main.value.dtypes or []
    found = {c: Moment(c, c) for c, d in zip(columns, dtypes, strict=False) if d.startswith("datetime")}
    for column in _read_as_times(main):
        if column in columns:
            found.setdefault(column, Moment(column, column))
    for moment in _parsed(history, set(columns)):
        found.setdefault(moment.column, moment)
    return list(found.values())


def pick_moment(history: History, moments: list[Moment], split_code: str, fit: Fit) -> Moment | None:
    """Pick the column that orders or splits the rows, else the only one."""
    for names in (_words(split_code), _ordering(history, fit)):
        chosen = [m for m in moments if m.column in names or m.name in names]
        if chosen:
            return chosen[0]
    return moments[0] if len(moments) == 1 else None


def moment_times(history: History, scratch: Path | None, main: Read, moment: Moment) -> list[datetime]:
    """Give the times of all rows of the main table, in their order."""
    if scratch is None:
        return []
    read = dict(zip(table_columns(history, main), main.value.columns or [], strict=False))
    return times_of(
        column_values(scratch, main, read.get(moment.column, moment.column)), moment.shape, day_first=moment.day_first
    )


def find_key(scratch: Path | None, main: Read, taken: set[str]) -> str:
    """Find the column that names each row once, among those that are called like one."""
    if scratch is None:
        return ""
    columns = zip(main.value.columns or [], main.value.dtypes or [], strict=False)
    for column, dtype in columns:
        called = KEY.search(column) or re.search(r"[a-z](Id|ID)$", column)
        if column not in taken and called and not dtype.startswith("float"):
            values = column_values(scratch, main, column)
            if is_key(values) and len(values) == main.value.rows:
                return column
    return ""


def _read_as_times(main: Read) -> Iterator[str]:
    yield from re.findall(r"['\"]([^'\"]+)['\"]", main.arguments.get("parse_dates", ""))
    if main.arguments.get("parse_dates", "").strip() == "True":
        yield from re.findall(r"['\"]([^'\"]+)['\"]", main.arguments.get("index_col", ""))


def _parsed(history: History, columns: set[str]) -> Iterator[Moment]:
    """Give what `df["t"] = pd.to_datetime(df["date"])` parses."""
    for statement in history.notebook.statements:
        place = Place(statement.id, statement.cell)
        for node in ast.walk(statement.node):
            if not isinstance(node, ast.Assign):
                continue
            for call in calls_in(node.value):
                if called_name(call) not in ("to_datetime", "astype", "strptime"):
                    continue
                if called_name(call) == "astype" and not (call.args and "datetime" in ast.unparse(call.args[0])):
                    continue
                for column in _keys(history, call, place) & columns:
                    target = _keys(history, node.targets[0], place)
                    shape = argument_of(call, -1, "format")
                    told = constant(history, shape, place) if shape is not None else None
                    first = argument_of(call, -1, "dayfirst")
                    day_first = isinstance(first, ast.Constant) and bool(first.value)
                    named = next(iter(target), column)
                    yield Moment(column, named, statement.id, told if isinstance(told, str) else "", day_first)


def _keys(history: History, node: ast.AST, place: Place) -> set[str]:
    found = set[str]()
    for part in ast.walk(node):
        if isinstance(part, ast.Subscript):
            told = constant(history, part.slice, place)
            found |= {told} if isinstance(told, str) else set()
        elif isinstance(part, ast.Attribute):
            found.add(part.attr)
    return found


def _ordering(history: History, fit: Fit) -> set[str]:
    """Give the columns that the rows of a fit were put in order by."""
    found = set[str]()
    for id_ in history.made_of(fit):
        statement = history.statements.get(id_)
        for call in calls_in(statement.node) if statement is not None else ():
            if called_name(call) in ORDERS:
                found |= {n.value for n in ast.walk(call) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return found


def _words(code: str) -> set[str]:
    return set(re.findall(r"\w+", code))
