"""History replayed: how often a setting of the watcher would have alarmed, how late, and what it would have missed.

The watcher's own detectors run over the windows of the past, one after the other. An alarm that goes on counts once:
it is opened, and while the same column leads again within `CALM` windows it is the same. What nobody knows of the past
is whether something changed then; so alarms are false only outside of the changes that are named, and how late or
blind a setting is, is asked by planting changes into copies of the same history.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median
from typing import Any, Literal

import numpy as np

from trilho.config.values import UNITS
from trilho.errors import NotYet, UsageError
from trilho.watch.comparison.gamma import gamma_quantile
from trilho.watch.drift import DriftDetector
from trilho.watch.loss import LossDetector, allowed_loss
from trilho.watch.pace import Pace
from trilho.watch.planting import Plant
from trilho.watch.promise import Promise
from trilho.watch.replay import Floats, History, Replay
from trilho.watch.setting import Setting, iso, span_words
from trilho_runtime.profile import PREDICTION

MONTH = UNITS["month"]
CALM = 10
WITHIN = 30  # windows after a change in which an alarm finds it
STARTS = 3  # moments at which a change without one is planted
PLANTED = 4  # columns, where nothing was said
FEWEST_REFERENCE, FEWEST_REPLAYED, FEWEST_ROWS = 20, 10, 30
MOST_WINDOWS = 3000  # of a setting that is only tried
TOLERANCES: tuple[float | Literal["auto"], ...] = ("auto", 0.05, 0.1)
RATES = tuple(n / UNITS[unit] for n, unit in ((1, "month"), (4, "year"), (1, "year"), (0.2, "year")))
WINDOWS = (UNITS["hour"], UNITS["day"], UNITS["week"])


@dataclass(frozen=True)
class Opened:
    """An alarm that opened: the start of its window, its kind, and the column that led."""

    time: float
    kind: str
    column: str
    false: bool


@dataclass(frozen=True)
class Found:
    """A change, and after how many windows an alarm named it (None: not within `WITHIN`)."""

    change: str
    at: float
    delay: int | None


@dataclass(frozen=True)
class Outcome:
    """What a setting would have done."""

    setting: Setting
    windows: int
    reference_windows: int
    months: float
    opened: list[Opened]
    found: list[Found]
    notes: list[str] = field(default_factory=list)

    @property
    def false(self) -> int:
        """Give how many of the alarms belong to no change that was named."""
        return sum(one.false for one in self.opened)

    @property
    def per_month(self) -> tuple[float, float, float]:
        """Give the false alarms a month with a 95% interval, exact for alarms that come one by one by chance."""
        low = gamma_quantile(self.false, 0.025) if self.false else 0.0
        return self.false / self.months, low / self.months, gamma_quantile(self.false + 1, 0.975) / self.months

    @property
    def missed(self) -> int:
        """Give how many of the changes were not found."""
        return sum(one.delay is None for one in self.found)

    @property
    def delay(self) -> float | None:
        """Give the median of the windows it took, where a change was found."""
        found = [one.delay for one in self.found if one.delay is not None]
        return float(median(found)) if found else None

    def to_json(self) -> dict[str, Any]:
        """Give what was found as JSON values."""
        rate, low, high = self.per_month
        delay = self.delay
        days = None if delay is None else round(delay * self.setting.window / 86400, 3)
        opened = [{"time": iso(x.time), "kind": x.kind, "column": x.column, "false": x.false} for x in self.opened]
        return {
            "setting": self.setting.to_json(), "windows": self.windows, "reference_windows": self.reference_windows,
            "months": round(self.months, 2), "alarms": len(self.opened), "false_alarms": self.false,
            "alarms_per_month": round(rate, 4), "interval": [round(low, 4), round(high, 4)],
            "promised_per_month": round(self.setting.false_alarms * MONTH, 4),
            "delay_windows": delay, "delay_days": days,
            "changes": len(self.found), "missed": self.missed,
            "opened": opened,
            "found": [{"change": x.change, "at": iso(x.at), "delay": x.delay} for x in self.found],
            "notes": self.notes,
        }  # fmt: skip


@dataclass
class Backtest:
    """A history and the changes that are asked after; settings are tried on it one by one."""

    history: History
    plants: Sequence[Plant] = ()
    changes: Sequence[float] = ()
    within: int = WITHIN
    _replays: dict[float, Replay] = field(default_factory=dict)
    _quiet: dict[Setting, Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = set(self.history.columns)
        for plant in self.plants:
            if plant.column not in known:
                listed = ", ".join(sorted(known)[:12])
                raise UsageError(
                    f"no column {plant.column} is watched; there are: {listed}", hint="--plant one of them"
                )

    @cached_property
    def _held(self) -> Floats | None:
        return self.history.held_losses()

    def run(self, setting: Setting) -> Outcome:
        """Say what a setting would have done, and how late and blind it is."""
        quiet = self.alarms(setting)
        replay = self._replay(setting.window)
        found = [self._known(quiet, at) for at in self.changes]
        for plant in replay.plants:
            found += self._planted(replay, setting, plant)
        return replace(quiet, found=found)

    def alarms(self, setting: Setting) -> Outcome:
        """Say how often a setting would have alarmed."""
        if setting not in self._quiet:
            self._quiet[setting] = self._alarms(setting)
        return self._quiet[setting]

    def propose(
        self, wanted: float, setting: Setting, windows: Sequence[float] = WINDOWS
    ) -> tuple[Outcome, list[Outcome]]:
        """Propose the setting that misses least, then is quickest, among those that keep to the wanted alarms.

        For each window and tolerance the loosest promise that keeps to the wanted number is tried; where none does,
        the one with the fewest alarms is given.
        """
        tried = list[Outcome]()
        for window in dict.fromkeys((setting.window, *windows)):
            for tolerance in dict.fromkeys((setting.tolerance, *TOLERANCES)):
                tried += self._loosest(wanted, window, tolerance)
        if not tried:
            raise NotYet(
                f"the history is too short to propose a setting: {FEWEST_REFERENCE} windows of reference and "
                f"{FEWEST_REPLAYED} to replay are needed", hint="give a longer history, or a shorter --window",
            )  # fmt: skip
        good = [one for one in tried if keeps(one, wanted)]
        full = [self.run(one.setting) for one in good or [min(tried, key=lambda x: x.false / x.months)]]
        full.sort(key=lambda x: (x.missed / max(len(x.found), 1), (x.delay or 0) * x.setting.window, x.per_month[0]))
        return full[0], full

    def _loosest(self, wanted: float, window: float, tolerance: float | Literal["auto"]) -> list[Outcome]:
        best = None
        try:
            replay = self._replay(window)
            if not self._fits(replay):
                return []
            for rate in sorted({wanted, *RATES}, reverse=True):
                best = self.alarms(Setting(rate, tolerance, window))
                if keeps(best, wanted):
                    break
        except NotYet:
            return []
        return [] if best is None else [best]

    def _fits(self, replay: Replay) -> bool:
        """Say whether windows of this length hold rows, nearly all of them, and are few enough to try."""
        windows = replay.windows
        rows = [max(int(x.sum()) for x in profile.values()) for profile in replay.profiles.values()]
        filled = len(windows) / (windows[-1] - windows[0] + 1)
        return len(windows) <= MOST_WINDOWS and filled >= 0.8 and median(rows) >= FEWEST_ROWS

    def _replay(self, window: float) -> Replay:
        if window not in self._replays:
            plants = list(self.plants) or default_plants(self.history)
            self._replays[window] = self.history.replay(window, plants)
        made = self._replays[window]
        if made.reference.windows < FEWEST_REFERENCE or len(made.windows) < FEWEST_REPLAYED:
            raise NotYet(
                f"{made.reference.windows} windows of {span_words(window)} before the replay and {len(made.windows)} "
                f"in it; {FEWEST_REFERENCE} and {FEWEST_REPLAYED} are needed",
                hint="give a longer history, an earlier or later --since, or a shorter --window",
            )
        return made

    def _promise(self, replay: Replay, setting: Setting) -> Promise:
        shares = {} if replay.losses and self._held is not None else {"loss": 0.0}
        return Promise.of(setting.false_alarms, setting.window, shares)

    def _detector(self, replay: Replay, setting: Setting) -> DriftDetector:
        promise = self._promise(replay, setting)
        weights: Any = promise.weights
        return DriftDetector(
            replay.reference, promise.drift_run_length, setting.tolerance, weights=weights, window=setting.window
        )

    def _alarms(self, setting: Setting) -> Outcome:
        replay = self._replay(setting.window)
        promise, detector = self._promise(replay, setting), self._detector(replay, setting)
        fired = list[tuple[int, str, str]]()
        for window in replay.windows:
            reading = detector.update(replay.profiles[window], when=window * replay.window)
            if reading.alarm:
                fired.append((window, *_led(reading)))
        losses, notes = self._losses(replay, promise)
        opened = [self._opened(replay, x) for x in opened_of(sorted(fired + losses))]
        span = replay.windows[-1] - replay.windows[0] + 1
        if not promise.kept:
            notes.append("so many false alarms are more than one in two windows: the promise is kept at that")
        if replay.reference.windows < 40:
            notes.append(f"the reference has {replay.reference.windows} windows; natural variation is learnt from 40")
        return Outcome(
            setting, len(replay.windows), replay.reference.windows, span * replay.window / MONTH, opened, [], notes
        )

    def _opened(self, replay: Replay, one: tuple[int, str, str]) -> Opened:
        time = one[0] * replay.window
        false = not any(at <= time + replay.window and time <= at + self.within * replay.window for at in self.changes)
        return Opened(time, one[1], one[2], false)

    def _losses(self, replay: Replay, promise: Promise) -> tuple[list[tuple[int, str, str]], list[str]]:
        """Replay the losses in order of time, as if labels came with their rows."""
        held = self._held
        if held is None or not replay.losses:
            return [], []
        limit = allowed_loss(held, bound=self.history.loss_bound)
        if limit is None:
            return [], ["losses are not watched: too few rows before the replay to say what is allowed"]
        seconds, found = np.concatenate(replay.times), np.concatenate(replay.losses)
        order = np.argsort(seconds, kind="stable")
        seconds, found = seconds[order], found[order]
        if not len(seconds):
            return [], ["losses are not watched: no row of the replay has a label"]
        a_second = replay.reference.rows / max(replay.reference.windows * replay.window, 1.0)
        detector = LossDetector.of(limit, max(a_second / promise.rate_of("loss"), 2.0))
        weights = Pace(a_second, a_second * replay.window).weigh(seconds)
        windows = np.floor(seconds / replay.window).astype(np.int64)
        ends = np.flatnonzero(np.diff(windows, append=windows[-1] + 1)) + 1
        fired, at = list[tuple[int, str, str]](), 0
        for end in ends.tolist():
            if detector.update_many(found[at:end], weights[at:end]) is not None:
                fired.append((int(windows[at]), "performance", "loss"))
            at = end
        return fired, []

    def _known(self, quiet: Outcome, at: float) -> Found:
        window = quiet.setting.window
        after = [int((x.time - at) // window) + 1 for x in quiet.opened if x.time + window > at]
        delay = min((max(x, 1) for x in after), default=None)
        return Found(f"known on {iso(at)[:10]}", at, delay if delay is not None and delay <= self.within else None)

    def _planted(self, replay: Replay, setting: Setting, plant: Plant) -> Iterator[Found]:
        """Run up to each start without the change, and from there with it until it is found."""
        windows = replay.windows
        starts = (
            [_window_of(windows, plant.at / replay.window)] if plant.at is not None else _starts(windows, self.within)
        )
        detector, at = self._detector(replay, setting), 0
        for start in starts:
            for window in windows[at:start]:
                detector.update(replay.profiles[window], when=window * replay.window)
            at = start
            trial, delay = copy.deepcopy(detector), None
            for passed, window in enumerate(windows[start : start + self.within], 1):
                reading = trial.update(replay.with_plant(plant, window), when=window * replay.window)
                if reading.alarm and _column(_led(reading)[1]) == plant.column:
                    delay = passed
                    break
            moment = plant.at if plant.at is not None else windows[start] * replay.window
            yield Found(str(plant), moment, delay)


def opened_of(fired: Sequence[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    """Leave out alarms that go on: the same kind and column, no more than CALM windows after its last.

    >>> opened_of([(1, "drift", "x"), (3, "drift", "x"), (20, "drift", "x"), (21, "drift", "y")])
    [(1, 'drift', 'x'), (20, 'drift', 'x'), (21, 'drift', 'y')]
    """
    last, out = dict[tuple[str, str], int](), []
    for window, kind, column in fired:
        before = last.get((kind, column))
        if before is None or window - before > CALM:
            out.append((window, kind, column))
        last[kind, column] = window
    return out


def keeps(one: Outcome, wanted: float) -> bool:
    """Say whether a setting keeps to a wanted rate: on this history, and by its promise or else beyond doubt."""
    rate, _, most = one.per_month
    room = wanted * MONTH * (1 + 1e-9)
    return rate <= room and (one.setting.false_alarms * MONTH <= room or most <= room)


def default_plants(history: History) -> list[Plant]:
    """Choose changes to ask after where none was named: half a standard deviation, or a tenth never seen before."""
    source = getattr(history, "source", None)
    kinds = {} if source is None else source.types
    reference = getattr(history, "reference", None)
    numbers = {f.column for f in reference.features if len(f.edges)} if reference is not None else set()
    from trilho.watch.comparison.counting import kind_of

    names = [name for name in history.columns if name != PREDICTION]
    number = [n for n in names if n in numbers or kind_of(kinds.get(n, "")) == "number"]
    rest = [n for n in names if n not in number and (not kinds or kind_of(kinds[n]) == "category")]
    chosen = [Plant(name, 0.5, "sd") for name in number[: PLANTED - min(len(rest), 1)]]
    return [*chosen, *(Plant(name, 0.1, "unseen") for name in rest[: PLANTED - len(chosen)])]


def _led(reading: Any) -> tuple[str, str]:
    """Give the kind and the column of what has the largest share of an alarm."""
    kinds = [kind for kind, found in getattr(reading, "kinds", {}).items() if found.alarm]
    cause = next((c for c in reading.causes if not kinds or getattr(c, "kind", kinds[0]) in kinds), reading.causes[0])
    return (kinds[0] if kinds else "inputs"), str(cause.feature)


def _column(feature: str) -> str:
    head, _, part = feature.rpartition(":")
    return head if head and part in ("hour", "weekday", "length", "words") else feature


def _window_of(windows: Sequence[int], at: float) -> int:
    """Give the place of the window that holds a moment, or of the next that has rows."""
    place = int(np.searchsorted(np.asarray(windows), math.floor(at)))
    if place >= len(windows) or at < windows[0]:
        raise UsageError(
            "a change is planted outside of the replayed history", hint="--plant COLUMN:SIZE@DATE within it"
        )
    return place


def _starts(windows: Sequence[int], within: int) -> list[int]:
    last = max(len(windows) - min(within, len(windows) // 2), 1)
    return sorted({round(last * part / (STARTS + 1)) for part in range(1, STARTS + 1)})
