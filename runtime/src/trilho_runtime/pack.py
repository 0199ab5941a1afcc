"""The packing step: a training run's model, tables and predictions become a model package, proven before it is kept.

It is written as every package is; the proof asks it, in JSON rows, alone and together, for predictions that the
training run already made.
"""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.fit import check_entity, features_of, make_features, read_rows
from trilho_runtime.history import History
from trilho_runtime.model.draft import Draft, write
from trilho_runtime.model.importing import use_code
from trilho_runtime.model.manifest import CODE, PackageError
from trilho_runtime.model.outputs import of_task
from trilho_runtime.model.proof import prove, prove_table
from trilho_runtime.model.signing import SIGNING_KEY, sign
from trilho_runtime.model.sources import copy_code
from trilho_runtime.model.validation import arrays, bins_of, validation
from trilho_runtime.package import open_package
from trilho_runtime.profile import Reference
from trilho_runtime.schema.signature import Signature
from trilho_runtime.step import In, Model, Out, StepError, Table, source_folder, step

__all__ = ["Packed", "arrays", "pack"]
VALIDATION_ROWS = 20_000
SAMPLE_ROWS = 50
TRIED_ROWS = 2_000  # held-out rows on which what was compiled or stored is held against the model
NEWEST_ROWS = 20_000  # of the held-out rows the sample is taken from these where the history has to reach back to it


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
    chosen = _chosen(held, told, 0 if batch_only else SAMPLE_ROWS, time if past_rows else "")
    kept = None
    if past_rows:
        kept = _history(signature, (train, holdout), chosen, target=target, time=time, entity=entity, rows=past_rows)
    reference = _reference(trained, held, time, window_seconds, {*ignore, key, time, target})
    lineage = {"dataset": dataset, "run": run, "commit": commit}
    lineage |= {"data_until": data_until, "train_until": train_until, "history": history}
    try:
        own = _take_code(Path(source) if source else source_folder(), folder)
        pickled = model.path.read_bytes()
        draft = Draft(
            name=name,
            target=target,
            model=pickle.loads(pickled),  # noqa: S301  the run's own artifact
            pickled=pickled,
            features=features,
            signature=signature,
            outputs=of_task(task),
            rows=signature.rows(held.iloc[chosen]),
            scores=told["prediction"].to_numpy()[chosen],
            own=own,
            reference=reference,
            validation=_validation(task, told, held, reference),
            history=kept,
            metrics=metrics,
            lineage={name: value or None for name, value in lineage.items()},
            time=time,
            key=key,
            batch_only=batch_only,
            **({} if past_rows or batch_only else _tried(held, told, features)),
        )
        manifest = write(draft, folder)
        if os.environ.get(SIGNING_KEY):
            sign(folder, os.environ[SIGNING_KEY])
        finished = open_package(folder, ())
        rows = prove_table(finished, held, told) if batch_only else prove(finished)["rows"]
    except PackageError as error:
        raise StepError(str(error)) from error
    return Packed(len(manifest["files"]), rows)


def _take_code(source: Path, folder: Path) -> dict[str, Path]:
    """Copy the project's code into the package and import it from there, as every later reader will."""
    copy_code(source, folder / CODE)
    files = [path.relative_to(folder).as_posix() for path in (folder / CODE).rglob("*") if path.is_file()]
    from trilho_runtime.model.manifest import digest_of

    use_code(folder, {name: digest_of(folder / name) for name in files})
    return {path.stem if path.is_file() else path.name: path for path in (folder / CODE).iterdir()}


def _tried(held: Any, told: Any, features: str) -> dict[str, Any]:
    """Give rows on which what was stored and compiled is held against the model, and what it predicted for them."""
    places = slice(None, None, -(-len(held) // TRIED_ROWS))
    frame = held.iloc[places].reset_index(drop=True)
    made = make_features(features_of(features), frame, features)
    return {"frame": frame, "given": made, "answers": told["prediction"].to_numpy()[places]}


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


def _validation(task: str, told: Any, held: Any, reference: Reference) -> bytes:
    newest, rows = told.tail(VALIDATION_ROWS), held.tail(VALIDATION_ROWS)
    bins = bins_of(reference, {str(name): rows[name].to_numpy() for name in rows.columns})
    moment = newest["time"].to_numpy().astype("datetime64[us]")
    seconds = np.where(np.isnat(moment), np.nan, moment.astype(np.int64) / 1e6)
    prediction, value = (np.asarray(newest[name].to_numpy(), np.float64) for name in ("prediction", "value"))
    return validation(of_task(task), prediction, value, seconds, bins)


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
