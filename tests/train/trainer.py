"""A trainer of the line project: it trains over and over, and keeps what was told and recorded."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests import line_project

from trilho.backends.local.store import LocalStore
from trilho.config import load_settings
from trilho.core.records import Payload, RunEnded, TaskResult
from trilho.pipeline.places import Places
from trilho.pipeline.workers.workers import Workers
from trilho.train.training import TrainContext

SETTINGS = """[train]
holdout = "last 10 days"
history = "auto"
"""
TOML = line_project.TOML + SETTINGS


class Trainer:
    """Trains a project over and over, and keeps what was told and recorded."""

    def __init__(self, project: Path, home: Path, python: Path, workers: Workers) -> None:
        self.project, self.home, self.python, self.workers = project, home, python, workers
        self.store = LocalStore(home / "store")
        self.records: list[Payload] = []
        self.tasks: dict[str, TaskResult] = {}
        self.count = 0

    def context(self, **changes: Any) -> TrainContext:
        self.count += 1
        self.records, self.tasks = [], {}
        settings = load_settings(self.project)
        context = TrainContext(
            settings=settings,
            project=self.project,
            source=self.project / "src",
            home=self.home,
            store=self.store,
            python=self.python,
            sources=[self.project / settings.data.source],
            served=None,
            champion_package=None,
            first_dataset=None,
            run_id=f"r{self.count}",
            trigger="a person",
            commit="abc",
            commit_time=None,
            record=lambda *payloads: self.records.extend(payloads),
            on_task=lambda task: self.tasks.__setitem__(task["name"], task),
            workers=self.workers,
        )
        return replace(context, **changes)

    @property
    def states(self) -> dict[str, str]:
        return {name: task["state"] for name, task in self.tasks.items()}

    @property
    def kinds(self) -> list[type[Payload]]:
        return [type(payload) for payload in self.records]

    @property
    def end(self) -> RunEnded:
        (found,) = [payload for payload in self.records if isinstance(payload, RunEnded)]
        return found


def workers_of(project: Path, python: Path, home: Path) -> Workers:
    places = Places(python=python, source=project / "src", folder=project, platform=Path(sys.executable))
    return Workers(places, home)
