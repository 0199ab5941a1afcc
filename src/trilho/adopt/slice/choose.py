"""Which of a notebook's models is shipped, which one was measured, by what, on which rows, and what is predicted."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from trilho.adopt.notebook import Notebook
from trilho.adopt.plan import Choice, Metric, Split, Target
from trilho.adopt.slice.findings import Found, findings_of
from trilho.adopt.slice.history import History
from trilho.adopt.slice.holdout import Cut, find_split, moving
from trilho.adopt.slice.judged import judged_by
from trilho.adopt.slice.lags import find_lags
from trilho.adopt.slice.metrics import Measured, measure
from trilho.adopt.slice.models import Models
from trilho.adopt.slice.moments import Moment, find_key, find_moments, moment_times, pick_moment
from trilho.adopt.slice.refuse import (
    model_classes,
    refuse_failed,
    refuse_model,
    refuse_without_model,
    without_rows,
    without_target,
)
from trilho.adopt.slice.regrouped import find_regrouped
from trilho.adopt.slice.scores import CLASSES
from trilho.adopt.slice.shipping import Case, Shipped, pick_shipped
from trilho.adopt.slice.target import find_target, positive_of
from trilho.adopt.slice.threshold import find_threshold
from trilho.adopt.trace import Fit, Read, Trace
from trilho.errors import UsageError


def choose(
    notebook: Notebook,
    trace: Trace,
    *,
    model: str = "",
    target: str = "",
    time: str = "",
    scratch: Path | None = None,
) -> Choice:
    """Choose what becomes of a notebook; options overrule what was found.

    `scratch` is the folder of the trace, whose frozen reads date a split and tell a key; without it both stay empty.
    Raises Refused for a kind of model that no project can hold, DataError where there is nothing to ship.
    """
    history = History(notebook, trace)
    refuse_failed(history)
    models = Models(history)
    refuse_without_model(history, models)
    measured = measure(history, models, scratch)
    shipped = pick_shipped(Case(history, models, measured), model)
    classes = model_classes(history, shipped.candidate)
    refuse_model(history, shipped.candidate, classes)
    main = main_read(history, shipped.candidate.last)
    if main is None:
        raise without_rows(history, shipped.candidate)
    _check_option("--target", target, history, main)
    _check_option("--time", time, history, main)
    judged = judged_by(models, shipped.candidate, measured)
    return _Choosing(history, models, shipped, judged, main, scratch).choice(classes, target, time)


def main_read(history: History, fit: Fit) -> Read | None:
    """Give the read whose rows a fit's are: by their labels, else the largest among those that it was made of."""
    reads = {read.id: read for read in history.trace.reads}
    for argument in (fit.X, fit.y):
        aligned = argument.value.aligned if argument is not None else None
        if aligned is not None and aligned.read in reads and aligned.how != "length":
            return reads[aligned.read]
    made = set(history.made_of(fit))
    near = [r for r in reads.values() if r.statement in made]
    near = near or [r for r in reads.values() if r.value.kind == "frame"] or list(reads.values())
    return max(near, key=lambda read: (read.value.rows or 0, -read.id), default=None)


class _Choosing:
    """The last part: from a shipped model and its metrics to all that goes with them."""

    def __init__(
        self, history: History, models: Models, shipped: Shipped, judged: list[Measured], main: Read,
        scratch: Path | None,
    ) -> None:  # fmt: skip
        self.history, self.models, self.shipped, self.judged = history, models, shipped, judged
        self.main, self.scratch = main, scratch
        self.one, self.fit = shipped.candidate, shipped.candidate.last
        self.head = judged[0] if judged else None

    def choice(self, classes: list[object] | None, wanted: str, time: str) -> Choice:
        """Put a choice together."""
        metrics = tuple(measured.metric for measured in self.judged)
        task = _task(classes, metrics)
        target = self._target(classes, metrics, task, wanted)
        metrics = tuple(_on_logs(one, target) for one in self.judged)
        split, cut = self._split()
        moments = find_moments(self.history, self.main)
        moment = Moment(time, time) if time else pick_moment(self.history, moments, self._code(split), self.fit)
        times = moment_times(self.history, self.scratch, self.main, moment) if moment is not None else []
        head = self.head
        asked = head.candidate if head is not None and head.candidate is not None else self.one
        threshold = find_threshold(self.history, self.models, asked) if task == "classification" else None
        swept = {one.metric for one in self.judged if one.swept and threshold is not None}
        metrics = tuple(replace(m, threshold=threshold.value) if threshold and m in swept else m for m in metrics)
        lags = tuple(find_lags(self.history, self.fit, target.column))
        refitted = self._refitted()
        found = Found(self.history, self.one, head, refitted, split, moments, moment, threshold, lags)
        return Choice(
            task=task,
            shipped=self.shipped.object,
            shipped_name=self._shipped_name(),
            shipped_fit=self.fit.id,
            why=self.shipped.why,
            evaluated=_asked_object(head) if head is not None else None,
            evaluated_name=self._asked_name(head) if head is not None else "",
            evaluated_fit=head.fit.id if head is not None and head.fit is not None else None,
            evaluated_predict=self._asked_for_scores(head) if head is not None else None,
            refitted=refitted,
            metrics=metrics,
            target=target,
            time=moment.column if moment is not None else "",
            key=find_key(self.scratch, self.main, {target.column, *self._features()}),
            split=split,
            main_read=self.main.id,
            threshold=threshold,
            lags=lags,
            holdout=moving(split, cut, times, self.history),
            others=tuple(dict.fromkeys(self._others())),
            findings=tuple(findings_of(found)),
            blend=tuple(c.object for c in head.others) if head is not None and head.candidate == self.one else (),
            regrouped=find_regrouped(self.history, self.fit, self.main),
            time_name=moment.name if moment is not None and moment.name != moment.column else "",
        )

    def _target(self, classes: list[object] | None, metrics: tuple[Metric, ...], task: str, wanted: str) -> Target:
        target = find_target(self.history, self.fit, self.main, wanted)
        if target is None:
            raise without_target(self.history, self.one)
        if task != "classification":
            return target
        positive, negative = positive_of(classes or [0, 1], _pos_label(self.history.trace, metrics))
        return replace(target, positive=positive, negative=negative)

    def _split(self) -> tuple[Split, Cut | None]:
        """Find the split; without one, the headline metric is of many fits and of none in particular."""
        head = self.head
        if head is None:
            return Split("none"), None
        split, cut = find_split(self.history, head.fit, head.predict)
        if not head.held_out:
            return Split("none"), None
        if head.cross_validated or split.kind == "none":
            self.head = replace(head, fit=None, predict=None, cross_validated=True)
            return Split("none"), None
        return split, cut

    def _code(self, split: Split) -> str:
        known = self.history.statements
        return " ".join(ast.unparse(known[id_].node) for id_ in split.statements if id_ in known)

    def _refitted(self) -> bool:
        """Say whether the shipped model was fitted to other rows than the one that was measured."""
        before = self.head.fit if self.head is not None else None
        if before is None or before.id == self.fit.id or before.X is None or self.fit.X is None:
            return False
        ours, theirs = self.fit.X.value, before.X.value
        return (ours.rows or 0) > (theirs.rows or 0) or ours.digest != theirs.digest

    def _shipped_name(self) -> str:
        """Give the name that the model is saved under, else the last one that it was bound to."""
        trace, seen = self.history.trace, self.history.objects.get(self.shipped.object)
        names = list(seen.names) if seen is not None else []
        saved = [n for save in trace.saves if self.shipped.object in save.objects for n in save.names if n in names]
        bound = [name for statement in trace.statements for name in statement.writes if name in names]
        return (saved or bound or [self.one.name])[-1]

    def _asked_name(self, head: Measured) -> str:
        """Give the name by which a model was asked for the predictions that were measured."""
        call = self.history.call_of(head.predict) if head.predict is not None else None
        receiver = call.func.value if call is not None and isinstance(call.func, ast.Attribute) else None
        names = {*(head.candidate.names if head.candidate is not None else ())}
        asked = self.history.objects.get(_asked_object(head) or -1)
        names |= {*asked.names} if asked is not None else set()
        if isinstance(receiver, ast.Name) and receiver.id in names:
            return receiver.id
        return head.candidate.name if head.candidate is not None else ""

    def _asked_for_scores(self, head: Measured) -> int | None:
        """Give the prediction that was measured; where classes head the metrics, the scores of the same rows."""
        if head.predict is None or head.predict.method != "predict":
            return head.predict.id if head.predict is not None else None
        beside = [m.predict for m in self.judged if m.predict is not None and m.group == head.group]
        scores = [predict.id for predict in beside if predict.method in ("predict_proba", "decision_function")]
        return scores[0] if scores else head.predict.id

    def _others(self) -> Iterator[str]:
        """Give the names of the models that are neither shipped nor measured for it, nor folds of it."""
        head = self.head
        mine = {self.one.object, *self.one.parts}
        if head is not None:
            mine |= {c.object for c in (head.candidate, *head.others) if c is not None}
        mine |= {part for c in self.models.candidates.values() for part in c.parts if part != c.object}
        mine |= {c.object for c in self.models.candidates.values() if self.shipped.object in c.parts}
        for candidate in self.models.candidates.values():
            kin = self.models.kin(candidate, self.one)
            fold = kin and (
                not self.models.is_alive(candidate) or self.models.likeness(candidate, self.one) == 1
            )  # fmt: skip
            if candidate.object not in mine and not fold:
                yield candidate.name

    def _features(self) -> list[str]:
        return list(self.fit.X.value.columns or []) if self.fit.X is not None else []


def _on_logs(measured: Measured, target: Target) -> Metric:
    """Name what a cross-validation measured of a model of log1p(y) by what it is: the error of the logarithms."""
    metric = measured.metric
    if measured.cross_validated and metric.name in ("mse", "rmse") and target.transform.endswith("log1p"):
        return replace(metric, name=metric.name.replace("mse", "msle"))
    return metric


def _task(classes: list[object] | None, metrics: tuple[Metric, ...]) -> Literal["classification", "regression"]:
    judged = any(metric.name in CLASSES for metric in metrics)
    return "classification" if classes is not None or judged else "regression"


def _pos_label(trace: Trace, metrics: tuple[Metric, ...]) -> object:
    calls = {call.id: call for call in trace.metrics}
    judged = [calls[metric.call] for metric in metrics if metric.call in calls]
    for argument in (argument for call in judged for argument in call.arguments):
        if argument.name == "pos_label" and argument.value.literal:
            try:
                return ast.literal_eval(argument.value.literal)
            except (ValueError, SyntaxError):
                return None
    return None


def _asked_object(head: Measured) -> int | None:
    """Give the object that was measured: of a search, the one of its estimators that was asked."""
    if head.candidate is None:
        return None
    is_search = "Search" in head.candidate.type and head.predict is not None
    return head.predict.object if is_search and head.predict is not None else head.candidate.object


def _check_option(option: str, name: str, history: History, main: Read) -> None:
    """Raise UsageError for a column that no table of the run has."""
    known = set(main.value.columns or [])
    for statement in history.trace.statements:
        for value in statement.values.values():
            known |= set(value.columns or []) if value.kind == "frame" else set()
    if name and name not in known:
        columns = main.value.columns or []
        shown = ", ".join(columns[:12]) + (", ..." if len(columns) > 12 else "")
        raise UsageError(f"{option} is {name!r}; the table has {shown}", hint=f"{option} COLUMN")
