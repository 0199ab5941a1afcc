"""A fitted model as an ONNX graph: its fields as inputs, in double precision as far as onnxruntime computes in it.

The preprocessing and the estimator are converted apart and joined, so that numbers stay double up to where the model
itself makes them single. What the converters have no exact way for (imputing, functions of numpy) is written here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trilho_runtime.formats.onnx_graph import ML, ML_OPSET, OPSET, Graph, Writer
from trilho_runtime.formats.onnx_trees import add_trees
from trilho_runtime.model.form import Form
from trilho_runtime.model.outputs import Outputs
from trilho_runtime.schema.field import Field
from trilho_runtime.schema.signature import Signature

TARGET = {"": OPSET, ML: ML_OPSET}
KINDS = {"number": "double", "integer": "int64", "boolean": "bool", "string": "string"}
UFUNCS: dict[str, Callable[[Writer, str], str]] = {
    "log1p": lambda g, x: g.node("Log", g.node("Add", x, g.constant(np.array(1.0)))),
    "expm1": lambda g, x: g.node("Sub", g.node("Exp", x), g.constant(np.array(1.0))),
    "log": lambda g, x: g.node("Log", x),
    "exp": lambda g, x: g.node("Exp", x),
    "sqrt": lambda g, x: g.node("Sqrt", x),
    "square": lambda g, x: g.node("Mul", x, x),
    "absolute": lambda g, x: g.node("Abs", x),
}


class NotConverted(Exception):
    """A stage of a model has no form in ONNX; the text says which, and why."""


@dataclass(frozen=True)
class Converted:
    """A model in ONNX: its bytes, the kind of each input by name, and what its output is called."""

    model: Any
    inputs: Mapping[str, str]
    ignored: tuple[str, ...]
    output: str
    trees: bool


def kind_of(field: Field) -> str:
    """Give the type of a field's tensor; a number has no null but NaN, and a text none but "".

    >>> kind_of(Field("n", "integer", True)), kind_of(Field("n", "integer", False))
    ('double', 'int64')
    """
    if field.nullable and field.type in ("integer", "boolean"):
        return "double"
    return KINDS[field.type]


def convert(model: Any, signature: Signature, form: Form, outputs: Outputs, sample: Any, name: str) -> Converted:
    """Convert a fitted model whose table has the fields of a signature. Raises NotConverted."""
    _register()
    graph, fields = Graph(), [field for field in signature.fields if field.type != "timestamp"]
    tensors = {field.name: _take(graph, field) for field in fields}
    ignored = tuple(field.name for field in signature.fields if field.type == "timestamp")
    steps = [("model", copy.deepcopy(model))]
    while hasattr(steps[-1][1], "best_estimator_") or hasattr(steps[-1][1], "steps"):
        last = steps.pop()
        steps += [(last[0], last[1].best_estimator_)] if hasattr(last[1], "best_estimator_") else last[1].steps
    given, before = form.given(sample), [step for step in steps[:-1] if step[1] is not None]
    before = [(label, step) for label, step in before if not (isinstance(step, str) and step == "passthrough")]
    matrix, width = _prepared(graph, before, tensors, fields, given, steps[-1][1])
    try:
        found, trees = _answered(graph, steps[-1], matrix, width, outputs)
    except NotConverted:
        raise
    except Exception as error:
        raise NotConverted(f"{_label(*steps[-1])}: {_said(error)}") from error
    output = _give(graph, found, outputs)
    return Converted(graph.to_model(name), {f.name: kind_of(f) for f in fields}, ignored, output, trees)


def _take(graph: Graph, field: Field) -> str:
    """Add a field's input, and give it as the model meets it: a double or a text."""
    from onnx import TensorProto

    kind = kind_of(field)
    graph.take(field.name, getattr(TensorProto, kind.upper()))
    if kind == "string":
        return field.name
    if field.type == "number" and field.numpy in ("float16", "float32"):
        return graph.cast(graph.cast(field.name, field.numpy), "float64")
    return field.name if kind == "double" else graph.cast(field.name, "float64")


def _prepared(
    graph: Graph, before: list[tuple[str, Any]], tensors: Mapping[str, str], fields: list[Field], given: Any, last: Any
) -> tuple[str, int]:
    """Add what stands before the estimator, and give the double matrix that the estimator takes, and its width."""
    if not before:
        return _matrix(graph, tensors, fields, last)
    from sklearn.pipeline import Pipeline

    _check_supported(before)
    pipeline = Pipeline([(label, _without_nulls(step, label)) for label, step in before])
    try:
        shown = Pipeline(before).transform(given)
        model, whole = _converted_steps(pipeline, fields)
    except NotConverted:
        raise
    except Exception as error:
        raise NotConverted(f"{_label(*_first_bad(before))}: {_said(error)}") from error
    feeds = {"X": _concatenated(graph, [tensors[f.name] for f in fields])} if whole else dict(tensors)
    out = graph.cast(graph.embed(model, feeds)[0], "float64")
    if hasattr(shown, "tocsr") and type(last).__module__.startswith("xgboost"):  # what is absent is missing to it
        zero = graph.node("Equal", out, graph.constant(np.array(0.0)))
        out = graph.node("Where", zero, graph.constant(np.array(np.nan)), out)
    return out, shown.shape[1]


def _matrix(graph: Graph, tensors: Mapping[str, str], fields: list[Field], last: Any) -> tuple[str, int]:
    texts = [field.name for field in fields if field.type == "string"]
    if texts:
        raise NotConverted(f"{_label('model', last)} takes {texts[0]}, a text, as it is, which ONNX cannot give to it")
    return _concatenated(graph, [tensors[field.name] for field in fields]), len(fields)


def _concatenated(graph: Graph, tensors: list[str]) -> str:
    return tensors[0] if len(tensors) == 1 else graph.node("Concat", *tensors, axis=1)


def _converted_steps(pipeline: Any, fields: list[Field]) -> tuple[Any, bool]:
    """Convert the preprocessing, its input one matrix where all fields are alike, else one for each field."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

    texts = {field.type == "string" for field in fields}
    whole = len(texts) == 1 and not any(hasattr(step, "transformers_") for _, step in leaves(pipeline, ""))
    kinds = {True: StringTensorType, False: DoubleTensorType}
    types = [("X", kinds[texts.pop()]([None, len(fields)]))] if whole else [
        (field.name, kinds[field.type == "string"]([None, 1])) for field in fields
    ]  # fmt: skip
    return convert_sklearn(pipeline, "before", types, target_opset=TARGET), whole


def _answered(graph: Graph, step: tuple[str, Any], matrix: str, width: int, outputs: Outputs) -> tuple[str, bool]:
    """Add the estimator, and give its answer and whether it is made of trees."""
    label, model = step
    if hasattr(model, "regressor_") and hasattr(model, "transformer_"):  # a target that was transformed
        found, trees = _answered(graph, (label, model.regressor_), matrix, width, outputs)
        return _inverse(model, label)(graph, found), trees
    found_trees = add_trees(graph, model, matrix) if outputs.kind != "class" else None
    if found_trees is not None:
        return found_trees, True
    if type(model).__module__.startswith("xgboost"):
        return graph.cast(_xgboost(graph, model, matrix, width), "float64"), True
    _check_supported([step])
    return _sklearn(graph, model, matrix, width, outputs), False


def _xgboost(graph: Graph, model: Any, matrix: str, width: int) -> str:
    """Add XGBoost's trees, which compare in single precision in the original too."""
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    if not np.isnan(model.get_params().get("missing", np.nan)):
        raise NotConverted(f"{type(model).__name__} takes missing={model.get_params()['missing']!r} for missing")
    if "c" in (model.get_booster().feature_types or ()):
        raise NotConverted(f"{type(model).__name__} splits by categories of pandas, which ONNX has no type for")
    model.get_booster().feature_names = None  # the converter reads the usual names, and thresholds of numbers
    model.get_booster().feature_types = None
    made = onnxmltools.convert_xgboost(model, initial_types=[("X", FloatTensorType([None, width]))], target_opset=15)
    return graph.embed(made, {"X": graph.cast(matrix, "float32")})[-1]


def _sklearn(graph: Graph, model: Any, matrix: str, width: int, outputs: Outputs) -> str:
    """Add any other estimator in double precision, or in single where onnxruntime has no other."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    options = {id(model): {"zipmap": False}} if hasattr(model, "predict_proba") else None
    if hasattr(model, "flatten_transform"):  # which says nothing of predictions, and no converter knows it
        model.flatten_transform = False
    for kind, dtype in ((DoubleTensorType, "float64"), (FloatTensorType, "float32")):
        try:
            made = convert_sklearn(model, "model", [("X", kind([None, width]))], target_opset=TARGET, options=options)
            session_of(made)
        except Exception:
            if dtype == "float32":
                raise
            continue
        found = graph.embed(made, {"X": graph.cast(matrix, dtype)})
        if outputs.kind == "class":
            return found[0]
        return graph.cast(found[-1], "float64")
    raise AssertionError


def session_of(model: Any) -> Any:
    """Load a model into onnxruntime, as quiet and with as few threads as it goes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _give(graph: Graph, found: str, outputs: Outputs) -> str:
    """Add the output: a value a row, the probability of each class, or the class itself."""
    from onnx import TensorProto

    if outputs.kind in ("probability", "probabilities"):
        graph.give("probabilities", found, TensorProto.DOUBLE, len(outputs.classes))
        return "probabilities"
    flat = graph.node("Reshape", found, graph.constant(np.array([-1], np.int64)))
    if outputs.kind == "value":
        graph.give("prediction", flat, TensorProto.DOUBLE, None)
        return "prediction"
    text = isinstance(outputs.classes[0], str)
    graph.give("label", flat, TensorProto.STRING if text else TensorProto.INT64, None)
    return "label"


def _inverse(model: Any, label: str) -> Callable[[Graph, str], str]:
    function = getattr(model.transformer_, "inverse_func", None)
    name = getattr(function, "__name__", "")
    if not isinstance(function, np.ufunc) or name not in UFUNCS:
        raise NotConverted(f"{_label(label, model)} turns predictions back by {name or 'a transformer'}")
    return UFUNCS[name]


def leaves(step: Any, label: str) -> Iterator[tuple[str, Any]]:
    """Give a model's stages with their names, the outer ones first."""
    yield label, step
    listed = (getattr(step, name, None) for name in ("transformers_", "transformer_list", "steps"))
    for part in next((parts for parts in listed if parts), ()):
        if not isinstance(part[1], str) and part[1] is not None:
            yield from leaves(part[1], f"{label}.{part[0]}" if label else str(part[0]))


def _check_supported(steps: list[tuple[str, Any]]) -> None:
    """Raise NotConverted for the first stage that no converter knows."""
    from skl2onnx._supported_operators import sklearn_operator_name_map

    for name, step in steps:
        for label, leaf in leaves(step, name):
            function = getattr(leaf, "func", None) if type(leaf).__name__ == "FunctionTransformer" else None
            if function is not None and not (isinstance(function, np.ufunc) and function.__name__ in UFUNCS):
                told = f"{getattr(function, '__module__', '')}.{getattr(function, '__name__', function)}"
                raise NotConverted(f"{_label(label, leaf)} calls {told}, which ONNX has no form for")
            if type(leaf) not in sklearn_operator_name_map:
                kind = type(leaf)
                raise NotConverted(f"{_label(label, leaf)}: no converter knows {kind.__module__}.{kind.__name__}")


def _first_bad(steps: list[tuple[str, Any]]) -> tuple[str, Any]:
    """Give the first step that cannot be converted by itself; the last where each can."""
    return steps[0] if len(steps) == 1 else ("+".join(label for label, _ in steps), steps[0][1])


def _without_nulls(step: Any, label: str) -> Any:
    """Give a stage whose categories have the empty text where they had null: a tensor of texts has no null."""
    step = copy.deepcopy(step)
    for where, leaf in leaves(step, label):
        for values in getattr(leaf, "categories_", ()):
            if values.dtype.kind != "O":
                continue
            null = np.array([value is None or value != value for value in values], bool)
            if null.any() and "" in values.tolist():
                raise NotConverted(f'{_label(where, leaf)} knows both null and "", which a text of ONNX does not')
            values[null] = ""
    return step


def _label(label: str, stage: Any) -> str:
    return f"the stage {label} ({type(stage).__name__})"


def _said(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}".rstrip(": ")


def _register() -> None:
    """Give skl2onnx converters for the boosters, and for what it does not write in double precision."""
    from skl2onnx import update_registered_converter
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import FunctionTransformer

    from trilho_runtime.formats.onnx_rules import converted_function, converted_imputer, function_shape, imputer_shape

    update_registered_converter(SimpleImputer, "TrilhoImputer", imputer_shape, converted_imputer)
    update_registered_converter(FunctionTransformer, "TrilhoFunction", function_shape, converted_function)
    _register_boosters(update_registered_converter)


def _register_boosters(register: Any) -> None:
    """Make boosters convertible within ensembles of scikit-learn's, where they are installed."""
    import sys

    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes as classifier,
    )
    from skl2onnx.common.shape_calculator import (
        calculate_linear_regressor_output_shapes as regressor,
    )

    if "xgboost" in sys.modules:
        import xgboost
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

        choices = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
        register(xgboost.XGBClassifier, "XGBoostXGBClassifier", classifier, convert_xgboost, options=choices)
        register(xgboost.XGBRegressor, "XGBoostXGBRegressor", regressor, convert_xgboost)
    if "lightgbm" in sys.modules:
        import lightgbm
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

        choices = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
        register(lightgbm.LGBMClassifier, "LightGbmLGBMClassifier", classifier, convert_lightgbm, options=choices)
        register(lightgbm.LGBMRegressor, "LightGbmLGBMRegressor", regressor, convert_lightgbm, options={"split": None})
