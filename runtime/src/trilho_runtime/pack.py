"""The packing step: write a model package, then prove that it predicts what the training run predicted.

The same inputs give the same bytes, so that the folder's digest names the model. The proof loads the finished package
and asks it, in JSON rows, alone and together, for predictions that the training run already made.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from trilho_runtime.fit import check_entity, read_rows
from trilho_runtime.history import History
from trilho_runtime.package import (
    CODE,
    MANIFEST,
    SAMPLE,
    SCHEMA,
    TOLERANCE,
    ModelError,
    Package,
    open_package,
    versions,
)
from trilho_runtime.profile import Reference
from trilho_runtime.signature import Signature
from trilho_runtime.step import In, Model, Out, StepError, Table, source_folder, step

ESTIMATOR = "estimator.pkl"
HISTORY = "history.npz"
REFERENCE = "reference.json"
VALIDATION = "validation.npz"
LOCK = "lock.txt"
VALIDATION_ROWS = 20_000
SAMPLE_ROWS = 50
NEWEST_ROWS = 20_000  # of the held-out rows the sample is taken from these where the history has to reach back to it
ALONE = 5  # of the sample's rows, how many are proven by themselves as well
LIBRARIES = (
    *("python", "trilho-runtime", "numpy", "pandas", "pyarrow", "scipy", "scikit-learn"),
    *("xgboost", "lightgbm", "catboost", "statsmodels"),
)
NOT_CODE = {"tests", "test", "node_modules", "build", "dist"}


class Packed(NamedTuple):
    """What a package holds: its files, and the rows of its sample that it was proven on."""

    files: int
    rows_proven: int


@step(uncounted=("source", "dataset", "run", "commit", "data_until", "train_until", "history"))
def pack(
    model: In[Model],
    train: In[Table],
    holdout: In[Table],
    predictions: In[Table],
    package: Out[Model],
    name: str,
    task: str,
    target: str,
    features: str,
    metrics: dict[str, float],
    time: str = "",
    key: str = "",
    window_seconds: float = 86400.0,
    ignore: list[str] = [],  # noqa: B006  a default that is read from the text, and never changed
    source: str = "",
    dataset: str = "",
    run: str = "",
    commit: str = "",
    data_until: str = "",
    train_until: str = "",
    history: str = "",
    batch_only: bool = False,
    past_rows: int = 0,
    entity: list[str] = [],  # noqa: B006
) -> Packed:
    """Write the model package and prove it.

    With `past_rows` it carries the newest rows of each entity, of both tables, and each row of the sample is proven
    by itself with the past that it finds there, against the prediction that it had in the table.
    """
    sys.dont_write_bytecode = True
    folder = package.path
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    trained, held, told = (_raw(train, target), _raw(holdout, target), _table(predictions))
    signature = _signature(trained, held)
    shutil.copyfile(model.path, folder / ESTIMATOR)
    copy_code(Path(source) if source else source_folder(), folder / CODE)
    apart = {*ignore, key, time, target}
    (folder / REFERENCE).write_text(_reference(trained, held, time, window_seconds, apart).to_json(), encoding="utf-8")
    (folder / VALIDATION).write_bytes(_validation(told))
    chosen = _chosen(held, told, 0 if batch_only else SAMPLE_ROWS, time if past_rows else "")
    (folder / SAMPLE).write_bytes(_sample(signature, held, told, chosen))
    kept = None
    if past_rows:
        kept = _history(signature, (train, holdout), chosen, target=target, time=time, entity=entity, rows=past_rows)
        (folder / HISTORY).write_bytes(arrays(kept.to_arrays()))
    (folder / LOCK).write_text(_lock(), encoding="utf-8")
    files = {path: hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in _files(folder)}
    manifest = {
        "schema": SCHEMA,
        "name": name,
        "task": task,
        "target": target,
        "time": time or None,
        "key": key or None,
        "features": features,
        "estimator": {"file": ESTIMATOR, "format": "pickle", "class": _estimator_class(folder)},
        "signature": signature.to_json(),
        "libraries": versions(LIBRARIES),
        "metrics": metrics,
        "lineage": {
            "dataset": dataset or None,
            "run": run or None,
            "commit": commit or None,
            "data_until": data_until or None,
            "train_until": train_until or None,
            "history": history or None,
        },
        "files": files,
        **({"batch_only": True} if batch_only else {}),
        **({"history": {"file": HISTORY, **kept.to_json()}} if kept else {}),
    }
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    finished = open_package(folder)
    return Packed(len(files), prove_table(finished, held, told) if batch_only else prove(finished))


def prove(package: Package) -> int:
    """Ask the package for the sample's predictions, together and row by row, and give their number.

    Raises StepError where one differs from what the training run predicted.
    """
    rows, expected = package.sample()
    predictor = package.load()
    try:
        together = predictor.predict(rows)
    except ModelError as error:
        raise StepError(f"the sample cannot be predicted from JSON: {error}") from error
    reference = predictor.reference or "the model"
    if predictor.history is not None:  # each row is predicted by itself
        _compare(together, expected, "after its past", f"{reference} looks at more than {_seen(predictor.history)}")
        return len(expected)
    _compare(together, expected, "served as JSON", f"a feature of {reference} depends on a column's type")
    alone = [predictor.predict([row])[0] for row in rows[:ALONE]]
    _compare(alone, expected[:ALONE], "alone", f"{reference} looks at other rows than the one it describes")
    return len(expected)


def _seen(history: History) -> str:
    of = f"its {' and '.join(history.entity)}" if history.entity else "the table"
    past = f"the {history.rows} rows of {of} before that by {history.time}"
    return f"a row without its {history.target} and {past}, or the data is not in that order"


def prove_table(package: Package, rows: Any, told: Any) -> int:
    """Ask a package that answers whole tables only for the held-out table's predictions, and give their number."""
    found = package.load().predict_frame(rows)
    _compare(found, told["prediction"].to_numpy(), "by the package", "what it was packed from is not what predicted")
    return len(found)


def _compare(found: Any, expected: Any, how: str, why: str) -> None:
    wrong = np.flatnonzero(~np.isclose(found, expected, rtol=TOLERANCE, atol=1e-12))
    if len(wrong):
        row = int(wrong[0])
        fact = f"row {row} of the sample is predicted {found[row]!r} when {how}, {expected[row]!r} in the holdout table"
        raise StepError(f"{fact}: {why}")


def copy_code(source: Path, to: Path) -> None:
    """Copy a project's importable code: modules, and packages with their data; no caches, tests or environments."""
    if not source.is_dir():
        raise StepError(f"the project's code is not in {source}")
    to.mkdir()
    for path in sorted(source.iterdir()):
        if path.is_file() and path.suffix == ".py":
            shutil.copyfile(path, to / path.name)
        elif path.is_dir() and _is_code(path):
            shutil.copytree(path, to / path.name, ignore=_uncopied, copy_function=shutil.copyfile)
    if not any(to.iterdir()):
        raise StepError(f"{source} holds no Python code")


def _is_code(folder: Path) -> bool:
    if folder.name in NOT_CODE or folder.name.startswith((".", "__")) or (folder / "pyvenv.cfg").exists():
        return False
    return folder.suffix != ".egg-info" and any(folder.rglob("*.py"))


def _uncopied(folder: str, names: list[str]) -> set[str]:
    dead = {n for n in names if (Path(folder) / n).is_symlink() and not (Path(folder) / n).exists()}
    return dead | {n for n in names if n == "__pycache__" or n.startswith(".") or n.endswith((".pyc", ".pyo"))}


def _raw(table: In[Table], target: str) -> Any:
    rows, _ = read_rows(table, target)
    return rows.drop(columns=target)


def _table(table: In[Table]) -> Any:
    import pandas as pd

    return pd.read_parquet(table.path)


def _signature(*frames: Any) -> Signature:
    try:
        return Signature.infer(*frames)
    except TypeError as error:
        raise StepError(f"{error}; leave it out of the data, or cast it") from None


def _reference(trained: Any, held: Any, time: str, window_seconds: float, apart: set[str]) -> Reference:
    import pandas as pd

    rows = pd.concat([trained, held], ignore_index=True)
    columns = {str(name): rows[name].to_numpy() for name in rows.columns if name not in apart}
    return Reference.fit(columns, rows[time].to_numpy() if time else None, window_seconds)


def _validation(told: Any) -> bytes:
    newest = told.tail(VALIDATION_ROWS)
    moment = newest["time"].to_numpy().astype("datetime64[us]")
    seconds = np.where(np.isnat(moment), np.nan, moment.astype(np.int64) / 1e6)
    columns = {"time": seconds, "prediction": newest["prediction"].to_numpy(), "value": newest["value"].to_numpy()}
    return arrays({name: np.asarray(column, np.float64) for name, column in columns.items()})


def arrays(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """Give arrays as an .npz file without the time of writing, so that the same arrays are the same bytes.

    >>> arrays({"x": np.arange(3)}) == arrays({"x": np.arange(3)})
    True
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, column in columns.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, column, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, part.getvalue(), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _chosen(held: Any, told: Any, size: int, time: str) -> NDArray[np.int64]:
    """Choose held-out rows that are proven; by a time the newest ones, so that the history need not reach far back."""
    if len(held) != len(told):
        raise StepError(f"the holdout has {len(held)} rows, its predictions {len(told)}")
    places = np.arange(len(held))
    if time:
        moments = held[time].to_numpy("datetime64[us]")
        order = np.argsort(moments, kind="stable")
        places = order[~np.isnat(moments[order])][-NEWEST_ROWS:]
    at = np.unique(np.linspace(0, len(places) - 1, min(size, len(places))).astype(np.int64))
    return places[at]


def _sample(signature: Signature, held: Any, told: Any, chosen: NDArray[np.int64]) -> bytes:
    rows = signature.rows(held.iloc[chosen])
    expected = told["prediction"].to_numpy()[chosen].tolist()
    return orjson.dumps({"schema": SCHEMA, "rows": rows, "predictions": expected}, option=orjson.OPT_INDENT_2)


def _history(
    signature: Signature,
    tables: tuple[In[Table], In[Table]],
    chosen: NDArray[np.int64],
    *,
    target: str,
    time: str,
    entity: list[str],
    rows: int,
) -> History:
    """Gather the past: of what is asked next, and of the held-out rows that are proven."""
    import pandas as pd

    (trained, known), (held, told) = (read_rows(table, target) for table in tables)
    check_entity([*entity, time], held)
    if next(field.type for field in signature.fields if field.name == time) != "timestamp":
        raise StepError(f"{time} is no timestamp; past rows are found by one")
    if not len(chosen):
        raise StepError(f"no held-out row has a {time}, so that none can be proven")
    columns = signature.arrays(pd.concat([trained, held], ignore_index=True))
    asked = signature.arrays(held.iloc[chosen])
    values = np.concatenate([known, told])
    return History.fit(columns, values, target=target, time=time, entity=entity, rows=rows, asked=asked)


def _lock() -> str:
    from importlib.metadata import distributions

    found = {(str(d.metadata["Name"]).lower().replace("_", "-"), d.version) for d in distributions()}
    return "".join(f"{name}=={version}\n" for name, version in sorted(found))


def _estimator_class(folder: Path) -> str:
    """Unpickle with the package's own copy of the code in front, as every later reader will."""
    sys.path.insert(0, str((folder / CODE).resolve()))
    kind = type(pickle.loads((folder / ESTIMATOR).read_bytes()))  # noqa: S301  the run's own artifact
    return f"{kind.__module__}.{kind.__qualname__}"


def _files(folder: Path) -> Iterator[str]:
    yield from sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
