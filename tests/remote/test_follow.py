"""Following a run elsewhere: through silence, to its end, and what is made of what it left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from trilho.core.ports import NoAccess, RemoteJob, RemoteStatus, RemoteTask
from trilho.errors import Refused, StepFailed, Unreachable
from trilho.pipeline.ir import reader as ir
from trilho.remote.follow import changes, follow
from trilho.remote.gather import StepRecord, gather, read_records
from trilho.testing.conformance import document_of

RUNNING = RemoteStatus(state="running", tasks=(RemoteTask(name="first", state="running"),))
DONE = RemoteStatus(state="succeeded", tasks=(RemoteTask(name="first", state="succeeded", seconds=2.0),))


class Scripted:
    """A runner whose answers are written down; the last one lasts."""

    def __init__(self, *answers: RemoteStatus | Exception) -> None:
        self._answers = list(answers)
        self.asked = 0

    def status(self, run: str) -> RemoteStatus:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def submit(self, job: RemoteJob) -> str:
        return job.run

    def cancel(self, run: str) -> None: ...

    def log(self, run: str, task: str) -> str:
        return ""


class Kept:
    """Files that steps left, in memory."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def read(self, uri: str) -> bytes | None:
        return self.files.get(uri)

    def list(self, uri: str) -> Sequence[str]:
        return sorted(name for name in self.files if name.startswith(uri + "/"))

    def fetch(self, uri: str, to: Path) -> None: ...


def test_a_dropped_line_does_not_end_the_following() -> None:
    runner = Scripted(RUNNING, Unreachable("no route"), Unreachable("no route"), RUNNING, DONE)
    seen: list[str] = []
    silences: list[str] = []
    status = follow(
        runner,
        "r1",
        on_status=lambda status: seen.append(status.state),
        on_silence=lambda error: silences.append(error.fact),
        sleep=lambda _seconds: None,
    )
    assert status == DONE
    assert seen == ["running", "running", "succeeded"]
    assert silences == ["no route", "no route"]


def test_a_line_that_stays_down_says_how_to_go_on() -> None:
    runner = Scripted(Unreachable("no route", hint="wait"))
    with pytest.raises(Unreachable) as caught:
        follow(runner, "r1", offline_seconds=0.0, sleep=lambda _seconds: None)
    assert (caught.value.fact, caught.value.hint) == ("no route", "the run goes on; trilho runs follow r1")


def test_refused_credentials_end_it_at_once() -> None:
    runner = Scripted(NoAccess("expired"))
    with pytest.raises(NoAccess):
        follow(runner, "r1", sleep=lambda _seconds: None)
    assert runner.asked == 1


def test_the_news_of_a_look() -> None:
    assert [(task.name, task.state) for task in changes(None, RUNNING)] == [("first", "running")]
    assert [(task.name, task.state) for task in changes(RUNNING, DONE)] == [("first", "succeeded")]
    assert changes(DONE, DONE) == []


# ---- what was left ---------------------------------------------------------------------------------------------

SPEC = ir.read(document_of({"first": "true", "second": "true", "third": "true"}))
OK = StepRecord(
    task="first",
    state="ran",
    seconds=1.5,
    outputs={"table": {"uri": "gs://b/table", "digest": "d1"}},
    values={"rows": 7},
)


def status_of(state: Any, **tasks: Any) -> RemoteStatus:
    found = (RemoteTask(name=name, state=value, seconds=3.0) for name, value in tasks.items())
    return RemoteStatus(state=state, tasks=tuple(found))


def test_a_run_that_succeeded_is_put_together_from_both_sides() -> None:
    records = {"first": OK, "second": StepRecord(task="second", state="cached", seconds=0.1, since="r0")}
    status = status_of("succeeded", third="succeeded", second="succeeded", first="succeeded")
    found = gather(SPEC, status, records, run="r1", seconds=60.0)
    assert [(x["name"], x["state"], x["seconds"], x["needs"], x["reason"]) for x in found.result.tasks] == [
        ("first", "ran", 1.5, [], ""),
        ("second", "cached", 0.1, ["first"], "unchanged since r0"),
        ("third", "ran", 3.0, ["second"], ""),
    ]
    assert found.result.values == {"first.rows": 7}
    assert found.result.artifacts == {"first.table": "d1"}
    assert found.places == {"first.table": "gs://b/table"}
    assert (found.result.state, found.result.error, found.result.seconds) == ("succeeded", None, 60.0)


def test_a_failed_step_speaks_for_itself() -> None:
    failed = StepRecord(
        task="second",
        state="failed",
        seconds=0.5,
        error={"kind": "ValueError", "fact": "ValueError: no rows", "hint": None, "exit_code": 1},
        said=["Traceback", '  File "fit.py", line 3', "step shop:fit failed: ValueError: no rows"],
    )
    status = status_of("failed", first="succeeded", second="failed", third="skipped")
    result = gather(SPEC, status, {"first": OK, "second": failed}, run="r1", seconds=1.0).result
    assert isinstance(result.error, StepFailed)
    assert result.error.fact == ('step second failed: ValueError: no rows\nTraceback\n  File "fit.py", line 3')
    assert result.error.hint == "trilho runs logs r1 second"
    assert [(x["state"], x["reason"]) for x in result.tasks[1:]] == [
        ("failed", "step second failed: ValueError: no rows"),
        ("skipped", "second failed"),
    ]


def test_an_error_of_ours_keeps_its_kind_and_hint() -> None:
    broken = {"kind": "Refused", "fact": "the data breaks its contract", "hint": "correct the data", "exit_code": 3}
    record = StepRecord(task="first", state="failed", seconds=0.1, error=broken)
    error = gather(SPEC, status_of("failed", first="failed"), {"first": record}, run="r1", seconds=1.0).result.error
    assert isinstance(error, Refused)
    assert (str(error), error.exit_code) == ("the data breaks its contract\nHint: correct the data", 3)


def test_a_task_that_wrote_nothing_has_its_log_asked_for() -> None:
    status = RemoteStatus(
        state="failed", tasks=(RemoteTask(name="first", state="failed", error="the container was killed"),)
    )
    error = gather(SPEC, status, {}, run="r1", seconds=1.0, log=lambda task: f"of {task}\nlast line\n").result.error
    assert error is not None
    assert error.fact == "step first failed: the container was killed\nof first\nlast line"


def test_a_service_that_tells_the_log_itself_is_not_quoted_twice() -> None:
    told = "step first failed: exit 1\nlast line\nHint: look at the log"
    status = RemoteStatus(state="failed", tasks=(RemoteTask(name="first", state="failed"),), error=told)
    error = gather(SPEC, status, {}, run="r1", seconds=1.0, log=lambda _task: "last line\n").result.error
    assert error is not None
    assert error.fact == "step first failed: exit 1\nlast line"


def test_a_failure_of_no_task_is_the_job_s_own() -> None:
    status = RemoteStatus(state="failed", error="the image cannot be pulled")
    error = gather(SPEC, status, {}, run="r1", seconds=1.0).result.error
    assert error is not None
    assert error.fact == "the image cannot be pulled"


def test_a_cancelled_run_failed_because_of_that() -> None:
    status = status_of("cancelled", first="cancelled", second="pending")
    result = gather(SPEC, status, {}, run="r1", seconds=1.0).result
    assert (result.state, result.error.fact if result.error else "") == ("failed", "run r1 was cancelled")
    assert [(x["state"], x["reason"]) for x in result.tasks] == [
        ("failed", "it was cancelled"),
        ("skipped", "first failed"),
        ("skipped", "second skipped"),
    ]


def test_records_that_are_not_whole_count_as_none() -> None:
    whole = {"schema": 1, "task": "fit", "state": "ran", "seconds": 1.0, "outputs": {}, "values": {"rows": 3}}
    files = Kept(
        {
            "gs://b/root/runs/r1/fit.json": json.dumps(whole).encode(),
            "gs://b/root/runs/r1/pack.json": b'{"schema": 1, "task": "pa',
            "gs://b/root/runs/r1/notes.txt": b"{}",
        }
    )
    found = read_records(files, "gs://b/root/", "r1")
    assert {name: record.values for name, record in found.items()} == {"fit": {"rows": 3}}


def test_the_iterations_of_a_loop_are_tasks_of_their_own() -> None:
    document = document_of({"fit": "true"})
    inner = {"dag": document["root"].pop("dag")}
    document["components"]["comp-for-loop-1"] = {
        "inputDefinitions": {"parameters": {"item": {"parameterType": "STRING"}}, **inner.pop("inputDefinitions", {})},
        **inner,
    }
    inner["dag"]["tasks"]["fit"]["inputs"]["parameters"]["word"] = {"componentInputParameter": "item"}
    document["root"]["dag"] = {
        "tasks": {
            "for-loop-1": {
                "taskInfo": {"name": "for-loop-1"},
                "componentRef": {"name": "comp-for-loop-1"},
                "parameterIterator": {"itemInput": "item", "items": {"raw": '["a", "b", "c"]'}},
            }
        }
    }
    status = RemoteStatus(
        state="succeeded",
        tasks=tuple(RemoteTask(name=f"for-loop-1/{i}/fit", state="succeeded", seconds=1.0) for i in range(3)),
    )
    record = StepRecord(task="fit", state="ran", seconds=9.0, values={"rows": 1})
    result = gather(ir.read(document), status, {"fit": record}, run="r1", seconds=1.0).result
    assert [(x["name"], x["seconds"]) for x in result.tasks] == [
        ("for-loop-1/0/fit", 1.0),
        ("for-loop-1/1/fit", 1.0),
        ("for-loop-1/2/fit", 1.0),
    ]
    assert result.values == {}


def test_what_was_not_entered_is_listed_as_skipped() -> None:
    result = gather(SPEC, status_of("succeeded", first="succeeded"), {}, run="r1", seconds=1.0).result
    assert [(x["name"], x["state"], x["reason"]) for x in result.tasks] == [
        ("first", "ran", ""),
        ("second", "skipped", ""),
        ("third", "skipped", "second skipped"),
    ]


def test_a_group_s_tasks_need_what_runs_before_it_as_they_do_here() -> None:
    document = document_of({"split": "true", "score": "true", "pair": "true", "pack": "true"})
    tasks = document["root"]["dag"]["tasks"]
    document["components"]["comp-condition-1"] = {
        "inputDefinitions": {"parameters": {"word": {"parameterType": "STRING"}}},
        "dag": {"tasks": {"pair": tasks.pop("pair"), "score": tasks.pop("score")}},
    }
    del document["components"]["comp-condition-1"]["dag"]["tasks"]["score"]["dependentTasks"]
    del tasks["pack"]["dependentTasks"]
    tasks["condition-1"] = {
        "taskInfo": {"name": "condition-1"},
        "componentRef": {"name": "comp-condition-1"},
        "inputs": {"parameters": {"word": {"componentInputParameter": "word"}}},
        "triggerPolicy": {"condition": "inputs.parameter_values['word'] != ''"},
        "dependentTasks": ["split"],
    }
    tasks["pack"]["dependentTasks"] = ["condition-1"]
    spec, entered = ir.read(document), {"condition-1/pair": "succeeded", "condition-1/score": "succeeded"}
    ran = gather(spec, status_of("succeeded", **entered, pack="succeeded", split="succeeded"), {}, run="r", seconds=1)
    assert [(x["name"], x["needs"]) for x in ran.result.tasks] == [
        ("split", []),
        ("condition-1/score", ["split"]),
        ("condition-1/pair", ["condition-1/score"]),
        ("pack", ["condition-1/pair"]),
    ]
    failed = gather(spec, status_of("failed", split="failed"), {}, run="r", seconds=1).result
    assert [(x["name"], x["needs"], x["reason"]) for x in failed.tasks[1:3]] == [
        ("condition-1/score", ["split"], "split failed"),
        ("condition-1/pair", ["split"], "split failed"),
    ]


def test_values_are_typed_as_they_are_here() -> None:
    document = document_of({"first": "true"})
    outputs = {"rows": {"parameterType": "NUMBER_INTEGER"}, "metrics": {"parameterType": "STRUCT"}}
    document["components"]["comp-first"]["outputDefinitions"] = {"parameters": outputs}
    told = StepRecord(task="first", state="ran", seconds=1, values={"rows": 7.0, "metrics": {"rows": 7.0, "mae": 0.5}})
    found = gather(ir.read(document), status_of("succeeded", first="succeeded"), {"first": told}, run="r", seconds=1)
    assert repr(found.result.values) == repr({"first.rows": 7, "first.metrics": {"rows": 7, "mae": 0.5}})


def test_a_task_that_the_service_failed_after_its_last_word_has_failed() -> None:
    status = RemoteStatus(
        state="failed", tasks=(RemoteTask(name="first", state="failed", error="its outputs were lost"),)
    )
    result = gather(SPEC, status, {"first": OK}, run="r1", seconds=1.0).result
    assert [(x["state"], x["reason"]) for x in result.tasks[:1]] == [("failed", "its outputs were lost")]
    assert result.error is not None
    assert result.error.fact == "step first failed: its outputs were lost"


def test_the_outputs_of_others_steps_are_what_the_service_tells() -> None:
    document = document_of({"first": "true"})
    document["components"]["comp-first"]["outputDefinitions"] = {
        "parameters": {"rows": {"parameterType": "NUMBER_INTEGER"}},
        "artifacts": {"model": {"artifactType": {"schemaTitle": "system.Model", "schemaVersion": "0.0.1"}}},
    }
    document["root"]["outputDefinitions"] = document["components"]["comp-first"]["outputDefinitions"]
    document["root"]["dag"]["outputs"] = {
        "parameters": {"rows": {"valueFromParameter": {"producerSubtask": "first", "outputParameterKey": "rows"}}},
        "artifacts": {
            "model": {"artifactSelectors": [{"producerSubtask": "first", "outputArtifactKey": "model"}]},
        },
    }
    told = RemoteTask(name="first", state="succeeded", values={"rows": 7.0}, artifacts={"model": "gs://b/m"})
    status = RemoteStatus(state="succeeded", tasks=(told,))
    found = gather(ir.read(document), status, {}, run="r1", seconds=1.0)
    assert found.result.outputs == {"rows": 7, "model": {"uri": "gs://b/m", "type": "", "metadata": {}}}
    assert (found.result.artifacts, found.places) == ({}, {})
