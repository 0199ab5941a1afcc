"""Rows of the log shown a few at a time: whoever adds them up needs the memory of some, not of all.

A night's batch lies in one window. Ten million rows of thirty columns are gigabytes as arrays; what the watcher makes
of them is a few counts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho.core.database import Database
from trilho.core.ports import Columns, Gathered, Gathering
from trilho.serve.columns import Tables, quoted, union
from trilho.serve.partitions import Part, Partitions
from trilho.serve.truth import joined

ROWS_AT_ONCE = 50_000
SPREAD = 4  # row numbers a piece may lie among, for each of its rows, to be looked up as one stretch
NEEDED = ("_row", "_time", "_version", "_prediction")
SPAN = "SELECT min(time), max(time) FROM predictions WHERE row > ? AND time >= ? AND time < ?"
IN_STRETCH = "SELECT row, value FROM labels WHERE row >= ? AND row <= ?"
ONE_BY_ONE = "SELECT row, value FROM labels WHERE row IN (SELECT value FROM json_each(?))"


@dataclass(frozen=True)
class Piece:
    """Whole files, or some rows of one."""

    parts: Sequence[Part]
    rows: tuple[int, int] | None = None


@dataclass(frozen=True)
class Wanted:
    """Which rows: of a span of event time, arrived after one; and which raw fields of them, None for all."""

    span: tuple[float, float]
    after: int = 0
    fields: Collection[str] | None = None

    def narrowed(self, database: Database) -> Wanted:
        """Give the same rows of no longer a span than they have: those that came late are few, of any time."""
        if not self.after:
            return self
        first, last = (database.read(SPAN, (self.after, *self.span)) or [(None, None)])[0]
        span = (0.0, 0.0) if first is None else (first, math.nextafter(last, math.inf))
        return Wanted(span, self.after, self.fields)


def pieces(parts: Sequence[Part], most: int = ROWS_AT_ONCE) -> Iterator[Piece]:
    """Give files so that none is much to read: small ones together, large ones in stretches of their rows.

    >>> files = [Part(str(n), "segments", "d", n, 0, 0, 0, 0, 0, "") for n in (3, 4, 25, 9, 1)]
    >>> [([part.rows for part in piece.parts], piece.rows) for piece in pieces(files, 10)]
    [([3, 4], None), ([25], (0, 10)), ([25], (10, 20)), ([25], (20, 25)), ([9, 1], None)]
    """
    held: list[Part] = []
    for part in parts:
        if held and sum(one.rows for one in held) + part.rows > most:
            yield Piece(held)
            held = []
        if part.rows <= most:
            held.append(part)
            continue
        for start in range(0, part.rows, most):
            yield Piece([part], (start, min(start + most, part.rows)))
    if held:
        yield Piece(held)


def show_all(
    parts: Sequence[Part], wanted: Wanted, partitions: Partitions, to: Gathered, lock: AbstractContextManager[Any]
) -> Gathered:
    """Show what is wanted of files, piece by piece; others may take the lock between two of them."""
    for piece in pieces(parts):
        with lock:
            show(piece, wanted, partitions, to)
    return to


def show(piece: Piece, wanted: Wanted, partitions: Partitions, to: Gathering) -> None:
    """Read a piece and show it, with what is known of its labels. Raises DataError where a file is gone."""
    rows = read(piece, wanted, partitions, partitions.tables)
    if len(rows["_row"]):
        to.add({**rows, "_value": values_of(np.asarray(rows["_row"], np.int64), partitions.database)})


def read(piece: Piece, wanted: Wanted, partitions: Partitions, tables: Tables) -> Columns:
    """Give a piece's rows that are wanted, in no order."""
    low, high = wanted.span
    where = [f"_time >= {low!r}", f"_time < {high!r}"]
    where += [f"_row > {int(wanted.after)}"] if wanted.after else []
    source = union(partitions.path(part) for part in piece.parts)
    if piece.rows is not None:
        source = f"{source[:-1]}, file_row_number=true)"
        where += [f"file_row_number >= {piece.rows[0]}", f"file_row_number < {piece.rows[1]}"]
    chosen = "*"
    if wanted.fields is not None:
        named = ", ".join(map(quoted, (*NEEDED, *wanted.fields)))
        chosen = f"COLUMNS(lambda one: one IN ({named}))"
    return tables.fetch(f"SELECT {chosen} FROM {source} WHERE {' AND '.join(where)}")  # noqa: S608


def values_of(rows: NDArray[np.int64], database: Database) -> NDArray[Any]:
    """Give the label of each row; NaN where none has come, None where some are no numbers."""
    first, last = int(rows.min()), int(rows.max())
    if last - first < SPREAD * len(rows):
        found = database.read(IN_STRETCH, (first, last))
    else:
        found = database.read(ONE_BY_ONE, (f"[{','.join(map(str, rows.tolist()))}]",))
    return joined(rows, found)
