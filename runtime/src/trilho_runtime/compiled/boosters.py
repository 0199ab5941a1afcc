"""XGBoost and LightGBM models in their own formats, asked through their C libraries with one thread.

The answers are the libraries' own, so they are bit-equal. Where a library cannot be called so, its package is imported
and asked for matrices; where that fails too, the model is not compiled.
"""

from __future__ import annotations

import ctypes
import json
import math
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled import BIT_EQUAL, NotCompiled
from trilho_runtime.compiled.evaluator import Evaluator, Floats, Parts, Read, softmax, two_columns
from trilho_runtime.compiled.library import Library, import_package, open_library

QUICK_ROWS = 16  # up to so many rows a call keeps Python's lock
VALUE, MARGIN = 0, 1
Engine = Callable[[Floats, bool], NDArray[Any]]  # (rows, columns) and whether margins are wanted -> numbers


class Booster(Evaluator):
    """A booster's model file and how it is asked.

    `kind` is value, binary (one probability a row), classes (one for each class), class (the class itself) or softmax
    (margins of classes).
    """

    file: ClassVar[str]
    exact = BIT_EQUAL

    def __init__(self, model: bytes, spec: Mapping[str, Any]) -> None:
        self.model, self.spec = model, dict(spec)
        self._ask = self.engine()

    @property
    def outputs(self) -> tuple[str, tuple[int, ...]]:
        """Say what a bare booster's answers mean, for which no classes are known by name."""
        kind, count = self.spec["kind"], self.spec["count"]
        if kind == "value":
            return "value", ()
        return ("probability" if count == 2 else "probabilities"), tuple(range(count))

    def __call__(self, matrix: Floats) -> NDArray[Any]:
        """Give values, or the probability of each class."""
        kind = self.spec["kind"]
        found = self._asked(matrix, kind == "softmax")
        if kind == "binary":
            return two_columns(found)
        if kind == "class":
            return found.astype(np.intp)
        return softmax(found) if kind == "softmax" else found

    def margins(self, matrix: Floats) -> NDArray[Any]:
        """Give the sums before the link function."""
        return self._asked(matrix, True)

    def _asked(self, matrix: Floats, margin: bool) -> NDArray[Any]:
        many = self.spec["count"] if self.spec["kind"] in ("classes", "softmax") else 1
        found = self._ask(matrix, margin)
        if found.size != len(matrix) * many:
            raise ValueError(f"the booster gave {found.size} numbers for {len(matrix)} rows, not {many} a row")
        return found.reshape(len(matrix), many) if many > 1 else found.reshape(-1)

    def engine(self) -> Engine:
        """Load the model in the C library, or else in the package, and give what answers. Raises NotCompiled."""
        try:
            return self.native()
        except NotCompiled as error:
            why = error
        try:
            return self.imported()
        except Exception as error:  # noqa: BLE001  the package's own errors are of many kinds
            raise NotCompiled(f"{why}; nor by its package: {error}") from None

    def native(self) -> Engine:
        """Load the model in the C library."""
        raise NotImplementedError

    def imported(self) -> Engine:
        """Load the model in the package."""
        raise NotImplementedError

    def parts(self) -> Parts:
        """Give the model's own file beside how it is asked."""
        return Parts(dict(self.spec), {}, {self.file: self.model})

    @classmethod
    def restore(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], read: Read) -> Evaluator:
        """Load the model out of its file."""
        return cls(read(cls.file), spec)


class XGBoost(Booster):
    """An XGBoost model."""

    name: ClassVar[str] = "xgboost"
    file: ClassVar[str] = "booster.ubj"

    def engine(self) -> Engine:
        """Load the model; what a sparse matrix does not hold, its zeros, is missing to XGBoost."""
        ask = super().engine()
        return _absent_as_nan(ask) if self.spec["sparse"] else ask

    def native(self) -> Engine:
        """Load the model in the C library."""
        return _xgboost_native(self.model, self.spec)

    def imported(self) -> Engine:
        """Load the model in the package."""
        return _xgboost_imported(self.model, self.spec)


def _absent_as_nan(ask: Engine) -> Engine:
    return lambda matrix, margin: ask(np.where(matrix == 0, np.nan, matrix), margin)


def _xgboost_native(model: bytes, spec: Mapping[str, Any]) -> Engine:
    library = open_library("xgboost")
    create, load, tell, free, predict = library.find(
        ("XGBoosterCreate", "XGBoosterLoadModelFromBuffer", "XGBoosterSetParam", "XGBoosterFree", ASK_XGBOOST)
    )
    (quick,) = library.find((ASK_XGBOOST,), quick=True)
    handle = ctypes.c_void_p()
    library.check(create(None, ctypes.c_uint64(0), ctypes.byref(handle)))
    keeper = _Keeper(free, handle)
    try:
        library.check(load(handle, model, ctypes.c_uint64(len(model))))
        library.check(tell(handle, b"nthread", b"1"))
    except ValueError as error:
        raise NotCompiled(f"the model cannot be loaded by the C library here: {error}") from None
    asked = {margin: _xgboost_call(spec, margin) for margin in (False, True)}
    proxies = _Proxies(library)

    def ask(matrix: Floats, margin: bool) -> NDArray[Any]:
        rows, columns = matrix.shape
        address = matrix.__array_interface__["data"][0]
        array = b'{"data":[%d,true],"shape":[%d,%d],"strides":null,"typestr":"%s","version":3}'
        array %= address, rows, columns, matrix.dtype.str.encode()
        shape, dims, found = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64(), ctypes.c_void_p()
        out = ctypes.byref(shape), ctypes.byref(dims), ctypes.byref(found)
        call = quick if rows <= QUICK_ROWS else predict
        library.check(call(keeper.handle, array, asked[margin], proxies.handle(), *out))
        size = math.prod(shape[: dims.value])
        return np.frombuffer(ctypes.string_at(found.value or 0, 4 * size), np.float32)

    return ask


class _Proxies(threading.local):
    """A matrix of XGBoost's that stands for the rows that are asked, made once in each thread instead of each call.

    A library that has none makes its own for every call.
    """

    def __init__(self, library: Library) -> None:
        self._keeper: _Keeper | None = None
        try:
            create, free = library.find(("XGProxyDMatrixCreate", "XGDMatrixFree"))
        except NotCompiled:
            return
        own = ctypes.c_void_p()
        library.check(create(ctypes.byref(own)))
        self._keeper = _Keeper(free, own)

    def handle(self) -> ctypes.c_void_p | None:
        """Give this thread's matrix."""
        return None if self._keeper is None else self._keeper.handle


ASK_XGBOOST = "XGBoosterPredictFromDense"


def _xgboost_call(spec: Mapping[str, Any], margin: bool) -> bytes:
    call = {"type": MARGIN if margin else VALUE, "training": False, "iteration_begin": 0}
    call |= {"iteration_end": spec["rounds"], "strict_shape": False, "cache_id": 0}
    return json.dumps({**call, "missing": _missing(spec)}).encode()


def _missing(spec: Mapping[str, Any]) -> float:
    return math.nan if spec["missing"] is None else float(spec["missing"])


def _xgboost_imported(model: bytes, spec: Mapping[str, Any]) -> Engine:
    package = import_package("xgboost")
    booster = package.Booster({"nthread": 1}, model_file=bytearray(model))

    def ask(matrix: Floats, margin: bool) -> NDArray[Any]:
        how = {"predict_type": "margin" if margin else "value", "iteration_range": (0, spec["rounds"])}
        return np.asarray(booster.inplace_predict(matrix, missing=_missing(spec), validate_features=False, **how))

    return ask


class LightGBM(Booster):
    """A LightGBM model."""

    name: ClassVar[str] = "lightgbm"
    file: ClassVar[str] = "booster.txt"

    def native(self) -> Engine:
        """Load the model in the C library."""
        return _lightgbm_native(self.model, self.spec)

    def imported(self) -> Engine:
        """Load the model in the package."""
        return _lightgbm_imported(self.model)


class _Keeper:
    """Frees what a library made, once, when nothing asks it any more."""

    def __init__(self, free: Callable[[Any], int], handle: ctypes.c_void_p) -> None:
        self.handle = handle
        weakref.finalize(self, free, handle).atexit = False


DOUBLES, ROW_MAJOR, ALL = 1, 1, -1
QUIETLY = b"num_threads=1 verbosity=-1"


def _lightgbm_native(model: bytes, spec: Mapping[str, Any]) -> Engine:
    library = open_library("lightgbm")
    load, free, predict, prepare, forget = library.find(
        ("LGBM_BoosterLoadModelFromString", "LGBM_BoosterFree", "LGBM_BoosterPredictForMat",
         "LGBM_BoosterPredictForMatSingleRowFastInit", "LGBM_FastConfigFree")
    )  # fmt: skip
    (quick,) = library.find(("LGBM_BoosterPredictForMatSingleRowFast",), quick=True)
    handle, rounds = ctypes.c_void_p(), ctypes.c_int()
    try:
        library.check(load(model, ctypes.byref(rounds), ctypes.byref(handle)))
    except ValueError as error:
        raise NotCompiled(f"the model cannot be loaded by the C library here: {error}") from None
    keeper = _Keeper(free, handle)
    columns, many = spec["columns"], spec["count"] if spec["kind"] == "classes" else 1
    ready = {}
    for margin in (False, True):
        own = ctypes.c_void_p()
        how = margin, 0, ALL, DOUBLES, ctypes.c_int32(columns), QUIETLY
        library.check(prepare(handle, *how, ctypes.byref(own)))
        ready[margin] = _Keeper(forget, own)

    def ask(matrix: Floats, margin: bool) -> NDArray[Any]:
        rows, length = len(matrix), ctypes.c_int64()
        found = np.empty(rows * many)
        given, out = (ctypes.c_void_p(one.__array_interface__["data"][0]) for one in (matrix, found))
        if rows == 1:
            library.check(quick(ready[margin].handle, given, ctypes.byref(length), out))
        else:
            size = ctypes.c_int32(rows), ctypes.c_int32(columns)
            how = ROW_MAJOR, margin, 0, ALL, QUIETLY
            library.check(predict(keeper.handle, given, DOUBLES, *size, *how, ctypes.byref(length), out))
        return found[: length.value]

    return ask


def _lightgbm_imported(model: bytes) -> Engine:
    package = import_package("lightgbm")
    booster = package.Booster(model_str=model.decode())

    def ask(matrix: Floats, margin: bool) -> NDArray[Any]:
        return np.asarray(booster.predict(matrix, raw_score=margin, num_threads=1, verbosity=-1))

    return ask


def compile_xgboost(estimator: Any, sparse: bool, coded: bool = False) -> XGBoost:
    """Compile an XGBoost model. Raises NotCompiled for what its library does not answer row by row."""
    booster = estimator.get_booster() if hasattr(estimator, "get_booster") else estimator
    told = json.loads(booster.save_config())["learner"]
    _check_xgboost(estimator, booster, told, coded)
    missing = getattr(estimator, "missing", None)
    missing = None if missing is None or math.isnan(missing) else float(missing)
    kind, count = _xgboost_kind(estimator, told)
    spec = {"kind": kind, "count": count, "rounds": _rounds(estimator), "missing": missing, "sparse": sparse}
    return XGBoost(bytes(booster.save_raw("ubj")), {**spec, "columns": int(booster.num_features())})


def _check_xgboost(estimator: Any, booster: Any, told: Mapping[str, Any], coded: bool) -> None:
    kind = told["gradient_booster"]["name"]
    if kind not in ("gbtree", "dart"):
        raise NotCompiled(f"an XGBoost model of {kind} is not compiled")
    if "c" in (booster.feature_types or ()) and not coded:
        raise NotCompiled("the XGBoost model was fitted to columns of the category dtype, and is given others")
    if callable(getattr(estimator, "objective", None)):
        raise NotCompiled("an XGBoost model with an objective of the project's own is not compiled")
    if int(told["learner_model_param"].get("num_target", 1)) > 1:
        raise NotCompiled("an XGBoost model of more than one output is not compiled")


def _xgboost_kind(estimator: Any, told: Mapping[str, Any]) -> tuple[str, int]:
    objective, many = told["objective"]["name"], int(told["learner_model_param"]["num_class"])
    classifier = hasattr(estimator, "predict_proba")
    if classifier and many > 1:
        return ("softmax" if objective == "multi:softmax" else "classes"), many
    if classifier or (objective == "binary:logistic" and not hasattr(estimator, "get_booster")):
        return "binary", 2
    if many > 1 and objective == "multi:softmax" and hasattr(estimator, "classes_"):
        return "class", 1
    if many > 1 and objective != "multi:softmax":
        if hasattr(estimator, "get_booster"):
            raise NotCompiled("an XGBoost regression with probabilities of classes is not compiled")
        return "classes", many
    return "value", 1


def _rounds(estimator: Any) -> int:
    """Give how many rounds the model answers with: those up to the best one, or 0 for all of them."""
    if not hasattr(estimator, "get_booster") or getattr(estimator, "bare", False):
        return 0
    best = estimator.get_booster().attr("best_iteration")
    return 0 if best is None else int(best) + 1


def compile_lightgbm(estimator: Any, sparse: bool, coded: bool = False) -> LightGBM:
    """Compile a LightGBM model. Raises NotCompiled for what is not known from its text alone."""
    booster = getattr(estimator, "booster_", estimator)
    if any(booster.pandas_categorical or ()) and not coded:
        raise NotCompiled("the LightGBM model was fitted to columns of the category dtype, and is given others")
    if callable(getattr(estimator, "objective_", None)):
        raise NotCompiled("a LightGBM model with an objective of the project's own is not compiled")
    told = estimator.get_params() if hasattr(estimator, "get_params") else {}
    early = sorted(name for name in told if name.startswith("pred") and told[name])
    if early:
        raise NotCompiled(f"a LightGBM model that predicts with {early[0]} is not compiled")
    best = booster.best_iteration
    text = booster.model_to_string(num_iteration=best if best and best > 0 else None)
    kind, count = _lightgbm_kind(estimator, booster, text)
    return LightGBM(text.encode(), {"kind": kind, "count": count, "columns": int(booster.num_feature())})


def _lightgbm_kind(estimator: Any, booster: Any, text: str) -> tuple[str, int]:
    many = booster.num_model_per_iteration()
    if many > 1:
        return "classes", many
    bare = not hasattr(estimator, "booster_")
    if hasattr(estimator, "predict_proba") or (bare and "\nobjective=binary " in text):
        return "binary", 2
    return "value", 1
