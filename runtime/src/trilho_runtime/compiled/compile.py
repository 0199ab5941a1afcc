"""Compiling a fitted model: its stages are walked with rows in hand, and each is proven where it is compiled.

A stage that has no rule, or whose array code differs from the original by more than its bound, stays the original: only
that stage, on a table of its own columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from trilho_runtime.compiled import CLOSE, NotCompiled, rules_numbers
from trilho_runtime.compiled.accept import Rows, accepted
from trilho_runtime.compiled.branches import Given, chosen_of, joined, parts_of, picking, weighted
from trilho_runtime.compiled.categories import coding_of
from trilho_runtime.compiled.difference import largest_difference, limit_of, matrix_difference
from trilho_runtime.compiled.edges import edge_columns, stacked
from trilho_runtime.compiled.estimators import compile_estimator, outputs_of
from trilho_runtime.compiled.flow import Flow, aligned, input_flow, observed, runtime_of
from trilho_runtime.compiled.members import compile_mixer, holds_pipelines, members_of
from trilho_runtime.compiled.node import Cast, Chain, Levels, Node, sequence
from trilho_runtime.compiled.original import SCORES, Loaded, Original, OriginalEstimator, answers_of, scores_of
from trilho_runtime.compiled.plan import Compiled, Ensemble, Estimate, Inverse
from trilho_runtime.compiled.refusal import guard_of, refusing
from trilho_runtime.compiled.rules import as_matrix, fields_of, rule_of
from trilho_runtime.compiled.target import inverse_of
from trilho_runtime.schema.signature import Signature

SAMPLE_ROWS = 300
LIBRARIES = {"ubj": "xgboost", "txt": "lightgbm"}  # by what their model files end with
RULES = rules_numbers  # these rules, and those of categories, are known once they are imported
WRAPPERS = {
    **dict.fromkeys(("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV"), "best_estimator_"),
    **dict.fromkeys(("HalvingRandomSearchCV",), "best_estimator_"),
    **dict.fromkeys(("TunedThresholdClassifierCV", "FixedThresholdClassifier"), "estimator_"),
}


def compile_model(model: Any, sample: Any, signature: Signature, *, checked: bool = True) -> Compiled:
    """Give array code for a fitted model that takes a table of a signature's fields.

    `sample` is a table of such rows, on which every stage is proven, with made-up rows beside it. `checked` says that
    rows are checked by the signature; the table that a features function gives is not. Raises NotCompiled with the
    reason where no stage can be compiled.
    """
    columns = signature.arrays(sample.iloc[:SAMPLE_ROWS])
    rows = accepted(model, Rows(signature, stacked([columns, edge_columns(signature, sample)])))
    if not rows.count:
        raise NotCompiled("the model answers none of the sample's rows")
    given = Given(input_flow(signature, checked=checked), rows.table())
    walk = Walk(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = sequence(*_levels(signature), walk.predictor(model, "", "model", given))
    return walk.compiled(program, signature, given.flow)


class Walk:
    """One walk through a model, and what it found."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.loaded = Loaded(lambda: model)
        self.stages: list[dict[str, Any]] = []
        self.needs: set[str] = set()

    def compiled(self, program: Node, signature: Signature, flow: Flow) -> Compiled:
        """Give what was found as a compiled model. Raises NotCompiled where no stage was compiled."""
        fallen = [s for s in self.stages if s["path"] == "original"]
        why = "; ".join(f"{s['name']} ({s['class']}): {s['why']}" for s in fallen)
        if len(fallen) == len(self.stages):
            raise NotCompiled(why)
        whole = OriginalEstimator("", flow, flow)
        whole.loaded = self.loaded
        return Compiled(
            tuple(field.name for field in signature.fields),
            program,
            whole,
            outputs_of(self.model),
            tuple(self.stages),
            "partly" if fallen else "compiled",
            why or "every stage is array code",
            tuple(sorted(self.needs)),
        )

    def predictor(self, model: Any, place: str, name: str, given: Given, how: str = SCORES) -> Node:
        """Compile a model that ends in an estimator, whose scores are wanted or what a method of it says."""
        kind = kind_of(model)
        if kind in ("sklearn.Pipeline", "imblearn.Pipeline"):
            nodes, last = self._steps(model.steps[:-1], place, name, given)
            step, estimator = model.steps[-1]
            at, inner = f"{place}.steps.{len(model.steps) - 1}.1", _inner(name, step)
            return sequence(nodes, self.predictor(estimator, at, inner, last, how))
        attribute = WRAPPERS.get(kind.removeprefix("sklearn."))
        if attribute and kind.startswith("sklearn.") and hasattr(model, attribute):
            return self.predictor(getattr(model, attribute), f"{place}.{attribute}", name, given, how)
        if kind == "sklearn.TransformedTargetRegressor":
            return self._target(model, place, name, given)
        if holds_pipelines(model, kind):
            return self._ensemble(model, place, name, given, how)
        return self._estimator(model, place, name, given, how)

    def _ensemble(self, model: Any, place: str, name: str, given: Given, how: str) -> Node:
        """Compile an estimator that is made of whole pipelines: each of them, then what is made of their answers."""
        before = len(self.stages)
        try:
            inner = members_of(model)
            nodes = [self.predictor(m.fitted, f"{place}.{m.at}", _inner(name, m.label), given, m.how) for m in inner]
            node = Ensemble(tuple(nodes), compile_mixer(model, len(inner)), how)
            difference = _apart(node(runtime_of(given.value, given.flow)), model, given, how)
            _within(difference, CLOSE)
        except NotCompiled as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001  a fitted state that no rule has met
            why = f"{type(error).__name__}: {error}"
        else:
            self._tell(name, model, CLOSE, difference)
            return node
        del self.stages[before:]
        return self._fallen_estimator(model, place, name, given, why, how)

    def _target(self, model: Any, place: str, name: str, given: Given) -> Node:
        before = len(self.stages)
        try:
            turned, bound = inverse_of(model, given.value)
            values = np.asarray(model.regressor_.predict(given.value), np.float64)
            found = turned(values.reshape(-1, 1))[:, 0]
            difference = _within(matrix_difference(found, scores_of(model, given.value)), bound)
            inner = self.predictor(model.regressor_, f"{place}.regressor_", _inner(name, "regressor"), given)
        except NotCompiled as error:
            del self.stages[before:]
            return self._fallen_estimator(model, place, name, given, str(error))
        self._tell(_inner(name, "inverse"), model.transformer_, bound, difference)
        return Inverse(inner, turned)

    def _estimator(self, estimator: Any, place: str, name: str, given: Given, how: str) -> Node:
        try:
            coding, coded = coding_of(estimator, given.flow)
            cast, flow = _input(coded)
            first = (*coding, *cast)
            sparse, single = given.flow.container == "sparse", is_single(given.flow)
            made = compile_estimator(estimator, sparse=sparse, coded=bool(coding), single=single)
            guard = guard_of(estimator, made, sequence(*first), given, flow)
            node = sequence(*first, Estimate(made, guard, how, fields_of(flow), type(estimator).__name__))
            difference = _within(_apart(node(runtime_of(given.value, given.flow)), estimator, given, how), made.exact)
        except NotCompiled as error:
            return self._fallen_estimator(estimator, place, name, given, str(error), how)
        except Exception as error:  # noqa: BLE001  a fitted state that no rule has met
            return self._fallen_estimator(estimator, place, name, given, f"{type(error).__name__}: {error}", how)
        self._tell(name, estimator, made.exact, difference)
        self.needs |= {LIBRARIES[file.rpartition(".")[2]] for file in made.to_parts().files}
        return node

    def _fallen_estimator(
        self, estimator: Any, place: str, name: str, given: Given, why: str, how: str = SCORES
    ) -> Node:
        node = OriginalEstimator(place.removeprefix("."), given.flow, given.flow, how)
        node.loaded = self.loaded
        self._tell(name, estimator, "", None, why)
        return node

    def transformer(self, fitted: Any, place: str, name: str, given: Given) -> tuple[Node, Given]:
        """Compile a transformer, one of those that hold others or one by itself."""
        if fitted is None or (isinstance(fitted, str) and fitted == "passthrough"):
            return Chain(()), given
        kind, before = kind_of(fitted), len(self.stages)
        try:
            if kind in ("sklearn.Pipeline", "imblearn.Pipeline"):
                return self._steps(fitted.steps, place, name, given)
            if kind in ("sklearn.ColumnTransformer", "sklearn.FeatureUnion"):
                return self._branches(fitted, place, name, given)
            return self._leaf(fitted, name, given)
        except NotCompiled as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001  a fitted state that no rule has met
            why = f"{type(error).__name__}: {error}"
        del self.stages[before:]
        return self._fallen(fitted, place, name, given, why)

    def _steps(self, steps: Sequence[Any], place: str, name: str, given: Given) -> tuple[Node, Given]:
        nodes: list[Node] = []
        for number, (step, fitted) in enumerate(steps):
            if hasattr(fitted, "fit_resample"):  # resampled in training only
                continue
            node, given = self.transformer(fitted, f"{place}.steps.{number}.1", _inner(name, step), given)
            nodes.append(node)
        return sequence(*nodes), given

    def _leaf(self, fitted: Any, name: str, given: Given) -> tuple[Node, Given]:
        made = rule_of(fitted)(fitted, given.flow)
        expected = fitted.transform(given.value)
        flow = aligned(made.flow, expected)
        node = sequence(*refusing(fitted, made, given))
        found = node(runtime_of(given.value, given.flow))
        difference = _within(largest_difference(found, expected, flow), made.bound)
        self._tell(name, fitted, made.bound, difference)
        return node, Given(flow, expected)

    def _fallen(self, fitted: Any, place: str, name: str, given: Given, why: str) -> tuple[Node, Given]:
        expected = fitted.transform(given.value)
        node = Original(place.removeprefix("."), given.flow, observed(expected))
        node.loaded = self.loaded
        self._tell(name, fitted, "", None, why)
        return node, Given(node.after, expected)

    def _branches(self, fitted: Any, place: str, name: str, given: Given) -> tuple[Node, Given]:
        weights = fitted.transformer_weights or {}
        nodes, flows = [], []
        for label, inner, at, chosen in parts_of(fitted, given.flow):
            part = given if chosen is None else chosen_of(given, chosen)
            node, after = self.transformer(inner, f"{place}.{at}", _inner(name, label), part)
            node = node if chosen is None else sequence(picking(given.flow, chosen.places), node)
            nodes.append(node if label not in weights else weighted(node, after.flow, weights[label]))
            flows.append(after.flow)
        expected = fitted.transform(given.value)
        node, flow = joined(nodes, flows, expected)
        largest_difference(node(runtime_of(given.value, given.flow)), expected, flow)
        return node, Given(flow, expected)

    def _tell(self, name: str, fitted: Any, bound: str, difference: float | None, why: str = "") -> None:
        kind = type(fitted)
        known = getattr(kind, "told", f"{kind.__module__}.{kind.__qualname__}")
        told = {"name": name, "class": known, "path": "compiled"}
        if why:
            self.needs |= {"pandas", "sklearn", known.partition(".")[0]} - {"builtins", "__main__"}
            self.stages.append({**told, "path": "original", "why": why})
        else:
            self.stages.append({**told, "bound": bound, "largest_difference": difference})


def kind_of(fitted: Any) -> str:
    """Give a fitted object's library and class, such as "sklearn.Pipeline"."""
    return f"{type(fitted).__module__.partition('.')[0]}.{type(fitted).__qualname__}"


def _within(difference: float, bound: str) -> float:
    if difference > limit_of(bound):
        raise NotCompiled(f"its output differs by {difference:.3g} from the original's; {bound} is allowed")
    return difference


def _levels(signature: Signature) -> list[Node]:
    found = [(i, f.levels) for i, f in enumerate(signature.fields) if f.levels is not None]
    return [Levels(tuple(i for i, _ in found), tuple(levels for _, levels in found))] if found else []


def is_single(flow: Flow) -> bool:
    """Say whether a flow is given in single precision, in which sums of it are then made too."""
    return flow.numeric and str(flow.dtype) == "float32"


def _apart(found: Any, estimator: Any, given: Given, how: str) -> float:
    """Give how far answers lie from the original's."""
    expected = answers_of(estimator, given.value, how)
    return matrix_difference(np.asarray(found, np.float64), np.asarray(expected, np.float64))


def _inner(name: str, step: str) -> str:
    return step if name == "model" else f"{name}.{step}"


def _input(flow: Flow) -> tuple[tuple[Node, ...], Flow]:
    """Give what makes the estimator's matrix of float64."""
    first, made = as_matrix(flow, ())
    return (first if str(made.dtype) == "float64" else (*first, Cast("float64"))), made
