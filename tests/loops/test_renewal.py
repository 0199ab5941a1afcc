"""trilho.toml is changed while a platform runs: its new settings hold whole, or it is said that they wait."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.line_project import rows, write_project

from trilho.cli.retrain import _plan
from trilho.loops import RetrainLoop, WatchLoop
from trilho.platform import Platform
from trilho.project import Project
from trilho.project.renewal import Renewal, changed_keys, outdated

SETTINGS = '[watch]\nwindow = "2 days"\n[retrain]\ncooldown = "3 days"\n'
SECONDS = 20.0


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.open(write_project(tmp_path / "line", SETTINGS, rows(0, 40, 2.0)))


def write(project: Project, settings: str) -> None:
    path = project.folder / "trilho.toml"
    path.write_text(path.read_text().partition("[watch]")[0] + settings)


def test_a_changed_setting_is_taken_over_and_what_is_open_stays_open(project: Project) -> None:
    renewal, journal = Renewal(project), project.journal
    assert not renewal.look()
    write(project, SETTINGS.replace("3 days", "5 days"))
    assert renewal.look()
    assert not renewal.look()
    assert (renewal.changed, renewal.waits) == (("retrain.cooldown",), "")
    assert renewal.project is not project
    assert renewal.project.settings.retrain.cooldown.days == 5
    assert project.settings.retrain.cooldown.days == 3  # whoever is in the middle of a pass goes on as before
    assert renewal.project.journal is journal


def test_a_change_that_takes_a_new_platform_is_not_taken_over_by_half(project: Project) -> None:
    renewal = Renewal(project)
    write(project, SETTINGS.replace("3 days", "5 days") + "[serve]\nport = 8099\n")
    assert renewal.look()
    assert renewal.project is project
    assert renewal.waits == "serve.port changed, which a running platform cannot take over"
    write(project, SETTINGS.replace("3 days", "6 days"))
    assert renewal.look()
    assert (renewal.waits, renewal.project.settings.retrain.cooldown.days) == ("", 6)


def test_a_mistake_leaves_the_settings_as_they_were(project: Project) -> None:
    renewal = Renewal(project)
    write(project, SETTINGS + "[retrian]\n")
    assert renewal.look()
    assert renewal.project is project
    assert renewal.waits.startswith("it has a mistake: ")
    (project.folder / "trilho.toml").unlink()
    assert renewal.look()
    assert "has no trilho.toml" in renewal.waits


def test_a_file_that_says_the_same_changes_nothing(project: Project) -> None:
    renewal = Renewal(project)
    write(project, SETTINGS + "# a comment\n")
    assert renewal.look()
    assert (renewal.changed, renewal.waits, renewal.project) == ((), "", project)
    assert changed_keys(project.settings, project.settings) == ()


@pytest.fixture
def running(project: Project, seen: dict[str, Any]) -> Iterator[Platform]:
    stop, up = threading.Event(), threading.Event()
    platform = Platform([project])
    thread = threading.Thread(
        target=lambda: platform.run(stop, serve=False, console=False, ready=lambda _: up.set()), daemon=True
    )
    thread.start()
    assert up.wait(SECONDS)
    yield platform
    stop.set()
    thread.join(SECONDS)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give the settings that the last pass of each loop went by."""
    found: dict[str, Any] = {}

    def note(name: str) -> Callable[[Any], None]:
        return lambda loop: found.update({name: loop.project.settings})

    monkeypatch.setattr(WatchLoop, "once", note("watch"))
    monkeypatch.setattr(RetrainLoop, "once", note("retrain"))
    return found


def until(holds: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(int(SECONDS / 0.05)):
        if holds():
            return
        waiting.wait(0.05)
    raise AssertionError("it did not come to that")


def test_the_platforms_watch_and_retraining_go_by_the_new_settings(
    project: Project, running: Platform, seen: dict[str, Any]
) -> None:
    write(project, SETTINGS.replace("2 days", "4 days").replace("3 days", "5 days"))
    until(lambda: "retrain" in seen and seen["retrain"].retrain.cooldown.days == 5)
    until(lambda: "watch" in seen and seen["watch"].watch.window.days == 4)
    until(lambda: outdated(project) == "")
    assert not [line for line in _plan(project) if "restart" in line]


def test_what_waits_for_a_restart_is_said_where_people_look(
    project: Project, running: Platform, seen: dict[str, Any]
) -> None:
    write(project, SETTINGS.replace("3 days", "5 days") + "[serve]\nport = 8099\n")
    until(lambda: outdated(project).startswith("serve.port changed"))
    assert _plan(project)[-1].startswith(
        "the platform that is up carries it out with trilho.toml as it was: serve.port"
    )
    assert "serve.port changed" in (project.home / "platform.log").read_text()
    until(lambda: "retrain" in seen)
    assert seen["retrain"].retrain.cooldown.days == 3
    told = json.loads((project.home / "platform.json").read_text())
    assert told["settings"]["line"]["waits"] == outdated(project)


def test_without_a_platform_nothing_is_outdated(project: Project) -> None:
    assert outdated(project) == ""
    assert len(_plan(project)) == 2


@pytest.mark.parametrize(
    ("served", "said"),
    [
        ("", "all rows of data.csv; rows served since are left out ([data] served is false)"),
        ("served = true\n", "all rows of data.csv, and on the 0 rows that were served and labelled"),
    ],
)
def test_the_plan_says_what_a_retraining_learns_from(project: Project, served: str, said: str) -> None:
    path = project.folder / "trilho.toml"
    path.write_text(path.read_text().replace('source = "data.csv"\n', f'source = "data.csv"\n{served}'))
    assert _plan(Project.open(project.folder))[0] == f"line is trained on {said}"
