"""On what scale the notebook's predictions are: as its model gives them, or made into others before they are measured.

Where a notebook's metric saw np.expm1(model.predict(X)), a project that serves model.predict(X) has the same model and
the wrong answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..equality import compare_numbers
from .subject import NotCompared, Subject, scores_of
from .values import kept

if TYPE_CHECKING:
    from numpy.typing import NDArray

INVERSES: dict[str, Callable[[Any], Any]] = {"log1p": np.expm1, "log": np.exp, "log10": lambda x: 10.0**x,
                                             "log2": np.exp2, "sqrt": np.square}  # fmt: skip


class Measured(NamedTuple):
    """Predictions of held-out rows as the notebook's metric saw them, where that is not as its model gave them."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    fit_rows: NDArray[np.int64] | None  # what that model was fitted to; None for the shipped one


def post_processed(subject: Subject) -> Measured | None:
    """Give the predictions that the metric saw, if the notebook has made them of its model's own on the target's scale.

    What is measured on another scale than the target's says nothing of what should be served.
    """
    told = subject.request["evaluated"]
    if not told or not told["result"]:
        return None
    answered, _ = kept(told["result"])
    if answered is None or np.asarray(answered).dtype.kind not in "iufb":  # classes by their names are on no scale
        return None
    own = scores_of(answered, told["column"])
    rows = subject.places(told["positions"], len(own), _index(told["X"]))
    if rows is None:
        return None
    truth = np.asarray(subject.raw[subject.target].to_numpy()[rows])
    for pair in told["measured"]:
        found = [np.asarray(kept(file)[0]) for file in pair]
        if any((values.ndim != 1 and values.size != len(own)) or values.size != len(own) for values in found):
            continue
        ours = [values.reshape(-1) for values in found if not _same(values, truth)]
        if len(ours) == 1 and not _are_classes(ours[0]) and not _same(ours[0], own):
            fit_rows = _fit_rows(subject) if told["refitted"] else None
            if told["refitted"] and fit_rows is None:
                raise NotCompared("the notebook measures other numbers than its model's, of rows that are not known")
            return Measured(rows, ours[0].astype(float), fit_rows)
    return None


def inverse_of(transform: str) -> Callable[[Any], Any] | None:
    """Give what undoes a transform of the target, None where that is not known.

    >>> float(inverse_of("np.sqrt")(3.0))
    9.0
    """
    return INVERSES.get(transform.rpartition(".")[2])


def _fit_rows(subject: Subject) -> NDArray[np.int64] | None:
    told = subject.request["evaluated"]
    if not told["fit_rows"]:
        return None
    return subject.places(told["fit_positions"], int(told["fit_rows"]), _index(told["fit_X"]))


def _index(file: str) -> Any:
    return kept(file)[1]


def _same(a: Any, b: Any) -> bool:
    try:
        return not compare_numbers(a, b, 1e-9, np.arange(len(b))).different
    except (TypeError, ValueError):
        return False


def _are_classes(values: Any) -> bool:
    return values.dtype.kind not in "iuf" or bool(np.isin(values, (0, 1)).all())
