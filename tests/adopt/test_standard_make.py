"""A new project's own `make`: its tests, its data held against the contract, and a training on a sample."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trilho.adopt.scaffold import write_project
from trilho.cli.app import run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, project_python: Path) -> Path:
    write_project(tmp_path / "rides", "rides", "classification", str(project_python))
    return tmp_path / "rides"


def make(project: Path, *targets: str) -> subprocess.CompletedProcess[str]:
    tools = Path(sys.executable).parent
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    words = ["make", f"TRILHO={tools / 'trilho'}", f"RUFF={tools / 'ruff'}", f"PYTHON={sys.executable}", *targets]
    return subprocess.run(words, cwd=project, capture_output=True, text=True, check=False, env=kept)


def test_make_runs_what_ci_runs(project: Path) -> None:
    done = make(project, "setup", "lint", "test", "contract", "compile", "sample")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert "3,600 rows satisfy contract.toml." in done.stdout
    assert "Fitted, evaluated and packaged on a sample; the gate would say pass. Nothing was kept." in done.stdout
    assert 'schemaVersion: "2.1.0"' in (project / "pipeline.yaml").read_text()
    assert not (project / ".venv").exists()  # trilho.toml names another
    assert not list((project / ".trilho").glob("journal*"))


def test_data_that_breaks_the_contract_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contract = project / "contract.toml"
    contract.write_text(contract.read_text().replace("max = 50", "max = 10"))
    capsys.readouterr()
    assert run(["-C", str(project), "data", "check", "--json"]) == 3
    said = json.loads(capsys.readouterr().out)
    assert (said["rows"], said["passed"], [x["column"] for x in said["findings"]]) == (3600, False, ["temp_c"])
    assert run(["-C", str(project), "train", "--sample", "--json"]) == 3


def test_a_sample_leaves_the_tables_own_rules_out_and_keeps_nothing(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRILHO_HOME", str(tmp_path / "home"))
    contract = project / "contract.toml"
    contract.write_text(contract.read_text().replace("min_rows = 1000", 'min_rows = 100000\nfreshness = "1 day"'))
    capsys.readouterr()
    assert run(["-C", str(project), "train", "--sample", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["sample"], said["state"], said["next"]) == (True, "succeeded", f"trilho -C {project} train")
    assert said["metrics"]["roc_auc"] > 0.6
    assert not (tmp_path / "home" / "journal.sqlite").exists()
    assert run(["-C", str(project), "data", "check"]) == 3


def test_a_sample_of_a_failing_step_says_why(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = project / "src" / "rides" / "train.py"
    code.write_text(code.read_text().replace("    model.fit", "    raise ValueError('no rain')\n    model.fit"))
    capsys.readouterr()
    assert run(["-C", str(project), "train", "--sample"]) == 1
    assert "no rain" in capsys.readouterr().err


def test_a_sample_is_of_this_machine(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-C", str(project), "train", "--sample", "--on", "vertex"]) == 2
    assert "--sample is for this machine" in capsys.readouterr().err
