"""The control: where nothing has changed, nothing alarms and nothing is retrained."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Hashable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.line.played import Played, empty_examples, play
from tests.line.rig import query

Key = Callable[[datetime], Hashable]


def resample(project: Path, period: str, weeks_on: int, days: int, alike: Key, seed: int) -> None:
    """Write a later period in which nothing has changed.

    Each of its rows is a row of the baseline, with its target, drawn with replacement (seeded) from those that are
    `alike` in the calendar. What it stands in for is again a row of the baseline, whole weeks before it: so hours,
    weekdays and, over a year, months come as often as they did, and only the date and the event id are new. The time
    of day is that of the row which was drawn.
    """
    baseline, to = project / "data" / "baseline.csv", project / "later" / f"{period}.parquet"
    rows = query(f"SELECT event_id, ts FROM '{baseline}' ORDER BY ts, event_id")
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for id_, moment in rows:
        groups[alike(moment)].append(id_)
    rng = np.random.default_rng(seed)
    end = rows[0][1].replace(hour=0, minute=0, second=0) + timedelta(days=days)
    slots = [moment for _, moment in rows if moment < end]
    picked = [str(rng.choice(groups[alike(moment)])) for moment in slots]
    dates = [(moment + timedelta(weeks=weeks_on)).date() for moment in slots]
    query(
        f"COPY (SELECT b.* REPLACE ('again-' || lpad(d.slot::VARCHAR, 6, '0') AS event_id, d.day + b.ts::TIME AS ts) "
        f"FROM (SELECT unnest(?::VARCHAR[]) AS event_id, unnest(?::DATE[]) AS day, "
        f"generate_subscripts(?::VARCHAR[], 1) AS slot) d JOIN '{baseline}' b USING (event_id) ORDER BY ts) TO '{to}'",
        picked,
        dates,
        picked,
    )


def test_where_nothing_changes_nothing_is_retrained(
    tmp_path: Path, project_python: Path, subtests: pytest.Subtests
) -> None:
    """Fifty-two weeks of bikes and six of flights, drawn from the baseline: no alarm, no retraining."""
    examples = empty_examples(tmp_path / "examples")
    resample(examples / "bike-demand", "again", 52, 364, lambda t: (t.month, t.weekday(), t.hour), seed=11)
    resample(examples / "flight-delay", "again", 9, 42, lambda t: (t.weekday(), t.hour), seed=12)
    run = play(examples, tmp_path / "home", project_python)
    assert run.code == 0, run.err
    for model, windows in (("bike-demand", 52), ("flight-delay", 42)):
        with subtests.test(msg=model):
            nothing_happened(run, model, windows)


def nothing_happened(run: Played, model: str, windows: int) -> None:
    found = json.loads(run.out)["models"][model]
    assert (found["retrainings"], found["promotions"], found["rejected"], found["failed_requests"]) == (0, 0, 0, 0)
    (period,) = found["periods"]
    assert (period["alarm"], period["retrained"], period["champion"]) == (False, 0, 1)
    assert period["managed"] == pytest.approx(period["static"], rel=1e-9)  # the same version answered
    project = run.project(model)
    readings = project.readings()
    assert len(readings) >= windows - 2  # they were watched, with labels, and by detectors that could have alarmed
    assert all(x.labelled == x.rows and x.value is not None for x in readings)
    assert all(x.features and x.threshold > 0 and x.evidence < x.threshold for x in readings)
    happened = {record.type for record in project.journal.read_from(1) if record.subject == model}
    assert not [kind for kind in happened if kind.startswith(("alarm", "incident", "alert", "trigger", "retraining"))]


def test_the_copy_has_the_baselines_calendar(tmp_path: Path) -> None:
    """As many rows as the baseline in each hour of the week, all of its values, and new dates and ids."""
    examples = empty_examples(tmp_path)
    project = examples / "flight-delay"
    resample(project, "again", 9, 56, lambda t: (t.weekday(), t.hour), seed=12)
    base, again = (f"'{project / name}'" for name in ("data/baseline.csv", "later/again.parquet"))
    hours = "SELECT isodow(ts) d, hour(ts) h, count(*) n FROM {} WHERE ts < TIMESTAMP '{}' GROUP BY ALL ORDER BY ALL"
    assert query(hours.format(again, "2013-05-01")) == (query(hours.format(base, "2013-02-26")))
    both = f"SELECT count(*), count(DISTINCT a.event_id), min(a.ts) FROM {again} a"
    rows, ids, first = query(both)[0]
    assert rows == ids
    assert str(first).startswith("2013-03-05")
    of_base = "SELECT count(*) FROM {} a SEMI JOIN {} b USING (carrier, flight, origin, dest, late_departure)"
    assert query(of_base.format(again, base)) == [(rows,)]
    assert query(f"SELECT count(*) FROM {again} a SEMI JOIN {base} b USING (event_id)") == [(0,)]
