"""A stage that is made of answers: what a package or an endpoint said, held against what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trilho.adopt.parity.certificate import Stage
from trilho.adopt.parity.equality import compare_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray


def compare_answers(
    name: str,
    answers: Sequence[float | None],
    expected: NDArray[np.float64],
    positions: NDArray[np.int64],
    tolerance: float,
) -> Stage:
    """Give the stage that the answers come to; one that is None is a missing number.

    >>> compare_answers("http", [1.0, None], np.array([1.0, 2.0]), np.array([7, 9]), 1e-9).state
    'different'
    """
    given = np.array([np.nan if answer is None else answer for answer in answers], dtype=np.float64)
    found = compare_numbers(given, expected, tolerance, positions)
    return Stage(
        name=name,
        state="different" if found.different else "equal",
        rows=found.rows,
        max_difference=found.largest,
        tolerance=tolerance,
        reason=found.reason,
        first_difference=found.first,
    )
