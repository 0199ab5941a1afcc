"""The pipeline's part of the check: a dataset version, then the runtime's own fit, predict and pack steps, compiled and
executed as a training is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trilho.adopt.parity.store import CheckStore
from trilho.config import Settings
from trilho.core.ports import ArtifactStore
from trilho.data.contract import Contract
from trilho.data.tables import database, name, text
from trilho.data.version import load_table, version_data
from trilho.errors import DataError
from trilho.pipeline.compile.compiler import compile_definition
from trilho.pipeline.definition.document import Definition, linked, read_interfaces
from trilho.pipeline.execution.execute import execute
from trilho.pipeline.ir.reader import read
from trilho.pipeline.places import Places
from trilho.pipeline.rules.check import require_sound
from trilho_runtime.pipeline import Pipeline
from trilho_runtime.step import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROW = "__row__"  # the position of a row in the table as the notebook read it
RUNTIME = "trilho_runtime"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What the pipeline left: its predictions by row, and the package."""

    predictions: dict[int, float] = field(default_factory=dict)
    package: Path
    digest: str


def train_and_pack(
    project: Path,
    settings: Settings,
    *,
    python: Path,
    folder: Path,
    steps: dict[str, str],
    metrics: dict[str, float],
    whole: bool,
    newest: int = 0,
) -> Trained:
    """Version the loaded rows, fit to those of the notebook, predict the sample, pack. Raises TrilhoError.

    `folder` holds what the harness left. `whole` predicts all rows together, where one needs the others. A model of
    lags ([history]) is asked for the `newest` rows of the sample after those before them.
    """
    store = CheckStore(folder / "store")
    asked = _tables(folder, settings, store, whole=whole, newest=newest)
    source = project / "src" if (project / "src").is_dir() else project
    pipeline = _pipeline(settings, folder, steps, metrics, whole)
    definition = linked(Definition.read(pipeline.definition()), source)
    interfaces = read_interfaces(definition, source)
    require_sound(definition, interfaces)
    document = compile_definition(definition, interfaces, image=f"trilho.local/{settings.model.name}")
    result = execute(
        read(document),
        {},
        run_id="parity",
        home=folder / "home",
        store=store,
        places=Places(python=python, source=source, folder=project, platform=Path(sys.executable)),
        timeout=settings.train.timeout,
    )
    if result.error is not None:
        raise result.error
    digest = result.artifacts["pack.package"]
    found = _predicted(store.path(result.artifacts["predict.predictions"]))
    rows = dict(zip(asked.tolist(), found, strict=True))
    return Trained(predictions=rows, package=store.path(digest), digest=digest)


def _pipeline(
    settings: Settings, folder: Path, steps: dict[str, str], metrics: dict[str, float], whole: bool
) -> Pipeline:
    model, timeout = settings.model, round(settings.train.timeout.total_seconds())
    code = [reference for reference in (steps["features"], steps["train"]) if reference]
    common = {"target": model.target, "task": model.task, "features": steps["features"]}
    time, past = model.time or "", settings.history
    looks = {"past_rows": past.rows, "entity": past.entity} if past.rows else {}
    pipeline = Pipeline("parity")
    pipeline.artifact("train", uri=str(folder / "train.parquet"), kind=Table)
    pipeline.artifact("asked", uri=str(folder / "asked.parquet"), kind=Table)
    if past.rows:
        pipeline.artifact("past", uri=str(folder / "past.parquet"), kind=Table)
    pipeline.task(
        "fit", f"{RUNTIME}.fit:fit", arguments={"table": "train", "train": steps["train"], **common, **looks},
        code=code, timeout_seconds=timeout,
    )  # fmt: skip
    before = {"past": "past"} if past.rows else {}
    pipeline.task(
        "predict", f"{RUNTIME}.fit:{'predict_after' if past.rows else 'predict'}",
        arguments={"model": "fit.model", **before, "table": "asked", "time": time, **common},
        code=code, timeout_seconds=timeout,
    )  # fmt: skip
    tables = {
        "model": "fit.model",
        "train": before.get("past", "train"),
        "holdout": "asked",
        "predictions": "predict.predictions",
    }
    told: dict[str, Any] = {"name": model.name, "time": time, "key": model.key or "", "ignore": settings.watch.ignore}
    told |= {"window_seconds": settings.watch.window.total_seconds(), "metrics": metrics, "batch_only": whole, **looks}
    pipeline.task(
        "pack", f"{RUNTIME}.pack:pack", arguments={**tables, **told, **common}, code=["*"], timeout_seconds=timeout
    )
    return pipeline


def _tables(folder: Path, settings: Settings, store: ArtifactStore, *, whole: bool, newest: int) -> NDArray[np.int64]:
    """Write the rows that are fitted to, in the notebook's order, and those that are asked for; give the latter's
    positions. Both come from a dataset version, as they do in a training."""
    import numpy as np

    model = settings.model
    dataset = version_data(
        [folder / "rows.parquet"], store, time=model.time, key=model.key, target=model.target, served=None,
        contract=Contract(),
    )  # fmt: skip
    load_table(dataset.digest, store, folder / "dataset.parquet")
    sample, fit_rows = np.load(folder / "sample.npy"), np.load(folder / "fit_rows.npy")
    _write(folder / "dataset.parquet", folder / "train.parquet", fit_rows)
    asked = _all_rows(folder / "dataset.parquet") if whole else sample[: newest or len(sample)]
    if newest:
        _write(folder / "dataset.parquet", folder / "past.parquet", _rows_before(folder, model.time or "", asked))
    _write(folder / "dataset.parquet", folder / "asked.parquet", asked)
    np.save(folder / "asked.npy", asked)
    return asked


def _write(table: Path, out: Path, rows: NDArray[np.int64]) -> None:
    import numpy as np

    wanted = {"wanted": rows, "place": np.arange(len(rows), dtype=np.int64)}
    with database() as connection:
        connection.register("chosen", wanted)
        query = (
            f"SELECT t.* EXCLUDE ({ROW}) FROM chosen JOIN read_parquet({text(table)}) t ON t.{ROW} = chosen.wanted"  # noqa: S608
            " ORDER BY chosen.place"
        )
        done = connection.execute(f"COPY ({query}) TO {text(out)} (FORMAT parquet)").fetchone()
    written = int(done[0]) if done else 0
    if written != len(rows):
        raise DataError(
            f"{len(rows) - written} of {len(rows)} rows are not in the dataset version that the project's data becomes",
            hint="model.key in trilho.toml names a column whose values repeat, perhaps",
        )


def _rows_before(folder: Path, time: str, asked: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the rows that are no later than the newest asked one, and not asked themselves, in the notebook's order."""
    import numpy as np

    table, moment = text(folder / "dataset.parquet"), name(time)
    chosen = ", ".join(map(str, asked.tolist()))
    query = (
        f"SELECT {ROW} FROM read_parquet({table}) WHERE {ROW} NOT IN ({chosen}) AND {moment} <= "  # noqa: S608
        f"(SELECT max({moment}) FROM read_parquet({table}) WHERE {ROW} IN ({chosen})) ORDER BY 1"
    )
    return np.array(_column(query), dtype=np.int64)


def _all_rows(table: Path) -> NDArray[np.int64]:
    import numpy as np

    return np.array(_column(f"SELECT {ROW} FROM read_parquet({text(table)}) ORDER BY 1"), dtype=np.int64)  # noqa: S608


def _predicted(table: Path) -> list[float]:
    return list(_column(f"SELECT prediction FROM read_parquet({text(table)}) ORDER BY row"))  # noqa: S608


def _column(query: str) -> Sequence[Any]:
    with database() as connection:
        return [row[0] for row in connection.execute(query).fetchall()]
