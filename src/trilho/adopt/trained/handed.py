"""A model as it was handed over: opened once by the interpreter that has its libraries, and described."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from trilho.adopt.parity.harness_process import HarnessFailed, run_harness
from trilho.errors import DataError, Refused, UsageError

KINDS = {
    ".joblib": "pickle",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".sav": "pickle",
    ".json": "xgboost",
    ".ubj": "xgboost",
    ".model": "xgboost",
    ".txt": "lightgbm",
    ".lgb": "lightgbm",
}
ALLOWED = ".joblib, .pkl, .json or .ubj of xgboost, .txt of lightgbm, or an MLflow model's folder"
DEEP = {".h5": "Keras", ".keras": "Keras", ".pt": "PyTorch", ".pth": "PyTorch", ".onnx": "ONNX", ".pb": "TensorFlow"}
LANDLOCK = Path(__file__).parents[1] / "capture" / "kernel" / "landlock.py"
SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Handed:
    """What is known of a model and of the sample that came with it."""

    path: Path
    digest: str  # sha256 of the file
    file: str  # the model's own file: of an MLflow folder, the one in it
    sample: Path  # the rows that it takes, as Parquet
    rows: int
    task: Literal["classification", "regression"]
    type: str  # full name of its class
    accessor: str  # code that takes the model out of what the file holds: '["model"]'
    is_booster: bool
    features: list[str]
    assumed: bool  # whether the order of the columns is only taken to be the sample's
    categories: list[str]  # text columns that the model takes as categories
    target: str  # "" where the sample has none
    classes: list[str]
    positive: str  # code of the class that counts as 1
    parameters: dict[str, str]
    predictions: list[float]
    alone: bool  # whether a row is predicted the same alone and among others
    metrics: dict[str, float]  # on the sample; whether the model knew its rows is not known
    can_refit: bool
    columns: list[dict[str, Any]]
    enforced: bool
    warnings: list[str]
    versions: dict[str, str]
    python: str

    @property
    def class_name(self) -> str:
        """The name of the model's class."""
        return self.type.rpartition(".")[2]


def inspect_model(
    path: Path, sample: Path, scratch: Path, *, python: Path, target: str = "", key: str = "", time: str = ""
) -> Handed:
    """Open a model in its own interpreter and ask it for the sample's rows; what it leaves lies in `scratch`.

    A pickle is code, and is run: writes outside `scratch` are refused where the system can. Raises UsageError for a
    file that is no model, Refused or DataError with a way out for one that no project can hold.
    """
    kind = kind_of(path)
    if not sample.is_file():
        raise UsageError(f"there is no sample {sample}", hint="--sample ROWS.csv: rows as the model takes them")
    request = {
        "path": str(path.resolve()),
        "kind": kind,
        "sample": str(sample.resolve()),
        "target": target,
        "folder": str(scratch),
        "landlock": str(LANDLOCK),
        "keep": [c for c in (key, time) if c],
        "time": time,
    }
    try:
        found = run_harness("inspect_model", request, python=python, project=scratch, seconds=SECONDS)
    except HarnessFailed as error:
        raise DataError(
            f"{path.name} cannot be inspected: {error}", hint="--python names the interpreter that made it"
        ) from None
    if "unfit" in found:
        raise Refused(
            f"{path.name}: {found['unfit']}".replace(f"{path.name}: {path.name}", path.name), hint=found["hint"]
        )
    digest = hashlib.sha256(Path(found["file"]).read_bytes()).hexdigest()
    known = {field.name for field in fields(Handed)}
    told = {name: value for name, value in found.items() if name in known}
    return Handed(path=path, digest=digest, sample=scratch / "sample.parquet", **told)


def kind_of(path: Path) -> str:
    """Say how a model's file is read, by its name. Raises UsageError for what none can be, Refused for networks."""
    if (path / "MLmodel").is_file() or (path.name == "MLmodel" and path.is_file()):
        return "mlflow"
    ending = path.suffix.lower()
    if ending in DEEP:
        raise Refused(
            f"{path.name} is a model of {DEEP[ending]}; deep learning is not adopted", hint=f"adopt one of {ALLOWED}"
        )
    if ending not in KINDS:
        what = "a folder without an MLmodel file" if path.is_dir() else f"a file that ends in {ending or 'nothing'}"
        raise UsageError(f"{path} is {what}; allowed: {ALLOWED}", hint="save the model with joblib.dump")
    if not path.is_file() and path.suffix:
        raise UsageError(f"there is no file {path}", hint="trilho adopt MODEL --sample ROWS.csv --into DIR")
    return KINDS[ending]
