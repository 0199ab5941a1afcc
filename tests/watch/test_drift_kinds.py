"""One promise shared by inputs, predictions and data quality; missing columns; causes; state."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trilho.watch.drift import DriftDetector
from trilho.watch.reading import DriftKind
from trilho.watch.reference import allowances, clustered
from trilho_runtime.profile import PREDICTION, Reference

HOUR = 3600.0
ROWS = 30_000


def table(seed: int, rows: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return {
        "x": np.where(rng.random(rows) < 0.3, np.nan, rng.standard_normal(rows)),
        "c": rng.choice(["a", "b", "c"], rows).astype(object),
        PREDICTION: rng.random(rows),
    }


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.fit(table(0, ROWS), np.arange(ROWS) * HOUR / 500, HOUR)


def test_the_weights_sum_to_one_and_each_kind_gets_its_share(reference: Reference) -> None:
    detector = DriftDetector(reference, 600.0)
    assert sum(detector.weights.values()) == pytest.approx(1.0)
    assert detector.run_lengths == pytest.approx({"inputs": 900.0, "predictions": 3600.0, "quality": 3600.0})
    given = DriftDetector(reference, 600.0, weights={"inputs": 1.0, "predictions": 0.0, "quality": 1.0})
    assert given.run_lengths == pytest.approx({"inputs": 1200.0, "quality": 1200.0})
    assert sum(1 / a for a in given.run_lengths.values()) == pytest.approx(1 / 600)
    alone = DriftDetector(reference.without([PREDICTION]), 600.0)
    assert alone.run_lengths == pytest.approx({"inputs": 750.0, "quality": 3000.0})


def test_a_reading_alarms_exactly_where_its_evidence_reaches_the_threshold(reference: Reference) -> None:
    detector = DriftDetector(reference, 100.0)
    for k in range(12):
        columns = table(k + 1, 500)
        columns["x"] = columns["x"] + 0.03 * k
        reading = detector.update(reference.profile(columns))
        assert reading.alarm == (reading.evidence >= reading.threshold == 100.0)
        assert reading.alarm == any(part.alarm for part in reading.kinds.values())


@pytest.mark.parametrize(
    ("change", "kind", "cause"),
    [
        (lambda t: {**t, "x": t["x"] + 1.0}, "inputs", "x"),
        (lambda t: {**t, "c": np.array(["a"] * 500, object)}, "inputs", "c"),
        (lambda t: {**t, PREDICTION: t[PREDICTION] ** 3}, "predictions", PREDICTION),
        (lambda t: {**t, "x": np.full(500, np.nan)}, "quality", "x"),
        (lambda t: {**t, "x": np.full(500, np.inf)}, "quality", "x"),
        (lambda t: {**t, "x": np.where(np.arange(500) % 4 == 0, 99.0, t["x"])}, "quality", "x"),
        (lambda t: {**t, "c": np.array(["new"] * 500, object)}, "quality", "c"),
        (lambda t: {k: v for k, v in t.items() if k != "c"}, "quality", "c"),
    ],
)
def test_the_kind_says_what_is_wrong(reference: Reference, change: Any, kind: DriftKind, cause: str) -> None:
    detector = DriftDetector(reference, 500.0)
    quiet = [detector.update(reference.profile(table(k, 500))).alarm for k in (50, 51, 52)]
    assert not any(quiet)
    readings = (detector.update(reference.profile(change(table(99 + k, 500)))) for k in range(3))
    reading = next(r for r in readings if r.alarm)
    assert reading.kinds[kind].alarm
    assert reading.causes_of(kind)[0].feature == cause
    assert reading.causes_of(kind)[0].kind == kind


def test_only_missing_values_that_stop_coming_are_noticed(reference: Reference) -> None:
    """A column that was null in 30% of rows and is filled in all of them: a source has changed."""
    detector, found = DriftDetector(reference, 500.0), []
    for k in range(6):
        columns = table(200 + k, 500)
        columns["x"] = np.random.default_rng(k).standard_normal(500)
        found += [k for k, part in detector.update(reference.profile(columns)).kinds.items() if part.alarm]
    assert set(found) == {"quality"}


def test_a_profile_without_a_column_says_so_in_words(reference: Reference) -> None:
    profile = reference.profile(table(1, 500))
    del profile["x"]
    reading = DriftDetector(reference, 500.0).update(profile)
    assert reading.alarm
    assert reading.causes[0].words == "the column is missing"
    assert reading.distances["x"][0] == pytest.approx(0.7, abs=0.05)


def test_causes_are_pairs_that_know_more(reference: Reference) -> None:
    columns = table(3, 500)
    reading = DriftDetector(reference, 500.0).update(reference.profile({**columns, "x": columns["x"] + 1.0}))
    pairs = dict(reading.causes)
    assert list(pairs) == [c.feature for c in reading.causes]
    assert sum(pairs.values()) == pytest.approx(1.0)
    assert sorted(pairs.values(), reverse=True) == [c.share for c in reading.causes]
    first = reading.causes[0]
    assert first == ("x", first.share)
    assert first.low <= first.distance <= first.high
    assert (first.distance, first.low, first.high) == reading.distances["x"]
    assert set(reading.distances) == set(reference.profile(columns))


def test_alarms_of_one_kind_leave_the_evidence_of_the_others(reference: Reference) -> None:
    detector = DriftDetector(reference, 5000.0)
    slightly = table(4, 500)
    slightly["x"] = slightly["x"] + 0.15
    before = detector.update(reference.profile(slightly)).kinds["inputs"].evidence
    assert before > 0.01
    broken = {**slightly, "c": np.array(["new"] * 500, object)}
    reading = detector.update(reference.profile(broken))
    assert [k for k, part in reading.kinds.items() if part.alarm] == ["quality"]
    assert detector.update(reference.profile(slightly)).kinds["inputs"].evidence > before


def test_a_restart_at_any_window_neither_forgets_nor_repeats(reference: Reference) -> None:
    def window(k: int) -> Any:
        columns = table(300 + k, 500)
        return reference.profile({**columns, "x": columns["x"] + 0.4 * (k > 3)})

    def run(stop: int) -> list[tuple[bool, float]]:
        detector, out = DriftDetector(reference, 50.0), []
        for k in range(14):
            if k == stop:
                state = json.loads(json.dumps(detector.state()))
                detector = DriftDetector(Reference.from_json(reference.to_json()), 50.0)
                detector.restore(state)
            reading = detector.update(window(k))
            out.append((reading.alarm, reading.evidence))
        return out

    straight = run(-1)
    assert any(alarm for alarm, _ in straight)
    assert all(run(stop) == straight for stop in (1, 5, 9, 13))


def test_a_state_of_an_older_trilho_starts_from_nothing(reference: Reference) -> None:
    detector = DriftDetector(reference, 50.0)
    detector.restore({"schema": 1, "names": detector.names, "log_m": [], "seen": []})
    assert detector.evidence == 0.0
    assert detector.windows == 0


def test_a_known_key_gives_exactly_one_over_its_rows() -> None:
    rng = np.random.default_rng(5)
    values = np.repeat(rng.standard_normal(4000), 8)
    fitted = Reference.fit({"x": values}, np.arange(len(values)) * HOUR / 800, HOUR)
    known = Reference.from_json(
        fitted.to_json().replace('"key":""', '"key":"customer"').replace('"cluster":1.0', '"cluster":8.0')
    )
    assert known.key == "customer"
    assert {a.kappa for a in allowances(known)} == {1 / 8}
    assert {a.kappa for a in allowances(fitted)} != {1 / 8}
    assert clustered(1.0, 1.0) == 1.0


def test_an_empty_reading_has_no_causes(reference: Reference) -> None:
    detector = DriftDetector(reference)
    assert detector.threshold == 1000.0
    reading = detector.update(
        {name: np.zeros(size) for name, size in zip(detector.names, detector.layout.sizes, strict=True)}
    )
    assert (reading.alarm, reading.causes, reading.distances) == (False, [], {})
    assert detector.windows == 0
