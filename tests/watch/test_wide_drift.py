"""A drift of everything at once: no feature leads, and the watch goes on."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from trilho.core import records as r
from trilho.core.projection import ModelState
from trilho.watch.confirmation import Resolution
from trilho.watch.drift import DriftDetector
from trilho.watch.incidents import Terms, respond
from trilho.watch.incidents.trials import Finding, _resolved
from trilho_runtime.profile import Reference

DAY = 86400.0


def test_a_test_of_no_leading_feature_never_says_that_it_has_gone() -> None:
    rng = np.random.default_rng(5)
    names = [f"x{i}" for i in range(30)]
    time = np.sort(rng.random(6000)) * 60 * DAY
    reference = Reference.fit({name: rng.standard_normal(6000) for name in names}, time, DAY)
    detector = DriftDetector(reference, 1000)
    reading = detector.update(reference.profile({name: rng.standard_normal(5000) + 2 for name in names}))
    while not reading.kinds["inputs"].alarm:
        reading = detector.update(reference.profile({name: rng.standard_normal(5000) + 2 for name in names}))
    resolution = Resolution.after(reading, "inputs")
    assert resolution.grown
    again = detector.update(reference.profile({name: rng.standard_normal(5000) + 2 for name in names}))
    assert resolution.update(again) is False
    assert Resolution("inputs", {}).update(again) is False


def test_an_end_without_features_is_still_said() -> None:
    state = ModelState("m", champion=1)
    alarm = r.AlarmRaised(
        model="m", alarm="a1", kind="drift", version=1, window_start="2026-01-01T00:00:00+00:00",
        window_end="2026-01-02T00:00:00+00:00", evidence=9.0, threshold=5.0, causes=[], summary="drift",
    )  # fmt: skip
    opened = respond(state, [alarm])[0]
    assert isinstance(opened, r.IncidentOpened)
    from trilho.core.projection import Incident

    incident = Incident(opened.incident, "drift", 1, "low", "drift", "2026-01-02T00:00:00+00:00", alarms=["a1"])
    closed = _resolved(state, incident, Finding("a1", "resolved", (), "2026-01-03T00:00:00+00:00"))
    assert closed.reason == "what it was about has gone"


def test_when_the_whole_moves_there_are_at_most_three_incidents() -> None:
    state, terms = ModelState("m", champion=1), Terms(window=timedelta(days=1))
    alarms = [
        r.AlarmRaised(
            model="m", alarm=f"a{i}", kind="drift", version=1, window_start=f"2026-01-{i:02}T00:00:00+00:00",
            window_end=f"2026-01-{i:02}T12:00:00+00:00", evidence=9.0, threshold=5.0, summary=f"drift of x{i}",
            causes=[r.Cause(feature=f"x{i}", share=1.0, distance=0.3, tolerance=0.05)],
        )
        for i in range(1, 13)
    ]  # fmt: skip
    opened = [x for x in respond(state, alarms, terms) if isinstance(x, r.IncidentOpened)]
    assert len(opened) == 3
