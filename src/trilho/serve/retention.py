"""Rows that are deleted: those that are old, by whole files, and those of one person, wherever they are.

What goes together (files, places in the index, labels) goes in one transaction a day. Lines that were sealed long ago
may still stand in the file of a server that runs; they are blanked there.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from trilho.errors import TrilhoError, Unreachable
from trilho.serve.columns import named, quoted, union
from trilho.serve.index import Index
from trilho.serve.intake import DAY_SECONDS
from trilho.serve.lines import NAME, erase
from trilho.serve.partitions import Part, Partitions
from trilho_runtime.prediction.mask import canonical_text

INCREMENTAL = 2
PAGES_AT_ONCE = 100_000
Lines = Callable[[], list[tuple[Path, int]]]
DELETIONS = {
    "by id": "DELETE FROM truths WHERE ref IN ("
    "SELECT 'id:' || id FROM predictions WHERE row IN (SELECT row FROM temp.gone))",
    "by key": "DELETE FROM truths WHERE ref IN ("
    "SELECT 'key:' || key FROM predictions p WHERE row IN (SELECT row FROM temp.gone) AND key IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM predictions o WHERE o.key = p.key AND o.row NOT IN (SELECT row FROM temp.gone)))",
    "labels": "DELETE FROM labels WHERE row IN (SELECT row FROM temp.gone)",
    "corrections": "DELETE FROM corrections WHERE row IN (SELECT row FROM temp.gone)",
    "attempts": "DELETE FROM attempts WHERE row IN (SELECT row FROM temp.gone)",
    "rows": "DELETE FROM predictions WHERE row IN (SELECT row FROM temp.gone)",
}


def expire(partitions: Partitions, before: float, lines: Lines) -> dict[str, int]:
    """Delete the files whose rows are all older than a moment, day by day, and what else is known of those rows."""
    counted: Counter[str] = Counter()
    end = before // DAY_SECONDS * DAY_SECONDS
    found = partitions.parts("day IS NOT NULL AND last < ? AND coalesce(served, last) < ?", (end, before))
    for (kind, day), group in groupby(sorted(found, key=_of), _of):
        counted.update(_drop(partitions, kind, str(day), list(group)))
    with partitions.database.write() as connection:
        old = connection.execute("DELETE FROM truths WHERE met = 0 AND at < ?", (before,))
        counted["unknown labels"] += old.rowcount
    counted["lines"] += _blank(partitions, [(path, size) for path, size in lines() if _started(path) < end])
    if counted["rows"] or old.rowcount:
        _shrink(partitions)
    return {name: n for name, n in counted.items() if n}


def _of(part: Part) -> tuple[str, str | None]:
    return part.kind, part.day


def _drop(partitions: Partitions, kind: str, day: str, group: list[Part]) -> Counter[str]:
    counted = Counter({"files": len(group), "bytes": sum(part.bytes or 0 for part in group)})
    with partitions.database.write() as connection:
        partitions.settle(connection, durably=True)
        if kind == "segments":
            index = Index(connection)
            counted += _delete(index, _rows_of(partitions, group))
            index.counted["expired"] += counted["rows"]
            index.count()
        elif kind == "shadow":
            counted["shadow"] += sum(part.rows for part in group)
        partitions.replace(connection, kind, day, {"": group}, at=time.time())
    with partitions.database.write() as connection:
        partitions.settle(connection)
    return counted


def _rows_of(partitions: Partitions, group: Iterable[Part], where: str = "true") -> Iterable[Sequence[int]]:
    for part in group:
        query = f"SELECT _row FROM {partitions.union([part])} WHERE {where}"  # noqa: S608
        yield partitions.tables.fetch(query)["_row"].tolist()


def _delete(index: Index, rows: Iterable[Sequence[int]]) -> Counter[str]:
    """Delete rows and their labels from the index; their numbers are never given again."""
    connection = index.connection
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS gone (row INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM temp.gone")
    for part in rows:
        connection.executemany("INSERT OR IGNORE INTO temp.gone VALUES (?)", ((row,) for row in part))
    index.mark("row", index.next_row() - 1)
    index.mark("seq", index.next_number("seq", "SELECT max(seq) FROM labels") - 1)
    index.mark("correction", index.next_number("correction", "SELECT max(seq) FROM corrections") - 1)
    counted = {name: connection.execute(query).rowcount for name, query in DELETIONS.items()}
    connection.execute("DELETE FROM temp.gone")
    return Counter({name: counted[name] for name in ("rows", "labels")})


def forget(partitions: Partitions, field: str, value: Any, on: Sequence[str], lines: Lines) -> int:
    """Delete the rows whose field has a value from files, index and lines, so that nothing of them is on the disk."""
    where = f"CAST({named(field)} AS VARCHAR) IN ({', '.join(quoted(text) for text in _texts(value))})"
    counted: Counter[str] = Counter()
    found = partitions.parts("kind IN ('segments', 'shadow') AND day IS NOT NULL")
    for (kind, day), group in groupby(sorted(found, key=_of), _of):
        holding = [part for part in group if _holds(partitions, part, field, where)]
        if holding:
            counted[kind] += _rewrite(partitions, kind, str(day), holding, where)
    with partitions.database.write() as connection:
        if field in on:
            _forget_labels(connection, on.index(field), canonical_text(value))
        connection.execute("UPDATE retired SET at = 0")
        partitions.settle(connection)
        partitions.purge(connection)
    _blank(partitions, lines())
    partitions.database.read("PRAGMA wal_checkpoint(TRUNCATE)")
    if any(size and _has_text(path, size) for path, size in lines()):
        fact = (
            f"{partitions.folder}: another process reads the log, and lines that were sealed still stand in open files"
        )
        raise Unreachable(fact, hint="the rows are deleted; repeat it for the lines")
    return counted["segments"]


def _texts(value: Any) -> list[str]:
    """Give the texts under which a value may stand in a file."""
    texts = [str(value), canonical_text(value)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        texts.append(str(float(value)))
    return list(dict.fromkeys(texts))


def _holds(partitions: Partitions, part: Part, field: str, where: str) -> bool:
    file = union([partitions.path(part)])
    columns = partitions.tables.fetch(f"SELECT column_name FROM (DESCRIBE SELECT * FROM {file})")  # noqa: S608
    if field not in columns["column_name"].tolist():
        return False
    found = partitions.tables.fetch(f"SELECT count(*) AS n FROM {file} WHERE {where}")  # noqa: S608
    return bool(found["n"][0])


def _rewrite(partitions: Partitions, kind: str, day: str, parts: list[Part], where: str) -> int:
    rows = list(_rows_of(partitions, parts, where))
    with partitions.database.write() as connection:
        connection.execute("PRAGMA secure_delete=ON")
        partitions.settle(connection, durably=True)
        if kind == "segments":
            index = Index(connection)
            index.counted["forgotten"] += _delete(index, rows)["rows"]
            index.count()
        queries = {
            f"SELECT * FROM {partitions.union([part])} WHERE NOT coalesce({where}, false) ORDER BY _time, _row": [part]  # noqa: S608
            for part in parts
        }
        partitions.replace(connection, kind, day, queries, at=0)
    with partitions.database.write() as connection:
        partitions.settle(connection)
        partitions.purge(connection)
    return sum(map(len, rows))


def _forget_labels(connection: sqlite3.Connection, place: int, text: str) -> None:
    """Delete the labels whose key has a text at a place, those that wait for their prediction among them."""
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute(
        "DELETE FROM truths WHERE ref GLOB 'key:*' AND json_extract(substr(ref, 5), ?) = ?", (f"$[{place}]", text)
    )


def _started(path: Path) -> float:
    match = NAME.fullmatch(path.name)
    return int(match[2]) / 1000 if match else float("inf")


def _blank(partitions: Partitions, lines: Iterable[tuple[Path, int]]) -> int:
    """Blank the sealed lines of files that servers still write to, once the log is on the disk; give how many files."""
    files = [(path, size) for path, size in lines if size and _has_text(path, size)]
    if not files or partitions.database.read("PRAGMA wal_checkpoint(FULL)")[0][0]:
        return 0
    for path, size in files:
        erase(path, size)
    return len(files)


def _has_text(path: Path, size: int) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(max(size - 2, 0))
            return bool(file.read(1).strip())
    except FileNotFoundError:
        return False


def _shrink(partitions: Partitions) -> None:
    """Give the index's free pages back to the disk, some at a time."""
    database = partitions.database
    try:
        if database.read("PRAGMA auto_vacuum")[0][0] != INCREMENTAL:  # made by an older version: once
            database.read(f"PRAGMA auto_vacuum={INCREMENTAL}")
            database.read("VACUUM")
        with database.write() as connection:
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
            for _ in range(min(free, PAGES_AT_ONCE)):
                connection.execute("PRAGMA incremental_vacuum(1)")
    except TrilhoError:
        return  # a full disk, or another process: the pages are used again all the same
