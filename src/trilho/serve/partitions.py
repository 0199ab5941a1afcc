"""Parquet files by day, of which a reader of the folder sees all rows once, whatever is written, merged or killed.

    KIND/day=2024-05-01/g3/000000000017-9f2c11d0.parquet

What counts is the list in SQLite. A file is written elsewhere, listed together with the move that puts it in place, and
moved once that transaction is committed; a move that a killed process left is made by the next one. A day's files are
replaced (merged, or rid of rows) as a whole generation: a folder with the new one takes the day's place in one step,
in which the old one is a symbolic link to where its files lie now. Listings pass links by, so a new reader of
`KIND/**/*.parquet` sees the new files only; one that listed the old ones a moment ago still finds each by its name.
One that is listing the day's folder in the very microseconds of the exchange may miss that day in that one look; no
reader sees a row twice, or half a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from trilho.core.database import Database
from trilho.serve.columns import Tables, union
from trilho.serve.exchange import exchange

GRACE_SECONDS = 60.0
MOST_MOVES = 500
DRAFTS, RETIRED = "drafts", "retired"
KINDS = ("segments", "shadow", "truths")
FLAT = "segments"
"""The kind whose files once lay in one folder, with no days."""


@dataclass(frozen=True)
class Part:
    """One listed file."""

    name: str  # below its kind's folder
    kind: str
    day: str | None  # None: of the time before there were days
    rows: int
    first: float
    last: float
    served: float | None  # when the last of its rows was served
    sealed: float | None
    bytes: int | None
    digest: str | None

    @property
    def place(self) -> str:
        """Where it lies in the log's folder."""
        return f"{self.kind}/{self.name}"


COLUMNS = "name, kind, day, rows, first, last, served, sealed, bytes, digest"


class Partitions:
    """The files of one log. What changes them is given the connection of a write transaction."""

    def __init__(self, folder: Path, database: Database, tables: Tables) -> None:
        self.folder, self.database, self.tables = folder, database, tables
        self._moved: set[str] = set()

    def parts(self, where: str = "1", values: tuple[Any, ...] = ()) -> list[Part]:
        """Give the listed files that a condition holds for, by name."""
        query = f"SELECT {COLUMNS} FROM segments WHERE {where} ORDER BY name"  # noqa: S608
        return [Part(*row) for row in self.database.read(query, values)]

    def path(self, part: Part) -> Path:
        """Give where a listed file lies."""
        return self.folder / part.kind / part.name

    def union(self, parts: Iterable[Part]) -> str:
        """Give the SQL for several files as one table."""
        return union(self.path(part) for part in parts)

    # ---- adding ----------------------------------------------------------------------------------------------------

    def add(
        self,
        connection: sqlite3.Connection,
        kind: str,
        day: str,
        columns: Mapping[str, NDArray[Any]],
        *,
        number: int,
        span: tuple[float, float],
        served: float,
    ) -> None:
        """Write rows as a file of a day; it is in its place from the next `settle` on."""
        draft = self._draft()
        self.tables.write(columns, draft)
        rows = len(next(iter(columns.values())))
        self._place(connection, kind, day, draft, rows=rows, number=number, span=span, served=served)

    def add_query(
        self,
        connection: sqlite3.Connection,
        kind: str,
        day: str,
        query: str,
        *,
        rows: int,
        number: int,
        span: tuple[float, float],
        served: float,
    ) -> None:
        """Write a query's rows as a file of a day, as `add` does."""
        draft = self._draft()
        self.tables.copy(query, draft)
        self._place(connection, kind, day, draft, rows=rows, number=number, span=span, served=served)

    def _place(
        self,
        connection: sqlite3.Connection,
        kind: str,
        day: str,
        draft: Path,
        *,
        rows: int,
        number: int,
        span: tuple[float, float],
        served: float,
    ) -> None:
        name = f"day={day}/g{self.generation(connection, kind, day)}/{number:012d}-{uuid.uuid4().hex[:8]}.parquet"
        self._list(connection, Part(name, kind, day, rows, *span, served, time.time(), *_measured(draft)))
        connection.execute("INSERT INTO moves VALUES (?, ?, NULL)", (f"{kind}/{name}", f"{DRAFTS}/{draft.name}"))

    def generation(self, connection: sqlite3.Connection, kind: str, day: str) -> int:
        """Give a day's generation; 1 for a new day."""
        query = "SELECT generation FROM days WHERE kind = ? AND day = ?"
        found = connection.execute(query, (kind, day)).fetchone()
        return int(found[0]) if found else 1

    def _draft(self) -> Path:
        (self.folder / DRAFTS).mkdir(parents=True, exist_ok=True)
        return self.folder / DRAFTS / f"{uuid.uuid4().hex}.draft"

    def _list(self, connection: sqlite3.Connection, part: Part) -> None:
        values = tuple(getattr(part, name.strip()) for name in COLUMNS.split(","))
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO segments ({COLUMNS}) VALUES ({marks})", values)  # noqa: S608

    # ---- replacing -------------------------------------------------------------------------------------------------

    def replace(
        self, connection: sqlite3.Connection, kind: str, day: str, queries: Mapping[str, Sequence[Part]], *, at: float
    ) -> None:
        """Put a query's rows in the place of some of a day's files, each of which a query stands for; "" is nothing.

        The old files are kept until `GRACE_SECONDS` after `at`. Nothing else may be moved to the day in between: the
        transaction is to be followed by `settle`.
        """
        old = self.generation(connection, kind, day)
        folder = self.folder / RETIRED / uuid.uuid4().hex
        fresh, place = folder / f"g{old + 1}", self.folder / kind / f"day={day}"
        fresh.mkdir(parents=True)
        gone = {part.name for parts in queries.values() for part in parts}
        new = [made for query, parts in queries.items() if query and (made := self._rewrite(query, parts, fresh))]
        kept = [part for part in self._of_day(connection, kind, day) if part.name not in gone]
        for part in kept:
            _link(self.path(part), fresh / Path(part.name).name)
            name = f"day={day}/g{old + 1}/{Path(part.name).name}"
            connection.execute("UPDATE segments SET name = ? WHERE name = ?", (name, part.name))
        connection.executemany("DELETE FROM segments WHERE name = ?", [(name,) for name in gone])
        for part in new:
            self._list(connection, part)
        _sync(fresh)
        if not (new or kept):
            fresh.rmdir()
        self._link_old(place, folder, f"g{old}")
        values = (kind, day, old + 1)
        connection.execute("INSERT OR REPLACE INTO days VALUES (?, ?, ?)", values)
        where = f"{RETIRED}/{folder.name}"
        connection.execute("INSERT INTO moves VALUES (?, ?, ?)", (f"{kind}/day={day}", where, f"g{old}"))
        connection.execute("INSERT INTO retired VALUES (?, ?, ?)", (where, f"{kind}/day={day}/g{old}", at))

    def _of_day(self, connection: sqlite3.Connection, kind: str, day: str) -> list[Part]:
        query = f"SELECT {COLUMNS} FROM segments WHERE kind = ? AND day = ?"  # noqa: S608
        return [Part(*row) for row in connection.execute(query, (kind, day))]

    def _rewrite(self, query: str, parts: Sequence[Part], folder: Path) -> Part | None:
        """Write a query's rows; None where it has none."""
        path = folder / f"{Path(parts[0].name).name.partition('-')[0]}-{uuid.uuid4().hex[:8]}.parquet"
        self.tables.copy(query, path)
        ends = "min(_time), max(_time)" if parts[0].kind != "truths" else "NULL, NULL"
        found = self.tables.fetch(f"SELECT count(*) AS n, {ends} FROM {union([path])}")  # noqa: S608
        rows, first, last = (column[0] for column in found.values())
        if not rows:
            path.unlink()
            return None
        span = (float(first), float(last)) if ends[0] == "m" else (parts[0].first, parts[-1].last)
        served = [part.served for part in parts if part.served is not None]
        day, kind = parts[0].day, parts[0].kind
        name = f"day={day}/{folder.name}/{path.name}"
        return Part(name, kind, day, int(rows), *span, max(served, default=None), time.time(), *_measured(path))

    def _link_old(self, place: Path, folder: Path, old: str) -> None:
        """Let the names of a day's old generation, and of those before it, be found in the day's next folder."""
        (folder / old).symlink_to(Path("..", "..", RETIRED, folder.name, old), target_is_directory=True)
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(place):
                if entry.is_symlink():
                    (folder / entry.name).symlink_to(Path(entry.path).readlink(), target_is_directory=True)

    # ---- moving ----------------------------------------------------------------------------------------------------

    def settle(self, connection: sqlite3.Connection, *, durably: bool = False) -> None:
        """Make the moves that committed transactions ask for, also those of a process that was killed before.

        A day's own move comes before those into it. All are remembered until they are on the disk, which is waited for
        `durably`, or when they are many.
        """
        moves = connection.execute("SELECT place, draft, link FROM moves ORDER BY place").fetchall()
        for place, draft, link in moves:
            if place not in self._moved:
                self._move(self.folder / place, self.folder / draft, link)
                self._moved.add(place)
        if moves and (durably or len(moves) > MOST_MOVES or any(link is not None for _, _, link in moves)):
            for folder in {above for place, _, _ in moves for above in _above(place)}:
                _sync(self.folder / folder)
            connection.execute("DELETE FROM moves")
            self._moved.clear()

    def _move(self, place: Path, draft: Path, link: str | None) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        if link is None:
            with contextlib.suppress(FileNotFoundError):  # it was moved
                draft.replace(place)
        elif not (place / link).is_symlink():
            if place.exists():
                exchange(place, draft)
            else:
                draft.rename(place)

    def sweep(self, connection: sqlite3.Connection) -> None:
        """Remove what a killed process left unlisted. To be called after `settle`."""
        _clear(self.folder / DRAFTS, set())
        kept = {folder.rpartition("/")[2] for (folder,) in connection.execute("SELECT folder FROM retired")}
        _clear(self.folder / RETIRED, kept)
        listed = {name for (name,) in connection.execute("SELECT name FROM segments WHERE day IS NULL")}
        for path in (self.folder / FLAT).glob("*"):
            if not path.is_dir() and path.name not in listed:
                path.unlink(missing_ok=True)

    def purge(self, connection: sqlite3.Connection) -> None:
        """Remove what was replaced longer than a while ago. To be called after `settle`."""
        query = "SELECT folder, link FROM retired WHERE at < ?"
        for folder, link in connection.execute(query, (time.time() - GRACE_SECONDS,)).fetchall():
            path = self.folder / link
            if path.is_symlink():
                path.unlink()
            with contextlib.suppress(OSError):  # other files are in it, or other links
                path.parent.rmdir()
            shutil.rmtree(self.folder / folder, ignore_errors=True)
            connection.execute("DELETE FROM retired WHERE folder = ?", (folder,))

    # ---- health ----------------------------------------------------------------------------------------------------

    def damaged(self, parts: Iterable[Part]) -> list[str]:
        """Name the files that are gone, or not what was written."""
        return [part.place for part in parts if not self._is_whole(part)]

    def _is_whole(self, part: Part) -> bool:
        try:
            size, digest = _measured(self.path(part))
        except OSError:
            return False
        if part.digest is not None:
            return (size, digest) == (part.bytes, part.digest)
        return size > 12 and self.path(part).read_bytes()[-4:] == b"PAR1"


def _measured(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def _link(source: Path, to: Path) -> None:
    try:
        os.link(source, to)
    except OSError:  # no hard links here
        shutil.copy2(source, to)


def _above(place: str) -> list[str]:
    """Give the folders that a move changes, below the log's own.

    >>> _above("segments/day=2024-05-01/g1/a.parquet")
    ['segments/day=2024-05-01/g1', 'segments/day=2024-05-01', 'segments', '']
    """
    parts = place.split("/")
    return ["/".join(parts[:n]) for n in range(len(parts) - 1, -1, -1)]


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _clear(folder: Path, kept: set[str]) -> None:
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.name in kept:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
