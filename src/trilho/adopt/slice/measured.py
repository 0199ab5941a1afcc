"""Where a metric's number stands in the notebook: the expression, or the name or container that holds it."""

from __future__ import annotations

import ast
import re

from trilho.adopt.plan import Choice, Metric
from trilho.adopt.slice.experiment import _close, _key_of
from trilho.adopt.slice.program import Step
from trilho.adopt.slice.replay import Replay
from trilho.adopt.slice.scores import scorer_name
from trilho.adopt.slice.text import span_of


def measured(replay: Replay, choice: Choice) -> dict[str, tuple[int, str]]:
    """Give by each metric's name the step after which it is known, and the code that gives it."""
    made = {c.id: c.result.kind for c in replay.program.trace.metrics}
    found: dict[str, tuple[int, str]] = {}
    for metric in choice.metrics:
        if metric.call is None or made.get(metric.call) == "scalar" or "_validation." in metric.function:
            place = _place(replay, metric)
            if place is not None:
                found.setdefault(metric.name, place)
    return found


def _place(replay: Replay, metric: Metric) -> tuple[int, str] | None:
    step = replay.program.steps.get(metric.statement)
    if step is None:
        return None
    text = (
        _validated(replay, step, metric) or _in_statement(replay, step, metric) or _in_names(replay, step, metric.value)
    )
    if text is not None:
        return step.id, text
    for id_ in sorted(i for i in replay.program.steps if i > step.id):  # the number may be taken up later
        text = _in_names(replay, replay.program.steps[id_], metric.value)
        if text is not None:
            return id_, text
    return None


def _in_statement(replay: Replay, step: Step, metric: Metric) -> str | None:
    program = replay.program
    looped = isinstance(step.node, ast.For | ast.While)
    call = next((c for c in program.trace.metrics if c.id == metric.call), None)
    if isinstance(step.node, ast.Assign):
        known = _in_names(replay, step, metric.value)
        if known is not None:
            return known
    if looped or isinstance(step.node, ast.FunctionDef | ast.ClassDef):
        return None
    if call is not None and program.is_own(step.id, call.cell, call.span):
        node = program.node_at(step.id, call.cell, call.span)
        if node is not None and not _is_inner(step.node, node):
            return replay.expression(step, node)
    for part in ast.walk(step.node):
        node = part if isinstance(part, ast.expr) else None
        if node is not None and not _is_inner(step.node, node):
            value = program.value(step.id, step.cell, node)
            if value is None or isinstance(node, ast.Constant):
                continue
            if _close(value.literal, metric.value):
                return replay.expression(step, node)
            key = _key_of(value.literal, metric.value) if isinstance(node, ast.Call) else None
            if key is not None:
                return f"{replay.expression(step, node)}[{key!r}]"
    return None


def _validated(replay: Replay, step: Step, metric: Metric) -> str | None:
    """Give the mean of a cross-validation's scores, with the metric's own sign."""
    kind = metric.function.rpartition(".")[2]
    seen = [*replay.program.trace.metrics, *replay.program.trace.calls]
    call = next((c for c in seen if c.id == metric.call), None)
    if kind not in ("cross_val_score", "cross_validate") or call is None:
        return None
    node = replay.program.node_at(step.id, call.cell, call.span)
    if node is None or not replay.program.is_own(step.id, call.cell, call.span) or _is_inner(step.node, node):
        return None
    given = {a.name or str(place): a.value.literal for place, a in enumerate(call.arguments)}
    scorings = [s for text in given.values() for s in re.findall(r"'(\w+)'", text or "")]
    scoring = next((s for s in scorings if scorer_name(s)[0] == metric.name), "")
    named = isinstance(step.node, ast.Assign) and step.node.value is node and isinstance(step.node.targets[0], ast.Name)
    text = replay.new(step.node.targets[0].id) if named else replay.expression(step, node)  # type: ignore[attr-defined]
    text += (
        f"['test_{scoring}']"
        if kind == "cross_validate" and len(scorings) > 1
        else "['test_score']" * (kind == "cross_validate")
    )
    return f"{'-' if scorer_name(scoring)[1] < 0 else ''}np.mean({text})"


def _in_names(replay: Replay, step: Step, value: float) -> str | None:
    for name in sorted(step.defines):
        seen = step.did.values.get(name)
        if seen is None:
            continue
        if _close(seen.literal, value):
            return replay.new(name)
        key = _key_of(seen.literal, value)
        if key is not None:
            return f"{replay.new(name)}[{key!r}]"
    return None


def _is_inner(statement: ast.stmt, node: ast.expr) -> bool:
    """Say whether an expression stands in a comprehension or lambda, where names mean something else."""
    at = span_of(node)
    return any(
        span_of(part)[:2] <= at[:2] and at[2:] <= span_of(part)[2:] and part is not node
        for part in ast.walk(statement)
        if isinstance(part, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp | ast.Lambda)
    )
