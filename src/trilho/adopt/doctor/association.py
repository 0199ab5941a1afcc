"""How much a feature tells of the target, from the values that a run kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trilho.adopt.trace import Fit, Value
from trilho.data.tables import database, text

ALMOST = 0.999
FEWEST = 30


def telling(fit: Fit, scratch: Path) -> Iterator[tuple[str, str]]:
    """Give the columns of a fit's X that are almost the target, and how that shows."""
    if fit.X is None or fit.y is None:
        return
    y = _vector(scratch, fit.y.value)
    columns = _columns(scratch, fit.X.value) if y is not None else {}
    if y is None or len(y) < FEWEST or len(set(y.tolist())) < 2:
        return
    for name, values in columns.items():
        named = f"{fit.X.source}[{name!r}]" == fit.y.source  # a formula takes what it names out of the table
        if len(values) != len(y) or name == "__index__" or (named and fit.function.startswith("statsmodels.")):
            continue
        share = association(values, y)
        if share >= ALMOST:
            yield name, f"gives the target by itself (association {share:.4f} of 1 in {len(y)} training rows)"


def association(values: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """Give how well one column alone orders or equals the target, from 0 to 1.

    For two classes it is twice the distance of the area under the ROC curve from one half, for numbers the absolute
    correlation.

    >>> association(np.array([1.0, 2, 3, 4]), np.array([0, 0, 1, 1]))
    1.0
    """
    try:
        x = values.astype(float)
        truth = y.astype(float)
    except (TypeError, ValueError):
        return 0.0
    whole = np.isfinite(x) & np.isfinite(truth)
    x, truth = x[whole], truth[whole]
    if len(x) < 2 or len(x) < len(values) / 2 or np.ptp(x) == 0 or np.ptp(truth) == 0:
        return 0.0
    classes = np.unique(truth)
    if len(classes) == 2:
        return abs(2 * _area(x, truth == classes[1]) - 1)
    return float(abs(np.corrcoef(x, truth)[0, 1]))


def _area(score: np.ndarray[Any, Any], positive: np.ndarray[Any, Any]) -> float:
    values, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    del values
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def _vector(scratch: Path, value: Value) -> np.ndarray[Any, Any] | None:
    columns = _columns(scratch, value)
    own = [values for name, values in columns.items() if name != "__index__"]
    return own[0] if len(own) == 1 else None


def _columns(scratch: Path, value: Value) -> dict[str, np.ndarray[Any, Any]]:
    """Read a kept value as columns; {} where it was not kept or is of another form."""
    path = scratch / value.file
    if not value.file or not path.is_file():
        return {}
    if path.suffix == ".npy":
        array = np.load(path, allow_pickle=False)
        if array.ndim == 1:
            return {"": array}
        names = value.columns or [f"column {at}" for at in range(array.shape[1])] if array.ndim == 2 else []
        return {name: array[:, at] for at, name in enumerate(names)}
    if path.suffix != ".parquet":
        return {}
    with database() as connection:
        found = connection.execute(f"SELECT * FROM read_parquet({text(path)})").fetchnumpy()  # noqa: S608
    return {str(name): np.asarray(np.ma.filled(_floats(values), np.nan)) for name, values in found.items()}


def _floats(values: Any) -> Any:
    try:
        return values.astype(float) if np.ma.isMaskedArray(values) else values
    except (TypeError, ValueError):
        return np.asarray(values, dtype=object)
