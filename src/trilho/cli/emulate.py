"""`trilho emulate`: Vertex AI and what stands around it, on this machine, until it is told to stop."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trilho.cli.session import SCHEMA, Session, verb
from trilho.errors import UsageError

if TYPE_CHECKING:
    from trilho.pipeline.places import Place, Places
    from trilho.testing.emulator.rules import Rules
    from trilho.testing.emulator.serve import Emulator

HTTP_STATUSES = {
    "400": "INVALID_ARGUMENT", "401": "UNAUTHENTICATED", "403": "PERMISSION_DENIED", "404": "NOT_FOUND",
    "409": "ALREADY_EXISTS", "429": "RESOURCE_EXHAUSTED", "500": "INTERNAL", "503": "UNAVAILABLE",
    "504": "DEADLINE_EXCEEDED",
}  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(app, "emulate", examples=[
        "trilho emulate", "trilho emulate --json --data .emulated",
        "trilho emulate --deny aiplatform.pipelineJobs.create --fail DeployModel=UNAVAILABLE:1",
        "trilho emulate --image us-docker.pkg.dev/p/r/train=.venv/bin/python:src",
    ])  # fmt: skip
    def emulate(
        here: Session,
        port: Annotated[
            int,
            typer.Option("--port", min=0, max=65533, help="Vertex AI's port; the others follow. 0 takes free ones."),
        ] = 0,
        data: Annotated[
            Path | None, typer.Option("--data", metavar="DIR", help="Where state is kept; by default nowhere.")
        ] = None,
        project: Annotated[str, typer.Option("--project", help="The Google Cloud project's id.")] = "trilho-emulated",
        location: Annotated[str, typer.Option("--location", help="The region.")] = "southamerica-east1",
        deny: Annotated[
            list[str] | None,
            typer.Option("--deny", metavar="PERMISSION", help="A permission nobody has, such as storage.*."),
        ] = None,
        fail: Annotated[
            list[str] | None, typer.Option("--fail", metavar="METHOD=CODE[:COUNT]", help="Calls of a method that fail.")
        ] = None,
        latency: Annotated[
            list[str] | None,
            typer.Option("--latency", metavar="[METHOD=]MS", help="Milliseconds that calls take longer."),
        ] = None,
        image: Annotated[
            list[str] | None,
            typer.Option("--image", metavar="PREFIX=PYTHON[:SOURCE]", help="What runs images whose names begin so."),
        ] = None,
        no_install: Annotated[
            bool, typer.Option("--no-install", help="Do not install what KFP components ask pip for.")
        ] = False,
    ) -> None:
        """Vertex AI, Storage, BigQuery, Secret Manager on this machine.

        Google's own clients talk to it unchanged, in the environment that it prints; Ctrl-C stops it.
        """
        from trilho.testing.emulator.serve import require_libraries

        require_libraries()
        rules = _rules(deny or [], fail or [], latency or [])
        places = _places(here, image or [], install=not no_install)
        with _folder(data) as root:
            _serve(here, root, places, rules, project=project, location=location, port=port)


def _serve(here: Session, root: Path, places: Places, rules: Rules, **options: Any) -> None:
    from trilho.backends.local.store import LocalStore
    from trilho.cli.serve import until_told
    from trilho.testing.emulator.serve import Emulator

    if not re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", options["project"]):
        raise UsageError(
            f"--project is {options['project']!r}; allowed: 6 to 30 lower-case letters, digits and hyphens"
        )
    store = LocalStore(root / "vertex" / "artifacts")

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201

    with until_told() as stop, Emulator(root, places=places, store=store, rules=rules, say=say, **options) as emulator:
        _announce(here, emulator)
        while not stop.wait(3600):
            pass
    if not here.as_json:
        here.say("stopped")


def _announce(here: Session, emulator: Emulator) -> None:
    if here.as_json:
        here.emit({
            "schema": SCHEMA, "env": emulator.environment, "aiplatform": emulator.aiplatform,
            "secretmanager": emulator.aiplatform, "project": emulator.project, "location": emulator.location,
            "data": str(emulator.root), "next": here.command("trilho train --on vertex"),
        })  # fmt: skip
        return
    here.say(*(f"export {name}={shlex.quote(value)}" for name, value in sorted(emulator.environment.items())))
    here.say(
        f'# aiplatform.init(project="{emulator.project}", location="{emulator.location}", '
        f'api_endpoint="{emulator.aiplatform}")',
        f"# state: {emulator.root}; Ctrl-C stops it",
    )


def _rules(deny: list[str], fail: list[str], latency: list[str]) -> Rules:
    from trilho.testing.emulator.rules import Rules

    return Rules.parse(deny, [_with_status(text) for text in fail], [_in_seconds(text) for text in latency])


def _with_status(text: str) -> str:
    """Let a failure be given by its HTTP code too.

    >>> _with_status("storage.objects.create=503:2")
    'storage.objects.create=UNAVAILABLE:2'
    """
    method, _, rest = text.partition("=")
    code, colon, count = rest.partition(":")
    return f"{method}={HTTP_STATUSES.get(code, code)}{colon}{count}"


def _in_seconds(text: str) -> str:
    method, equals, milliseconds = text.rpartition("=")
    try:
        return f"{method}{equals}{float(milliseconds) / 1000}"
    except ValueError:
        hint = "such as 200, or CreatePipelineJob=200 for one method"
        raise UsageError(f"--latency is {text!r}; allowed: milliseconds", hint=hint) from None


def _places(here: Session, images: list[str], *, install: bool) -> Places:
    """Say what runs images: those that are named, and a project's or a folder's own with its own interpreter."""
    from trilho.config import FILE
    from trilho.pipeline.places import Place, Places
    from trilho.pipelines import LOCAL_IMAGE, Site

    base = here.folder or Path()
    named = dict(_image(base, text) for text in images)
    if not (base / FILE).exists():
        site = Site.of(base)
        python = Path(shutil.which("python3") or sys.executable)
        own = {f"{LOCAL_IMAGE}/": Place(site.python, site.source)}  # what `trilho pipeline compile` names there
        return Places(python=python, source=None, folder=site.folder, platform=Path(sys.executable),
                      images={**own, **named}, install=install, environments=_cache())  # fmt: skip
    project = here.project
    return Places(
        python=project.python, source=project.source, folder=project.folder, platform=Path(sys.executable),
        images={**_own_images(here), **named}, install=install, environments=project.home,
    )  # fmt: skip


def _cache() -> Path | None:
    """Give the user's cache, which outlives an emulator: pip needs long for what was there before. None without one."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trilho"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return folder if os.access(folder, os.W_OK) else None


def _own_images(here: Session) -> dict[str, Place]:
    from trilho.pipeline.places import Place

    project = here.project
    own = Place(project.python, project.source)
    set_ = (environment.image for environment in project.settings.environments.values())
    return {f"trilho.local/{project.name}": own} | {name.partition("@")[0]: own for name in set_ if name}


def _image(base: Path, text: str) -> tuple[str, Place]:
    from trilho.pipeline.places import Place

    prefix, equals, rest = text.partition("=")
    python, colon, source = rest.partition(":")
    found = shutil.which(python) if python and "/" not in python else str((base / python).absolute())
    if not equals or not python or found is None or not Path(found).is_file():
        hint = "such as us-docker.pkg.dev/p/r/train=.venv/bin/python:src"
        raise UsageError(f"--image is {text!r}; allowed: PREFIX=PYTHON[:SOURCE], PYTHON an interpreter", hint=hint)
    folder = (base / source).resolve() if colon else None
    if folder is not None and not folder.is_dir():
        raise UsageError(
            f"--image {prefix}: {folder} is no folder", hint="SOURCE is where its modules are imported from"
        )
    return prefix, Place(Path(found), folder)


@contextmanager
def _folder(data: Path | None) -> Iterator[Path]:
    if data is not None:
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="trilho-emulate-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
