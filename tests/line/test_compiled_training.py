"""The project's training, compiled to a file and run from it like anybody's pipeline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.line_project import rows, write_project

from trilho.backends.local.journal import LocalJournal


def test_the_compiled_training_is_given_what_only_the_project_knows(project_python: Path, tmp_path: Path) -> None:
    project, home = tmp_path / "project", tmp_path / "home"
    write_project(project, '[train]\nholdout = "last 10 days"\n', rows(0, 400, 2.0))
    environment = {**os.environ, "TRILHO_HOME": str(home), "TRILHO_PYTHON": str(project_python)}

    def trilho(*words: str) -> Any:
        command = [sys.executable, "-m", "trilho", "pipeline", *words, "--json", "-C", str(project)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    trilho("compile", "-o", "pipeline.yaml")
    found = trilho("run", "pipeline.yaml")
    states = {task["name"]: task["state"] for task in found["tasks"]}
    assert (states["fit-all"], states["pack"], states["condition-1/score"]) == ("ran", "ran", "skipped")
    assert found["outputs"]["metrics"]["mae"] < 1e-9
    assert found["outputs"]["rows"] == 400
    again = trilho("run", "pipeline.yaml")
    assert {task["state"] for task in again["tasks"]} == {"cached", "skipped"}
    kinds = [record.type for record in LocalJournal(home / "journal.sqlite").read_from()]
    assert kinds == ["run.started", "run.ended"] * 2
    assert sorted(path.name for path in (home / "runs").iterdir()) == sorted([found["run"], again["run"]])
