"""One model's watcher: reads closed windows and new labels, measures them, and says which alarms they raise.

The promise `false_alarms` is the model's total, shared by `[watch] shares` over inputs, predictions, data quality and
loss (`trilho.watch.promise`): at one a year and daily windows drift of any kind alarms for nothing once in 609 windows,
and the loss detector's run length is the labelled rows of its own share, at the traffic of training or the present one,
whichever is more (see `trilho.watch.pace`).

A window is read when event time has gone on by a tenth of it, at least a minute (without a time column a minute by the
clock), since rows do not arrive in the order of their times. Those that come even later are counted in the next window
that is read: the detector misses no row, and the reading says how many (`late`). Their labels go to their own window.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trilho.config import Settings
from trilho.core.classes import TOLD, Classes, right
from trilho.core.digest import digest_json
from trilho.core.ports import Labelled, PredictionLog, WatchStore
from trilho.core.readings import FeatureReading, Reading
from trilho.core.records import AlarmKind, AlarmRaised, Cause
from trilho.watch.drift import Cause as Moved
from trilho.watch.drift import DriftDetector
from trilho.watch.drift import Reading as Found
from trilho.watch.estimate import Estimate, Estimator
from trilho.watch.held import Held
from trilho.watch.incidents import Finding, Trials
from trilho.watch.loss import LossDetector, allowed_loss
from trilho.watch.pace import Pace
from trilho.watch.performance import Floats, losses, measure
from trilho.watch.promise import Promise
from trilho.watch.reading import DriftKind
from trilho.watch.reference import ENOUGH_WINDOWS, load_reference, watched
from trilho.watch.tally import Spans, Tallies, Tally, numbers
from trilho.watch.window import FIRST, iso, moment, words
from trilho_runtime.profile import PREDICTION, add

MEMORY = 2
AT_ONCE = 16
MOST_AT_ONCE = 4096
GRACE, LEAST_GRACE = 0.1, 60.0
LEAST_RUN = 2.0
NAMED = 5
RECENT = 200
NEVER = 1e12  # windows: a run length that is still a number
NAMES: Mapping[DriftKind, tuple[AlarmKind, str]] = {
    "inputs": ("drift", "drift"),
    "predictions": ("prediction", "drift"),
    "quality": ("quality", "data quality"),
}
LABELS_AT_ONCE = 64 * 4096
ALL_TIME = 1e15  # seconds: a window that holds all of it, before 1970 and after


@dataclass(frozen=True)
class Observation:
    """What one look at the log found: records to append, and readings that are new or have changed."""

    payloads: list[AlarmRaised]
    readings: list[Reading]
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class _Page:
    """Labels that came one after the other: after which, how many, of which windows."""

    after: int
    count: int
    windows: list[int]


class Monitor:
    """Watches one version as champion.

    `observe` may be repeated after a crash: alarm ids come from model, version, kind and window, so that a repeat is
    recognised. `commit` keeps what was learnt, once the caller has appended the payloads. A memory of an earlier
    champion, of other features or of another trilho says only how far windows and labels were read.
    """

    def __init__(self, model: str, version: int, package: Path, settings: Settings, store: WatchStore) -> None:
        self._store = store
        self.model, self.version, self.settings = model, version, settings
        self.window = settings.watch.window.total_seconds()
        regression = settings.model.task == "regression"
        self.metric = settings.gate.metric
        if self.metric == "auto":
            self.metric = "mae" if regression else "roc_auc"
        self.loss_name = "mae" if regression else "brier"
        self.classes = Classes.of(package)
        if self.classes is not None and self.metric == "roc_auc":  # of two classes only
            self.metric = "log_loss"
        self._load(package, None if regression else 1.0)
        self._next: int | None = None
        self._cursor = 0
        self._arrived: int | None = None  # the newest row when windows were last read
        self._changed: dict[tuple[str, int], Reading] = {}
        self.trials, self._findings = Trials(), list[Finding]()
        memory = store.memory(model)
        if memory is not None:
            self._recall(json.loads(memory))

    def _load(self, package: Path, bound: float | None) -> None:
        manifest = json.loads((package / "manifest.json").read_text(encoding="utf-8"))
        with np.load(package / "validation.npz") as held:
            time, prediction, value = held["time"], held["prediction"], held["value"]
        model, watch = self.settings.model, self.settings.watch
        self._package = package
        self._hidden = hidden = {
            model.target,
            model.time or "",
            model.key or "",
            *watch.ignore,
            *self.settings.serve.mask,
        }
        reference = load_reference(package / "reference.json")
        reference, allowed = watched(reference, hidden, watch.tolerance, prediction, time, self.window)
        shares = {str(kind): share for kind, share in watch.shares.items()}
        self.promise = Promise.of(watch.false_alarms, self.window, shares)
        self.drift = DriftDetector(
            reference,
            min(self.promise.drift_run_length, NEVER),
            allowed=allowed,
            weights=self.promise.weights if any(self.promise.weights.values()) else None,
            window=self.window,
        )
        rate = self.promise.rate_of("loss")
        self._certain = self.classes is not None and manifest["outputs"]["kind"] == "class"
        certain, came = (np.ones(len(value)), prediction == value) if self._certain else (prediction, value)
        self.limit = allowed_loss(losses(self.loss_name, certain, came), watch.degradation, bound)
        reached = reference.windows * reference.window_seconds
        rows_a_second = reference.rows / reached if reached else 1 / self.window
        self.pace = Pace(rows_a_second, rows_a_second * self.window)
        self._of = {
            "drift": digest_json([reference.to_json(), watch.tolerance]),
            "loss": digest_json([self.loss_name, self.limit and asdict(self.limit)]),
        }
        self.loss: LossDetector | None = None
        if self.limit is not None and rate > 0:
            self.loss = LossDetector.of(self.limit, max(rows_a_second / rate, LEAST_RUN))
        known = manifest.get("metrics", {}).get(self.metric)
        if known is None and self.classes is None:
            known = measure(self.metric, prediction, value).value
        self.expected = known

    def notes(self) -> list[str]:
        """Say what is watched less well than it should be, and why; nothing where all is well."""
        learnt = [a.learnt for a in self.drift.allowances]
        windows, notes = self.drift.reference.windows, []
        if "floor" in learnt:
            notes.append(f"the reference has {windows} windows, {ENOUGH_WINDOWS} are needed to learn natural variation")
        if "shown" in learnt:
            notes.append("drift of predictions is shown but raises no alarm: only held-out rows are there to compare")
        if self.limit is None:
            notes.append("losses are not watched: too few held-out rows to say what is allowed")
        elif self.loss is None:
            notes.append("losses are not watched: [watch] shares gives them nothing")
        return [*notes, *self.drift.notes()]

    # ---- one look ------------------------------------------------------------------------------------------------

    def observe(self, log: PredictionLog, now: datetime | None = None) -> Observation:
        """Read the windows that have closed and the labels that have come since the last look."""
        self._changed, self._findings = {}, []
        extent = log.extent()
        if extent is None:
            return Observation([], [])
        now = now or datetime.now(UTC)
        newest = (min(extent[1], now) if self.settings.model.time else now).timestamp()
        oldest, pages = extent[0].timestamp(), list(self._pages(log))
        payloads = self._read_closed(log, oldest, newest)
        self._refresh(log, {window for page in pages for window in page.windows})
        payloads += self._learn_all(log, pages, oldest, newest)
        return Observation(payloads, list(self._changed.values()), self._findings)

    def commit(self) -> None:
        """Keep the readings and the memory of the last look; the caller has appended its payloads before."""
        self._store.save(self.model, list(self._changed.values()), self.memory())
        self._changed = {}

    def memory(self) -> bytes:
        """Give what a restarted watcher goes on from."""
        data = {
            "schema": MEMORY,
            "version": self.version,
            "window": self.window,
            "next": self._next,
            "cursor": self._cursor,
            "arrived": self._arrived,
            "of": self._of,
            "drift": self.drift.state(),
            "loss": self.loss.state() if self.loss else None,
            "pace": self.pace.state(),
            "trials": self.trials.state(),
        }
        return json.dumps(data, separators=(",", ":")).encode()

    def _recall(self, data: dict[str, Any]) -> None:
        self._cursor, self._arrived = data.get("cursor", 0), data.get("arrived")
        if data.get("next") is not None:
            self._next = int(data["next"] * data["window"] // self.window)
        of = data.get("of", {})
        if data["schema"] != MEMORY or data["version"] != self.version or data["window"] != self.window:
            return
        if of["drift"] == self._of["drift"]:
            self.drift.restore(data["drift"])
            self.trials = Trials.restore(data.get("trials", {}))
        if self.loss and of["loss"] == self._of["loss"]:
            self.loss.restore(data["loss"])
            self.pace.restore(data["pace"])

    # ---- windows -------------------------------------------------------------------------------------------------

    def _read_closed(self, log: PredictionLog, oldest: float, newest: float) -> list[AlarmRaised]:
        """Read the windows that have closed, the first of them together with the rows that came late."""
        arrived, payloads, late = log.newest(), [], None
        if self._next is None:
            self._next = int(oldest // self.window)
        if self._arrived is None:  # nothing was read before that a row could be late for
            self._arrived = arrived
        else:
            late = self._arrived, moment(self._next * self.window)
        for start, tally in self._closed(log, newest, arrived):
            payloads += self._read(start, tally, self._late(log, *late, arrived) if late else None)
            late, self._arrived = None, arrived
        return payloads

    def _closed(self, log: PredictionLog, newest: float, arrived: int) -> Iterator[tuple[float, Tally]]:
        """Give start and tally of each closed window that has rows, a bounded number of windows at a time."""
        assert self._next is not None
        grace = max(GRACE * self.window, LEAST_GRACE) if self.settings.model.time else LEAST_GRACE
        end, at_once = int((newest - min(grace, self.window)) // self.window), AT_ONCE
        while self._next < end:
            stop = min(self._next + at_once, end)
            span = moment(self._next * self.window), moment(stop * self.window)
            found = self._gather(log, *span, self.window, arrived)
            for number in sorted(found):
                yield float(number) * self.window, found[number]
            at_once = AT_ONCE if found else min(at_once * 2, MOST_AT_ONCE)
            self._next = stop

    def _late(self, log: PredictionLog, after: int, before: datetime, arrived: int) -> Tally:
        """Give the rows that came after their windows were read, whatever those are, as one tally."""
        found = self._gather(log, FIRST, before, ALL_TIME, arrived, after)
        tally = self._tally()
        tally.profile = add(tally.profile, *(one.profile for one in found.values()))
        tally.rows = sum(one.rows for one in found.values())
        return tally

    def _gather(
        self, log: PredictionLog, start: datetime, end: datetime, window: float, arrived: int, after: int = 0
    ) -> dict[int, Tally]:
        self._tally()  # the estimator is learnt here, not under the log's lock
        fields = (*(f.column for f in self.drift.reference.features), *self._told)
        begin = lambda: Tallies(window, arrived, self._tally)  # noqa: E731
        return log.gather(start, end, begin, after=after, fields=fields).found

    def _tally(self) -> Tally:
        placed = self._estimator.features if self.classes is None else None
        return Tally(self.drift.reference.features, self.version, self.metric, self.classes, placed)

    @cached_property
    def _estimator(self) -> Estimator:
        """What estimates the metric before labels come; learnt when the first window is read."""
        return Estimator(self.metric, Held.load(self._package, self.drift.reference.features, self._hidden))

    def _estimate(self, tally: Tally) -> dict[str, Any]:
        """Estimate the metric of a window whose labels have not come, or say why that cannot be done."""
        if self.classes is not None:
            found = Estimate(self.metric, None, None, None, False, "its classes are named: labels alone tell")
        elif not tally.own:
            found = Estimate(self.metric, None, None, None, False, "no row was answered by this version")
        else:
            try:
                found = self._estimator.estimate(tally.served())
            except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:  # the watch goes on without it
                found = Estimate(self.metric, None, None, None, False, f"it could not be computed: {error}")
        return {name: getattr(found, name) for name in ("value", "low", "high", "observable", "why")}

    @property
    def _told(self) -> tuple[str, ...]:
        return () if self.classes is None else TOLD

    def _spans(self, readings: Sequence[Reading]) -> Spans:
        ends = [(_second(x.window_start).timestamp(), _second(x.window_end).timestamp()) for x in readings]
        tallies = [Tally((), x.version, x.metric, self.classes) for x in readings]
        return Spans([(*end, tally) for end, tally in zip(ends, tallies, strict=True)])

    def _read(self, start: float, tally: Tally, late: Tally | None) -> list[AlarmRaised]:
        found = self.drift.update(add(*(one.profile for one in (tally, late) if one is not None)), start)
        span = iso(start), iso(start + self.window)
        self._findings += self.trials.update(found, span[1])
        alarms = self._drift_alarms(found, *span)
        features = [
            FeatureReading(
                feature=c.feature, distance=c.distance, tolerance=c.tolerance, share=c.share, low=c.low, high=c.high
            )
            for c in sorted(found.causes, key=lambda c: self.drift.names.index(c.feature))
        ]
        reading = Reading(
            model=self.model, version=self.version, window_start=span[0], window_end=span[1], rows=tally.rows,
            evidence=found.evidence, threshold=found.threshold, features=features, metric=self.metric,
            expected=self.expected, late=late.rows if late is not None else 0,
            alarms=[alarm.alarm for alarm in alarms], estimate=self._estimate(tally),
        )  # fmt: skip
        self._measure(reading, tally)
        return alarms

    def _drift_alarms(self, found: Found, start: str, end: str) -> list[AlarmRaised]:
        """Give an alarm for each kind that alarms, and begin the tests that follow it."""
        alarms = []
        for kind, part in found.kinds.items():
            if part.alarm and found.window is not None:
                name, moved = NAMES[kind], found.causes_of(kind)
                alarm = self._drift_alarm(name, moved, (start, end), part.evidence, part.threshold)
                alarms.append(alarm)
                self.trials.begin(alarm.alarm, kind, found)
        return alarms

    def _drift_alarm(
        self, name: tuple[AlarmKind, str], moved: list[Moved], span: tuple[str, str], evidence: float, threshold: float
    ) -> AlarmRaised:
        named = [c for c in moved[:NAMED] if c.share >= 0.01]
        causes = [
            Cause(
                feature=c.feature, share=c.share, distance=c.distance, tolerance=c.tolerance, low=c.low, high=c.high,
                words=c.words,
            )
            for c in named
        ]  # fmt: skip
        told = ", ".join(f"{_plain(c.feature)} ({c.words})" for c in named[:3])
        return self._alarm(name[0], span, evidence, threshold, causes, f"{name[1]} of {told}")

    # ---- labels --------------------------------------------------------------------------------------------------

    def _pages(self, log: PredictionLog) -> Iterator[_Page]:
        """Give the labels that have come since the last look, a bounded number at a time: where each page begins, how
        many it has, and which windows they are of."""
        after = self._cursor
        while True:
            labelled = log.labelled(after, LABELS_AT_ONCE)
            count = len(labelled.time)
            if count:
                windows = np.unique(labelled.time // self.window).astype(np.int64).tolist()
                yield _Page(after, count, windows)
            if count < LABELS_AT_ONCE:
                return
            after = labelled.cursor

    def _learn_all(self, log: PredictionLog, pages: list[_Page], oldest: float, newest: float) -> list[AlarmRaised]:
        """Learn from the labels page by page; at most one alarm for a look."""
        payloads: list[AlarmRaised] = []
        for page in pages:
            labelled = log.labelled(page.after, page.count)
            alarms = self._learn(labelled, oldest, newest, raised=bool(payloads))
            payloads += alarms
            self._cursor = labelled.cursor
        return payloads

    def _learn(self, labelled: Labelled, oldest: float, newest: float, *, raised: bool = False) -> list[AlarmRaised]:
        """Show the loss detector new labels of this version; give the first alarm, unless one was raised already."""
        sureness, came = self._losing(labelled)
        own = (labelled.version == self.version) & np.isfinite(came)
        if self.loss is None or self.limit is None or not own.any():
            return []
        time = labelled.time[own]
        lost = losses(self.loss_name, sureness[own], came[own])
        first = self.loss.update_many(lost, self.pace.weigh(np.clip(time, oldest, newest)))
        if first is None or raised:
            return []
        start = float(time[first] // self.window) * self.window
        there = (time >= start) & (time < start + self.window)
        if there.sum() < 10:  # the window's other labels came earlier
            there = np.arange(len(time)) > first - RECENT
        mean, allowed = float(np.mean(lost[there])), self.limit.allowed
        over = words(iso(start), iso(start + self.window))
        name = {"mae": "MAE", "brier": "Brier loss"}[self.loss_name]
        summary = f"{name} {mean:.3g} over {over}, {allowed:.3g} allowed, {self.limit.expected:.3g} expected"
        causes = [Cause(feature=self.loss_name, share=1.0, distance=mean, tolerance=allowed)]
        span = iso(start), iso(start + self.window)
        alarm = self._alarm("performance", span, self.loss.peak, self.loss.threshold, causes, summary)
        self._mark(alarm)
        return [alarm]

    def _losing(self, labelled: Labelled) -> tuple[Floats, Floats]:
        """Give what the loss is of: predictions and values; of classes how sure the one was that was told, and whether
        it came true."""
        if self.classes is None:
            return labelled.prediction, numbers(labelled.value)
        told = labelled.told if labelled.told is not None else np.full(len(labelled.value), None, object)
        sure = np.ones(len(told)) if self._certain else labelled.prediction
        return sure, right(told, labelled.value)

    def _mark(self, alarm: AlarmRaised) -> None:
        key = alarm.window_start, self.version
        stored = self._store.readings(self.model, since=alarm.window_start, until=alarm.window_end)
        reading = self._changed.get(key) or next((x for x in stored if x.version == self.version), None)
        if reading is not None and alarm.alarm not in reading.alarms:
            self._changed[reading.window_start, reading.version] = replace(
                reading, alarms=[*reading.alarms, alarm.alarm]
            )

    def _refresh(self, log: PredictionLog, touched: set[int]) -> None:
        """Measure again the windows whose labels came after they were read, neighbours in one reading of the log."""
        fresh = set(self._changed)
        for first, last in _runs(sorted(touched)):
            span = first * self.window, (last + 1) * self.window
            found = self._store.readings(self.model, since=iso(span[0]), until=iso(span[1]))
            old = [x for x in found if (x.window_start, x.version) not in fresh]
            if old:
                end = max(_second(x.window_end) for x in old)
                spans = log.gather(moment(span[0]), end, lambda old=old: self._spans(old), fields=self._told)  # type: ignore[misc]
                for reading, (_, _, tally) in zip(old, spans.tallies, strict=True):
                    self._measure(reading, tally)

    def _measure(self, reading: Reading, tally: Tally) -> None:
        found = tally.measure()
        measured = replace(
            reading, rows=tally.rows, own=tally.own, value=found.value, low=found.low, high=found.high,
            labelled=found.rows,
        )  # fmt: skip
        self._changed[reading.window_start, reading.version] = measured

    def _alarm(
        self,
        kind: AlarmKind,
        span: tuple[str, str],
        evidence: float,
        threshold: float,
        causes: list[Cause],
        summary: str,
    ) -> AlarmRaised:
        name = digest_json([self.model, self.version, kind, span[0]])[:16]
        return AlarmRaised(
            model=self.model, alarm=name, kind=kind, version=self.version, window_start=span[0],
            window_end=span[1], evidence=evidence, threshold=threshold, causes=causes, summary=summary,
        )  # fmt: skip


def _plain(feature: str) -> str:
    return "predictions" if feature == PREDICTION else feature


def _second(time: str) -> datetime:
    return datetime.fromisoformat(time)


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Give stretches of neighbouring numbers, of at most AT_ONCE each.

    >>> list(_runs([1, 2, 3, 7]))
    [(1, 3), (7, 7)]
    """
    at = 0
    while at < len(numbers):
        last = at
        while last + 1 < len(numbers) and numbers[last + 1] == numbers[last] + 1 and last - at + 1 < AT_ONCE:
            last += 1
        yield numbers[at], numbers[last]
        at = last + 1
