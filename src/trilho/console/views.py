"""What each page shows, gathered from the source; the templates only lay it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trilho.console.charts import Chart, evidence_chart, metric_chart, rows_chart
from trilho.console.features import FeatureRow, feature_rows
from trilho.console.history import History, history
from trilho.console.source import Source
from trilho.console.timeline import Event, timeline
from trilho.core.projection import Incident, ModelState, Run, State
from trilho.core.readings import EndpointStatus, Reading, VersionStats
from trilho.govern.handover import ModelFacts
from trilho.govern.health import Health, measured


@dataclass
class ModelView:
    """One model as its card and its page show it; costly parts are made when they are asked for."""

    facts: ModelFacts
    health: Health

    @property
    def state(self) -> ModelState:
        """Give what the journal says."""
        return self.facts.state

    @property
    def name(self) -> str:
        """Give the model's name."""
        return self.facts.state.name

    @property
    def zone(self) -> str:
        """Give the zone in which the model's journal times are shown."""
        return self.facts.settings.timezone if self.facts.settings else "UTC"

    @property
    def endpoint(self) -> EndpointStatus | None:
        """Give the endpoint as its supervisor last saw it."""
        return self.facts.endpoint

    @cached_property
    def past(self) -> History | None:
        """Give the readings on their axis; None when there are none."""
        return history(self.state, self.facts.readings)

    @cached_property
    def metric(self) -> Chart | None:
        """Give the chart of the metric."""
        return metric_chart(self.past, name=f"metric-{self.name}") if self.past else None

    @cached_property
    def small_metric(self) -> Chart | None:
        """Give the chart of the metric for a card."""
        return metric_chart(self.past, name=f"metric-{self.name}", height=112) if self.past else None

    @cached_property
    def evidence(self) -> Chart | None:
        """Give the chart of the drift detector."""
        return evidence_chart(self.past, name=f"evidence-{self.name}") if self.past else None

    @cached_property
    def rows(self) -> Chart | None:
        """Give the chart of rows served."""
        return rows_chart(self.past, name=f"rows-{self.name}") if self.past else None

    @cached_property
    def features(self) -> list[FeatureRow]:
        """Give drift by feature, the furthest moved first."""
        return feature_rows(self.past) if self.past else []

    @property
    def newest(self) -> Reading | None:
        """Give the newest reading that was measured with labels, of any version."""
        return measured(self.facts.readings)

    @property
    def traffic(self) -> VersionStats:
        """Give the endpoint's counts over all versions; the slowest version's latency."""
        stats = list(self.endpoint.stats.values()) if self.endpoint else []
        slowest = [x.p95_ms for x in stats if x.p95_ms is not None]
        return VersionStats(
            requests=sum(x.requests for x in stats),
            errors=sum(x.errors for x in stats),
            rows=sum(x.rows for x in stats),
            p95_ms=max(slowest, default=None),
        )

    @property
    def events(self) -> list[Event]:
        """Give the model's story, newest first."""
        return timeline(self.state)

    @property
    def runs(self) -> list[Run]:
        """Give the runs, newest first."""
        return list(reversed(self.state.runs.values()))

    @property
    def incidents(self) -> list[Incident]:
        """Give the incidents, the open ones first, then newest first."""
        newest_first = list(reversed(self.state.incidents.values()))
        return sorted(newest_first, key=lambda x: x.closed is not None)


def model_view(source: Source, state: State, name: str, now: str) -> ModelView:
    """Gather one model."""
    facts = ModelFacts(
        state=state.model(name),
        readings=source.readings(name),
        labels=source.labels(name),
        endpoint=source.endpoint(name),
        settings=source.settings(name),
    )
    return ModelView(facts, facts.health(now))


def names(source: Source, state: State) -> list[str]:
    """Name every model, from the platform and from the journal."""
    return list(dict.fromkeys([*source.models(), *state.models]))


def find_run(state: State, run: str) -> tuple[ModelState, Run] | None:
    """Find a run and the model it belongs to."""
    return next(((m, m.runs[run]) for m in state.models.values() if run in m.runs), None)


def find_incident(state: State, incident: str) -> tuple[ModelState, Incident] | None:
    """Find an incident and the model it belongs to."""
    return next(((m, m.incidents[incident]) for m in state.models.values() if incident in m.incidents), None)


def tally(views: Sequence[ModelView]) -> list[tuple[str, str, int]]:
    """Count models by level, worst first: (level, word, how many)."""
    found: dict[str, tuple[str, int]] = {}
    for view in views:
        found[view.health.level] = (view.health.word, found.get(view.health.level, ("", 0))[1] + 1)
    return [(level, word, number) for level, (word, number) in found.items()]


def around(readings: Sequence[Reading], first: str, last: str, room: int = 20) -> list[Reading]:
    """Give the readings from `room` windows before one window to `room` after another."""
    starts = [i for i, x in enumerate(readings) if first <= x.window_start and x.window_end <= last]
    if not starts:
        return list(readings[-3 * room :])
    return list(readings[max(0, starts[0] - room) : starts[-1] + room + 1])


def lineage(view: ModelView, manifests: dict[int, dict[str, Any] | None]) -> list[dict[str, Any]]:
    """Give the versions, newest first, each with its run, data, gate and package."""
    return [
        {
            "version": version,
            "run": view.state.runs.get(version.run),
            "dataset": view.state.datasets.get(version.dataset),
            "manifest": manifests.get(version.number),
            "share": view.state.shares.get(version.number),
        }
        for version in sorted(view.state.versions.values(), key=lambda v: -v.number)
    ]
