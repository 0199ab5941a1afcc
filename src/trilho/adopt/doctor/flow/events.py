"""What was seen on the way: the facts that the rules about honest measurement are made of."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Literal

from trilho.adopt.doctor.flow.values import ColumnMade, Place, Role, Side, Statistic, Value


@dataclass(frozen=True, eq=False)
class Split:
    """Rows came apart here."""

    node: ast.expr
    place: Place
    kind: Literal["random", "rows", "folds"]
    source: Value
    function: str  # full name of what split, "" for masks and slices
    statement: int  # position among the top-level statements


@dataclass(frozen=True, eq=False)
class FitSeen:
    """An estimator or a transformer learnt from rows."""

    node: ast.Call
    place: Place
    X: Value
    y: Value | None
    y_node: ast.expr | None
    kinds: frozenset[str]
    model: bool  # a predictor, not a transformer alone
    folds: bool = False  # cross validation: it splits by itself
    search: bool = False
    statement: int = 0
    learnt: frozenset[Statistic] = frozenset()  # what was in its rows already
    picked: frozenset[str] = frozenset()  # the columns that a column transformer in it takes


@dataclass(frozen=True, eq=False)
class Measured:
    """A metric was computed."""

    node: ast.expr
    place: Place
    name: str
    sides: frozenset[Side]
    fitted: frozenset[Side]
    threshold: bool = False  # of decisions, not of scores

    @property
    def roles(self) -> set[Role]:
        """Give the roles of the rows that it was computed on."""
        return {side.role for side in self.sides}


@dataclass(frozen=True, eq=False)
class Chosen:
    """Something was decided by a measurement on some rows."""

    place: Place
    what: Literal["threshold", "early stopping", "selection"]
    sides: frozenset[Side]
    by_eye: bool = False  # a person picks from what a loop prints


@dataclass(frozen=True, eq=False)
class Kept:
    """An object was written to a file."""

    place: Place
    kinds: frozenset[str]
    function: str


@dataclass
class Events:
    """All that was seen of one notebook or module."""

    splits: list[Split] = field(default_factory=list)
    fits: list[FitSeen] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    chosen: list[Chosen] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    statistics: dict[ast.expr, Statistic] = field(default_factory=dict)
    columns: dict[str, ColumnMade] = field(default_factory=dict)
    refits: list[FitSeen] = field(default_factory=list)  # transformers that were fitted to test rows
    values: dict[str, Value] = field(default_factory=dict)  # of the global names, at the end
    target: frozenset[str] = frozenset()  # its column, where it has one; else the columns that it is computed from
    named: bool = False  # whether the target is a column
    calls: dict[str, int] = field(default_factory=dict)  # notebook function -> how often it was called
    times: set[str] = field(default_factory=set)  # columns that are times

    def from_target(self, column: str, seen: frozenset[str] = frozenset()) -> bool:
        """Whether a column's rows are computed from the same rows' target."""
        if column in self.target:
            return True
        made = self.columns.get(column)
        return made is not None and any(
            self.from_target(name, seen | {column}) for name in made.uses if name not in seen and name != column
        )

    def learnt_of(self, value: Value) -> frozenset[Statistic]:
        """Give the statistics that are in a value's rows, those of its columns included."""
        columns = [self.columns[name] for name in value.added if name in self.columns]
        return value.learnt.union(*(made.learnt for made in columns))

    def saw_target(self, statistic: Statistic) -> bool:
        """Whether a statistic is one of the target."""
        return statistic.target or any(self.from_target(name) for name in statistic.uses)
