"""What a training tells of its tasks, whatever blocks a project has put around them."""

from __future__ import annotations

from trilho.core.records import TaskResult
from trilho.train.account import told


def task(name: str, *needs: str) -> TaskResult:
    return TaskResult(name=name, state="ran", seconds=1.0, needs=list(needs), reason="")


def test_the_block_of_an_exit_task_is_not_told() -> None:
    around = "exit-handler-1/"
    tasks = [
        task(f"{around}split"),
        task(f"{around}fit-all", f"{around}split"),
        task(f"{around}fit-window", f"{around}split"),
        task(f"{around}evaluate", f"{around}fit-all", f"{around}fit-window"),
        task(f"{around}condition-2/score", f"{around}split"),
        task("bye", "exit-handler-1"),
    ]
    found = told(tasks, compared=True, windowed=False)
    assert [(one["name"], one["needs"]) for one in found] == [
        ("split", []),
        ("fit-all", ["split"]),
        ("evaluate", ["fit-all", "split"]),
        ("score", ["split"]),
        ("bye", ["exit-handler-1"]),
    ]
    alone = told(tasks, compared=False, windowed=True)
    assert [one["name"] for one in alone] == ["split", "fit-all", "fit-window", "evaluate", "bye"]
