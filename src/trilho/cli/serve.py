"""`trilho serve` and `trilho up`: the processes that stay until they are told to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trilho.cli.session import Session, verb
from trilho.errors import NotYet, UsageError

if TYPE_CHECKING:
    from trilho.project import Project

ENDPOINT_SECONDS = 60.0


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(app, "serve", examples=["trilho serve", "trilho -C examples/bike-demand serve"])
    def serve(here: Session) -> None:
        """Answer predictions over HTTP, until Ctrl-C.

        A rollout under way goes on to full traffic, or back, as its version answers.
        """
        project = here.project
        if not project.state().shares:
            raise NotYet(f"no version of {project.name} is released", hint=here.command("trilho release VERSION"))
        _stay(here, [project], console=False, watch=False, port=0)

    @verb(app, "up", examples=["trilho up", "trilho up examples/bike-demand examples/flight-delay --port 8700"])
    def up(
        here: Session,
        folders: Annotated[
            list[Path] | None,
            typer.Argument(metavar="[DIR]...", help="Projects, or folders of projects; by default this one."),
        ] = None,
        port: Annotated[
            int, typer.Option("--port", min=0, max=65535, help="The console's port; 0 takes a free one.")
        ] = 0,
        host: Annotated[str, typer.Option("--host", help="The console's address.")] = "127.0.0.1",
        parent_pipe: Annotated[int | None, typer.Option("--parent-pipe", hidden=True)] = None,
    ) -> None:
        """Run the platform: console, endpoints, watchers, triggers.

        One process for many projects that share a home; Ctrl-C stops all that it started.
        """
        if host not in ("127.0.0.1", "::1", "localhost"):
            here.say(f"The console has no login: whoever reaches {host} can read it and acknowledge incidents.")
        projects = _projects(here, folders or [])
        _stay(here, projects, console=True, watch=True, port=port, host=host, parent_pipe=parent_pipe)


def _projects(here: Session, folders: list[Path]) -> list[Project]:
    from trilho.project import Project

    base = here.folder or Path()
    found: list[Path] = []
    for folder in [base / folder for folder in folders] or [base]:
        inside = sorted(path.parent for path in folder.glob("*/trilho.toml"))
        alone = (folder / "trilho.toml").exists() or not inside
        found += [folder] if alone else inside
    projects = [Project.open(folder) for folder in dict.fromkeys(found)]
    names = [project.name for project in projects]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UsageError(f"two projects have the model name {twice.pop()}", hint="change model.name in one trilho.toml")
    return projects


def _stay(
    here: Session,
    projects: list[Project],
    *,
    console: bool,
    watch: bool,
    port: int,
    host: str = "127.0.0.1",
    parent_pipe: int | None = None,
) -> None:
    from trilho.platform import Platform

    def ready(address: str) -> None:
        threading.Thread(target=_announce, args=(here, projects, address, stop), daemon=True).start()

    with until_told() as stop:
        if parent_pipe is not None:
            threading.Thread(target=_end_with, args=(parent_pipe, stop), daemon=True).start()
        Platform(projects).run(stop, port=port, host=host, serve=True, watch=watch, console=console, ready=ready)
    here.say("Stopped, with all that was started.")
    sys.stdout.flush()
    os._exit(0)  # the console's native threads may still run, and must not meet an interpreter that is being taken down


def _announce(here: Session, projects: list[Project], console: str, stop: threading.Event) -> None:
    """Say where everything answers, once it does."""
    if console:
        here.say(f"Console: {console}")
    waiting = [project for project in projects if project.state().shares]
    for project in projects:
        if project not in waiting:
            here.say(f"{project.name}: no version is released yet")
    endpoints: dict[str, str] = {}
    for _ in range(int(ENDPOINT_SECONDS / 0.1)):
        for project in list(waiting):
            status = project.endpoint()
            if status and status.running and status.address and "ready" in status.versions.values():
                waiting.remove(project)
                endpoints[project.name] = status.address
                here.say(f"{project.name}: {status.address}/predict")
        if not waiting or stop.wait(0.1):
            break
    for project in waiting:
        here.say(f"{project.name}: not ready yet; see {project.home / 'platform.log'}")
    example = next((project for project in projects if project.name in endpoints), projects[0])
    inside = example.folder == Path.cwd()
    where = here.command("trilho") if inside or here.folder else f"trilho -C {example.folder}"
    here.say("Ctrl-C stops everything.")
    if here.as_json:
        here.done(where, console=console or None, endpoints=endpoints)
    else:
        here.say(f"Next: {where}")


def _end_with(pipe: int, stop: threading.Event) -> None:
    """Stop when the process that holds the other end of a pipe has ended, however it ended."""
    with suppress(OSError):
        while os.read(pipe, 64):
            pass
    stop.set()


@contextmanager
def until_told() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and SIGTERM set; the process ends in order then."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
