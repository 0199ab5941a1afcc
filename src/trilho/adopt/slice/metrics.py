"""What the notebook measured: every metric, whose predictions it saw, and whether on rows that were held out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from trilho.adopt.plan import Metric
from trilho.adopt.slice.history import History, Place, argument_of, called_name, calls_in, is_inside, span_of
from trilho.adopt.slice.models import ASKED, Candidate, Models, held_out
from trilho.adopt.slice.origin import constant, definition, path, reach, returned
from trilho.adopt.slice.scores import NO_NUMBER, formula, metric_name, number, scorer_name
from trilho.adopt.slice.tables import kept_values
from trilho.adopt.trace import Argument, Call, Expression, Fit, Predict, Value

CROSS_VALIDATED = {"cross_val_score", "cross_validate"}
CLASSIFIERS = re.compile(r"Classifier|Logistic|SVC$|NB$|Perceptron$|Discriminant|Logit|Probit")
MADE_BY_HAND = (ast.Call, ast.BinOp)
NUMBERS = re.compile(r"-?\d+\.?\d*(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Measured:
    """A metric, and what it was of."""

    metric: Metric
    order: float
    candidate: Candidate | None
    fit: Fit | None = None
    predict: Predict | None = None
    held_out: bool = True
    others: tuple[Candidate, ...] = ()  # whose predictions are in it too
    cross_validated: bool = False
    swept: bool = False  # over limits, of which the notebook chose this one
    place: tuple[int, tuple[int, int, int, int]] = (0, (0, 0, 0, 0))

    @property
    def group(self) -> tuple[object, ...]:
        """Give what its siblings have in common: the fit, and the rows."""
        x = self.predict.X.value if self.predict is not None and self.predict.X is not None else None
        rows = (x.digest or x.rows) if x is not None else None
        return (self.fit.id if self.fit is not None else None, rows, self.cross_validated)


def measure(history: History, models: Models, scratch: Path | None = None) -> list[Measured]:
    """Give all that was measured, in the order in which it was; `scratch` has what reports and matrices were of."""
    return sorted(
        [
            *_by_function(history, models, scratch),
            *_by_score(history, models),
            *_by_hand(history, models),
            *_by_cross_validation(history, models, scratch),
            *_by_search(history, models),
        ],
        key=lambda measured: measured.order,
    )


def predicts_in(history: History, models: Models, node: ast.expr, place: Place, before: float) -> list[Predict]:
    """Give the predictions that a value was made of, latest last."""
    asked = [p for p in history.trace.predicts if p.order < before and p.method in ASKED and models.owner(p.object)]
    sites = {(p.statement, p.cell, p.span): p for p in asked}  # the last at each site before the moment

    def is_one(call: ast.Call, at: Place) -> bool:
        return (at.statement, at.cell, span_of(call)) in sites

    found = {}
    for source in reach(history, node, place, is_one):
        for site, predict in sites.items():
            if site[:2] == (source.place.statement, source.place.cell) and is_inside(site[2], span_of(source.node)):
                found[predict.id] = predict
    return sorted(found.values(), key=lambda predict: predict.order)


def _by_function(history: History, models: Models, scratch: Path | None) -> Iterator[Measured]:
    for call in history.trace.metrics:
        last = call.function.rpartition(".")[2]
        if last in CROSS_VALIDATED or last in NO_NUMBER - {"confusion_matrix"}:
            continue
        value = _value_of(history, call, last, scratch)
        if value is None:
            continue
        function = "" if call.function.startswith("__main__") else call.function
        keywords = {a.name: a.source for a in call.arguments if a.name}
        name = "accuracy" if last == "confusion_matrix" else metric_name(call.function, keywords)
        sources = tuple(a.source for a in call.arguments)
        metric = Metric(name, function, value, call.statement, call.cell, call.span[0], sources, None, call.id)
        measured = _of_call(history, models, call, metric)
        if measured is not None:
            yield from _rooted(history, measured, call)


def _of_call(history: History, models: Models, call: Call, metric: Metric) -> Measured | None:
    """Find whose predictions a metric's function was given."""
    node, place = history.call_of(call), history.place_of(call)
    asked = {p.result.digest: p for p in history.trace.predicts
             if p.order < call.order and p.result.digest and p.method in ASKED and models.owner(p.object)}  # fmt: skip
    arguments = _compared(call.arguments)
    for at in (1, 0):
        if at >= len(arguments):
            continue
        predict = asked.get(arguments[at].value.digest)
        found = [predict] if predict is not None else []
        code = _code_of(node, arguments[at]) if node is not None else None
        if code is not None:
            found = found or predicts_in(history, models, code, place, call.order)
            if not found and _is_cross_predicted(history, code, place):
                return Measured(metric, call.order, None, cross_validated=True, place=(call.cell, call.span))
        if found:
            truth = arguments[1 - at].value if len(arguments) > 1 else None
            threshold = _threshold(history, code, place) if code is not None else None
            metric = replace(metric, threshold=threshold)
            return _measured(models, metric, call.order, found, truth, (call.cell, call.span))
    return None


def _measured(
    models: Models, metric: Metric, order: float, found: list[Predict], truth: Value | None,
    place: tuple[int, tuple[int, int, int, int]],
) -> Measured:  # fmt: skip
    predict = found[-1]
    owner = models.owner(predict.object)
    fit = owner.fit_before(predict.order) if owner is not None else None
    apart = fit is None or held_out(predict, fit)
    if fit is not None and fit.y is not None and truth is not None and truth.digest:
        apart = apart and truth.digest != fit.y.value.digest
    others = {o.object: o for p in found[:-1] if (o := models.owner(p.object)) is not None and o != owner}
    return Measured(metric, order, owner, fit, predict, apart, tuple(others.values()), place=place)


def _by_score(history: History, models: Models) -> Iterator[Measured]:
    """`model.score(X, y)` and, of xgboost's and lightgbm's own, nothing: those print what they measured."""
    for predict in history.trace.predicts:
        value = number(predict.result.literal)
        owner = models.owner(predict.object)
        if predict.method != "score" or value is None or owner is None:
            continue
        name = "accuracy" if _classifies(history, owner) else "r2"
        scoring = (owner.parameters or {}).get("scoring", "None").strip("'\"")
        if scoring not in ("None", ""):
            name, sign = scorer_name(scoring)
            value *= sign
        sources = (predict.X.source,) if predict.X is not None else ()
        metric = Metric(name, f"{owner.type}.score", value, predict.statement, predict.cell, predict.span[0], sources)
        fit = owner.fit_before(predict.order)
        apart = fit is None or held_out(predict, fit)
        yield Measured(metric, predict.order, owner, fit, predict, apart, place=(predict.cell, predict.span))


def _by_hand(history: History, models: Models) -> Iterator[Measured]:
    """Metrics that are written out, at the top or in a function of the notebook's own."""
    known = {(c.cell, c.span) for c in history.trace.metrics}
    for statement in history.trace.statements:
        for seen in statement.expressions:
            value = number(seen.value.literal)
            node = history.expression_at(seen.cell, seen.span)
            if value is None or node is None or (seen.cell, seen.span) in known or not isinstance(node, MADE_BY_HAND):
                continue
            place = history.place_at(statement.id, seen.cell, seen.span)
            back = returned(history, node, place) if isinstance(node, ast.Call) else None
            if back is not None:  # a metric's own function: what it gave to this call of it
                yield from _written_out(history, models, back.node, back.place, seen, value)
            else:
                yield from _written_out(history, models, node, place, seen, value)


def _written_out(
    history: History, models: Models, node: ast.expr, place: Place, seen: Expression, value: float
) -> Iterator[Measured]:
    at = place

    def resolve(part: ast.expr) -> ast.expr:
        nonlocal at
        found = definition(history, part, place) if isinstance(part, ast.Name) else None
        if found is None or not isinstance(found.node, ast.BinOp):
            return part
        at = found.place
        return found.node

    written = formula(node, resolve)
    if written is None or any(formula(outer) is not None for outer in history.around(seen.cell, seen.span)):
        return
    name, left, right = written
    order = _moment(history, place.statement)
    for code in (right, left):
        found = predicts_in(history, models, code, at, order)
        if found:
            sources = (ast.unparse(left), ast.unparse(right))
            threshold = _threshold(history, code, at)
            metric = Metric(name, "", value, place.statement, seen.cell, seen.span[0], sources, threshold)
            yield _measured(models, metric, order - 0.5, found, None, (seen.cell, seen.span))
            return


def _by_cross_validation(history: History, models: Models, scratch: Path | None) -> Iterator[Measured]:
    for call in [*history.trace.metrics, *history.trace.calls]:
        if call.function.rpartition(".")[2] not in CROSS_VALIDATED:
            continue
        node, place = history.call_of(call), history.place_of(call)
        if node is None:
            continue
        model = _candidate_of(models, call.arguments[0].value if call.arguments else None)
        scoring = argument_of(node, -1, "scoring")
        told = constant(history, scoring, place) if scoring is not None else None
        default = "accuracy" if model is not None and _classifies(history, model) else "r2"
        for value, key, rooted in _means(history, call, scratch):
            name, sign = scorer_name(key or (told if isinstance(told, str) else default))
            name = f"r{name}" if rooted and name in ("mse", "msle") else name
            metric = Metric(name, call.function, abs(value) if sign < 0 else value, call.statement, call.cell,
                            call.span[0], tuple(a.source for a in call.arguments), None, call.id)  # fmt: skip
            yield Measured(metric, call.order, model, cross_validated=True, place=(call.cell, call.span))


def _means(history: History, call: Call, scratch: Path | None) -> Iterator[tuple[float, str, bool]]:
    """Give the mean of a cross-validation's scores as the notebook wrote it, and whether it is of their roots.

    Where nothing is written, or one place of the code gave several, it is from the scores themselves.
    """
    told: dict[str, tuple[float, bool]] = {}
    for statement in history.trace.statements:
        if statement.id < call.statement:
            continue
        for seen in statement.expressions:
            value = number(seen.value.literal)
            node = history.expression_at(seen.cell, seen.span)
            if value is None or not isinstance(node, ast.Call) or called_name(node) not in ("mean", "average"):
                continue
            place = history.place_at(statement.id, seen.cell, seen.span)
            sources = list(path(history, node, place))
            met = [s.code == (call.cell, call.span) and s.place.statement == call.statement for s in sources]
            if any(met):
                root = any(_is_root(s.node) for s in sources[: met.index(True)])
                above = next((n for n in history.around(seen.cell, seen.span) if _is_root(n)), None)
                outer = history.seen(above, place) if above is not None else None
                rooted = number(outer.value.literal) if outer is not None else None
                told.setdefault(_key(node), (value if rooted is None else rooted, root or rooted is not None))
    scores = _scores(call, scratch)
    here = (call.statement, call.cell, call.span)
    several = sum((one.statement, one.cell, one.span) == here for one in history.trace.metrics) > 1
    if scores and (not told or (several and set(told) == {""})):
        rooted_ones = any(root for _, root in told.values())
        values = [abs(score) ** 0.5 for score in scores] if rooted_ones else scores
        told = {"": (sum(values) / len(values), rooted_ones)}
    yield from ((value, key, root) for key, (value, root) in told.items())


def _scores(call: Call, scratch: Path | None) -> list[float]:
    """Give the scores of a cross-validation's folds."""
    if scratch is not None and call.result.kind == "array" and call.result.file:
        return [float(str(value)) for value in kept_values(scratch, call.result.file)]
    literal = call.result.literal if call.result.kind != "mapping" else None
    return [float(text) for text in NUMBERS.findall((literal or "").removeprefix("array"))]


def _key(node: ast.expr) -> str:
    """Give the scorer whose column of a cross-validation's results is meant."""
    texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    keys = [text.removeprefix("test_") for text in texts if text.startswith("test_")]
    return keys[0] if keys and keys[0] != "score" else ""


def _by_search(history: History, models: Models) -> Iterator[Measured]:
    """`grid.best_score_`: the mean over the folds of the best parameters."""
    for statement in history.trace.statements:
        for seen in statement.expressions:
            node = history.expression_at(seen.cell, seen.span)
            value = number(seen.value.literal)
            if value is None or not isinstance(node, ast.Attribute) or node.attr != "best_score_":
                continue
            place = history.place_at(statement.id, seen.cell, seen.span)
            base = history.seen(node.value, place)
            owner = _candidate_of(models, base.value if base is not None else None)
            if owner is None:
                continue
            default = "accuracy" if _classifies(history, owner) else "r2"
            scoring = (owner.parameters or {}).get("scoring", "None").strip("'\"")
            name, sign = scorer_name(default if scoring == "None" else scoring)
            metric = Metric(name, f"{owner.type}.best_score_", value * sign, statement.id, seen.cell, seen.span[0])
            order = _moment(history, statement.id) - 0.5
            yield Measured(metric, order, owner, owner.last, cross_validated=True, place=(seen.cell, seen.span))


def _rooted(history: History, measured: Measured, call: Call) -> Iterator[Measured]:
    """Give a metric; of a mean squared error the root, where the notebook takes it, and both where it names both."""
    metric = measured.metric
    if metric.name not in ("mse", "msle"):
        yield measured
        return
    root = replace(metric, name=f"r{metric.name}", value=metric.value**0.5, call=None)
    if any(_is_root(node) for node in history.around(call.cell, call.span)):
        yield replace(measured, metric=root)
        return
    yield measured
    for did in history.trace.statements:
        for seen in did.expressions if did.id >= call.statement else []:
            node, value = history.expression_at(seen.cell, seen.span), number(seen.value.literal)
            if node is not None and _is_root(node) and value is not None and abs(value - root.value) <= 1e-9 * value:
                root = replace(root, statement=did.id, cell=seen.cell, line=seen.span[0])
                yield replace(measured, metric=root, order=measured.order + 0.1)
                return


def _is_root(node: ast.expr) -> bool:
    power = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and ast.unparse(node.right) in ("0.5", "1 / 2")
    return power or (isinstance(node, ast.Call) and called_name(node) == "sqrt")


def _value_of(history: History, call: Call, last: str, scratch: Path | None) -> float | None:
    value = number(call.result.literal)
    if value is not None:
        return value
    text = call.result.literal or ""
    if last in ("confusion_matrix", "classification_report") and scratch is not None:
        files = [argument.value.file for argument in _compared(call.arguments)]
        told = [list(kept_values(scratch, file)) for file in files if file]
        if len(told) == 2 and told[0] and len(told[0]) == len(told[1]):
            return sum(bool(one == other) for one, other in zip(*told, strict=True)) / len(told[0])
    if last == "classification_report":
        did = history.did.get(call.statement)
        for said in (text, did.output if did is not None else ""):
            match = re.search(r"accuracy['\"]?:?\s+(\d\.\d+)", said)
            if match:
                return float(match[1])
    return None


def _threshold(history: History, code: ast.expr, place: Place) -> float | None:
    """Give the limit that turned scores into the classes of a metric's argument."""
    for source in path(history, code, place):
        for node in ast.walk(source.node):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Gt | ast.GtE):
                limit = constant(history, node.comparators[0], source.place)
                return float(limit) if isinstance(limit, int | float) else None
    return None


def _compared(arguments: list[Argument]) -> list[Argument]:
    """Give the truth and the prediction among a metric's arguments."""
    named = {a.name: a for a in arguments if a.name}
    plain = [a for a in arguments if not a.name]
    truth = named.get("y_true") or (plain.pop(0) if plain else None)
    told = next((named[n] for n in ("y_pred", "y_score", "y_prob", "y_proba", "probas_pred") if n in named), None)
    told = told or (plain.pop(0) if plain else None)
    return [a for a in (truth, told) if a is not None]


def _code_of(call: ast.Call, argument: Argument) -> ast.expr | None:
    """Give the code of an argument."""
    if argument.name:
        return next((k.value for k in call.keywords if k.arg == argument.name), None)
    return next((a for a in call.args if ast.unparse(a) == _plain(argument.source)), None)


def _plain(source: str) -> str:
    try:
        return ast.unparse(ast.parse(source, mode="eval").body)
    except SyntaxError:
        return source


def _is_cross_predicted(history: History, code: ast.expr, place: Place) -> bool:
    return any(
        called_name(call) == "cross_val_predict"
        for source in reach(history, code, place)
        for call in calls_in(source.node)
    )


def _candidate_of(models: Models, value: Value | None) -> Candidate | None:
    """Give the candidate that an object is; a search's best estimator is the search, other parts are themselves."""
    if value is None:
        return None
    owner = models.owner(value.object) if value.object is not None else None
    if owner is not None and (owner.object == value.object or "Search" in owner.type):
        return owner
    same = [c for c in models.candidates.values() if c.type == value.type]
    return same[-1] if same else None


def _classifies(history: History, candidate: Candidate) -> bool:
    seen = history.objects.get(candidate.object)
    y = candidate.last.y
    texts = (
        any(d.startswith(("object", "str", "bool", "category")) for d in (y.value.dtypes or []))
        if y is not None
        else False
    )
    return texts or bool(seen is not None and seen.classes) or CLASSIFIERS.search(candidate.type) is not None


def _moment(history: History, statement: int) -> float:
    """Give a moment after all that a statement did."""
    trace = history.trace
    events = [e.order for group in (trace.calls, trace.fits, trace.predicts, trace.metrics) for e in group
              if e.statement <= statement]  # fmt: skip
    return max(events, default=-1) + 1
