"""A training elsewhere: what is on record, and that it is there once, whatever ends in between."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trilho.core.ports import NotFound, RemoteStatus
from trilho.errors import ConfigError, DataError, TrilhoError, Unreachable, UsageError
from trilho.pipeline.ir import reader as ir
from trilho.project import Project
from trilho.remote import (
    RemoteRun,
    cancel_run,
    follow_run,
    log_of,
    submit,
    submit_training,
    target_of,
)
from trilho.remote.gather import StepRecord
from trilho.testing.conformance import document_of
from trilho.train.records import settle_runs

if TYPE_CHECKING:
    from tests.remote.service import Service

TRAINED = ["dataset.versioned", "run.started", "contract.checked", "run.ended", "version.packaged", "gate.judged"]


def begun(project: Project) -> RemoteRun:
    found = submit_training(project, target_of(project, "kubeflow"))
    assert isinstance(found, RemoteRun)
    return found


def kinds(project: Project) -> list[str]:
    return [record.type for record in project.journal.read_from()]


def payload(project: Project, kind: str) -> Any:
    return next(record.payload for record in project.journal.read_from() if record.type == kind)


def test_a_training_elsewhere_leaves_the_records_of_one_here(project: Project, service: Service) -> None:
    service.trains({"mae": 0.25})
    run = begun(project)
    assert kinds(project) == TRAINED[:2]
    started = payload(project, "run.started")
    assert (started.runner, started.place) == ("kubeflow", f"http://127.0.0.1:9#{run.run}")
    outcome = follow_run(project, run.run)
    assert (outcome.state, outcome.error, outcome.exit_code) == ("succeeded", None, 0)
    assert outcome.training is not None
    assert (outcome.training.version, outcome.training.verdict) == (1, "pass")
    assert kinds(project) == TRAINED
    version = payload(project, "version.packaged")
    assert (version.run, version.metrics, version.dataset) == (run.run, {"mae": 0.25}, started.dataset)
    assert json.loads((project.package(1) / "manifest.json").read_text())["said"] == "a model"
    ended = payload(project, "run.ended")
    assert [task["name"] for task in ended.tasks] == [
        "extract", "check", "split", "fit-all", "predict-all", "evaluate", "pack",
    ]  # fmt: skip
    assert {task["state"] for task in ended.tasks} == {"ran"}
    shown = json.loads((project.home / "runs" / run.run / "run.json").read_text())
    assert (shown["state"], shown["about"]["runner"]) == ("succeeded", "kubeflow")


def test_what_the_pipeline_is_given_lies_there(project: Project, service: Service, tmp_path: Path) -> None:
    service.trains({"mae": 0.25})
    run = begun(project)
    job = service.jobs[run.run]
    root = f"file://{tmp_path}/shared/trilho/line"
    assert (job.root, job.parameters["store"]) == (root, f"{root}/store")
    assert job.labels == {"trilho-model": "line", "trilho-run": run.run}
    assert job.parameters["champion_uri"] == ""
    dataset = job.parameters["dataset"]
    assert (tmp_path / "shared/trilho/line/store" / dataset[:2] / dataset).exists()
    images = {x["container"]["image"] for x in job.document["deploymentSpec"]["executors"].values() if "container" in x}
    assert images == {"registry.example.com/line@sha256:12"}
    follow_run(project, run.run)
    project.release(1, "its package keeps no rows", force=True)
    assert project.state().champion == 1
    second = service.jobs[begun(project).run]
    package = project.state().versions[1].package
    assert second.parameters["champion_uri"] == f"{root}/store/{package[:2]}/{package}"
    assert (tmp_path / "shared/trilho/line/store" / package[:2] / package / "manifest.json").exists()


def test_the_same_package_again_keeps_its_number(project: Project, service: Service) -> None:
    service.trains({"mae": 0.25})
    for _ in range(2):
        run = begun(project).run
        for outcome in (follow_run(project, run), follow_run(project, run)):  # the second is told from the record
            assert outcome.training is not None
            assert (outcome.training.version, outcome.training.verdict, outcome.exit_code) == (1, "pass", 0)
    assert kinds(project).count("version.packaged") == 1
    assert kinds(project).count("gate.judged") == 2


def test_a_run_that_is_followed_again_is_told_from_the_record(project: Project, service: Service) -> None:
    service.trains({"mae": 0.25})
    run = begun(project)
    first = follow_run(project, run.run)
    again = follow_run(project, run.run)
    assert kinds(project) == TRAINED
    assert again.training is not None
    assert first.training is not None
    assert (again.training.version, again.training.verdict, again.tasks) == (1, "pass", first.tasks)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("where", ["look", "fetch", "append"])
def test_whoever_follows_next_finishes_what_a_killed_one_began(
    project: Project, service: Service, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    service.trains({"mae": 0.25})
    run = begun(project)

    def killed(*_: object, **__: object) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        if where == "fetch":
            patch.setattr("trilho.remote.train.fetch", killed)
        if where == "append":
            patch.setattr(type(project.journal), "append", killed)
        with pytest.raises(Killed):
            follow_run(project, run.run, on_status=killed if where == "look" else lambda _run, _status: None)
    assert kinds(project) == TRAINED[:2]
    assert follow_run(Project.open(project.folder), run.run).state == "succeeded"
    assert kinds(project) == TRAINED


def test_several_followers_at_once_write_the_end_once(project: Project, service: Service) -> None:
    service.trains({"mae": 0.25})
    run = begun(project)
    states: list[str] = []

    def watch() -> None:
        states.append(follow_run(Project.open(project.folder), run.run).state)

    threads = [threading.Thread(target=watch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert states == ["succeeded"] * 4
    assert kinds(project) == TRAINED


def test_a_submission_whose_answer_was_lost_is_made_again_by_who_follows(project: Project, service: Service) -> None:
    service.trains({"mae": 0.25})
    service.trouble.append(Unreachable("no route", hint="wait"))
    with pytest.raises(Unreachable) as caught:
        begun(project)
    (run,) = project.state().runs
    assert caught.value.hint == f"wait; then trilho runs follow {run}"
    assert service.jobs == {}
    assert follow_run(project, run).state == "succeeded"
    assert list(service.jobs) == [run]
    assert kinds(project) == TRAINED


def test_a_training_whose_upload_was_killed_has_all_of_it_there_before_it_is_submitted(
    project: Project, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.trains({"mae": 0.25})

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("trilho.remote.train.upload", killed)
        with pytest.raises(Killed):
            begun(project)
    (run,) = project.state().runs
    store = target_of(project, "kubeflow").store
    dataset = payload(project, "run.started").dataset
    assert (service.jobs, store.has(dataset)) == ({}, False)
    assert follow_run(project, run).state == "succeeded"
    assert (list(service.jobs), store.has(dataset)) == ([run], True)


def test_a_run_that_is_being_handed_over_is_cancelled_when_it_is_there(
    project: Project, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_job, uploading, go_on = service.submit, threading.Event(), threading.Event()

    def slow(job: Any) -> str:
        uploading.set()
        assert go_on.wait(60)
        return submit_job(job)

    monkeypatch.setattr(service, "submit", slow)
    submitter = threading.Thread(target=begun, args=(project,))
    submitter.start()
    assert uploading.wait(60)
    (run,) = project.state().runs
    outcomes: list[Any] = []
    canceller = threading.Thread(target=lambda: outcomes.append(cancel_run(Project.open(project.folder), run)))
    canceller.start()
    canceller.join(0.2)
    go_on.set()
    for thread in (submitter, canceller):
        thread.join(60)
    assert service.cancelled == {run}
    assert outcomes[0].error == f"run {run} was cancelled by ana"


def test_a_run_whose_job_was_removed_there_can_be_put_to_an_end(project: Project, service: Service) -> None:
    run = begun(project).run
    service.jobs.clear()
    with pytest.raises(NotFound) as caught:
        follow_run(project, run)
    assert caught.value.hint == f"was its job removed there? trilho runs cancel {run} puts its end on record"
    assert cancel_run(project, run).state == "failed"
    assert project.state().runs[run].state == "failed"


def test_who_may_not_cancel_a_run_is_not_noted_as_having_done_it(
    project: Project, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(project).run

    def refused(_run: str) -> None:
        raise TrilhoError("ana lacks the permission")

    with monkeypatch.context() as patch:
        patch.setattr(service, "cancel", refused)
        with pytest.raises(TrilhoError, match="ana lacks the permission"):
            cancel_run(project, run)
    service.cancelled.add(run)  # by somebody in the service's own console
    assert follow_run(project, run).error == f"run {run} was cancelled"


def test_a_submission_that_is_refused_has_failed_and_is_on_record(project: Project, service: Service) -> None:
    service.trouble.append(TrilhoError("ana lacks the permission", hint="grant it"))
    with pytest.raises(TrilhoError, match="ana lacks the permission"):
        begun(project)
    assert kinds(project) == ["dataset.versioned", "run.started", "run.ended"]
    assert payload(project, "run.ended").error == "ana lacks the permission"
    (run,) = project.state().runs
    assert follow_run(project, run).state == "failed"


def test_data_that_cannot_be_read_ends_before_anything_is_sent(project: Project, service: Service) -> None:
    (project.folder / "data.csv").write_text("id,ts,x,y\n")
    outcome = submit_training(project, target_of(project, "kubeflow"))
    assert not isinstance(outcome, RemoteRun)
    assert (outcome.state, outcome.error) == ("failed", f"{project.folder}/data.csv has a header and no rows")
    assert kinds(project) == ["run.started", "run.ended"]
    assert service.jobs == {}


def test_a_step_that_failed_there_speaks_here(project: Project, service: Service) -> None:
    service.plan["fit-all"] = StepRecord(
        task="fit-all",
        state="failed",
        seconds=0.5,
        error={"kind": "ValueError", "fact": "ValueError: no rain", "hint": None, "exit_code": 1},
        said=["Traceback (most recent call last):", "step line.train:fit failed: ValueError: no rain"],
    )
    run = begun(project)
    outcome = follow_run(project, run.run)
    assert outcome.error == "step fit-all failed: ValueError: no rain\nTraceback (most recent call last):"
    assert (outcome.exit_code, outcome.hint) == (1, f"trilho runs logs {run.run} fit-all")
    assert kinds(project) == ["dataset.versioned", "run.started", "contract.checked", "run.ended"]
    ended = payload(project, "run.ended")
    assert ended.error == "step fit-all failed: ValueError: no rain"
    assert {task["name"]: task["state"] for task in ended.tasks}["pack"] == "skipped"
    assert "ValueError: no rain" in project.tail_log(run.run, "fit-all")


def test_a_broken_contract_keeps_its_exit_code(project: Project, service: Service) -> None:
    (project.folder / "contract.toml").write_text('[columns.y]\ntype = "number"\nmax = 5\n')
    fact = "the data breaks its contract: y is 33 at most 5"
    service.plan["check"] = StepRecord(
        task="check",
        state="failed",
        seconds=0.5,
        error={"kind": "Refused", "fact": fact, "hint": "correct the data", "exit_code": 3},
    )
    outcome = follow_run(project, begun(project).run)
    assert (outcome.error, outcome.hint, outcome.exit_code) == (fact, "correct the data", 3)
    again = follow_run(project, outcome.run)
    assert (again.exit_code, again.training.exit_code if again.training else 0) == (3, 3)
    checked = payload(project, "contract.checked")
    assert checked.verdict == "fail"
    assert checked.findings


def test_a_cancelled_run_is_cancelled_there_and_on_record(project: Project, service: Service) -> None:
    run = begun(project)
    outcome = cancel_run(project, run.run)
    assert service.cancelled == {run.run}
    assert (outcome.state, outcome.error) == ("failed", f"run {run.run} was cancelled by ana")
    assert payload(project, "run.ended").error == f"run {run.run} was cancelled by ana"
    with pytest.raises(UsageError, match="has ended already"):
        cancel_run(project, run.run)
    assert kinds(project).count("run.ended") == 1


def test_a_run_that_was_never_handed_over_can_be_cancelled(project: Project, service: Service) -> None:
    service.trouble.append(Unreachable("no route"))
    with pytest.raises(Unreachable):
        begun(project)
    (run,) = project.state().runs
    assert cancel_run(project, run).state == "failed"
    assert service.jobs == {}


def test_a_training_here_leaves_runs_elsewhere_alone(project: Project, service: Service) -> None:
    run = begun(project)
    context = project.train_context("r-next", "a person", None)
    assert context.running == ()
    settle_runs(project.home, "line", context.running, project.record)
    assert project.state().runs[run.run].state == "running"


def test_what_was_changed_in_the_bucket_is_not_registered(project: Project, service: Service, tmp_path: Path) -> None:
    service.trains({"mae": 0.25})
    run = begun(project)
    (tmp_path / "shared/outputs/a-model/package/manifest.json").write_text("{}")
    with pytest.raises(DataError, match="is not what the step's record names"):
        follow_run(project, run.run)
    assert kinds(project) == TRAINED[:2]


def test_a_run_that_left_no_word_of_its_package_has_failed(project: Project, service: Service) -> None:
    run = begun(project)
    outcome = follow_run(project, run.run)
    assert outcome.state == payload(project, "run.ended").state == "failed"
    assert outcome.error is not None
    assert outcome.error.endswith(f"/runs/{run.run}/pack.json does not name its package")
    assert "version.packaged" not in kinds(project)


def test_silence_while_following_changes_nothing(project: Project, service: Service) -> None:
    service.trains({"mae": 0.25})
    run = begun(project)
    service.trouble += [Unreachable("no route")] * 3
    said: list[str] = []
    assert follow_run(project, run.run, say=said.append).state == "succeeded"
    assert said == ["no route; looking again"] * 3


def test_the_log_of_a_task_is_fetched_and_kept(project: Project, service: Service) -> None:
    service.trains({"mae": 0.25})
    run = begun(project)
    assert log_of(project, run.run, "fit-all") == "printed there\n"
    assert not (project.home / "runs" / run.run / "fit-all.log").exists()
    follow_run(project, run.run)
    log_of(project, run.run, "fit-all")
    assert project.tail_log(run.run, "fit-all") == "printed there\n"


# ---- any other pipeline ----------------------------------------------------------------------------------------


def test_any_pipeline_is_submitted_followed_and_on_record(project: Project, service: Service) -> None:
    seen: list[RemoteStatus] = []
    spec = ir.read(document_of({"first": "true", "second": "true"}))
    run = submit(project, spec, {"word": "x"}, target_of(project, "kubeflow"))
    assert (run.pipeline, run.parameters) == ("conformance", {"word": "x"})
    outcome = follow_run(project, run.run, on_status=lambda _run, status: seen.append(status))
    assert (outcome.state, outcome.training) == ("succeeded", None)
    assert kinds(project) == ["run.started", "run.ended"]
    started = payload(project, "run.started")
    assert (started.pipeline, started.runner, started.dataset) == ("conformance", "kubeflow", None)
    assert [status.state for status in seen] == ["running", "succeeded"]


def test_an_image_that_only_this_machine_has_is_refused(project: Project, service: Service) -> None:
    document = document_of({"first": "true"})
    document["deploymentSpec"]["executors"]["exec-first"]["container"]["image"] = "trilho.local/line@sha256:1"
    with pytest.raises(UsageError, match="stands for this machine"):
        submit(project, ir.read(document), {}, target_of(project, "kubeflow"))
    assert kinds(project) == []


def test_a_service_needs_an_image(project: Project, service: Service) -> None:
    text = (project.folder / "trilho.toml").read_text()
    (project.folder / "trilho.toml").write_text(text.replace("image = ", "# image = "))
    changed = Project.open(project.folder)
    with pytest.raises(ConfigError, match=r"environments.cluster.image is missing"):
        submit_training(changed, target_of(changed, "kubeflow"))
    assert kinds(changed) == []


def test_a_run_that_another_machine_submitted_is_not_known_here(project: Project) -> None:
    with pytest.raises(UsageError, match="was not submitted from this machine's home"):
        follow_run(project, "r-nobodys")
