"""Charts: where things lie, and that nothing is drawn that was not measured."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from tests.console.memory import tasks

from trilho.console.charts import evidence_chart, metric_chart, rows_chart
from trilho.console.features import feature_rows
from trilho.console.forest import gain
from trilho.console.graph import graph, layout
from trilho.console.history import history
from trilho.console.scale import Scale, rounded, time_ticks
from trilho.core import records as r
from trilho.core.projection import ModelState
from trilho.core.readings import FeatureReading, Reading


def reading(day: int, value: float | None, **more: object) -> Reading:
    base = Reading(
        model="m", version=1, window_start=f"2024-01-{day:02d}T00:00:00", window_end=f"2024-01-{day + 1:02d}T00:00:00",
        rows=100, evidence=3.0, threshold=365.0, metric="mae", value=value, low=None if value is None else value - 1,
        high=None if value is None else value + 1, expected=10.0, labelled=0 if value is None else 90,
    )  # fmt: skip
    return replace(base, **more)  # type: ignore[arg-type]


def test_unlabelled_windows_break_the_line_and_are_hatched() -> None:
    past = history(ModelState("m"), [reading(1, 10), reading(2, 11), reading(3, None), reading(4, 12), reading(5, 13)])
    assert past is not None
    chart = metric_chart(past, name="c")
    assert len(re.findall(r'<path class="line" d="M[^"]+"', chart.plot)) == 2
    assert re.findall(r'class="unknown"[^>]* x="([\d.]+)%" width="([\d.]+)%"', chart.plot) == [("40.0", "20.0")]
    assert "unlabelled" in chart.signs


def test_a_value_without_labels_is_an_estimate_and_not_drawn() -> None:
    past = history(ModelState("m"), [reading(1, 10), reading(2, 99, labelled=0)])
    assert past is not None
    assert "99" not in metric_chart(past, name="c").words
    assert "1 of them labelled" in metric_chart(past, name="c").words


def test_windows_that_were_never_served_leave_a_gap() -> None:
    past = history(ModelState("m"), [reading(1, 10), reading(2, 11), reading(20, 12), reading(21, 13)])
    assert past is not None
    assert len(re.findall(r'<path class="line"', metric_chart(past, name="c").plot)) == 2


def test_a_change_of_version_is_a_release() -> None:
    past = history(
        ModelState("m"), [reading(1, 10), reading(2, 11), reading(3, 9, version=2), reading(4, 9, version=2)]
    )
    assert past is not None
    assert [(s.version, s.start, s.end) for s in past.stretches] == [(1, 0.0, 50.0), (2, 50.0, 100.0)]
    assert metric_chart(past, name="c").plot.count('class="release"') == 1


def test_the_limit_lies_where_the_evidence_alarms() -> None:
    past = history(ModelState("m"), [reading(1, 10), reading(2, 11, evidence=1e30)])
    assert past is not None
    chart = evidence_chart(past, name="c")
    assert "alarms at 365" in chart.plot
    assert float(re.findall(r'class="limit" x1="0" x2="100%" y1="([\d.]+)"', chart.plot)[0]) < 60


def test_rows_and_labels_are_counted() -> None:
    past = history(ModelState("m"), [reading(1, 10), reading(2, None)])
    assert past is not None
    assert rows_chart(past, name="c").words == "200 rows served, 90 of them labelled; at most 100 rows in a window."


def test_no_readings_give_no_history() -> None:
    assert history(ModelState("m"), []) is None


@pytest.mark.parametrize("value", [0.0, 10.0])
def test_one_window_alone_is_drawn(value: float) -> None:
    past = history(ModelState("m"), [reading(1, value, expected=value)])
    assert past is not None
    assert "nan" not in metric_chart(past, name="c").plot


def test_features_are_ordered_by_how_far_they_moved() -> None:
    moved = [FeatureReading(feature=f, distance=d, tolerance=0.05, share=0.0) for f, d in (("a", 0.01), ("b", 0.2))]
    past = history(ModelState("m"), [reading(1, 10, features=moved)])
    assert past is not None
    assert [(row.name, row.times, row.over) for row in feature_rows(past)] == [
        ("b", "2.0×", True),
        ("a", "0.0×", False),
    ]


def test_a_gain_is_won_when_its_lower_end_is_over_the_margin() -> None:
    won = gain({"difference": 3.0, "low": 1.0, "high": 5.0, "margin": 0.5})
    lost = gain({"difference": 3.0, "low": 0.2, "high": 5.0, "margin": 0.5})
    assert won is not None
    assert 'class="gain won"' in won
    assert lost is not None
    assert 'class="gain open"' in lost
    assert gain({"difference": None, "low": None}) is None
    assert gain({}) is None


def test_a_run_is_laid_out_by_what_tasks_need() -> None:
    columns = {place.task["name"]: place.column for place in layout(tasks())}
    assert columns == {
        "extract": 0, "check": 1, "split": 2, "fit-all": 3, "fit-window": 3, "score": 3,
        "predict-all": 4, "predict-window": 4, "evaluate": 5, "pack": 6,
    }  # fmt: skip
    drawn = graph(tasks(failed="fit-all"), standing=False)
    assert drawn.count('class="task failed"') == 1
    assert drawn.count('class="task skipped"') == 3
    assert graph([], standing=True) == ""


def test_a_fan_out_is_one_box_in_its_worst_state() -> None:
    names = [("plan", "ran"), *((f"for-loop-1/{i}/fit", "failed" if i == 7 else "ran") for i in range(500))]
    wide = [
        r.TaskResult(name=name, state="failed" if state == "failed" else "ran", seconds=1.0, needs=[], reason="")
        for name, state in names
    ]
    drawn = graph(wide, standing=False)
    assert drawn.count("<rect") == 2
    assert "fit ×500" in drawn
    assert drawn.count('class="task failed"') == 1


@pytest.mark.parametrize(("low", "high"), [(0, 0), (5, 5), (-3, 7), (0.6931, 0.7012), (0, 1e9)])
def test_an_axis_holds_its_values(low: float, high: float) -> None:
    first, last, values = rounded(low, high)
    assert first <= low
    assert last >= high
    assert 2 <= len(values) <= 7


@pytest.mark.parametrize("days", [0.2, 1, 5, 30, 200, 800, 4000])
def test_a_time_axis_has_few_round_ticks(days: float) -> None:
    ticks = time_ticks(1_700_000_000, 1_700_000_000 + days * 86400)
    assert 1 <= len(ticks) <= 10
    assert 1 <= sum(not tick.minor for tick in ticks) <= 5
    assert len({tick.at for tick in ticks}) == len(ticks)


def test_a_scale_clips() -> None:
    y = Scale(0, 10, 100, 0)
    assert (y(-5), y(5), y(50)) == (100, 50, 0)
