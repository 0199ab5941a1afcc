"""What a manifest may hold: each part of it of the right type, and each file that it speaks of among those listed.

A manifest can be written by anybody, and what it says is shown, joined to paths and asked of libraries. So it is looked
through once, before anything is done with it, and the first thing that is wrong is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import orjson

from trilho_runtime.schema.field import CATEGORY, ORDERED, TYPES, Field

LONGEST_NAME = 200
MOST_FIELDS = 100_000
PATHS = ("compiled", "partly", "original")
STRINGS = ("", "string", "str", "object", "object, nan", CATEGORY, ORDERED)
BOOLEANS = ("", "bool", "boolean", CATEGORY, ORDERED)
SCALARS = (str, int, float, bool)
DTYPES: Mapping[str, str] = {"number": "f", "integer": "iu", "timestamp": "M"}

Check = Callable[[Any], bool]


class Wrong(ValueError):
    """A part of a manifest is not what it has to be; the text says which part, and what it has to be."""


def check_shape(manifest: Mapping[str, Any]) -> None:
    """Check a manifest's parts. Raises Wrong for the first that is not what it has to be.

    >>> check_shape({"name": "../x"})
    Traceback (most recent call last):
        ...
    trilho_runtime.model.shape.Wrong: name is '../x'; allowed: a text without / and \\, 200 characters at most
    """
    _hold("name", manifest["name"], _is_name, f"a text without / and \\, {LONGEST_NAME} characters at most")
    for part in ("time", "key"):
        _hold(part, manifest.get(part), lambda told: told is None or isinstance(told, str), "a field's name, or null")
    _hold("batch_only", manifest.get("batch_only", False), lambda told: isinstance(told, bool), "true or false")
    _hold("libraries", manifest["libraries"], _of(_is_text), "versions by the library's name")
    _hold("metrics", manifest["metrics"], _of(_is_number), "numbers by name")
    listed = manifest["files"]
    _check_estimator(manifest["estimator"], listed)
    _check_compiled(manifest.get("compiled") or {}, listed)
    _check_parts(manifest, listed)
    _check_signature("signature", manifest["signature"])
    _check_told(manifest)


def _check_estimator(told: Mapping[str, Any], listed: Mapping[str, Any]) -> None:
    _hold("estimator.file", told.get("file"), lambda file: isinstance(file, str), "the name of a file")
    _check_listed("estimator.file", [told["file"]], listed)
    for part in ("format", "class", "why"):
        _hold(f"estimator.{part}", told.get(part, ""), lambda text: isinstance(text, str), "a text")
    _hold("estimator.trusted", told.get("trusted", []), _list_of(str), "a list of types' names")


def _check_compiled(told: Mapping[str, Any], listed: Mapping[str, Any]) -> None:
    _hold("compiled.path", told.get("path", PATHS[-1]), lambda path: path in PATHS, f"one of {', '.join(PATHS)}")
    _hold("compiled.why", told.get("why") or "", lambda text: isinstance(text, str), "a text")
    _hold("compiled.stages", told.get("stages", []), _list_of(dict), "a list of objects")
    _hold("compiled.needs", told.get("needs", []), _list_of(str), "a list of modules")
    _hold("compiled.files", told.get("files", []), _list_of(str), "a list of files")
    _check_listed("compiled.files", told.get("files", []), listed)
    if "features" in told:
        _check_signature("compiled.features", told["features"])


def _check_parts(manifest: Mapping[str, Any], listed: Mapping[str, Any]) -> None:
    for part, names in (("history", ("file",)), ("decision", ("file", "reference", "digest")), ("form", ("kind",))):
        told = manifest.get(part) or {}
        for name in names if told else ():
            _hold(f"{part}.{name}", told.get(name, ""), lambda text: isinstance(text, str), "a text")
        if told and "file" in names and "file" in told:
            _check_listed(f"{part}.file", [told["file"]], listed)
    form = manifest.get("form") or {}
    _hold("form.dtype", form.get("dtype", ""), lambda dtype: dtype == "" or _dtype_of(dtype), "the name of a type")


def _check_signature(where: str, told: Any) -> None:
    _hold(where, told, lambda fields: isinstance(fields, list) and 0 < len(fields) <= MOST_FIELDS, "a list of fields")
    for place, field in enumerate(told):
        _check_field(f"{where}[{place}]", field)
    names = [field["name"] for field in told]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Wrong(f"{where} has the field {twice!r:.80} twice")


def _check_field(where: str, told: Any) -> None:
    _hold(where, told, lambda field: isinstance(field, dict), "an object with name, type and nullable")
    _hold(f"{where}.name", told.get("name"), lambda name: isinstance(name, str), "a text")
    _hold(f"{where}.type", told.get("type"), lambda kind: kind in TYPES, f"one of {', '.join(TYPES)}")
    _hold(f"{where}.nullable", told.get("nullable"), lambda null: isinstance(null, bool), "true or false")
    _hold(f"{where}.dtype", told.get("dtype", ""), lambda dtype: _fits(told, dtype), f"a type of a {told['type']}")
    end: Check = _is_number if told["type"] in ("number", "integer") else _is_text
    for name in ("minimum", "maximum"):
        _hold(f"{where}.{name}", told.get(name), lambda value: value is None or end(value), "what the field holds")
    _hold(f"{where}.categories", told.get("categories", []), _list_of(str), "a list of texts")
    _hold(f"{where}.levels", told.get("levels", []), _list_of(*SCALARS), "a list of values")


def _fits(field: Mapping[str, Any], dtype: Any) -> bool:
    """Say whether a type is one of which a field of this kind can be."""
    if not isinstance(dtype, str):
        return False
    kind, levels = field["type"], field.get("levels")
    if kind in ("string", "boolean") or dtype in (CATEGORY, ORDERED):
        fitting = STRINGS if kind == "string" else BOOLEANS if kind == "boolean" else (CATEGORY, ORDERED)
        return dtype in fitting and (levels is not None or dtype not in (CATEGORY, ORDERED))
    if dtype == "":
        return True
    made = Field("", kind, False, dtype)
    found = _dtype_of(dtype if kind == "timestamp" else made.numpy)
    return found is not None and found.kind in DTYPES[kind]


def _dtype_of(text: Any) -> Any:
    try:
        return np.dtype(text) if isinstance(text, str) else None
    except (TypeError, ValueError, SyntaxError):
        return None


def _check_told(manifest: Mapping[str, Any]) -> None:
    """Check that an answer can carry all of it: no half of a pair of surrogates, no number beyond 64 bits."""
    try:
        orjson.dumps(manifest)
    except (TypeError, RecursionError) as error:
        raise Wrong(f"it holds a text or a number that no answer can carry: {error}") from None


def _check_listed(where: str, names: Iterable[str], listed: Mapping[str, Any]) -> None:
    for name in names:
        if name not in listed:
            raise Wrong(f"{where}: {name!r:.80} is not among its files")


def _hold(where: str, told: Any, right: Check, allowed: str) -> None:
    if not right(told):
        raise Wrong(f"{where} is {told!a:.80}; allowed: {allowed}")


def _is_name(told: Any) -> bool:
    return (
        isinstance(told, str)
        and 0 < len(told) <= LONGEST_NAME
        and told.isprintable()
        and not set(told) & set("/\\")
        and told.strip(". ") != ""
    )


def _is_number(told: Any) -> bool:
    if type(told) not in (int, float):
        return False
    return abs(told) < 2**64 if type(told) is int else math.isfinite(told)


def _is_text(told: Any) -> bool:
    return isinstance(told, str) and told != ""


def _of(right: Check) -> Check:
    return lambda told: isinstance(told, dict) and all(name and right(value) for name, value in told.items())


def _list_of(*kinds: type) -> Check:
    return lambda told: isinstance(told, (list, tuple)) and all(isinstance(value, kinds) for value in told)
