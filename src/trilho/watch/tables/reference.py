"""The reference as data scientists meet it: fitted on whatever data they have, and counting whatever comes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from trilho.config import parse_duration
from trilho.errors import ConfigError, DataError
from trilho.watch.tables.fitting import fit_table
from trilho.watch.tables.log import TIME, LogTable
from trilho.watch.tables.opening import open_table
from trilho.watch.tables.table import Table, Window
from trilho_runtime.profile import Profile
from trilho_runtime.profile import Reference as Fitted


class Reference(Fitted):
    """What data looked like: bins for each column, and counts in them.

    >>> import numpy as np
    >>> reference = Reference.fit({"x": np.arange(100.0), "c": ["a", "b"] * 50})
    >>> reference.profile({"x": [5.0, 500.0], "c": ["a", "z"]})["c"].tolist()
    [1, 0, 0, 1, 0]
    """

    @classmethod
    def fit(  # type: ignore[override]
        cls,
        data: Any,
        time: Any = None,
        window: str | float | timedelta = "1 day",
        *,
        key: str | None = None,
        columns: Sequence[str] | None = None,
        ignore: Collection[str] = (),
        client: Any = None,
    ) -> Reference:
        """Fix the bins on data: arrays, a pandas frame, Arrow, files, a DuckDB relation, Delta, a log, BigQuery.

        `time` names the column of a row's time (or is an array, beside arrays); with it the data falls into windows,
        which show how far they differ by nature. `key` names what rows belong together, such as a customer. Both are
        not watched themselves. Up to 50,000 rows quantiles are exact, above they are those of a seeded sample.
        """
        if time is not None and not isinstance(time, str):
            data, time = {**data, TIME: time}, TIME
        table = open_table(data, client=client)
        time = time or (TIME if isinstance(table, LogTable) else "")
        _check(table, [*(columns or ()), *((key,) if key else ()), *((time,) if time not in ("", TIME) else ())])
        apart = {time, key, *ignore}
        watched = [name for name in columns or table.names if name not in apart]
        return fit_table(cls, table, watched, Window(time, seconds_of(window)), key or "")

    def profile(self, columns: Any, *, client: Any = None) -> Profile:
        """Count data in this reference's bins; a column that is not there counts as null in every row."""
        if isinstance(columns, Mapping) and not columns:
            return super().profile(columns)
        return open_table(columns, client=client).count(self.features).profiles[None]


def seconds_of(window: str | float | timedelta) -> float:
    """Give a window's length in seconds.

    >>> seconds_of("1 day")
    86400.0
    """
    if isinstance(window, (int, float)):
        return float(window)
    try:
        return parse_duration(window).total_seconds()
    except ValueError as error:
        raise ConfigError(f"window is {window!r}, not {error}", hint='window="1 day"') from error


def _check(table: Table, named: Sequence[str]) -> None:
    absent = [name for name in named if name not in table.names]
    if absent:
        raise DataError(f"the data has no column {absent[0]}", hint=f"it has {', '.join(table.names)[:200]}")
