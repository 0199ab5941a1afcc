"""The newest value of a column in the rows that a notebook split: what a moving cut counts back from."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np

from trilho.adopt.notebook import Notebook
from trilho.adopt.plan import Choice
from trilho.adopt.slice.history import History
from trilho.adopt.slice.moments import Moment, find_moments
from trilho.adopt.slice.tables import column_values, table_columns, times_of
from trilho.adopt.trace import Read, Trace

NOTHING = (None, "", "NaT", "nan")


class Newest:
    """Columns of the table that is served, as they were read, and which of their rows came as far as the split."""

    def __init__(self, notebook: Notebook, trace: Trace, choice: Choice, scratch: Path) -> None:
        self.history, self.choice, self.scratch = History(notebook, trace), choice, scratch
        self.read: Read = next(read for read in trace.reads if read.id == choice.main_read)
        self.moments = find_moments(self.history, self.read)

    def time(self, column: str, cut: datetime | None, rows: int | None) -> datetime | None:
        """Give the newest time among the rows that were split; None where that is not certain.

        An index is taken to be the column that orders the rows. Certain it is where all rows were split, `rows` of
        them, or where the newest one, or as many as lie past the cut, are seen on one of the sides.
        """
        times = self.times(column)
        known = [time for time in times if time is not None]
        if not known or (cut is not None and not min(known) < cut <= max(known)):
            return None
        newest = max(known)
        if rows == len(times):
            return newest
        seen = [times[at] for at in self._seen() if at < len(times)]
        told = [time for time in seen if time is not None]
        if not told or rows is None or rows < len(told):
            return None  # another table than that of all sides
        return newest if newest in told else max(told) if len(told) == rows else None

    def year(self, column: str, rows: int | None) -> int | None:
        """Give the newest year of a column of years, or of times."""
        newest = self.time(column, None, rows)
        if newest is not None:
            return newest.year
        values = self._values(column)
        try:
            years = [int(float(str(value))) for value in values if value not in NOTHING]
        except ValueError:
            return None
        return max(years) if years and rows == len(values) else None

    def times(self, column: str) -> list[datetime | None]:
        """Give a column's times row by row, in the table's order; nothing where they are none, or of a zone."""
        moment = self._moment(column or self.choice.time)
        values = self._values(moment.column)
        told = [at for at, value in enumerate(values) if value not in NOTHING]
        zoned = any(isinstance(values[at], datetime) and values[at].tzinfo for at in told)  # type: ignore[attr-defined]
        parsed = times_of([values[at] for at in told], moment.shape, day_first=moment.day_first)
        if len(parsed) != len(told) or len(values) != self.read.value.rows or zoned:
            return []
        found: list[datetime | None] = [None] * len(values)
        for at, time in zip(told, parsed, strict=True):
            found[at] = time
        return found

    def _moment(self, column: str) -> Moment:
        same = [m for m in self.moments if column in (m.name, m.column)]
        return same[0] if same else Moment(column, column)

    def _values(self, column: str) -> list[object]:
        names = dict(zip(table_columns(self.history, self.read), self.read.value.columns or [], strict=False))
        return column_values(self.scratch, self.read, names.get(column, column))

    def _seen(self) -> set[int]:
        """Give the places in the table of the rows that models were fitted to and asked about."""
        found: set[int] = set()
        for golden in self.history.trace.golden:
            path = self.scratch / golden.positions
            if golden.positions and golden.read == self.read.id and path.is_file():
                found |= {int(at) for at in np.load(path, allow_pickle=False) if at >= 0}
        return found
