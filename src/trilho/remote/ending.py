"""The end of a run elsewhere: followed or cancelled, brought home and put on record, whatever it was that ran.

It stands above `run` and `train`: only here it matters whether the run was a training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from trilho.core import records as r
from trilho.core.journal import whoami
from trilho.core.ports import NotFound, RemoteStatus
from trilho.core.projection import Run
from trilho.errors import StepFailed, TrilhoError, Unreachable, UsageError
from trilho.pipeline.ir import reader as ir
from trilho.pipeline.keeping.runs import RunFolder, TaskLog
from trilho.project import Project, TrainOutcome
from trilho.project.training import SERVES
from trilho.remote import record, train
from trilho.remote.environment import Target
from trilho.remote.follow import follow
from trilho.remote.gather import Gathered, gather, read_records
from trilho.remote.record import RemoteRun
from trilho.remote.run import Outcome, Say, hand_over, outcome, target_as_it_was

OnStatus = Callable[[RemoteRun, RemoteStatus], None]


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


def _handed_over(project: Project, target: Target, run: RemoteRun, document: Mapping[str, Any]) -> RemoteRun:
    if run.submitted:
        return run
    with RunFolder.of(project.home, run.run).lease():  # whoever is about to submit it comes first
        again = record.read(project.home, run.run)
        if again.submitted:
            return again
        if again.dataset is not None:  # whoever began it may have been killed before all of it was there
            train.upload(project, target, again, target.say)
        return hand_over(project, target, again, document)


def complete(project: Project, target: Target, run: RemoteRun, status: RemoteStatus) -> Outcome:
    """Bring what an ended run left into the store of this machine and put its end on record, once."""
    with RunFolder.of(project.home, run.run).lease():
        done = outcome_on_record(project, run)
        if done is not None:
            return done
        run = record.read(project.home, run.run)  # somebody may have cancelled it meanwhile
        gathered = _gather(project, target, run, status)
        if run.dataset is not None:
            return train.complete_training(project, target, run, gathered)
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
