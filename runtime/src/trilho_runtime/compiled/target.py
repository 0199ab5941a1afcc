"""The way back of a regression's transformed target."""

from __future__ import annotations

from typing import Any

import numpy as np

from trilho_runtime.compiled import BIT_EQUAL, CLOSE, NotCompiled
from trilho_runtime.compiled.arithmetic import ELEMENTWISE, Arithmetic, Function
from trilho_runtime.compiled.node import Cast, Check, Node, sequence
from trilho_runtime.compiled.rules import function_name

LARGEST = float(np.finfo(np.float64).max)


def inverse_of(model: Any, table: Any) -> tuple[Node, str]:
    """Give the nodes that turn a column of predictions back, and their bound. Raises NotCompiled for any other way."""
    fitted = model.transformer_
    name = type(fitted).__name__
    if not type(fitted).__module__.startswith("sklearn."):
        raise NotCompiled(f"the target's {name} is not known")
    if name == "FunctionTransformer":
        return _function(fitted, _cast(model, table))
    return sequence(_cast(model, table), *_scaled_back(name, fitted), Cast("float64")), CLOSE


def _scaled_back(name: str, fitted: Any) -> list[Node]:
    if name == "MinMaxScaler":
        return [Arithmetic("subtract", fitted.min_), Arithmetic("divide", fitted.scale_)]
    if name == "StandardScaler":
        return _scaler(fitted.scale_ if fitted.with_std else None, fitted.mean_ if fitted.with_mean else None)
    if name == "RobustScaler":
        shift = fitted.center_ if fitted.with_centering else None
        return _scaler(fitted.scale_ if fitted.with_scaling else None, shift)
    if name == "MaxAbsScaler":
        return _scaler(fitted.scale_, None)
    raise NotCompiled(f"the target's {name} is not turned back in array code")


def _cast(model: Any, table: Any) -> Node:
    """Give the type that the regression's own predictions have: what follows computes in it."""
    found = np.asarray(model.regressor_.predict(table))
    if found.ndim != 1:
        raise NotCompiled("it predicts more than one number a row")
    return Cast(str(found.dtype))


def _function(fitted: Any, cast: Node) -> tuple[Node, str]:
    if fitted.inv_kw_args:
        raise NotCompiled("the target's function is given arguments")
    check = Check(False, LARGEST, ("prediction",), "the target's transformer") if fitted.validate else None
    name = None if fitted.inverse_func is None else function_name(fitted.inverse_func)
    nodes = [cast, *([check] if check else []), *([Function(name)] if name else []), Cast("float64")]
    return sequence(*nodes), BIT_EQUAL if name is None or name in ELEMENTWISE else CLOSE


def _scaler(scale: Any, shift: Any) -> list[Node]:
    nodes: list[Node] = [] if scale is None else [Arithmetic("multiply", scale)]
    return [*nodes, *([] if shift is None else [Arithmetic("add", shift)])]
