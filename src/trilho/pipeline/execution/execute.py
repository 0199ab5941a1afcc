"""Runs a pipeline on this machine: what was done before is taken from the cache, what is independent runs side by side.

A task's outputs are artifacts named by content; a manifest under its fingerprint, written last and whole, says that
it was done. So whatever is killed when, the next run repeats only what was unfinished, and two runs at once can only
do the same work twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from trilho.core.ports import ArtifactStore
from trilho.core.records import RunState, TaskResult
from trilho.core.spelling import near
from trilho.errors import Refused, TrilhoError, UsageError
from trilho.pipeline.execution.outcome import Done
from trilho.pipeline.execution.perform import Performer
from trilho.pipeline.execution.progress import Progress, TaskEvent
from trilho.pipeline.execution.schedule import Schedule, Stopped
from trilho.pipeline.execution.scope import Given
from trilho.pipeline.ir.expression import ExpressionError, parse
from trilho.pipeline.ir.placeholder import PlaceholderError, check_container
from trilho.pipeline.ir.reader import MISSING, Container, IrError, Spec
from trilho.pipeline.ir.values import ValueMismatch, coerced
from trilho.pipeline.keeping.artifacts import Keeping
from trilho.pipeline.keeping.cache import Cache
from trilho.pipeline.keeping.runs import RunFolder
from trilho.pipeline.places import Places
from trilho.pipeline.workers.workers import Workers

__all__ = ["Job", "RunResult", "Stopped", "TaskEvent", "execute", "root_parameters"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What placeholders such as {{$.pipeline_job_name}} stand for. Without one a run has its id for a name and its
    folder for a root.

    A `root` that is a URI (gs://...) which `places` maps to a folder here is where artifacts stay, under their URIs,
    instead of the store: trilho's own steps are given those URIs, everybody else's the folder's paths.
    """

    name: str
    root: str
    resource_name: str = ""
    uuid: str = ""
    created: str = ""
    scheduled: str = ""
    project: str = ""
    location: str = ""
    service_account: str = ""

    def facts(self) -> dict[str, str]:
        """Give what the placeholders of a pipeline stand for, but for those of a task."""
        created = self.created or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "pipeline_job_name": self.name,
            "pipeline_job_resource_name": self.resource_name or self.name,
            "pipeline_job_uuid": self.uuid or self.name,
            "pipeline_job_create_time_utc": created,
            "pipeline_job_schedule_time_utc": self.scheduled or created,
            "pipeline_root": self.root,
            "pipeline_google_cloud_project_id": self.project,
            "pipeline_google_cloud_location": self.location,
            "pipeline_service_account": self.service_account,
        }


@dataclass(frozen=True)
class RunResult:
    """What a run came to."""

    state: RunState
    tasks: list[TaskResult]
    outputs: dict[str, Any]
    """The pipeline's outputs: a value, or {"name", "uri", "type", "metadata", "digest"} for an artifact, or a list of
    these."""
    values: dict[str, Any]
    """What tasks found, by "task.name": tasks of the root, and others by their whole name, and by the end of it where
    one task has it."""
    artifacts: dict[str, str]
    """The digests of what tasks made, named in the same way."""
    error: TrilhoError | None
    seconds: float


def execute(
    spec: Spec,
    parameters: Mapping[str, Any],
    *,
    run_id: str,
    home: Path,
    store: ArtifactStore,
    places: Places,
    timeout: timedelta | None = None,
    on_task: Callable[[TaskResult], None] = lambda _: None,
    observe: Callable[[TaskEvent], None] | None = None,
    about: Mapping[str, Any] | None = None,
    workers: Workers | None = None,
    held: bool = False,
    stop: threading.Event | None = None,
    cache: bool = True,
    resume: str | None = None,
    job: Job | None = None,
) -> RunResult:
    """Run a pipeline; a task that fails stops what needs it, and the run has failed.

    `timeout` is each task's. `on_task` is told of every task that ended, `observe` of beginnings and groups too; both
    are called in the caller's thread. `about` goes into the run's manifest. With `workers` warm interpreters are used,
    and stay. `held` says that the caller holds the run's lease. `resume` names a run whose finished tasks, also those
    that are never cached, count as done.

    Before anything runs it raises UsageError for parameters that are missing or of another type and for a pipeline that
    takes artifacts, IrError for expressions that can't be read, and Refused for tasks that can't run here; then
    Stopped, with nothing left running, soon after `stop` is set.
    """
    given = Given(root_parameters(spec, parameters))
    check_artifacts(spec)
    check_expressions(spec)
    check_placeholders(spec)
    folder = RunFolder.of(home, run_id)
    with ExitStack() as stack:
        if not held:
            stack.enter_context(folder.lease())
        hands = workers if workers is not None else stack.enter_context(Workers(places, home))
        _refuse(hands, spec, given.parameters)
        job = job or Job(name=run_id, root=str(folder.path))
        resumed = RunFolder.of(home, resume) if resume is not None else None
        performer = Performer(
            workers=hands,
            cache=Cache(home, Keeping(store, places), folder, resumed),
            schema_version=spec.schema_version,
            timeout=timeout.total_seconds() if timeout is not None else None,
            root=job.root if "://" in job.root and places.local(job.root) is not None else None,
            cached=cache,
        )
        for one in spec.executors.values():
            if isinstance(one, Container):
                performer.libraries(one)  # an interpreter that cannot run steps is told before anything runs
        progress = Progress(spec, folder, about or {}, on_task, observe)
        return _run(Schedule(spec, performer, progress, job.facts(), stop), progress, given)


def _run(schedule: Schedule, progress: Progress, given: Given) -> RunResult:
    begun = time.monotonic()
    progress.write("running")
    try:
        done = schedule.run(given)
    except BaseException as stop:
        progress.write("failed", f"it was interrupted: {type(stop).__name__}")
        raise
    error = progress.error or done.error
    state: RunState = "succeeded" if error is None else "failed"
    progress.write(state, error.fact.splitlines()[0] if error is not None else None)
    return RunResult(
        state=state,
        tasks=progress.results(),
        outputs=_outputs(schedule.spec, done),
        values=progress.values(),
        artifacts=progress.digests(),
        error=error,
        seconds=time.monotonic() - begun,
    )


def _outputs(spec: Spec, done: Done) -> dict[str, Any]:
    found = dict(done.values)
    for name, listed in done.artifacts.items():
        output = spec.root.artifact_outputs.get(name)
        several = (output is not None and output.is_list) or len(listed) != 1
        found[name] = [one.shown() for one in listed] if several else listed[0].shown()
    return found


def root_parameters(spec: Spec, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Give the pipeline's parameters with its defaults, typed. Raises UsageError that names what is wrong."""
    known = spec.root.inputs
    given = {**spec.given, **parameters}
    for name in given:
        if name not in known:
            raise UsageError(f"pipeline {spec.name} has no parameter {name!r}", hint=near(name, known))
    found: dict[str, Any] = {}
    for name, kind in known.items():
        value = given.get(name)
        if value is None and kind.required:
            raise UsageError(f"parameter {name} of pipeline {spec.name} is missing", hint=f"--param {name}=...")
        value = kind.default if value is None else value
        if value is MISSING:
            continue
        try:
            found[name] = coerced(value, kind.type, kind.literals)
        except ValueMismatch as error:
            raise UsageError(f"parameter {name} of pipeline {spec.name}: {error}", hint=f"--param {name}=...") from None
    return found


def check_artifacts(spec: Spec) -> None:
    """Raise UsageError for artifacts that the pipeline itself must be given: a run is given parameters only."""
    needed = [name for name, kind in spec.root.artifact_inputs.items() if not kind.optional]
    if needed:
        noun = "artifact" if len(needed) == 1 else "artifacts"
        raise UsageError(
            f"pipeline {spec.name} takes {noun} {', '.join(needed)}, and artifacts can't be given here",
            hint="import it with dsl.importer" if len(needed) == 1 else "import them with dsl.importer",
        )


def check_expressions(spec: Spec) -> None:
    """Raise IrError for a condition or a selector that can't be read, by task."""
    for name, task in spec.walk():
        texts = [("condition", task.condition)]
        texts += [(f"input {key}", one.selector) for key, one in task.parameters.items()]
        for what, text in texts:
            try:
                if text is not None:
                    parse(text)
            except ExpressionError as error:
                raise IrError(
                    f"task {name}: its {what} {text!r} cannot be resolved: {error}", hint="correct it in the pipeline"
                ) from None


def check_placeholders(spec: Spec) -> None:
    """Raise IrError for a container's placeholder that stands for nothing, by task."""
    facts = {**Job(name="", root="").facts(), "pipeline_task_name": "", "pipeline_task_uuid": ""}
    for name, task in spec.walk():
        component = spec.component(task)
        executor = spec.executor(component)
        try:
            if isinstance(executor, Container):
                check_container(component, executor, facts)
        except PlaceholderError as error:
            raise IrError(f"task {name}: {error}", hint="correct it in the pipeline, or compile it again") from None


def _refuse(workers: Workers, spec: Spec, parameters: Mapping[str, Any]) -> None:
    problems = [problem for problem in workers.check(spec, parameters) or () if problem.fatal]
    if problems:
        said = "\n".join(f"task {problem.task}: {problem.reason}" for problem in problems)
        raise Refused(f"this pipeline cannot run here:\n{said}", hint=problems[0].hint or None)
