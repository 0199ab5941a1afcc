"""`trilho models`: the versions of a model, and what each is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trilho.cli.release import Version as VersionArgument
from trilho.cli.session import Session, Why, group, verb
from trilho.errors import UsageError

if TYPE_CHECKING:
    from trilho.core.projection import ModelState, Version

Onnx = Annotated[
    Path | None, typer.Option("--onnx", metavar="OUT", help="An ONNX file: a folder to be, or a name ending in .onnx.")
]
Mlflow = Annotated[Path | None, typer.Option("--mlflow", metavar="DIR", help="A model folder of MLflow.")]
To = Annotated[Path | None, typer.Option("--to", metavar="DIR", help="The package itself.")]
Python = Annotated[
    Path | None, typer.Option("--python", metavar="PATH", help="What converts it; by default the project's own.")
]


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    models = typer.Typer()
    app.add_typer(models, name="models")

    @group(models)
    def list_(here: Session) -> None:
        """List versions, or show one."""
        from dataclasses import asdict

        from trilho.govern.wording import moment, number

        state = here.project.state()
        if not state.versions:
            here.say(f"{state.name} has no version yet.")
            here.done("trilho train", model=state.name, versions=[])
            return
        rows = [
            (
                str(x.number),
                f"{x.metric} {number(x.metrics.get(x.metric))}",
                x.gate.verdict if x.gate else "not judged",
                (x.data_until or "")[:10],
                moment(x.created),
                standing(state, x),
            )
            for x in reversed(state.versions.values())
        ]
        here.table(("version", "held out", "gate", "data until", "created", "is"), rows)
        newest = max(state.versions)
        versions = [{**asdict(x), "is": standing(state, x)} for x in state.versions.values()]
        here.done(f"trilho models show {newest}", model=state.name, champion=state.champion, versions=versions)

    @verb(models, "show", examples=["trilho models show 2"])
    def show(here: Session, version: VersionArgument) -> None:
        """Show a version: data, code, metrics, evidence, rollouts."""
        from dataclasses import asdict

        from trilho.govern.lineage import facts, lineage
        from trilho.serve.certificate import read_certificate

        state = here.project.state()
        if version not in state.versions:
            raise UsageError(f"{state.name} has no version {version}", hint=here.command("trilho models"))
        found = lineage(state, version)
        newest = read_certificate(here.project.home, here.project.name, version)
        if newest is not None and newest.package == found["package"]:
            found["certificate"] = asdict(newest)  # one that failed is in no record unless it was released all the same
        here.say(f"Version {version} of {state.name}: {standing(state, state.versions[version])}.")
        here.facts(facts(found))
        here.done(_next(state, state.versions[version]), model=state.name, **found)

    @verb(models, "pin", examples=["trilho models pin 2 --why 'the audit of May'"])
    def pin(here: Session, version: VersionArgument, why: Why = "") -> None:
        """Keep a version, whatever `trilho gc` frees."""
        if not why:
            raise UsageError("a pin needs a reason", hint=here.command(f"trilho models pin {version} --why '...'"))
        _pin(here, version, True, why)

    @verb(models, "unpin", examples=["trilho models unpin 2"])
    def unpin(here: Session, version: VersionArgument, why: Why = "") -> None:
        """Let go of a version that was pinned."""
        _pin(here, version, False, why)

    @verb(models, "export", examples=["trilho models export 2 --to out", "trilho models export 2 --onnx edge",
                                      "trilho models export 2 --mlflow model"])  # fmt: skip
    def export(
        here: Session,
        version: VersionArgument,
        onnx: Onnx = None,
        mlflow: Mlflow = None,
        to: To = None,
        python: Python = None,
    ) -> None:
        """Write a version for use elsewhere: its package, an ONNX file, or a model of MLflow.

        An ONNX file is held against the package before it is written: the stored rows, made-up ones at the edges, and
        ones at the thresholds of its trees. Exits with 3 where it answers otherwise; then nothing is written.
        """
        from trilho.cli.exports import export_package

        given = {name: path for name, path in (("onnx", onnx), ("mlflow", mlflow), ("to", to)) if path is not None}
        if len(given) != 1:
            ways = "--to DIR, --onnx OUT or --mlflow DIR"
            raise UsageError(
                f"{len(given)} ways to export were given; allowed: one of {ways}",
                hint=here.command(f"trilho models export {version} --to out"),
            )
        (way, out), *_ = given.items()
        export_package(here, version, way, out, python)

    @verb(models, "mirror", examples=["trilho models mirror", "trilho models mirror --again"])
    def mirror(
        here: Session, again: Annotated[bool, typer.Option("--again", help="From the first record on.")] = False
    ) -> None:
        """Send runs and versions to the MLflow server of [tracking], from where it was left.

        What is there already is found by its tag and not made twice.
        """
        from dataclasses import asdict

        from trilho import tracking

        found = tracking.mirror(here.project, again=again)
        here.say(tracking.sentence(found))
        here.done("trilho models", model=here.project.name, **asdict(found))


def _pin(here: Session, version: int, pinned: bool, why: str) -> None:
    from trilho.govern.retention import pin

    if pinned and version in here.project.state().versions:
        here.project.package(version)  # it may have been freed
    here.project.record(pin(here.project.state(), version, pinned, why))
    kept = "is kept, with all that it was made of" if pinned else "is kept no longer than it is needed"
    here.say(f"Version {version} of {here.project.name} {kept}.")
    here.done(f"trilho models unpin {version}" if pinned else "trilho gc --dry-run", version=version, pinned=pinned)


def standing(state: ModelState, version: Version) -> str:
    """Say in a few words what a version is now."""
    if version.number == state.champion:
        return "champion"
    if state.rollout is not None and state.rollout.version == version.number:
        return f"on its way, {state.rollout.position}"
    ways = [x for x in state.rollouts.values() if x.version == version.number]
    if ways:
        last = ways[-1].outcome or "under way"
        return last if last != "full" else "replaced" if version.number in state.succession else "rolled back"
    if version.gate is not None and version.gate.verdict == "fail":
        return "rejected"
    if version.gate is None or version.gate.verdict == "not enough data":
        return "not judged"
    return "approved" if version.approved_by else "ready"


def _next(state: ModelState, version: Version) -> str:
    if standing(state, version) in ("ready", "approved"):
        return f"trilho release {version.number}"
    return f"trilho runs show {version.run}"
