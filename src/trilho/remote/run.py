"""A run elsewhere until it is handed over, and what its process of this machine and any later one share of it.

What is needed to go on is on disk before the service knows of the run, the service knows it by the run's id, and what
is put on record at its end goes into the journal in one append while the run's lease is held. So the process may end
anywhere: another one follows on, and two at once write the end only once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trilho.config import Environment
from trilho.core import records as r
from trilho.core.digest import digest_path
from trilho.core.journal import whoami
from trilho.core.ports import ArtifactStore, RemoteFiles
from trilho.errors import DataError, TrilhoError, Unreachable, UsageError
from trilho.pipeline.ir import reader as ir
from trilho.pipeline.keeping.runs import RunFolder, new_run_id
from trilho.project import Project, TrainOutcome
from trilho.remote import record
from trilho.remote.environment import EMULATED_IMAGE, Target, resolve
from trilho.remote.record import RemoteRun

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run elsewhere came to, as it is on record."""

    run: str
    pipeline: str
    state: r.RunState
    on: str
    place: str
    tasks: list[r.TaskResult] = field(default_factory=list)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    training: TrainOutcome | None = None
    """What it left, where it was a training."""
    error: str | None = None
    hint: str | None = None
    exit_code: int = 0


def target_of(project: Project, on: str, name: str | None = None, say: Say = lambda _line: None) -> Target:
    """Give what reaches the environment that `--on` and `--env` mean."""
    place, key, environment = resolve(project.settings, on, name)
    return Target(place, key, environment, project.store, project.name, say)


def submit(
    project: Project,
    spec: ir.Spec,
    parameters: Mapping[str, Any],
    target: Target,
    *,
    trigger: str = "a person",
    actor: str | None = None,
) -> RemoteRun:
    """Put the start of any pipeline on record and hand it over; it goes on by itself.

    Raises UsageError for one that cannot run there, before anything is on record.
    """
    require_images(spec, target)
    run = new_run(project, target, new_run_id(), spec.name, trigger, actor, {**spec.given, **parameters})
    with RunFolder.of(project.home, run.run).lease():
        record.write(project.home, run, spec.document)
        start = r.RunStarted(
            model=project.name,
            run=run.run,
            pipeline=run.pipeline,
            trigger=trigger,
            dataset=None,
            commit=run.commit,
            commit_time=run.commit_time,
            runner=run.on,
            place=run.place,
        )
        project.record(start, actor=actor)
        return hand_over(project, target, run, spec.document)


def new_run(
    project: Project,
    target: Target,
    run: str,
    pipeline: str,
    trigger: str,
    actor: str | None,
    parameters: Mapping[str, Any],
    **more: Any,
) -> RemoteRun:
    """Give a run elsewhere that begins now."""
    commit, commit_time = project.commit()
    return RemoteRun(
        run=run,
        on=target.on,
        environment=target.name,
        settings=target.environment.model_dump(),
        place=target.place(run),
        root=target.root,
        pipeline=pipeline,
        model=project.name,
        trigger=trigger,
        actor=actor or whoami(),
        begun=datetime.now(UTC).isoformat(timespec="microseconds"),
        parameters=dict(parameters),
        commit=commit,
        commit_time=commit_time,
        **more,
    )


def hand_over(project: Project, target: Target, run: RemoteRun, document: Mapping[str, Any]) -> RemoteRun:
    """Submit a run whose start is on record. What the service refuses has failed; when nobody answers it stays open,
    since it may have arrived, and to follow it is to submit it again."""
    try:
        place = target.runner.submit(run.job(document))
    except Unreachable as error:
        raise type(error)(error.fact, hint=f"{error.hint}; then trilho runs follow {run.run}") from error
    except TrilhoError as error:
        record_failure(project, run, error)
        raise
    handed = replace(run, place=place, submitted=True)
    record.write(project.home, handed)
    return handed


def record_failure(project: Project, run: RemoteRun, error: TrilhoError) -> None:
    """Put the end of a run on record that was never handed over."""
    end = r.RunEnded(
        model=run.model, run=run.run, state="failed", tasks=[], error=error.fact, seconds=round(run.seconds(), 3)
    )
    project.record(end, actor=run.actor)


def target_as_it_was(project: Project, run: RemoteRun, say: Say = lambda _line: None) -> Target:
    """Give what reaches the environment that a run was submitted to."""
    environment = Environment.model_validate(run.settings)
    return Target(run.on, run.environment, environment, project.store, run.model, say)  # type: ignore[arg-type]


def outcome(
    run: RemoteRun,
    state: r.RunState,
    tasks: list[r.TaskResult],
    outputs: Mapping[str, Any],
    problem: TrilhoError | None,
) -> Outcome:
    """Say what a run came to."""
    return Outcome(
        run=run.run,
        pipeline=run.pipeline,
        state=state,
        on=run.on,
        place=run.place,
        tasks=tasks,
        outputs=outputs,
        error=problem.fact if problem is not None else None,
        hint=problem.hint if problem is not None else None,
        exit_code=problem.exit_code if problem is not None else 0,
    )


def fetch(files: RemoteFiles, store: ArtifactStore, uri: str, digest: str) -> str:
    """Bring what a step left at a URI into a store. Raises DataError when it is not what its digest names."""
    if store.use(digest):
        return digest
    with tempfile.TemporaryDirectory(prefix="trilho-") as folder:
        to = Path(folder) / "artifact"
        files.fetch(uri, to)
        if digest_path(to) != digest:
            raise DataError(f"{uri} is not what the step's record names: it was changed", hint="train again")
        return store.put(to)


def require_images(spec: ir.Spec, target: Target) -> None:
    """Refuse a pipeline whose images only this machine has. Raises UsageError."""
    if target.emulated:
        return
    for name, executor in spec.executors.items():
        image = getattr(executor, "image", "")
        if image.startswith(EMULATED_IMAGE):
            raise UsageError(
                f"{name} runs in {image}, which stands for this machine; {target.on} cannot pull it",
                hint=f"compile it with the project's image, environments.{target.name}.image",
            )
