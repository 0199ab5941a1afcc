"""How skl2onnx is to write the stages that it writes in single precision only, or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np


def imputer_shape(operator: Any) -> None:
    """Tell the width of an imputer's output: the columns it keeps, and one for each that it marks."""
    kind, model = type(operator.inputs[0].type), operator.raw_operator
    marked = 0 if model.indicator_ is None else len(model.indicator_.features_)
    operator.outputs[0].type = kind([None, int(_kept(model).sum()) + marked])


def converted_imputer(scope: Any, operator: Any, container: Any) -> None:
    """Write an imputer as a choice between what is there and what was learned, in the input's own precision."""
    from skl2onnx.common.data_types import StringTensorType

    name, model, out = operator.inputs[0].full_name, operator.raw_operator, operator.outputs[0].full_name
    write = _Writer(scope, container)
    text = isinstance(operator.inputs[0].type, StringTensorType)
    kept = np.flatnonzero(_kept(model))
    width = len(model.statistics_)
    all_kept = len(kept) == width
    used = name if all_kept else write("Gather", name, write.constant(kept.astype(np.int64)), axis=1)
    learned = model.statistics_[kept]
    values = write.constant(np.array([str(v) for v in learned], object) if text else learned.astype(np.float64))
    filled = write("Where", write.is_missing(used, model.missing_values, text), values, used)
    if model.indicator_ is None:
        write("Identity", filled, out=out)
        return
    marks = write.constant(np.asarray(model.indicator_.features_, np.int64))
    asked = write("Gather", name, marks, axis=1)
    missing = write("Cast", write.is_missing(asked, model.missing_values, text), to=11)
    write("Concat", filled, missing, out=out, axis=1)


def function_shape(operator: Any) -> None:
    """Tell the width of a function's output: its input's."""
    types = [one.type for one in operator.inputs]
    operator.outputs[0].type = type(types[0])([None, sum(one.shape[1] for one in types)])


def converted_function(scope: Any, operator: Any, container: Any) -> None:
    """Write one of numpy's functions of single numbers, or none."""
    from trilho_runtime.formats.onnx_conversion import UFUNCS

    write, names = _Writer(scope, container), [one.full_name for one in operator.inputs]
    given = names[0] if len(names) == 1 else write("Concat", *names, axis=1)
    function = operator.raw_operator.func
    made = given if function is None else UFUNCS[function.__name__](write, given)
    write("Identity", made, out=operator.outputs[0].full_name)


def _kept(model: Any) -> Any:
    """Say which columns an imputer keeps: those of which it has seen any value."""
    learned = model.statistics_
    if learned.dtype.kind in "OUS" or getattr(model, "keep_empty_features", False):
        return np.ones(len(learned), bool)
    return ~np.isnan(learned.astype(np.float64))


class _Writer:
    """Writes nodes into a container of skl2onnx."""

    def __init__(self, scope: Any, container: Any) -> None:
        self.scope, self.container = scope, container

    def __call__(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        out = out or self.scope.get_unique_variable_name(f"trilho_{kind}")
        self.container.add_node(kind, list(inputs), [out], name=self.scope.get_unique_operator_name(kind), **attributes)
        return out

    node = __call__

    def constant(self, array: Any) -> str:
        """Add a value and give its name."""
        from onnx import TensorProto, numpy_helper

        name = str(self.scope.get_unique_variable_name("trilho_value"))
        array = np.asarray(array)
        if array.dtype == object:
            texts = [str(value).encode() for value in array.reshape(-1)]
            self.container.add_initializer(name, TensorProto.STRING, list(array.shape), texts)
        else:
            kind = numpy_helper.from_array(array).data_type
            self.container.add_initializer(name, kind, list(array.shape), array.reshape(-1).tolist())
        return name

    def is_missing(self, tensor: str, value: Any, text: bool) -> str:
        """Say where a tensor holds what an imputer takes for missing; null is NaN, or the empty text."""
        null = value is None or value != value or type(value).__name__ == "NAType"
        if text:
            return self("Equal", tensor, self.constant(np.array(["" if null else str(value)], object)))
        return self("IsNaN", tensor) if null else self("Equal", tensor, self.constant(np.array([float(value)])))
