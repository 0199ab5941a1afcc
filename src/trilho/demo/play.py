"""Later periods, played against running servers in the order in which they happened.

Time is the data's own: a window of rows is served, the labels of the window before it arrive, and the clock waits for
the watcher to have read them and for a retraining to end, since a minute here stands for weeks there.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from trilho.demo.client import Answer, Client, Row
from trilho.errors import Unreachable
from trilho.project import Project
from trilho.watch.performance import measure

PATIENCE_SECONDS = 120.0


@dataclass
class Period:
    """One later period: what both models answered, held against what came true."""

    name: str
    value: list[float] = field(default_factory=list)
    managed: list[float] = field(default_factory=list)
    static: list[float] = field(default_factory=list)

    def score(self, metric: str, which: str) -> float | None:
        """Give the metric of the `managed` or the `static` model's answers; None without any."""
        predictions = np.array(getattr(self, which))
        return measure(metric, predictions, np.array(self.value)).value if len(predictions) else None


@dataclass(frozen=True)
class Window:
    """Rows of one stretch of event time, with what came true."""

    period: str
    start: datetime
    rows: list[Row]
    values: list[float]


def read_windows(files: list[Path], time_column: str, target: str, length: timedelta) -> Iterator[Window]:
    """Cut later files into windows of event time, in order; a period's last window ends with its file."""
    for file in files:
        columns, records = _read(file, time_column)
        at, truth = columns.index(time_column), columns.index(target)
        batch: list[tuple[Any, ...]] = []
        edge: datetime | None = None
        for record in records:
            start = _floor(record[at], length)
            if edge is not None and start != edge:
                yield _window(file.stem, edge, columns, batch, truth)
                batch = []
            edge = start
            batch.append(record)
        if edge is not None:
            yield _window(file.stem, edge, columns, batch, truth)


def _read(file: Path, time_column: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    with duckdb.connect() as connection:
        name = time_column.replace('"', '""')
        cursor = connection.execute(f'SELECT * FROM read_parquet(?) ORDER BY "{name}"', [str(file)])  # noqa: S608
        return [column[0] for column in cursor.description or []], cursor.fetchall()


def _floor(moment: datetime, length: timedelta) -> datetime:
    seconds = length.total_seconds()
    stamp = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    return datetime.fromtimestamp(stamp // seconds * seconds, UTC)


def _window(period: str, start: datetime, columns: list[str], batch: list[tuple[Any, ...]], truth: int) -> Window:
    rows: list[Row] = [{name: _json(x) for i, (name, x) in enumerate(zip(columns, record, strict=True)) if i != truth}
            for record in batch]  # fmt: skip
    return Window(period, start, rows, [float(record[truth]) for record in batch])


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Player:
    """Plays one project's later periods."""

    def __init__(self, project: Project, address: str, static_address: str, alive: Callable[[], None]) -> None:
        self.project = project
        self.managed, self.static = Client(address), Client(static_address)
        self.alive = alive  # raises when the platform has ended
        self.periods: dict[str, Period] = {}
        self.champions: dict[str, int] = {}  # the version that answered a period's last row
        self._waiting: list[tuple[str, float]] = []  # labels of the window before, on their way
        self._served = self._labelled = 0

    def play(self, windows: Iterator[Window], on_window: Callable[[Window, Period], None]) -> None:
        """Serve all windows, then the labels of the last one."""
        for window in windows:
            period = self.periods.setdefault(window.period, Period(window.period))
            self._serve(window, period)
            on_window(window, period)
        self._send_labels([])
        self._wait()

    def _serve(self, window: Window, period: Period) -> None:
        self.alive()
        answers = self.managed.play(window.rows)
        static = self._ask_static(window.rows)
        for row in zip(answers, static, window.values, strict=True):
            if row[0] is not None and row[1] is not None:
                period.managed.append(row[0].prediction)
                period.static.append(row[1].prediction)
                period.value.append(row[2])
        answered = [answer for answer in answers if answer is not None]
        self._served += len(answered)
        if answered:
            self.champions[period.name] = answered[-1].version
        pairs = zip(answers, window.values, strict=True)
        self._send_labels([(answer.id, value) for answer, value in pairs if answer is not None])
        self._wait()

    def _ask_static(self, rows: list[Row]) -> list[Answer | None]:
        return [
            answer for start in range(0, len(rows), 200) for answer in self.static.predict(rows[start : start + 200])
        ]

    def _send_labels(self, next_labels: list[tuple[str, float]]) -> None:
        if self._waiting:
            self.managed.label(self._waiting)
            self._labelled += len(self._waiting)
        self._waiting = next_labels

    def _wait(self) -> None:
        """Hold the clock until the watcher has read what was served, and no retraining or start is under way."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (self._read_up() and self._settled()):
            self.alive()
            if time.monotonic() > deadline:
                raise Unreachable(
                    f"{self.project.name}: the watcher has not caught up in {PATIENCE_SECONDS:.0f} seconds",
                    hint=f"see {self.project.home / 'platform.log'}",
                )
            time.sleep(0.01)

    def _settled(self) -> bool:
        state = self.project.state()
        if state.retraining is not None:
            return False
        if state.rollout is None:
            return True
        endpoint = self.project.endpoint()
        return endpoint is not None and endpoint.versions.get(state.rollout.version) == "ready"

    def _read_up(self) -> bool:
        progress = read_progress(self.project.home, self.project.name)
        return bool(progress.get("served", 0) >= self._served and progress.get("labelled", 0) >= self._labelled)


def read_progress(home: Path, model: str) -> dict[str, Any]:
    """Give how far a model's watcher has read: rows `served`, rows `labelled`."""
    try:
        progress: dict[str, Any] = json.loads((home / "watch" / f"{model}.json").read_text())
    except (OSError, ValueError):
        return {}
    return progress
