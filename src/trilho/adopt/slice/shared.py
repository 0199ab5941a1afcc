"""What all the rewriting of one project has in common, and the exception for what cannot be rewritten."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field

from trilho.adopt.plan import Fallback
from trilho.adopt.slice.naming import StateNames
from trilho.adopt.slice.program import Program
from trilho.adopt.slice.roles import Roles
from trilho.adopt.trace import Span


class Unsliceable(Exception):
    """A variable cannot be computed for one row, or its code cannot be taken apart."""

    def __init__(self, variable: str, cell: int, line: int, reason: str) -> None:
        super().__init__(reason)
        self.fallback = Fallback(variable, cell, line, reason)


Rewrite = Callable[["Shared", str, int, dict[str, str]], None]


@dataclass
class Shared:
    """What all the rewriting of one project has in common."""

    roles: Roles
    target: str
    targets: set[str] = field(default_factory=set)  # the target, and columns made of nothing else
    joined: bool = True  # whether the target is in the table while training
    names: StateNames = field(default_factory=StateNames)
    functions: dict[str, str] = field(default_factory=dict)  # rewritten notebook functions that take `state`
    plain: set[str] = field(default_factory=set)  # those that were looked at, and take none
    plain_texts: dict[str, str] = field(default_factory=dict)  # of those, what was changed in them
    renames: dict[str, str] = field(default_factory=dict)  # names that ours must not meet
    train_only: list[str] = field(default_factory=list)
    globals: set[str] = field(default_factory=set)  # names that functions read from the state
    learns: bool = False  # whether anything is learnt, or depends on whether it is
    needs_target: bool = False  # whether what is learnt reads the target
    per_call: dict[str, set[int]] = field(default_factory=dict)  # functions that learn: the steps that called them
    rewrite: Rewrite = lambda _shared, _name, _step, _kinds: None  # rewrites a notebook function as a step called it
    busy: set[str] = field(default_factory=set)
    hoisting: set[str] = field(default_factory=set)  # functions that compute statistics of the rows that they are given
    truth: Callable[[int, ast.expr], bool] = lambda _step, _node: False  # whether code takes nothing but the target
    lags: bool = False  # whether rows are looked at in their order, in serving too
    lambdas: dict[tuple[int, Span], tuple[str, str]] | None = None  # (cell, span) of a held one -> name, function
    left_out: set[tuple[int, Span]] = field(default_factory=set)  # what load does now: statements, items of loops
    seconds: set[str] = field(default_factory=set)  # other tables that are stacked under the main one in training
    transforming: set[str] = field(default_factory=set)  # functions that make features

    @property
    def program(self) -> Program:
        """The run."""
        return self.roles.program
