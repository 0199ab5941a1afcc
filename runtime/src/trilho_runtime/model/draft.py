"""A draft: all that a package is to hold, and the one way in which it is written."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from trilho_runtime.history import History
from trilho_runtime.mlflow_flavor import MLMODEL, mlmodel_text
from trilho_runtime.model.compiling import compile_into, is_rounded
from trilho_runtime.model.estimator import Stored, store
from trilho_runtime.model.form import Form
from trilho_runtime.model.manifest import CODE, MANIFEST, SAMPLE, SCHEMA, SIGNATURE, PackageError, walk
from trilho_runtime.model.outputs import Floats, Outputs
from trilho_runtime.model.precision import KEY, is_single
from trilho_runtime.model.predictor import TABLE
from trilho_runtime.model.validation import arrays
from trilho_runtime.package import versions
from trilho_runtime.profile import Reference
from trilho_runtime.schema.signature import Signature

HISTORY = "history.npz"
REFERENCE = "reference.json"
VALIDATION = "validation.npz"
LOCK = "lock.txt"
LIBRARIES = (
    *("python", "trilho-runtime", "numpy", "pandas", "pyarrow", "scipy", "scikit-learn"),
    *("xgboost", "xgboost-cpu", "lightgbm", "catboost", "statsmodels", "skops"),
)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A model and what is known of it; its code is in the package's folder already."""

    name: str
    target: str
    model: Any
    features: str
    """The features function, as "module:name"; "" where the model takes raw rows."""
    signature: Signature
    outputs: Outputs
    rows: list[dict[str, Any]]
    scores: Floats
    """What the model predicts for the stored rows."""
    reference: Reference
    form: Form = TABLE
    frame: Any = None
    """Rows (pandas) that the model is tried on when it is compiled; None where it answers no row by itself."""
    given: Any = None
    """What the model is given for those rows."""
    answers: Floats | None = None
    """What it predicts for them."""
    own: Mapping[str, Path] = field(default_factory=dict)
    """The project's top-level modules."""
    pickled: bytes | None = None
    validation: bytes | None = None
    history: History | None = None
    decision: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)
    time: str = ""
    key: str = ""
    batch_only: bool = False

    @functools.cached_property
    def single(self) -> bool:
        """Say whether the model is of single precision."""
        return self.given is not None and is_single(self.model, self.given, self.outputs)


def write(draft: Draft, folder: Path) -> dict[str, Any]:
    """Write a package into a folder that holds its code, and give its manifest."""
    scores = _scores(draft)
    stored = store(draft.model, scores, draft.own, draft.pickled)
    (folder / stored.file).write_bytes(stored.content)
    compiled = compile_into(folder, draft)
    _write_parts(draft, folder)
    manifest = _manifest(draft, stored, compiled, folder)
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def _scores(draft: Draft) -> Any:
    """Give how an estimator is asked for the predictions by which it is held against the model."""
    if draft.given is None:
        return lambda model: None
    return lambda model: draft.outputs.scores(model, draft.given)


def _write_parts(draft: Draft, folder: Path) -> None:
    sample = {"schema": 1, "rows": draft.rows, "predictions": draft.scores.tolist()}
    (folder / SAMPLE).write_bytes(orjson.dumps(sample, option=orjson.OPT_INDENT_2))
    (folder / REFERENCE).write_text(draft.reference.to_json(), encoding="utf-8")
    if draft.validation is not None:
        (folder / VALIDATION).write_bytes(draft.validation)
    if draft.history is not None:
        (folder / HISTORY).write_bytes(arrays(draft.history.to_arrays()))
    (folder / LOCK).write_text(_lock(), encoding="utf-8")
    python = versions(["python"])["python"]
    text = mlmodel_text(draft.signature, draft.outputs, name=draft.name, python=python)
    (folder / MLMODEL).write_text(text, encoding="utf-8")


def _manifest(draft: Draft, stored: Stored, compiled: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    files = sorted(path.relative_to(folder).as_posix() for path in walk(folder))
    digests = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in files
        if name not in (MANIFEST, SIGNATURE)
    }
    empty = {"dataset": None, "run": None, "commit": None, "data_until": None, "train_until": None, "history": None}
    return {
        "schema": SCHEMA,
        "name": draft.name,
        "task": draft.outputs.task,
        "target": draft.target,
        "time": draft.time or None,
        "key": draft.key or None,
        "features": draft.features,
        "estimator": stored.to_json(),
        "outputs": draft.outputs.to_json(),
        "compiled": compiled,
        "signature": draft.signature.to_json(),
        "libraries": versions(LIBRARIES),
        "metrics": draft.metrics,
        "lineage": {**empty, **draft.lineage},
        "files": digests,
        **({KEY: "single"} if draft.single or is_rounded(compiled) else {}),
        **({"form": draft.form.to_json()} if draft.form != TABLE else {}),
        **({"batch_only": True} if draft.batch_only else {}),
        **({"history": {"file": HISTORY, **draft.history.to_json()}} if draft.history else {}),
        **({"decision": _decision(draft.decision, digests)} if draft.decision else {}),
    }


def _decision(reference: str, digests: Mapping[str, str]) -> dict[str, str]:
    """Name a decide function, and the digest of the file that it stands in."""
    module = reference.partition(":")[0].replace(".", "/")
    for name in (f"{CODE}/{module}.py", f"{CODE}/{module}/__init__.py"):
        if name in digests:
            return {"reference": reference, "file": name, "digest": digests[name]}
    raise PackageError(f"decide is {reference}, and the package carries no module {module}", "name its folder in code=")


def _lock() -> str:
    from importlib.metadata import distributions

    found = {(str(d.metadata["Name"]).lower().replace("_", "-"), d.version) for d in distributions()}
    return "".join(f"{name}=={version}\n" for name, version in sorted(found))
