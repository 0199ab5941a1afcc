"""The last resort: the notebook's own code up to the model's input is the load step.

Rows are then served as the model's input. `load` replays what the notebook did to the table that it read and gives the
input with the target as a column; `fit` fits the model to that; what the model's answer became is kept.
"""

from __future__ import annotations

import ast
import keyword
import re
from dataclasses import replace

from trilho.adopt.plan import Function, Lookup, Part, Plan
from trilho.adopt.slice.clear import clear_names
from trilho.adopt.slice.constants import place_constants
from trilho.adopt.slice.drop import dropped_cells
from trilho.adopt.slice.learn import Learner
from trilho.adopt.slice.live import Ask, ask
from trilho.adopt.slice.program import Program, Step
from trilho.adopt.slice.reading import lookup_of, read_call, read_of, with_path
from trilho.adopt.slice.roles import Roles
from trilho.adopt.slice.shared import Shared, Unsliceable
from trilho.adopt.slice.text import Edit, comments_above, end_comment, finished, inside, span_of
from trilho.adopt.trace import Argument, Fit
from trilho.errors import TrilhoError

FRAME = "pd.DataFrame"


def plan_whole(program: Program, package: str) -> Plan:
    """Plan a project whose rows are the model's input. Raises TrilhoError where not even that can be taken apart."""
    return _Whole(program, package).plan()


class _Whole:
    """The functions of a project of form "whole"."""

    def __init__(self, program: Program, package: str) -> None:
        self.program, self.package = program, package
        self.renames = clear_names(program)
        self.shared = Shared(Roles.of(program), program.choice.target.column, renames=self.renames)
        self.fit = next(f for f in program.trace.fits if f.id == program.choice.shipped_fit)
        self.lookups: list[Lookup] = []

    def plan(self) -> Plan:
        """Write load and fit."""
        choice, top = self.program.choice, self.program.steps[self.fit.statement]
        if self.fit.X is None or self.fit.y is None or self.fit.X.value.kind not in ("frame", "array"):
            raise self._refusal("what it is fitted to is no table")
        try:
            X, y = (ask(self.program, self.fit, given) for given in (self.fit.X, self.fit.y))
        except Unsliceable as error:
            raise self._refusal("its input is made where it is fitted, inside a function") from error
        before = self.program.backward(X.names | y.names, self.fit.statement)
        names = [self._shown(top, a) for a in (X, y)]
        table = self._as_table(names[0], self.fit.X)
        column = choice.target.column
        given = f"np.asarray({names[1]})"
        end = (
            f"{table}.assign({column}={given})"
            if column.isidentifier() and not keyword.iskeyword(column)
            else f"{table}.assign(**{{{column!r}: {given}}})"
        )
        self._check(top, before)
        load = Function(
            "load",
            (("path", "Path"),),
            end,
            FRAME,
            tuple(self._parts(before, load=True)),
            "Run the notebook's code up to the model's input.",
        )
        fit = self._fit(top, before, X, y)
        changed = {n for one in self.program.effects.values() for n in one.mutates | one.writes}
        constants = {i for i, s in self.program.steps.items() if self._is_constant(i) and not s.defines & changed}
        plan = Plan(
            form="whole",
            package=self.package,
            frame=self._frame(),
            load=load,
            features=(),
            definitions={},
            constants={},
            fit=(fit,),
            predict=None,
            evaluate=(),
            imports=self._imports(),
            lookups=tuple(self.lookups),
            estimator_type=self._type(),
            probabilities=choice.task == "classification",
            columns=None,
        )
        inner = self._inner()
        outer = [s for s in self._definitions() if s.id not in inner]
        plan = place_constants(self.program, self.shared, plan, outer, self._definition_text, constants)
        used = {p.statement for f in (plan.load, *plan.fit) for p in f.parts}
        used |= {p.statement for group in (plan.constants, plan.definitions) for ps in group.values() for p in ps}
        used |= {m.statement for m in choice.metrics}
        return replace(plan, dropped=dropped_cells(self.program, used))

    def _fit(self, top: Step, before: list[int], X: Ask, y: Ask) -> Function:
        choice = self.program.choice
        ids = [
            i for i in self.program.backward(top.reads | top.mutates, top.id) if i not in before and self._is_work(i)
        ]
        name = self.renames.get(choice.shipped_name, choice.shipped_name)
        after = (
            []
            if any(choice.shipped_name in self.program.steps[i].defines for i in [*ids, top.id])
            else [i for i, s in self.program.steps.items() if i > top.id and choice.shipped_name in s.writes][:1]
        )
        parts = [self._part(i) for i in ids]
        learner = self._learner(top)
        edits = [Edit(span_of(a.node), n) for a, n in ((X, "X"), (y, "y")) if a.node is not None]
        given = (
            [] if X.node is not None else [Part(f"{X.source}, {y.source} = X, y", top.cell, top.node.lineno, top.id)]
        )
        text = finished(learner.code.edited(span_of(top.node), [*edits, *learner.base(top.node)]))
        parts += [*given, Part(comments_above(top.statement.source) + text, top.cell, top.node.lineno, top.id)]
        parts += [self._part(i) for i in after]
        return Function("fit", (("X", FRAME), ("y", "pd.Series")), name, "object", tuple(parts))

    def _shown(self, top: Step, given: Ask) -> str:
        if given.node is None:
            return self.renames.get(given.source, given.source)
        learner = self._learner(top)
        return learner.code.edited(span_of(given.node), learner.base(given.node))

    def _check(self, top: Step, before: list[int]) -> None:
        """Refuse a fit that is given other rows beside its input: they are not in the table that load gives."""
        made = {n for i in before for n in self.program.steps[i].defines}
        extra = [
            i for i in self.program.backward(top.reads | top.mutates, top.id) if i not in before and self._is_work(i)
        ]
        for id_ in extra:
            step = self.program.steps[id_]
            X = {n for a in (self.fit.X, self.fit.y) if a is not None for n in [a.source]}
            if self.shared.roles.depends(id_) and (step.reads & made) - X:
                raise self._refusal(f"cell {step.cell} gives it other rows too")

    def _inner(self) -> set[int]:
        """Give the definitions that must stand in load: they read the file, or what load computes."""
        found = set()
        for step in self._definitions():
            name = getattr(step.node, "name", "")
            effects = self.program.effects.get(name)
            read = self.program.read
            reads_file = step.cell == read.cell and inside(read.span, span_of(step.node))
            known = {
                n
                for n in (effects.reads | effects.mutates | effects.writes if effects else set())
                if any(
                    n in s.defines and not self._is_constant(s.id) and self._is_work(s.id)
                    for s in self.program.steps.values()
                )
            }
            if reads_file or known:
                found.add(step.id)
        return found

    def _parts(self, ids: list[int], *, load: bool) -> list[Part]:
        inner = self._inner()
        wanted = [i for i in ids if self._is_work(i) or i in inner]
        return [part for i in wanted for part in [self._part(i, load=load)] if part.source.strip()]

    def _part(self, id_: int, *, load: bool = False) -> Part:
        step = self.program.steps[id_]
        learner = self._learner(step)
        edits = [*learner.base(step.node), *self._noise(step, learner)]
        for read in self.program.trace.reads:
            here = read.cell == step.cell and inside(read.span, span_of(step.node))
            if not here or (read.id != self.program.main and read.statement != id_):
                continue
            if read.id == self.program.main and load:
                table = read.kind in ("bigquery", "sql", "dataset", "http")
                call = "pd.read_parquet(path)" if table else with_path(self.program, read, "path")
                edits.append(Edit(span_of(read_call(self.program, read)), call))
        for lookup in lookup_of(self.program, step):
            read = read_of(self.program, lookup.read)
            edits.append(Edit(read.span, f"{lookup.name}()"))
            self.lookups += [lookup] if lookup not in self.lookups else []
        edits += [
            Edit(span_of(n), f"nonlocal {', '.join(n.names)}") for n in ast.walk(step.node) if isinstance(n, ast.Global)
        ]
        text = self._named(step, finished(learner.code.edited(span_of(step.node), edits)))
        source = comments_above(step.statement.source) + text + end_comment(step.statement.source, step.node)
        return Part(source, step.cell, step.node.lineno, id_)

    def _noise(self, step: Step, learner: Learner) -> list[Edit]:
        found = []
        for node in ast.walk(step.node):
            for body in (getattr(node, "body", None), getattr(node, "orelse", None)):
                if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
                    noisy = [n for n in body if learner.is_noise(n)]
                    found += [
                        Edit(span_of(n), "pass" if len(noisy) == len(body) and n is noisy[0] else "\0") for n in noisy
                    ]
        return found

    def _learner(self, step: Step) -> Learner:
        learner = Learner(self.shared, step.id, step.cell, {})
        learner.learning = True
        return learner

    def _is_work(self, id_: int) -> bool:
        node = self.program.steps[id_].node
        return not isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)

    def _is_constant(self, id_: int) -> bool:
        step = self.program.steps[id_]
        return (
            self._is_work(id_)
            and not self.shared.roles.depends(id_)
            and not any(read.statement == id_ for read in self.program.trace.reads)
            and not isinstance(step.node, ast.Expr)
        )

    def _definitions(self) -> list[Step]:
        return [s for s in self.program.steps.values() if isinstance(s.node, ast.FunctionDef | ast.ClassDef)]

    def _definition_text(self, step: Step) -> str:
        learner = self._learner(step)
        text = learner.code.edited(span_of(step.node), learner.base(step.node))
        return comments_above(step.statement.source) + self._named(step, text)

    def _named(self, step: Step, text: str) -> str:
        """Write a definition with its name in the project."""
        name = getattr(step.node, "name", "")
        return (
            re.sub(rf"^(class|def) {name}\b", rf"\1 {self.renames.get(name, name)}", text, flags=re.MULTILINE)
            if name
            else text
        )

    def _as_table(self, source: str, given: Argument) -> str:
        if given.value.kind == "frame":
            return source if source.isidentifier() else f"({source})"
        width = len(given.value.dtypes or []) or 1
        return f'pd.DataFrame({source}, columns=[f"x{{i}}" for i in range({width})])'

    def _frame(self) -> str:
        step = self.program.steps[read_of(self.program, self.program.main).statement]
        return next(iter(sorted(step.writes)), "df")

    def _imports(self) -> tuple[str, ...]:
        lines = [
            ast.unparse(s.node) for s in self.program.steps.values() if isinstance(s.node, ast.Import | ast.ImportFrom)
        ]
        return tuple(dict.fromkeys([*lines, "import numpy as np", "import pandas as pd"]))

    def _type(self) -> str:
        seen = next((o.type for o in self.program.trace.objects if o.id == self.program.choice.shipped), "object")
        return self.renames.get(seen.removeprefix("__main__."), seen.removeprefix("__main__."))

    def _refusal(self, why: str) -> TrilhoError:
        fit: Fit = self.fit
        return TrilhoError(
            f"{self.program.notebook.path.name}: cell {fit.cell} fits {self.program.choice.shipped_name}, and {why}",
            hint="give it a table of features and a column of true values by name: model.fit(X, y)",
        )
