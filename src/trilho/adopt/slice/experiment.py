"""The functions of evaluate.py and predict.py: the notebook's experiment, and the score of raw rows."""

from __future__ import annotations

import ast
import re

from trilho.adopt.plan import Function, Metric, Part
from trilho.adopt.slice.ground import FRAME, SERIES
from trilho.adopt.slice.passed import written_out
from trilho.adopt.slice.program import Step
from trilho.adopt.slice.shared import Unsliceable
from trilho.adopt.slice.text import Edit, inside, span_of
from trilho.adopt.slice.training import Training
from trilho.adopt.slice.truth import assigned
from trilho.adopt.trace import Value


class Experiment(Training):
    """The functions of evaluate.py and predict.py."""

    def _evaluate(self) -> list[Function]:
        """Write the notebook's experiment: its split, its fit, its metrics."""
        if not self.choice.metrics:
            return []
        functions, parts = list[Function](), self._preamble()[0]
        fits = next((f for f in self.program.trace.fits if f.id == self.choice.evaluated_fit), None)
        if self.live.splits:
            split = self._split_function()
            if not self.split_in_fit:
                functions.append(split)
            parts.append(self._call(split, {}))
        names: dict[str, str] | None = {n: f"state.{n}" for n in self.learnt if n not in self._estimators()}
        called = (
            None
            if fits is None or fits.statement in {m.statement for m in self._metrics()}
            else self._fit_call(fits.id, self._train_steps(fits.id, self.choice.metrics[0].statement))
        )
        names = names if called is not None else None
        if called is not None:
            names = {**(names or {}), **self._same_model(called), **self._kept_in_state()}
        rest = self._rest_of_experiment(fits.statement if fits is not None else None, called)
        if called is not None and fits is not None:
            wanted = {
                n.id
                for n in ast.walk(ast.parse(called.source))
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
            }
            makers = [i for i in rest if i < fits.statement and self.program.steps[i].writes & wanted]
            place = rest.index(makers[-1]) + 1 if makers else 0
            rest = [i for i in rest if i != fits.statement]
            rest.insert(place, fits.statement)
        for id_ in rest:
            step = self.program.steps[id_]
            if fits is not None and id_ == fits.statement and called is not None:
                parts.append(called)
                continue
            text = self._table_text(step) if self.live.kind(id_) == "table" else self._plain(step, names)
            parts.append(self._part(step, text))
        shown = [f"{m.name!r}: {self._metric_text(m, names)}" for m in self._metrics()]
        functions.append(
            Function(
                "evaluate",
                (("rows", FRAME), ("target", SERIES)),
                f"{{{', '.join(shown)}}}",
                "dict[str, float]",
                tuple(parts),
            )
        )
        return functions

    def _rest_of_experiment(self, fit: int | None, called: Part | None) -> list[int]:
        """Give the steps from the split to the metrics that are needed, the fit among them where there is one."""
        done = {*self.live.shared, *self.live.splits, *self._truth_steps(), *self._inits()}
        done |= {i for i in self.live.experiment if self._before_split(i)}
        needed, found = self._metric_names(), list[int]()
        for id_ in sorted({*self.live.experiment, *([] if fit is None else [fit])}, reverse=True):
            step = self.program.steps[id_]
            if id_ in done or self.live.kind(id_) in ("import", "definition", "read"):
                continue
            covered = self.roles.side_of(id_) == "train" or (step.writes and step.writes <= self.aliases)
            if called is not None and id_ != fit and covered and self.live.kind(id_) == "rows":
                continue
            if called is not None and id_ != fit and step.writes and step.writes <= self._same_model(called).keys():
                continue
            if id_ == fit and called is not None:
                found.append(id_)
                tree = ast.parse(called.source)
                needed -= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
                needed |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
                continue
            refits = id_ == fit or any(f.statement == id_ for i in found for f in self.program.fits_before(i))
            if not (step.defines & needed or (refits and called is None)):
                continue
            found.append(id_)
            if isinstance(step.node, ast.Assign):
                needed -= step.writes
            needed |= {
                n
                for n in step.reads | step.mutates
                if called is None or not (n in self.learnt or self._only_frozen(step, n))
            }
        return found[::-1]

    def _kept_in_state(self) -> dict[str, str]:
        """Give the names of what the shared steps learn, as the state has it: they are local to the features."""
        learnt = {label.strip('"') for label in self.shared.names.learnt if label.startswith('"')}
        read = {n for i in self.live.of_test_file for n in self.program.steps[i].reads}
        return {n: f"state.{n}" for n in sorted(learnt & read)}

    def _same_model(self, called: Part) -> dict[str, str]:
        """Give the evaluated model's other names, and the one that it has once the project's own fit was called."""
        nodes = ast.walk(ast.parse(called.source))
        made = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        named = {n for o in self.program.trace.objects if o.id == self.choice.evaluated for n in o.names}
        one = next((n for n in self._estimators() if self._new(n) in made), self.choice.evaluated_name)
        return {n: self._new(one) for n in named - made} if len(self._estimators()) == 1 else {}

    def _only_frozen(self, step: Step, name: str) -> bool:
        """Say whether a step reads a name only in what is learnt with the model."""
        spans = [f.span for f in self.frozen if f.step == step.id]
        used = [n for n in ast.walk(step.node) if isinstance(n, ast.Name) and n.id == name]
        return bool(used) and all(any(inside(span_of(n), span) for span in spans) for n in used)

    def _metrics(self) -> list[Metric]:
        """Give the metrics that are numbers as the notebook has them; the headline is never left out."""
        made = {c.id: c.result.kind for c in self.program.trace.metrics}
        first, *others = self.choice.metrics
        kept = [first, *(m for m in others if self._is_written(m))]
        return [m for m in kept if m is first or m.call is None or made.get(m.call) == "scalar" or self._is_written(m)]

    def _is_written(self, metric: Metric) -> bool:
        try:
            self._metric_text(metric, {})
        except Unsliceable:
            return False
        return True

    def _metric_names(self) -> set[str]:
        found: set[str] = set()
        for metric in self._metrics():
            found |= {
                n.id for n in ast.walk(ast.parse(self._metric_text(metric, {}), mode="eval")) if isinstance(n, ast.Name)
            }
        return found

    def _metric_text(self, metric: Metric, names: dict[str, str] | None) -> str:
        step = self.program.steps[metric.statement]
        call = next((c for c in self.program.trace.metrics if c.id == metric.call), None)
        learner = self._learner(step, names)
        names = names or {}
        if step.writes and isinstance(step.node, ast.Assign):
            wanted = [
                n
                for n, v in assigned(step.node)
                if step.did.values.get(n) is not None and _close(step.did.values[n].literal, metric.value)
            ]
            if wanted:
                return self._new(wanted[0])
        looped = isinstance(step.node, ast.For | ast.While)
        if call is not None and not looped and self.program.is_own(step.id, call.cell, call.span):
            return learner.code.edited(call.span, learner.base(step.node))
        for node in ast.walk(step.node):
            value = self.program.value(step.id, step.cell, node) if isinstance(node, ast.expr) else None
            if isinstance(node, ast.expr) and not looped and value is not None and _close(value.literal, metric.value):
                return learner.code.edited(span_of(node), learner.base(node))
        for node in ast.walk(step.node):
            value = self.program.value(step.id, step.cell, node) if isinstance(node, ast.Call) else None
            key = _key_of(value.literal if value is not None else None, metric.value)
            if isinstance(node, ast.Call) and key is not None:
                return f"{learner.code.edited(span_of(node), learner.base(node))}[{key!r}]"
        for name in sorted(step.defines):
            seen = step.did.values.get(name)
            if looped and seen is not None and _close(seen.literal, metric.value):
                return self._new(name)  # the best that the loop kept
            key = _key_of(seen.literal if seen is not None else None, metric.value)
            if key is not None:
                return f"{self._new(name)}[{key!r}]"
        written = written_out(self.program, step, call, learner) if call is not None and not looped else None
        if written is not None:
            return written
        later = self._taken_up_later(step, metric.value)
        if later is not None:
            return later
        raise Unsliceable(metric.name, metric.cell, metric.line, "where the metric is computed is not seen")

    def _taken_up_later(self, made: Step, value: float) -> str | None:
        """Write what a later statement takes of a metric's statement: `scores["test_r2"].mean()`."""
        for id_ in sorted(i for i in self.program.steps if i > made.id):
            step = self.program.steps[id_]
            compound = isinstance(step.node, ast.For | ast.While | ast.FunctionDef | ast.ClassDef)
            if compound or not step.reads & made.defines:
                continue
            for node in ast.walk(step.node):
                seen = self.program.value(id_, step.cell, node) if isinstance(node, ast.expr) else None
                known = isinstance(node, ast.Call | ast.UnaryOp | ast.BinOp) and seen is not None
                if known and seen is not None and _close(seen.literal, value):
                    learner = self._learner(step)
                    return learner.code.edited(span_of(node), learner.base(node))
        return None

    def _fit_call(self, fit_id: int, trained: list[int]) -> Part | None:
        """Write the call of the project's own fit, where the experiment's is the same."""
        choice = self.choice
        fit = next(f for f in self.program.trace.fits if f.id == fit_id)
        if fit_id != choice.shipped_fit and not self._same_maker(fit_id):
            return None
        step = self.program.steps[fit.statement]
        name = self._new(choice.evaluated_name)
        if self.form == "features":
            from trilho.adopt.slice.live import ask

            asks = [ask(self.program, fit, a) for a in (fit.X, fit.y)]
            learner = self._learner(step)
            shown = [
                learner.code.edited(span_of(a.node), learner.base(a.node)) if a.node is not None else a.source
                for a in asks
            ]
            return self._part(step, f"{name} = fit({', '.join(shown)})")
        given, outs, state = self.calls[self.own["train"]]
        arguments = self._in_order(given)
        if fit_id != choice.shipped_fit:
            pairs = self._parallel(fit_id)
            arguments = [pairs.get(a, a) for a in arguments]
        text = ", ".join([*map(self._new, arguments), *(["state"] if state else [])])
        same = fit_id == choice.shipped_fit
        shown_outs = [o if same or o != choice.shipped_name else choice.evaluated_name for o in outs]
        return self._part(step, f"{', '.join(map(self._new, shown_outs))} = {self.own['train']}({text})")

    def _same_maker(self, fit_id: int) -> bool:
        """Say whether two fits are of one estimator, made by the same code."""
        one, other = (next(f for f in self.program.trace.fits if f.id == i) for i in (fit_id, self.choice.shipped_fit))
        made = [
            [
                ast.dump(_value_of(self.program.steps[i].node))
                for i in self._train_steps(f.id, f.statement + 1)
                if self.live.kind(i) == "constant"
            ]
            for f in (one, other)
        ]
        rows = [
            [i for i in self._train_steps(f.id, f.statement + 1) if self.live.kind(i) == "rows" and i != f.statement]
            for f in (one, other)
        ]
        nodes = [self.program.steps[f.statement].node for f in (one, other)]
        calls = [
            next((n for n in ast.walk(node) if isinstance(n, ast.Call) and span_of(n) == tuple(f.span)), None)
            for node, f in zip(nodes, (one, other), strict=True)
        ]
        if None in calls:
            return False
        shapes = [_without_arguments(c) for c in calls if c is not None]
        return (
            made[0] == made[1] and rows[0] == rows[1] == [] and (one.object == other.object or shapes[0] == shapes[1])
        )

    def _parallel(self, fit_id: int) -> dict[str, str]:
        other = next(f for f in self.program.trace.fits if f.id == fit_id)
        pairs = {}
        names = list(self.inputs) or [self.live.X.source, self.live.y.source]
        for mine, theirs in zip(names, (other.X, other.y), strict=True):
            if theirs is not None:
                pairs[mine] = theirs.source
        return pairs

    def _predict(self) -> Function:
        """Write the score of raw rows: the features, the model, and what the notebook makes of its answer."""
        estimators = self._estimators()
        ask = self._input()
        first = self.program.steps[self.live.asked.statement if self.live.asked else self.live.fit.statement]
        names = {**self._serving_names()}
        names |= {n: self._new(self.choice.shipped_name) for n in self.aliases - {self.choice.shipped_name}}
        X = self._new(self.same.get(ask.source, ask.source)) if ask.source.isidentifier() else "X"
        X = X if X.isidentifier() else "X"
        if self.live.asked_input is not None and self.live.asked_input.source.isidentifier():
            names[self.live.asked_input.source] = X
        parts = [self._part(first, f"{X} = {self.build.format('rows')}")]
        for id_ in self.score.steps:
            step = self.program.steps[id_]
            if step.writes and step.writes <= self.aliases:
                continue
            parts.append(self._part(step, self._serving_text(step, names, X)))
        node = self.score.node
        if node is None or (self.has_probabilities and self.score.plain):
            method = f"predict_proba({X})[:, 1]" if self.has_probabilities else f"predict({X})"
            parts = parts[:1]
            returns = self._as_number(f"{self._new(estimators[0])}.{method}", None)
        else:
            step = self.program.steps[self.score.step]
            place = step if not self.score.plain else self._holder(node)
            parts = parts[:1] if self.score.plain else parts
            learner = self._learner(place, names)
            edits = [*self._input_edits(place, node, X), *learner.base(node)]
            seen = self.program.value(place.id, place.cell, node)
            returns = self._as_number(learner.code.edited(span_of(node), edits), seen)
        own = self._estimator_type()
        kind = own if own.isidentifier() else "object"
        fields = [(self._new(n), kind if n == estimators[0] else "Any") for n in estimators]
        state = [("state", "State")] if self.state else []
        return Function("predict", (*fields, *state, ("rows", FRAME)), returns, "np.ndarray", tuple(parts))

    def _as_number(self, text: str, value: Value | None) -> str:
        """Write the classes that a model without probabilities answers as 0.0 and 1.0."""
        if self.choice.task != "classification" or self.has_probabilities:
            return text
        seen = value or (self.live.asked.result if self.live.asked is not None else None)
        if seen is not None and (seen.dtypes or [""])[0].startswith("float"):
            return text
        positive = self.choice.target.positive
        if positive in ("", "1", "True", "1.0", "np.True_"):
            return f"{text}.astype(float)"
        return f"({text} == {positive}).astype(float)"

    def _holder(self, node: ast.expr) -> Step:
        for id_ in [*self.score.steps, self.score.step]:
            if any(n is node for n in ast.walk(self.program.steps[id_].node)):
                return self.program.steps[id_]
        return self.program.steps[self.score.step]

    def _serving_text(self, step: Step, names: dict[str, str], X: str) -> str:
        learner = self._learner(step, names)
        edits = [*self._input_edits(step, step.node, X), *self._unlabelled(step), *learner.base(step.node)]
        return self._source(step, learner.code, edits)

    def _input_edits(self, step: Step, node: ast.AST, X: str) -> list[Edit]:
        ask = self.live.asked_input
        if ask is None or ask.node is None or isinstance(ask.node, ast.Name):
            return []
        wanted = ast.dump(ask.node)
        return [Edit(span_of(n), X) for n in ast.walk(node) if isinstance(n, ast.expr) and ast.dump(n) == wanted]

    def _unlabelled(self, step: Step) -> list[Edit]:
        """Take the truth out of calls that make a data set of features."""
        edits = []
        for call in ast.walk(step.node):
            if not isinstance(call, ast.Call):
                continue
            ends = [span_of(a)[2:] for a in [*call.args, *(k.value for k in call.keywords)]]
            for argument in [*call.args[1:], *(k for k in call.keywords)]:
                value = argument.value if isinstance(argument, ast.keyword) else argument
                names = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
                truth = [n for n in names if n in self.truth.names or self.truth.columns_in(step.id, value)]
                if truth:
                    start = max(e for e in ends if e <= span_of(argument)[:2])
                    edits.append(Edit((*start, *span_of(value)[2:]), ""))
        return edits


def _value_of(node: ast.stmt) -> ast.AST:
    return node.value if isinstance(node, ast.Assign) else node


def _without_arguments(call: ast.Call) -> str:
    function = call.func.value if isinstance(call.func, ast.Attribute) else call.func
    return ast.dump(function) + "|" + "|".join(f"{k.arg}={ast.dump(k.value)}" for k in call.keywords)


def _key_of(literal: str | None, value: float) -> str | int | None:
    """Give where a container has a number.

    >>> _key_of("{'auc': np.float64(0.5), 'f1': 0.1}", 0.5)
    'auc'
    """
    try:
        held = ast.literal_eval(re.sub(r"np\.float\d+\(([^()]*)\)", r"\1", literal or ""))
    except (ValueError, SyntaxError):
        return None
    pairs = held.items() if isinstance(held, dict) else enumerate(held) if isinstance(held, list | tuple) else []
    return next((key for key, one in pairs if _close(repr(one), value)), None)


def _close(literal: str | None, value: float) -> bool:
    try:
        found = float(str(literal).removeprefix("np.float64(").rstrip(")"))
    except ValueError:
        return False
    return abs(found - value) <= 1e-12 * max(1.0, abs(value))
