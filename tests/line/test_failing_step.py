"""A user function that fails: told as Python would tell it, nothing half-recorded, and the next run goes on there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.line.rig import Verbs, change, marked

from trilho.project import Project

GOOD = "return HistGradientBoostingRegressor(random_state=0).fit(X, y)"
BAD = "return _ask_the_wheels(y)\n\n\ndef _ask_the_wheels(y):\n    raise ZeroDivisionError(f'{len(y)} rows, no wheels')"
TASKS = ["extract", "check", "split", "fit-all", "predict-all", "evaluate", "pack"]


def test_a_failing_function_is_told_and_the_next_run_goes_on_there(
    bike_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRILHO_TEST_MARK", "failing-step")
    trilho, project = Verbs(bike_project), Project.open(bike_project)
    file = bike_project / "src" / "bike_demand" / "train.py"
    change(file, GOOD, BAD)
    line = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if "raise ZeroDivisionError" in text)

    said = trilho("train")
    assert said.code == 1
    assert said.err.splitlines()[0] == "step fit-all failed: ZeroDivisionError: 7320 rows, no wheels"
    assert "Traceback (most recent call last):" in said.err
    assert f'train.py", line {line}, in _ask_the_wheels' in said.err
    assert "raise ZeroDivisionError" in said.err
    frames = [text.strip() for text in said.err.splitlines() if text.startswith("  File ")]
    assert len(frames) == 2  # the traceback is the user's own, ours is cut off the top
    assert all(frame.startswith(f'File "{file}"') for frame in frames)
    hints = [text for text in said.err.splitlines() if text.startswith("Hint:")]
    (failed,) = project.state().runs.values()
    assert hints == [f"Hint: trilho -C {bike_project} runs logs {failed.id}"]
    assert [text.split()[:2] for text in said.out.splitlines()[:4]] == [
        ["extract", "ran"], ["check", "ran"], ["split", "ran"], ["fit-all", "failed"],
    ]  # fmt: skip

    state = project.state()
    assert (state.versions, state.champion, state.rollouts) == ({}, None, {})
    assert failed.state == "failed"
    assert failed.error == "step fit-all failed: ZeroDivisionError: 7320 rows, no wheels"
    assert {x["name"]: x["state"] for x in failed.tasks} == {
        **dict.fromkeys(TASKS[:3], "ran"), "fit-all": "failed", **dict.fromkeys(TASKS[4:], "skipped"),
    }  # fmt: skip
    assert trilho("release", "1").code == 2
    shown = trilho("runs", "logs", failed.id, "fit-all")
    assert shown.code == 0
    assert "ZeroDivisionError: 7320 rows, no wheels" in shown.out
    again = trilho("train", "--json")  # nothing was changed: it fails there again, and repeats nothing before
    assert (again.code, again.json["version"], again.json["state"]) == (1, None, "failed")
    assert states(again.json["tasks"])[:4] == ["cached", "cached", "cached", "failed"]

    change(file, BAD, GOOD)
    mended = trilho("train", "--json")
    assert (mended.code, mended.json["version"], mended.json["verdict"]) == (0, 1, "pass")
    assert [x["name"] for x in mended.json["tasks"]] == TASKS
    assert states(mended.json["tasks"]) == ["cached"] * 3 + ["ran"] * 4
    assert [x.state for x in project.state().runs.values()] == ["failed", "failed", "succeeded"]
    assert trilho("journal", "verify", "--json").json["problem"] is None
    assert [command for command in marked("failing-step").values() if "trilho_runtime" in command] == []


def test_a_champion_goes_on_when_a_retraining_fails(bike_project: Path) -> None:
    trilho, project = Verbs(bike_project), Project.open(bike_project)
    assert trilho("train").code == 0
    assert trilho("release", "1").code == 0
    change(bike_project / "src" / "bike_demand" / "train.py", GOOD, BAD)
    said = trilho("retrain")
    assert said.code == 1
    assert "in _ask_the_wheels" in said.err
    state = project.state()
    assert (state.champion, state.shares, list(state.versions)) == (1, {1: 100}, [1])
    assert [(x.result, x.version) for x in state.retrainings.values()] == [("failed", None)]
    assert state.retrainings["retraining-1"].note == "step fit-all failed: ZeroDivisionError: 7320 rows, no wheels"


def states(tasks: list[dict[str, object]]) -> list[object]:
    return [task["state"] for task in tasks]
