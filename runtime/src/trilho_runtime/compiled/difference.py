"""How far array code lies from the original: the measure that a stage's bound is held against."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled import BIT_EQUAL, NotCompiled
from trilho_runtime.compiled.flow import Flow, Unlike, runtime_of, values_of

LIMITS = {BIT_EQUAL: 0.0, "1e-12": 1e-12}


def limit_of(bound: str) -> float:
    """Give a bound as a number: nothing may differ that is bit-equal.

    >>> limit_of("bit-equal"), limit_of("1e-6")
    (0.0, 1e-06)
    """
    return LIMITS[bound] if bound in LIMITS else float(bound)


def largest_difference(found: Any, original: Any, flow: Flow) -> float:
    """Give the largest difference of a stage's output, relative to the largest number of its row where that exceeds 1.

    Raises NotCompiled where shape or type differ, or values that have no difference.
    """
    try:
        expected = runtime_of(original, flow)
    except Unlike as error:
        raise NotCompiled(f"the original gave {error}") from None
    if flow.matrix:
        return matrix_difference(found, expected)
    if len(found) != len(expected):
        raise NotCompiled(f"{len(found)} columns instead of {len(expected)}")
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        if not _same(values_of(one), values_of(other)):
            raise NotCompiled(f"column {place} has other values than the original gives")
    return 0.0


def _same(one: list[Any], other: list[Any]) -> bool:
    return one == other and all(type(a) is type(b) or a == b for a, b in zip(one, other, strict=True))


def matrix_difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Give the largest difference of two matrices, or of two rows of scores.

    >>> matrix_difference(np.array([[1.0, 200.0]]), np.array([[1.0, 202.0]]))
    0.009900990099009901
    """
    if found.shape != expected.shape or found.dtype != expected.dtype:
        was = f"{expected.dtype} of shape {expected.shape}"
        raise NotCompiled(f"{found.dtype} of shape {found.shape} instead of {was}")
    if found.dtype.kind != "f":
        return 0.0 if np.array_equal(found, expected) else float("inf")
    known = np.isfinite(expected)
    if not np.array_equal(found[~known], expected[~known], equal_nan=True):
        raise NotCompiled("missing or infinite values stand elsewhere than in the original's output")
    given, wanted = np.where(known, found, 0).astype(np.float64), np.where(known, expected, 0).astype(np.float64)
    rows = wanted.reshape(len(wanted), -1)
    scale = np.abs(rows).max(axis=1, initial=1.0).reshape(-1, *[1] * (wanted.ndim - 1))
    with np.errstate(over="ignore", invalid="ignore"):
        apart = np.abs(given - wanted) / scale
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))
