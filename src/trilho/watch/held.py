"""Held-out rows, as a package keeps them: predictions, what came true, and in which bins of the reference they lie."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho.watch.performance import losses
from trilho_runtime.profile import PREDICTION, Feature

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bins = NDArray[np.uint8]


def _no_bins() -> Bins:
    return np.zeros((0, 0), np.uint8)


@dataclass(frozen=True)
class Held:
    """Rows whose truth is known, in order of time where they have one.

    `prediction` and `value` are as `measure` takes them. A model that names classes says how sure it was, and whether
    the class came true; `shares` are all its probabilities and `known` the place of the class that came true. `bins`
    has a column for each of `features`, and none where the package is older than that.
    """

    prediction: Floats
    value: Floats
    bins: Bins = field(default_factory=_no_bins)
    features: tuple[str, ...] = ()
    ordered: tuple[bool, ...] = ()
    shares: Floats | None = None
    known: Ints | None = None
    named: bool = False

    def __post_init__(self) -> None:
        if len(self.bins) != len(self.value):
            object.__setattr__(self, "bins", np.zeros((len(self.value), 0), np.uint8))

    @classmethod
    def load(cls, package: Path, features: Sequence[Feature] = (), hidden: Collection[str] = ()) -> Held:
        """Read a package's held-out rows, with the bins of the features that are watched and not hidden."""
        with np.load(package / "validation.npz", allow_pickle=False) as archive:
            columns = {name: archive[name] for name in archive.files}
        return cls.of(columns, features, hidden)

    @classmethod
    def of(cls, columns: Mapping[str, NDArray[Any]], features: Sequence[Feature], hidden: Collection[str] = ()) -> Held:
        """Take the arrays of a `validation.npz`; rows without a prediction or a truth are left out."""
        prediction, value = columns["prediction"], columns["value"]
        stored = columns["features"].tolist() if "features" in columns else []
        there = {f.name: f for f in features if f.name in stored and not {f.name, f.column} & set(hidden)}
        names = [name for name in there if name != PREDICTION]
        bins = columns["bins"][:, [stored.index(name) for name in names]] if names else _no_bins()
        found = cls(
            prediction,
            value,
            bins,
            tuple(names),
            tuple(there[name].ordered > 0 for name in names),
            columns["shares"].astype(np.float64) if "shares" in columns else None,
            columns.get("known"),
            "class" in columns,
        )
        fine = np.isfinite(prediction) & np.isfinite(value)
        return found if fine.all() else found.take(np.flatnonzero(fine))

    @property
    def rows(self) -> int:
        """Give how many rows there are."""
        return len(self.value)

    def take(self, picked: NDArray[Any]) -> Held:
        """Give some of the rows."""
        shares, known = (None if x is None else x[picked] for x in (self.shares, self.known))
        found = replace(self, prediction=self.prediction[picked], value=self.value[picked], bins=self.bins[picked])
        return replace(found, shares=shares, known=known)


@dataclass(frozen=True)
class Served:
    """Rows of a window, whose truth need not be known; `bins` has a column for each of the held-out rows' features."""

    prediction: Floats
    bins: Bins
    shares: Floats | None = None
    value: Floats | None = None
    known: Ints | None = None
    named: bool = False

    @property
    def rows(self) -> int:
        """Give how many rows there are."""
        return len(self.prediction)

    def take(self, picked: NDArray[Any]) -> Served:
        """Give some of the rows."""
        shares, value, known = (None if x is None else x[picked] for x in (self.shares, self.value, self.known))
        return Served(self.prediction[picked], self.bins[picked], shares, value, known, self.named)


def losses_of(metric: str, rows: Held | Served) -> Floats | None:
    """Give each row's part in a metric that is a mean of such (for rmse: its square is); None for any other.

    >>> losses_of("accuracy", Served(np.array([0.9, 0.2]), _no_bins(), value=np.array([1.0, 1.0]))).tolist()
    [1.0, 0.0]
    """
    assert rows.value is not None
    if metric == "accuracy":
        right = rows.value if rows.named else (rows.prediction >= 0.5) == (rows.value >= 0.5)
        return np.asarray(right, np.float64)
    if metric not in ("mae", "rmse", "brier", "log_loss"):
        return None
    if not rows.named:
        return losses(metric, rows.prediction, rows.value)
    if rows.shares is None or rows.known is None:
        return None
    given = np.where(rows.known < 0, 0.0, rows.shares[np.arange(len(rows.known)), rows.known])
    if metric == "log_loss":
        return np.asarray(-np.log(np.clip(given, 1e-15, 1.0)))
    return np.asarray(((rows.shares**2).sum(axis=1) - 2 * given + 1) / 2)


def place(features: Sequence[Feature], names: Sequence[str], columns: Mapping[str, NDArray[Any]]) -> Bins:
    """Give the bins of rows for the named features; a column that is not there is null in every row.

    >>> place([], [], {"x": np.arange(2.0)}).shape
    (2, 0)
    """
    rows = len(next(iter(columns.values()))) if columns else 0
    known, missing = {f.name: f for f in features}, np.full(rows, None, object)
    found = np.zeros((rows, len(names)), np.uint8)
    for j, name in enumerate(names):
        found[:, j] = known[name].place(np.asarray(columns.get(known[name].column, missing)))
    return found


class Kept:
    """Rows of a window as they come, at most so many of them: every second, fourth, ... once there are more."""

    def __init__(self, most: int = 50_000) -> None:
        self._most, self._step, self._seen = most, 1, 0
        self._parts: list[Served] = []

    def add(self, rows: Served) -> None:
        """Take in rows; the ones that are kept do not depend on how they were cut into pieces."""
        first = -self._seen % self._step
        self._parts.append(rows.take(np.arange(first, rows.rows, self._step)))
        self._seen += rows.rows
        while sum(part.rows for part in self._parts) > self._most:
            whole = self.rows()
            self._parts, self._step = [whole.take(np.arange(0, whole.rows, 2))], self._step * 2

    @property
    def seen(self) -> int:
        """Give how many rows came."""
        return self._seen

    def rows(self) -> Served:
        """Give the rows that are kept."""
        if not self._parts:
            return Served(np.zeros(0), _no_bins())

        def joined(name: str) -> Any:
            parts = [getattr(part, name) for part in self._parts]
            return None if parts[0] is None else np.concatenate(parts)

        prediction, bins, shares = joined("prediction"), joined("bins"), joined("shares")
        return Served(prediction, bins, shares, joined("value"), joined("known"), self._parts[0].named)
