"""What the original refuses: it is asked, with NaN and infinities, and a check stands in front of array code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from trilho_runtime.compiled.branches import Given
from trilho_runtime.compiled.estimators import CompiledEstimator
from trilho_runtime.compiled.flow import Flow, original_of, runtime_of
from trilho_runtime.compiled.node import Cast, Check, Gather, Node
from trilho_runtime.compiled.original import scores_of
from trilho_runtime.compiled.rules import Made, fields_of

LARGEST = float(np.finfo(np.float64).max)
LARGEST_SINGLE = float(np.finfo(np.float32).max)


def refusing(fitted: Any, made: Made, given: Given) -> tuple[Node, ...]:
    """Give a rule's nodes, after a check where the original refuses NaN or infinities that may come."""
    flow = given.flow
    if made.refuses or not flow.numeric or flow.dtype.kind != "f" or not made.nodes:
        return made.nodes
    nan = flow.nan and _refuses(fitted.transform, given, np.nan)
    inf = flow.inf and _refuses(fitted.transform, given, np.inf)
    if not nan and not inf:
        return made.nodes
    limit = float(np.finfo(flow.dtype).max) if inf else None
    check = Check(not nan, limit, fields_of(flow), type(fitted).__name__)
    at = 1 if isinstance(made.nodes[0], Gather | Cast) else 0
    return (*made.nodes[:at], check, *made.nodes[at:])


def _refuses(function: Callable[[Any], Any], given: Given, value: float) -> bool:
    """Say whether a function of the original refuses a table with that value in it."""
    flow, rows = given
    x = runtime_of(rows.iloc[:1] if hasattr(rows, "iloc") else rows[:1], flow)
    floats = [i for i, c in enumerate(flow.columns) if c.numeric and np.dtype(c.dtype).kind == "f"]
    places = [i for i in floats if flow.columns[i].null or value == value]
    if not places:
        return False
    try:
        function(original_of(_with(x, places[0], value), flow))
    except Exception:  # noqa: BLE001  whatever it says, it refuses
        return True
    return False


def _with(x: Any, place: int, value: float) -> Any:
    if isinstance(x, np.ndarray):
        x = x.copy()
        x[0, place] = value
        return x
    return [np.full_like(c, value) if i == place else c for i, c in enumerate(x)]


def guard_of(estimator: Any, made: CompiledEstimator, first: Node, given: Given, flow: Flow) -> Check | None:
    """Give the check of what the original estimator refuses, where its array code would answer or name no field."""
    if not flow.numeric or (given.flow.numeric and given.flow.dtype.kind != "f"):
        return None

    def ours(table: Any) -> Any:
        return made(first(runtime_of(table, given.flow)))

    def original(table: Any) -> Any:
        return scores_of(estimator, table)

    asked = (np.nan, np.inf, 1e39)
    nan, inf, large = (_refuses(original, given, v) and not _refuses(ours, given, v) for v in asked)
    refuses_nan = _refuses(original, given, np.nan)
    if not (nan or inf or large or (refuses_nan and given.flow.nan)):
        return None
    limit = LARGEST_SINGLE if large else LARGEST if inf else None
    return Check(not refuses_nan, limit, fields_of(flow), type(estimator).__name__)
