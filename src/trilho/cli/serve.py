"""`trilho serve` and `trilho up`: the processes that stay until they are told to stop."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trilho.cli import packages
from trilho.cli.session import Session, defaults, verb
from trilho.cli.stopping import until_told as until_told
from trilho.errors import NotYet, UsageError

if TYPE_CHECKING:
    from trilho.project import Project

ENDPOINT_SECONDS = 60.0
LOOPBACK = "127.0.0.1"


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(
        app, "serve",
        examples=[
            "trilho serve", "trilho serve examples/bike-demand --port 8080",
            "trilho serve model/ --port 8080 --workers 2 --log /var/log/bikes",
            "trilho serve gs://bucket/models/bikes/3 --host 0.0.0.0 --api-key env:BIKES_KEY",
        ],
    )  # fmt: skip
    def serve(
        here: Session,
        what: Annotated[
            str,
            typer.Argument(
                metavar="[PACKAGE_OR_PROJECT]",
                help="A model package (a folder, gs:// or https://), or a project; by default this one.",
            ),
        ] = "",
        port: Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one.")] = None,
        host: Annotated[str, typer.Option(help="Where to listen; by default only this machine can ask.")] = LOOPBACK,
        workers: Annotated[int | None, typer.Option(min=1, max=64, help="Processes that answer.")] = None,
        entries: Annotated[
            str | None, typer.Option(metavar="plain|full", help="full: with id, score, decision and versions.")
        ] = None,
        log: Annotated[
            str, typer.Option(metavar="DIR", help="Of a package: where its lines go; none keeps none.")
        ] = "",
        version: Annotated[int | None, typer.Option(min=1, help="Of a package: the number in answers.")] = None,
        python: Annotated[Path | None, typer.Option(metavar="PATH", help="Of a package: what serves it.")] = None,
        api_key: Annotated[
            list[str] | None, typer.Option(metavar="REF", help="Of a package: keys to ask for, env:NAME or file:PATH.")
        ] = None,
        open_: Annotated[bool, typer.Option("--open", help="Ask nobody who they are, whoever reaches HOST.")] = False,
    ) -> None:
        """Answer predictions over HTTP, until Ctrl-C.

        Of a project: its released versions; a rollout under way goes on to full traffic, or back, as its version
        answers. Of a package: that package, in an interpreter that has what it needs.
        """
        own = {"--log": log, "--version": version, "--python": python, "--api-key": api_key}
        package = packages.found(here.folder, what)
        asked = packages.Asked(port, host, workers, _entries(entries), open_)
        if package is not None:
            packages.serve(here, package, asked, log=log, version=version or 1, python=python, keys=api_key or [])
            return
        _serve_project(here, what, asked, [name for name, value in own.items() if value])

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


def _entries(entries: str | None) -> str | None:
    if entries not in (None, "plain", "full"):
        raise UsageError(f"--entries is {entries!r}; allowed: plain, full", hint="trilho serve --help")
    return entries


def _serve_project(here: Session, what: str, asked: packages.Asked, strange: list[str]) -> None:
    """Serve the released versions of a project."""
    if what:
        here.folder = defaults.folder = (here.folder or Path()) / what
    if strange:
        raise UsageError(f"{strange[0]} is for a package; a project keeps that itself", hint="trilho serve --help")
    project = here.project
    serving = {"port": asked.port, "workers": asked.workers, "entries": asked.entries}
    changed = project.settings.serve.model_copy(update={k: v for k, v in serving.items() if v is not None})
    project.settings = project.settings.model_copy(update={"serve": changed})
    packages.check_exposed(asked, bool(changed.api_keys or changed.audience), "serve.api_keys in trilho.toml")
    if not project.state().shares:
        trained = sorted(project.state().versions)
        hint = here.command(f"trilho release {trained[-1]}" if trained else "trilho train")
        known = f"; trained: {', '.join(map(str, trained))}" if trained else ", and none was trained"
        raise NotYet(f"no version of {project.name} is released{known}", hint=hint)
    _stay(here, [project], console=False, watch=False, port=0, endpoint=asked)


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
    endpoint: packages.Asked | None = None,
) -> None:
    from trilho.platform import Platform

    def ready(address: str) -> None:
        threading.Thread(target=_announce, args=(here, projects, address, stop), daemon=True).start()

    with until_told() as stop:
        if parent_pipe is not None:
            threading.Thread(target=_end_with, args=(parent_pipe, stop), daemon=True).start()
        platform = Platform(
            projects, endpoint.host if endpoint else LOOPBACK, opened=bool(endpoint and endpoint.opened)
        )
        platform.run(stop, port=port, host=host, serve=True, watch=watch, console=console, ready=ready)
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
