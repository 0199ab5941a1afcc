"""Running a pipeline: order, cache, failure, resume, what is kept and told."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline import sdk
from tests.pipeline.executing import Bench, document, leaves, reasons, states

from trilho.errors import NotYet, Refused, StepFailed, UsageError
from trilho.pipeline.execution.execute import Job, Stopped
from trilho.pipeline.keeping.runs import RunFolder
from trilho.pipeline.workers.workers import Ended, Leaf, Problem


@pytest.fixture
def run(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "home", tmp_path)


def chain(n: int = 4) -> dict[str, Any]:
    return document(
        {
            "make": {"takes": {"n": n}, "values": {"n": "NUMBER_INTEGER"}, "makes": ["data"]},
            "double": {"takes": {"data": "=make.data"}, "makes": ["data"]},
            "total": {"takes": {"data": "=double.data", "n": "make.n"}, "values": {"sum": "NUMBER_DOUBLE"}},
        }
    )


def working(run: Bench, content: str = "1 2") -> Bench:
    def double(leaf: Leaf) -> Ended:
        given = Path(leaf.request["inputs"]["artifacts"]["data"]["artifacts"][0]["uri"]).read_text()
        return leaves({}, {"data": " ".join(str(2 * int(x)) for x in given.split())})(leaf)

    def total(leaf: Leaf) -> Ended:
        given = Path(leaf.request["inputs"]["artifacts"]["data"]["artifacts"][0]["uri"]).read_text()
        return leaves({"sum": sum(map(int, given.split()))})(leaf)

    run.workers.fake = {"make": leaves({"n": 2}, {"data": content}), "double": double, "total": total}
    return run


def test_a_run_leaves_values_artifacts_and_a_manifest(run: Bench) -> None:
    result = working(run)(chain(), about={"model": "m"})
    assert result.state == "succeeded"
    assert result.values == {"make.n": 2, "total.sum": 6.0}
    assert run.store.path(result.artifacts["double.data"]).read_text() == "2 4"
    assert [(task["name"], task["needs"]) for task in result.tasks] == [
        ("make", []), ("double", ["make"]), ("total", ["double", "make"]),
    ]  # fmt: skip
    manifest = RunFolder.of(run.home, "r1").read()
    assert manifest is not None
    assert (manifest["state"], manifest["pipeline"], manifest["about"]) == ("succeeded", "by-hand", {"model": "m"})
    assert manifest["tasks"] == result.tasks
    assert manifest["planned"][2] == {"name": "total", "needs": ["double", "make"]}
    assert not (run.home / "runs" / "r1" / ".work").exists()


def test_an_unchanged_run_starts_nothing(run: Bench) -> None:
    working(run)(chain())
    result = run(chain())
    assert set(states(result).values()) == {"cached"}
    assert set(reasons(result).values()) == {"unchanged since r1"}
    assert result.values == {"make.n": 2, "total.sum": 6.0}
    assert run.workers.calls.total() == 3


def test_only_what_changed_runs_again(run: Bench) -> None:
    working(run)(chain())
    working(run, "1 2")(chain(5))
    assert {task["name"]: task["state"] for task in run.told} == {"make": "ran", "double": "cached", "total": "cached"}
    result = working(run, "1 3")(chain(6))
    assert set(states(result).values()) == {"ran"}
    assert result.values["total.sum"] == 8.0


def test_an_artifact_that_is_gone_is_made_again(run: Bench) -> None:
    result = working(run)(chain())
    run.store.path(result.artifacts["double.data"]).unlink()
    assert states(run(chain())) == {"make": "cached", "double": "ran", "total": "cached"}


def test_what_a_run_found_finished_is_not_collected_beneath_it(run: Bench) -> None:
    first = working(run)(chain())
    for digest in first.artifacts.values():
        os.utime(run.store.path(digest), (time.time() - 7200, time.time() - 7200))
    assert len(run.store.gc(set(), dry_run=True, spare=timedelta(hours=1))) == 2
    run(chain())
    assert run.store.gc(set(), dry_run=True, spare=timedelta(hours=1)) == []


def test_a_damaged_manifest_is_none(run: Bench) -> None:
    working(run)(chain())
    for kept in (run.home / "cache").glob("*.json"):
        kept.write_text("{")
    assert set(states(run(chain())).values()) == {"ran"}


def test_a_failure_stops_what_needs_it_and_the_next_run_goes_on_there(run: Bench) -> None:
    working(run)
    run.workers.fake["double"] = lambda leaf: Ended(1, "reading\nTraceback ...\nValueError: no such luck\n")
    tasks: dict[str, dict[str, Any]] = {
        "make": {"takes": {"n": 4}, "values": {"n": "NUMBER_INTEGER"}, "makes": ["data"]},
        "double": {"takes": {"data": "=make.data"}, "makes": ["data"]},
        "beside": {"takes": {"n": "make.n"}, "values": {"n": "NUMBER_INTEGER"}},
        "after": {"takes": {"data": "=double.data"}, "values": {"n": "NUMBER_INTEGER"}},
        "last": {"takes": {"n": "after.n"}},
    }
    run.workers.fake["beside"] = leaves({"n": 1})
    result = run(document(tasks))
    assert result.state == "failed"
    assert states(result) == {
        "make": "ran", "double": "failed", "beside": "ran", "after": "skipped", "last": "skipped",
    }  # fmt: skip
    assert (reasons(result)["after"], reasons(result)["last"]) == ("double failed", "after skipped")
    assert isinstance(result.error, StepFailed)
    assert result.error.fact.splitlines() == [
        "step double failed: exit 1: ValueError: no such luck", "reading", "Traceback ...", "ValueError: no such luck",
    ]  # fmt: skip
    manifest = RunFolder.of(run.home, "r1").read()
    assert manifest is not None
    assert (manifest["state"], manifest["error"]) == ("failed", result.error.fact.splitlines()[0])
    assert states(run(document(tasks)))["make"] == "cached"
    assert run.workers.calls["make"] == 1


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (Ended(-9, ""), "step make failed: killed by SIGKILL, as when memory runs out"),
        (Ended(3, "last words"), "step make failed: exit 3"),
        (Ended(1, "step small.steps:make failed: no function make"), "step make failed: no function make"),
        (Ended(0, ""), "step make failed: its output n: it was not written"),
    ],
)
def test_how_a_step_failed_is_said(run: Bench, ended: Ended, words: str) -> None:
    run.workers.fake["*"] = lambda leaf: ended
    result = run(chain())
    assert result.error is not None
    assert result.error.fact.splitlines()[0] == words


def test_an_error_of_the_platform_keeps_its_class_and_the_task_what_it_found(run: Bench) -> None:
    told = {"schema": 1, "kind": "NotYet", "fact": "3 rows", "hint": "wait", "exit_code": 4}

    def early(leaf: Leaf) -> Ended:
        leaves({"n": 3})(leaf)
        return Ended(1, "step x failed: 3 rows", told)

    run.workers.fake["*"] = early
    result = run(chain())
    assert isinstance(result.error, NotYet)
    assert (result.error.fact, result.error.hint) == ("3 rows", "wait")
    assert result.values == {"make.n": 3}
    run.workers.fake["*"] = lambda leaf: Ended(1, "trace\nstep x failed: KeyError: 'a'", {
        "kind": "KeyError", "fact": "KeyError: 'a'", "hint": None,
    })  # fmt: skip
    again = run(chain())
    assert isinstance(again.error, StepFailed)
    assert again.error.fact.splitlines() == ["step make failed: KeyError: 'a'", "trace"]


def test_a_full_disk_is_told_and_the_next_run_goes_on(run: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path) -> str:
        raise OSError(errno.ENOSPC, "No space left on device", str(source))

    with monkeypatch.context() as patch:
        patch.setattr(run.store, "put", full)
        result = working(run)(chain())
    assert result.error is not None
    assert result.error.fact.startswith("task make failed: No space left on device: ")
    assert result.error.hint == "free some space (trilho gc) and run it again"
    assert run(chain()).state == "succeeded"


def test_a_bug_of_ours_fails_the_task_that_met_it(run: Bench) -> None:
    def bug(leaf: Leaf) -> Ended:
        raise KeyError("y")

    run.workers.fake["*"] = bug
    result = run(chain())
    assert reasons(result)["make"] == "task make failed: KeyError: 'y'"
    assert "KeyError" in RunFolder.of(run.home, "r1").log("make").read_text()


def test_independent_tasks_run_side_by_side(run: Bench) -> None:
    both = threading.Barrier(2, timeout=20)

    def meet(leaf: Leaf) -> Ended:
        both.wait()
        return Ended(0, "")

    run.workers.fake["*"] = meet
    assert run(document({"a": {"takes": {"n": 1}}, "b": {"takes": {"n": 2}}})).state == "succeeded"


def test_of_two_alike_under_way_the_second_waits_and_is_cached(run: Bench) -> None:
    tasks = {name: {"run": ["same"], "takes": {"n": 1}, "values": {"n": "NUMBER_INTEGER"}} for name in "abcd"}
    run.workers.fake["*"] = leaves({"n": 5})
    result = run(document(tasks))
    assert sorted(states(result).values()) == ["cached", "cached", "cached", "ran"]
    assert {result.values[f"{name}.n"] for name in "abcd"} == {5}
    assert run.workers.calls.total() == 1
    run.workers.fake["*"] = lambda leaf: Ended(1, "")
    tasks = {name: {**task, "takes": {"n": 2}} for name, task in tasks.items()}
    assert set(states(run(document(tasks))).values()) == {"failed"}

    def broken(leaf: Leaf) -> Ended:
        raise StepFailed("the interpreter ended")

    run.workers.fake["*"] = broken
    assert set(states(run(document(tasks))).values()) == {"failed"}


def test_alike_tasks_are_never_done_twice_whoever_is_first(run: Bench) -> None:
    run.workers.fake["*"] = leaves({"n": 5})
    for turn in range(30):
        tasks = {f"t{i}": {"run": ["same"], "takes": {"n": turn}, "values": {"n": "NUMBER_INTEGER"}} for i in range(6)}
        assert sorted(states(run(document(tasks))).values()) == ["cached"] * 5 + ["ran"]


def test_a_run_that_is_told_to_stop_stops_and_the_next_goes_on(run: Bench) -> None:
    working(run)
    stop = threading.Event()
    started = threading.Event()

    def hang(leaf: Leaf) -> Ended:
        started.set()
        stop.wait(20)
        raise StepFailed("it was stopped")

    run.workers.fake["double"] = hang

    def tell() -> None:
        started.wait(20)
        stop.set()

    threading.Thread(target=tell, daemon=True).start()
    with pytest.raises(Stopped):
        run(chain(), stop=stop)
    manifest = RunFolder.of(run.home, "r1").read()
    assert manifest is not None
    assert (manifest["state"], manifest["error"]) == ("failed", "it was interrupted: Stopped")
    assert [task["name"] for task in manifest["tasks"]] == ["make"]
    assert not RunFolder.of(run.home, "r1").is_held()
    assert states(working(run)(chain())) == {"make": "cached", "double": "ran", "total": "ran"}


def test_a_run_is_resumed_with_what_is_never_cached(run: Bench) -> None:
    never = {"cachingOptions": {"enableCache": False}}
    tasks = {
        "send": {"takes": {"n": 1}, "values": {"n": "NUMBER_INTEGER"}, **never},
        "use": {"takes": {"n": "send.n"}, **never},
    }
    run.workers.fake = {"send": leaves({"n": 7}), "use": lambda leaf: Ended(1, "boom")}
    assert states(run(document(tasks))) == {"send": "ran", "use": "failed"}
    run.workers.fake["use"] = leaves()
    resumed = run(document(tasks), resume="r1")
    assert states(resumed) == {"send": "cached", "use": "ran"}
    assert reasons(resumed)["send"] == "unchanged since r1"
    assert states(run(document(tasks), resume="r2")) == {"send": "cached", "use": "cached"}
    other = {**tasks, "send": {**tasks["send"], "takes": {"n": 2}}}
    assert states(run(document(other), resume="r2"))["send"] == "ran"
    assert states(run(document(tasks)))["send"] == "ran"


def test_a_wide_fan_out_schedules_in_seconds(run: Bench) -> None:
    run.workers.fake["*"] = lambda leaf: leaves({"n": leaf.request["inputs"]["parameterValues"]["n"]})(leaf)
    wide: dict[str, dict[str, Any]] = {
        f"t{i}": {"takes": {"n": i}, "values": {"n": "NUMBER_INTEGER"}} for i in range(500)
    }
    last = {"last": {"takes": {"n": "t499.n"}, "dependentTasks": list(wide), "values": {"n": "NUMBER_INTEGER"}}}
    begun = time.monotonic()
    result = run(document({**wide, **last}))
    assert result.state == "succeeded"
    assert len(result.tasks) == 501
    assert result.values["last.n"] == 499
    assert time.monotonic() - begun < 10


def test_a_long_chain_of_skipped_tasks_is_no_matter(run: Bench) -> None:
    run.workers.fake["t0"] = lambda leaf: Ended(1, "boom")
    tasks = {f"t{i}": {"takes": {"n": i}, "dependentTasks": [f"t{i - 1}"] if i else []} for i in range(1500)}
    result = run(document(tasks))
    assert list(states(result).values()) == ["failed", *["skipped"] * 1499]


def test_what_cannot_run_here_is_refused_before_anything_runs(run: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [Problem("double", "no command 'awk'", "install it"), Problem("total", "no GPU", fatal=False)]
    monkeypatch.setattr(run.workers, "check", lambda spec, parameters: problems)
    with pytest.raises(Refused, match="task double: no command 'awk'") as caught:
        run(chain())
    assert "total" not in caught.value.fact
    assert run.workers.calls.total() == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "parameter n of pipeline by-hand is missing"),
        ({"n": "x"}, 'parameter n of pipeline by-hand: "x" is not a whole number'),
        ({"n": 1, "nn": 2}, "pipeline by-hand has no parameter 'nn'"),
    ],
)
def test_parameters_are_checked_before_anything_runs(run: Bench, given: dict[str, Any], words: str) -> None:
    pipeline = chain()
    pipeline["root"]["inputDefinitions"] = {"parameters": {"n": {"parameterType": "NUMBER_INTEGER"}}}
    with pytest.raises(UsageError) as caught:
        run(pipeline, given)
    assert caught.value.fact == words


def test_a_job_names_what_placeholders_stand_for(run: Bench) -> None:
    words = [
        "echo",
        "{{$.pipeline_job_name}}",
        "{{$.pipeline_task_name}}",
        "{{$.pipeline_root}}",
        "{{$.pipeline_job_uuid}}",
    ]
    pipeline = document({"say": {"run": words}})
    run(pipeline, job=Job(name="job-1", root="/somewhere", uuid="u1"))
    assert run.workers.leaves["say"].args == ["job-1", "say", "/somewhere", "u1"]
    run(document({"say": {"run": [*words, "more"]}}))
    assert run.workers.leaves["say"].args[:2] == ["r2", "say"]


def test_artifacts_stay_under_a_root_that_is_a_bucket(run: Bench, tmp_path: Path) -> None:
    run.mounted(tmp_path / "buckets")
    job = Job(name="job-1", root="gs://bucket/root")
    result = working(run)(chain(), job=job)
    assert result.values["total.sum"] == 6.0
    made = run.events[-1].artifacts["data"][0]
    assert made["uri"] == "gs://bucket/root/job-1/double/data"
    assert (tmp_path / "buckets/bucket/root/job-1/double/data").read_text() == "2 4"
    assert not (run.home / "store").exists()
    assert set(states(run(chain(), job=Job(name="job-2", root="gs://bucket/root"))).values()) == {"cached"}
    (tmp_path / "buckets/bucket/root/job-1/double/data").write_text("changed")
    assert states(run(chain(), job=Job(name="job-3", root="gs://bucket/root")))["double"] == "ran"


def test_what_the_sdk_leaves_elsewhere_comes_under_the_root_too(run: Bench, tmp_path: Path) -> None:
    run.mounted(tmp_path / "buckets")
    job = Job(name="job-1", root="gs://bucket/root")
    assert run(sdk.returning, job=job).outputs == {"Output": "5 5"}
    assert (tmp_path / "buckets/bucket/root/job-1/returned/Output").read_text() == "yyyyy"
    assert run(sdk.artifacts, job=job).outputs == {"Output": "7 0.07 2 none"}
    assert (tmp_path / "buckets/bucket/root/job-1/train/model.txt").read_text() == "7"
    assert run.events[-1].artifacts["model"][0]["uri"] == "gs://bucket/root/job-1/train/model"


def test_an_older_document_gives_values_in_its_older_form(run: Bench) -> None:
    pipeline = chain(4)
    pipeline["schemaVersion"] = "2.0.0"
    run.workers.fake["*"] = lambda leaf: (
        Path(leaf.request["outputs"]["outputFile"]).write_text('{"parameters": {"n": {"intValue": "6"}}}'),
        Ended(0, ""),
    )[1]
    result = run(pipeline)
    assert run.workers.leaves["make"].request["inputs"]["parameters"] == {"n": {"intValue": "4"}}
    assert result.values["make.n"] == 6


def test_the_manifest_of_a_finished_task_names_its_artifacts(run: Bench) -> None:
    result = working(run)(chain())
    kept = [json.loads(path.read_text()) for path in (run.home / "cache").glob("*.json")]
    manifest = next(one for one in kept if one["task"] == "make")
    assert manifest["run"] == "r1"
    assert manifest["outputs"] == {"data": result.artifacts["make.data"]}
    assert manifest["values"] == {"n": 2}
    assert manifest["artifacts"]["data"][0]["type"] == {"schemaTitle": "system.Artifact"}
