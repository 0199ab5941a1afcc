"""Lines as rows: what of a log line is kept, what counts as torn, and which columns a batch of them becomes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho.data.labels import key_text
from trilho.serve.columns import META, PROBABILITY, to_column, to_columns
from trilho.serve.index import Line, number_of, seconds_of, time_of
from trilho.serve.truth import stored, truth_of

DAY_SECONDS = 86400.0
EPOCH = date(1970, 1, 1)
MOST_ATTEMPTS = 10**6
MORE = {"c": "_class", "d": "_decision", "dn": "_decision_version"}
Row = tuple[int, str, "str | None", float, int, float]
"""Number, id, key, event time, version, prediction: as the index has it."""


@dataclass
class Batch:
    """The rows of some lines, in their order."""

    rows: list[Row] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    served: list[float] = field(default_factory=list)

    def chosen(self, numbers: set[int] | None) -> Batch:
        """Give the rows of some numbers; None means all."""
        if numbers is None:
            return self
        return self._picked([at for at, row in enumerate(self.rows) if row[0] in numbers])

    def told(self) -> list[float | bytes | None]:
        """Give the classes that were predicted, as the index holds them; none where no line names one."""
        if not any("c" in line for line in self.lines):
            return []
        found = [truth_of(line.get("c")) for line in self.lines]
        return [None if one is None else stored(one) for one in found]

    def attempts(self) -> dict[int, int]:
        """Give the attempts of the rows that are not of a first one, by their place in the batch."""
        return {at: n for at, line in enumerate(self.lines) if "a" in line and (n := attempt_of(line))}

    def split(self, places: Collection[int]) -> tuple[Batch, Batch]:
        """Give the rows at some places, and the others."""
        chosen = set(places)
        others = [at for at in range(len(self.rows)) if at not in chosen]
        return self._picked(sorted(chosen)), self._picked(others)

    def and_then(self, other: Batch) -> Batch:
        """Give these rows and others after them."""
        return Batch(self.rows + other.rows, self.lines + other.lines, self.served + other.served)

    def by_day(self) -> Iterator[tuple[str, Batch]]:
        """Give the rows of each day of event time."""
        numbers = np.floor_divide(np.array([row[3] for row in self.rows]), DAY_SECONDS).astype(np.int64)
        days = np.unique(numbers)
        for day in days.tolist():
            yield day_text(day), self if len(days) == 1 else self._picked(np.flatnonzero(numbers == day).tolist())

    def columns(self) -> dict[str, NDArray[Any]]:
        """Give the rows as a segment holds them."""
        numbers, ids, _, times, versions, predictions = zip(*self.rows, strict=True)
        columns = dict(zip(META, _own(numbers, ids, times, versions, predictions), strict=True))
        columns["_served"] = np.array(self.served)
        for key, name in MORE.items():
            values = [line.get(key) for line in self.lines]
            if (column := to_column(values)) is not None:
                columns[name] = column
        return {**columns, **_probabilities([line.get("p") for line in self.lines]), **to_columns(self._fields())}

    def _fields(self) -> list[Mapping[str, Any]]:
        return [line["x"] for line in self.lines]

    def _picked(self, places: Sequence[int]) -> Batch:
        rows, lines, served = self.rows, self.lines, self.served
        return Batch([rows[at] for at in places], [lines[at] for at in places], [served[at] for at in places])


def attempt_of(line: Line) -> int:
    """Give how often a line's request had been sent before; 0 where the line does not say.

    >>> attempt_of({"a": 2}), attempt_of({}), attempt_of({"a": True}), attempt_of({"a": -1})
    (2, 0, 0, 0)
    """
    found = line.get("a")
    return found if type(found) is int and 0 < found < MOST_ATTEMPTS else 0


class Intake:
    """Reads lines for a log whose event time is one field, and whose key is some."""

    def __init__(self, time: str | None, on: Sequence[str]) -> None:
        self._time, self._on = time, on
        self._served: tuple[object, float | None] = (None, None)

    def read(self, lines: Iterable[Line], first: int, counted: Counter[str]) -> Batch:
        """Give the rows of the lines that can be one, numbered from `first` on; the others are counted as torn."""
        batch = Batch()
        for line in lines:
            x, served, y = line.get("x"), self._seconds(line.get("t")), number_of(line.get("y"))
            named = isinstance(line.get("id"), str) and type(line.get("n")) is int
            if not isinstance(x, dict) or not named or served is None or y is None:
                counted["torn"] += 1
                continue
            event = time_of(x.get(self._time)) if self._time else None
            if self._time and event is not None:
                x[self._time] = event.isoformat()  # older servers logged it as it was received
            time = served if event is None else event.replace(tzinfo=UTC).timestamp()
            batch.rows.append((first + len(batch.rows), line["id"], key_text(x, self._on), time, line["n"], y))
            batch.lines.append(line)
            batch.served.append(served)
        return batch

    def _seconds(self, text: object) -> float | None:
        if text != self._served[0]:  # the rows of a request have one time
            self._served = text, seconds_of(text)
        return self._served[1]


def day_text(day: int) -> str:
    """Give a day's date by its number since 1970; one beyond the calendar is its first or last.

    >>> day_text(19844), day_text(-10**9)
    ('2024-05-01', '0001-01-01')
    """
    first, last = (date.min - EPOCH).days, (date.max - EPOCH).days
    return (EPOCH + timedelta(days=min(max(day, first), last))).isoformat()


def moment(seconds: float) -> datetime:
    """Give a time in seconds since 1970; a float of the last microsecond that there is lies beyond it."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError):
        return (datetime.min if seconds < 0 else datetime.max).replace(tzinfo=UTC)


def no_rows() -> dict[str, NDArray[Any]]:
    """Give the columns that every answer has, empty."""
    return dict(zip(META, _own((), (), (), (), ()), strict=True))


def _own(*columns: Sequence[Any]) -> list[NDArray[Any]]:
    kinds = (np.int64, object, np.float64, np.int64, np.float64)
    return [np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)]


def _probabilities(values: list[Any]) -> dict[str, NDArray[Any]]:
    """Give each class's probability as a column; the table that is written makes lists of them."""
    lists = [value if isinstance(value, list) and all(map(_is_number, value)) else [] for value in values]
    most = max(map(len, lists), default=0)
    columns = {f"{PROBABILITY}{k}": to_column([one[k] if k < len(one) else None for one in lists]) for k in range(most)}
    return {name: column.astype(np.float64) for name, column in columns.items() if column is not None}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
