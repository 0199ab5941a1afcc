"""The score: what the notebook makes of a model's output before it is judged."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from trilho.adopt.plan import Metric
from trilho.adopt.slice.live import Live, serving
from trilho.adopt.slice.text import span_of

SCORED = frozenset({"roc_auc", "log_loss", "brier", "average_precision", "pr_auc", "auc"})
CLASS_METHODS = ("predict",)


@dataclass(frozen=True)
class Score:
    """An expression, and the statements that it takes after the model's input."""

    step: int  # where the expression stands
    node: ast.expr | None  # None: the estimator's own answer
    steps: list[int] = field(default_factory=list)
    learnt: list[str] = field(default_factory=list)
    plain: bool = False  # whether it is what any estimator of its kind answers


def find_score(live: Live) -> Score:
    """Find the score of the model that was evaluated."""
    choice, program = live.program.choice, live.program
    headline = choice.metrics[0] if choice.metrics else None
    asked = live.asked
    if headline is None or asked is None:
        return Score(live.fit.statement, None, plain=True)
    step, node = headline.statement, _argument(live, headline)
    if choice.task == "classification" and choice.threshold is not None and headline.name not in SCORED:
        found = _compared(live)
        if found is not None:
            step, node = found
    if node is None:
        return Score(asked.statement, None, plain=True)
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    before = {*live.shared, *live.served}
    if live.has_test_file and live.asked_input is not None:
        before |= set(program.backward(live.asked_input.names, asked.statement))
    ids, learnt = serving(live, names, step)
    after = [i for i in ids if i not in before and live.kind(i) == "rows" and i not in live.splits
             and (live.roles.side_of(i) == "test" or program.asked_of(i)) and not live.truth.only(i)]  # fmt: skip
    constants = [i for i in ids if i not in before and live.kind(i) in ("constant", "definition")]
    resolved = _resolved(live, node, after)
    if _is_plain(resolved, asked.method, choice.task):
        return Score(step, resolved, after, learnt, plain=True)
    if not any(p.statement in {*after, step} for p in program.trace.predicts):
        return Score(asked.statement, None, plain=True)
    return Score(step, node, sorted([*after, *constants]), learnt)


def _argument(live: Live, metric: Metric) -> ast.expr | None:
    """Give the expression that a metric was given as predictions."""
    step = live.program.steps.get(metric.statement)
    call = next((c for c in live.program.trace.metrics if c.id == metric.call), None)
    if step is None or len(metric.argument_sources) < 2:
        return None
    source = metric.argument_sources[1]
    span = tuple(call.span) if call is not None and call.cell == step.cell else span_of(step.node)
    try:
        wanted = ast.dump(ast.parse(source.strip(), mode="eval").body)
    except SyntaxError:
        return None
    for part in ast.walk(step.node):
        if isinstance(part, ast.expr) and not isinstance(getattr(part, "ctx", None), ast.Store):
            at = span_of(part)
            if ast.dump(part) == wanted and span[:2] <= at[:2] and at[2:] <= span[2:]:
                return part
    return None


def _compared(live: Live) -> tuple[int, ast.expr] | None:
    """Give the score that is compared with the threshold."""
    threshold = live.program.choice.threshold
    assert threshold is not None
    step = live.program.steps.get(threshold.statement)
    if step is None:
        return None
    for part in ast.walk(step.node):
        above = isinstance(part, ast.Compare) and len(part.ops) == 1 and isinstance(part.ops[0], ast.Gt | ast.GtE)
        if isinstance(part, ast.Compare) and above and ast.unparse(part.comparators[0]) == threshold.source:
            return step.id, part.left
    return None


def _resolved(live: Live, node: ast.expr, after: list[int]) -> ast.expr:
    """Follow a name to what the only statement that made it says."""
    if isinstance(node, ast.Name) and len(after) == 1:
        made = live.program.steps[after[0]].node
        if isinstance(made, ast.Assign) and isinstance(made.targets[0], ast.Name) and made.targets[0].id == node.id:
            return made.value
    for id_ in after:
        made = live.program.steps[id_].node
        column = isinstance(node, ast.Subscript | ast.Attribute)
        if column and isinstance(made, ast.Assign) and ast.unparse(made.targets[0]) == ast.unparse(node):
            return made.value
    return node


def _is_plain(node: ast.expr, method: str, task: str) -> bool:
    call = node.value if isinstance(node, ast.Subscript) else node
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and len(call.args) == 1):
        return False
    if not isinstance(call.func.value, ast.Name) or call.keywords:
        return False
    if task == "regression" or call.func.attr == "predict":
        return call.func.attr == "predict" and call is node
    return call.func.attr == "predict_proba" and isinstance(node, ast.Subscript) and _second_column(node)


def _second_column(node: ast.Subscript) -> bool:
    last = node.slice.elts[-1] if isinstance(node.slice, ast.Tuple) and node.slice.elts else None
    return isinstance(last, ast.Constant) and last.value == 1
