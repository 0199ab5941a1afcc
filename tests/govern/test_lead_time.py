"""Lead times, frequency, failures and recovery, from a journal whose times are known."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.console.memory import NOW, MemorySource, alarmed, released, trained

from trilho.core import records as r
from trilho.core.projection import ModelState
from trilho.core.readings import Reading
from trilho.govern.lead_time import Failures, Frequency, LeadTimes, Times, lead_times

BEGIN = NOW - timedelta(days=14)


def figures(source: MemorySource) -> LeadTimes:
    return lead_times(source.state().model("m"), NOW.isoformat())


def two_releases() -> MemorySource:
    source = MemorySource()
    trained(source, BEGIN, "m", 1, "mae", 10.0)
    released(source, BEGIN + timedelta(minutes=10), "m", 1)
    reading = Reading(
        model="m", version=1, window_start="2026-01-01T00:00:00", window_end="2026-01-02T00:00:00", rows=9,
        metric="mae", evidence=999.0, threshold=365.0,
    )  # fmt: skip
    at = BEGIN + timedelta(days=7)
    alarmed(source, at, reading, "performance", "worse", close="version 2 took over", retraining="promoted")
    trained(source, at + timedelta(seconds=5), "m", 2, "mae", 9.0, trigger="performance")
    released(source, at + timedelta(seconds=30), "m", 2)
    return source


def test_nothing_is_measured_before_anything_happened() -> None:
    found = lead_times(ModelState("m"), NOW.isoformat())
    assert found.commit_to_serving == Times(0)
    assert found.releases == Frequency(0, None, None, None)
    assert found.failures == Failures(0, 0, 0, 0)
    assert found.failures.share is None


def test_a_commit_counts_once_a_dataset_each_time_it_is_new() -> None:
    found = figures(two_releases())
    # Both versions come from one commit, five hours old; the first answered 10 min 4 s after the training began.
    assert found.commit_to_serving == Times(1, *[5 * 3600 + 604.0] * 3)
    assert found.data_to_serving == Times(2, (604.0 + 29.0) / 2, 604.0, 29.0)


def test_a_trigger_counts_until_users_have_its_version() -> None:
    assert figures(two_releases()).trigger_to_serving == Times(1, 32.0, 32.0, 32.0)


def test_incidents_count_until_they_end() -> None:
    assert figures(two_releases()).incident_to_end == Times(1, 50.0, 50.0, 50.0)


def test_frequency_needs_two_releases() -> None:
    found = figures(two_releases()).releases
    assert found.count == 2
    assert found.per_week == pytest.approx(1.0, rel=0.01)


def test_releases_that_did_not_stay_are_failures() -> None:
    source = two_releases()
    trained(source, NOW - timedelta(days=2), "m", 3, "mae", 8.0)
    released(source, NOW - timedelta(days=1), "m", 3, upto=10)
    ended = r.RolloutEnded(model="m", rollout="m-r3", version=3, outcome="rolled back", champion=2, why="more errors")
    source.write(NOW, ended)
    assert figures(source).failures == Failures(ended=3, rolled_back=1, restored=0, aborted=0)
    source.write(NOW, r.ChampionRestored(model="m", version=1, replaced=2, why="complaints"))
    found = figures(source).failures
    assert found == Failures(ended=3, rolled_back=1, restored=1, aborted=0)
    assert found.share == pytest.approx(2 / 3)
