"""A BigQuery table: the portable counting text in BigQuery's words, so that only counts leave the warehouse."""

# ruff: noqa: S608

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from trilho.errors import ConfigError, DataError
from trilho.watch.tables.counting import CountingQuery
from trilho.watch.tables.duck import counted
from trilho.watch.tables.table import Array, Counted, Window, largest_cluster, window_numbers
from trilho_runtime.profile import Feature

TYPES = {
    "STRING": "VARCHAR",
    "INT64": "BIGINT",
    "FLOAT64": "DOUBLE",
    "NUMERIC": "DECIMAL",
    "BIGNUMERIC": "DECIMAL",
    "BOOL": "BOOLEAN",
    "TIMESTAMP": "TIMESTAMP",
    "DATETIME": "TIMESTAMP",
    "DATE": "DATE",
}
NAME = re.compile(r"[\w-]+\.\w+\.[\w-]+")

Rows = Sequence[Sequence[Any]]


def to_bigquery(sql: str) -> str:
    """Say a counting text in BigQuery's words.

    >>> to_bigquery('SELECT COUNT_IF("x" <= 1.5e0) FROM t')
    'SELECT COUNTIF(`x` <= 1.5e0) FROM t'
    """
    try:
        import sqlglot
    except ImportError as error:
        raise ConfigError("BigQuery needs sqlglot", hint='pip install "trilho[gcp]"') from error
    return sqlglot.transpile(sql, read="duckdb", write="bigquery")[0]


class BigQueryTable:
    """A table `project.dataset.table`; `run` sends SQL and gives the rows of the answer."""

    def __init__(self, table: str, run: Callable[[str], Rows]) -> None:
        if not NAME.fullmatch(table):
            raise ConfigError(f"{table} is no table of BigQuery", hint="bigquery:project.dataset.table")
        self._run, self._table = run, table
        project, dataset, name = table.split(".")
        listed = f"`{project}.{dataset}`.INFORMATION_SCHEMA.COLUMNS"
        found = run(
            f"SELECT column_name, data_type FROM {listed} WHERE table_name = '{name}' ORDER BY ordinal_position"
        )
        if not found:
            raise DataError(
                f"{table}: no such table, or no right to see it", hint="bq show " + table.replace(".", ":", 1)
            )
        kinds = {str(row[0]): str(row[1]).partition("(")[0] for row in found}
        self.types = {column: TYPES[kind] for column, kind in kinds.items() if kind in TYPES}
        self.names: Sequence[str] = list(self.types)

    def size(self) -> int:
        """Give the number of rows."""
        return int(self._run(f"SELECT COUNT(*) FROM `{self._table}`")[0][0])

    def sample(self, names: Sequence[str], most: int) -> dict[str, Array]:
        """Fetch columns of all rows, or of those that the fingerprint of a row chooses."""
        size = self.size()
        picked = ", ".join(f"t.`{name}`" for name in names)
        where = f" WHERE MOD(ABS(FARM_FINGERPRINT(TO_JSON_STRING(t))), 1000000) < {1_000_000 * most // max(size, 1)}"
        rows = self._run(f"SELECT {picked} FROM `{self._table}` AS t{where if size > most else ''}") if names else []
        return {name: self._array(name, [row[place] for row in rows]) for place, name in enumerate(names)}

    def windows(self, window: Window) -> dict[int, int]:
        """Give the rows of each window."""
        column = f"UNIX_MICROS(TIMESTAMP(`{window.time}`)) / 1e6"
        if self.types[window.time] not in ("TIMESTAMP", "DATE"):
            column = f"CAST(`{window.time}` AS FLOAT64)"
        number = f"CAST(FLOOR(COALESCE({column}, 0) / {window.seconds!r}) AS INT64)"
        rows = self._run(f"SELECT {number} AS g, COUNT(*) FROM `{self._table}` GROUP BY g ORDER BY g")
        return {int(row[0]): int(row[1]) for row in rows}

    def largest(self, key: str, window: Window | None) -> int:
        """Give the most rows that one key has in one window, of a sample."""
        rows = self.sample([key, *([window.time] if window is not None else [])], 100_000)
        numbers = window_numbers(rows[window.time], window.seconds) if window is not None else None
        return largest_cluster(rows[key], numbers)

    def count(self, features: Sequence[Feature], window: Window | None = None, kept: Collection[int] = ()) -> Counted:
        """Count all rows in one query; windows are not counted apart here."""
        return counted(self._run(self.text(features)), features, self.types, grouped=False)

    def text(self, features: Sequence[Feature]) -> str:
        """Give the counting text as it is sent."""
        made = CountingQuery("_table", self.types, portable=True).text(features)
        return to_bigquery(made).replace("FROM _table", f"FROM `{self._table}`")

    def _array(self, name: str, values: list[Any]) -> Array:
        kind = self.types[name]
        if kind in ("BIGINT", "DOUBLE", "DECIMAL"):
            nulls = [value is None for value in values]
            return np.ma.masked_array(np.array([np.nan if v is None else float(v) for v in values]), mask=nulls)
        out = np.empty(len(values), object)
        out[:] = values
        return out
