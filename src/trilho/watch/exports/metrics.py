"""The watch as metrics: each model's newest reading, its labels, incidents and alerts, and the watcher itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, get_args, runtime_checkable

from trilho.config import Settings
from trilho.core.metrics import HIGHER_IS_BETTER
from trilho.core.projection import ModelState, State
from trilho.core.readings import LabelStatus, Reading
from trilho.core.records import AlarmKind, Severity
from trilho.watch.exports.openmetrics import Family, render

MOST_FEATURES = 100  # a model's features beyond so many, the calmest, have no series of their own


class Measured(Protocol):
    """What the metrics are read from; the console's source is one."""

    def state(self) -> State:
        """Give the journal's fold."""

    def models(self) -> Sequence[str]:
        """Name the models."""

    def readings(self, model: str) -> Sequence[Reading]:
        """Give a model's readings, oldest first."""

    def labels(self, model: str) -> LabelStatus | None:
        """Say how far labels have arrived."""

    def settings(self, model: str) -> Settings | None:
        """Give a model's settings, where its project is at hand."""


@dataclass(frozen=True)
class Watching:
    """How the watcher of one model fares; `passed` is when it last came through, in seconds since 1970."""

    waiting: int
    dead: int
    passed: float | None


@runtime_checkable
class Attended(Protocol):
    """A source that also knows how its watchers fare."""

    def watching(self, model: str) -> Watching | None:
        """Say how a model's watcher fares; None where it is not at hand."""


class Board:
    """All families of one exposition, filled model by model."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._families: list[Family] = []
        self.evidence = self._family("trilho_drift_evidence", "Evidence of the drift detector after the newest window.")
        self.threshold = self._family("trilho_drift_threshold", "Evidence at which the drift detector alarms.")
        self.ratio = self._family(
            "trilho_feature_distance_ratio",
            "Distance of a feature from the reference, over what is tolerated.",
            "ratio",
        )
        self.value = self._family("trilho_metric_value", "The metric in the newest window that has labels.")
        self.low = self._family("trilho_metric_low", "Lower end of the metric's interval.")
        self.high = self._family("trilho_metric_high", "Upper end of the metric's interval.")
        self.expected = self._family("trilho_metric_expected", "The metric on the rows held out at training.")
        self.minimum = self._family("trilho_metric_minimum", "The worst acceptable value ([watch] minimum).")
        self.margin = self._family(
            "trilho_metric_margin",
            "How far the interval's better end is from the minimum; below 0 the metric misses it.",
        )
        self.labelled = self._family("trilho_labelled_ratio", "Share of the predictions that have a label.", "ratio")
        self.delay = self._family("trilho_label_delay_seconds", "Served time not labelled in full yet.", "seconds")
        self.age = self._family("trilho_reading_age_seconds", "Since the end of the newest window.", "seconds")
        self.rows = self._family("trilho_reading_rows", "Rows in the newest window.")
        self.incidents = self._family("trilho_incidents_open", "Incidents not closed, by kind and severity.")
        self.alarms = Family("trilho_alarms", "Alarms that were raised.", "counter")
        self._families.append(self.alarms)
        self.waiting = self._family("trilho_alerts_waiting", "Alerts that have not got through yet.")
        self.dead = self._family("trilho_alerts_dead", "Alerts that were given up.")
        self.passed = self._family(
            "trilho_watch_last_pass_timestamp_seconds", "When the watcher last came through.", "seconds"
        )

    def _family(self, name: str, help_text: str, unit: str = "") -> Family:
        family = Family(name, help_text, unit=unit)
        self._families.append(family)
        return family

    def add_readings(self, model: str, readings: Sequence[Reading], minimum: float | None) -> None:
        """Add the newest window, and the newest one that has labels."""
        if not readings:
            return
        last, of = readings[-1], {"model": model, "version": readings[-1].version}
        self.evidence.add(last.evidence, **of)
        self.threshold.add(last.threshold, **of)
        self.rows.add(last.rows, **of)
        self.age.add(max(0.0, (self._now - _moment(last.window_end)).total_seconds()), model=model)
        ratios = [(f.distance / f.tolerance, f.feature) for f in last.features if f.tolerance > 0]
        for ratio, name in sorted(ratios, reverse=True)[:MOST_FEATURES]:
            self.ratio.add(ratio, **of, feature=name)
        measured = next((x for x in reversed(readings) if x.value is not None), None)
        if measured is not None:
            self._add_metric(model, measured, minimum)

    def _add_metric(self, model: str, reading: Reading, minimum: float | None) -> None:
        of = {"model": model, "version": reading.version, "metric": reading.metric}
        self.value.add(reading.value, **of)
        self.low.add(reading.low, **of)
        self.high.add(reading.high, **of)
        self.expected.add(reading.expected, **of)
        self.minimum.add(minimum, **of)
        assert reading.value is not None
        if minimum is not None:
            higher = reading.metric in HIGHER_IS_BETTER
            best = reading.high if higher else reading.low
            best = reading.value if best is None else best
            self.margin.add(best - minimum if higher else minimum - best, **of)

    def add_labels(self, model: str, labels: LabelStatus, readings: Sequence[Reading]) -> None:
        """Add how far labels have come, in the time of what was served."""
        if labels.served:
            self.labelled.add(labels.labelled / labels.served, model=model)
        if readings:
            start = _moment(labels.until or readings[0].window_start)
            self.delay.add(max(0.0, (_moment(readings[-1].window_end) - start).total_seconds()), model=model)

    def add_state(self, model: str, state: ModelState) -> None:
        """Add what was found, zeros too: a series that begins at one would look as if nothing had happened."""
        open_ = Counter((x.kind, x.severity) for x in state.open_incidents)
        for pair in dict.fromkeys([*((k, s) for k in get_args(AlarmKind) for s in get_args(Severity)), *open_]):
            self.incidents.add(open_[pair], model=model, kind=pair[0], severity=pair[1])
        raised = Counter(x.kind for x in state.alarms.values())
        for kind in dict.fromkeys([*get_args(AlarmKind), *raised]):
            self.alarms.add(raised[kind], model=model, kind=kind)

    def add_watching(self, model: str, watching: Watching) -> None:
        """Add how the watcher fares."""
        self.waiting.add(watching.waiting, model=model)
        self.dead.add(watching.dead, model=model)
        self.passed.add(watching.passed, model=model)

    def render(self) -> str:
        """Give everything as OpenMetrics text."""
        return render(self._families)


def expose(source: Measured, now: datetime) -> str:
    """Give the metrics of all models of a source as OpenMetrics text."""
    board, state = Board(now), source.state()
    for model in source.models():
        readings, settings, labels = source.readings(model), source.settings(model), source.labels(model)
        board.add_state(model, state.models.get(model) or ModelState(model))
        board.add_readings(model, readings, settings.watch.minimum if settings else None)
        if labels is not None:
            board.add_labels(model, labels, readings)
        watching = source.watching(model) if isinstance(source, Attended) else None
        if watching is not None:
            board.add_watching(model, watching)
    return board.render()


def _moment(time: str) -> datetime:
    moment = datetime.fromisoformat(time)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
