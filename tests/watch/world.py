"""A prediction log and a watch store in memory, and a package's files as the watcher reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho.config import Settings
from trilho.core.ports import Columns, Gathered, Labelled
from trilho.core.readings import LabelStatus, Reading
from trilho.watch.window import moment
from trilho_runtime.profile import Reference

DAY = 86400.0
Floats = NDArray[np.float64]


class MemoryLog:
    """The PredictionLog port on lists; labels come when `label` is called, in that order."""

    def __init__(self) -> None:
        self.fields: dict[str, list[Any]] = {}
        self.time: list[float] = []
        self.version: list[int] = []
        self.prediction: list[float] = []
        self.value: list[float] = []
        self.order: list[int] = []
        self.reads = 0

    def serve(self, time: Floats, prediction: Floats, version: int = 1, **fields: NDArray[Any]) -> range:
        """Serve rows; give their positions, by which they are labelled."""
        first = len(self.time)
        self.time += time.tolist()
        self.prediction += prediction.tolist()
        self.version += [version] * len(time)
        self.value += [np.nan] * len(time)
        for name, column in fields.items():
            self.fields.setdefault(name, []).extend(column.tolist())
        return range(first, len(self.time))

    def label(self, rows: Sequence[int], values: Floats) -> None:
        """Let the truth of some rows arrive."""
        for row, value in zip(rows, values, strict=True):
            self.value[row] = float(value)
            self.order.append(row)

    def seal(self) -> int:
        return 0

    def extent(self) -> tuple[datetime, datetime] | None:
        return (moment(min(self.time)), moment(max(self.time))) if self.time else None

    def rows(self, start: datetime, end: datetime) -> Columns:
        self.reads += 1
        time = np.array(self.time)
        there = (time >= start.timestamp()) & (time < end.timestamp())
        fields = {name: np.array(column, object)[there] for name, column in self.fields.items()}
        own: dict[str, list[Any]] = {
            "_time": self.time,
            "_version": self.version,
            "_prediction": self.prediction,
            "_value": self.value,
        }
        own["_row"] = [k + 1 for k in range(len(time))]
        return {**fields, **{name: np.array(column)[there] for name, column in own.items()}}

    def gather(
        self,
        start: datetime,
        end: datetime,
        begin: Callable[[], Gathered],
        *,
        after: int = 0,
        fields: Collection[str] | None = None,
    ) -> Gathered:
        rows = self.rows(start, end)
        kept = {name: column for name, column in rows.items() if name[0] == "_" or fields is None or name in fields}
        gathered = begin()
        picked = np.flatnonzero(rows["_row"] > after)[::-1]  # in no order
        for at in range(0, len(picked), 30):
            gathered.add({name: column[picked[at : at + 30]] for name, column in kept.items()})
        return gathered

    def newest(self) -> int:
        return len(self.time)

    def late(self, after: int, before: datetime) -> Columns:
        rows = self.rows(moment(-1e11), before)
        return {name: column[rows["_row"] > after] for name, column in rows.items()}

    def labelled(self, after: int, most: int | None = None) -> Labelled:
        picked = np.array(self.order[after:][:most], np.int64)
        return Labelled(
            cursor=after + len(picked),
            time=np.array(self.time)[picked],
            version=np.array(self.version, np.int64)[picked],
            prediction=np.array(self.prediction)[picked],
            value=np.array(self.value)[picked],
        )

    def corrected(self, after: int) -> Labelled:
        return self.labelled(len(self.order))

    def labels(self) -> LabelStatus:
        return LabelStatus(served=len(self.time), labelled=len(self.order), unknown=0, repeated=0, until=None)


class MemoryStore:
    """The WatchStore port on dictionaries."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int], Reading] = {}
        self.bytes: bytes | None = None

    def save(self, model: str, readings: Sequence[Reading], memory: bytes) -> None:
        self.kept.update({(x.window_start, x.version): x for x in readings})
        self.bytes = memory

    def memory(self, model: str) -> bytes | None:
        return self.bytes

    def readings(self, model: str, since: str | None = None, until: str | None = None) -> list[Reading]:
        there = (key for key in sorted(self.kept) if key[0] >= (since or "") and (until is None or key[0] < until))
        return [self.kept[key] for key in there]


def settings(task: str = "regression", time: str | None = "ts", window: str = "1 day", **watch: Any) -> Settings:
    """Settings of a small project."""
    model = {"name": "bike", "task": task, "target": "y", "key": "id", **({"time": time} if time else {})}
    return Settings.model_validate(
        {
            "model": model,
            "data": {"source": "data.csv"},
            "steps": {"features": "bike.features:build", "train": "bike.train:fit"},
            "watch": {"window": window, **watch},
        }
    )


def write_package(
    folder: Path,
    columns: dict[str, NDArray[Any]],
    time: Floats | None,
    held: tuple[Floats, Floats, Floats],
    metrics: dict[str, float],
    window: float = DAY,
) -> Path:
    """Write what the watcher reads of a package; `held` are time, prediction, value of the held-out rows."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"schema": 1, "metrics": metrics}))
    (folder / "reference.json").write_text(Reference.fit(columns, time, window).to_json())
    np.savez(folder / "validation.npz", time=held[0], prediction=held[1], value=held[2])
    return folder


class World:
    """A model y = x + noise, 100 rows a day, in which x and the noise can move."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def day(self, k: int, shift: float = 0.0, noise: float = 1.0, rows: int = 100) -> tuple[Floats, Floats, Floats]:
        """Give times, x and y of one day; the model predicts x."""
        time = k * DAY + np.sort(self.rng.random(rows)) * DAY
        x = self.rng.standard_normal(rows) + shift
        return time, x, x + noise * self.rng.standard_normal(rows)

    def package(self, folder: Path, days: int = 60, held: int = 20, first: int = 0) -> Path:
        """Write a package trained on the first days."""
        parts = [self.day(first + k) for k in range(days)]
        time, x, y = (np.concatenate([p[i] for p in parts]) for i in range(3))
        last = slice(-held * 100, None)
        columns: dict[str, NDArray[Any]] = {"x": x, "c": self.rng.choice(["a", "b"], len(x)).astype(object)}
        return write_package(folder, columns, time, (time[last], x[last], y[last]), {"mae": 0.8})

    def serve(
        self, log: MemoryLog, k: int, version: int = 1, shift: float = 0.0, noise: float = 1.0
    ) -> tuple[range, Floats]:
        """Serve one day; give the rows and their truth."""
        time, x, y = self.day(k, shift, noise)
        return log.serve(time, x, version, x=x, c=self.rng.choice(["a", "b"], len(x)).astype(object)), y
