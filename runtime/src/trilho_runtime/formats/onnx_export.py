"""A package's model as an ONNX file, for devices on which no Python runs, proven against the package.

    python -m trilho_runtime.formats.onnx_export PACKAGE OUT

OUT is a folder, which gets model.onnx and onnx.json, or a file that ends in .onnx, which gets its .json beside it.
onnx.json tells the inputs and outputs, what is not in the file (the decision, and features made by pandas code), and
how far its answers are from the package's. Asked so:

    import json, numpy as np, onnxruntime

    about = json.load(open("out/onnx.json"))
    session = onnxruntime.InferenceSession("out/model.onnx")
    row = {"age": 41, "city": "Recife"}
    types = {"double": np.float64, "int64": np.int64, "bool": np.bool_, "string": object}
    nulls = {"double": np.nan, "string": ""}
    feed = {
        field["name"]: np.array([[nulls[field["type"]] if row.get(field["name"]) is None else row[field["name"]]]],
                                types[field["type"]])
        for field in about["inputs"]
    }
    [answer] = session.run(None, feed)  # [rows], or [rows, classes] in the order of about["outputs"]["classes"]

Exit codes: 1 where the model has no form in ONNX or a library is missing, 3 where the answers differ.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

from trilho_runtime.model.manifest import MANIFEST, PackageError, digest_of
from trilho_runtime.model.outputs import Floats, Outputs
from trilho_runtime.model.predictor import ModelError, Predictor
from trilho_runtime.package import Package, folder_digest, open_package, versions
from trilho_runtime.schema.signature import Signature
from trilho_runtime.steps.function import StepError

LIBRARIES = ("onnx", "onnxruntime", "skl2onnx", "onnxmltools")
MODEL, ABOUT = "model.onnx", "onnx.json"
DTYPES = {"double": np.float64, "int64": np.int64, "bool": np.bool_}
NULLS = {"double": "NaN", "string": '""', "int64": None, "bool": None}
SCHEMA = 1


class ParityError(Exception):
    """An ONNX file answers otherwise than its package; `hint` says what to do."""

    def __init__(self, fact: str, hint: str) -> None:
        super().__init__(fact)
        self.fact, self.hint = fact, hint


def export(package: Package, out: str | os.PathLike[str]) -> dict[str, Any]:
    """Write a package's model as ONNX and what is to know of it, and give the latter; both files, or none.

    Raises PackageError where the model has no form in ONNX, ParityError where its answers differ.
    """
    file, about = _places(Path(out))
    _check_exportable(package)
    model, told = _converted(package)
    content = model.SerializeToString(deterministic=True)
    told |= {"file": file.name, "sha256": hashlib.sha256(content).hexdigest()}
    _write(file, content, about, json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n")
    return {**told, "model": str(file), "about": str(about), "size_bytes": len(content)}


def missing_libraries() -> list[str]:
    """Name the libraries that are needed and not installed here."""
    return [name for name in LIBRARIES if util.find_spec(name) is None]


def _check_exportable(package: Package) -> None:
    lacking = missing_libraries()
    if lacking:
        fact = f"an ONNX file is written with {', '.join(LIBRARIES)}; not installed here: {', '.join(lacking)}"
        raise PackageError(fact, f"{sys.executable} -m pip install {' '.join(LIBRARIES)}")
    name = package.manifest["name"]
    if package.manifest.get("history"):
        fact = f"{name} looks at past rows, which stand in its package and have no form in ONNX"
        raise PackageError(fact, "serve the package itself: trilho serve")
    if package.batch_only:
        raise PackageError(f"{name} answers whole tables only, not single rows", "trilho score answers tables")


def _converted(package: Package) -> tuple[Any, dict[str, Any]]:
    from trilho_runtime.formats.onnx_conversion import NotConverted, convert
    from trilho_runtime.formats.onnx_parity import compare

    predictor = package.load(compiled=False)
    signature, sample = _table(package, predictor)
    outputs, estimator = predictor.outputs, predictor.estimator
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = convert(estimator, signature, predictor.form, outputs, sample, package.manifest["name"])
            session = _session(made.model, package.manifest["name"])
            ours = _ours(predictor, signature)
            theirs = _theirs(session, made.inputs, outputs)
            parity = compare(signature, sample, outputs, ours, theirs, made.trees)
    except NotConverted as reason:
        raise PackageError(f"no ONNX of {package.manifest['name']}: {reason}", _hint(str(reason))) from reason
    if parity.beyond_tolerance:
        _refuse(package, parity)
    return made.model, _told(package, predictor, signature, made, parity)


def _table(package: Package, predictor: Predictor) -> tuple[Signature, Any]:
    """Give the fields that the estimator takes, and the stored rows as a table of them."""
    rows, _ = package.sample()
    raw = predictor.signature.frame(predictor.signature.columns(rows))
    if not predictor.reference:
        return predictor.signature, raw
    try:
        made = predictor.features(predictor.form.given(raw)).reset_index(drop=True)
        known = (package.manifest.get("compiled") or {}).get("features")
        return Signature.from_json(known) if known else Signature.infer(made), made
    except (StepError, TypeError, ValueError) as error:
        raise PackageError(f"the table of {predictor.reference} has no form in ONNX: {error}", HINT) from error


def _ours(predictor: Predictor, signature: Signature) -> Any:
    """Give how the package answers rows of the fields that the ONNX file takes."""
    if not predictor.reference:
        return predictor.predict_columns
    return lambda columns: predictor.outputs.scores(
        predictor.estimator, signature.frame(columns), len(next(iter(columns.values())))
    )


def _theirs(session: Any, inputs: Mapping[str, str], outputs: Outputs) -> Any:
    """Give how the ONNX file answers the same rows, in the same form."""

    def ask(columns: Mapping[str, Any]) -> Floats:
        feed = {name: tensor(columns[name], kind) for name, kind in inputs.items()}
        found = np.asarray(session.run(None, feed)[0])
        if outputs.kind == "class":
            return outputs.places(found)
        return found[:, 1] if outputs.kind == "probability" else found

    return ask


def tensor(column: Any, kind: str) -> Any:
    """Give a column as the tensor of an input: one column wide, null as NaN or as the empty text.

    >>> tensor(np.array(["a", None], object), "string").tolist()
    [['a'], ['']]
    """
    if kind == "string":
        return np.array([["" if value is None or value != value else str(value)] for value in column], object)
    return column.astype(DTYPES[kind])[:, None]


def _session(model: Any, name: str) -> Any:
    from trilho_runtime.formats.onnx_conversion import session_of

    try:
        return session_of(model)
    except Exception as error:
        said = str(error).splitlines()[0][:200]
        raise PackageError(f"onnxruntime does not run the ONNX of {name}: {said}", HINT) from error


def _told(package: Package, predictor: Predictor, signature: Signature, made: Any, parity: Any) -> dict[str, Any]:
    """Give what onnx.json says."""
    manifest = package.manifest
    fields = {field.name: field for field in signature.fields}
    inputs = [
        {"name": name, "type": kind, "shape": ["rows", 1], "null": NULLS[kind] if fields[name].nullable else None}
        for name, kind in made.inputs.items()
    ]
    decision = (manifest.get("decision") or {}).get("reference")
    left_out = {"ignored": list(made.ignored), "features": predictor.reference or None, "decision": decision}
    return {
        "schema": SCHEMA,
        "name": manifest["name"],
        "digest": folder_digest(package.folder),
        "manifest": digest_of(package.folder / MANIFEST),
        "inputs": inputs,
        "outputs": {"name": made.output, **predictor.outputs.to_json()},
        "opset": {one.domain or "ai.onnx": one.version for one in made.model.opset_import},
        "ir_version": made.model.ir_version,
        "not_included": left_out,
        "notes": _notes(predictor, made, decision),
        "libraries": versions((*LIBRARIES, "numpy", "scikit-learn", "xgboost", "xgboost-cpu", "lightgbm")),
        "parity": parity.to_json(),
    }


def _notes(predictor: Predictor, made: Any, decision: str | None) -> list[str]:
    """Say in sentences what whoever runs the file has to know."""
    notes = ["A decision is not in the file: it gives the score, and thresholds are yours to keep."]
    if decision:
        notes = [f"The decision {decision} is not in the file: it gives the score, and no threshold."]
    if predictor.reference:
        notes.append(f"{predictor.reference} is not in the file: its inputs are the columns that function makes.")
    if made.ignored:
        notes.append(f"Times have no type in ONNX; left out, since the model does not read: {', '.join(made.ignored)}.")
    if "string" in made.inputs.values():
        notes.append('A text that is null is given as "".')
    return notes


def _refuse(package: Package, parity: Any) -> None:
    where = ""
    if parity.beyond_at_thresholds == parity.beyond_tolerance:
        where = ", all of them next to thresholds of its trees"
    fact = (
        f"{parity.beyond_tolerance} of {parity.rows} rows are answered otherwise by the ONNX of "
        f"{package.manifest['name']}{where}: {parity.first}"
    )
    raise ParityError(fact, "nothing was written; serve the package itself: trilho serve")


HINT = "serve the package itself: trilho serve, or train a model of stages that skl2onnx knows"


def _hint(reason: str) -> str:
    if "FunctionTransformer" in reason or "no converter knows" in reason:
        return "put that stage into [steps] features: then the model behind it is exported"
    return HINT


def _places(out: Path) -> tuple[Path, Path]:
    """Give the two files to write. Raises PackageError where something else is."""
    if out.suffix == ".onnx":
        if out.is_dir():
            raise PackageError(f"{out} is a folder", "name a file that ends in .onnx, or another folder")
        return out, out.with_suffix(".json")
    if out.exists() and not out.is_dir():
        raise PackageError(f"{out} is there already and is no folder", "name a folder, or a file that ends in .onnx")
    if (out / MANIFEST).exists():
        fact = f"{out} is a model package, which holds what was packed and nothing else"
        raise PackageError(fact, "name another folder")
    return out / MODEL, out / ABOUT


def _write(file: Path, content: bytes, about: Path, text: bytes) -> None:
    """Write both files beside their places, then move them there."""
    drafts = [(path, path.with_name(f".{path.name}.{os.getpid()}.part")) for path in (file, about)]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for (_, draft), data in zip(drafts, (content, text), strict=True):
            draft.write_bytes(data)
        for path, draft in drafts:
            draft.replace(path)
    except OSError as error:
        raise PackageError(f"{file}: {error.strerror or error}", "name a folder that can be written") from None
    finally:
        for _, draft in drafts:
            draft.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export a package's model, and print what was found as one line of JSON."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.formats.onnx_export", description=main.__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args(arguments)
    try:
        told = export(open_package(given.package), given.out)
    except (PackageError, ParityError) as error:
        sys.stderr.write(f"{error.fact}\nHint: {error.hint or HINT}\n")
        return 3 if isinstance(error, ParityError) else 1
    except ModelError as error:
        sys.stderr.write(f"{given.package}: {error}\nHint: {HINT}\n")
        return 1
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
