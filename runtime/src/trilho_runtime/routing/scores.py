"""What an answer says of each row, whichever version and protocol gave it, and the bin that a score falls in."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

CUTS = 256  # bins, at most: tests share their evidence out over so many
NEAR = 8  # two scores no more bins apart are near each other: a quarter of the rows, or a factor of four
LABEL = "="  # what the bin of a class begins with
LABELS = 100
APART = 0.1  # two values further apart than this share of the larger are another answer
SMALLEST = 2.0**-12
HALF = CUTS // 2


class Score(NamedTuple):
    """One row's answer: a value, or the probability of each class; and the decision where there is one."""

    value: float | None = None
    probabilities: Mapping[str, float] | None = None
    decision: Any = None

    @property
    def label(self) -> str | None:
        """Give the most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__) if self.probabilities else None


def read_scores(body: bytes) -> list[Score]:
    """Read an answer of ours, of Vertex AI's shape or of the Open Inference Protocol; empty for anything else.

    >>> read_scores(b'{"predictions": [2.5, {"0": 0.25, "1": 0.75}]}')[0].value
    2.5
    """
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return []
    if not isinstance(payload, dict):
        return []
    if isinstance(payload.get("predictions"), list):
        found = [_entry(entry) for entry in payload["predictions"]]
    else:
        found = _tensors(payload.get("outputs"))
    return [] if any(score is None for score in found) else [score for score in found if score is not None]


def _entry(entry: Any) -> Score | None:
    if isinstance(entry, bool):
        return Score(probabilities={str(entry): 1.0})
    if isinstance(entry, int | float):
        return Score(value=float(entry))
    if isinstance(entry, str):
        return Score(probabilities={entry: 1.0})
    if not isinstance(entry, dict):
        return None
    if "score" in entry or isinstance(entry.get("probabilities"), dict):
        inner = _entry(entry["probabilities"] if entry.get("probabilities") is not None else entry["score"])
        return None if inner is None else inner._replace(decision=entry.get("decision"))
    numbers = all(isinstance(value, int | float) for value in entry.values())
    return Score(probabilities=entry) if entry and numbers else None


def _tensors(outputs: Any) -> list[Score | None]:
    """Read the first tensor of an answer of the Open Inference Protocol: a number a row, or one a class."""
    first = outputs[0] if isinstance(outputs, list) and outputs else None
    if not isinstance(first, dict) or not isinstance(first.get("data"), list):
        return []
    data, shape = first["data"], first.get("shape") or [len(first["data"])]
    wide = shape[1] if len(shape) > 1 and isinstance(shape[1], int) else 1
    if wide <= 1:
        return [_entry(value) for value in data]
    rows = data if data and isinstance(data[0], list) else [data[at : at + wide] for at in range(0, len(data), wide)]
    return [_entry({str(number): value for number, value in enumerate(row)}) for row in rows]


def number_of(score: Score) -> float | None:
    """Give what is compared as a number: the value, or the probability of the second of two classes."""
    if score.probabilities is None:
        return score.value
    if len(score.probabilities) != 2:
        return None
    return float(list(score.probabilities.values())[1])


def bin_of(score: Score, edges: Sequence[float] = ()) -> str:
    """Give the bin of a score: between the edges, or by its size where none are known, or its class.

    >>> bin_of(Score(0.4), [0.25, 0.5]), bin_of(Score(0.0)), bin_of(Score(probabilities={"a": 1.0}))
    ('1', '128', '=a')
    """
    number = number_of(score)
    if number is None or not math.isfinite(number):
        return f"{LABEL}{(score.label or '')[:60]}"
    return str(bisect_right(edges, number) if edges else _by_size(number))


def _by_size(number: float) -> int:
    """Give a bin for a number of unknown scale: four an octave, from 2**-12 to 2**19, and the same below zero."""
    size = 0 if abs(number) < SMALLEST else min(HALF - 1, 1 + int(4 * math.log2(abs(number) / SMALLEST)))
    return HALF + (size if number > 0 else -size)


def far_apart(new: str, old: str) -> bool:
    """Say whether two bins are not near each other; two classes never are.

    >>> far_apart("3", "11"), far_apart("3", "12"), far_apart("=a", "=b")
    (False, True, True)
    """
    if new.isdigit() and old.isdigit():
        return abs(int(new) - int(old)) > NEAR
    return new != old


def difference(new: Score, old: Score) -> float:
    """Give by how much a score is larger than another; of more than two classes the share of probability moved."""
    first, second = number_of(new), number_of(old)
    if first is not None and second is not None:
        return first - second
    ours, theirs = new.probabilities or {}, old.probabilities or {}
    return sum(abs(ours.get(label, 0.0) - theirs.get(label, 0.0)) for label in {*ours, *theirs}) / 2


def disagree(new: Score, old: Score) -> bool:
    """Say whether two answers mean something else: another decision, another class, or values a tenth apart.

    >>> disagree(Score(100.0), Score(95.0)), disagree(Score(100.0), Score(85.0))
    (False, True)
    """
    if new.decision is not None and old.decision is not None:
        return bool(new.decision != old.decision)
    if new.value is None or old.value is None:
        return new.label != old.label
    return abs(new.value - old.value) > APART * max(abs(new.value), abs(old.value)) + 1e-12
