"""Says what a value was, without the value."""

from __future__ import annotations

import datetime
import sys
import types
from typing import Any

LITERAL = 500
COLUMNS = 5000
SIMPLE = (type(None), bool, int, float, complex, str, bytes, datetime.date, datetime.time, datetime.timedelta)
ASKED = ("predict", "predict_proba", "decision_function", "transform", "score_samples")


def describe(value: Any) -> dict[str, Any]:
    """Give a value's kind, type, rows, columns, dtypes and, for short plain ones, its literal."""
    kind = kind_of(value)
    told: dict[str, Any] = {"kind": kind, "type": full_name(type(value))}
    if kind in ("frame", "series", "array", "sparse", "dataset"):
        told.update(_shape(value))
    elif kind in ("mapping", "sequence"):
        told["rows"] = len(value)
    if kind in ("scalar", "text", "time", "none", "mapping", "sequence"):
        told["literal"] = literal(value)
    elif kind in ("function", "class", "module"):
        told["literal"] = full_name(value)
    return told


def kind_of(value: Any) -> str:
    """Name the kind of a value, as the trace has it."""
    if value is None:
        return "none"
    if isinstance(value, (bool, int, float, complex)):
        return "scalar"
    if isinstance(value, (str, bytes)):
        return "text"
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta)):
        return "time"
    if isinstance(value, type):
        return "class"
    if isinstance(value, types.ModuleType):
        return "module"
    return _library_kind(value) or _plain_kind(value)


def _library_kind(value: Any) -> str:
    np, pd = sys.modules.get("numpy"), sys.modules.get("pandas")
    sparse, polars = sys.modules.get("scipy.sparse"), sys.modules.get("polars")
    if np is not None and hasattr(np, "ndarray"):
        if isinstance(value, (np.datetime64, np.timedelta64)):
            return "time"
        if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not value.ndim):
            return "scalar"
        if isinstance(value, np.ndarray):
            return "array"
    if pd is not None and hasattr(pd, "DataFrame"):
        if isinstance(value, pd.DataFrame):
            return "frame"
        if isinstance(value, pd.Series):
            return "series"
        if isinstance(value, (pd.Index, pd.api.extensions.ExtensionArray)):
            return "array"
        if value is pd.NaT or value is getattr(pd, "NA", pd.NaT):
            return "scalar"
    if sparse is not None and sparse.issparse(value):
        return "sparse"
    if polars is not None and isinstance(value, polars.DataFrame):
        return "frame"
    return "series" if polars is not None and isinstance(value, polars.Series) else _model_kind(value)


def _model_kind(value: Any) -> str:
    kind = type(value)
    library = kind.__module__.split(".")[0]
    if library in ("xgboost", "lightgbm") and kind.__name__ == "Booster":
        return "booster"
    if library in ("xgboost", "lightgbm", "catboost") and kind.__name__ in DATASETS:
        return "dataset"
    return "estimator" if is_estimator(value) else ""


DATASETS = ("DMatrix", "QuantileDMatrix", "DeviceQuantileDMatrix", "ExtMemQuantileDMatrix", "Dataset", "Pool")


def is_estimator(value: Any) -> bool:
    """Say whether an object learns: its class has fit, or it is what a fit gave and can be asked."""
    kind = type(value)
    if isinstance(value, (type, types.ModuleType)):
        return False
    if callable(getattr(kind, "fit", None)):
        return True
    if kind.__module__.startswith("statsmodels.") and callable(getattr(kind, "predict", None)):
        return True
    return _wraps_results(value)


def _wraps_results(value: Any) -> bool:
    return type(value).__module__.startswith("statsmodels.") and type(value).__name__.endswith("ResultsWrapper")


def _plain_kind(value: Any) -> str:
    if isinstance(value, dict):
        return "mapping"
    if isinstance(value, (list, tuple, set, frozenset, range)):
        return "sequence"
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        return "function"
    return "function" if type(value).__name__ in ("ufunc", "cython_function_or_method") else "other"


def _shape(value: Any) -> dict[str, Any]:
    columns = getattr(value, "columns", None)
    shape = getattr(value, "shape", None)
    told: dict[str, Any] = {"rows": int(shape[0]) if shape else None}
    if columns is not None and kind_of(value) == "frame":
        told["columns"] = [_label(column) for column in list(columns)[:COLUMNS]]
        told["dtypes"] = [str(dtype) for dtype in list(value.dtypes)[:COLUMNS]]
    elif hasattr(value, "dtype"):
        width = int(shape[1]) if shape and len(shape) > 1 else 1
        told["dtypes"] = [str(value.dtype)] * min(width, COLUMNS)
        if hasattr(value, "name"):
            told["columns"] = [_label(value.name)]
    elif type(value).__module__.startswith("xgboost"):
        told["rows"], told["columns"] = value.num_row(), value.feature_names
    return told


def _label(label: Any) -> str:
    return label if isinstance(label, str) else repr(label)


def literal(value: Any, limit: int = LITERAL) -> str | None:
    """Give the repr of a short plain value, or container of such; None for others."""
    if not _is_plain(value, [60]):
        return None
    text = repr(value)
    return text if len(text) <= limit else None


def _is_plain(value: Any, left: list[int]) -> bool:
    left[0] -= 1
    if left[0] < 0:
        return False
    if isinstance(value, SIMPLE) or (type(value).__module__ == "numpy" and kind_of(value) in ("scalar", "time")):
        return not isinstance(value, (str, bytes)) or len(value) <= LITERAL
    if isinstance(value, dict):
        return all(_is_plain(key, left) and _is_plain(item, left) for key, item in list(value.items())[:61])
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(_is_plain(item, left) for item in list(value)[:61])
    return False


def full_name(thing: Any) -> str:
    """Give the full name of a class, function or module: where it was defined, not where it was imported from."""
    if isinstance(thing, types.ModuleType):
        return thing.__name__
    owner = getattr(thing, "__self__", None)
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None) or type(thing).__name__
    module = getattr(thing, "__module__", None)
    if owner is not None and not isinstance(owner, types.ModuleType) and callable(thing):
        kind = owner if isinstance(owner, type) else type(owner)
        return f"{kind.__module__}.{kind.__qualname__}.{getattr(thing, '__name__', name)}"
    if module is None and isinstance(owner, types.ModuleType):
        module = owner.__name__
    if module is None:
        module = "numpy" if type(thing).__name__ == "ufunc" else type(thing).__module__
    return name if module == "builtins" else f"{module}.{name}"
