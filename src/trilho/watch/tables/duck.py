"""Tables that DuckDB reads: Parquet and CSV files, Arrow, its own relations, Delta."""

# ruff: noqa: S608

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trilho.data.tables import name as quote
from trilho.data.tables import text as literal
from trilho.errors import DataError
from trilho.watch.tables.counting import (
    NUMERIC,
    CountingQuery,
    add_grouped,
    grouping_text,
    is_grouped,
    number_of,
    read_counts,
    text_of,
    time_of,
)
from trilho.watch.tables.table import Array, Counted, Window
from trilho_runtime.profile import Feature, Profile, add

if TYPE_CHECKING:
    import duckdb

MEMORY, MORE_MEMORY = "200MB", "80%"
THREADS = 8  # each reads rows of its own into memory
SEED = 7
NOT_WATCHED = ("STRUCT", "MAP", "UNION", "BLOB", "BIT", "INTERVAL")
Run = Callable[[str], "duckdb.DuckDBPyConnection | duckdb.DuckDBPyRelation"]


def connect() -> duckdb.DuckDBPyConnection:
    """Open a database that counts in little memory."""
    import duckdb

    spill = Path(tempfile.gettempdir(), f"trilho-duckdb-{os.getpid()}")
    connection = duckdb.connect(":memory:")
    for setting in (
        "TimeZone = 'UTC'",
        "enable_progress_bar = false",
        f"memory_limit = '{MEMORY}'",
        f"threads = {min(os.cpu_count() or 1, THREADS)}",
        f"temp_directory = {literal(spill)}",
    ):
        connection.execute(f"SET {setting}")
    return connection


def own_table(source: str, connection: duckdb.DuckDBPyConnection | None = None, **about: Any) -> DuckTable:
    """Open a table in a database of its own, which takes more memory only where rows are too wide for little."""
    made = connection or connect()

    def relax() -> None:
        made.execute("SET threads = 1")
        made.execute(f"SET memory_limit = '{MORE_MEMORY}'")

    return DuckTable(made.execute, source, relax=relax, **about)


class DuckTable:
    """A table in the words of DuckDB: what comes after FROM, and who runs it.

    `position` is SQL for a row's place in its file, by which a seed chooses rows.
    """

    def __init__(
        self,
        run: Run,
        source: str,
        *,
        position: str = "",
        columnar: bool = False,
        typed: Callable[[Collection[str]], str] | None = None,
        relax: Callable[[], object] | None = None,
    ) -> None:
        """`typed` gives the source with some columns read as text, where a file does not say their types; a `columnar`
        source reads one column without the others. `relax` allows more memory, for rows too wide to be read without.
        """
        self._run, self._source, self._position, self._typed = run, source, position, typed
        self._columnar, self._relax = columnar, relax
        described = self.ask(f"DESCRIBE SELECT * FROM {source}")
        hidden = {"file_row_number"} if position else set()
        self.types = {str(row[0]): str(row[1]).partition("(")[0] for row in described if row[0] not in hidden}

    @property
    def names(self) -> Sequence[str]:
        """Give the columns' names, without those of lists and structures."""
        return [name for name, kind in self.types.items() if not (kind.startswith(NOT_WATCHED) or kind.endswith("]"))]

    def ask(self, sql: str) -> list[Any]:
        """Run SQL and fetch its rows. Raises DataError where the data cannot be read."""
        return list(self._answered(sql).fetchall())

    def size(self) -> int:
        """Give the number of rows."""
        return int(self.ask(f"SELECT COUNT(*) FROM {self._source}")[0][0])

    def sample(self, names: Sequence[str], most: int) -> dict[str, Array]:
        """Fetch columns of all rows, or of about `most`, chosen by a hash of a row's place."""
        size, source = self.size(), self._source
        columns = ", ".join(f"{self._fetched(name)} AS {quote(name)}" for name in names)
        where = f" WHERE HASH({{}} + {SEED}) % 4294967296 < {int(4294967296 * most / max(size, 1))}"
        if size <= most:
            where = ""
        elif self._position:
            where = where.format(self._position)
        else:
            source = f"(SELECT *, ROW_NUMBER() OVER () AS _place FROM {source}) AS s"
            where = where.format("_place")
        return dict(self._answered(f"SELECT {columns} FROM {source}{where}").fetchnumpy()) if names else {}

    def windows(self, window: Window) -> dict[int, int]:
        """Give the rows of each window."""
        sql = f"SELECT {self._window(window)} AS g, COUNT(*) FROM {self._source} GROUP BY g ORDER BY g"
        return {int(number): int(rows) for number, rows in self.ask(sql)}

    def count(self, features: Sequence[Feature], window: Window | None = None, kept: Collection[int] = ()) -> Counted:
        """Count all rows in one scan; with a window each of those kept apart, and the others together."""
        texts = {f.column for f in features if f.kind in ("category", "text") and f.column in self.types}
        source, types = self._source, self.types
        if self._typed is not None and any(types[name] != "VARCHAR" for name in texts):
            source, types = self._typed(texts), {**types, **dict.fromkeys(texts, "VARCHAR")}
        group = ""
        if window is not None and kept:
            number = self._window(window)
            group = f"CASE WHEN {number} IN ({', '.join(map(str, kept))}) THEN {number} END"
        apart = [f for f in features if self._columnar and is_grouped(f) and f.column in types]
        wide = [f for f in features if f not in apart]
        answers = self.ask(CountingQuery(source, types, group=group).text(wide))
        grouped = self.ask(grouping_text(apart, source, types, group)) if apart else []
        found = counted(answers, wide, types, grouped=bool(group), apart=apart, texts=grouped)
        order = [f.name for f in features]
        return Counted({key: {name: one[name] for name in order} for key, one in found.profiles.items()}, found.rows)

    def largest(self, key: str, window: Window | None) -> int:
        """Give the most rows that one key has, in one window."""
        groups = [quote(key), *([self._window(window)] if window is not None else [])]
        sizes = f"SELECT COUNT(*) AS n FROM {self._source} WHERE {quote(key)} IS NOT NULL GROUP BY {', '.join(groups)}"
        return int(self.ask(f"SELECT COALESCE(MAX(n), 1) FROM ({sizes}) AS t")[0][0])

    def _window(self, window: Window) -> str:
        column, kind = quote(window.time), self.types[window.time]
        timed = kind.startswith(("TIMESTAMP", "DATE", "VARCHAR"))
        seconds = f"EPOCH({time_of(column, kind)})" if timed else f"CAST({column} AS DOUBLE)"
        known = f"CASE WHEN ISFINITE({seconds}) THEN {seconds} ELSE 0e0 END"
        return f"CAST(FLOOR({known} / {window.seconds!r}) AS BIGINT)"

    def _fetched(self, name: str) -> str:
        """Give SQL for a column as it is fetched: in a type that an array holds."""
        column, kind = quote(name), self.types[name]
        if kind.startswith(("TIMESTAMP", "DATE")):
            return f"CAST({time_of(column, kind)} AS TIMESTAMP)"
        if kind in ("BOOLEAN", "INTEGER", "UINTEGER") or (kind.endswith("INT") and "HUGE" not in kind):
            return column
        return number_of(column, kind) if kind.startswith(NUMERIC) or kind.endswith("INT") else text_of(column, kind)

    def _answered(self, sql: str) -> Any:
        import duckdb

        try:
            try:
                return self._run(sql)
            except duckdb.OutOfMemoryException:
                if self._relax is None:
                    raise
                self._relax()
                return self._run(sql)
        except duckdb.Error as error:
            hint = "check the path, and that every file has the same columns"
            raise DataError(f"the table cannot be read: {str(error).splitlines()[0]}", hint=hint) from error


def counted(
    answers: Sequence[Any],
    features: Sequence[Feature],
    types: Mapping[str, str],
    *,
    grouped: bool,
    apart: Sequence[Feature] = (),
    texts: Sequence[Any] = (),
) -> Counted:
    """Read a count's answer, of the whole and of each group; `texts` are the features that were grouped apart."""

    def empty(some: Sequence[Feature]) -> Profile:
        return {f.name: np.zeros(len(f.labels), np.int64) for f in some}

    profiles: dict[int | None, Profile] = {}
    rows: dict[int | None, int] = {}
    for row in answers:
        key = int(row[0]) if grouped and row[0] is not None else None
        profile, rows[key] = read_counts(row, features, types)
        profiles[key] = {**profile, **empty(apart)}
    add_grouped(texts, apart, profiles)
    whole = add(empty([*features, *apart]), *profiles.values())
    profiles[None], rows[None] = whole, sum(rows.values())
    return Counted(profiles, rows)
