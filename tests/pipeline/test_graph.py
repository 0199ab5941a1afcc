"""A graph is checked before anything runs."""

from __future__ import annotations

import pytest

from trilho.pipeline.graph import Graph, GraphError, Task, Value, Work, stored


def nothing(work: Work) -> None: ...


def task(name: str, *inputs: str, outputs: tuple[str, ...] = ("out",), after: tuple[str, ...] = ()) -> Task:
    named = {f"in{index}": reference for index, reference in enumerate(inputs)}
    return Task(name, "platform", nothing, inputs=named, outputs=outputs, after=after)


def test_tasks_are_ordered_by_what_they_need() -> None:
    graph = Graph("g", (task("c", "a.out", "b.out"), task("b", "a.out"), task("a"), task("d", after=("c",))))
    assert [t.name for t in graph.order] == ["a", "b", "c", "d"]
    assert graph["c"].needs == ("a", "b")


def test_values_of_other_tasks_are_needs_too() -> None:
    last = Task("b", "platform", nothing, parameters={"lineage": {"until": Value("a.until")}, "n": [Value("c.n")]})
    assert last.needs == ("a", "c")


def test_an_artifact_of_the_store_needs_no_task() -> None:
    assert Graph("g", (task("a", stored("abc")),))["a"].needs == ()


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ((task("a"), task("a")), "two tasks named a"),
        ((task("a"), task("b", "a.oit")), r"input in0 is 'a\.oit', which no task makes\nHint: did you mean 'a\.out'"),
        ((task("a", "b.out"), task("b", "a.out")), "goes in a circle: a, b"),
        ((task("a", after=("z",)),), "task a needs 'z'"),
        ((Task("a", "platform", nothing, parameters={"x": Value("q.x")}),), r"task a needs 'q\.x'"),
    ],
)
def test_wrong_wiring_is_told(tasks: tuple[Task, ...], words: str) -> None:
    with pytest.raises(GraphError, match=words):
        Graph("g", tasks)
