"""Calls that split rows, fit, predict, measure or keep."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from trilho.adopt.doctor.flow.events import Chosen, FitSeen, Kept, Split
from trilho.adopt.doctor.flow.names import (
    BY_TARGET,
    CONTAINERS,
    CURVES,
    FOLDERS,
    METRIC,
    PREDICTORS,
    RESAMPLERS,
    SEARCHES,
    SPLITTERS,
    TRANSFORMERS,
    last,
    predicts,
)  # fmt: skip
from trilho.adopt.doctor.flow.values import NOTHING, Side, Value, gather, join, onto

if TYPE_CHECKING:
    from trilho.adopt.doctor.flow.calls import Given
    from trilho.adopt.doctor.flow.interpreter import Walker

PREDICTIONS = frozenset(
    {"predict", "predict_proba", "decision_function", "predict_log_proba", "forecast", "inplace_predict"}
)
FITS = frozenset({"fit", "fit_transform", "fit_predict", "partial_fit", "fit_resample", "fit_sample"})
HELD_OUT = ("eval_set", "evals", "valid_sets", "validation_data", "eval_X")
STOPPING = ("early_stopping_rounds", "od_wait", "n_iter_no_change")
OPTIMIZERS = frozenset({"optimize", "fmin", "minimize", "minimize_scalar", "differential_evolution"})
WRITERS = re.compile(r"(joblib|pickle|dill)\.dumps?|skops\.io\.dumps?|sklearn\.externals\.joblib\.dump")
ROOTED = (
    "sklearn",
    "xgboost",
    "lightgbm",
    "catboost",
    "imblearn",
    "category_encoders",
    "feature_engine",
    "statsmodels",
)


def split(walker: Walker, given: Given) -> Value | None:
    """Handle train_test_split, and the `split` of a splitter."""
    if last(given.name) == "train_test_split":
        source = join(*given.values) if given.values else NOTHING
        _note(walker, given, "random", source)
        label = f"{walker.cell}:{given.node.lineno}"
        train, test = walker.side(source, "train", label), walker.side(source, "test", label)
        parts = []
        for value in given.values:
            whole = replace(value, statistics=frozenset(), parts=None)
            parts += [replace(whole, sides=train), replace(whole, sides=test)]
        return Value(parts=tuple(parts))
    function = given.node.func
    if not (isinstance(function, ast.Attribute) and function.attr == "split"):
        return None
    kinds = given.held.kinds
    if not any(SPLITTERS.fullmatch(last(kind)) for kind in kinds):
        return None
    source = given.get(0, "X") or NOTHING
    _note(walker, given, "folds", source, next(iter(sorted(kinds))))
    label = f"folds {walker.cell}:{given.node.lineno}"
    sides = [Value(walker.side(source, "train", label)), Value(walker.side(source, "fold", label))]
    return Value(parts=tuple(sides), folds=True)


def _note(walker: Walker, given: Given, kind: str, source: Value, name: str = "") -> None:
    walker.events.splits.append(
        Split(given.node, walker.place(given.node), kind, source, name or given.name, walker.statement)  # type: ignore[arg-type]
    )


def metric(walker: Walker, given: Given) -> Value | None:
    """Handle the metrics and curves of sklearn, `.score`, and means of errors."""
    name = last(given.name)
    if METRIC.fullmatch(name) and (given.name == name or ".metrics" in given.name) and given.all:
        return walker.measure(given.node, name, given.all)
    if name in CURVES and given.all:
        return Value(measured=join(*given.all).sides, threshold=True)
    function = given.node.func
    if isinstance(function, ast.Attribute) and function.attr == "score" and given.all:
        model = given.held
        if model.kinds:
            seen = Value(given.all[0].sides, fitted=model.fitted, measured=model.measured)
            return walker.measure(given.node, "score", [seen])
    if name in ("mean", "sum", "average", "median", "nanmean"):
        values = given.values or ((given.held,) if isinstance(function, ast.Attribute) else ())
        if values and values[0].error and values[0].predicted:
            return walker.measure(given.node, "", values)
    return None


def native(walker: Walker, given: Given) -> Value | None:
    """Handle the own interfaces of xgboost, lightgbm and catboost."""
    name = last(given.name)
    if name in ("DMatrix", "QuantileDMatrix", "Dataset", "Pool") and given.values:
        X = given.values[0]
        return replace(X, label=given.get(1, "label"), parts=None)
    if name == "early_stopping" or name == "EarlyStopping":
        return Value(callback=True)
    if name != "train" or not given.name.startswith(("xgboost", "lightgbm", "xgb.", "lgb.")):
        return None
    data = given.get(1, "dtrain", "train_set") or NOTHING
    _fitted(walker, given, data, data.label, None, frozenset({f"{given.name.partition('.')[0]}.Booster"}))
    _stopped(walker, given, join(*given.all).callback)
    params = given.get(0, "params") or NOTHING
    return Value(kinds=frozenset({f"{given.name.partition('.')[0]}.Booster"}), fitted=data.sides,
                 measured=params.measured, threshold=params.threshold)  # fmt: skip


def resampled(walker: Walker, given: Given) -> Value | None:
    """Handle sklearn.utils.resample, and `sample(replace=True)`: the same row several times."""
    function = given.node.func
    named = given.name in ("sklearn.utils.resample", "resample") and given.values
    again = isinstance(function, ast.Attribute) and function.attr == "sample" and given.constant("replace") is True
    if not named and not again:
        return None
    rows = given.values[0] if named else given.held
    if not rows.sides:
        return None
    copied = walker.statistic(given.node, "resample", rows, None)
    return replace(rows, learnt=rows.learnt | {copied}, parts=None)


def searched(walker: Walker, given: Given) -> Value | None:
    """Handle `study.optimize(objective)`, `fmin(objective)`, `minimize(objective)`: the best result is taken."""
    if last(given.name or getattr(given.node.func, "attr", "")) not in OPTIMIZERS:
        return None
    node = given.find(0, "func", "fn", "fun")
    located = walker.functions.get(node.id) if isinstance(node, ast.Name) else None
    function = located.node if located is not None else node
    if isinstance(function, ast.FunctionDef | ast.Lambda):
        found = walker.enter(function, {arg.arg: NOTHING for arg in function.args.args}, [])
        if found.measured:
            walker.choose(given.node, found)
        return replace(found, parts=None)
    return None


def folded(walker: Walker, given: Given) -> Value | None:
    """Handle cross validation: it splits what it is given."""
    name = last(given.name)
    if name not in FOLDERS or not given.values:
        return None
    model, X, y = given.values[0], given.get(1, "X") or NOTHING, given.get(2, "y")
    walker.events.fits.append(FitSeen(given.node, walker.place(given.node), X, y, given.find(2, "y"), model.kinds,
                                      model=True, folds=True, statement=walker.statement,
                                      learnt=walker.events.learnt_of(X)))  # fmt: skip
    if name == "cross_val_predict":
        return Value(X.sides, predicted=True)
    return Value(measured=frozenset(Side("fold", side.id, side.of) for side in X.sides))


def constructed(walker: Walker, given: Given) -> Value | None:
    """Handle what makes an estimator, a splitter or a pipeline of them."""
    name = last(given.name)
    own = given.name.startswith("__main__.")
    listed = name in TRANSFORMERS or name in CONTAINERS or RESAMPLERS.fullmatch(name) or SEARCHES.fullmatch(name)
    if not (listed or SPLITTERS.fullmatch(name) or PREDICTORS.fullmatch(name) or own
            or (given.name.startswith(ROOTED) and name[:1].isupper())):  # fmt: skip
        return None
    inner = replace(join(*given.all), sides=frozenset()) if given.all else NOTHING
    kinds = set(inner.kinds) if name in CONTAINERS or SEARCHES.fullmatch(name) or name[:1].isupper() else set()
    kinds.add(given.name)
    for node in [*given.node.args, *given.word_nodes.values()]:
        if isinstance(node, ast.Lambda):
            kinds.add("__main__.<lambda>")
        elif isinstance(node, ast.Name) and node.id in walker.functions:
            kinds.add(f"__main__.{node.id}")
    columns = frozenset(text for value in given.all for text in _all_texts(value))
    stops = any(word in given.word_nodes and given.constant(word) is not False for word in STOPPING)
    return Value(kinds=frozenset(kinds), callback=stops or inner.callback, measured=inner.measured,
                 threshold=inner.threshold,
                 picked=inner.picked | (columns if "ColumnTransformer" in name or "column_transformer" in name
                                        else frozenset()))  # fmt: skip


def _all_texts(value: Value) -> frozenset[str]:
    own = value.texts or frozenset()
    return own.union(*(_all_texts(part) for part in value.parts or ()))


def method(walker: Walker, given: Given) -> Value | None:
    """Handle fit, predict and transform of whatever has them."""
    function = given.node.func
    if not isinstance(function, ast.Attribute):
        return None
    if function.attr in FITS:
        return _fit(walker, given, function, given.held)
    if function.attr in PREDICTIONS:
        model, X = given.held, given.get(0, "X", "data") or NOTHING
        return Value(X.sides, predicted=True, fitted=model.fitted, measured=model.measured, array=True,
                     threshold=model.threshold)  # fmt: skip
    if function.attr == "transform" and given.values and not given.held.sides:
        model, X = given.held, given.values[0]
        return replace(onto(X, replace(model, kinds=frozenset(), fitted=frozenset())), opaque=True, column="")
    return None


def _fit(walker: Walker, given: Given, function: ast.Attribute, model: Value) -> Value:
    X, y = given.get(0, "X", "x", "raw_documents") or NOTHING, given.get(1, "y", "Y")
    if X.label is not None:
        y = X.label
    learns = _learns(walker, model.kinds)
    trains = _trains(walker, model.kinds) or (not model.kinds and y is not None and function.attr == "fit")
    found = _fitted(walker, given, X, y, given.find(1, "y"), model.kinds, trains, model.picked)
    if trains:
        _stopped(walker, given, model.callback or join(*given.all).callback)
    statistics = frozenset(
        {walker.statistic(given.node, ", ".join(learns), X, given.find(0, "X", "x"), _by_target(learns, y))}
        if learns and not trains and X.role == "table" else ()
    )  # fmt: skip
    if learns and not trains and X.role == "test":
        walker.events.refits.append(found)
    fitted = replace(model, fitted=X.sides, statistics=statistics)
    if isinstance(function.value, ast.Name):
        walker.scope.change(function.value.id, fitted)
    if function.attr == "fit_transform":
        return replace(X, learnt=X.learnt | statistics, opaque=True, column="", array=True)
    if function.attr in ("fit_resample", "fit_sample"):
        sampled = [replace(value, learnt=value.learnt | statistics) for value in (X, y or NOTHING)]
        return gather(sampled)
    if function.attr == "fit_predict":
        return replace(X, learnt=X.learnt | statistics, opaque=True, column="")
    return fitted


def _fitted(
    walker: Walker, given: Given, X: Value, y: Value | None, y_node: ast.expr | None, kinds: frozenset[str],
    model: bool = True, picked: frozenset[str] = frozenset(),
) -> FitSeen:  # fmt: skip
    search = any(SEARCHES.fullmatch(last(kind)) for kind in kinds)
    seen = FitSeen(given.node, walker.place(given.node), X, y, y_node, kinds, model, folds=search, search=search,
                   statement=walker.statement, learnt=walker.events.learnt_of(X), picked=picked)  # fmt: skip
    walker.events.fits.append(seen)
    return seen


def _stopped(walker: Walker, given: Given, told: bool) -> None:
    """Note early stopping on rows that are no training rows."""
    held = [given.words[word] for word in HELD_OUT if word in given.words]
    catboost = given.name.endswith(".fit") and "eval_set" in given.words and any(
        "CatBoost" in kind for kind in walker.events.fits[-1].kinds
    )  # fmt: skip
    named = any(word in given.words for word in STOPPING)
    if not held or not (told or named or catboost):
        return
    sides = frozenset(side for value in held for side in value.sides if side.role != "train")
    if sides:
        walker.events.chosen.append(Chosen(walker.place(given.node), "early stopping", sides))


def _learns(walker: Walker, kinds: frozenset[str]) -> list[str]:
    """Name the classes that learn a statistic when they are fitted."""
    names = sorted({last(kind) for kind in kinds})
    return [name for name in names if name in TRANSFORMERS or RESAMPLERS.fullmatch(name)
            or (f"__main__.{name}" in kinds and _remembers(walker.classes.get(name)))]  # fmt: skip


def _remembers(node: ast.ClassDef | None) -> bool:
    """Whether a class's `fit` keeps something of what it was given."""
    for part in node.body if node is not None else ():
        if isinstance(part, ast.FunctionDef) and part.name == "fit":
            return any(isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store) for n in ast.walk(part))
    return False


def _trains(walker: Walker, kinds: frozenset[str]) -> bool:
    own = [walker.classes.get(last(kind)) for kind in kinds if kind.startswith("__main__.")]
    methods = {part.name for node in own if node is not None for part in node.body if isinstance(part, ast.FunctionDef)}
    return predicts(kinds) or "predict" in methods


def _by_target(learns: list[str], y: Value | None) -> bool:
    return y is not None and any(name in BY_TARGET for name in learns)


def kept(walker: Walker, given: Given) -> Value | None:
    """Handle what writes an object to a file."""
    function = given.node.func
    if WRITERS.fullmatch(given.name) and given.values:
        walker.events.kept.append(Kept(walker.place(given.node), given.values[0].kinds, given.name))
        return NOTHING
    if isinstance(function, ast.Attribute) and function.attr == "to_pickle":
        walker.events.kept.append(Kept(walker.place(given.node), given.held.kinds, "to_pickle"))
        return NOTHING
    return None
