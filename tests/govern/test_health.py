"""Health: four levels, and never green without evidence."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.console.memory import NOW, MemorySource, alarmed, released, settings, tasks, trained

from trilho.core import records as r
from trilho.core.projection import ModelState
from trilho.core.readings import EndpointStatus, LabelStatus, Reading, VersionStats
from trilho.govern.health import FRESH_WINDOWS, RULE, Health, allowed, by_harm, health, measured, worse

LABELS = LabelStatus(served=1000, labelled=0, unknown=0, repeated=0, until=None)


def reading(day: int, value: float | None = 10.0, **more: object) -> Reading:
    base = Reading(
        model="m", version=1, window_start=f"2026-01-{day:02d}T00:00:00", window_end=f"2026-01-{day + 1:02d}T00:00:00",
        rows=100, evidence=3.0, threshold=365.0, metric="mae", value=value, low=None if value is None else value - 1,
        high=None if value is None else value + 1, expected=10.0, labelled=0 if value is None else 90,
    )  # fmt: skip
    return replace(base, **more)  # type: ignore[arg-type]


def serving() -> MemorySource:
    source = MemorySource()
    trained(source, NOW - timedelta(days=2), "m", 1, "mae", 10.0)
    released(source, NOW - timedelta(days=1), "m", 1)
    return source


def endpoint(**more: object) -> EndpointStatus:
    base = EndpointStatus(
        model="m", address="http://127.0.0.1:1", running=True, pid=1, versions={1: "ready"},
        stats={1: VersionStats(requests=500, errors=0, rows=500)}, updated=NOW.isoformat(),
    )  # fmt: skip
    return replace(base, **more)  # type: ignore[arg-type]


def judged(source: MemorySource, readings: list[Reading], at: EndpointStatus | None = None) -> Health:
    return health(source.state().model("m"), readings, LABELS, at or endpoint(), None, NOW.isoformat())


def test_a_model_that_is_served_measured_and_quiet_is_healthy() -> None:
    found = judged(serving(), [reading(1), reading(2)])
    assert (found.level, found.word) == ("ok", "Healthy")
    assert found.sentence == (
        "Version 1 serves, no worse than allowed: MAE 10.0 (9.00 to 11.0) over 2 Jan 2026, 10.0 expected."
    )
    assert found.next == "Nothing to do: the next window is measured when it closes."
    assert found.command is None


def test_nothing_is_said_of_labels_before_rows_were_served() -> None:
    none = LabelStatus(served=0, labelled=0, unknown=0, repeated=0, until=None)
    found = health(serving().state().model("m"), [], none, endpoint(), None, NOW.isoformat())
    assert found.sentence.endswith("how well is not known: no labels for this version yet.")


def test_without_labels_it_is_grey() -> None:
    found = judged(serving(), [reading(1, None), reading(2, None)])
    assert found.level == "unknown"
    assert "how well is not known: no labels for this version yet; 0% of all served rows are labelled" in found.sentence


def test_a_value_without_labels_is_no_evidence() -> None:
    assert measured([reading(1, 10.0, labelled=0)]) is None
    assert judged(serving(), [reading(1, 10.0, labelled=0)]).level == "unknown"


def test_another_versions_evidence_does_not_count() -> None:
    assert judged(serving(), [reading(1, version=7)]).level == "unknown"


def test_old_evidence_turns_grey() -> None:
    windows = [reading(1)] + [
        reading(2, None, window_start=f"2026-02-{1 + i % 28:02d}T{i // 28:02d}:00:00") for i in range(FRESH_WINDOWS + 1)
    ]
    assert judged(serving(), windows[:-1]).level == "ok"
    assert judged(serving(), windows).level == "unknown"


def test_a_window_that_is_wholly_worse_than_allowed_needs_a_look() -> None:
    assert judged(serving(), [reading(1, 11.9)]).level == "ok"  # 10.9 to 12.9, 11 allowed
    found = judged(serving(), [reading(1, 14.0)])
    assert found.level == "warn"
    assert "MAE 14.0 (13.0 to 15.0) over 1 Jan 2026, worse than the 11.0 allowed" in found.sentence


@pytest.mark.parametrize(("high", "is_worse"), [(0.7, True), (0.75, False)])
def test_a_score_may_lack_a_tenth_more_of_one(high: float, is_worse: bool) -> None:
    auc = reading(1, 0.68, metric="roc_auc", expected=0.75, low=0.6, high=high)
    assert allowed(auc, None) == pytest.approx(0.725)
    assert worse(auc, None) is is_worse


@pytest.mark.parametrize(
    ("status", "level", "said"),
    [
        (endpoint(running=False), "bad", "the endpoint is down"),
        (endpoint(versions={1: "down"}), "bad", "version 1 is down"),
        (endpoint(stats={1: VersionStats(requests=100, errors=5)}), "warn", "5 errors in 100 requests"),
        (endpoint(updated=(NOW - timedelta(minutes=10)).isoformat()), "unknown", "last heard of 10 min ago"),
    ],
)
def test_the_endpoint_counts(status: EndpointStatus, level: str, said: str) -> None:
    found = judged(serving(), [reading(1)], status)
    assert found.level == level
    assert said in found.sentence


@pytest.mark.parametrize(("severity", "level"), [("high", "bad"), ("medium", "warn"), ("low", "warn")])
def test_an_open_incident_counts_by_severity(severity: str, level: str) -> None:
    source = serving()
    alarmed(source, NOW, reading(2), "performance", "MAE has grown", severity=severity)
    found = judged(source, [reading(1), reading(2)])
    assert (found.level, found.sentence) == (level, "MAE has grown. Version 1 serves meanwhile.")
    assert "A retraining is under way because of performance." in found.next


def test_a_failed_run_needs_a_look_even_before_a_first_release() -> None:
    source = MemorySource()
    started = r.RunStarted(
        model="m", run="x", pipeline="train", trigger="a person", dataset=None, commit=None, commit_time=None
    )
    source.write(NOW, started)
    ended = r.RunEnded(model="m", run="x", state="failed", tasks=tasks(failed="fit-all"), error="no", seconds=1)
    source.write(NOW, ended)
    found = health(source.state().model("m"), [], None, None, None, NOW.isoformat())
    assert (found.level, found.sentence) == ("warn", "Nothing serves yet: the newest run, x, failed.")
    assert found.command == "trilho train"


def test_a_failed_run_of_another_pipeline_says_nothing_of_the_model() -> None:
    source = MemorySource()
    source.write(NOW, r.RunStarted(
        model="m", run="x", pipeline="nightly", trigger="a person", dataset=None, commit=None, commit_time=None
    ))  # fmt: skip
    ended = r.RunEnded(model="m", run="x", state="failed", tasks=tasks(failed="fit-all"), error="no", seconds=1)
    source.write(NOW, ended)
    found = health(source.state().model("m"), [], None, None, None, NOW.isoformat())
    assert (found.level, found.sentence) == ("unknown", "Nothing serves yet: no version is released.")
    assert found.next == "The first version has to be trained."


def test_a_model_nobody_knows_is_grey() -> None:
    found = health(ModelState("m"), [], None, None)
    assert (found.level, found.sentence) == ("unknown", "Nothing serves yet: no version is released.")
    assert (found.next, found.command) == ("The first version has to be trained.", "trilho train")


def test_the_next_step_follows_the_state() -> None:
    source = MemorySource()
    trained(source, NOW, "m", 1, "mae", 10.0)
    assert judged(source, []).command == "trilho release 1"
    needs = settings("m", "regression").model_copy(
        update={"gate": settings("m", "regression").gate.model_copy(update={"approval": True})}
    )
    found = health(source.state().model("m"), [], None, None, needs, NOW.isoformat())
    assert found.command == "trilho approve 1"
    released(source, NOW, "m", 1, upto=10)
    assert "takes 10% of traffic and goes to 50% after enough requests" in judged(source, []).next
    source.write(NOW, r.RolloutPaused(model="m", rollout="m-r1", version=1, paused=True, why="a look"))
    assert judged(source, []).command == "trilho rollout next"


def test_a_version_in_the_shadow_has_no_share_of_traffic_and_is_not_said_to() -> None:
    source = serving()
    trained(source, NOW, "m", 2, "mae", 9.0)
    begun = r.RolloutStarted(
        model="m", rollout="m-r2", version=2, champion=1, steps=[10, 100], why="", shadow=20, sticky=None
    )
    source.write(NOW, begun)
    told = judged(source, []).next
    assert "Version 2 is asked unseen about 20% of requests and goes to 10% of traffic" in told
    assert "0% of traffic after" not in told.replace("10% of traffic", "")
    held = r.RolloutPaused(model="m", rollout="m-r2", version=2, paused=True, why="far", cause="shift")
    source.write(NOW, held)
    found = judged(source, [])
    assert found.next.startswith("The rollout of version 2 is held since its predictions lie elsewhere, asked unseen")
    assert found.command == "trilho rollout"


def test_models_are_sorted_by_harm() -> None:
    source, quiet = serving(), judged(serving(), [reading(1)])
    alarmed(source, NOW, reading(2), "performance", "MAE has grown", severity="high")
    loud = judged(source, [reading(1, 30.0)])
    louder = judged(source, [reading(1, 60.0)])
    grey = judged(serving(), [])
    assert by_harm({"a": quiet, "b": grey, "c": loud, "d": louder}) == ["d", "c", "b", "a"]


def test_the_rule_is_said() -> None:
    assert f"at most {FRESH_WINDOWS} windows back" in RULE


def test_one_label_makes_no_model_green() -> None:
    """A value without an interval is no evidence: the newest window with both counts."""
    source = serving()
    single = reading(3, low=None, high=None, labelled=1)
    assert measured([single]) is None
    assert measured([reading(2), single]) == reading(2)
    found = health(source.state().model("m"), [single], None, None)
    assert {check.name: (check.level, check.text) for check in found.checks}["Quality"] == (
        "unknown",
        "too few labels for this version yet",
    )
