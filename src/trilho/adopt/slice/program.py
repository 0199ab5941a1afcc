"""A notebook's run as steps: what each statement read, bound and changed, and what its expressions were worth."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from trilho.adopt.dataflow import Definition, Effects, closure, definitions, flow
from trilho.adopt.notebook import Notebook, Statement
from trilho.adopt.plan import Choice
from trilho.adopt.slice.text import Code, Edit, inside, span_of
from trilho.adopt.trace import Fit, Predict, Read, Span, StatementTrace, Trace, Value

MODELS = ("estimator", "booster")
SIMPLE = (ast.Assign, ast.AnnAssign, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Step:
    """A statement that ran, with the names of the notebook that it touched."""

    statement: Statement
    did: StatementTrace
    reads: frozenset[str]
    writes: frozenset[str]
    mutates: frozenset[str]  # changed in place, refitting apart

    @property
    def id(self) -> int:
        """Give its position in the order of execution."""
        return self.statement.id

    @property
    def node(self) -> ast.stmt:
        """Give its syntax."""
        return self.statement.node

    @property
    def cell(self) -> int:
        """Give its cell."""
        return self.statement.cell

    @property
    def defines(self) -> frozenset[str]:
        """Give the names that it binds or changes."""
        return self.writes | self.mutates

    def text(self) -> str:
        """Give its first line, to name it by."""
        return self.statement.source.strip().splitlines()[-1 if self.statement.source.startswith("#") else 0]


class Program:
    """What ran, to be asked."""

    def __init__(self, notebook: Notebook, trace: Trace, choice: Choice) -> None:
        self.notebook, self.trace, self.choice = notebook, trace, choice
        self.code = {cell.index: Code(cell.code) for cell in notebook.cells}
        self.definitions: dict[str, Definition] = definitions(s.node for s in notebook.statements)
        self.effects: dict[str, Effects] = closure(self.definitions)
        self._did = {s.id: s for s in trace.statements}
        self._seen: dict[tuple[int, int, Span], Value] = {}
        self._last: dict[tuple[int, Span], Value] = {}
        for did in trace.statements:
            for expression in did.expressions:
                self._seen[did.id, expression.cell, expression.span] = expression.value
                self._last[expression.cell, expression.span] = expression.value
        self.alike: dict[int, int] = {}  # reads of a second table that is prepared with the first: their rows
        self.taken_out: dict[tuple[int, Span], Edit] = {}  # what stands where a second table was
        self.steps: dict[int, Step] = {}
        self._known: dict[str, Value] = {}  # what each name was when last seen
        for statement in notebook.statements:
            if statement.id in self._did and self._did[statement.id].state == "ran":
                self.steps[statement.id] = self._step(statement)
                self._known |= self._did[statement.id].values

    @cached_property
    def cell_of_function(self) -> dict[str, int]:
        """The cell that each notebook function or class is defined in, the last of a name."""
        found = {}
        for statement in self.notebook.statements:
            for name in definitions([statement.node]):
                found[name] = statement.cell
        return found

    @cached_property
    def names(self) -> frozenset[str]:
        """Every name that the notebook binds anywhere."""
        bound = {n.id for s in self.notebook.statements for n in ast.walk(s.node) if isinstance(n, ast.Name)}
        return frozenset(bound | set(self.definitions))

    @cached_property
    def main(self) -> int:
        """The id of the read whose rows are served."""
        return self.choice.main_read

    @cached_property
    def read(self) -> Read:
        """The read whose rows are served."""
        same = [read for read in self.trace.reads if read.id == self.main]
        return next((read for read in same if read.value.columns), same[0])

    def value(self, step: int, cell: int, node: ast.expr) -> Value | None:
        """Give what an expression was worth when a statement last evaluated it."""
        if isinstance(node, ast.Constant):
            return Value("text" if isinstance(node.value, str) else "scalar", type(node.value).__name__,
                         literal=repr(node.value))  # fmt: skip
        return self._seen.get((step, cell, span_of(node)))

    def last_value(self, cell: int, node: ast.expr) -> Value | None:
        """Give what an expression was worth when any statement last evaluated it, as one inside a function."""
        return self._last.get((cell, span_of(node)))

    def fits_of(self, step: int) -> list[Fit]:
        """Give the fits that a statement made."""
        return [fit for fit in self.trace.fits if fit.statement == step]

    def asked_of(self, step: int) -> list[Predict]:
        """Give what a statement asked of estimators."""
        return [predict for predict in self.trace.predicts if predict.statement == step]

    def methods(self, object_: int) -> set[str]:
        """Give what an estimator was asked, by the notebook or once it had ended."""
        asked = {predict.method for predict in self.trace.predicts if predict.object == object_}
        return asked | {golden.method for golden in self.trace.golden if golden.object == object_}

    def family(self, object_: int) -> set[int]:
        """Give an estimator, the ones inside it, and the ones that it is inside of or has a part in common with."""
        own = {object_}.union(*(seen.parts for seen in self.trace.objects if seen.id == object_))
        return own | {seen.id for seen in self.trace.objects if own & {seen.id, *seen.parts}}

    def node_at(self, step: int, cell: int, span: Span) -> ast.expr | None:
        """Give the expression at a span of a cell."""
        for statement in self.notebook.statements:
            if statement.cell == cell and inside(span, span_of(statement.node)):
                for node in ast.walk(statement.node):
                    if isinstance(node, ast.expr) and span_of(node) == span:
                        return node
        return None

    def is_own(self, step: int, cell: int, span: Span) -> bool:
        """Say whether a span is in the statement itself, and not in a function that it called."""
        statement = self.steps[step].statement
        return (
            statement.cell == cell
            and inside(span, span_of(statement.node))
            and not any(
                isinstance(node, ast.FunctionDef) and inside(span, span_of(node)) for node in ast.walk(statement.node)
            )
        )

    def backward(self, names: Iterable[str], before: int, fits: Iterable[int] = ()) -> list[int]:
        """Give the statements that made what names held before a statement, and what it took to make that.

        A fit of an estimator is a definition of what the estimator learnt: an earlier one is not needed.
        """
        needed, fitted, live = set(names), {self._fit(f).statement for f in fits}, list[int]()
        for id_ in sorted(self.steps, reverse=True):
            step = self.steps[id_]
            if id_ >= before or not (step.defines & needed or id_ in fitted):
                continue
            live.append(id_)
            if isinstance(step.node, SIMPLE):
                needed -= step.writes
            needed |= step.reads | step.mutates
            fitted |= {fit.statement for fit in self.fits_before(id_)}
        return live[::-1]

    def given_to_fit(self, fit: Fit) -> list[int]:
        """Give the earlier fits that the statement of a fit builds on: `grid.best_estimator_.fit(X, y)`."""
        return [before.id for before in self.fits_before(fit.statement)]

    def fits_before(self, id_: int) -> Iterator[Fit]:
        """Give the fits in earlier statements that made the estimators that a statement asks."""
        for asked in self.asked_of(id_):
            family = self.family(asked.object)
            made = [f for f in self.trace.fits if f.object in family and f.order < asked.order]
            if made:
                last = max(made, key=lambda fit: (fit.order, fit.object == asked.object))
                if last.statement != id_:
                    yield last
        for object_ in self._looked_into(id_):
            made = [f for f in self.trace.fits if f.object == object_ and f.statement < id_]
            if made:
                yield max(made, key=lambda fit: fit.order)
        if "prefit" in self.steps[id_].statement.source or "FrozenEstimator" in self.steps[id_].statement.source:
            for fit in self.fits_of(id_):
                inner = self.family(fit.object) - {fit.object}
                yield from (f for f in self.trace.fits if f.object in inner and f.order < fit.order)

    def _looked_into(self, id_: int) -> set[int]:
        """Give the estimators of which a statement reads what a fit has left: `grid.best_estimator_`."""
        fitted = {
            part.value.id
            for part in ast.walk(self.steps[id_].node)
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name)
            and part.attr.endswith("_") and not part.attr.endswith("__")
        }  # fmt: skip
        return {seen.id for seen in self.trace.objects if fitted & set(seen.names)} if fitted else set()

    def _fit(self, id_: int) -> Fit:
        return next(fit for fit in self.trace.fits if fit.id == id_)

    def _asked_only(self, statement: Statement) -> set[str]:
        """Give the names that only ask for an answer which is read from its extract: a client, a job, a query."""
        spans = [
            read.span
            for read in self.trace.reads
            if read.kind in ("bigquery", "sql") and read.statement == statement.id and read.cell == statement.cell
        ]
        names = [n for n in ast.walk(statement.node) if isinstance(n, ast.Name)] if spans else []
        within = [n for n in names if any(inside(span_of(n), span) for span in spans)]
        return {n.id for n in within} - {n.id for n in names if n not in within}

    def _step(self, statement: Statement) -> Step:
        did = self._did[statement.id]
        seen = flow(statement.node, self.effects)
        writes = seen.writes | {name for name in did.writes if name in seen.writes or seen.open}
        if isinstance(statement.node, ast.If):  # what stands in a branch that was not taken was not bound
            taken = {*did.writes, *did.mutates}
            writes = frozenset(name for name in writes if name in taken or name not in self._known)
        unseen = {n for n in seen.mutates if n in self._known and not self._known[n].digest}
        mutates = (set(did.mutates) | unseen) - writes
        refitted = {fit.object for fit in self.fits_of(statement.id)}
        family = set().union(*(self.family(object_) for object_ in refitted)) if refitted else set()
        names = {name for seen in self.trace.objects if seen.id in family for name in seen.names}
        only_fitted = {
            name
            for name in mutates
            if (name in names or (name in did.values and did.values[name].object in family))
            and (name not in did.values or did.values[name].kind in MODELS)
        }
        known = {n for n in seen.reads if not hasattr(__builtins__, n)} - self._asked_only(statement)
        return Step(statement, did, frozenset(known), frozenset(writes), frozenset(mutates - only_fitted))
