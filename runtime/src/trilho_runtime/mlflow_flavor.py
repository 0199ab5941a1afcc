"""MLflow's view of a model package: the folder itself opens with `mlflow.pyfunc.load_model`.

Every package holds an `MLmodel` file, a few lines of YAML among its listed files, which names this module as its
loader. MLflow is not needed to write it; to open it, mlflow and trilho-runtime have to be installed:

    model = mlflow.pyfunc.load_model("package")
    model.predict(rows)  # what the package itself predicts, its digests checked before anything of it is read
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trilho_runtime.model.outputs import Outputs
from trilho_runtime.schema.field import Field
from trilho_runtime.schema.signature import Signature

MLMODEL = "MLmodel"
LOADER = "trilho_runtime.mlflow_flavor"
TYPES = {"number": "double", "integer": "long", "boolean": "boolean", "string": "string", "timestamp": "datetime"}
ADDED = ("registered_model_meta",)  # what MLflow writes into a folder that it took from a registry
UNPRINTED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def mlmodel_text(
    signature: Signature,
    outputs: Outputs,
    *,
    name: str,
    python: str,
    data: str = "",
    env: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """Give the MLmodel file of a package: the same bytes for the same model.

    `data` is where the package lies, from the file's folder; the folder itself where it is not given. `env` names a
    file that describes the Python environment.
    """
    flavor = {"data": data, "env": {"virtualenv": env} if env else "", "loader_module": LOADER}
    flavor["python_version"] = python
    written = [f"    {key}: {_scalar(value)}" for key, value in flavor.items() if value]
    schema = {"inputs": inputs_of(signature), "outputs": outputs_of(outputs), "params": None}
    schemas = [f"  {key}: {_scalar(value and json.dumps(value, ensure_ascii=False))}" for key, value in schema.items()]
    about = {"trilho_name": name, **(metadata or {})}
    told = [f"  {_scalar(key)}: {_scalar(value)}" for key, value in about.items()]
    lines = ["flavors:", "  python_function:", *written, "metadata:", *told, "signature:", *schemas]
    return "\n".join(lines) + "\n"


def inputs_of(signature: Signature) -> list[dict[str, Any]]:
    """Give the fields as MLflow's schema of columns; what may be null is a column that need not be there.

    >>> inputs_of(Signature((Field("n", "integer", True),)))
    [{'type': 'double', 'name': 'n', 'required': False}]
    """
    return [{"type": _type(field), "name": field.name, "required": not field.nullable} for field in signature.fields]


def outputs_of(outputs: Outputs) -> list[dict[str, Any]]:
    """Give the predictions as MLflow's schema: one column, or one for each class."""
    names = [str(label) for label in outputs.classes] if outputs.kind == "probabilities" else ["prediction"]
    return [{"type": "double", "name": name, "required": True} for name in names]


def _type(field: Field) -> str:
    if field.nullable and field.type == "integer":  # MLflow's integers have no null
        return "double"
    return "any" if field.nullable and field.type == "boolean" else TYPES[field.type]


def _scalar(value: Any) -> str:
    """Write a value as JSON, which is YAML too, with what YAML does not print escaped."""
    return UNPRINTED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


class PackageModel:
    """A package as MLflow asks it."""

    def __init__(self, folder: Path) -> None:
        from trilho_runtime.package import open_package

        self._kept = _without_added(folder)
        self.package = open_package(Path(self._kept.name) if self._kept else folder)
        self.predictor = self.package.load()

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Predict rows: a table of pandas, columns by name, a list of objects, or an array in the fields' order.

        Gives an array of one number a row, or a table of the classes' probabilities. Raises RowError for a value that
        the signature does not allow, as the server does.
        """
        found = self._scores(model_input)
        outputs = self.predictor.outputs
        if outputs.kind != "probabilities":
            return found
        import pandas as pd

        index = model_input.index if isinstance(model_input, pd.DataFrame) else None
        return pd.DataFrame(found, columns=[str(label) for label in outputs.classes], index=index)

    def _scores(self, given: Any) -> Any:
        import pandas as pd

        if isinstance(given, Sequence) and not isinstance(given, str):
            return np.asarray(self.predictor.predict(self.predictor.signature.rows_of(list(given))), np.float64)
        frame = given if isinstance(given, pd.DataFrame) else self._frame(given)
        if self.package.batch_only:
            return self.predictor.predict_frame(frame)
        return self.predictor.predict_columns(_columns(self.predictor.signature, frame))

    def _frame(self, given: Any) -> Any:
        import pandas as pd

        if isinstance(given, Mapping):
            single = all(np.ndim(value) == 0 for value in given.values())
            return pd.DataFrame({name: [value] if single else value for name, value in given.items()})
        names = [field.name for field in self.predictor.signature.fields]
        array = np.asarray(given)
        return pd.DataFrame(array.reshape(len(array), -1) if array.ndim != 2 else array, columns=names)


def _columns(signature: Signature, frame: Any) -> dict[str, Any]:
    """Check a table of pandas, and give the columns of the signature."""
    from trilho_runtime.schema.casting import Given, cast_columns

    given = {field.name: _given(frame[field.name], field) for field in signature.fields if field.name in frame.columns}
    return cast_columns(signature, {name: Given.of(*parts) for name, parts in given.items()}, len(frame))


def _given(column: Any, field: Field) -> tuple[Any, Any]:
    """Give a column's values as numpy holds them, and which are null."""
    null = column.isna().to_numpy(bool)
    if field.type in ("number", "integer") and (column.dtype.kind in "iufO" and not _holds_numbers(column, null)):
        return column.to_numpy(object), null
    if field.type in ("number", "integer"):
        return (column.to_numpy(np.float64, na_value=np.nan) if null.any() else _whole(column)), null
    if field.type == "timestamp" and column.dtype.kind == "M":
        zoned = getattr(column.dtype, "tz", None) is not None
        return (column.dt.tz_convert("UTC").dt.tz_localize(None) if zoned else column).to_numpy("datetime64[us]"), null
    values = column.astype(object).to_numpy(object, copy=True)
    values[null] = None
    if field.type == "boolean":
        values = np.array([bool(v) if isinstance(v, np.bool_) else v for v in values], object)
    return values, null


def _holds_numbers(column: Any, null: Any) -> bool:
    """Say whether what is not null are numbers; a column of objects may hold texts, or true and false."""
    if column.dtype.kind != "O":
        return True
    known = column.to_numpy(object)[~null]
    return all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in known)


def _whole(column: Any) -> Any:
    if column.dtype.kind == "O":
        return np.array(column.tolist())
    found = column.to_numpy()
    return np.array(found.tolist()) if found.dtype.kind == "O" else found


def _without_added(folder: Path) -> tempfile.TemporaryDirectory[str] | None:
    """Give a copy of a package that MLflow has put files of its own into; None where there are none."""
    if not any((folder / name).exists() for name in ADDED):
        return None
    kept = tempfile.TemporaryDirectory(prefix="trilho-")
    shutil.copytree(folder, kept.name, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*ADDED))
    return kept


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> PackageModel:
    """Open a package for MLflow, which calls this by its name. Raises PackageError for one that was changed."""
    return PackageModel(Path(path))


def write_model(package: Path, folder: Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write an MLflow model around a package: the package as its data, and its lock file as the environment.

    The package's digests are checked first.
    """
    from trilho_runtime.package import folder_digest, open_package

    opened = open_package(package)
    manifest = opened.manifest
    python = str(manifest["libraries"].get("python", ""))
    shutil.copytree(package, folder / "package")
    lock = opened.read("lock.txt") if "lock.txt" in manifest["files"] else b""
    (folder / "requirements.txt").write_bytes(lock)
    lines = [f"python: {python}", "build_dependencies:", "- pip", "dependencies:", "- -r requirements.txt"]
    (folder / "python_env.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    about = {"trilho_digest": folder_digest(package), **(metadata or {})}
    text = mlmodel_text(
        opened.signature,
        Outputs.from_manifest(manifest),
        name=manifest["name"],
        python=python,
        data="package",
        env="python_env.yaml",
        metadata=about,
    )
    (folder / MLMODEL).write_text(text, encoding="utf-8")
