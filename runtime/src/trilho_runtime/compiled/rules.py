"""Rules: the array code of a fitted transformer, by its class.

A rule takes the fitted object and the flow that it is given, and says what to run, what flows on and how close to the
original that is. It is proven where the model is compiled; what a rule does not know, it raises NotCompiled for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from trilho_runtime.compiled import BIT_EQUAL, NotCompiled
from trilho_runtime.compiled.arithmetic import FUNCTIONS
from trilho_runtime.compiled.flow import CATEGORY, Column, Flow
from trilho_runtime.compiled.node import Cast, Gather, Node

FLOATS = ("float64", "float32", "float16")


class Made(NamedTuple):
    """What a rule makes: the nodes, what flows on, and the bound that holds."""

    nodes: tuple[Node, ...]
    flow: Flow
    bound: str = BIT_EQUAL
    refuses: bool = False  # whether its own nodes refuse what the original does


Rule = Callable[[Any, Flow], Made]
AnyRule = TypeVar("AnyRule", bound=Callable[..., Made])
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[AnyRule], AnyRule]:
    """Register the rule of scikit-learn's classes of these names."""

    def register(function: AnyRule) -> AnyRule:
        RULES.update({f"sklearn.{name}": function for name in names})
        return function

    return register


def rule_of(transformer: Any) -> Rule:
    """Give the rule of a fitted transformer's class. Raises NotCompiled for a class that is not known."""
    kind = type(transformer)
    found = RULES.get(f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}")
    if found is None:
        raise NotCompiled(f"{kind.__module__}.{kind.__qualname__} is not among the transformers that are compiled")
    if "transform" in vars(transformer):
        raise NotCompiled(f"{kind.__qualname__} has a transform of its own")
    return found


def as_matrix(flow: Flow, dtypes: Sequence[str] = FLOATS) -> tuple[tuple[Node, ...], Flow]:
    """Give the nodes that make a matrix of a flow as scikit-learn does: in the first of the types, unless in one."""
    if flow.container == "series":
        raise NotCompiled("it is given one column as a series")
    if not all(c.numeric or c.dtype == "object" for c in flow.columns):
        raise NotCompiled(f"numbers are wanted, and {_described([c for c in flow.columns if not c.numeric])}")
    dtype = str(flow.dtype)
    wanted = dtype if dtype in dtypes or not dtypes else dtypes[0]
    wanted = "float64" if dtype == "object" else wanted
    missing = "nan" if np.dtype(wanted).kind == "f" else ""
    columns = tuple(c._replace(dtype=wanted, null=missing if c.null else "", source=None) for c in flow.columns)
    made = replace(flow, columns=columns, matrix=True)
    if flow.matrix:
        return (() if dtype == wanted else (Cast(wanted),)), made
    return (Gather(wanted, all(c.dtype == wanted and c.source is None for c in flow.columns)),), made


def _described(columns: Sequence[Column]) -> str:
    """Name columns by what they are of, such as "city, plan are of the category dtype"."""
    kinds: dict[str, list[str]] = {}
    for place, column in enumerate(columns):
        category = column.dtype == CATEGORY or (column.source is not None and column.source.levels is not None)
        kind = "of the category dtype" if category else f"of {column.dtype}"
        kinds.setdefault(kind, []).append(column.name or column.field or f"one ({place})")
    return " and ".join(
        f"{', '.join(names[:5])} {'is' if len(names) == 1 else 'are'} {k}" for k, names in kinds.items()
    )


def fields_of(flow: Flow) -> tuple[str, ...]:
    """Give the field that each column comes from, or nothing."""
    return tuple(c.field for c in flow.columns)


def missing_number(value: Any) -> float | int | None:
    """Give a marker of what is missing among numbers: None for NaN."""
    if value is None or isinstance(value, str):
        raise NotCompiled(f"{value!r} marks what is missing among numbers")
    if type(value).__name__ == "NAType" or value != value:
        return None
    return float(value) if isinstance(value, float | np.floating) else int(value)


def function_name(function: Any) -> str:
    """Give the name of a function of numpy that is known. Raises NotCompiled for any other function."""
    name = getattr(function, "__name__", "")
    if FUNCTIONS.get(name) is not function:
        module = getattr(function, "__module__", type(function).__module__)
        shown = f"{module}.{getattr(function, '__qualname__', name) or type(function).__name__}"
        raise NotCompiled(f"the function {shown} is not known; only numpy's own are compiled")
    return name
