"""The control of the gate: a challenger that was trained on shuffled labels gets no traffic."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import EXAMPLES, copy_example
from tests.line.rig import Verbs, change, later_rows, predict, serving

from trilho.project import Project

SHUFFLED = "fit(X, y.sample(frac=1.0, random_state=7).to_numpy())"  # the same values, each at somebody else's row


@pytest.mark.parametrize(
    ("example", "package", "target", "period"),
    [("bike-demand", "bike_demand", "rides", "2012"), ("flight-delay", "flight_delay", "late_departure", "2013-03")],
)
def test_a_challenger_trained_on_shuffled_labels_is_rejected(
    tmp_path: Path,
    project_python: Path,
    monkeypatch: pytest.MonkeyPatch,
    example: str,
    package: str,
    target: str,
    period: str,
) -> None:
    monkeypatch.setenv("TRILHO_PYTHON", str(project_python))
    monkeypatch.setenv("TRILHO_HOME", str(tmp_path / "home"))
    folder = copy_example(example, tmp_path)
    trilho, project = Verbs(folder), Project.open(folder)
    first = project.train()
    assert (first.state, first.version, first.verdict) == ("succeeded", 1, "pass")
    project.release(1, why="the control's champion")
    file = EXAMPLES / example / "later" / f"{period}.parquet"
    rows = later_rows(file, target, f"{period[:4]}-03-01", f"{period[:4]}-03-02")[0][:20]
    with serving(project) as address:
        before = predict(address, rows)
        change(folder / "src" / package / "train.py", "fit(X, y)\n", f"{SHUFFLED}\n")

        challenger = project.train()
        assert (challenger.state, challenger.version, challenger.verdict) == ("succeeded", 2, "fail")
        gate = project.state().versions[2].gate
        assert gate is not None
        assert (gate.champion, gate.evidence["rows"]) == (1, first.metrics["rows"])
        assert gate.evidence["difference"] < 0
        assert gate.evidence["low"] <= gate.evidence["difference"] <= gate.evidence["high"]

        refused = trilho("release", "2")
        assert (refused.code, refused.out) == (3, "")
        assert refused.err.startswith("the gate refused version 2: ")

        by_hand = trilho("retrain", "--json")
        assert (by_hand.code, by_hand.json["result"], by_hand.json["version"]) == (3, "rejected", 2)
        assert by_hand.json["note"] in challenger.reason

        state = project.state()
        assert (state.champion, state.shares, list(state.rollouts)) == (1, {1: 100}, ["rollout-1"])
        assert [x.result for x in state.retrainings.values()] == ["rejected"]
        after = predict(address, rows)
    assert [row[1:] for row in after] == [row[1:] for row in before]
    assert {version for _, _, version in after} == {1}
    assert trilho("models", "--json").json["versions"][1]["is"] == "rejected"
