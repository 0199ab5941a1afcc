"""Parts of hours against the same hour of the reference: quiet while a day fills up, quick where something moves."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tests.watch.live.hourly import DAY, HOUR, LATER, PER_HOUR, Shop, watch

from trilho.core.records import AlarmRaised
from trilho.watch.drift import DriftDetector
from trilho.watch.live.watch import LiveWatch
from trilho.watch.promise import Promise
from trilho_runtime.profile import Reference


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Shop().reference()


def serve(
    live: LiveWatch, shop: Shop, reference: Reference, hours: range, parts: int = 6, **how: Any
) -> list[AlarmRaised]:
    """Serve hours in parts of a few minutes; give the alarms."""
    found = []
    for k in hours:
        for j in range(parts):
            rows = int(shop.rng.poisson(PER_HOUR / parts))
            now = LATER + k * HOUR + (j + 1) * HOUR / parts - 1
            found += live.update(shop.part(reference, LATER + k * HOUR, rows, **how), now)
    return found


def test_a_day_that_fills_up_is_no_drift_though_it_is_for_whoever_compares_with_the_whole(reference: Reference) -> None:
    shop, live = Shop(1), watch(reference, "1 per month")
    assert serve(live, shop, reference, range(24 * 4)) == []
    assert (live.shown_rows, live.foreign) == (0, 0)
    night = Shop(1)
    naive = DriftDetector(reference, 700, tolerance=0.02)
    alarms = [naive.update(night.part(reference, LATER + k * HOUR, PER_HOUR).counts).alarm for k in range(8)]
    assert any(alarms)


def test_an_alarm_comes_within_seconds_of_enough_rows_and_names_the_cause(reference: Reference) -> None:
    shop, live = Shop(2), watch(reference)
    serve(live, shop, reference, range(2))
    hour, rows = LATER + 2 * HOUR, 0
    alarms: list[AlarmRaised] = []
    while not alarms and rows < 3000:
        rows += 50
        now = hour + 5 * rows / 50
        part = shop.part(reference, hour, 50)
        shifted = shop.part(reference, hour, 50, shift=1.5).counts
        part.counts["x"] = shifted["x"]
        alarms = live.update(part, now)
    assert rows <= 400
    (alarm,) = alarms
    assert (alarm.kind, alarm.version, alarm.causes[0]["feature"]) == ("drift", 1, "x")
    assert alarm.window_start == "2026-02-10T02:00:00+00:00"
    assert alarm.evidence >= alarm.threshold
    assert alarm.summary.startswith("live: drift of x (")
    assert alarm.data_time is not None
    assert alarm.data_time.startswith("2026-02-10T02:00:")


def test_nulls_are_of_quality_and_one_hour_has_one_alarm_of_a_kind(reference: Reference) -> None:
    shop, live = Shop(3), watch(reference)
    serve(live, shop, reference, range(1))
    found = []
    for k in range(1, 3):
        for j in range(10):
            part = shop.part(reference, LATER + k * HOUR, 60)
            part.counts["x"][-1] += part.counts["x"][:20].sum()
            part.counts["x"][:20] = 0
            found += live.update(part, LATER + k * HOUR + 300 * j)
    quality = [alarm for alarm in found if alarm.kind == "quality"]
    assert [alarm.window_start[11:13] for alarm in quality] == ["01", "02"]
    assert len({alarm.alarm for alarm in found}) == len(found)
    assert "null" in quality[0].summary


@pytest.mark.parametrize(
    ("days", "window", "why"),
    [
        (25, DAY, "the reference's windows last 86400 s, and not an hour or a part of one"),
        (2, HOUR, "the reference holds no hour 3 times"),
    ],
)
def test_without_a_reference_of_the_hour_there_is_a_view_and_no_alarm(days: int, window: float, why: str) -> None:
    shop = Shop(4)
    reference = shop.reference(days, window)
    live = watch(reference)
    assert serve(live, shop, reference, range(3), shift=5.0) == []
    assert live.shown_rows == live.rows > 500
    view = live.view()
    assert view is not None
    assert (view.why, view.compared, view.distances) == (why, "", {})
    assert live.notes() == [f"the live view raises no alarm: {why}"]


def test_a_reference_without_times_shows_only() -> None:
    shop = Shop()
    reference = Reference.fit(shop.rows(np.full(500, LATER)), None, HOUR)
    live = watch(reference)
    assert live.update(shop.part(reference, LATER, 500, shift=9.0), LATER) == []
    assert live.hours.why == "the reference has no times"


def test_hours_that_the_reference_lacks_are_shown_and_the_others_alarm() -> None:
    shop = Shop(5)
    hours = LATER - 30 * DAY + np.repeat(np.arange(30 * 24) * HOUR, PER_HOUR)
    hours = hours[hours / HOUR % 24 >= 8]
    reference = Reference.fit(shop.rows(hours), hours, HOUR)
    live = watch(reference)
    assert live.update(shop.part(reference, LATER, 900, shift=9.0), LATER + 60) == []
    assert live.shown_rows == 900
    noon = LATER + 12 * HOUR
    alarms = [live.update(shop.part(reference, noon, 300, shift=9.0), noon + s) for s in (60, 65)]
    assert any(alarms)
    assert any("8 hours of the day" in note for note in live.notes())


def test_what_is_shown_tells_distances_from_the_hour(reference: Reference) -> None:
    shop, live = Shop(6), watch(reference)
    assert live.view() is None
    live.update(shop.part(reference, LATER + 6 * HOUR, 1500), LATER + 6 * HOUR + 60)
    view = live.view()
    assert view is not None
    assert (view.why, view.rows, view.compared) == ("", 1500, "hours from 06:00")
    distance, low, high = view.distances["x"]
    assert 0 <= low <= distance <= high < 0.2
    assert view.evidence.keys() == {"inputs", "predictions", "quality"}


def test_the_live_watch_takes_its_share_of_the_promise(reference: Reference) -> None:
    promise = Promise.of("1 per year", HOUR)
    rates = {share: sum(1 / a for a in watch(reference, share=share).thresholds.values()) for share in (0.5, 1.0)}
    of_drift = 1 / promise.drift_run_length
    assert rates == {0.5: pytest.approx(of_drift / 2), 1.0: pytest.approx(of_drift)}


def test_state_survives_a_restart_to_the_last_bit(reference: Reference) -> None:
    one, live = Shop(7), watch(reference)
    serve(live, one, reference, range(3), shift=0.3)
    again = watch(reference)
    again.restore(json.loads(json.dumps(live.state())))
    for k in range(30):
        part = one.part(reference, LATER + 4 * HOUR, 40, shift=0.8)
        now = LATER + 4 * HOUR + 5 * k
        assert live.update(part, now) == again.update(part, now)
    assert live.state() == again.state()
    assert live.view() == again.view()


def test_the_state_of_another_version_starts_from_nothing(reference: Reference) -> None:
    shop, live = Shop(8), watch(reference)
    serve(live, shop, reference, range(1))
    other = LiveWatch("shop", 2, reference, Promise.of("1 per year", HOUR))
    fresh = other.state()
    other.restore(live.state())
    assert other.state() == fresh


def test_rows_of_another_model_version_or_layout_are_not_counted(reference: Reference) -> None:
    shop, live = Shop(9), watch(reference)
    assert live.update(shop.part(reference, LATER, 10, version=2), LATER) == []
    assert live.update(shop.part(reference, LATER, 10, model="other"), LATER) == []
    wrong = shop.part(reference, LATER, 10)
    wrong.counts["x"] = wrong.counts["x"][:-1]
    assert live.update(wrong, LATER) == []
    assert (live.rows, live.foreign) == (0, 10)


def test_memory_does_not_grow_with_hours_or_looks(reference: Reference) -> None:
    shop, live = Shop(10), watch(reference)
    serve(live, shop, reference, range(60), parts=1)
    early = len(json.dumps(live.state()))
    serve(live, shop, reference, range(60, 200), parts=1)
    assert len(json.dumps(live.state())) <= early * 1.05
    assert len(live._spent) == 48
    live.update(shop.part(reference, LATER, 10, shift=9.0), LATER + 200 * HOUR)  # an hour that is over
    assert live.shown_rows == 10
