"""Every construct that the official SDK compiles, executed here against what it has to come to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.pipeline import sdk
from tests.pipeline.executing import Bench, reasons, states

from trilho.errors import StepFailed


@pytest.fixture
def run(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "home", tmp_path)


@pytest.mark.parametrize(
    ("side", "n", "taken"),
    [("heads", 3, ("first", "condition-2/text")), ("tails", 1, ("second", "condition-3/text-2")),
     ("tails", 8, ("third", "condition-4/text-3"))],
)  # fmt: skip
def test_one_branch_runs_and_its_output_is_that_of_all(run: Bench, side: str, n: int, taken: tuple[str, str]) -> None:
    result = run(sdk.branches, {"side": side, "n": n})
    assert result.state == "succeeded"
    assert result.outputs == {"Output": taken[0]}
    executed = {name: state for name, state in states(result).items() if state != "skipped"}
    assert executed == {"flip": "ran", f"condition-branches-1/{taken[1]}": "ran", "text-4": "cached"}
    assert reasons(result)["text-4"] == f"the same as condition-branches-1/{taken[1]}"
    skipped = [reason for name, reason in reasons(result).items() if name != "text-4"]
    assert len(skipped) == 4
    assert all(reason.startswith("its condition is false: ") for reason in skipped)


def test_conditions_nest_and_compare_numbers_text_and_truth_values(run: Bench) -> None:
    result = run(sdk.nested_conditions)
    assert result.state == "succeeded"
    assert {name for name, state in states(result).items() if state == "ran"} == {
        "num", "text", "real", "flag", "condition-1/text-2", "condition-1/condition-2/text-3", "condition-4/text-5",
    }  # fmt: skip
    assert states(result)["condition-1/condition-2/condition-3/text-4"] == "skipped"
    again = run(sdk.nested_conditions, {"n": 2, "s": "d", "x": 2.0, "b": False})
    skipped = {name for name, state in states(again).items() if state == "skipped" and name.count("/") == 0}
    assert skipped == {"condition-1", "condition-4", "condition-5"}
    deep = run(sdk.nested_conditions, {"x": 1.5})
    assert deep.values["condition-1/condition-2/condition-3/text-4.Output"] == "innermost"


def test_constants_hold_other_values(run: Bench) -> None:
    assert run(sdk.embedded, {"n": 4, "who": "we {{$}} all"}).outputs == {"Output": "we {{$}} all have 4 of 4"}


def test_loops_over_what_is_known(run: Bench) -> None:
    result = run(sdk.static_loops)
    assert result.outputs == {"words": '["a", "b", "c"]', "numbers": 6, "pairs": '["x", "y"]'}
    assert result.values["for-loop-8/1/num-2.Output"] == 20
    assert [name for name in states(result) if name.startswith("for-loop-4/")] == [
        "for-loop-4/0/num", "for-loop-4/1/num", "for-loop-4/2/num",
    ]  # fmt: skip


def test_loops_over_what_a_task_found_or_the_pipeline_was_given(run: Bench) -> None:
    assert run(sdk.dynamic_loops).outputs == {"made": 3, "given": 11, "sizes": 3}
    other = run(sdk.dynamic_loops, {"n": 0, "given": [1]})
    assert other.outputs == {"made": 0, "given": 1, "sizes": 0}
    assert not [name for name in states(other) if name.startswith("for-loop-1/")]


def test_loops_in_loops_collect_lists_of_lists_and_all_artifacts(run: Bench) -> None:
    result = run(sdk.nested_loops)
    assert json.loads(result.outputs["lists"]) == [[10, 20, 30], [10, 20, 30]]
    assert result.outputs["sizes"] == "10 20 30 10 20 30"


def test_a_condition_in_a_loop_is_each_iterations_own(run: Bench) -> None:
    result = run(sdk.loop_in_condition, {"n": 3})
    assert states(result)["for-loop-1/0/condition-2/text"] == "skipped"
    assert [result.values[f"for-loop-1/{i}/condition-2/text.Output"] for i in (1, 2)] == ["item 1", "item 2"]


def test_a_loop_goes_over_artifacts(run: Bench) -> None:
    result = run(sdk.artifact_loop)
    assert [result.values[f"for-loop-1/{i}/size-of.Output"] for i in range(3)] == ["1 1", "2 2", "3 3"]
    assert [one["metadata"]["rows"] for one in result.outputs["Output"]] == [1, 2, 3]


@pytest.mark.parametrize(("broken", "state"), [(True, "FAILED"), (False, "SUCCEEDED")])
def test_an_exit_task_runs_whatever_happens_and_is_told(run: Bench, broken: bool, state: str) -> None:
    result = run(sdk.exits, {"broken": broken, "message": "no such luck"})
    assert result.state == ("failed" if broken else "succeeded")
    told = result.values["status-of.Output"]
    assert told.startswith(f"end {state} exit-handler-1 ")
    assert ("ValueError: no such luck" in told) is broken
    assert states(result)["exit-handler-1/num"] == "ran"
    if broken:
        assert isinstance(result.error, StepFailed)
        first = "step exit-handler-1/condition-2/fail failed: exit 1: ValueError: no such luck"
        assert result.error.fact.splitlines()[0] == first
        assert result.error.hint == "trilho runs logs r1 exit-handler-1/condition-2/fail"


def test_a_task_may_go_on_when_one_before_it_failed(run: Bench) -> None:
    result = run(sdk.ignoring)
    assert states(result) == {"fail": "failed", "text-or": "ran", "text": "ran"}
    assert result.values["text.Output"] == "default"
    assert result.state == "failed"


def test_a_task_that_failed_is_tried_again(run: Bench, tmp_path: Path) -> None:
    result = run(sdk.retrying, {"marker": str(tmp_path / "a"), "times": 2})
    assert result.outputs == {"Output": 2}
    assert reasons(result) == {"flaky": "attempt 3"}
    assert [event.attempt for event in run.events if event.state == "retrying"] == [1, 2]
    assert (run.home / "runs" / "r1" / "flaky.log").read_text() == "-- attempt 2\n-- attempt 3\n"
    worse = run(sdk.retrying, {"marker": str(tmp_path / "b"), "times": 9})
    assert reasons(worse) == {"flaky": "step flaky failed: exit 1: RuntimeError: not yet (attempt 4)"}


def test_an_artifact_that_exists_is_imported_without_a_copy(run: Bench, tmp_path: Path) -> None:
    (tmp_path / "given.csv").write_text("12345")
    result = run(sdk.importing, {"uri": str(tmp_path / "given.csv"), "label": "theirs"})
    assert result.outputs == {"Output": "5 theirs"}
    assert states(result) == {"importer": "ran", "size-of": "ran"}
    run.mounted(tmp_path)
    assert run(sdk.importing, {"uri": "gs://given.csv"}).outputs == {"Output": "5 mine"}
    (tmp_path / "given.csv").write_text("123456")
    assert run(sdk.importing, {"uri": f"file://{tmp_path}/given.csv"}).outputs == {"Output": "6 mine"}
    missing = run(sdk.importing, {"uri": str(tmp_path / "none.csv")})
    assert reasons(missing)["importer"] == f"task importer failed: {tmp_path}/none.csv: no such file or folder"


def test_pipelines_in_pipelines_have_outputs(run: Bench) -> None:
    result = run(sdk.nested)
    assert (result.outputs["n"], result.outputs["size"]) == (4, "4 4")
    data = result.outputs["data"]
    assert data["type"]["schemaTitle"] == "system.Dataset"
    assert Path(data["uri"]).read_text() == "xxxx"
    assert data["digest"] == result.artifacts["inner-2/make.data"]
    assert result.values["inner/text.Output"] == "default"
    assert result.values["inner-2/text.Output"] == "given"


def test_artifacts_travel_with_their_metadata(run: Bench) -> None:
    assert run(sdk.artifacts).outputs == {"Output": "7 0.07 2 none"}
    assert set(states(run(sdk.artifacts)).values()) == {"cached"}
    assert run(sdk.returning).outputs == {"Output": "5 5"}


def test_values_keep_their_types(run: Bench) -> None:
    result = run(sdk.values)
    assert json.loads(result.outputs["one"]) == [{"a": [1, 2.5], "b": {"c": True}}, [1, 2], None, None, ["int", "int"]]
    second = [{"depth": 3, "names": ["a", "b"], "share": 0.5}, [3, 4.5], "e", 5, ["int", "float"]]
    assert json.loads(result.outputs["two"]) == second
    assert result.outputs["three"] == "none"


def test_containers_are_given_words_files_and_what_is_optional(run: Bench) -> None:
    result = run(sdk.containers)
    size = run.workers.leaves["shell"].request["outputs"]["parameters"]["size"]["outputFile"]
    assert result.outputs == {"out": f"{size}|--a=it's,2|--without|2|", "size": 4}
    assert result.values["size-of.Output"] == "7 None"
    assert json.loads(result.values["describe.Output"])[0] == {"a": 1, "b": [True]}
    given = run(sdk.containers, {"opt": "o"})
    assert given.outputs["out"].endswith("|--a=it's,2|--opt|o|2|")
    assert given.outputs["size"] == 5


@pytest.mark.parametrize(("n", "taken"), [(1, "first"), (2, "second")])
def test_one_of_several_artifacts(run: Bench, n: int, taken: str) -> None:
    assert run(sdk.one_of_artifacts, {"n": n}).outputs == {"Output": taken}


def test_caching_is_each_tasks_own(run: Bench) -> None:
    run(sdk.caching)
    assert states(run(sdk.caching)) == {"make": "cached", "size-of": "ran"}
    assert states(run(sdk.caching, {"n": 6})) == {"make": "ran", "size-of": "ran"}
    assert states(run(sdk.caching, cache=False)) == {"make": "ran", "size-of": "ran"}
    assert run.workers.calls == {"make": 3, "size-of": 4}


def test_order_without_data(run: Bench) -> None:
    result = run(sdk.ordered)
    assert {task["name"]: task["needs"] for task in result.tasks} == {
        "num": [], "num-2": ["num"], "num-3": ["num", "num-2"],
    }  # fmt: skip


def test_an_optional_parameter_reaches_into_groups(run: Bench) -> None:
    absent = run(sdk.optional_in_groups)
    assert [absent.values[f"for-loop-3/{i}/text-or-2.Output"] for i in (0, 1)] == ["default", "default"]
    assert run(sdk.optional_in_groups, {"word": "given"}).values["condition-1/text-or.Output"] == "given"


def test_a_sibling_of_the_path_is_part_of_the_artifact(run: Bench) -> None:
    result = run(sdk.artifacts)
    model = run.events[-1].artifacts["model"][0]
    assert model["uri"].endswith("/model")
    assert Path(model["uri"] + ".txt").read_text() == "7"
    assert model["digest"] == result.artifacts["train.model"]


def test_groups_and_iterations_are_told_as_they_begin_and_end(run: Bench) -> None:
    run(sdk.loop_in_condition, {"n": 1})
    seen = [(event.name, event.kind, event.state) for event in run.events]
    assert seen == [
        ("items", "container", "running"),
        ("items", "container", "ran"),
        ("for-loop-1", "loop", "running"),
        ("for-loop-1/0", "iteration", "running"),
        ("for-loop-1/0/num", "container", "running"),
        ("for-loop-1/0/num", "container", "ran"),
        ("for-loop-1/0/condition-2", "group", "skipped"),
        ("for-loop-1/0/condition-2/text", "container", "skipped"),
        ("for-loop-1/0", "iteration", "ran"),
        ("for-loop-1", "loop", "ran"),
    ]
    assert run.events[1].outputs == {"Output": [0]}
    assert run.events[4].parameters == {"n": 0}
    assert [task["name"] for task in run.told] == [
        "items", "for-loop-1/0/num", "for-loop-1/0/condition-2", "for-loop-1/0/condition-2/text",
    ]  # fmt: skip
