"""Parity of an ONNX file with its package: the same rows asked of both, at the edges and at every tree's thresholds.

Two values next to each other that a model answers differently lie on both sides of a threshold. They are found by
halving, through whatever stands before the trees, and asked in double and in single precision: where a converter has
rounded a threshold, one of them falls on the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled.edges import edge_columns, stacked
from trilho_runtime.model.outputs import Floats, Outputs
from trilho_runtime.schema.field import Field
from trilho_runtime.schema.signature import Signature

RELATIVE, ABSOLUTE = 1e-5, 1e-6
FIELDS, JUMPS, GRID = 40, 4, 33
BASES = 3  # rows around which thresholds are looked for
Columns = dict[str, NDArray[Any]]
Answer = Callable[[Columns], Floats]


@dataclass(frozen=True)
class Parity:
    """How far an ONNX file's answers are from the package's."""

    rows: int
    sample_rows: int
    edge_rows: int
    threshold_rows: int
    refused_rows: int
    """Made-up rows that the package itself does not answer; they are not compared."""
    largest_difference: float
    largest_share: float
    """The largest difference as a share of the package's answer, or of 1 where that is smaller."""
    beyond_tolerance: int
    beyond_at_thresholds: int
    first: str
    """The first row that is answered otherwise, and both answers."""

    def to_json(self) -> dict[str, Any]:
        """Give the parity as it stands in onnx.json."""
        told = {name: value for name, value in asdict(self).items() if name != "first"}
        return {**told, "tolerance": {"relative": RELATIVE, "absolute": ABSOLUTE}}


def compare(signature: Signature, sample: Any, outputs: Outputs, ours: Answer, theirs: Answer, trees: bool) -> Parity:
    """Ask both for the sample, for made-up rows, and for trees at their thresholds."""
    known = signature.arrays(sample)
    parts = {"sample": known, "edge": _without_empty(signature, edge_columns(signature, sample))}
    if trees:
        parts["threshold"] = threshold_columns(signature, known, ours)
    asked, wanted, refused = {}, {}, 0
    for name, columns in parts.items():
        kept, answers, bad = _answered(columns, ours)
        asked[name], wanted[name], refused = kept, answers, refused + bad
    full = {name: columns for name, columns in asked.items() if _size(columns)}
    rows = stacked(list(full.values()))
    expected = np.concatenate([wanted[name] for name in full])
    found = theirs(rows)
    apart = np.abs(found - expected)
    wrong = ~(apart <= ABSOLUTE + RELATIVE * np.abs(expected))
    wrong = wrong.reshape(len(wrong), -1).any(axis=1)
    before = sum(_size(asked[name]) for name in ("sample", "edge"))
    return Parity(
        len(found), _size(asked["sample"]), _size(asked["edge"]), len(found) - before, refused,
        float(np.nanmax(apart)) if len(found) else 0.0,
        float(np.nanmax(apart / np.maximum(1, np.abs(expected)))) if len(found) else 0.0,
        int(wrong.sum()), int(wrong[before:].sum()),
        _first(signature, rows, found, expected, wrong),
    )  # fmt: skip


def threshold_columns(signature: Signature, known: Columns, ours: Answer) -> Columns:
    """Give rows on both sides of the thresholds of each number, next to them in double and in single precision."""
    count = min(BASES, _size(known))
    found = [part for base in range(count) for part in _around(signature, known, base, ours)]
    return stacked(found) if found else {name: column[:0] for name, column in known.items()}


def _around(signature: Signature, known: Columns, base: int, ours: Answer) -> list[Columns]:
    numbers = [field for field in signature.fields if field.type in ("number", "integer")][:FIELDS]
    parts = []
    for field in numbers:
        column = known[field.name]
        seen = column[~np.isnan(column)] if column.dtype.kind == "f" else column
        if not len(seen) or seen.min() == seen.max():
            continue
        grid = np.linspace(float(seen.min()), float(seen.max()), GRID).astype(column.dtype)
        try:
            pairs = _halved(_with(known, base, field, grid), field, grid, ours)
        except Exception:  # noqa: BLE001, S112  a row that the model does not take has no thresholds around it
            continue
        if len(pairs):
            parts.append(_with(known, base, field, _near(pairs, field)))
    return parts


def _halved(asked: Columns, field: Field, grid: NDArray[Any], ours: Answer) -> NDArray[Any]:
    """Give pairs of values that lie next to each other and are answered differently."""
    answers = ours(asked).reshape(len(grid), -1)
    jumps = np.flatnonzero((answers[1:] != answers[:-1]).any(axis=1))
    jumps = (
        jumps[np.unique(np.linspace(0, len(jumps) - 1, min(JUMPS, len(jumps))).astype(int))] if len(jumps) else jumps
    )
    low, high, first = _places(grid[jumps]), _places(grid[jumps + 1]), answers[jumps]
    rows = {name: column[: len(jumps)] for name, column in asked.items()}
    while len(jumps) and (high - low > 1).any():
        middle = low + (high - low) // 2
        same = (ours({**rows, field.name: _values(middle, grid.dtype)}).reshape(len(jumps), -1) == first).all(axis=1)
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return np.concatenate([_values(low, grid.dtype), _values(high, grid.dtype)])


def _near(values: NDArray[Any], field: Field) -> NDArray[Any]:
    """Give the values, and the numbers of single precision around them."""
    if values.dtype != np.float64:
        return values
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    around = [single, np.nextafter(single, np.float32(np.inf)), np.nextafter(single, np.float32(-np.inf))]
    found = np.concatenate([values, *(each.astype(np.float64) for each in around)])
    return np.asarray(found[np.isfinite(found)])


def _places(values: NDArray[Any]) -> NDArray[np.int64]:
    """Number floats in their order, so that the middle of two is the number between theirs.

    >>> (_places(np.array([0.0])) - _places(np.array([-5e-324]))).tolist()
    [1]
    """
    if values.dtype.kind != "f":
        return values.astype(np.int64)
    bits = values.astype(np.float64).view(np.int64) if values.dtype == np.float64 else _single(values)
    least = np.int64(-(2**63)) if values.dtype == np.float64 else np.int64(-(2**31))
    return np.where(bits < 0, least - bits, bits)


def _single(values: NDArray[Any]) -> NDArray[np.int64]:
    return values.astype(np.float32).view(np.int32).astype(np.int64)


def _values(places: NDArray[np.int64], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind != "f":
        return places.astype(dtype)
    if dtype == np.float64:
        return np.where(places < 0, np.int64(-(2**63)) - places, places).view(np.float64)
    bits = np.where(places < 0, np.int64(-(2**31)) - places, places).astype(np.int32)
    return np.asarray(bits.view(np.float32), dtype)


def _with(known: Columns, base: int, field: Field, values: NDArray[Any]) -> Columns:
    rows = {name: np.repeat(column[base : base + 1], len(values)) for name, column in known.items()}
    return {**rows, field.name: values}


def _without_empty(signature: Signature, columns: Columns) -> Columns:
    """Leave out rows with an empty text where a text may be null: in ONNX they are the same."""
    kept = np.ones(_size(columns), bool)
    for field in signature.fields:
        if field.type == "string" and field.nullable:
            kept &= np.array([value != "" for value in columns[field.name]], bool)
    return {name: column[kept] for name, column in columns.items()}


def _answered(columns: Columns, ours: Answer) -> tuple[Columns, Floats, int]:
    """Give the rows that the package answers, its answers, and how many it refuses."""
    rows = range(_size(columns))
    try:
        return columns, ours(columns), 0
    except Exception:  # noqa: BLE001  which rows it is shows one by one
        kept, answers = [], []
        for row in rows:
            try:
                answers.append(ours({name: column[row : row + 1] for name, column in columns.items()}))
            except Exception:  # noqa: BLE001, S112  the model's own refusal
                continue
            kept.append(row)
    found = np.concatenate(answers) if answers else np.zeros(0)
    return {name: column[kept] for name, column in columns.items()}, found, len(rows) - len(kept)


def _size(columns: Mapping[str, NDArray[Any]]) -> int:
    return len(next(iter(columns.values())))


def _first(
    signature: Signature, rows: Columns, found: Floats, expected: Floats, wrong: NDArray[np.bool_]
) -> str:  # fmt: skip
    if not wrong.any():
        return ""
    row = int(np.flatnonzero(wrong)[0])
    names: Sequence[str] = [field.name for field in signature.fields]
    shown = ", ".join(f"{name}={rows[name][row]!r}" for name in names[:6])
    return (
        f"{np.asarray(found[row]).tolist()!r} in ONNX, {np.asarray(expected[row]).tolist()!r} in the package ({shown})"
    )
