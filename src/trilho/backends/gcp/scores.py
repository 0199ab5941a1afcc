"""A table of scores in BigQuery: a table for each version, which of it is served, and the view that joins them.

Loads into a partition by its date (`TABLE__v3$20260131`, WRITE_TRUNCATE) replace it whole; what is served is a row for
each date and version, changed by one MERGE. The first row is the lease of whoever writes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trilho.backends.gcp.bigquery import BigQuery, TableName, require_plain
from trilho.core.warehouse import Standing
from trilho.errors import ConfigError, Unreachable

NOBODY = "0001-01-01"
RENEW_SECONDS = 1200.0
LEASE_HOURS = 1
ROWS_AT_ONCE = 2000  # in one statement, whose text may not be longer than a megabyte
KEPT = "Scores of {model}, kept by trilho"
TYPES = {"FLOAT": "FLOAT64", "INTEGER": "INT64", "BOOLEAN": "BOOL"}


class BigQueryScores:
    """The Warehouse port on one view and the tables beside it."""

    def __init__(self, bigquery: BigQuery, name: TableName) -> None:
        self._bigquery, self._name, self._state = bigquery, name, name.beside("served")
        self._owner, self._renewed = "", 0.0
        self._columns: dict[int, dict[str, str]] = {}
        self._viewed: tuple[Any, ...] | None = None
        self._kept = ""

    @property
    def address(self) -> str:
        """The view's name."""
        return str(self._name)

    def take(self, model: str, owner: str) -> None:
        """Make what is missing, and keep others from writing. Raises Unreachable while another one writes."""
        self._kept, self._owner = KEPT.format(model=model), owner
        self._require_own()
        if self._bigquery.table(self._state) is None:
            self._bigquery.query(
                f"making {self._state}",
                f"CREATE TABLE IF NOT EXISTS {self._state.sql} OPTIONS (description = '{_quote(self._kept)}') AS "
                f"SELECT DATE '{NOBODY}' AS date, 0 AS version, CAST(0 AS FLOAT64) AS low, "
                "CAST(0 AS FLOAT64) AS high, '' AS told, TIMESTAMP '1970-01-01 00:00:00' AS changed",
            )
        self._renew()

    def standings(self) -> Sequence[Standing]:
        """Give all dates of all versions."""
        found = self._bigquery.rows(
            f"reading {self._state}",
            f"SELECT date, version, low, high, told FROM {self._state.sql} WHERE version > 0",  # noqa: S608
        )
        return [
            Standing(date=date.isoformat(), version=version, low=low, high=high, told=told)
            for date, version, low, high, told in found
        ]

    def load(self, version: int, date: str, file: Path) -> None:
        """Put a Parquet file's rows in the place of what a version said of a date, all of them at once."""
        self._keep_lease()
        name = self._name.beside(f"v{version}")
        self._make(name, file)
        partition = f"{name}${date.replace('-', '')}"
        settings = {
            "writeDisposition": "WRITE_TRUNCATE", "createDisposition": "CREATE_NEVER",
            "schemaUpdateOptions": ["ALLOW_FIELD_ADDITION"], "columnNameCharacterMap": "STRICT",
        }  # fmt: skip
        self._bigquery.load(f"loading {date} into {name}", file, partition, settings)
        self._columns.pop(version, None)

    def serve(self, standings: Sequence[Standing]) -> None:
        """Change what is served, in one step. Raises Unreachable where another one has begun to write."""
        self._show({one.version for one in standings} | self._versions())
        for start in range(0, len(standings), ROWS_AT_ONCE):
            self._merge(standings[start : start + ROWS_AT_ONCE])

    def release(self) -> None:
        """Let others write."""
        self._bigquery.query(
            f"releasing {self._state}",
            f"UPDATE {self._state.sql} SET told = '' WHERE version = 0 AND told = @owner",  # noqa: S608
            {"owner": self._owner},
        )

    # ---- who writes ------------------------------------------------------------------------------------------------

    def _require_own(self) -> None:
        found = self._bigquery.table(self._name)
        if found is not None and found.description != self._kept:
            holds = (found.description or "").removesuffix(", kept by trilho")
            what = holds[0].lower() + holds[1:] if holds.startswith("Scores of ") else f"a {found.table_type.lower()}"
            raise ConfigError(
                f"--to {self._name} is there already: {what}; allowed: a new table, or scores of this model",
                hint="name another table",
            )

    def _renew(self) -> None:
        job = self._bigquery.query(
            f"taking {self._state}",
            f"UPDATE {self._state.sql} SET told = @owner, "  # noqa: S608
            f"changed = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {LEASE_HOURS} HOUR) "
            "WHERE version = 0 AND (told = @owner OR told = '' OR changed < CURRENT_TIMESTAMP())",
            {"owner": self._owner},
        )
        if not job.num_dml_affected_rows:
            raise self._taken()
        self._renewed = time.monotonic()

    def _keep_lease(self) -> None:
        if time.monotonic() - self._renewed > RENEW_SECONDS:
            self._renew()

    def _taken(self) -> Unreachable:
        return Unreachable(
            f"{self._name} is being written by another process, and one at a time may do that",
            hint=f"try again when it is done; if it was killed on another machine, in {LEASE_HOURS} h at most",
        )

    # ---- what there is ---------------------------------------------------------------------------------------------

    def _make(self, name: TableName, file: Path) -> None:
        """Make a version's table where it is missing: partitioned by date, with the file's columns."""
        from google.cloud.bigquery import Table, TimePartitioning

        columns = _columns_of(file)
        require_plain([column for column, _ in columns])
        if self._bigquery.table(name) is not None:
            return
        table = Table(str(name), schema=[_field(column, kind) for column, kind in columns])
        table.time_partitioning = TimePartitioning(field="_date")
        table.description = self._kept
        client = self._bigquery.client
        self._bigquery.call(f"making {name}", lambda: client.create_table(table, exists_ok=True, retry=None))

    def _versions(self) -> set[int]:
        found = self._bigquery.rows(
            f"reading {self._state}",
            f"SELECT DISTINCT version FROM {self._state.sql} WHERE version > 0",  # noqa: S608
        )
        return {int(row[0]) for row in found}

    def _show(self, versions: set[int]) -> None:
        """Have a view that knows all versions and all of their columns."""
        for version in versions - self._columns.keys():
            found = self._bigquery.table(self._name.beside(f"v{version}"))
            if found is not None:
                self._columns[version] = {one.name: TYPES.get(one.field_type, one.field_type) for one in found.schema}
        query = view_of(self._name, self._state, {v: self._columns[v] for v in versions if v in self._columns})
        if self._viewed is None:
            found = self._bigquery.table(self._name)
            self._viewed = (found.view_query,) if found is not None else ()
        if self._viewed != (query,):
            self._bigquery.query(
                f"making the view {self._name}",
                f"CREATE OR REPLACE VIEW {self._name.sql} OPTIONS (description = '{_quote(self._kept)}') AS {query}",
            )
            self._viewed = (query,)

    def _merge(self, standings: Sequence[Standing]) -> None:
        values: dict[str, Any] = {"owner": self._owner}
        rows = []
        for place, one in enumerate(standings):
            told = "CAST(NULL AS STRING)"
            if one.told is not None:
                values[f"t{place}"], told = one.told, f"@t{place}"
            row = (f"DATE '{one.date}' AS date", f"{one.version} AS version", f"CAST({one.low!r} AS FLOAT64) AS low",
                   f"CAST({one.high!r} AS FLOAT64) AS high", f"{told} AS told")  # fmt: skip
            rows.append(f"STRUCT({', '.join(row)})")
        listed = f"UNNEST([{', '.join(rows)}])"
        mine = f"SELECT 1 FROM {self._state.sql} l WHERE l.version = 0 AND l.told = @owner"  # noqa: S608
        job = self._bigquery.query(
            f"changing what {self._name} serves",
            f"MERGE {self._state.sql} t USING (SELECT r.* FROM {listed} AS r WHERE EXISTS ({mine})) s "  # noqa: S608
            "ON t.date = s.date AND t.version = s.version "
            "WHEN MATCHED THEN UPDATE SET low = s.low, high = s.high, told = COALESCE(s.told, t.told), "
            "changed = CURRENT_TIMESTAMP() "
            "WHEN NOT MATCHED THEN INSERT (date, version, low, high, told, changed) "
            "VALUES (s.date, s.version, s.low, s.high, s.told, CURRENT_TIMESTAMP())",
            values,
        )
        if not job.num_dml_affected_rows:
            raise self._taken()


def view_of(name: TableName, state: TableName, columns: dict[int, dict[str, str]]) -> str:
    """Give the query of what is served, over the tables of versions with the columns that each has."""
    kinds: dict[str, set[str]] = {}
    for known in columns.values():
        for column, kind in known.items():
            kinds.setdefault(column, set()).add(kind)
    parts = []
    for version, known in sorted(columns.items()):
        chosen = ", ".join(_chosen(column, known, kind) for column, kind in kinds.items())
        parts.append(
            f"SELECT {chosen} FROM {name.beside(f'v{version}').sql} s JOIN {state.sql} v ON v.version = {version} "  # noqa: S608
            "AND v.date = s._date AND s._cohort >= v.low AND s._cohort < v.high"
        )
    return " UNION ALL ".join(parts)


def _chosen(column: str, known: dict[str, str], kinds: set[str]) -> str:
    wanted = next(iter(kinds)) if len(kinds) == 1 else "STRING"
    if column not in known:
        return f"CAST(NULL AS {wanted}) AS `{column}`"
    return f"s.`{column}`" if known[column] == wanted else f"CAST(s.`{column}` AS STRING) AS `{column}`"


def _columns_of(file: Path) -> list[tuple[str, str]]:
    from trilho.data.tables import database, text

    with database() as connection:
        found = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({text(file)})").fetchall()  # noqa: S608
    return [(row[0], str(row[1])) for row in found]


def _field(column: str, kind: str) -> Any:
    from google.cloud.bigquery import SchemaField

    known = {"VARCHAR": "STRING", "DOUBLE": "FLOAT", "BOOLEAN": "BOOLEAN", "DATE": "DATE", "TIME": "TIME",
             "BLOB": "BYTES", "TIMESTAMP WITH TIME ZONE": "TIMESTAMP"}  # fmt: skip
    if kind.startswith("DECIMAL"):
        digits, _, scale = kind.removeprefix("DECIMAL(").removesuffix(")").partition(",")
        return SchemaField(column, "NUMERIC" if int(scale) <= 9 and int(digits) - int(scale) <= 29 else "BIGNUMERIC")
    return SchemaField(column, known.get(kind, "INTEGER"))


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
