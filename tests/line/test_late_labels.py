"""Labels that come after their window was read: the reading is measured again, also where the alarm is."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import EXAMPLES
from tests.line.rig import label, later_rows, predict, serving

from trilho.loops import WatchLoop
from trilho.project import Project


def test_a_window_that_alarmed_is_measured_too(bike_project: Path) -> None:
    project = Project.open(bike_project)
    assert project.train().version == 1
    project.release(1)
    rows, values = later_rows(EXAMPLES / "bike-demand" / "later" / "2012.parquet", "rides", "2012-01-05", "2012-03-02")
    watch = WatchLoop(project)
    with serving(project) as address:
        answered = predict(address, rows)
        assert watch.once() == []
        before = project.readings()
        assert [(x.rows, x.labelled, x.value) for x in before] == [(168, 0, None)] * 8
        label(address, [(id_, value) for (id_, _, _), value in zip(answered, values, strict=True)])
        (alarm,) = watch.once()
        watch.stop()
    after = project.readings()
    assert [x.window_start for x in after if x.alarms] == [alarm.window_start]
    assert [(x.rows, x.labelled) for x in after] == [(168, 168)] * 8
