"""`trilho init`: what it writes works at once."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trilho.config import load_settings

if TYPE_CHECKING:
    from tests.cli.conftest import Verb

TASKS = ["name", "state", "seconds", "reason"]


@pytest.mark.parametrize(("name", "hint"), [("Late Trains", "late-trains"), ("class", "my-model"), ("9lives", "lives")])
def test_names_are_checked(trilho: Verb, tmp_path: Path, name: str, hint: str) -> None:
    said = trilho("-C", str(tmp_path), "init", name)
    assert said.code == 2
    assert said.err.splitlines()[1].endswith(f"init {hint}")


def test_nothing_is_written_over(trilho: Verb, tmp_path: Path) -> None:
    (tmp_path / "rides").mkdir()
    (tmp_path / "rides" / "notes.txt").write_text("mine")
    assert trilho("-C", str(tmp_path), "init", "rides").code == 2
    assert [x.name for x in (tmp_path / "rides").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_a_new_project_trains_releases_and_passes_its_own_tests(
    trilho: Verb, tmp_path: Path, project_python: Path, task: str
) -> None:
    folder = tmp_path / "first-model"
    made = trilho("-C", str(tmp_path), "init", "first-model", "--task", task, "--python", str(project_python), "--json")
    assert made.json["next"] == f"trilho -C {folder} train"
    assert load_settings(folder).model.task == task
    trained = trilho("-C", str(folder), "train", "--json")
    assert (trained.code, trained.json["state"], trained.json["version"], trained.json["verdict"]) == (
        0,
        "succeeded",
        1,
        "pass",
    )
    assert {tuple(x) for x in trained.json["tasks"]} == {tuple(TASKS)}
    assert {x["state"] for x in trained.json["tasks"]} == {"ran"}
    assert trilho("-C", str(folder), "release", "1", "--yes", "--json").json["champion"] == 1
    own = subprocess.run(
        [str(project_python), "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert own.returncode == 0, own.stdout


def test_a_failing_step_is_told_with_its_name_and_leaves_nothing_half_done(
    trilho: Verb, tmp_path: Path, project_python: Path
) -> None:
    folder = tmp_path / "broken"
    trilho("-C", str(tmp_path), "init", "broken", "--python", str(project_python))
    source = folder / "src" / "broken" / "train.py"
    good = source.read_text()
    source.write_text(good.replace("    model.fit", "    raise ValueError('no rain today')\n    model.fit"))
    failed = trilho("-C", str(folder), "train", "--json")
    assert (failed.code, failed.json["state"], failed.json["version"]) == (1, "failed", None)
    assert "no rain today" in failed.json["error"]
    assert {x["name"]: x["state"] for x in failed.json["tasks"]}["pack"] == "skipped"
    assert "no rain today" in trilho("-C", str(folder), "runs", "logs").out
    source.write_text(good)
    again = trilho("-C", str(folder), "train", "--json").json
    states = {x["name"]: x["state"] for x in again["tasks"]}
    assert (again["version"], states["extract"], states["split"]) == (1, "cached", "cached")
