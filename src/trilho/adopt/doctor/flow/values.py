"""Stand-ins for values: whose rows they hold, which columns, and what they were learnt from."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Role = Literal["table", "train", "test", "fold"]


@dataclass(frozen=True)
class Place:
    """Where something stands in the code."""

    cell: int | None
    line: int
    file: str = ""


@dataclass(frozen=True)
class Side:
    """Some rows of a table: all of them, or those on one side of a split. `of` are the tables that they come from."""

    role: Role
    id: int
    of: frozenset[int]


@dataclass(frozen=True, eq=False)
class Statistic:
    """Something that was learnt from rows: the expression, and the tables and columns that it saw."""

    node: ast.expr
    place: Place
    source: str
    what: str  # "median", "StandardScaler", ...
    root: ast.expr | None  # the table in the expression: what a narrower table would take the place of
    tables: frozenset[int]
    uses: frozenset[str] = frozenset()
    target: bool = False  # known to have seen the target, whatever the columns are called
    function: str = ""  # the notebook's function that it is in
    statement: int = 0  # position of the top-level statement that was run
    role: Role = "table"  # of the rows


Statistics = frozenset[Statistic]


@dataclass(frozen=True)
class Value:
    """All that is known of a value without running anything; nothing is known of `Value()`."""

    sides: frozenset[Side] = frozenset()
    learnt: Statistics = frozenset()  # what went into its rows
    statistics: Statistics = frozenset()  # what it is itself
    uses: frozenset[str] = frozenset()  # columns that its rows are computed from
    column: str = ""  # where it is one column, and that column's name
    known: frozenset[str] | None = None  # a frame's columns, where they were listed
    added: frozenset[str] = frozenset()  # columns that were put into a frame
    dropped: frozenset[str] = frozenset()
    opaque: bool = True  # whether its columns can't be followed
    array: bool = False
    texts: frozenset[str] | None = None  # the constants that it may be, or holds
    but: frozenset[str] | None = None  # for a list of a table's columns: those that were left out
    picked: frozenset[str] = frozenset()  # columns that an estimator's parts are told to take
    kinds: frozenset[str] = frozenset()  # classes of estimators in it, full names
    fitted: frozenset[Side] = frozenset()
    predicted: bool = False
    error: bool = False  # truth against prediction
    mask: bool = False
    measured: frozenset[Side] = frozenset()  # rows whose truth decided about it
    threshold: bool = False  # whether what was measured was a limit's effect
    parts: tuple[Value, ...] | None = None
    callback: bool = False  # it stops early, or is told to
    grouped: bool = False
    windowed: bool = False  # rolling, expanding, resampled
    folds: bool = False  # `parts` are the two sides of each turn of a loop
    label: Value | None = None  # of a DMatrix, Dataset or Pool

    @property
    def role(self) -> Role | None:
        """Give the one role of its rows; train and test together are a table again."""
        roles = {side.role for side in self.sides}
        if len(roles) == 1:
            return next(iter(roles))
        return "table" if roles else None

    @property
    def tables(self) -> frozenset[int]:
        """Give the tables that its rows come from."""
        return frozenset(table for side in self.sides for table in side.of)

    def has(self, column: str) -> bool:
        """Whether a frame has the column, as far as that can be told."""
        return column in self.added or (
            column in self.known if self.known is not None else not self.opaque and column not in self.dropped
        )

    def without(self, columns: Iterable[str]) -> Value:
        """Give the frame without some columns."""
        gone = frozenset(columns)
        known = None if self.known is None else self.known - gone
        return replace(self, known=known, added=self.added - gone, dropped=self.dropped | gone)

    def with_columns(self, columns: Iterable[str]) -> Value:
        """Give the frame with more columns."""
        more = frozenset(columns)
        known = None if self.known is None else self.known | more
        return replace(self, known=known, added=self.added | more, dropped=self.dropped - more)

    def only(self, columns: frozenset[str]) -> Value:
        """Give the frame's listed columns."""
        return replace(self, known=columns, added=self.added & columns, dropped=frozenset(), opaque=False, column="")


NOTHING = Value()


@dataclass
class ColumnMade:
    """How a column came to be."""

    uses: frozenset[str]
    learnt: Statistics
    place: Place
    source: str = ""


def join(*values: Value) -> Value:
    """Give what is known of a value that was made of others, row by row where they have rows.

    A statistic becomes part of the rows when it meets rows of the table that it was learnt from.
    """
    if len(values) == 1:
        return values[0]
    rows = [value for value in values if value.sides and not value.statistics]
    if len(rows) == 1:
        return onto(rows[0], *(value for value in values if value is not rows[0]))
    knowns = [value.known for value in rows]
    statistics = frozenset(one for value in values for one in value.statistics)
    joined = Value(
        sides=frozenset(side for value in rows or values for side in value.sides),
        statistics=frozenset() if rows else statistics,
        known=None if not knowns or None in knowns else frozenset(x for known in knowns for x in known or ()),
        texts=_texts(values),
        mask=bool(values) and all(value.mask for value in values),
        opaque=not rows or any(value.opaque for value in rows),
    )
    return onto(joined, *values)


def onto(base: Value, *others: Value) -> Value:
    """Give `base` with what the others bring to its rows."""
    if not others:
        return base
    all_ = (base, *others)
    met = frozenset(one for value in others for one in value.statistics if one.tables & base.tables and base.sides)
    against = any(value.predicted for value in all_) and any(value.sides and not value.predicted for value in all_)
    return replace(
        base,
        learnt=frozenset(one for value in all_ for one in value.learnt) | met,
        uses=frozenset(name for value in all_ for name in value.uses),
        column=base.column if not any(value.uses - base.uses for value in others) else "",
        added=frozenset(name for value in all_ for name in value.added),
        array=any(value.array for value in all_),
        kinds=frozenset(kind for value in all_ for kind in value.kinds),
        picked=frozenset(name for value in all_ for name in value.picked),
        fitted=frozenset(side for value in all_ for side in value.fitted),
        predicted=any(value.predicted for value in all_),
        error=any(value.error for value in all_) or against,
        mask=base.mask and all(value.mask for value in others),
        measured=frozenset(side for value in all_ for side in value.measured),
        threshold=any(value.threshold for value in all_),
        callback=any(value.callback for value in all_),
        parts=None,
        but=None,
    )


def gather(values: Sequence[Value]) -> Value:
    """Give a container of values: what is in it, and each by its position."""
    held = join(*values) if values else NOTHING
    return replace(held, error=any(value.error for value in values), parts=tuple(values), label=None)


def _texts(values: Sequence[Value]) -> frozenset[str] | None:
    if not values or any(value.texts is None for value in values):
        return None
    return frozenset(text for value in values for text in value.texts or ())


@dataclass
class Scope:
    """The names of one function's call, or of the notebook itself."""

    names: dict[str, Value] = field(default_factory=dict)
    outer: Scope | None = None
    shared: set[str] = field(default_factory=set)  # declared global
    changed: set[str] = field(default_factory=set)  # parameters whose content was changed
    rebound: set[str] = field(default_factory=set)
    returned: list[Value] = field(default_factory=list)
    function: str = ""

    def get(self, name: str) -> Value:
        """Look a name up, here and outside."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return NOTHING

    def bind(self, name: str, value: Value) -> None:
        """Give a name a new value."""
        if name in self.shared and self.outer is not None:
            self.outer.bind(name, value)
            return
        self.names[name] = value
        self.rebound.add(name)

    def change(self, name: str, value: Value) -> None:
        """Say that a name's content is another now, wherever the name lives."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                scope.names[name] = value
                if name not in scope.rebound:
                    scope.changed.add(name)
                return
            scope = scope.outer
        self.names[name] = value
