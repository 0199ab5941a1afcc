"""Rows of which a later attempt is known: the line that counts of an id is what its caller was told.

A server that is killed between its line and its answer leaves rows that nobody was told. The router asks again under
the same id, another version perhaps, and numbers the attempts; a line says which one it is of where that is not the
first. The later line takes the place of the earlier one, whichever is sealed first: under the same row number, so that
labels, counts and whoever reads rows by their numbers see one row, once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping

from trilho.errors import DataError
from trilho.serve.index import Index
from trilho.serve.intake import DAY_SECONDS, Batch, day_text
from trilho.serve.partitions import Part, Partitions

OF_DAY = "kind = 'segments' AND day = ?"


def latest(batch: Batch, counted: Counter[str]) -> Batch:
    """Leave out the rows of which a batch has a later attempt, and count them; of one attempt the first counts."""
    attempts = batch.attempts()
    if not attempts:
        return batch
    best: dict[str, tuple[int, int]] = {}
    for at, attempt in attempts.items():
        id_ = batch.rows[at][1]
        if attempt > best.get(id_, (0, 0))[0]:
            best[id_] = attempt, at
    surpassed = [at for at, row in enumerate(batch.rows) if row[1] in best and best[row[1]][1] != at]
    counted["duplicates"] += len(surpassed)
    return batch.split(surpassed)[1]


def supersede(batch: Batch, partitions: Partitions, index: Index) -> tuple[Batch, Batch]:
    """Take the rows out of the log of which a batch has a later attempt, in the transaction of the index.

    Give the rows of the batch that are to be added as ever, and those that are to be written in the place of others,
    with their numbers. A row whose file is gone or damaged stays what it was: the file may be restored.
    """
    attempts = batch.attempts()
    known = index.earlier({batch.rows[at][1]: attempt for at, attempt in attempts.items()}) if attempts else {}
    if not known:
        return batch, Batch()
    removed = _remove(dict(known.values()), partitions, index)
    places = [at for at in attempts if known.get(batch.rows[at][1], (0,))[0] in removed]
    later, others = batch.split(places)
    later.rows = [(known[row[1]][0], *row[1:]) for row in later.rows]
    index.replace_predictions(later.rows, later.told())
    return others, later


def _remove(rows: Mapping[int, float], partitions: Partitions, index: Index) -> set[int]:
    """Rewrite the files of rows (number, event time) without them; give those that were found."""
    partitions.settle(index.connection, durably=True)
    days: dict[str, set[int]] = {}
    for row, moment in rows.items():
        days.setdefault(day_text(int(moment // DAY_SECONDS)), set()).add(row)
    return {row for day, numbers in days.items() for row in _remove_of_day(day, numbers, partitions, index)}


def _remove_of_day(day: str, rows: Collection[int], partitions: Partitions, index: Index) -> set[int]:
    parts = partitions.parts(OF_DAY, (day,))
    if not all(partitions.path(part).exists() for part in parts):
        return set()
    holding = {part: found for part in parts if (found := _found(part, rows, partitions))}
    queries = {
        f"SELECT * FROM {partitions.union([part])} WHERE _row NOT IN {_listed(found)} ORDER BY _time, _row": [part]  # noqa: S608
        for part, found in holding.items()
    }
    if queries:
        partitions.replace(index.connection, "segments", day, queries, at=time.time())
    return set().union(*holding.values())


def _found(part: Part, rows: Collection[int], partitions: Partitions) -> set[int]:
    """Give the rows that a file holds; none where it is not what was written."""
    query = f"SELECT _row FROM {partitions.union([part])} WHERE _row IN {_listed(rows)}"  # noqa: S608
    try:
        found = set(partitions.tables.fetch(query)["_row"].tolist())
    except DataError:
        return set()
    return found if found and not partitions.damaged([part]) else set()


def _listed(rows: Collection[int]) -> str:
    return f"({', '.join(map(str, sorted(rows)))})"
