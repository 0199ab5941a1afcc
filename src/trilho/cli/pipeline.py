"""`trilho pipeline`: compile the project's pipeline, run anybody's here, look at one, hand one over to a service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trilho.cli.session import Session, group, verb
from trilho.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from trilho.core.records import TaskResult
    from trilho.pipeline.execution.execute import RunResult
    from trilho.pipeline.ir.reader import Spec
    from trilho.pipelines import Compiled, Site
    from trilho.remote import Target

Define = Annotated[str, typer.Argument(metavar="[FUNCTION]", help="What writes it, as package.module:function.")]
File = Annotated[str, typer.Argument(metavar="[FILE]", help="A compiled pipeline; or package.module:function.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to write it; else it is printed.")]
Image = Annotated[str, typer.Option("--image", metavar="REF", help="The image of every step: NAME@sha256:DIGEST.")]
Param = Annotated[list[str], typer.Option("--param", "-p", metavar="NAME=VALUE", help="A parameter; may be repeated.")]
NoInstall = Annotated[bool, typer.Option("--no-install", help="Skip what KFP components would install with pip.")]
Python = Annotated[Path | None, typer.Option("--python", metavar="PATH", help="The interpreter that steps run in.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Run every task, also those that were done before.")]
Resume = Annotated[str, typer.Option("--resume", metavar="RUN", help="Go on where this run stopped.")]
Timeout = Annotated[str, typer.Option("--timeout", metavar="TIME", help='Of each task: seconds, or "2 hours".')]
On = Annotated[str, typer.Option("--on", metavar="vertex|kubeflow", help="The service.")]
Env = Annotated[str, typer.Option("--env", metavar="NAME", help="Which [environments.NAME] of trilho.toml.")]
Detach = Annotated[bool, typer.Option("--detach", help="Submit it and leave; `trilho runs follow` comes back to it.")]
Cron = Annotated[str, typer.Option("--cron", metavar="TIMES", help='When, as in "0 3 * * 1".')]
Zone = Annotated[str, typer.Option("--timezone", metavar="ZONE", help="Of these times; by default the project's.")]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="The schedule's; by default the pipeline's.")]
Listed = Annotated[bool, typer.Option("--list", help="List the schedules.")]
Pause = Annotated[str, typer.Option("--pause", metavar="ID", help="Submit nothing until it is resumed.")]
Resumed = Annotated[str, typer.Option("--resume", metavar="ID", help="Go on with a paused schedule.")]
Delete = Annotated[str, typer.Option("--delete", metavar="ID", help="End a schedule.")]

WIDTH = 90


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    pipeline = typer.Typer()
    app.add_typer(pipeline, name="pipeline")

    @group(pipeline)
    def alone(here: Session) -> None:
        """Compile, run, show, submit or schedule pipelines (KFP)."""
        show(here)

    _add_compile(pipeline)
    _add_run(pipeline)
    _add_services(pipeline)

    @verb(pipeline, "show", examples=["trilho pipeline show", "trilho pipeline show pipeline.yaml"])
    def show(here: Session, file: File = "") -> None:
        """Show a pipeline as a tree: tasks, conditions, loops, what each one runs, parameters, outputs, images.

        FILE is any KFP v2 pipeline, TFX's too; without one it is the project's own.
        """
        _show(here, _spec(here, _site(here), file), file)


def _add_compile(pipeline: typer.Typer) -> None:
    @verb(pipeline, "compile", examples=[
        "trilho pipeline compile -o pipeline.yaml",
        "trilho pipeline compile shop.pipelines:nightly --image REGISTRY/NAME@sha256:...",
    ])  # fmt: skip
    def compile_(here: Session, define: Define = "", out: Out = None, image: Image = "") -> None:
        """Check the project's pipeline and compile it to a KFP v2 PipelineSpec.

        Every step becomes a container that runs `python -m trilho_runtime.step` in the project's image; the same
        pipeline gives the same bytes. What is wrong with it is listed by file and line (exit code 2).
        """
        from trilho.pipeline.compile.compiler import dump

        site = _site(here)
        compiled = site.compile(define or None, image or None)
        _warn(compiled)
        text = dump(compiled.document)
        if out is None and not here.as_json:
            typer.echo(text, nl=False)
            return
        if out is not None:
            _write(out, text)
        tasks = sum(1 for one in compiled.document["components"].values() if "executorLabel" in one)
        here.say(f"Compiled {compiled.name}: {tasks} task{'s' if tasks != 1 else ''} in {compiled.image}")
        found = {"pipeline": compiled.name, "file": str(out) if out else None, "tasks": tasks, "image": compiled.image}
        spec = {} if out else {"spec": compiled.document}
        asked = f"trilho pipeline run {out or define}".rstrip() + _asked(compiled.document)
        next_ = f"trilho pipeline run {out}" if out and site.trains(define) else "trilho train"
        next_ = next_ if site.trains(define) else asked
        here.done(next_, **found, warnings=compiled.said(), **spec)


def _add_run(pipeline: typer.Typer) -> None:
    @verb(pipeline, "run", examples=["trilho pipeline run pipeline.yaml --param rows=500 --param 'names=[\"a\"]'",
                                     "trilho pipeline run pipeline.yaml --no-install --json",
                                     "trilho pipeline run pipeline.yaml --resume r20260301-120000-1a2b"])  # fmt: skip
    def run(
        here: Session,
        file: File = "",
        param: Param = [],  # noqa: B006  typer reads it and never changes it
        no_install: NoInstall = False,
        python: Python = None,
        no_cache: NoCache = False,
        resume: Resume = "",
        timeout: Timeout = "",
    ) -> None:
        """Run a pipeline on this machine: trilho's own, or anybody's in KFP v2.

        Tasks that were done before on the same inputs are not run again. What cannot run here is refused by name
        before anything runs. Without FILE it is the project's own pipeline.
        """
        from trilho.pipelines import parameters_of

        site = _site(here, python)
        if site.trains(file):
            raise UsageError("the project's pipeline is its training, which has more to it", hint="trilho train")
        spec = _spec(here, site, file)
        wide = _width(spec)
        run_id, result = site.run(
            spec,
            parameters_of(spec, param, site.supplied),
            install=not no_install,
            cache=not no_cache,
            resume=resume or None,
            timeout=_seconds(timeout),
            on_task=lambda task: here.say(_line(task, wide)),
            say=here.say,
        )
        _report(here, site, run_id, result, file)


def _add_services(pipeline: typer.Typer) -> None:
    @verb(pipeline, "submit", examples=["trilho pipeline submit pipeline.yaml --on vertex --env prod --param rows=500",
                                        "trilho pipeline submit tfx-pipeline.json --on kubeflow --detach"])  # fmt: skip
    def submit(
        here: Session,
        file: File = "",
        on: On = "vertex",
        env: Env = "",
        param: Param = [],  # noqa: B006
        detach: Detach = False,
    ) -> None:
        """Hand a pipeline over to Vertex AI or Kubeflow, follow it, and put it on record like any other run."""
        from trilho.cli import following
        from trilho.pipelines import parameters_of
        from trilho.remote import submit as hand_over
        from trilho.remote import target_of

        target, site = target_of(here.project, on, env or None, here.say), _site(here)
        if site.trains(file):
            raise UsageError(
                "the project's pipeline is its training, which has more to it", hint=f"trilho train --on {on}"
            )
        spec = _spec(here, site, file, target.environment.image)
        begun = hand_over(here.project, spec, parameters_of(spec, param), target)
        if detach:
            following.detached(here, begun)
            return
        here.say(f"Run {begun.run} on {on}: {begun.place}")
        following.report(here, following.follow(here, begun.run))

    @verb(pipeline, "schedule", examples=["trilho pipeline schedule pipeline.yaml --on vertex --cron '0 3 * * 1'",
                                          "trilho pipeline schedule --on vertex --list",
                                          "trilho pipeline schedule --on vertex --pause 123"])  # fmt: skip
    def schedule(
        here: Session,
        file: File = "",
        on: On = "vertex",
        env: Env = "",
        cron: Cron = "",
        timezone: Zone = "",
        name: Name = "",
        param: Param = [],  # noqa: B006
        list_: Listed = False,
        pause: Pause = "",
        resume: Resumed = "",
        delete: Delete = "",
    ) -> None:
        """Have Vertex AI or Kubeflow submit a pipeline at set times; list, pause, resume and delete schedules."""
        from trilho.pipelines import parameters_of
        from trilho.remote import create_schedule, target_of

        target = target_of(here.project, on, env or None, here.say)
        place = f"--on {on}" + (f" --env {env}" if env else "")
        changes = {"paused": (pause, target.scheduler.pause), "resumed": (resume, target.scheduler.resume),
                   "deleted": (delete, target.scheduler.delete)} if pause or resume or delete else {}  # fmt: skip
        for word, (id_, change) in changes.items():
            if id_:
                change(id_)
                here.say(f"Schedule {id_} was {word}.")
        if list_ or changes:
            _schedules(here, target, place)
            return
        if not cron:
            raise UsageError("--cron is missing: when is it to run?", hint="--cron '0 3 * * 1' is Mondays at 03:00")
        site = _site(here)
        if site.trains(file):
            raise UsageError(
                "the project's pipeline is its training, which versions its data here before it starts",
                hint=f"trilho train {place}, at set times by this machine's cron",
            )
        spec = _spec(here, site, file, target.environment.image)
        zone = timezone or here.project.settings.timezone
        given = parameters_of(spec, param)
        made = create_schedule(target, spec, given, name=name or spec.name, cron=cron, timezone=zone)
        here.say(f"{on} submits {spec.name} at {cron} ({zone}).")
        here.done(
            f"trilho pipeline schedule {place} --list", schedule=made, pipeline=spec.name, cron=cron, timezone=zone
        )


def _schedules(here: Session, target: Target, place: str) -> None:
    from dataclasses import asdict

    found = target.scheduler.list()
    if found:
        rows = [(x.id, x.name, x.cron, x.timezone, "paused" if x.paused else x.next or "") for x in found]
        here.table(("schedule", "name", "cron", "timezone", "next"), rows)
    else:
        here.say("There is no schedule.")
    here.done(f"trilho pipeline schedule FILE {place} --cron '0 3 * * 1'", schedules=[asdict(one) for one in found])


def _site(here: Session, python: Path | None = None) -> Site:
    from trilho.pipelines import Site

    return Site.of(here.folder or Path(), python)


def _spec(here: Session, site: Site, file: str, image: str | None = None) -> Spec:
    """Read a pipeline: a file, or what a function of the project writes; "" is the project's own."""
    from trilho.pipeline.ir.reader import load, read

    if file and (Path(file).exists() or ":" not in file):
        return load(Path(file))
    compiled = site.compile(file or None, image)
    if image is not None:
        _warn(compiled)
    return read(compiled.document)


def _asked(document: Mapping[str, Any]) -> str:
    """Write the parameters that a run has to be given."""
    declared = document["root"].get("inputDefinitions", {}).get("parameters", {})
    return "".join(f" --param {name}=..." for name, kind in declared.items() if not kind.get("isOptional"))


def _warn(compiled: Compiled) -> None:
    for line in compiled.said():
        typer.echo(f"warning: {line}", err=True)


def _write(path: Path, text: str) -> None:
    from trilho.core.files import write_whole

    try:
        write_whole(path, text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint="-o names a file in a folder") from None


def _seconds(text: str) -> timedelta | None:
    from datetime import timedelta

    from trilho.config import parse_duration

    if not text:
        return None
    try:
        found = timedelta(seconds=float(text)) if text.replace(".", "", 1).isdigit() else parse_duration(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"--timeout is {text!r}; seconds or a duration is wanted", hint='--timeout "2 hours"'
        ) from None
    if not found:
        raise UsageError("--timeout is 0: nothing could run", hint='--timeout "2 hours"')
    return found


def _width(spec: Spec) -> int:
    """Give how wide the column of names is: the longest task's, with an item's number for each loop that it is in."""
    loops = [name for name, task in spec.walk() if task.loop is not None]
    names = [(name, sum(name.startswith(f"{loop}/") for loop in loops)) for name, _ in spec.walk()]
    return min(WIDTH, max((len(name) + 2 * nested for name, nested in names), default=0))


def _line(task: TaskResult, wide: int) -> str:
    from trilho.govern.wording import reason

    seconds = f"{task['seconds']:.2f} s" if task["state"] == "ran" else ""
    why = reason(task["reason"]) if task["state"] in ("skipped", "failed") else ""
    why = why if len(why) <= WIDTH else f"{why[:WIDTH]}..."
    return f"  {task['name']:<{wide}}  {task['state']:<8} {seconds or why}".rstrip()


def _report(here: Session, site: Site, run: str, result: RunResult, file: str) -> None:
    tasks = [{key: task[key] for key in ("name", "state", "seconds", "reason")} for task in result.tasks]
    found = {"run": run, "state": result.state, "tasks": tasks, "outputs": result.outputs}
    logs = f"trilho runs show {run}" if site.project is not None else f"ls {site.home / 'runs' / run}"
    if result.error is None:
        here.say(f"Run {run} succeeded in {result.seconds:.1f} s.")
        here.facts((name, _shown(value)) for name, value in result.outputs.items())
        here.done(logs, **found)
        return
    hint = here.command(_where_to_look(site, run, result.error.hint) or logs)
    if here.as_json:
        here.emit({"schema": 1, **found, "error": result.error.fact, "next": hint})
    here.complain(result.error.fact, hint)
    raise typer.Exit(result.error.exit_code)


def _where_to_look(site: Site, run: str, hint: str | None) -> str | None:
    """Give a hint that can be followed: without a project there are logs, and no `trilho runs`."""
    words = (hint or "").split()
    if site.project is not None or words[:3] != ["trilho", "runs", "logs"]:
        return hint
    return f"less {site.home / 'runs' / run / words[-1]}.log"


def _shown(value: Any) -> str:
    if isinstance(value, dict) and "uri" in value:
        return str(value["uri"])
    if isinstance(value, list) and value and all(isinstance(one, dict) and "uri" in one for one in value):
        return ", ".join(str(one["uri"]) for one in value)
    return str(value)


def _show(here: Session, spec: Spec, file: str) -> None:
    from trilho.pipeline.ir import outline

    tree, parameters = outline.outline(spec), outline.parameters(spec)
    compiler = spec.document.get("sdkVersion") or "an unnamed compiler"
    here.say(f"{spec.name} (KFP {spec.schema_version}, by {compiler})")
    if parameters:
        here.say("", "Parameters")
        here.table(("  name", "type", "default"), [(f"  {name}", kind, default) for name, kind, default in parameters])
    here.say("", "Tasks")
    here.table(("  name", "runs", ""), list(outline.lines(tree)))
    outputs, images = outline.outputs(spec), outline.images(spec)
    if outputs:
        here.say("", "Outputs", *(f"  {name} = {value}" for name, value in outputs.items()))
    if images:
        here.say("", "Images", *(f"  {image}" for image in images))
    described = [dict(zip(("name", "type", "default"), one, strict=True)) for one in parameters]
    here.done(
        f"trilho pipeline run {file}" if file else "trilho pipeline compile -o pipeline.yaml",
        pipeline=spec.name,
        compiler=compiler,
        parameters=described,
        tasks=[line.described() for line in tree],
        outputs=outputs,
        images=images,
    )
