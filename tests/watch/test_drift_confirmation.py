"""After an alarm: confirmed by what follows, resolved when it has gone; two references after a retraining."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest
from benchmarks import drift_worlds as worlds

from trilho.watch.confirmation import Confirmation, Resolution
from trilho.watch.drift import DriftDetector, Reading
from trilho.watch.reading import DriftKind
from trilho.watch.succession import KEPT, UNTIL, Succession

Q = worlds.even(nulls=0.02)


def detector(seed: int = 0, run_length: float = 100.0) -> DriftDetector:
    return DriftDetector(
        worlds.counted(worlds.independent(1_000, 5), np.random.default_rng(seed), 104).reference, run_length
    )


def window(rng: worlds.Rng, shift: float = 0.0, nulls: float = 0.02) -> Mapping[str, worlds.Ints]:
    counts = worlds.rows(rng, Q, 1_000, 5)
    counts[0] = worlds.rows(rng, worlds.shifted(worlds.even(nulls=nulls), shift), 1_000)[0]
    return {f"x{i}": row for i, row in enumerate(counts)}


def alarmed(watch: DriftDetector, rng: worlds.Rng, **change: float) -> Reading:
    return next(r for r in (watch.update(window(rng, **change)) for _ in range(30)) if r.alarm)


@pytest.mark.parametrize(("kind", "change"), [("inputs", {"shift": 0.3}), ("quality", {"nulls": 0.3})])
def test_drift_that_stays_is_confirmed_and_not_resolved(kind: DriftKind, change: dict[str, float]) -> None:
    for seed in range(5):
        rng, watch = np.random.default_rng([91, seed]), detector(seed)
        first = alarmed(watch, rng, **change)
        confirmation, resolution = Confirmation.after(first, kind), Resolution.after(first, kind)
        assert not confirmation.confirmed
        later = [watch.update(window(rng, **change)) for _ in range(40)]
        assert any(confirmation.update(reading) for reading in later[:6])
        assert not any(resolution.update(reading) for reading in later)


@pytest.mark.parametrize(("kind", "change"), [("inputs", {"shift": 0.3}), ("quality", {"nulls": 0.3})])
def test_drift_that_goes_is_resolved_within_a_few_windows(kind: DriftKind, change: dict[str, float]) -> None:
    needed = []
    for seed in range(5):
        rng, watch = np.random.default_rng([92, seed]), detector(seed)
        resolution = Resolution.after(alarmed(watch, rng, **change), kind)
        for _ in range(25):
            resolution.update(watch.update(window(rng, **change)))
        needed.append(next(k for k in range(1, 30) if resolution.update(watch.update(window(rng)))))
    assert np.median(needed) <= 4
    assert max(needed) <= 8


def test_what_nothing_was_behind_is_hardly_ever_confirmed() -> None:
    """A false alarm's product reaches 100 with 1% at most; here 60 of them, each followed for 30 windows."""
    confirmed = 0
    for seed in range(4):
        rng, watch = np.random.default_rng([93, seed]), detector(seed)
        pending: list[Confirmation] = []
        for k in range(45):
            reading = watch.update(window(rng))
            pending = [c for c in pending if not c.update(reading)]
            if k < 15:
                pending.append(Confirmation.after(reading, "inputs"))
        confirmed += 15 - len(pending)
    assert confirmed == 0


def test_confirmation_starts_after_the_alarm_and_has_no_restarts() -> None:
    rng, watch = np.random.default_rng(94), detector()
    confirmation = Confirmation.after(alarmed(watch, rng, shift=0.6), "inputs")
    assert confirmation.evidence == pytest.approx(1.0, abs=1e-3)
    for _ in range(20):
        confirmation.update(watch.update(window(rng)))
    assert confirmation.evidence < 1e-3
    assert confirmation.windows == 20


def test_both_survive_a_restart() -> None:
    rng, watch = np.random.default_rng(95), detector()
    first = alarmed(watch, rng, shift=0.15)
    straight, split = (Confirmation.after(first, "inputs") for _ in range(2))
    ends, halves = (Resolution.after(first, "inputs") for _ in range(2))
    for k in range(12):
        reading = watch.update(window(rng, shift=0.15 * (k < 6)))
        split = Confirmation.restore(json.loads(json.dumps(split.state())))
        halves = Resolution.restore(json.loads(json.dumps(halves.state())))
        assert straight.update(reading) == split.update(reading)
        assert ends.update(reading) == halves.update(reading)
    assert straight.evidence == split.evidence
    assert ends.evidence == halves.evidence
    assert ends.resolved


def test_a_reading_of_no_rows_is_nothing_to_follow() -> None:
    watch = detector()
    empty = watch.update(
        {name: np.zeros(len(f.labels)) for name, f in zip(watch.names, watch.reference.features, strict=True)}
    )
    with pytest.raises(ValueError, match="no rows"):
        Confirmation.after(empty, "inputs")
    with pytest.raises(ValueError, match="no rows"):
        Resolution.after(empty, "inputs")


def test_after_a_retraining_the_old_reference_still_sees_what_crept_in() -> None:
    """Half of the stakes are the old reference's until the new one has seen 40 windows, a tenth afterwards."""
    rng = np.random.default_rng(96)
    crept = worlds.counted(lambda r, _k: np.stack(list(window(r, shift=0.25).values())), rng, 104)
    old, new = detector(run_length=200.0), DriftDetector(crept.reference, 200.0)
    both = Succession(new, old)
    alone = DriftDetector(crept.reference, 200.0)
    readings, quiet = [], []
    for _ in range(8):
        now = window(rng, shift=0.25)
        readings.append(both.update(now, now))
        quiet.append(alone.update(now).alarm)
    assert any(reading.alarm for reading in readings)
    assert readings[0].causes[0].feature == "x0"
    assert not any(quiet)
    assert (new.restart, old.restart) == (0.5, 0.5)
    for _ in range(UNTIL):
        both.update(window(rng), window(rng))
    assert (new.restart, old.restart) == (1 - KEPT, KEPT)


def test_two_references_share_one_promise_and_their_state() -> None:
    rng = np.random.default_rng(97)
    both, again = (Succession(detector(1), detector(2)) for _ in range(2))
    alarms = 0
    for k in range(60):
        now = window(rng)
        reading = both.update(now, now)
        alarms += reading.alarm
        if k % 20 == 5:
            again.restore(json.loads(json.dumps(both.state())))
        elif k > 5:
            assert again.update(now, now).evidence == reading.evidence
    assert alarms == 0
