"""A table of scores in a warehouse: the same dates, versions and cohorts, kept where the company's other tables are.

    TABLE          a view: what is served
    TABLE__v3      what version 3 said: all rows of each date
    TABLE__served  which of it is served: a row for each date and version, with the places of its cohort

Rows are scored on this machine, then loaded: a date of a version is replaced as a whole. What is served changes
afterwards and in one statement, so that a rollback moves no rows.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from trilho.core.warehouse import Standing, Warehouse
from trilho.data.tables import database, name, text
from trilho.serve.batch.cohort import bounds
from trilho.serve.batch.table import DRAFTS, Date, Scored, ScoreTable

MERGED = "whole.parquet.upload"
NOT_SERVED = (0.0, 0.0)
CASTS = {
    "TIMESTAMP": "CAST({0} AS TIMESTAMP) AT TIME ZONE 'UTC'", "UBIGINT": "CAST({0} AS DOUBLE)",
    "HUGEINT": "CAST({0} AS DOUBLE)", "UHUGEINT": "CAST({0} AS DOUBLE)", "FLOAT": "CAST({0} AS DOUBLE)",
    "UUID": "CAST({0} AS VARCHAR)", "INTERVAL": "CAST({0} AS VARCHAR)", "TIME WITH TIME ZONE": "CAST({0} AS VARCHAR)",
}  # fmt: skip


class WarehouseTable(ScoreTable):
    """A table of scores in a warehouse, with a folder of this machine for what is on its way there."""

    def __init__(self, folder: Path, model: str, warehouse: Warehouse, owner: str) -> None:
        super().__init__(folder, model)
        self._warehouse, self._owner = warehouse, owner
        self._loaded: set[tuple[str, int]] = set()

    def open(self) -> WarehouseTable:
        """Take the table for writing and read what it has. Raises Unreachable while another process writes it."""
        self._lease.take()
        try:
            self._warehouse.take(self.model, self._owner)
            self.read()
        except BaseException:
            self._lease.release()
            raise
        return self

    def close(self) -> None:
        """Let others write."""
        try:
            self._warehouse.release()
        finally:
            self._lease.release()

    def read(self) -> None:
        """Read what the table has."""
        self.dates = {}
        for one in self._warehouse.standings():
            date = self.dates.setdefault(one.date, Date())
            if one.told is not None:
                date.versions[one.version] = Scored(**json.loads(one.told))
            if one.high > one.low:
                date.served[one.version] = round(one.high - one.low)

    def keep(self, version: int, date: str, draft: Path, scored: Scored) -> None:
        """Load a whole date of a version; what is served does not change yet."""
        whole = draft / MERGED
        merge(sorted(draft.glob("*.parquet")), whole, date)
        try:
            self._warehouse.load(version, date, whole)
        finally:
            whole.unlink(missing_ok=True)
        self.dates.setdefault(date, Date()).versions[version] = scored
        self._loaded.add((date, version))

    def serve(self, shares: Mapping[str, Mapping[int, int]], *, soon: bool = False) -> None:
        """Say for dates which versions' rows are served, and put that in place at once; it costs the same for each."""
        del soon
        changed = []
        for date, served in shares.items():
            places = bounds(served)
            for version, scored in self.dates[date].versions.items():
                low, high = places.get(version, NOT_SERVED)
                told = json.dumps(asdict(scored)) if (date, version) in self._loaded else None
                changed.append(Standing(date=date, version=version, low=low, high=high, told=told))
        self._warehouse.serve(changed)
        for date, served in shares.items():
            self.dates[date].served = dict(served)
            self._loaded -= {(date, version) for version in self.dates[date].versions}

    def in_place(self, date: str, served: Mapping[int, int]) -> bool:
        """Say whether readers find just that: a date's standing and what it was made from change in one statement."""
        return self.served(date) == served

    def files(self, version: int, date: str) -> list[Path]:
        """Give the files that hold what a version said of a date, as far as this machine has them still."""
        scored = self.dates[date].versions[version]
        return sorted((self.folder / DRAFTS / f"version={version}" / date / scored.fingerprint).glob("*.parquet"))

    def free(self, date: str) -> None:
        """Remove this machine's copy of a date."""
        for place in (self.folder / DRAFTS).glob(f"version=*/{date}"):
            shutil.rmtree(place, ignore_errors=True)


def merge(files: Sequence[Path], to: Path, date: str) -> None:
    """Write files as one, in constant memory, with the date as a column and types that every warehouse knows."""
    listed = f"read_parquet([{', '.join(map(text, files))}], union_by_name = true, hive_partitioning = false)"
    with database() as connection:
        connection.execute("SET threads = 1")
        connection.execute("SET memory_limit = '400MB'")
        connection.execute(f"SET temp_directory = {text(to.parent / 'merge.tmp')}")
        described = connection.execute(f"DESCRIBE SELECT * FROM {listed}").fetchall()  # noqa: S608
        chosen = ", ".join(_plain(column, str(kind)) for column, kind, *_ in described if column != "_date")
        query = f"SELECT DATE '{date}' AS _date, {chosen} FROM {listed}"  # noqa: S608
        connection.execute(f"COPY ({query}) TO {text(to)} (FORMAT parquet, ROW_GROUP_SIZE 20480)")


def _plain(column: str, kind: str) -> str:
    quoted = name(column)
    if kind.startswith("TIMESTAMP") and "ZONE" not in kind:
        kind = "TIMESTAMP"
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION")):
        return f"CAST(to_json({quoted}) AS VARCHAR) AS {quoted}"
    if kind.startswith("ENUM"):
        return f"CAST({quoted} AS VARCHAR) AS {quoted}"
    return f"{CASTS[kind].format(quoted)} AS {quoted}" if kind in CASTS else quoted
