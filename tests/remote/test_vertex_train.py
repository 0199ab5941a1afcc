"""A training on Vertex AI, emulated, with real steps: to the end, through a killed follower, and when it goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trilho.errors import TrilhoError
from trilho.pipeline.ir import reader as ir
from trilho.project import Project
from trilho.remote import create_schedule, follow_run, submit, submit_training, target_of
from trilho.testing.conformance import document_of
from trilho.testing.emulator.rules import Failure

if TYPE_CHECKING:
    from tests.remote.conftest import Google

PATIENCE_SECONDS = 60.0


@dataclass
class Line:
    """A project whose trainings run on the emulated Vertex AI, and the command line in it."""

    project: Project
    google: Google
    home: Path
    python: Path

    def trilho(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.words(*words), env=self.environment | environment, **PIPES)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(self.words(*words), env=self.environment, **PIPES_ONLY)

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "trilho", "-C", str(self.project.folder), *words]

    @property
    def environment(self) -> dict[str, str]:
        own = {"TRILHO_HOME": str(self.home), "TRILHO_PYTHON": str(self.python), "TRILHO_ACTOR": "ana"}
        return {**self.google.environment, **own}

    def records(self) -> list[Any]:
        return [record.payload for record in self.project.journal.read_from()]

    def kinds(self) -> list[str]:
        return [record.type for record in self.project.journal.read_from()]


PIPES: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 120, "check": False}
PIPES_ONLY: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


@pytest.fixture
def line(
    google: Google, project: Project, project_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Line]:
    """The project, moved to where the emulator has its image from."""
    folder = google.emulator.root / "line"
    project.folder.rename(folder)
    for name, value in google.emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRILHO_PYTHON", str(project_python))
    yield Line(Project.open(folder), google, tmp_path / "home", project_python)
    google.emulator.rules.failures.clear()
    google.emulator.rules.deny.clear()
    folder.rename(tmp_path / "line")


def wait_for(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def submitted(home: Path) -> str | None:
    for path in home.glob("runs/*/remote.json"):
        if json.loads(path.read_text())["submitted"]:
            return path.parent.name
    return None


def test_a_killed_follower_s_training_ends_like_one_that_ran_here(line: Line, tmp_path: Path) -> None:
    line.google.emulator.rules.failures += [  # what passes on the way is not noticed
        Failure("CreatePipelineJob", "UNAVAILABLE", 1),
        Failure("storage.objects.create", "UNAVAILABLE", 1),
        Failure("GetPipelineJob", "DEADLINE_EXCEEDED", 1),
    ]
    follower = line.start("train", "--on", "vertex")
    wait_for(lambda: submitted(line.home) or follower.poll() is not None)
    run = submitted(line.home)
    assert run is not None, follower.communicate()[1]
    os.kill(follower.pid, signal.SIGKILL)
    follower.communicate()
    assert line.kinds() == ["dataset.versioned", "run.started"]

    followed = line.trilho("runs", "follow", run, "--json")
    assert followed.returncode == 0, followed.stderr
    found = json.loads(followed.stdout)
    assert (found["run"], found["version"], found["verdict"], found["on"]) == (run, 1, "pass", "vertex")
    assert found["place"] == f"projects/shop/locations/southamerica-east1/pipelineJobs/{run}"
    assert "fit-all" in followed.stderr

    local = line.trilho("train", "--json", TRILHO_HOME=str(tmp_path / "local"))
    assert local.returncode == 0, local.stderr
    here = json.loads(local.stdout)
    assert found["metrics"] == here["metrics"]
    assert [task["name"] for task in found["tasks"]] == [task["name"] for task in here["tasks"]]
    assert {task["state"] for task in found["tasks"]} == {"ran"}
    assert _facts(line.home) == _facts(tmp_path / "local")
    assert line.project.package(1).joinpath("manifest.json").exists()

    job = line.google.cloud.pipelines.get_pipeline_job(name=found["place"])
    assert (job.labels["trilho-model"], job.labels["trilho-run"]) == ("line", run)

    again = json.loads(line.trilho("train", "--on", "vertex", "--json").stdout)
    assert {task["state"] for task in again["tasks"]} == {"cached"}
    assert again["version"] == 1


def _facts(home: Path) -> list[tuple[str, dict[str, Any]]]:
    """Give a journal's records without what must differ between two runs: names, places, times."""
    from trilho.backends.local.journal import LocalJournal

    own = ("run", "place", "runner", "package", "seconds")
    found = []
    for record in LocalJournal(home / "journal.sqlite").read_from():
        assert record.payload is not None
        data = {key: value for key, value in asdict(record.payload).items() if key not in own}
        data["tasks"] = [{**task, "seconds": 0} for task in data.get("tasks", ())]
        found.append((record.type, data))
    return found


def test_a_step_that_fails_there_is_told_here(line: Line) -> None:
    source = line.project.folder / "src" / "line" / "train.py"
    source.write_text(
        source.read_text().replace("    return Linear", "    raise ValueError('no rain')\n    return Linear")
    )
    said = line.trilho("train", "--on", "vertex")
    assert said.returncode == 1
    lines = said.stderr.splitlines()
    assert lines[0] == "step fit-all failed: ValueError: no rain"
    assert any("line/train.py" in one for one in lines)
    assert lines[-1].startswith(f"Hint: trilho -C {line.project.folder} runs logs r")
    assert line.records()[-1].error == "step fit-all failed: ValueError: no rain"
    assert "no rain" in line.trilho("runs", "logs", "--json").stdout


def test_a_missing_permission_is_told_with_its_role(line: Line) -> None:
    line.google.emulator.rules.deny.append("aiplatform.pipelineJobs.create")
    with pytest.raises(TrilhoError) as caught:
        submit_training(line.project, target_of(line.project, "vertex"))
    assert "lacks the permission aiplatform.pipelineJobs.create" in caught.value.fact
    assert caught.value.hint == (
        "gcloud projects add-iam-policy-binding shop "
        "--member=serviceAccount:emulator@shop.iam.gserviceaccount.com --role=roles/aiplatform.user"
    )
    assert line.kinds() == ["dataset.versioned", "run.started", "run.ended"]


def test_a_task_that_wrote_no_record_has_its_log_shown(line: Line) -> None:
    spec = ir.read(document_of({"first": "echo out of luck; exit 3", "second": "true"}))
    run = submit(line.project, spec, {}, target_of(line.project, "vertex"))
    outcome = follow_run(line.project, run.run)
    assert outcome.state == "failed"
    assert outcome.error is not None
    assert outcome.error.splitlines()[-1] == "out of luck"
    assert [(task["name"], task["state"]) for task in outcome.tasks] == [("first", "failed"), ("second", "skipped")]


def test_a_schedule_is_made_once_by_its_name(line: Line) -> None:
    target, spec = target_of(line.project, "vertex"), ir.read(document_of({"first": "true"}))
    made = create_schedule(target, spec, {}, name="nightly", cron="0  3 * * 1", timezone="America/Sao_Paulo")
    (found,) = target.scheduler.list()
    assert (found.id, found.name, found.cron, found.timezone) == (made, "nightly", "0 3 * * 1", "America/Sao_Paulo")
    with pytest.raises(TrilhoError, match="there is a schedule nightly already"):
        create_schedule(target, spec, {}, name="nightly", cron="0 4 * * *", timezone="UTC")
    with pytest.raises(TrilhoError, match="the minute is '61'"):
        create_schedule(target, spec, {}, name="other", cron="61 4 * * *", timezone="UTC")
    target.scheduler.delete(made)
