"""Conditions, choices and loops that cannot be told are errors that name the task; none is skipped in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.executing import Bench, document, leaves, reasons, states

from trilho.pipeline.ir.reader import IrError


@pytest.fixture
def run(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "home", tmp_path)
    bench.workers.fake["*"] = leaves({"n": 3, "s": "a"})
    return bench


FIRST = {"values": {"n": "NUMBER_INTEGER", "s": "STRING"}}


def conditional(condition: str, **more: Any) -> dict[str, Any]:
    takes = {"n": "first.n", "s": "first.s"}
    return document({"first": FIRST, "then": {"takes": takes, "triggerPolicy": {"condition": condition}, **more}})


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("inputs.parameter_values['m'] == 3", "there is no 'm'; there are: 'n', 's'"),
        ("inputs.parameter_values['s'] == 3", 'the text "a" cannot be compared with the number 3'),
        (
            "inputs.parameter_values['s'] < inputs.parameter_values['n']",
            'the text "a" cannot be compared with the number',
        ),
        ("int(inputs.parameter_values['s']) > 2", 'int(the text "a") has no value'),
        ("inputs.parameter_values['n']", "it comes to the number 3.0, which is neither true nor false"),
        ("inputs.parameter_values['n'] && true", "&& wants true or false, not the number 3.0"),
    ],
)
def test_a_condition_that_cannot_be_resolved_fails_the_run(run: Bench, condition: str, why: str) -> None:
    result = run(conditional(condition))
    assert result.state == "failed"
    assert states(result)["then"] == "failed"
    said = reasons(result)["then"]
    assert said.startswith(f"task then failed: its condition {condition!r} cannot be resolved: ")
    assert why in said
    assert result.error is not None
    assert result.error.fact == said


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("lower(inputs.parameter_values['s']) == 'a'", "lower is no function that is known here"),
        ("inputs.parameter_values['s'] == 'it's'", "it cannot be read from"),
        ("inputs.parameter_values['n'] >", "it ends too early"),
    ],
)
def test_a_condition_that_cannot_be_read_is_refused_before_anything_runs(run: Bench, condition: str, why: str) -> None:
    with pytest.raises(IrError) as caught:
        run(conditional(condition))
    assert caught.value.fact.startswith(f"task then: its condition {condition!r} cannot be resolved: ")
    assert why in caught.value.fact
    assert run.workers.calls.total() == 0


def test_a_false_condition_skips_and_what_needs_it_is_skipped(run: Bench) -> None:
    pipeline = document({
        "first": FIRST,
        "then": {
            **FIRST, "takes": {"n": "first.n"}, "triggerPolicy": {"condition": "inputs.parameter_values['n'] > 3"},
        },
        "after": {"takes": {"n": "then.n"}, "triggerPolicy": {"condition": "inputs.parameter_values['n'] == 1"}},
        "always": {"dependentTasks": ["then"], "triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}},
    })  # fmt: skip
    result = run(pipeline)
    assert result.state == "succeeded"
    assert states(result) == {"first": "ran", "then": "skipped", "after": "skipped", "always": "ran"}
    assert reasons(result) == {
        "then": "its condition is false: inputs.parameter_values['n'] > 3", "after": "then skipped",
    }  # fmt: skip


def grouped(conditions: tuple[str, str], one_of: bool = True) -> dict[str, Any]:
    """Build a choice between two tasks, whose output is a group's and then the pipeline's."""
    inner = document({
        name: {**FIRST, "takes": {"n": 3}, "triggerPolicy": {"condition": condition}}
        for name, condition in zip("ab", conditions, strict=True)
    })  # fmt: skip
    selectors = [{"producerSubtask": name, "outputParameterKey": "n"} for name in "ab"]
    chosen = {"valueFromOneof": {"parameterSelectors": selectors}} if one_of else {"valueFromParameter": selectors[0]}
    typed = {"parameters": {"out": {"parameterType": "NUMBER_INTEGER"}}}
    inner["components"]["comp-group"] = {
        "dag": {"tasks": inner["root"]["dag"]["tasks"], "outputs": {"parameters": {"out": chosen}}},
        "outputDefinitions": typed,
    }
    use = document({"group": {**FIRST}, "use": {"takes": {"n": "group.n"}}})
    inner["components"]["comp-use"] = use["components"]["comp-use"]
    inner["deploymentSpec"]["executors"]["exec-use"] = use["deploymentSpec"]["executors"]["exec-use"]
    wired = use["root"]["dag"]["tasks"]["use"]
    wired["inputs"]["parameters"]["n"] = {"taskOutputParameter": {"producerTask": "group", "outputParameterKey": "out"}}
    inner["root"] = {"dag": {"tasks": {"group": {"componentRef": {"name": "comp-group"}}, "use": wired}}}
    return inner


def test_a_choice_of_which_none_ran_is_an_error(run: Bench) -> None:
    result = run(grouped(("1 == 2", "1 == 3")))
    assert states(result) == {"group": "failed", "group/a": "skipped", "group/b": "skipped", "use": "skipped"}
    assert reasons(result)["group"] == "group failed: its output out is that of one of a, b, and none of them ran"
    assert result.error is not None


def test_a_choice_of_which_several_ran_is_an_error(run: Bench) -> None:
    said = reasons(run(grouped(("true", "true"))))["group"]
    assert said == "group failed: its output out is that of one of a, b, and a and b ran"


def test_what_needs_an_output_that_was_skipped_within_a_group_is_skipped(run: Bench) -> None:
    result = run(grouped(("1 == 2", "true"), one_of=False))
    assert result.state == "succeeded"
    assert states(result) == {"group/a": "skipped", "group/b": "ran", "use": "skipped"}
    assert reasons(result)["use"] == "group left no out"


def looped(takes: Any, **loop: Any) -> dict[str, Any]:
    """Build a loop over a component of its own, which is no group."""
    pipeline = document({"first": {"values": {"xs": "LIST", "s": "STRING"}}, "each": {**FIRST, "takes": {"x": takes}}})
    pipeline["components"]["comp-each"]["inputDefinitions"]["parameters"]["item"] = {"parameterType": "NUMBER_INTEGER"}
    pipeline["root"]["dag"]["tasks"]["each"].update(
        {"parameterIterator": {"items": {"inputParameter": "x"}, "itemInput": "item"}, **loop}
    )
    return pipeline


def test_a_loop_over_an_execution_collects_and_limits(run: Bench) -> None:
    run.workers.fake["first"] = leaves({"xs": [1, 2, 3, 4, 5], "s": "a"})
    result = run(looped("first.xs", iteratorPolicy={"parallelismLimit": 1}))
    assert states(result) == {"first": "ran", **{f"each/{i}": "ran" for i in range(5)}}
    assert run.workers.most_at_once == 1
    given = [run.workers.leaves[f"each/{i}"].request["inputs"]["parameterValues"]["item"] for i in range(5)]
    assert given == [1, 2, 3, 4, 5]


def test_an_iteration_that_fails_fails_the_loop_after_the_others(run: Bench) -> None:
    run.workers.fake["first"] = leaves({"xs": [1, "b", 3], "s": "a"})
    result = run(looped("first.xs"))
    assert result.state == "failed"
    assert reasons(result) == {"each/1": 'task each/1 failed: its input item: "b" is not a whole number'}
    assert states(result)["each/2"] == "ran"


def test_a_loop_over_what_is_no_list_is_an_error(run: Bench) -> None:
    run.workers.fake["first"] = leaves({"xs": [], "s": "a"})
    result = run(looped("first.s"))
    assert result.state == "failed"
    assert reasons(result)["each"] == 'task each failed: its loop goes over "a", which is no list'


def test_an_input_without_a_value_is_an_error(run: Bench) -> None:
    pipeline = document({"first": FIRST})
    pipeline["components"]["comp-first"]["inputDefinitions"]["parameters"]["need"] = {"parameterType": "STRING"}
    result = run(pipeline)
    assert reasons(result) == {"first": "task first failed: its input need has no value"}


def test_a_placeholder_that_stands_for_nothing_is_an_error_before_anything_runs(run: Bench) -> None:
    with pytest.raises(IrError) as caught:
        run(document({"first": {"run": ["echo", "{{$.inputs.parameters['x']}}"]}}))
    assert caught.value.fact == "task first: {{$.inputs.parameters['x']}}: there is no x"
