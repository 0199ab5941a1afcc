"""When two answers are the same: one rule for packing, for array code and for loading.

Answers are the same within 1e-9 of their size. A model of single precision rounds: one row is added up in another order
than many are. Its answers are the same within 2e-6, of the largest of them where one is near 0. A model is of
single precision where the table that it is given has columns of single precision, where it answers in single
precision, or where its own answers alone and together differ by more than 1e-9 and no more than 2e-6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled import SINGLE, USUAL
from trilho_runtime.model.outputs import Outputs, ask, ask_probabilities

NARROW = ("float32", "float16")
ALONE = 20  # rows that are asked by themselves as well
KEY = "precision"


def is_single(model: Any, given: Any, outputs: Outputs) -> bool:
    """Say whether a model is of single precision, by the table that it is given and by its answers."""
    if _narrow_columns(given):
        return True
    some = given.iloc[:ALONE] if hasattr(given, "iloc") else given[:ALONE]
    try:
        raw = (ask_probabilities if outputs.kind in ("probability", "probabilities") else ask)(model, some)
        if str(getattr(raw, "dtype", "")) in NARROW:
            return True
        together = outputs.scores(model, some)
        rows = [some.iloc[i : i + 1] if hasattr(some, "iloc") else some[i : i + 1] for i in range(len(some))]
        alone = np.concatenate([outputs.scores(model, row) for row in rows])
    except Exception:  # noqa: BLE001  it answers no row by itself, which the proof of the package says
        return False
    return not are_same(alone, together, float(USUAL)) and are_same(alone, together, float(SINGLE))


def _narrow_columns(given: Any) -> bool:
    dtypes = given.dtypes if hasattr(given, "dtypes") else [getattr(given, "dtype", "")]
    return any(str(dtype).lower() in NARROW for dtype in dtypes)


def are_same(found: Any, expected: Any, tolerance: float) -> bool:
    """Say whether answers are the same.

    >>> are_same([0.5], [0.5000001], 1e-9), are_same([0.5], [0.5000001], 2e-6)
    (False, True)
    """
    one, other = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=tolerance, atol=least(tolerance, other)))


def least(tolerance: float, expected: NDArray[Any]) -> float:
    """Give the difference that counts for nothing even of an answer near 0, which is a difference of larger sums.

    >>> least(1e-9, np.array([5.0])), least(2e-6, np.array([2.0, 0.0]))
    (1e-12, 4e-06)
    """
    largest = float(np.abs(expected).max(initial=0.0))
    return 1e-12 if tolerance <= float(USUAL) else tolerance * largest


def tolerance_of(manifest: Mapping[str, Any]) -> float:
    """Give how far the answers of a package may lie apart.

    >>> tolerance_of({}), tolerance_of({"precision": "single"})
    (1e-09, 2e-06)
    """
    return float(SINGLE if manifest.get(KEY) == "single" else USUAL)
