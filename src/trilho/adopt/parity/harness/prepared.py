"""Rows that are a model's own input: whether the project answers them as the notebook's metric saw them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..equality import Found, compare_numbers
from .scale import inverse_of
from .subject import Subject, scores_of
from .tables import uncategorised
from .values import as_table, kept

OTHERS = "the notebook's metric saw other numbers than its model's, and the project does not give those"


def as_given(value: Any, names: list[str], target: str) -> Any:
    """Give a model's input as `load` does: with texts for names, no categories, and without the target."""
    table = as_table(value)
    if table is None:
        return None
    if getattr(value, "ndim", 2) == 1:
        table.columns = names
    elif list(table.columns) == list(range(table.shape[1])):
        table = table.add_prefix("x").infer_objects()
    table = table.rename(columns=str)
    return uncategorised(table.drop(columns=[c for c in [target] if c in table.columns]))


def compare_measured(subject: Subject, tolerance: float) -> Found | None:
    """Ask for the held-out rows, and compare with what the metric saw; None where it saw the model's own numbers."""
    told = subject.request["evaluated"]
    answered = kept(told["result"])[0] if told and told["result"] else None
    if answered is None:
        return None
    own = scores_of(answered, told["column"]) if np.asarray(answered).dtype.kind in "iufb" else None
    seen = next((s for pair in told["measured"] for s in [_scores(pair, own)] if s is not None), None)
    if seen is None or own is None:
        return None
    places = np.arange(len(seen))
    inverse = inverse_of(subject.request["transform"])
    if inverse is not None and not compare_numbers(inverse(np.asarray(answered)), seen, tolerance, places).different:
        return None
    names = [name for name in subject.raw.columns if name != subject.target]
    rows = as_given(kept(told["X"])[0], names, subject.target)
    if rows is None or told["refitted"]:
        return Found(len(seen), len(seen), None, None, OTHERS)
    found = compare_numbers(subject.answers_of(rows), seen, tolerance, places)
    return found._replace(reason=OTHERS) if found.different else found


def _scores(pair: list[str], own: Any) -> Any:
    """Give the predictions of a metric's two arguments, where those are numbers that the model did not give itself."""
    if own is None:
        return None
    values = np.asarray(kept(pair[1])[0])
    if values.dtype.kind not in "iuf" or values.size != len(own):
        return None
    scores = values.reshape(-1).astype(float)
    classes = bool(np.isin(scores, (0, 1)).all())
    return None if classes or not compare_numbers(scores, own, 1e-9, np.arange(len(own))).different else scores
