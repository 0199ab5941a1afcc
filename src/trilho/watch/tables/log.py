"""The prediction log as a table: read some rows at a time, with the predictions among its columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho.core.ports import Columns, PredictionLog
from trilho.watch.tables.table import Array, Counted, Window, largest_cluster, window_numbers
from trilho_runtime.profile import PREDICTION, Feature, Profile

TIME = "_time"


class LogTable:
    """What was served: the raw fields of the rows, their time, and what the model said."""

    def __init__(self, log: PredictionLog) -> None:
        log.seal()
        self._log = log
        extent = log.extent()
        around = timedelta(seconds=1)  # a log may tell its ends less finely than its rows
        self._span = (extent[0] - around, extent[1] + around) if extent else (datetime.now(UTC),) * 2
        held = self._read(Held, None)
        self.names: Sequence[str] = (*sorted(held.names), PREDICTION)
        self._rows = int(held.rows)

    def size(self) -> int:
        """Give the number of rows."""
        return self._rows

    def sample(self, names: Sequence[str], most: int) -> dict[str, Array]:
        """Give all rows, or those that a hash of their number chooses."""
        share = most / max(self._rows, 1)
        found = self._read(lambda: Sampled([*names], share), {name for name in names if name[0] != "_"})
        return {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in found.parts.items()}

    def windows(self, window: Window) -> dict[int, int]:
        """Give the rows of each window."""
        return dict(sorted(self._read(lambda: ByWindow(window), ()).held.items()))

    def largest(self, key: str, window: Window | None) -> int:
        """Give the most rows that one key has in one window, of all rows."""
        rows = self.sample([key, TIME], max(self._rows, 1))
        numbers = window_numbers(rows[TIME], window.seconds) if window is not None else None
        return largest_cluster(rows[key], numbers)

    def count(self, features: Sequence[Feature], window: Window | None = None, kept: Collection[int] = ()) -> Counted:
        """Count the rows part by part."""
        fields = {one.column for one in features if one.column[0] != "_"}
        found = self._read(lambda: Counting(features, window, kept), fields)
        return Counted(found.profiles, found.rows)

    def _read(self, begin: Callable[[], Any], fields: Collection[str] | None) -> Any:
        return self._log.gather(*self._span, begin, fields=fields)


class Held:
    """Which fields the log holds, and how many rows."""

    def __init__(self) -> None:
        self.names, self.rows = set[str](), 0

    def add(self, rows: Columns) -> None:
        """Take in some rows."""
        self.names |= {name for name in rows if name[0] != "_"}
        self.rows += len(rows[TIME])


class Sampled:
    """Rows whose number a hash chooses."""

    def __init__(self, names: Sequence[str], share: float) -> None:
        self.parts: dict[str, list[Array]] = {name: [] for name in names}
        self._share = share

    def add(self, rows: Columns) -> None:
        """Take in some rows."""
        picked = np.flatnonzero(spread(np.asarray(rows["_row"])) < self._share)
        nulls = np.full(len(picked), None, object)
        for name, parts in self.parts.items():
            parts.append(rows[name][picked] if name in rows else nulls)


class ByWindow:
    """How many rows each window has."""

    def __init__(self, window: Window) -> None:
        self.held: Counter[int] = Counter()
        self._window = window

    def add(self, rows: Columns) -> None:
        """Take in some rows."""
        self.held.update(window_numbers(rows[self._window.time], self._window.seconds).tolist())


class Counting:
    """Counts of the whole and of the windows that are kept."""

    def __init__(self, features: Sequence[Feature], window: Window | None, kept: Collection[int]) -> None:
        self._features, self._window = features, window
        empty = (None, *(kept if window is not None else ()))
        self.profiles: dict[int | None, Profile] = {key: self._empty() for key in empty}
        self.rows: dict[int | None, int] = dict.fromkeys(empty, 0)

    def add(self, rows: Columns) -> None:
        """Take in some rows."""
        size = len(rows[TIME])
        nulls = np.full(size, None, object)
        numbers = window_numbers(rows[self._window.time], self._window.seconds) if self._window is not None else None
        found = [] if numbers is None else [n for n in np.unique(numbers).tolist() if n in self.profiles]
        picked: dict[int | None, Array] = {None: np.arange(size)}
        picked |= {number: np.flatnonzero(numbers == number) for number in found}
        for key, there in picked.items():
            self.rows[key] += len(there)
            for one in self._features:
                self.profiles[key][one.name] += one.count(rows.get(one.column, nulls)[there])

    def _empty(self) -> Profile:
        return {one.name: np.zeros(len(one.labels), np.int64) for one in self._features}


def spread(numbers: NDArray[Any]) -> NDArray[np.float64]:
    """Give each number a place between 0 and 1 that looks like chance, the same one each time.

    >>> spread(np.arange(3)).round(2).tolist()
    [0.88, 0.57, 0.59]
    """
    with np.errstate(over="ignore"):
        x = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((x ^ (x >> np.uint64(31))).astype(np.float64) / 2.0**64)
