"""Puts the functions together as a plan, and says what a reader should know of it."""

from __future__ import annotations

import ast
import re
from dataclasses import replace

from trilho.adopt.notebook import Statement
from trilho.adopt.plan import Finding, Function, Part, Plan
from trilho.adopt.slice.constants import place_constants
from trilho.adopt.slice.drop import dropped_cells
from trilho.adopt.slice.experiment import Experiment
from trilho.adopt.slice.ground import FRAME, Text
from trilho.adopt.slice.labels import Labels
from trilho.adopt.slice.program import Step
from trilho.adopt.slice.reading import (
    derive_target,
    load_call,
    load_function,
    lookup_of,
    numbered_target,
)
from trilho.adopt.slice.shared import Unsliceable
from trilho.adopt.slice.text import Edit, comments_above
from trilho.adopt.slice.unlabelled import where_labelled
from trilho.adopt.trace import StatementTrace


class Assembly(Experiment):
    """Puts the functions together as a plan, and says what a reader should know of it."""

    def plan(self, allow_features: bool) -> Plan:
        """Write the functions. Raises Unsliceable."""
        self._check()
        texts = self._shared_texts(joined=True)
        joined = (
            self._place() is not None
            or self.shared.needs_target
            or any(t.filters for t in texts)
            or self._rest_needs_target()
        )
        if not joined:
            self.shared = self._new_shared(joined=False)
            texts = self._shared_texts(joined=False)
        self._texts = texts
        texts = self._take_cleaning(texts)
        self._texts = texts
        self._choose_cut(texts)
        features = self._features(texts)
        form = "features" if allow_features and self._is_features(texts) else "model"
        fit, evaluate = (
            (self._fit_of_features, self._evaluate) if form == "features" else (self._fit_of_rows, self._evaluate)
        )
        self.form = form
        fits, experiments = fit(), evaluate()
        predict = None if form == "features" else self._predict()
        return self._finish(form, features, fits, experiments, predict)

    def plan_late(self) -> Plan:
        """Plan a project whose rows are the table that the split is made of: what comes before is its load."""
        ids = sorted({*self._work(), *self._complete_cases()})
        first = self.program.steps[self.live.read]
        reason = Unsliceable(
            self.live.frame, first.cell, first.node.lineno, "train and test are not cut from one table"
        )
        self._texts, self.cleaning, self.shared.joined, self.form = [], [], True, "model"
        self.labels, self.shared.left_out = Labels(), set()
        made = [Text(self.program.steps[i], "") for i in ids if self.live.kind(i) != "constant"]
        crossing = {n for n in self._crossing(made, len(made)) if not self._is_truth_name(n)}
        if len(crossing) != 1 or self._crossing(made, len(made), kind="state"):
            raise reason
        name = crossing.pop()
        parts = [self._part(self.program.steps[i], self._load_text(self.program.steps[i])) for i in ids]
        bound_ = next((self.roles.after[i][name] for i in reversed(ids) if name in self.program.steps[i].defines), None)
        if bound_ is None or self.column not in (bound_.columns or ()):
            raise reason
        self.live.frame = name
        if self.derives or self.choice.target.positive:
            parts += derive_target(self.program, self.frame)
        load = Function(
            "load",
            (("path", "Path"),),
            self._new(name),
            FRAME,
            tuple(parts),
            "Run the notebook's code up to the table that train and test are cut from.",
        )
        features = self._features([])
        fits, experiments, predict = self._fit_of_rows(), self._evaluate(), self._predict()
        return replace(self._finish("model", features, fits, experiments, predict, load), form="whole")

    def _is_truth_name(self, name: str) -> bool:
        return name in self.truth.names

    def _load_text(self, step: Step) -> str:
        learner = self._learner(step)
        learner.learning, learner.origin = True, None
        edits = [*learner.base(step.node), *self._noise(learner, step)]
        read = self.program.read
        if read.statement == step.id:
            if not self.program.is_own(step.id, read.cell, read.span):
                raise Unsliceable(self.live.frame, step.cell, step.node.lineno, "its table is read inside a function")
            edits.append(Edit(read.span, load_call(self.program)))
        for lookup in lookup_of(self.program, step):
            other = next(r for r in self.program.trace.reads if r.id == lookup.read)
            edits.append(Edit(other.span, f"{lookup.name}()"))
            self.lookups += [lookup] if lookup not in self.lookups else []
        return self._source(step, learner.code, edits)

    def _finish(
        self,
        form: str,
        features: list[Function],
        fits: list[Function],
        evaluate: list[Function],
        predict: Function | None,
        load: Function | None = None,
    ) -> Plan:
        plan = Plan(
            form="features" if form == "features" else "model",
            package=self.package,
            frame=self.frame,
            load=load or load_function(self.program, self.frame, [*self._naming_parts(), *self._labelled_parts()]),
            features=tuple(features),
            definitions={},
            constants={},
            fit=tuple(fits),
            predict=predict,
            evaluate=tuple(evaluate),
            imports=self._imports(),
            state=tuple(dict.fromkeys([*self._state_names()])),
            lookups=tuple(self.lookups),
            estimator_type=self._estimator_type(),
            probabilities=self.choice.task == "classification",
            train_only=tuple(dict.fromkeys(self.shared.train_only)),
            split_in_fit=self.split_in_fit,
            unlike=self._unlike(),
            unlike_fit=bool(self._out_of_fold()),
            dropped=(),
            findings=(),
        )
        named = self._named_lambdas()
        plan = place_constants(
            self.program,
            self.shared,
            plan,
            [*self._definition_steps(), *named],
            self._code_of_definition,
            {i for i in self.program.steps if self.live.kind(i) == "constant" and not self._draws(i)},
        )
        used = {p.statement for f in (*plan.features, *plan.fit, *plan.evaluate, plan.load) for p in f.parts}
        used |= {p.statement for group in (plan.constants, plan.definitions) for ps in group.values() for p in ps}
        used |= set(self.score.steps) | {m.statement for m in self.choice.metrics}
        return replace(plan, dropped=dropped_cells(self.program, used), findings=tuple(self._findings()))

    def _check(self) -> None:
        """Refuse what no row can be asked for by itself."""
        fit, program = self.live.fit, self.program
        if not self.live.X.names:
            raise Unsliceable(
                self.live.X.source or "X", fit.cell, fit.span[0], "what the model is fitted to is not seen"
            )
        step = fit.statement
        for name in self.live.X.names:
            known = self.roles.before[step].get(name)
            if (
                known is not None
                and known.kind == "state"
                and program.steps[known.step].did.values.get(name) is not None
            ):
                kind = program.steps[known.step].did.values[name].kind
                if kind in ("frame", "series", "array", "sparse"):
                    where = program.steps[known.step]
                    raise Unsliceable(
                        name, where.cell, where.node.lineno, "its rows are not those of the table that was read"
                    )
        for lag in self.choice.lags:
            if self.column in (lag.column, *re.findall(r"\w+", lag.source)):
                raise Unsliceable(
                    lag.source,
                    lag.cell,
                    lag.line,
                    f"it looks at {self.column} of other rows, which nobody knows for the rows that are asked about",
                )
        if program.trace.fits and self.live.fit.how == "partial_fit":
            raise Unsliceable(self.choice.shipped_name, fit.cell, fit.span[0], "it is fitted bit by bit")

    def _is_features(self, texts: list[Text]) -> bool:
        given = self.live.fit.X
        value = given.value if given is not None else None
        seen = next((o for o in self.program.trace.objects if o.id == self.choice.shipped), None)
        library = (seen.type if seen else "").split(".")[0]
        truth = [self._truth_text(self.program.steps[i]) for i in self._truth_steps()]
        plain = all(t.rpartition("= ")[2].strip() in ("target", "target.values", "target.to_numpy()") for t in truth)
        sides = [
            i
            for i in self.live.training
            if self.live.kind(i) == "rows"
            and i not in self.live.splits
            and self.roles.side_of(i) == "train"
            and i < self.live.fit.statement
        ]
        only_rows = all(self.roles.after[i][n].kind == "rows" for i in sides for n in self.program.steps[i].defines)
        same_rows = all(self._same_rows(i) for i in sides)
        return (
            not self.state
            and not self.shared.learns
            and not self.filters
            and self.score.plain
            and (self.has_probabilities or self.choice.task == "regression")
            and plain
            and value is not None
            and value.kind == "frame"
            and library in ("sklearn", "xgboost", "lightgbm", "catboost", "imblearn")
            and (seen is None or not seen.type.endswith("Booster"))
            and not self._fit_sees_test()
            and not self._fit_takes_parts()
            and not self._fit_changes_rows()
            and only_rows
            and same_rows
            and not self.choice.target.transform
            and len(self._estimators()) == 1
        )

    def _same_rows(self, id_: int) -> bool:
        step, before = self.program.steps[id_], self.roles.before[id_]
        sizes = {before[n].rows for n in step.reads if n in before and before[n].kind == "rows"}
        return all(
            self.roles.after[id_][n].rows in sizes for n in step.defines if self.roles.after[id_][n].kind == "rows"
        )

    def _naming_parts(self) -> list[Part]:
        """Write what gives the columns the names by which the target is known: load does that."""
        return [self._part(step, self._plain(step)) for step in map(self.program.steps.__getitem__, self._naming())]

    def _labelled_parts(self) -> list[Part]:
        """Write what makes the target, for rows that have what it is made of: rows to be scored do not."""
        columns = self.program.read.value.columns or []
        return where_labelled(self._target_parts(), self.frame, columns, self.choice.target.column)

    def _target_parts(self) -> list[Part]:
        """Write how load derives the target, where it is no column of what was read, and drops rows without it."""
        complete = [self.program.steps[i] for i in self._complete_cases()]
        if complete:
            return [self._part(step, self._plain(step)) for step in complete]
        target = self.choice.target
        if self.labels.parts:
            words = target.positive not in ("", "1", "1.0", "True")
            return [*self.labels.parts, *(numbered_target(self.program, self.frame) if words else [])]
        return derive_target(self.program, self.frame) if self.derives or target.positive else []

    def _imports(self) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys(
                ast.unparse(s.node)
                for s in self.program.steps.values()
                if isinstance(s.node, ast.Import | ast.ImportFrom)
            )
        )

    def _definition_steps(self) -> list[Step]:
        return [s for s in self.program.steps.values() if self.live.kind(s.id) == "definition"]

    def _named_lambdas(self) -> list[Step]:
        """Give the functions that lambdas became, as if the notebook had defined them at its end."""
        made = []
        for (cell, span), (name, text) in (self.shared.lambdas or {}).items():
            id_ = self._end()
            node = ast.increment_lineno(ast.parse(text).body[0], span[0] - 1)
            did = StatementTrace(id_, 0.0, "ran", writes=[name])
            step = Step(Statement(id_, cell, span[0], text, node), did, frozenset(), frozenset({name}), frozenset())
            self.program.steps[id_] = step
            self.shared.plain_texts[name] = text
            made.append(step)
        return made

    def _code_of_definition(self, step: Step) -> str:
        name = getattr(step.node, "name", "")
        head = comments_above(step.statement.source)
        if name in self.shared.functions:
            return head + self.shared.functions[name]
        if name in self.shared.plain_texts:
            text = head + self.shared.plain_texts[name]
        else:
            text = self._source(step, self.program.code[step.cell], self._learner(step).base(step.node))
        return re.sub(rf"^(class|def) {name}\b", rf"\1 {self._new(name)}", text, flags=re.MULTILINE) if name else text

    def _state_names(self) -> list[str]:
        return [*(n.strip('f"') for n in self.shared.names.learnt), *self.learnt] if self.state else []

    def _findings(self) -> list[Finding]:
        """Say what a reader should know of how the code came to be as it is."""
        found = []
        steps = self.program.steps
        if self.split_in_fit:
            place = steps[min(self.live.splits)]
            why = (
                "what is learnt before the split is learnt from the test rows too"
                if any(t.learns for t in self._texts)
                else "the fit stops early by the test rows"
                if self._fit_sees_test()
                else "the fit stops early by a part of the rows that it does not learn from"
                if self._fit_takes_parts()
                else "the model learns from other rows than those of the train side"
                if self._fit_changes_rows()
                else "rows are dropped before the split"
            )
            found.append(
                Finding(
                    "split-in-fit",
                    place.cell,
                    place.node.lineno,
                    f"{why}: the fit splits its rows itself, as the notebook did, so that the model is the same",
                    "note",
                )
            )
        for rule in dict.fromkeys(self.shared.train_only):
            step = next((s for s in steps.values() if rule in s.statement.source), None)
            found.append(
                Finding(
                    "training-only",
                    step.cell if step else None,
                    step.node.lineno if step else None,
                    f"`{_short(rule)}` is for training only: a row that is asked about is never dropped",
                    "note",
                )
            )
        for lookup in self.lookups:
            read = next(r for r in self.program.trace.reads if r.id == lookup.read)
            found.append(
                Finding(
                    "frozen-table",
                    read.cell,
                    read.span[0],
                    f"{read.source} is kept with the code as it was read; a newer one needs a new version of the model",
                    "note",
                )
            )
        for name in sorted(self._batchwise()):
            cell = self.program.cell_of_function[name]
            found.append(
                Finding(
                    "statistics-per-batch",
                    cell,
                    self.program.definitions[name].lineno,
                    f"{name} computes statistics "
                    "of the rows that it is given, of train and test apart: in serving those of training are used",
                    "warning",
                    "learn them from the training rows, and give them to the test rows",
                )
            )
        told = (
            "the rows that are learnt from get features of the other folds, a served row those of all: "
            "answers are compared for the rows that were held out"
        )
        found += [Finding("out-of-fold", s.cell, s.node.lineno, told, "note") for s in self._out_of_fold()]
        if self.choice.lags:
            lag = self.choice.lags[0]
            found.append(
                Finding(
                    "batch-only",
                    lag.cell,
                    lag.line,
                    f"`{_short(lag.source)}` looks at other rows: the model is asked in batches that hold them",
                    "warning",
                )
            )
        return found

    def _out_of_fold(self) -> list[Step]:
        """Give the steps that make features of training rows fold by fold: a served row is given those of all."""
        return [
            self.program.steps[i]
            for i in self.live.training
            if i < self.live.fit.statement
            and self.live.kind(i) == "rows"
            and self.roles.side_of(i) != "test"
            and any(self.roles.after[i][n].kind == "rows" for n in self.program.steps[i].defines)
            and _goes_by_folds(self.program.steps[i].node)
        ]

    def _unlike(self) -> tuple[int, ...]:
        """Give the predicts whose input had statistics of its own rows."""
        if not self._batchwise():
            return ()
        return tuple(p.id for p in self.program.trace.predicts if self.roles.side_of(p.statement) == "test")


def _goes_by_folds(node: ast.stmt) -> bool:
    """Say whether a loop is over the folds of a splitter: `for a, b in KFold(5).split(train)`."""
    if not isinstance(node, ast.For):
        return False
    calls = [n for n in ast.walk(node.iter) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    pairs = [t for t in ast.walk(node.target) if isinstance(t, ast.Tuple) and len(t.elts) == 2]
    return bool(pairs) and any(isinstance(c.func, ast.Attribute) and c.func.attr == "split" for c in calls)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else line[:77] + "..."
