"""A run elsewhere from being handed over to its last record, whichever process of this machine sees to which part.

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
from trilho.core.ports import ArtifactStore, NotFound, RemoteFiles, RemoteStatus
from trilho.core.projection import Run
from trilho.errors import DataError, StepFailed, TrilhoError, Unreachable, UsageError
from trilho.pipeline import ir
from trilho.pipeline.follow import follow
from trilho.pipeline.gather import Gathered, gather, read_records
from trilho.pipeline.runs import RunFolder, TaskLog, new_run_id
from trilho.project import SERVES, Project, TrainOutcome
from trilho.remote import record
from trilho.remote.environment import EMULATED_IMAGE, Target, resolve
from trilho.remote.record import RemoteRun

OnStatus = Callable[[RemoteRun, RemoteStatus], None]
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


def follow_run(
    project: Project,
    run_id: str,
    *,
    on_status: OnStatus = lambda _run, _status: None,
    say: Say = lambda _line: None,
) -> Outcome:
    """Follow a run to its end, and put that on record unless somebody else has; also one that was never handed over."""
    run = record.read(project.home, run_id)
    done = outcome_on_record(project, run)
    if done is not None:
        return done
    target = target_as_it_was(project, run, say)
    document = record.read_document(project.home, run_id)
    run = _handed_over(project, target, run, document)
    planned = [{"name": name, "needs": list(task.needs)} for name, task in ir.read(document).walk()]

    def look(status: RemoteStatus) -> None:
        record.show(project.home, run, status, planned)
        on_status(run, status)

    try:
        status = follow(
            target.runner, run_id, on_status=look, on_silence=lambda error: say(f"{error.fact}; looking again")
        )
    except NotFound as error:
        hint = f"was its job removed there? trilho runs cancel {run_id} puts its end on record"
        raise NotFound(error.fact, hint=hint) from error
    return complete(project, target, run, status)


def cancel_run(project: Project, run_id: str, *, say: Say = lambda _line: None) -> Outcome:
    """Have a run stopped there, wait until it is, and put that on record."""
    run = record.read(project.home, run_id)
    done = outcome_on_record(project, run)
    if done is not None:
        raise UsageError(f"run {run_id} has ended already: it {done.state}", hint=f"trilho runs show {run_id}")
    run = _note_canceller(project, run_id, whoami())
    target = target_as_it_was(project, run, say)
    try:
        target.runner.cancel(run_id)
    except NotFound:  # it was never handed over, or its job was removed there
        return complete(project, target, run, RemoteStatus(state="cancelled"))
    except Unreachable:  # the service may have heard it
        raise
    except TrilhoError:
        _note_canceller(project, run_id, None)
        raise
    status = follow(target.runner, run_id, on_silence=lambda error: say(f"{error.fact}; looking again"))
    return complete(project, target, run, status)


def _note_canceller(project: Project, run_id: str, who: str | None) -> RemoteRun:
    """Keep who asks for a run's end; whoever is about to submit it comes first."""
    with RunFolder.of(project.home, run_id).lease():
        run = replace(record.read(project.home, run_id), cancelled_by=who)
        record.write(project.home, run)
    return run


def log_of(project: Project, run_id: str, task: str) -> str:
    """Give what a task printed there, kept here from then on once its run has ended."""
    run = record.read(project.home, run_id)
    text = target_as_it_was(project, run).runner.log(run_id, task)
    if outcome_on_record(project, run) is not None and text:
        _keep_log(project, run_id, task, text)
    return text


def target_as_it_was(project: Project, run: RemoteRun, say: Say = lambda _line: None) -> Target:
    """Give what reaches the environment that a run was submitted to."""
    environment = Environment.model_validate(run.settings)
    return Target(run.on, run.environment, environment, project.store, run.model, say)  # type: ignore[arg-type]


def _handed_over(project: Project, target: Target, run: RemoteRun, document: Mapping[str, Any]) -> RemoteRun:
    from trilho.remote.train import upload

    if run.submitted:
        return run
    with RunFolder.of(project.home, run.run).lease():  # whoever is about to submit it comes first
        again = record.read(project.home, run.run)
        if again.submitted:
            return again
        if again.dataset is not None:  # whoever began it may have been killed before all of it was there
            upload(project, target, again, target.say)
        return hand_over(project, target, again, document)


def complete(project: Project, target: Target, run: RemoteRun, status: RemoteStatus) -> Outcome:
    """Bring what an ended run left into the store of this machine and put its end on record, once."""
    from trilho.remote.train import complete_training

    with RunFolder.of(project.home, run.run).lease():
        done = outcome_on_record(project, run)
        if done is not None:
            return done
        run = record.read(project.home, run.run)  # somebody may have cancelled it meanwhile
        gathered = _gather(project, target, run, status)
        if run.dataset is not None:
            return complete_training(project, target, run, gathered)
        result = gathered.result
        problem = result.error
        record.write(project.home, replace(run, exit_code=problem.exit_code if problem is not None else 0))
        end = r.RunEnded(
            model=run.model,
            run=run.run,
            state=result.state,
            tasks=result.tasks,
            error=problem.line if problem is not None else None,
            seconds=round(result.seconds, 3),
        )
        project.record(end, actor=run.actor)
        return outcome(run, result.state, result.tasks, result.outputs, problem)


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


def outcome_on_record(project: Project, run: RemoteRun) -> Outcome | None:
    """Give a run's outcome as the journal has it; None while it has none."""
    state = project.state()
    found = state.runs.get(run.run)
    if found is None or found.state == "running":
        return None
    kept = record.read(project.home, run.run)
    training = _training_on_record(project, found, kept) if run.dataset is not None else None
    return Outcome(
        run=run.run,
        pipeline=found.pipeline,
        state=found.state,
        on=run.on,
        place=run.place,
        tasks=found.tasks,
        training=training,
        error=found.error,
        exit_code=_exit_code(found, kept),
    )


def _exit_code(found: Run, kept: RemoteRun) -> int:
    return 0 if found.state == "succeeded" else kept.exit_code or 1


def _training_on_record(project: Project, found: Run, kept: RemoteRun) -> TrainOutcome:
    state, package = project.state(), kept.package if found.state == "succeeded" else None
    version = next((one for one in state.versions.values() if one.package == package), None)
    ended = TrainOutcome(
        run=found.id,
        state=found.state,
        tasks=found.tasks,
        error=found.error,
        exit_code=_exit_code(found, kept),
    )
    if version is None:
        return ended
    verdict, evidence = SERVES
    if version.gate is not None and version.number != state.champion:
        verdict, evidence = version.gate.verdict, version.gate.evidence
    reason = str(evidence.get("reason", ""))
    return replace(ended, version=version.number, metrics=version.metrics, verdict=verdict, reason=reason)


def _gather(project: Project, target: Target, run: RemoteRun, status: RemoteStatus) -> Gathered:
    def log(task: str) -> str:
        try:
            return target.runner.log(run.run, task)
        except TrilhoError as error:  # the run's end must reach the record though its log does not reach us
            return error.fact

    spec = ir.read(record.read_document(project.home, run.run))
    records = read_records(target.files, run.root, run.run)
    gathered = gather(spec, status, records, run=run.run, seconds=run.seconds(), log=log)
    for name, step in records.items():
        if step.said:
            _keep_log(project, run.run, name, "\n".join(step.said))
    if status.state == "cancelled":
        who = f" by {run.cancelled_by}" if run.cancelled_by else ""
        problem = StepFailed(f"run {run.run} was cancelled{who}", hint="what it finished is not done again")
        return replace(gathered, result=replace(gathered.result, error=problem))
    return gathered


def _keep_log(project: Project, run: str, task: str, text: str) -> None:
    path = RunFolder.of(project.home, run).log(task)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        TaskLog(path).say(text)


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
