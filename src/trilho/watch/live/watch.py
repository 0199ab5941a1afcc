"""One model version, watched live: counts as servers publish them, and alarms within seconds of enough evidence.

Each part of an hour is compared with the same hour of the reference, so that a day that is still filling up does not
look like drift. Hours that the reference does not cover are shown, and raise no alarm.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from trilho.core.digest import digest_json
from trilho.core.records import AlarmKind, AlarmRaised
from trilho.core.records import Cause as RecordedCause
from trilho.watch.frame import Frame, is_prediction
from trilho.watch.live.evidence import Evidence, Spent
from trilho.watch.live.hours import HourReference, words_of
from trilho.watch.live.ledger import HOUR, Profile
from trilho.watch.memory import decode, encode
from trilho.watch.projection import Flags, Floats
from trilho.watch.promise import LEAST_RUN, Promise
from trilho.watch.reading import Cause, DriftKind, KindEvidence, Reading, Window
from trilho.watch.window import iso, words
from trilho_runtime.profile import PREDICTION, Reference

SCHEMA = 1
SHARE = 0.5  # of what drift and quality may raise for nothing; the windows' detector has the rest
HOURS = 48  # that parts may still come of; of an hour before them they are only counted
LATELY = 2_000.0  # rows that are shown
NAMED = 3
KINDS: Mapping[AlarmKind, tuple[DriftKind, ...]] = {"drift": ("inputs", "predictions"), "quality": ("quality",)}


@dataclass(frozen=True)
class LiveView:
    """What there is to show of the present hour. `why` says why it raises no alarm; "" where it may."""

    hour: str
    rows: int
    why: str
    compared: str
    evidence: dict[str, tuple[float, float]]  # kind -> evidence, threshold
    distances: dict[str, tuple[float, float, float]]


class LiveWatch:
    """Watches one version by increments of its counts; pure: it reads no clock and no file.

    `promise` is the model's; of its drift and quality the live watch takes `share`. The alarms of one kind in one hour
    are one alarm, whose id does not depend on when the watcher looked.
    """

    def __init__(
        self, model: str, version: int, reference: Reference, promise: Promise, *,
        tolerance: float | Literal["auto"] = "auto", share: float = SHARE,
    ) -> None:  # fmt: skip
        self.model, self.version = model, version
        self.hours = HourReference(reference, tolerance)
        self.names = list(self.hours.layout.names)
        self.evidence = Evidence(self.hours.layout)
        self._of_kind = self._kinds()
        self.thresholds = self._thresholds(promise, share)
        self._of = digest_json([self.names, [f.labels for f in self.hours.features]])
        self._spent: OrderedDict[float, Spent] = OrderedDict()
        self._closed = -np.inf  # hours up to here are over
        self._alarmed: dict[str, float] = {}
        self._shown = 0.0
        self._lately = np.zeros(self.hours.layout.regular.shape)
        self.rows = self.shown_rows = self.foreign = 0

    def update(self, part: Profile, now: float) -> list[AlarmRaised]:
        """Take in what is new of one hour, at a time in seconds since 1970; give the alarms that it raises."""
        if (part.model, part.version) != (self.model, self.version) or not part.rows:
            return []
        counts = self._counts(part)
        if counts is None:
            self.foreign += part.rows
            return []
        self._show(part.hour, counts)
        self.rows += part.rows
        bucket, spent = self.hours.bucket(part.hour), self._hour(part.hour)
        if bucket is None or spent is None or not self.thresholds:
            self.shown_rows += part.rows
            return []
        frame = self.hours.frame(bucket)
        counts = counts * self.hours.open[:, None]
        gone = float(np.clip((now - part.hour) / HOUR, 0.0, 1.0)) if now >= part.hour else 1.0
        self.evidence.update(frame, counts, spent, gone)
        return self._alarms(self._read(frame), part, now)

    def view(self) -> LiveView | None:
        """Give what there is to show of the hour that came last; None before there were rows."""
        if not self._lately.any():
            return None
        bucket = self.hours.bucket(self._shown)
        why = self.hours.why or ("" if bucket else f"the reference does not cover the hour from {iso(self._shown)}")
        distances = {}
        if bucket is not None:
            frame = self.hours.frame(bucket)
            found = self._read(frame).distances
            distances = {name: found[name] for i, name in enumerate(self.names) if self.hours.open[i]}
        evidence = {str(kind): (part.evidence, part.threshold) for kind, part in self._evidence().items()}
        compared = words_of(bucket) if bucket is not None else ""
        rows = round(float(self._lately.sum(1).max()))
        return LiveView(iso(self._shown), rows, why, compared, evidence, distances)

    def notes(self) -> list[str]:
        """Say what is watched less well than it should be, and why."""
        if self.hours.why:
            return [f"the live view raises no alarm: {self.hours.why}"]
        missing = 24 - len({number % 24 for _, number in self.hours.buckets})
        notes = [f"the reference does not cover {missing} hours of the day: there is no live alarm in them"]
        few = "the reference has too few hours to learn how they differ by nature"
        return [*(notes if missing else []), *([] if self.hours.enough else [few])]

    def state(self) -> dict[str, Any]:
        """Give what a restarted watcher goes on from, as JSON values."""
        spent = [
            [hour, s.stake, *(None if a is None else encode(a) for a in (s.gains, s.special))]
            for hour, s in self._spent.items()
        ]
        return {
            "schema": SCHEMA, "version": self.version, "of": self._of, "evidence": self.evidence.state(),
            "spent": spent, "closed": float(self._closed) if np.isfinite(self._closed) else None,
            "alarmed": self._alarmed, "shown": self._shown, "lately": encode(self._lately),
            "rows": [self.rows, self.shown_rows, self.foreign],
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; that of another version or of other features starts from nothing."""
        if (state.get("schema"), state.get("version"), state.get("of")) != (SCHEMA, self.version, self._of):
            return
        self.evidence.restore(state["evidence"])
        shapes = (self.evidence.gains.shape, self.evidence.special_gains.shape)
        for hour, stake, *gains in state["spent"]:
            more = [None if g is None else decode(g, shape) for g, shape in zip(gains, shapes, strict=True)]
            self._spent[hour] = Spent(stake, *more)
        self._closed = -np.inf if state["closed"] is None else state["closed"]
        self._alarmed, self._shown = dict(state["alarmed"]), state["shown"]
        self._lately = decode(state["lately"], self._lately.shape)
        self.rows, self.shown_rows, self.foreign = state["rows"]

    # ---- inside --------------------------------------------------------------------------------------------------

    def _kinds(self) -> dict[DriftKind, Floats]:
        predicted = np.array([is_prediction(f) for f in self.hours.features], bool)
        of: dict[DriftKind, Flags] = {
            "inputs": ~predicted & self.hours.open,
            "predictions": predicted & self.hours.open,
            "quality": self.hours.layout.there.any(1) & self.hours.open,
        }
        return {kind: held / held.sum() for kind, held in of.items() if held.any()}

    def _thresholds(self, promise: Promise, share: float) -> dict[DriftKind, float]:
        """Give the hours that each kind's false alarms lie apart; kinds that are not there leave theirs to the rest."""
        weights = {kind: promise.weights.get(kind, 0.0) for kind in self._of_kind}
        total, rate = sum(weights.values()), promise.rate * sum(promise.weights.values()) * share
        if total <= 0 or rate <= 0:
            return {}
        return {kind: max(total / (w * rate * HOUR), LEAST_RUN) for kind, w in weights.items() if w > 0}

    def _counts(self, part: Profile) -> Floats | None:
        sizes, rows = self.hours.layout.sizes.tolist(), []
        for name, size in zip(self.names, sizes, strict=True):
            own = part.counts.get(name)
            if own is None or len(own) != size:
                return None
            rows.append(own)
        return self.hours.layout.pad(rows)

    def _hour(self, hour: float) -> Spent | None:
        """Give what an hour has used; None for one that is over."""
        if hour in self._spent:
            return self._spent[hour]
        if hour <= self._closed:
            return None
        spent = self._spent[hour] = Spent()
        while len(self._spent) > HOURS:
            first = min(self._spent)
            del self._spent[first]
            self._closed = max(self._closed, first)
        return spent if hour in self._spent else None

    def _show(self, hour: float, counts: Floats) -> None:
        if hour < self._shown:
            return
        if hour != self._shown:
            self._shown, self._lately = hour, np.zeros_like(self._lately)
        kept = np.exp(-float(counts.sum(1).max(initial=0.0)) / LATELY)
        self._lately = self._lately * kept + counts

    def _evidence(self) -> dict[DriftKind, KindEvidence]:
        shares, rate = self._shares()[0], sum(1 / a for a in self.thresholds.values())
        return {kind: KindEvidence(float(shares[kind].sum()), a, 1 / (a * rate)) for kind, a in self.thresholds.items()}

    def _shares(self) -> tuple[dict[DriftKind, Floats], Floats, Floats]:
        stakes, special = self.evidence.stakes()
        by_feature, of_special = stakes.sum(0), special.sum((0, 2))
        of = {k: part * (of_special if k == "quality" else by_feature) for k, part in self._of_kind.items()}
        return of, stakes, special

    def _read(self, frame: Frame) -> Reading:
        kinds, (shares, stakes, special) = self._evidence(), self._shares()
        evidence = max((k.evidence * k.weight for k in kinds.values()), default=0.0)
        window = Window(
            self.hours.features, frame, self._lately, frame.kappa, shares, self.evidence.gains,
            self.evidence.special_gains, stakes, special, self.evidence.memory.lately(),
        )  # fmt: skip
        threshold = 1 / max(sum(1 / a for a in self.thresholds.values()), 1e-300)
        return Reading(any(k.alarm for k in kinds.values()), evidence, threshold, kinds, (), window)

    def _alarms(self, reading: Reading, part: Profile, now: float) -> list[AlarmRaised]:
        """Give an alarm of inputs and predictions, and one of quality, where there are and the hour has none yet."""
        alarms = []
        for name, kinds in KINDS.items():
            of = [k for k in kinds if k in reading.kinds and reading.kinds[k].alarm]
            for k in of:
                self.evidence.start_again(None if k == "quality" else self._of_kind[k] > 0)
            if of and self._alarmed.get(name) != part.hour:
                self._alarmed[name] = part.hour
                alarms.append(self._alarm(name, of, reading, part, now))
        return alarms

    def _alarm(
        self, name: AlarmKind, kinds: list[DriftKind], reading: Reading, part: Profile, now: float
    ) -> AlarmRaised:
        most = max(kinds, key=lambda k: reading.kinds[k].evidence * reading.kinds[k].weight)
        moved = [c for c in reading.causes_of(most)[:5] if c.share >= 0.01]
        told = ", ".join(f"{_plain(c.feature)} ({c.words})" for c in moved[:NAMED])
        start, end = iso(part.hour), iso(part.hour + HOUR)
        what = {"drift": "drift", "quality": "data quality"}[name]
        return AlarmRaised(
            model=self.model, alarm=digest_json([self.model, self.version, name, "live", start])[:16], kind=name,
            version=self.version, window_start=start, window_end=end, evidence=reading.kinds[most].evidence,
            threshold=reading.kinds[most].threshold, causes=[_recorded(c) for c in moved],
            summary=f"live: {what} of {told}; {words(start, end)}",
            data_time=None if part.event_time else iso(now),
        )  # fmt: skip


def _recorded(cause: Cause) -> RecordedCause:
    return RecordedCause(
        feature=cause.feature, share=cause.share, distance=cause.distance, tolerance=cause.tolerance, low=cause.low,
        high=cause.high, words=cause.words,
    )  # fmt: skip


def _plain(feature: str) -> str:
    return "predictions" if feature == PREDICTION else feature
