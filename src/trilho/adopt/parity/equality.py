"""When two columns of numbers are the same, and where they first are not. For both sides: it needs numpy alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TINY = 1e-12  # below this a relative difference says nothing


class Found(NamedTuple):
    """What a comparison found: how many rows it saw, the largest difference, and the first row that differs."""

    rows: int
    different: int
    largest: float | None
    first: dict[str, Any] | None
    reason: str


def compare_numbers(found: Any, expected: Any, tolerance: float, positions: NDArray[np.int64]) -> Found:
    """Compare numbers row by row, relative to their size; missing values equal each other.

    >>> compare_numbers([1.0, np.inf, np.nan], [1.0 + 1e-10, 5.0, np.nan], 1e-9, np.array([7, 8, 9])).first
    {'row': 8, 'notebook': 5.0, 'project': 'inf'}
    """
    a, b = (np.asarray(values, dtype=np.float64).reshape(-1) for values in (found, expected))
    if len(a) != len(b):
        return Found(min(len(a), len(b)), abs(len(a) - len(b)), None, None, f"{len(b)} rows wanted, {len(a)} given")
    alike, apart = alike_numbers(a, b, tolerance)
    both = np.isfinite(a) & np.isfinite(b)
    largest = float(apart[both].max()) if both.any() else 0.0
    wrong = np.flatnonzero(~alike)
    return Found(len(a), len(wrong), largest, first_difference(wrong, positions, None, b, a), count_told(wrong, len(a)))


def alike_numbers(
    a: NDArray[np.float64], b: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Say for each pair of numbers whether they are the same, and how far they are apart."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(a - b)
        near = apart <= np.maximum(tolerance * np.maximum(np.abs(a), np.abs(b)), TINY if tolerance else 0)
        alike = (a == b) | (np.isnan(a) & np.isnan(b)) | (near & np.isfinite(apart))
    return alike, apart


def shown(value: Any) -> Any:
    """Give a value as JSON can hold it."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return str(value)


def first_difference(
    wrong: NDArray[np.int64], positions: NDArray[np.int64], column: str | None, notebook: Any, project: Any
) -> dict[str, Any] | None:
    """Give the first row that differs, by its position in the table, with both values."""
    if not len(wrong):
        return None
    row = int(wrong[0])
    where = int(positions[row]) if row < len(positions) else row
    told = {"row": where, "notebook": shown(notebook[row]), "project": shown(project[row])}
    return {**told, "column": column} if column is not None else told


def count_told(wrong: NDArray[np.int64], rows: int) -> str:
    """Say how many rows differ; nothing where none does."""
    return f"{len(wrong)} of {rows} rows differ" if len(wrong) else ""
