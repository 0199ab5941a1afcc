"""The last resort: the notebook's own code up to the model's input is the load step.

Rows are then served as the model's input. `prepare` replays what the notebook did to the table that it read, `load`
makes a table of the model's input and the target, `fit` fits the model to that, and `evaluate` runs the notebook's
experiment again from the file.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Sequence
from dataclasses import replace

from trilho.adopt.plan import Choice, Function, Part, Plan
from trilho.adopt.slice.constants import place_constants
from trilho.adopt.slice.drop import dropped_cells
from trilho.adopt.slice.fitting import FRAME, Fitting
from trilho.adopt.slice.live import Ask, ask
from trilho.adopt.slice.measured import measured
from trilho.adopt.slice.program import Program
from trilho.adopt.slice.reading import read_of
from trilho.adopt.slice.replay import Replay, unknown_names
from trilho.adopt.slice.shared import Unsliceable
from trilho.adopt.slice.text import Code, renamed, span_of
from trilho.adopt.trace import Argument, Value
from trilho.errors import TrilhoError

INVERSES = {"log1p": "np.expm1({})", "log": "np.exp({})", "log10": "10.0 ** ({})", "log2": "np.exp2({})",
            "sqrt": "np.square({})"}  # fmt: skip


def plan_whole(program: Program, package: str) -> Plan:
    """Plan a project whose rows are the model's input. Raises TrilhoError where not even that can be taken apart."""
    return _Whole(program, package).plan()


def asked_alone(plan: Plan, choice: Choice) -> Choice:
    """Give the choice as it holds for a plan: the model's input has its lags in it already, so that a row is enough."""
    return replace(choice, lags=()) if plan.prepared and not plan.whole_batch else choice


class _Whole:
    """The functions of a project of form "whole"."""

    def __init__(self, program: Program, package: str) -> None:
        self.program, self.package, self.choice = program, package, program.choice
        self.replay = Replay(program)
        self.new = self.replay.new
        self.fit = next(f for f in program.trace.fits if f.id == program.choice.shipped_fit)
        self.top = program.steps[self.fit.statement]
        self.column = self.choice.target.column

    def plan(self) -> Plan:
        """Write prepare, load, fit, predict and evaluate."""
        X, y = self._asked()
        fitting = Fitting(self.replay, self.fit, X, y)
        fits, predict = fitting.functions()
        names = X.names | y.names | fitting.beside_names
        before = self.replay.chain(names, self.top.id)
        evaluated, shown = self._experiment(before)
        shared = self._shared(before, evaluated)
        rest = [i for i in evaluated if i not in shared]
        prepare, wanted = self._prepare(shared, names, rest, shown)
        load = self._load(X, y, fitting, prepare, wanted)
        evaluate = self._evaluate(prepare, wanted, rest, shown)
        plan = Plan(
            form="whole", package=self.package, frame=self._frame(), load=load, features=(prepare,), definitions={},
            constants={}, fit=fits, predict=predict, evaluate=evaluate, imports=self._imports(),
            lookups=tuple(self.replay.lookups), estimator_type=fitting.type, prepared=True,
            probabilities=self.choice.task == "classification", columns=None,
            whole_batch=self._looks_at_others(fitting.type),
        )  # fmt: skip
        return self._placed(plan, fitting.lifted)

    def _asked(self) -> tuple[Ask, Ask]:
        given, y = self.fit.X, self.fit.y
        if given is None or given.value.kind not in ("frame", "array", "series", "sparse"):
            raise self._refusal("what it is fitted to is no table")
        try:
            X, target = ask(self.program, self.fit, given), ask(self.program, self.fit, y)
        except Unsliceable as error:
            raise self._refusal("its input is made where it is fitted, inside a function") from error
        if y is None and self.column not in (given.value.columns or []):
            raise self._refusal("which of its columns is the target is not seen")
        return X, target

    def _experiment(self, before: Sequence[int]) -> tuple[list[int], dict[str, tuple[int, str]]]:
        """Give the steps up to the metrics, and of each metric the step after which it is known, and its code."""
        found, ids = measured(self.replay, self.choice), set[int]()
        for id_, text in found.values():
            step = self.program.steps[id_]
            names = unknown_names([text]) & {self.new(n) for n in self.program.names}
            own = {n for n in step.writes if self.new(n) in names}
            wanted = (
                (step.reads | step.mutates)
                if own or step.mutates
                else {n for n in self.program.names if self.new(n) in names}
            )
            ids |= set(self.replay.chain(wanted, id_)) | ({id_} if own or step.mutates or step.writes else set())
            for fit in self.program.fits_before(id_):
                ids |= {fit.statement, *self.replay.chain(self.program.steps[fit.statement].reads, fit.statement)}
        return sorted(ids), found

    def _shared(self, before: Sequence[int], evaluated: Sequence[int]) -> list[int]:
        """Give the steps that are run before load's and evaluate's ways part: in the notebook's order either way."""
        steps, shared = self.program.steps, set(before)
        last = max(before, default=-1)
        for id_ in sorted(i for i in evaluated if i < last and i not in shared):
            touched = steps[id_].reads | steps[id_].defines
            later = {n for i in shared if i > id_ for n in steps[i].defines}
            if touched & later or steps[id_].defines & {n for i in shared if i > id_ for n in steps[i].reads}:
                shared.add(id_)
        return sorted(shared)

    def _prepare(
        self, shared: list[int], names: frozenset[str], rest: list[int], shown: dict[str, tuple[int, str]]
    ) -> tuple[Function, list[str]]:
        parts = self.replay.parts(shared)
        made = {n for i in shared for n in self.program.steps[i].defines}
        known = {self.new(n): n for n in self.program.names}
        texts = [*(p.source for p in self.replay.parts(rest)), *(text for _, text in shown.values())]
        later = {known.get(n, n) for n in unknown_names(texts)} | {n for i in rest for n in self.replay.needs(i)}
        above = {n for i in self.replay.constants | self.replay.lifted for n in self.program.steps[i].writes}
        order = {n: i for i in shared for n in self.program.steps[i].defines}
        wanted = sorted(
            made & (names | (later - above if shown else set())), key=lambda n: (n not in names, order[n], n)
        )
        returns = ", ".join(map(self.new, wanted))
        doc = "Run the notebook's code up to the model's input."
        kind = "tuple[Any, ...]" if len(wanted) > 1 else "Any"
        return Function("prepare", ((self.replay.path, "Path"),), returns, kind, tuple(parts), doc), wanted

    def _load(self, X: Ask, y: Ask, fitting: Fitting, prepare: Function, wanted: list[str]) -> Function:
        mine = [n for n in wanted if n in X.names | y.names | fitting.beside_names]
        call = self._call(prepare, wanted, mine)
        tables = [self._table(self._shown(X), self.fit.X, self._shown(y) if self.fit.y is not None else "")]
        if fitting.beside is not None:
            given, truth = fitting.beside
            tables.append(self._table(given, self.fit.X, truth))
        lines, whole = [call], tables[0]
        if len(tables) > 1:
            whole = f"pd.concat([{', '.join(tables)}])"
        parts = tuple(Part(line, self.top.cell, self.top.node.lineno, -1) for line in lines)
        doc = "Give the model's input, with the target as a column."
        parts += (Part(f"table = {whole}", self.top.cell, self.top.node.lineno, -1),)
        return Function("load", ((self.replay.path, "Path"),), "table.reset_index(drop=True)", FRAME, parts, doc)

    def _call(self, prepare: Function, wanted: list[str], mine: list[str]) -> str:
        names = [self.new(n) if n in mine else "_" for n in wanted]
        while len(names) > 1 and names[-2:] == ["_", "_"]:
            names.pop()
        if len(wanted) > len(names) or (names and names[-1] == "_" and len(names) > 1):
            names = [*names[:-1], "*_"]
        left = ", ".join(names)
        return f"{left}{',' if left == '*_' else ''} = prepare({self.replay.path})"

    def _table(self, source: str, given: Argument | None, target: str) -> str:
        """Write the model's input as a table with texts for names, and the target in it."""
        assert given is not None
        value, table = given.value, source if source.isidentifier() else f"({source})"
        if value.kind == "series":
            table = f"{table}.to_frame({self.column + '_input'!r})"
        elif value.kind in ("array", "sparse"):
            dense = f"{table}.toarray()" if value.kind == "sparse" else table
            table = f"pd.DataFrame({dense}).add_prefix('x')"
            table += ".infer_objects()" if "object" in (value.dtypes or []) else ""
        else:
            table = self._plain(table, value)
        return f"{table}.assign({self._assigned(self._truth(target))})" if target else table

    def _plain(self, table: str, value: Value) -> str:
        """Write a frame without what Parquet cannot keep: categories become what they are categories of."""
        kinds = dict(zip(value.columns or [], value.dtypes or [], strict=False))
        for name, kind in kinds.items():
            if kind == "category":
                item = f"{_first(table)}[{name!r}]"
                table += f".assign({_keyword(name, f'{item}.astype({item}.cat.categories.dtype)')})"
        return table if all(isinstance(n, str) for n in kinds) else f"{table}.rename(columns=str)"

    def _truth(self, source: str) -> str:
        target = self.choice.target
        if target.positive:
            return f"(np.asarray({source}) == {target.positive}).astype(int)"
        inverse = INVERSES.get(target.transform.rpartition(".")[2]) if target.transform else None
        return inverse.format(f"np.asarray({source})") if inverse else f"np.asarray({source})"

    def _assigned(self, value: str) -> str:
        return _keyword(self.column, value)

    def _shown(self, given: Ask) -> str:
        if given.node is None:
            tree, names = ast.parse(given.source, mode="eval").body, self.replay.renames
            return Code(given.source).edited(span_of(tree), renamed(tree, names)) if given.source else ""
        return self.replay.expression(self.top, given.node)

    def _evaluate(
        self, prepare: Function, wanted: list[str], rest: list[int], shown: dict[str, tuple[int, str]]
    ) -> tuple[Function, ...]:
        if not shown:
            return ()
        needed = {n for i in rest for n in self.replay.needs(i)}
        known = {self.new(n): n for n in self.program.names}
        needed |= {known.get(n, n) for _, text in shown.values() for n in unknown_names([text])}
        parts = [Part(self._call(prepare, wanted, [n for n in wanted if n in needed]), self.top.cell, 1, -1)]
        places: dict[int, list[str]] = {}
        for name, (id_, _) in shown.items():
            places.setdefault(id_, []).append(name)
        for id_ in sorted({*rest, *places}):
            step = self.program.steps[id_]
            parts += self.replay.parts([id_]) if id_ in rest else []
            parts += [Part(f"metrics[{name!r}] = {shown[name][1]}", step.cell, step.node.lineno, -1)
                      for name in places.get(id_, [])]  # fmt: skip
        first = Part("metrics: dict[str, float] = {}", self.top.cell, 1, -1)
        doc = "Run the notebook's experiment again, from the file to its metrics."
        return (
            Function("evaluate", ((self.replay.path, "Path"),), "metrics", "dict[str, float]",
                     (first, *parts), doc),
        )  # fmt: skip

    def _placed(self, plan: Plan, more: Sequence[Part]) -> Plan:
        """Put definitions and constants above the functions that need them."""
        lifted = [self.program.steps[i] for i in sorted(self.replay.lifted)]
        parts = (*plan.features[0].parts, *plan.load.parts)
        placed = place_constants(
            self.program, self.replay.shared, replace(plan, features=(), load=replace(plan.load, parts=parts)), lifted,
            self.replay.definition_text, self.replay.constants,
        )  # fmt: skip
        above = {p.statement for group in placed.constants.values() for p in group}
        prepare = replace(plan.features[0], parts=tuple(p for p in plan.features[0].parts if p.statement not in above))
        fit = tuple(replace(f, parts=tuple(p for p in f.parts if p.statement not in above)) for f in plan.fit)
        evaluate = tuple(replace(f, parts=tuple(p for p in f.parts if p.statement not in above)) for f in plan.evaluate)
        definitions = {**placed.definitions, "fit": (*placed.definitions.get("fit", ()), *more)}
        placed = replace(
            placed, features=(prepare,), load=plan.load, fit=fit, evaluate=evaluate, definitions=definitions
        )
        used = {p.statement for f in (prepare, *placed.fit, *placed.evaluate) for p in f.parts}
        used |= {p.statement for group in (placed.constants, placed.definitions) for ps in group.values() for p in ps}
        used |= {self.top.id, *(m.statement for m in self.choice.metrics)}
        return replace(placed, dropped=dropped_cells(self.program, used))

    def _looks_at_others(self, type_: str) -> bool:
        """Say whether the model itself looks at other rows: a lag in the notebook's own class."""
        classes = [s for s in self.program.steps.values() if isinstance(s.node, ast.ClassDef) and s.node.name == type_]
        return any(
            lag.cell == s.cell and s.node.lineno <= lag.line <= (s.node.end_lineno or 0)
            for lag in self.choice.lags for s in classes
        )  # fmt: skip

    def _frame(self) -> str:
        step = self.program.steps[read_of(self.program, self.program.main).statement]
        return next(iter(sorted(step.writes)), "df")

    def _imports(self) -> tuple[str, ...]:
        lines = [
            ast.unparse(s.node) for s in self.program.steps.values() if isinstance(s.node, ast.Import | ast.ImportFrom)
        ]
        lines += ["import numpy as np", "import pandas as pd", "from typing import Any"]
        return tuple(dict.fromkeys([*lines, "from scipy.sparse import csr_matrix"]))

    def _refusal(self, why: str) -> TrilhoError:
        return TrilhoError(
            f"{self.program.notebook.path.name}: cell {self.fit.cell} fits {self.choice.shipped_name}, and {why}",
            hint="give it a table of features and a column of true values by name: model.fit(X, y)",
        )


def _keyword(name: str, value: str) -> str:
    plain = name.isidentifier() and not keyword.iskeyword(name)
    return f"{name}={value}" if plain else f"**{{{name!r}: {value}}}"


def _first(table: str) -> str:
    """Give the expression that a chain of `.assign` begins with."""
    return table.partition(".assign(")[0]
