"""Compiling at packing: array code for the model, proven beside the original, or the reason why there is none."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trilho_runtime.compiled import SINGLE, USUAL, NotCompiled, load
from trilho_runtime.model.sources import modules_of
from trilho_runtime.package import first_difference
from trilho_runtime.schema.signature import Signature

if TYPE_CHECKING:
    from trilho_runtime.model.draft import Draft

LEAST = {"pandas"}
TRIED_ROWS = 300


def compile_into(folder: Path, draft: Draft) -> dict[str, Any]:
    """Compile a draft's model into the package's folder and give what the manifest says of it.

    Behind a features function, which stays as it is, the model is compiled on the columns that the function makes.
    """
    try:
        return _compiled(folder, draft)
    except NotCompiled as reason:
        why = str(reason)
    except Exception as error:  # noqa: BLE001  what cannot be compiled is served as it was fitted
        said = str(error).splitlines()
        why = f"it could not be compiled: {type(error).__name__}: {said[0] if said else ''}"
    return {"path": "original", "files": [], "stages": [], "needs": _needs(draft), "why": why}


def _compiled(folder: Path, draft: Draft) -> dict[str, Any]:
    if draft.frame is None or draft.answers is None:
        raise NotCompiled("its features look at other rows than the one they describe")
    if draft.form.kind == "values":
        raise NotCompiled("it takes the values of a single column and no table")
    if type(draft.model).__module__.partition(".")[0] in draft.own or not hasattr(draft.model, "get_params"):
        raise NotCompiled(f"{type(draft.model).__name__} is code of the project, which is called as it is")
    if not draft.features:
        return _kept(folder, draft, draft.frame, draft.signature)
    try:
        made = Signature.infer(draft.given)
    except TypeError as error:
        raise NotCompiled(f"{draft.features} makes a table whose {error}") from None
    told = _kept(folder, draft, draft.given, made)
    why = f"{draft.features} makes the features with pandas; the model behind it is compiled"
    told["why"] = why if told["path"] == "compiled" else f"{why}, but for {told['why']}"
    return {**told, "path": "partly", "needs": sorted({*told["needs"], *LEAST}), "features": made.to_json()}


def _kept(folder: Path, draft: Draft, frame: Any, signature: Signature) -> dict[str, Any]:
    """Compile, prove and keep a model of a table's fields; a table that a features function made is not checked."""
    from trilho_runtime.compiled.compile import compile_model
    from trilho_runtime.compiled.prove import prove

    compiled = compile_model(draft.model, frame, signature, checked=not draft.features)
    limit = float(SINGLE if draft.single or is_rounded(compiled.told()) else USUAL)
    prove(draft.model, compiled, frame, signature, limit)
    files = sorted(compiled.save(folder))
    told = {**compiled.told(), "files": files}
    told["needs"] = [name for name in told["needs"] if name not in draft.own]
    try:
        again = load(folder, told, original=lambda: draft.model)
        found = again.predict(signature.arrays(frame.iloc[:TRIED_ROWS]))
        row = first_difference(found, np.asarray(draft.answers)[:TRIED_ROWS], limit)
        if row is not None:
            raise NotCompiled(f"read back, it answers row {row} of the sample otherwise than the model")
    except BaseException:
        for file in files:
            (folder / file).unlink()
        raise
    return told


def is_rounded(told: Mapping[str, Any]) -> bool:
    """Say whether a compiled model has a stage that adds up in single precision."""
    return any(stage.get("bound") == SINGLE for stage in told["stages"])


def _needs(draft: Draft) -> list[str]:
    """Give the libraries that the original needs where it serves."""
    tops = {name.partition(".")[0] for name in modules_of(draft.model)} | LEAST
    return sorted(tops - set(draft.own) - set(sys.stdlib_module_names) - {"numpy", "trilho_runtime"})
