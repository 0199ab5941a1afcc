"""The estimator in a package: in a format that runs nothing when it is read, where there is one.

XGBoost and LightGBM have formats of their own; skops holds scikit-learn's objects as data and names every type that it
would make, which is held against what is known to be safe. A format counts only where the estimator that it gives back
predicts the very same. What is left is a pickle, and the manifest says why.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import pickle
import sys
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from trilho_runtime.model import bare
from trilho_runtime.model.manifest import PackageError
from trilho_runtime.model.outputs import Outputs
from trilho_runtime.steps.function import StepError

Format = Literal["skops", "xgboost", "lightgbm", "pickle"]
FILES: dict[Format, str] = {
    "skops": "estimator.skops",
    "xgboost": "estimator.ubj",
    "lightgbm": "estimator.txt",
    "pickle": "estimator.pkl",
}
SAFE = ("sklearn.", "numpy.", "scipy.", "xgboost.", "lightgbm.", "pandas.", "collections.", "datetime.")
UNSAFE = (  # in those: what reads or writes files, runs code or starts processes
    *("numpy.load", "numpy.save", "numpy.fromfile", "numpy.memmap", "numpy.f2py", "numpy.testing", "numpy.distutils"),
    *("numpy.ctypeslib", "numpy.lib", "numpy.genfromtxt", "numpy.vectorize", "numpy.frompyfunc", "numpy.core.records"),
    *("sklearn.datasets", "sklearn.utils._testing", "sklearn.utils.fixes", "sklearn.externals", "scipy.io"),
    *("scipy.datasets", "scipy._lib", "scipy.LowLevelCallable", "pandas.read_", "pandas.io", "pandas.eval"),
    *("pandas.core.computation", "pandas.util", "pandas._testing", "sklearn.__check_build", "lightgbm.dask"),
    *("xgboost.spark", "xgboost.dask", "xgboost.testing"),
)
BUILTINS = {"bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "range", "set"}
BUILTINS |= {"slice", "str", "tuple", "type", "abs", "len", "max", "min", "round", "sum"}
PROJECT = "a function or class of the project: stored by reference, its code is in the package"


@dataclass(frozen=True)
class Stored:
    """An estimator as a package holds it: the bytes of its file, and what the manifest says of it."""

    content: bytes
    format: Format
    name: str
    """The class of the estimator, or the function, as "module.name"."""
    why: str = ""
    """Why it is a pickle."""
    trusted: Sequence[str] = ()
    parameters: Mapping[str, Any] | None = None

    @property
    def file(self) -> str:
        """Give the name of its file."""
        return FILES[self.format]

    def to_json(self) -> dict[str, Any]:
        """Give what a manifest says of it."""
        told: dict[str, Any] = {"file": self.file, "format": self.format, "class": self.name}
        told |= {"why": self.why} if self.format == "pickle" else {}
        told |= {"trusted": list(self.trusted)} if self.format == "skops" else {}
        return told | ({"parameters": dict(self.parameters)} if self.parameters is not None else {})


class NotSafe(Exception):
    """An estimator has no safe format; the text says why."""


def store(model: Any, scores: Callable[[Any], Any], own: Collection[str], pickled: bytes | None = None) -> Stored:
    """Give an estimator as bytes: in a safe format, or as a pickle saying why.

    `scores` asks an estimator for the predictions by which what was read back is held against the model; `own` are the
    names of the project's modules. `pickled` is what a pickle is to be where one is needed and there is one already.
    """
    kind = model if callable(model) and hasattr(model, "__qualname__") else type(model)
    name = str(getattr(kind, "told", f"{kind.__module__}.{kind.__qualname__}"))
    try:
        if kind.__module__.partition(".")[0] in own:
            raise NotSafe(PROJECT)
        stored = _xgboost(model, name) or _lightgbm(model, name) or _skops(model, name, own)
        _check_same(stored, model, scores, own)
    except NotSafe as reason:
        return Stored(pickled or _pickled(model), "pickle", name, why=str(reason))
    return stored


def restore(told: Mapping[str, Any], content: bytes, outputs: Outputs, own: Collection[str] = ()) -> Any:
    """Read an estimator back; `own` are the modules of the package's code.

    Raises PackageError for a format that is not known, and for types that are not safe.
    """
    form = told.get("format", "pickle")
    if form == "pickle":
        return pickle.loads(content)  # noqa: S301  its digest was checked
    if form == "skops":
        return _read_skops(told, content, own)
    if form == "xgboost":
        return _read_xgboost(told, content)
    if form == "lightgbm":
        if told["class"] == bare.LIGHTGBM:
            return bare.read_lightgbm(content.decode())
        return LightGBM(content.decode(), outputs)
    raise PackageError(f"the estimator is of format {form!r}; this trilho-runtime reads {', '.join(FILES)}")


class LightGBM:
    """A LightGBM model read from its text: it predicts as the estimator did that it was written by."""

    def __init__(self, text: str, outputs: Outputs) -> None:
        import lightgbm

        self.booster = lightgbm.Booster(model_str=text)
        if outputs.classes:
            self.classes_ = np.array(outputs.classes)

    def predict(self, rows: Any) -> Any:
        """Give the value of each row, or its most probable class."""
        if not hasattr(self, "classes_"):
            return self.booster.predict(rows)
        return self.classes_[self.predict_proba(rows).argmax(axis=1)]

    def predict_proba(self, rows: Any) -> Any:
        """Give the probability of each class."""
        found = np.asarray(self.booster.predict(rows))
        return np.column_stack([1 - found, found]) if found.ndim == 1 else found


def _check_same(stored: Stored, model: Any, scores: Callable[[Any], Any], own: Collection[str]) -> None:
    """Hold what a format gives back against the model itself. Raises NotSafe where they differ.

    A model that answers no row by itself has no scores here; the proof of the package asks it as it is served.
    """
    expected = scores(model)
    try:
        outputs = Outputs("probabilities", _classes(model)) if hasattr(model, "classes_") else Outputs("value")
        found = scores(restore(stored.to_json(), stored.content, outputs, own))
    except Exception as error:
        raise NotSafe(f"{stored.format} does not give it back: {_said(error)}") from error
    if expected is not None and not np.array_equal(found, expected):
        raise NotSafe(f"{stored.format} gives back a model that predicts otherwise")


def _classes(model: Any) -> tuple[Any, ...]:
    return tuple(np.asarray(model.classes_).tolist())


def _xgboost(model: Any, name: str) -> Stored | None:
    if name == bare.XGBOOST:
        return Stored(model.content(), "xgboost", name)
    if not name.startswith("xgboost.") or not hasattr(model, "get_booster"):
        return None
    given = {key: value for key, value in model.get_params().items() if value is not None and not _is_nan(value)}
    odd = sorted(key for key, value in given.items() if not isinstance(value, (str, bool, int, float, list, dict)))
    if odd:
        raise NotSafe(f"xgboost's format does not hold its {', '.join(odd)}")
    return Stored(bytes(model.get_booster().save_raw(raw_format="ubj")), "xgboost", name, parameters=given)


def _read_xgboost(told: Mapping[str, Any], content: bytes) -> Any:
    import xgboost

    if told["class"] == bare.XGBOOST:
        return bare.read_xgboost(content)
    module, _, name = str(told["class"]).rpartition(".")
    kind = getattr(xgboost, name, None)
    if kind is None or kind.__module__ != module or not issubclass(kind, xgboost.XGBModel):
        raise PackageError(f"the estimator is {told['class']}, which is no model of this xgboost")
    model = kind(**told.get("parameters", {}))
    model.load_model(bytearray(content))
    return model


def _lightgbm(model: Any, name: str) -> Stored | None:
    if not name.startswith("lightgbm.") or not hasattr(model, "booster_"):
        return None
    return Stored(model.booster_.model_to_string().encode(), "lightgbm", name)


def _skops(model: Any, name: str, own: Collection[str]) -> Stored:
    try:
        import skops.io
    except ImportError:
        raise NotSafe("skops is not installed in the project's environment (pip install skops)") from None
    try:
        content = _plain_skops(skops.io.dumps(model))
        trusted = skops.io.get_untrusted_types(data=content)
    except Exception as error:
        raise NotSafe(f"skops does not hold it: {_said(error)}") from error
    outside = [kind for kind in trusted if not is_safe(kind, own)]
    if outside:
        raise NotSafe(f"it holds what is not known to be safe: {', '.join(outside)}")
    return Stored(content, "skops", name, trusted=trusted)


def _read_skops(told: Mapping[str, Any], content: bytes, own: Collection[str]) -> Any:
    try:
        import skops.io
    except ImportError:
        raise PackageError("the estimator is in skops, which is not installed here", "pip install skops") from None
    listed = set(map(str, told.get("trusted", ())))
    needed = skops.io.get_untrusted_types(data=content)
    refused = [kind for kind in needed if kind not in listed or not is_safe(kind, own)]
    if refused:
        raise PackageError(f"the estimator holds types that are not trusted: {', '.join(refused)}")
    return skops.io.loads(content, trusted=needed)


def is_safe(kind: str, own: Collection[str] = ()) -> bool:
    """Say whether making an object of a type, or calling a function, is known to do no harm.

    >>> is_safe("sklearn.tree._tree.Tree"), is_safe("builtins.eval"), is_safe("shop.steps.Clip", {"shop"})
    (True, False, True)
    """
    module, _, name = kind.rpartition(".")
    if module == "builtins":
        return name in BUILTINS
    top = kind.partition(".")[0]
    if top in own and top not in sys.stdlib_module_names:
        return True
    return kind.startswith(SAFE) and not kind.startswith(UNSAFE)


def _plain_skops(content: bytes) -> bytes:
    """Give the same archive for the same object: without the time, and the addresses in memory that name its parts."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        schema = json.loads(archive.read("schema.json"))
        parts = {name: archive.read(name) for name in archive.namelist() if name != "schema.json"}
    names = {name: f"{hashlib.sha256(data).hexdigest()}.{name.rpartition('.')[2]}" for name, data in parts.items()}
    _rename(schema, itertools.count(1), names)
    written = {names[name]: data for name, data in parts.items()}
    written["schema.json"] = json.dumps(schema, separators=(",", ":")).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(written):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, written[name], zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _rename(node: Any, numbers: Iterator[int], names: Mapping[str, str]) -> None:
    """Number the nodes of a schema anew; each stands by itself, since equal parts are one object only by chance."""
    if isinstance(node, list):
        for item in node:
            _rename(item, numbers, names)
    if not isinstance(node, dict):
        return
    if "__id__" in node:
        node["__id__"] = next(numbers)
    if isinstance(node.get("file"), str):
        node["file"] = names.get(node["file"], node["file"])
    for value in node.values():
        _rename(value, numbers, names)


def _pickled(model: Any) -> bytes:
    try:
        return pickle.dumps(model, protocol=5)
    except Exception as error:
        hint = "put its functions and classes in a module, such as model.py: no lambda, none within another function"
        raise PackageError(f"the model cannot be stored: {_said(error)}", hint) from error


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _said(error: BaseException) -> str:
    text = str(error) if isinstance(error, StepError) else f"{type(error).__name__}: {error}"
    return text.splitlines()[0][:300] if text else type(error).__name__
