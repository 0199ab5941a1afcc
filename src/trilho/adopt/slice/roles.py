"""What each name stood for when a statement ran: rows of the served table, something learnt of them, or neither."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from trilho.adopt.scopes import root
from trilho.adopt.slice.program import Program, Step
from trilho.adopt.slice.text import span_of
from trilho.adopt.trace import Value

Kind = Literal["constant", "rows", "state", "table"]
Side = Literal["all", "train", "test"]
TABLES = ("frame", "series", "array", "sparse", "dataset", "sequence")
SUMMARIES = frozenset(
    {
        "agg",
        "aggregate",
        "count",
        "describe",
        "first",
        "groupby",
        "last",
        "max",
        "mean",
        "median",
        "min",
        "mode",
        "nunique",
        "pivot",
        "pivot_table",
        "quantile",
        "resample",
        "size",
        "std",
        "sum",
        "unique",
        "value_counts",
        "var",
    }
)

RESAMPLING = frozenset({"append", "concat", "fit_resample", "resample", "sample", "vstack", "concatenate"})


@dataclass(frozen=True)
class Bound:
    """What a name stands for."""

    kind: Kind
    step: int  # that bound or last changed it
    rows: int | None = None
    side: Side = "all"
    columns: tuple[str, ...] | None = None
    order: str = "all"  # how its rows are the read's


@dataclass
class Roles:
    """The names before each step, and which of the steps take train and test apart."""

    program: Program
    before: dict[int, dict[str, Bound]] = field(default_factory=dict)
    after: dict[int, dict[str, Bound]] = field(default_factory=dict)
    splits: set[int] = field(default_factory=set)
    has_test_file: bool = False  # whether the rows that judge were read from a file of their own

    @classmethod
    def of(cls, program: Program) -> Roles:
        """Follow all the steps in their order."""
        roles = cls(program)
        roles.has_test_file = apart = _has_test_file(program)
        roles.splits = set() if apart else _splitting(program) | _other_halves(program)
        now: dict[str, Bound] = {}
        for id_, step in sorted(program.steps.items()):
            roles.before[id_] = dict(now)
            if not apart and roles._splits_by_name(step):
                roles.splits.add(id_)
            now = {**now, **{name: roles._bound(step, name, now) for name in step.defines}}
            roles.after[id_] = dict(now)
        return roles

    def sizes(self, step: int) -> set[int]:
        """Give the numbers of rows that what a step may read has."""
        seconds = set(self.program.alike.values()) if self._is_loop_over_both(step) else set()
        return {b.rows for b in self.before[step].values() if b.kind == "rows" and b.rows} | seconds

    def side_of(self, step: int) -> Side:
        """Say which side of the split a step is on."""
        now = self.before[step]
        sides = {now[name].side for name in self.program.steps[step].reads if name in now} | self._fitted_sides(step)
        return "test" if "test" in sides else "train" if "train" in sides else "all"

    def depends(self, step: int) -> bool:
        """Say whether a step read anything that came of the rows."""
        now = self.before[step]
        known = any(name in now and now[name].kind in ("rows", "state") for name in self.program.steps[step].reads)
        return known or bool(self._fitted_sides(step))

    def _fitted_sides(self, step: int) -> set[str]:
        """Give the sides that estimators were fitted to whose findings a step reads: `search.best_estimator_`."""
        found: set[str] = set()
        for part in ast.walk(self.program.steps[step].node):
            if isinstance(part, ast.Attribute) and part.attr.endswith("_") and isinstance(part.value, ast.Name):
                objects = {o.id for o in self.program.trace.objects if part.value.id in o.names}
                fits = [f for f in self.program.trace.fits if f.object in objects and f.statement < step]
                found |= {self.side_of(fits[-1].statement)} if fits else set()
        return found

    def is_rows(self, value: Value | None, sizes: Iterable[int]) -> bool:
        """Say whether a value has one item for each row of a table that is followed."""
        if value is None or value.kind not in TABLES or not value.rows:
            return False
        if value.aligned is not None and value.aligned.read in (self.program.main, *self.program.alike):
            return True
        return value.rows in set(sizes) and value.rows > 1 and not (value.kind == "array" and "Index" in value.type)

    def _is_loop_over_both(self, step: int) -> bool:
        """Say whether a loop went over a second table too, which is what its expressions were last worth."""
        node, cell = self.program.steps[step].node, self.program.steps[step].cell
        return isinstance(node, ast.For) and (cell, span_of(node.iter)) in self.program.taken_out

    def _splits_by_name(self, step: Step) -> bool:
        """Say whether a step takes a part of all the rows for a name of the train or test side."""
        split = self.program.choice.split
        named = {n for n in step.writes if n in {*split.train, *split.test}}
        if not named or not isinstance(step.node, ast.Assign) or self.side_of(step.id) != "all":
            return False
        sizes = self.sizes(step.id)
        return any(
            self.is_rows(v, {*sizes, v.rows or 0}) and v.rows and v.rows < max(sizes, default=0)
            for n in named
            if (v := step.did.values.get(n)) is not None
        )

    def _bound(self, step: Step, name: str, now: Mapping[str, Bound]) -> Bound:
        value = step.did.values.get(name)
        main = [r for r in self.program.trace.reads if r.statement == step.id and r.id == self.program.main]
        other = [r for r in self.program.trace.reads if r.statement == step.id and r.id != self.program.main]
        depends = self.depends(step.id)
        side = self._side(step, name)
        cut = step.id in self.splits and value is not None and value.kind in TABLES and bool(value.rows)
        if (main or depends) and (cut or self._keeps_rows(step, name, value) or self._resamples(step, name, value)):
            assert value is not None
            columns = tuple(value.columns) if value.columns is not None else None
            how = value.aligned.how if value.aligned else now[name].order if name in now else "all"
            return Bound("rows", step.id, value.rows, side, columns, how)
        if depends or main:
            before = now.get(name)
            touched = before is None or name in step.writes or before.kind != "constant" or _gains(step, name)
            return Bound("state" if touched else "constant", step.id, side=side)
        return Bound("table" if other else "constant", step.id)

    def _keeps_rows(self, step: Step, name: str, value: Value | None) -> bool:
        if not self.is_rows(value, self.sizes(step.id)):
            return False
        aligned = value is not None and value.aligned is not None and value.aligned.how != "length"
        return aligned or not _summarises(step.node, name)

    def _resamples(self, step: Step, name: str, value: Value | None) -> bool:
        """Say whether a value is rows of the train side, some of them several times."""
        if value is None or value.kind not in ("frame", "series", "array") or not value.rows or value.rows < 2:
            return False
        words = {n.attr if isinstance(n, ast.Attribute) else n.id for n in ast.walk(step.node)
                 if isinstance(n, ast.Attribute | ast.Name)}  # fmt: skip
        return bool(words & RESAMPLING) and self.side_of(step.id) == "train" and not _summarises(step.node, name)

    def _side(self, step: Step, name: str) -> Side:
        split = self.program.choice.split
        if step.id in self.splits:
            size = value.rows if (value := step.did.values.get(name)) is not None else None
            test = {b.rows for b in self.before[step.id].values() if b.side == "test"} - {None}
            train = {b.rows for b in self.before[step.id].values() if b.side == "train"} - {None}
            if name not in {*split.train, *split.test} and size in test ^ train:
                return "test" if size in test else "train"
            if name in split.test:
                return "test"
            if name in split.train or "train_test_split" not in step.statement.source:
                return "train"
            place = _place_in_targets(step.node, name)
            if place is not None and "train_test_split" in step.statement.source:
                return "test" if place % 2 else "train"
        if name in step.mutates and name in self.before[step.id]:
            return self.before[step.id][name].side
        now = self.before[step.id]
        node = step.node
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Tuple)
            and isinstance(node.value, ast.Tuple)
        ):
            for target, made in zip(node.targets[0].elts, node.value.elts, strict=False):
                if isinstance(target, ast.Name) and target.id == name:
                    sides = {now[n.id].side for n in ast.walk(made) if isinstance(n, ast.Name) and n.id in now}
                    return "test" if "test" in sides else "train" if "train" in sides else "all"
        return self.side_of(step.id)


def without_split(roles: Roles) -> Roles:
    """Give the same where nothing is taken apart: all of the rows are of one side."""
    single = {id_: {n: replace(b, side="all") for n, b in now.items()} for id_, now in roles.before.items()}
    after = {id_: {n: replace(b, side="all") for n, b in now.items()} for id_, now in roles.after.items()}
    return Roles(roles.program, single, after, roles.splits)


def _has_test_file(program: Program) -> bool:
    """Say whether the rows that judge were read from a file of their own: then nothing is taken apart."""
    tests = set(program.choice.split.test)
    reads = {
        value.aligned.read
        for step in program.steps.values()
        for name, value in step.did.values.items()
        if name in tests and value.aligned is not None and value.aligned.how != "length"
    }
    return bool(reads) and program.main not in reads


def _splitting(program: Program) -> set[int]:
    """Give the steps that bind a name of the train or the test side."""
    split = program.choice.split
    named = {*split.train, *split.test}
    return {
        id_
        for id_ in split.statements
        if id_ in program.steps
        and (program.steps[id_].writes & named or "train_test_split" in program.steps[id_].statement.source)
    }


def _other_halves(program: Program) -> set[int]:
    """Give the steps that take the train side where only the test side's were found: cut from the same table."""
    found: set[int] = set()
    fits = [f for f in program.trace.fits if f.id in (program.choice.evaluated_fit, program.choice.shipped_fit)]
    used = {i for f in fits for i in program.backward(program.steps[f.statement].reads, f.statement)}
    bases = {base for id_ in _splitting(program) for base in _sources(program.steps[id_].node)}
    for id_ in used:
        step = program.steps[id_]
        for name in step.writes:
            value = step.did.values.get(name)
            part = value is not None and value.aligned is not None and value.aligned.how == "some"
            if part and _sources(step.node) & bases and name not in bases:
                found.add(id_)
    return found if bases else set()


def _sources(node: ast.stmt) -> set[str]:
    """Give the names that an assignment takes a part of the rows of."""
    if not isinstance(node, ast.Assign):
        return set()
    values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
    found = set()
    for value in values:
        name = root(value)
        masked = any(
            isinstance(n, ast.Subscript)
            and isinstance(n.slice, ast.Compare | ast.UnaryOp | ast.Slice | ast.BinOp | ast.Name)
            for n in ast.walk(value)
        )
        if name is not None and masked:
            found.add(name)
    return found


def _gains(step: Step, name: str) -> bool:
    return name in step.mutates


def _summarises(node: ast.stmt, name: str) -> bool:
    """Say whether what a name is assigned ends in a summary: `df.groupby(...).mean()`."""
    if not isinstance(node, ast.Assign):
        return False
    if not any(isinstance(target, ast.Name) and target.id == name for target in node.targets):
        return False
    value: ast.expr = node.value
    while isinstance(value, ast.Call | ast.Attribute | ast.Subscript):
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in SUMMARIES:
            return root(value) is not None
        value = value.func if isinstance(value, ast.Call) else value.value
    return False


def _place_in_targets(node: ast.stmt, name: str) -> int | None:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple | ast.List):
        for place, target in enumerate(node.targets[0].elts):
            if isinstance(target, ast.Name) and target.id == name:
                return place
    return None
