"""Made-up rows at the edges of a signature: nulls, unseen categories, extremes. Every one is a valid request."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.schema.field import Field, RowError
from trilho_runtime.schema.signature import Signature

Columns = dict[str, NDArray[Any]]
BASE_ROWS = 20
PER_FIELD = 40  # fields that get a row of their own
VALUES = 40  # of a field, how many of its known values are asked
MIXED_ROWS = 12
SEED = 5
UNSEEN = "\u2014 never seen \u2014"
WILD = (1e300, -1e300, 1e39, -1e39, 1e-300, 5e-324, 1e18, -1e18)


def edge_columns(signature: Signature, sample: Any) -> Columns:
    """Give made-up rows that lie near the sample's, by column."""
    return _columns(signature, _tame(signature, sample, _base(signature, sample)))


def wild_columns(signature: Signature, sample: Any) -> Columns:
    """Give made-up rows of the largest and the smallest numbers that a request may hold, by column."""
    base = _base(signature, sample)
    numbers = [f for f in signature.fields if f.type in ("number", "integer")]
    rows = [{**base[i % len(base)], **{f.name: _within(f, v) for f in numbers}} for i, v in enumerate(WILD)]
    rows += [{**base[0], f.name: _within(f, v)} for f in numbers[:PER_FIELD] for v in WILD[:2]]
    return _columns(signature, rows if numbers else [])


def stacked(parts: Sequence[Mapping[str, NDArray[Any]]]) -> Columns:
    """Give the rows of several tables as one, by column.

    >>> stacked([{"x": np.ones(1)}, {"x": np.zeros(2)}])
    {'x': array([1., 0., 0.])}
    """
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _base(signature: Signature, sample: Any) -> list[dict[str, Any]]:
    return signature.rows(sample.iloc[:BASE_ROWS])


def _columns(signature: Signature, rows: Sequence[Mapping[str, Any]]) -> Columns:
    good = [row for row in rows if _answers(signature, row)]
    if good:
        return signature.columns([dict(row) for row in good])
    return {f.name: np.zeros(0, f.numpy) for f in signature.fields}


def _answers(signature: Signature, row: Mapping[str, Any]) -> bool:
    try:
        signature.columns([dict(row)])
    except RowError:
        return False
    return True


def _tame(signature: Signature, sample: Any, base: list[dict[str, Any]]) -> list[dict[str, Any]]:
    changes = [*_changes(signature, sample)]
    rows = [{**base[i % len(base)], **change} for i, change in enumerate(changes)]
    chance = random.Random(SEED)
    return rows + [{f.name: chance.choice(base)[f.name] for f in signature.fields} for _ in range(MIXED_ROWS)]


def _changes(signature: Signature, sample: Any) -> Iterator[dict[str, Any]]:
    nullable = [f.name for f in signature.fields if f.nullable]
    texts = [f.name for f in signature.fields if f.type == "string"]
    yield {}
    yield dict.fromkeys(nullable)
    yield from ({name: None} for name in nullable[:PER_FIELD])
    yield from ({name: UNSEEN} for name in texts[:PER_FIELD])
    yield dict.fromkeys(texts, UNSEEN)
    yield dict.fromkeys(texts, "")
    values = {f.name: _values(f, sample) for f in signature.fields if f.type != "timestamp"}
    for place in range(max((len(v) for v in values.values()), default=0)):
        yield {name: v[place] for name, v in values.items() if place < len(v)}


def _values(field: Field, sample: Any) -> list[Any]:
    """Give values of a field: the known ones of a text, and for numbers their ends and what lies beyond."""
    known = sample[field.name].dropna().astype(object)
    if field.type == "string":
        return sorted({str(v) for v in known.tolist()})[:VALUES]
    if field.type == "boolean":
        return [True, False]
    finite = known[np.isfinite(known.to_numpy(np.float64))].to_numpy(np.float64)
    if not len(finite):
        return [0]
    low, high = finite.min(), finite.max()
    beyond = (float(high) - float(low)) * 10 or 10.0
    ends = [0, -1, 1, low, high, float(low) - beyond, float(high) + beyond, -0.0]
    few = sorted(set(finite.tolist()))
    return [_within(field, v) for v in (*ends, *(few if len(few) <= VALUES else ()))]


def _within(field: Field, value: Any) -> float | int:
    """Give a number as the field's type holds it."""
    if field.type == "integer":
        limits = np.iinfo(field.whole)
        return max(int(limits.min), min(int(limits.max), int(value)))
    limit = float(np.finfo(field.numpy).max)
    return max(-limit, min(limit, float(value)))
