"""The rules of the transformers that compute with numbers, and of those that choose columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from trilho_runtime.compiled import BIT_EQUAL, CLOSE, NotCompiled
from trilho_runtime.compiled.arithmetic import (
    ELEMENTWISE,
    SHAPES,
    Arithmetic,
    Bins,
    Clip,
    Function,
    FunctionOfEach,
    Impute,
    Missing,
    Norm,
    Power,
    Products,
    Project,
    Quantiles,
    Shape,
    ShapeOfEach,
    Threshold,
)
from trilho_runtime.compiled.flow import Column, Flow
from trilho_runtime.compiled.node import Node, Pick, Take
from trilho_runtime.compiled.rules import FLOATS, Made, as_matrix, fields_of, function_name, missing_number, rule
from trilho_runtime.compiled.rules_categories import impute_objects, one_hot

SHAPED = ("a_min", "a_max", "min", "max", "decimals", "nan", "posinf", "neginf")


def _elementwise(flow: Flow, *nodes: Node | None, bound: str = BIT_EQUAL) -> Made:
    first, given = as_matrix(flow)
    return Made((*first, *(n for n in nodes if n is not None)), replace(given, inf=True), bound)


def _typed(values: Any, flow: Flow) -> Any:
    dtype = as_matrix(flow)[1].dtype
    return np.asarray(values).astype(dtype)


@rule("StandardScaler")
def standard_scaler(scaler: Any, flow: Flow) -> Made:
    """Give x minus mean, over scale; scikit-learn multiplies a sparse matrix by the inverse instead."""
    if flow.container == "sparse":
        return _elementwise(flow, Arithmetic("multiply", 1 / scaler.scale_) if scaler.scale_ is not None else None)
    shift = Arithmetic("subtract", _typed(scaler.mean_, flow)) if scaler.with_mean else None
    scale = Arithmetic("divide", _typed(scaler.scale_, flow)) if scaler.with_std else None
    return _elementwise(flow, shift, scale)


@rule("MinMaxScaler")
def min_max_scaler(scaler: Any, flow: Flow) -> Made:
    """Give x times scale, plus the lower end."""
    clip = Clip(*(float(v) for v in scaler.feature_range)) if scaler.clip else None
    return _elementwise(flow, Arithmetic("multiply", scaler.scale_), Arithmetic("add", scaler.min_), clip)


@rule("MaxAbsScaler")
def max_abs_scaler(scaler: Any, flow: Flow) -> Made:
    """Give x over its largest size in training."""
    sparse = flow.container == "sparse"
    scale = Arithmetic("multiply", 1.0 / scaler.scale_) if sparse else Arithmetic("divide", scaler.scale_)
    return _elementwise(flow, scale, Clip(-1.0, 1.0) if getattr(scaler, "clip", False) else None)


@rule("RobustScaler")
def robust_scaler(scaler: Any, flow: Flow) -> Made:
    """Give x minus median, over the range of its quantiles."""
    if flow.container == "sparse":
        return _elementwise(flow, Arithmetic("multiply", 1.0 / scaler.scale_) if scaler.with_scaling else None)
    shift = Arithmetic("subtract", scaler.center_) if scaler.with_centering else None
    return _elementwise(flow, shift, Arithmetic("divide", scaler.scale_) if scaler.with_scaling else None)


@rule("Normalizer")
def normalizer(fitted: Any, flow: Flow) -> Made:
    """Give rows over their norm."""
    return _elementwise(flow, Norm(fitted.norm), bound=CLOSE)


@rule("Binarizer")
def binarizer(fitted: Any, flow: Flow) -> Made:
    """Give one above the threshold."""
    first, given = as_matrix(flow, ())
    return Made((*first, Threshold(float(fitted.threshold))), replace(given, inf=False))


@rule("SimpleImputer")
def simple_imputer(imputer: Any, flow: Flow) -> Made:
    """Give what is missing its statistic; objects have a rule of their own."""
    fitted = imputer._fit_dtype
    if fitted == np.dtype(object):
        return impute_objects(imputer, flow)
    first, given = as_matrix(flow, () if imputer.strategy in ("most_frequent", "constant") else FLOATS)
    missing = missing_number(imputer.missing_values)
    kept = _kept(imputer)
    fill = imputer.statistics_[kept].astype(fitted).astype(given.dtype)
    indicated = imputer.indicator_.features_ if imputer.add_indicator else None
    node = Impute(fill, missing, None if len(kept) == len(given.columns) else kept, indicated)
    after = [given.columns[i]._replace(null="" if missing is None else given.columns[i].null) for i in kept]
    marks = [given.columns[i]._replace(null="") for i in (() if indicated is None else indicated)]
    return Made((*first, node), replace(given, columns=(*after, *marks)))


def _kept(imputer: Any) -> Any:
    """Give the columns that an imputer keeps: those without a statistic are left out."""
    if imputer.keep_empty_features:
        return np.arange(len(imputer.statistics_))
    return np.flatnonzero([not (isinstance(v, float) and v != v) for v in imputer.statistics_])


@rule("MissingIndicator")
def missing_indicator(indicator: Any, flow: Flow) -> Made:
    """Give whether a number is missing."""
    first, given = as_matrix(flow, ())
    places = np.arange(len(given.columns))
    only = indicator.features == "missing-only"
    features = np.asarray(indicator.features_) if only else places
    refused = np.setdiff1d(places, features) if only and indicator.error_on_new else places[:0]
    node = Missing(missing_number(indicator.missing_values), features, refused, fields_of(given))
    return Made((*first, node), _booleans(given.picked(features.tolist())), refuses=True)


def _booleans(flow: Flow) -> Flow:
    return replace(flow, columns=tuple(c._replace(dtype="bool", null="") for c in flow.columns), inf=False)


@rule("KBinsDiscretizer")
def bins(fitted: Any, flow: Flow) -> Made:
    """Give the place of the bin, or a column for each."""
    dtypes = ("float64", "float32") if fitted.dtype is None else (np.dtype(fitted.dtype).name,)
    first, given = as_matrix(flow, dtypes)
    node = Bins(tuple(np.asarray(edges)[1:-1] for edges in fitted.bin_edges_), str(given.dtype))
    if fitted.encode == "ordinal":
        return Made((*first, node), replace(given, inf=False))
    coded = one_hot(fitted._encoder, replace(given, container="array"), dtype=str(given.dtype))
    return Made((*first, node, *coded.nodes), coded.flow)


@rule("PowerTransformer")
def power_transformer(fitted: Any, flow: Flow) -> Made:
    """Give powers of numbers, standardised."""
    node = Power(np.asarray(fitted.lambdas_), fitted.method == "box-cox", fields_of(flow))
    made = _elementwise(flow, node, bound=CLOSE)
    if not fitted.standardize:
        return made
    scaled = standard_scaler(fitted._scaler, replace(made.flow, container="array"))
    return Made((*made.nodes, *scaled.nodes), scaled.flow, CLOSE)


@rule("QuantileTransformer")
def quantile_transformer(fitted: Any, flow: Flow) -> Made:
    """Give shares of the training rows."""
    normal = fitted.output_distribution == "normal"
    node = Quantiles(np.asarray(fitted.quantiles_), np.asarray(fitted.references_), normal)
    return _elementwise(flow, node, bound=CLOSE)


@rule("PolynomialFeatures")
def polynomial_features(fitted: Any, flow: Flow) -> Made:
    """Give products, each from the product of one degree less."""
    sparse = flow.container == "sparse"
    first, given = as_matrix(flow)
    count = len(given.columns)
    powers = np.asarray(fitted.powers_)
    node, kept = _products(count, powers, fitted.interaction_only)
    node = replace(node, sparse=sparse)
    null = "nan" if given.nan else ""
    columns = tuple(Column(str(given.dtype), "", null) for _ in kept)
    return Made(
        (*first, node), Flow(columns, True, "sparse" if sparse else "array", inf=True), CLOSE if sparse else BIT_EQUAL
    )


def _products(count: int, powers: Any, interaction_only: bool) -> tuple[Products, Any]:
    top = int(powers.sum(axis=1).max()) if len(powers) else 0
    places: dict[tuple[int, ...], int] = {(): 0, **{(i,): i + 1 for i in range(count)}}
    earlier: list[int] = []
    factors: list[int] = []
    levels = []
    last: list[tuple[int, ...]] = [(i,) for i in range(count)]
    for _ in range(2, top + 1):
        made = [
            (feature, *tail)
            for feature in range(count)
            for tail in last
            if tail[0] > feature or (tail[0] == feature and not interaction_only)
        ]
        for product in made:
            earlier.append(places[product[1:]])
            factors.append(product[0])
            places[product] = len(places)
        levels.append(len(earlier))
        last = made
    wanted = [tuple(i for i, power in enumerate(row) for _ in range(power)) for row in powers]
    kept = np.array([places[product] for product in wanted], np.intp)
    return Products(np.array(earlier, np.intp), np.array(factors, np.intp), tuple(levels), kept), kept


@rule("PCA", "IncrementalPCA")
def principal_components(fitted: Any, flow: Flow) -> Made:
    """Give the projection of what is centred."""
    components = np.asarray(fitted.components_)
    mean = getattr(fitted, "mean_", None)
    offset = None if mean is None else np.reshape(mean, (1, -1)) @ components.T
    scale = None
    if fitted.whiten:
        scale = np.sqrt(fitted.explained_variance_)
        scale = np.where(scale < np.finfo(scale.dtype).eps, np.finfo(scale.dtype).eps, scale)
    return _projected(flow, Project(components.T, offset, scale), ("float64", "float32"))


@rule("TruncatedSVD")
def truncated_svd(fitted: Any, flow: Flow) -> Made:
    """Give the projection."""
    return _projected(flow, Project(np.asarray(fitted.components_).T, None, None), ())


def _projected(flow: Flow, node: Project, dtypes: Sequence[str]) -> Made:
    first, given = as_matrix(flow, dtypes)
    if str(given.dtype) != "float64":
        raise NotCompiled(f"sums of {given.dtype} are not the same to 1e-12 in one row and in many")
    null = "nan" if given.nan else ""
    columns = tuple(Column(str(given.dtype), "", null) for _ in range(node.components.shape[1]))
    return Made((*first, node), Flow(columns, True, "array", inf=True), CLOSE)


def shape_of(fitted: Any) -> tuple[str, dict[str, Any]] | None:
    """Give the name and the arguments of one of numpy's functions that are given plain numbers, or nothing."""
    function, given = fitted.func, dict(fitted.kw_args or {})
    if type(function).__name__ == "partial" and not function.args:
        function, given = function.func, {**function.keywords, **given}
    name = next((name for name, known in SHAPES.items() if known is function), None)
    if name is None:
        return None
    given = {key: value.item() if isinstance(value, np.generic) else value for key, value in given.items()}
    odd = [key for key, v in given.items() if key not in SHAPED or not (v is None or type(v) in (int, float, bool))]
    if odd:
        raise NotCompiled(f"its function {name} is given {', '.join(odd)}, which is no plain number")
    return name, given


def _shaped(fitted: Any, flow: Flow, name: str, given: dict[str, Any]) -> Made:
    """Give clip, round or nan_to_num of each number; of a table, pandas' own of the same name."""
    arguments = tuple(given.items())
    if len({c.dtype for c in flow.columns}) > 1 and flow.numeric and not fitted.validate:
        return Made((ShapeOfEach(name, arguments),), replace(flow, columns=_unsourced(flow)), BIT_EQUAL)
    first, made = as_matrix(flow, ())
    return Made((*first, Shape(name, arguments)), replace(made, columns=_unsourced(made)), BIT_EQUAL)


def _unsourced(flow: Flow) -> tuple[Column, ...]:
    return tuple(c._replace(source=None) for c in flow.columns)


@rule("FunctionTransformer")
def function_transformer(fitted: Any, flow: Flow) -> Made:
    """Give the columns themselves, or a function of numpy of each number."""
    if flow.container != "sparse" and fitted.func is not None and (shape := shape_of(fitted)) is not None:
        return _shaped(fitted, flow, *shape)
    if fitted.kw_args:
        raise NotCompiled(f"its function is given {', '.join(fitted.kw_args)}, and is not clip, round or nan_to_num")
    if fitted.func is None and not fitted.validate:
        return Made((), flow)
    name = "positive" if fitted.func is None else function_name(fitted.func)
    if flow.container == "sparse":
        raise NotCompiled("it is given a sparse matrix")
    bound = BIT_EQUAL if name in ELEMENTWISE else CLOSE
    if len({c.dtype for c in flow.columns}) > 1 and flow.numeric and fitted.func is not None and not fitted.validate:
        columns = tuple(c._replace(null="nan", source=None) for c in flow.columns)
        return Made((FunctionOfEach(name),), replace(flow, columns=columns, inf=True), bound)
    first, given = as_matrix(flow, ())
    nodes = () if fitted.func is None else (Function(name),)
    columns = tuple(c._replace(null="nan") for c in given.columns)
    return Made((*first, *nodes), replace(given, columns=columns, inf=True), bound)


@rule(
    "VarianceThreshold", "SelectKBest", "SelectPercentile", "SelectFpr", "SelectFdr", "SelectFwe",
    "GenericUnivariateSelect", "SelectFromModel", "RFE", "RFECV", "SequentialFeatureSelector",
)  # fmt: skip
def selector(fitted: Any, flow: Flow) -> Made:
    """Give the columns that were chosen."""
    kept = np.flatnonzero(fitted.get_support())
    if not len(kept):
        raise NotCompiled("it keeps no column")
    if flow.matrix:
        return Made((Take(kept),), flow.picked(kept.tolist()))
    if not flow.numeric:
        return Made((Pick(tuple(kept.tolist())),), flow.picked(kept.tolist()))
    first, given = as_matrix(flow, ())
    return Made((*first, Take(kept)), given.picked(kept.tolist()))
