"""A training as it is handed on: what it is given, what is about to run, what it left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trilho.config import Settings
from trilho.core.ports import ArtifactStore
from trilho.core.records import DatasetVersioned, RunState, TaskResult
from trilho.data.version import Dataset
from trilho.errors import TrilhoError
from trilho.pipeline.workers.workers import Workers


@dataclass(frozen=True, kw_only=True)
class TrainContext:
    """What a training needs of the project around it; what happened goes out through `record`."""

    settings: Settings
    project: Path
    source: Path
    home: Path
    store: ArtifactStore
    python: Path
    sources: list[Path] | Callable[[], list[Path]]
    served: Path | None
    """Rows that were served and labelled since; the file is removed once the store has it."""
    champion_package: Path | None
    first_dataset: DatasetVersioned | None
    run_id: str
    trigger: str
    commit: str | None
    commit_time: str | None
    record: Callable[..., None]
    on_task: Callable[[TaskResult], None] = lambda _: None
    datasets: frozenset[str] = frozenset()
    """Dataset versions that were recorded before; they are not recorded again."""
    running: tuple[str, ...] = ()
    """Runs that have no end on record; those whose runner is gone get one."""
    workers: Workers | None = None
    stop: threading.Event | None = None
    image: str | None = None
    """The project's image, where the pipeline is to run elsewhere."""
    runner: str = "local"
    place: str | None = None
    """The job's full name there; None on this machine."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training that is about to run: its compiled pipeline, and what this run of it is given."""

    run: str
    document: Mapping[str, Any]
    """The pipeline as a KFP v2 PipelineSpec."""
    parameters: Mapping[str, Any]
    """With `store` and `champion_uri` as places on this machine."""
    dataset: Dataset
    """The dataset version, whose files are in the store."""
    champion: str | None
    """The champion's package's digest, which is in the store."""
    about: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training left. Without a package it has failed, and `problem` says why."""

    run: str
    state: RunState
    tasks: list[TaskResult]
    seconds: float
    metric: str
    dataset: str | None = None
    data_until: str | None = None
    train_until: str | None = None
    history: str | None = None
    candidates: int = 1
    """How many models the one that is kept was chosen from, on the held-out rows."""
    package: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    predictions: Path | None = None
    champion_predictions: Path | None = None
    holdout: Path | None = None
    """The held-out rows, where the gate slices them."""
    commit: str | None = None
    commit_time: str | None = None
    problem: TrilhoError | None = None

    @property
    def error(self) -> str | None:
        """The problem in words, with a failed step's own output."""
        return str(self.problem) if self.problem is not None else None
