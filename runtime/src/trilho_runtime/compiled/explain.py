"""Why a row is refused: which field a value came from, and which step made it what the model does not take."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled.node import Chain, Join, Node, Parallel, Refused
from trilho_runtime.schema.field import RowError

LARGEST_SINGLE = float(np.finfo(np.float32).max)
NAMES = {
    "Arithmetic": "scaling", "Products": "PolynomialFeatures", "Power": "PowerTransformer", "Norm": "Normalizer",
    "Project": "a projection", "Impute": "SimpleImputer", "Quantiles": "QuantileTransformer", "Lookup": "an encoder",
}  # fmt: skip


def refused_in(matrix: NDArray[Any], fields: Sequence[str], owner: str) -> Refused | None:
    """Give the refusal of the first number that an estimator cannot take, or nothing where all are usual numbers."""
    with np.errstate(invalid="ignore"):
        wrong = [np.isinf(matrix), np.abs(matrix) > LARGEST_SINGLE, np.isnan(matrix)]
    found = next((one for one in wrong if one.any()), None)
    if found is None:
        return None
    row, place = (int(i) for i in np.argwhere(found)[0])
    return Refused(row, place, float(matrix[row, place]), fields[place] if place < len(fields) else "", owner)


def explained(refused: Refused, program: Node, names: Sequence[str], columns: Sequence[Any]) -> RowError:
    """Give a refusal in terms of the row's fields: what was given, and the step that made another number of it."""
    row = [column[refused.row : refused.row + 1] for column in columns]
    given = {name: _plain(column[0]) for name, column in zip(names, row, strict=True)}
    step = _culprit(program, row)
    made = "NaN" if refused.value != refused.value else f"{refused.value:g}"
    start, end = f"row {refused.row}: ", f"which {refused.owner} refuses"
    field = refused.field
    if field in given:
        value = given[field]
        if value is None or (step is None and refused.value == value) or value == refused.value:
            text = f"{field} is {'null' if value is None else f'{value:g}'}, {end}"
        else:
            shown = f'"{value}"' if isinstance(value, str) else str(value)
            text = f"{field} is {shown}, of which {step or 'a step before'} makes {made}, {end}"
        return RowError(start + text, field, refused.row)
    null = [name for name, value in given.items() if value is None]
    if refused.value != refused.value and null and step is None:
        return RowError(f"{start}{', '.join(null)} is null, {end}", null[0], refused.row)
    return RowError(
        f"{start}{step or 'a step before'} makes {made} in column {refused.place}, {end}", None, refused.row
    )


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if value is None or value != value else value


def _culprit(program: Node, row: list[Any]) -> str | None:
    """Give the step that makes NaN or an infinity of usual numbers, by running the row through every step again."""
    found: list[str] = []
    with np.errstate(all="ignore"), suppress(Exception):  # the refusal itself, or what it leads to
        _run(program, row, found)
    return found[0] if found else None


def _run(node: Node, x: Any, found: list[str]) -> Any:
    if isinstance(node, Chain):
        for stage in node.stages:
            x = _run(stage, x, found)
        return x
    if isinstance(node, Parallel | Join):
        for branch in node.branches:
            _run(branch, x, found)
        return node(x)
    for member in getattr(node, "members", ()):
        _run(member, x, found)
    made = node(x)
    if not _odd(x) and _odd(made):
        found.append(str(getattr(node, "name", NAMES.get(type(node).__name__, type(node).__name__))))
    return made


def _odd(x: Any) -> bool:
    """Say whether a flow holds a number that is none, or is infinite."""
    columns = [x] if isinstance(x, np.ndarray) else list(x)
    floats = [c for c in columns if isinstance(c, np.ndarray) and c.dtype.kind == "f"]
    return any(not np.isfinite(c).all() for c in floats)
