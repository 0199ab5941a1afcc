"""The branches of column transformers and feature unions: which columns each is given, and how they are joined."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from trilho_runtime.compiled import NotCompiled
from trilho_runtime.compiled.arithmetic import Arithmetic
from trilho_runtime.compiled.flow import Flow, aligned
from trilho_runtime.compiled.fuse import fused
from trilho_runtime.compiled.node import Chain, Join, Node, Parallel, Pick, Split, Take, sequence
from trilho_runtime.compiled.rules import as_matrix

NUMBERS = {"float64", "float32", "int64", "int32", "bool"}


class Given(NamedTuple):
    """What a stage is given: the type of it, and the rows themselves as the original gets them."""

    flow: Flow
    value: Any


class Chosen(NamedTuple):
    """The columns that a column transformer's branch is given; `single` ones as a series."""

    places: list[int]
    single: bool


def parts_of(fitted: Any, flow: Flow) -> list[tuple[str, Any, str, Chosen | None]]:
    """Give the branches that give columns: name, fitted object, its place, and the columns that it is given."""
    if hasattr(fitted, "transformer_list"):
        listed = enumerate(fitted.transformer_list)
        return [(n, t, f"transformer_list.{i}.1", None) for i, (n, t) in listed if not _is(t, "drop")]
    found: list[tuple[str, Any, str, Chosen | None]] = []
    for number, (label, inner, columns) in enumerate(fitted.transformers_):
        places = _places(fitted, label, flow)
        if places and not _is(inner, "drop"):
            chosen = Chosen(places, isinstance(columns, str | int | np.integer))
            found.append((label, inner, f"transformers_.{number}.1", chosen))
    return found


def _is(fitted: Any, word: str) -> bool:
    return isinstance(fitted, str) and fitted == word


def _places(fitted: Any, label: str, flow: Flow) -> list[int]:
    told = [int(i) for i in fitted._transformer_to_input_indices.get(label, [])]
    names = getattr(fitted, "feature_names_in_", None)
    if names is None or flow.container != "frame":
        return told
    at = {column.name: place for place, column in enumerate(flow.columns)}
    return [at[str(names[i])] for i in told]


def chosen_of(given: Given, chosen: Chosen) -> Given:
    """Give a branch its columns, as the original does. Raises NotCompiled for a vector out of an array."""
    value, flow = given.value, given.flow.picked(chosen.places)
    if hasattr(value, "iloc"):
        value = value.iloc[:, chosen.places[0] if chosen.single else chosen.places]
        return Given(replace(flow, container="series") if chosen.single else flow, value)
    if chosen.single:
        raise NotCompiled("one column of an array is given as a vector")
    return Given(flow, value[:, chosen.places])


def picking(flow: Flow, places: list[int]) -> Node:
    """Give the node that chooses columns."""
    if places == list(range(len(flow.columns))):
        return Chain(())
    return Take(np.array(places, np.intp)) if flow.matrix else Pick(tuple(places))


def weighted(node: Node, flow: Flow, weight: float) -> Node:
    """Give a branch times its weight. Raises NotCompiled for columns of several types."""
    if not flow.matrix:
        raise NotCompiled("columns of several types have a weight")
    return sequence(node, Arithmetic("multiply", np.full(len(flow.columns), float(weight))))


def joined(nodes: list[Node], flows: list[Flow], expected: Any) -> tuple[Node, Flow]:
    """Give the branches as one node, whose output is as the original's: one matrix, or columns of several types."""
    if not nodes:
        raise NotCompiled("it gives no columns")
    dtypes = {str(d) for d in expected.dtypes} if hasattr(expected, "iloc") else {str(expected.dtype)}
    columns = tuple(c for flow in flows for c in flow.columns)
    inf = any(flow.inf for flow in flows)
    if len(dtypes) == 1 and dtypes <= NUMBERS:
        parts = [_as_part(node, flow) for node, flow in zip(nodes, flows, strict=True)]
        guess = aligned(Flow(columns, True, "array", inf), expected)
        made = fused([(part, len(flow.columns)) for part, flow in zip(parts, flows, strict=True)])
        return Parallel(tuple(node for node, _ in made), tuple(width for _, width in made), str(guess.dtype)), guess
    lists = [sequence(n, Split()) if flow.matrix else n for n, flow in zip(nodes, flows, strict=True)]
    return Join(tuple(lists)), aligned(Flow(columns, False, "array", inf), expected)


def _as_part(node: Node, flow: Flow) -> Node:
    return node if flow.matrix else sequence(node, *as_matrix(flow, ())[0])
