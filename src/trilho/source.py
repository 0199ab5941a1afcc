"""What the console shows of several projects, read from their journal, readings, logs and endpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from trilho.config import Settings
from trilho.core.projection import State
from trilho.core.readings import EndpointStatus, LabelStatus, Reading
from trilho.core.records import Payload
from trilho.errors import DataError, UsageError
from trilho.project import Project
from trilho.watch.alerts.outbox import Outbox
from trilho.watch.exports.metrics import Watching


class ProjectSource:
    """The console's Source over projects that share a home; without `others`, over theirs alone."""

    def __init__(self, projects: Sequence[Project], *, others: bool = True) -> None:
        self._others = others
        self._projects = {project.name: project for project in projects}
        self._first = projects[0]
        self._readings: dict[str, tuple[int, dict[tuple[str, int], Reading]]] = {}

    def renew(self, project: Project) -> None:
        """Show a project with the settings that it has now."""
        self._projects[project.name] = project

    def state(self) -> State:
        """Give the journal's fold."""
        state = self._first.reader.state()
        if self._others:
            return state
        return replace(state, models={name: model for name, model in state.models.items() if name in self._projects})

    def head(self) -> str:
        """Give the journal's head, position and hash."""
        return str(self._first.journal.head())

    def models(self) -> Sequence[str]:
        """Name the models of these projects, and those that only the journal knows."""
        return sorted({*self._projects, *self.state().models})

    def readings(self, model: str) -> Sequence[Reading]:
        """Give a model's readings, oldest first; only those that have changed since are read anew."""
        store = self._first.watch_store
        newest, (mark, known) = store.mark(model), self._readings.get(model, (0, {}))
        if newest < mark:  # another file
            mark, known = 0, {}
        if newest != mark:
            changed = {(x.window_start, x.version): x for x in store.readings(model, after=mark)}
            known = dict(sorted({**known, **changed}.items()))
            self._readings[model] = newest, known
        return list(known.values())

    def labels(self, model: str) -> LabelStatus | None:
        """Say how far labels have arrived."""
        project = self._projects.get(model)
        return project.log.labels() if project else None

    def endpoint(self, model: str) -> EndpointStatus | None:
        """Give the endpoint as its supervisor last saw it."""
        project = self._projects.get(model)
        return project.endpoint() if project else None

    def settings(self, model: str) -> Settings | None:
        """Give a model's settings, where its project is at hand."""
        project = self._projects.get(model)
        return project.settings if project else None

    def package(self, model: str, version: int) -> dict[str, Any] | None:
        """Give the manifest of a version's package, where it is at hand."""
        project = self._projects.get(model)
        if project is None:
            return None
        try:
            manifest: dict[str, Any] = json.loads((project.package(version) / "manifest.json").read_text("utf-8"))
        except (DataError, UsageError, OSError, ValueError):
            return None
        return manifest

    def tail_log(self, run: str, task: str) -> str:
        """Give the kept output of a run's task, empty where there is none."""
        try:
            return self._first.tail_log(run, task)
        except UsageError:
            return ""

    def watching(self, model: str) -> Watching | None:
        """Say how a model's watcher fares, where its project is at hand."""
        project = self._projects.get(model)
        if project is None:
            return None
        box = Outbox.of(project.settings, project.home)
        try:
            passed = (project.home / "watch" / f"{model}.passed").stat().st_mtime
        except OSError:
            passed = None
        return Watching(len(box.waiting(model)), len(box.dead(model)), passed)

    def acknowledge(self, model: str, incident: str, actor: str, why: str) -> None:
        """Record that somebody has taken an incident up."""
        self._project(model).acknowledge(incident, why, actor=actor)

    def act(self, model: str, payload: Payload, actor: str) -> None:
        """Record what a person did about an incident."""
        self._project(model).record(payload, actor=actor)

    def _project(self, model: str) -> Project:
        project = self._projects.get(model)
        if project is None:
            raise UsageError(f"{model} is not run here", hint="trilho up DIR names its project")
        return project
