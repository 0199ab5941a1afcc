"""Branches beside each other that do the same to other columns, as one: a column transformer may have one for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trilho_runtime.compiled.arithmetic import Arithmetic, Impute
from trilho_runtime.compiled.node import Cast, Chain, Gather, Node, Pick

Branch = tuple[Node, int]  # and how many columns it gives


def fused(branches: Sequence[Branch]) -> list[Branch]:
    """Give branches with those made one that follow each other and differ in their columns and numbers only."""
    found: list[Branch] = []
    run: list[Branch] = []
    for branch in branches:
        if run and _kind(branch) is not None and _kind(branch) == _kind(run[0]):
            run.append(branch)
            continue
        found += _merged(run)
        run = [branch]
    return found + _merged(run)


def _kind(branch: Branch) -> tuple[object, ...] | None:
    """Say what a branch does, whatever its columns and numbers are; None for what can't be made one with others."""
    node, width = branch
    first = node.stages[0] if isinstance(node, Chain) and node.stages else None
    if not isinstance(node, Chain) or not isinstance(first, Pick) or len(first.places) != width:
        return None
    kinds = [_of(stage) for stage in node.stages[1:]]
    return None if None in kinds else tuple(kinds)


def _of(stage: Node) -> object:
    if isinstance(stage, Gather):
        return ("gather", stage.dtype, stage.alike)
    if isinstance(stage, Cast):
        return ("cast", stage.dtype)
    if isinstance(stage, Arithmetic) and np.ndim(stage.by) == 1:
        return ("arithmetic", stage.operation, str(stage.by.dtype))
    plain = isinstance(stage, Impute) and stage.kept is None and stage.indicated is None
    return ("impute", stage.missing, str(stage.fill.dtype)) if plain and isinstance(stage, Impute) else None


def _merged(run: list[Branch]) -> list[Branch]:
    if len(run) < 2:
        return run
    chains = [node.stages for node, _ in run if isinstance(node, Chain)]
    stages = tuple(_one(list(stages)) for stages in zip(*chains, strict=True))
    return [(Chain(stages), sum(width for _, width in run))]


def _one(stages: list[Node]) -> Node:
    first = stages[0]
    if isinstance(first, Pick):
        return Pick(tuple(place for stage in stages if isinstance(stage, Pick) for place in stage.places))
    if isinstance(first, Arithmetic):
        return Arithmetic(first.operation, np.concatenate([s.by for s in stages if isinstance(s, Arithmetic)]))
    if isinstance(first, Impute):
        fill = np.concatenate([s.fill for s in stages if isinstance(s, Impute)])
        return Impute(fill, first.missing, None, None)
    return first
