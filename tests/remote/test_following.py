"""A run elsewhere as the terminal shows it, and what Ctrl-C does to it."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
import typer
from rich.console import Console

from trilho.cli import following
from trilho.cli.app import run as trilho
from trilho.cli.session import Session
from trilho.core.ports import RemoteStatus, RemoteTask
from trilho.project import Project
from trilho.remote import RemoteRun, record, submit_training, target_of

if TYPE_CHECKING:
    from tests.remote.service import Service

LOOKS = (
    RemoteStatus(
        state="running", tasks=(RemoteTask(name="fit", state="running"), RemoteTask(name="pack", state="pending"))
    ),
    RemoteStatus(
        state="failed",
        tasks=(RemoteTask(name="fit", state="failed", seconds=2.5), RemoteTask(name="pack", state="skipped")),
    ),
)


@pytest.fixture
def begun(project: Project, service: Service) -> RemoteRun:
    service.trains({"mae": 0.25})
    found = submit_training(project, target_of(project, "kubeflow"))
    assert isinstance(found, RemoteRun)
    return found


def test_without_a_terminal_there_is_a_line_for_each_change(
    begun: RemoteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    with following.Display(Session(), live=False) as display:
        for look in (LOOKS[0], LOOKS[0], LOOKS[1]):
            display.show(begun, look)
    assert capsys.readouterr().out.splitlines() == [
        "  fit                      running",
        "  fit                      failed     2.5 s",
    ]


def test_on_a_terminal_the_tasks_are_live(begun: RemoteRun, capsys: pytest.CaptureFixture[str]) -> None:
    with following.Display(Session(), live=True) as display:
        for look in LOOKS:
            display.show(begun, look)
        table = display.table(begun, LOOKS[1])
    said = capsys.readouterr()
    assert said.out == ""
    assert "fit                      failed     2.5 s" in said.err
    drawn = io.StringIO()
    Console(file=drawn, width=80).print(table)
    lines = [line.rstrip() for line in drawn.getvalue().splitlines()]
    assert lines[0] == f"{begun.run} on kubeflow: failed"
    assert [line.split() for line in lines[1:4]] == [["task", "state", "took"], ["fit", "failed", "2.5", "s"],
                                                     ["pack", "skipped"]]  # fmt: skip
    assert lines[4] == "0:00; Ctrl-C leaves or cancels it"


class Asked:
    """Interrupts the first look, and keeps what was asked."""

    def __init__(self, patch: pytest.MonkeyPatch, *, terminal: bool, answer: bool = False) -> None:
        self.questions: list[str] = []

        def interrupted(*_: object, **__: object) -> Any:
            raise KeyboardInterrupt

        def confirm(question: str, **_: object) -> bool:
            self.questions.append(question)
            return answer

        patch.setattr("trilho.remote.follow_run", interrupted)
        patch.setattr("sys.stdin", type("Stdin", (), {"isatty": lambda _: terminal})())
        patch.setattr(typer, "confirm", confirm)


def test_ctrl_c_without_a_terminal_leaves_the_run_alone(
    project: Project, begun: RemoteRun, service: Service, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked = Asked(monkeypatch, terminal=False)
    assert trilho(["-C", str(project.folder), "runs", "follow", begun.run]) == 130
    assert (asked.questions, service.cancelled) == ([], set())
    assert f"trilho -C {project.folder} runs cancel {begun.run}" in capsys.readouterr().out
    assert project.state().runs[begun.run].state == "running"


@pytest.mark.parametrize("answer", [True, False])
def test_ctrl_c_on_a_terminal_asks(
    project: Project, begun: RemoteRun, service: Service, monkeypatch: pytest.MonkeyPatch, answer: bool
) -> None:
    asked = Asked(monkeypatch, terminal=True, answer=answer)
    code = trilho(["-C", str(project.folder), "runs", "follow", begun.run])
    assert asked.questions == [f"Cancel run {begun.run} there too? It goes on otherwise"]
    assert (code, service.cancelled) == ((1, {begun.run}) if answer else (130, set()))


def test_a_run_that_is_left_and_cancelled(
    project: Project, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["-C", str(project.folder)]
    assert trilho([*folder, "train", "--on", "kubeflow", "--detach", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["on"], found["pipeline"]) == ("running", "kubeflow", "train")
    assert found["next"] == f"trilho -C {project.folder} runs follow {found['run']}"
    assert trilho([*folder, "runs", "cancel", "--json"]) == 0
    ended = json.loads(capsys.readouterr().out)
    assert (ended["run"], ended["state"]) == (found["run"], "failed")
    assert ended["error"] == f"run {found['run']} was cancelled by ana"
    assert record.read(project.home, found["run"]).cancelled_by == "ana"


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (["train", "--detach"], "--detach is for a training that runs elsewhere"),
        (["train", "--on", "mars"], "--on is 'mars'; allowed: local, vertex, kubeflow"),
        (["runs", "follow"], "line has no run elsewhere"),
        (["runs", "cancel", "r9"], "line has no run yet"),
    ],
)
def test_mistakes(project: Project, words: list[str], fact: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = trilho(["-C", str(project.folder), *words])
    said = capsys.readouterr().err.splitlines()
    assert (code, len(said)) == (2, 2)
    assert said[0].startswith(fact) or "has no run" in said[0]
