"""Many small files of a day become one; files of the time before there were days get theirs."""

from __future__ import annotations

import time

from trilho.errors import DataError
from trilho.serve.intake import DAY_SECONDS, day_text
from trilho.serve.partitions import Part, Partitions
from trilho.serve.truth import label_columns

SMALL_ROWS = 20_000
MOST_ROWS = 200_000
MANY_SMALL = 32
COLD_SECONDS = 3600.0
DAYS_AT_ONCE = 20
LABELS_AT_ONCE = 200_000
Group = list[Part]
SMALL = "day IS NOT NULL AND rows < ?"


def compact(partitions: Partitions, passed: set[str]) -> None:
    """Merge the small files of days that have many, or that are at rest; a few days at a time.

    Rows that were served on different days stay apart, so that each can go when it is old. Damaged files are named in
    `passed` and left as they are: whoever reads them is told.
    """
    _purge(partitions)
    for kind, day, groups in _due(partitions, passed)[:DAYS_AT_ONCE]:
        try:
            _merge(partitions, kind, day, groups)
        except DataError:
            found = partitions.damaged(part for group in groups for part in group)
            _sweep(partitions)
            if not found:
                raise
            passed.update(found)


def _merge(partitions: Partitions, kind: str, day: str, groups: list[Group]) -> None:
    names = {part.name for group in groups for part in group}
    with partitions.database.write() as connection:
        partitions.settle(connection, durably=True)
        listed = connection.execute("SELECT name FROM segments WHERE kind = ? AND day = ?", (kind, day))
        if names <= {name for (name,) in listed}:  # else another process has merged them
            queries = {f"SELECT * FROM {partitions.union(group)}": group for group in groups}  # noqa: S608
            partitions.replace(connection, kind, day, queries, at=time.time())
    with partitions.database.write() as connection:
        partitions.settle(connection)


def _sweep(partitions: Partitions) -> None:
    with partitions.database.write() as connection:
        partitions.settle(connection)
        partitions.sweep(connection)


def _purge(partitions: Partitions) -> None:
    if partitions.database.read("SELECT 1 FROM retired LIMIT 1"):
        with partitions.database.write() as connection:
            partitions.settle(connection)
            partitions.purge(connection)


def _due(partitions: Partitions, passed: set[str]) -> list[tuple[str, str, list[Group]]]:
    """Give kind, day and files of what is to be merged, in groups of which each becomes one; most files first."""
    days: dict[tuple[str, str], dict[int, Group]] = {}
    for part in partitions.parts(SMALL, (SMALL_ROWS,)):
        if part.place not in passed and part.day is not None:
            served = int((part.served or 0.0) // DAY_SECONDS)
            days.setdefault((part.kind, part.day), {}).setdefault(served, []).append(part)
    due = []
    for (kind, day), served_on in days.items():
        groups = [group for found in served_on.values() if _is_due(found) for group in _bounded(found)]
        if groups:
            due.append((kind, day, groups))
    return sorted(due, key=lambda one: -sum(map(len, one[2])))


def _is_due(group: Group) -> bool:
    at_rest = time.time() - max(part.sealed or 0.0 for part in group) > COLD_SECONDS
    return len(group) > MANY_SMALL or (at_rest and len(group) > 1)


def _bounded(parts: Group) -> list[Group]:
    """Split files into groups of at most MOST_ROWS rows each."""
    groups: list[Group] = [[]]
    rows = 0
    for part in parts:
        if rows + part.rows > MOST_ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(part)
        rows += part.rows
    return [group for group in groups if len(group) > 1]


def migrate(partitions: Partitions, passed: set[str]) -> None:
    """Move what lies flat into days, a file in each transaction; write the labels that are in the index only."""
    for part in partitions.parts("day IS NULL"):
        try:
            _split(partitions, part)
        except DataError:
            if not partitions.damaged([part]):
                raise
            passed.add(part.place)
    _export_labels(partitions)


def _split(partitions: Partitions, part: Part) -> None:
    files = partitions.union([part])
    number = f"CAST(floor(_time / {DAY_SECONDS!r}) AS BIGINT)"
    found = partitions.tables.fetch(
        f"SELECT {number} AS day, count(*) AS n, min(_row) AS row, min(_time) AS first, max(_time) AS last"  # noqa: S608
        f" FROM {files} GROUP BY ALL ORDER BY day"
    )
    served = partitions.path(part).stat().st_mtime
    with partitions.database.write() as connection:
        partitions.settle(connection)
        if not connection.execute("DELETE FROM segments WHERE name = ? AND day IS NULL", (part.name,)).rowcount:
            return  # another process has moved it
        for day, rows, row, first, last in zip(*(column.tolist() for column in found.values()), strict=True):
            partitions.add_query(
                connection,
                part.kind,
                day_text(day),
                f"SELECT * FROM {files} WHERE {number} = {day} ORDER BY _time, _row",  # noqa: S608
                rows=rows,
                number=row,
                span=(first, last),
                served=served,
            )
    with partitions.database.write() as connection:
        partitions.settle(connection)
    partitions.path(part).unlink(missing_ok=True)


def _export_labels(partitions: Partitions) -> None:
    if partitions.database.read("SELECT 1 FROM segments WHERE kind = 'truths' LIMIT 1"):
        return
    with partitions.database.write() as connection:
        partitions.settle(connection)
        after, now = 0, time.time()
        while found := connection.execute(
            "SELECT row, value, seq FROM labels WHERE seq > ? ORDER BY seq LIMIT ?", (after, LABELS_AT_ONCE)
        ).fetchall():
            after = found[-1][2]
            columns = label_columns([(row, value) for row, value, _ in found])
            day = day_text(int(now // DAY_SECONDS))
            partitions.add(connection, "truths", day, columns, number=found[0][0], span=(now, now), served=now)
