"""A training elsewhere: the data is versioned here, the pipeline runs there, the version is registered here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from trilho.core import records as r
from trilho.data.version import Dataset, read_manifest
from trilho.errors import DataError, StepFailed, TrilhoError
from trilho.pipeline.keeping.runs import RunFolder, new_run_id
from trilho.project import Project, TrainOutcome
from trilho.remote import record
from trilho.remote.environment import Target, image_of
from trilho.remote.gather import Gathered
from trilho.remote.record import RemoteRun
from trilho.remote.run import Outcome, Say, fetch, hand_over, new_run, outcome, record_failure

if TYPE_CHECKING:
    from trilho.pipeline.execution.execute import RunResult
    from trilho.train.training import Training

PIPELINE = "train"
NEEDED = ("pack.package", "evaluate.predictions")
FETCHED = (*NEEDED, "pair.challenger", "pair.champion")
HOLDOUT = "split.holdout"
"""What a training leaves that is wanted here: the version itself, and what the gate judges. Tables stay there."""


def submit_training(
    project: Project,
    target: Target,
    *,
    trigger: str = "a person",
    actor: str | None = None,
    say: Say = lambda _line: None,
) -> RemoteRun | TrainOutcome:
    """Version the data, upload what the bucket lacks, and hand the training over; it goes on by itself.

    A training that ends before that (its data cannot be read) is an outcome, and on record.
    """
    from trilho.train.run import begin
    from trilho.train.training import TrainResult

    run = new_run_id()
    state = project.state()
    champion = state.versions.get(state.champion) if state.champion is not None else None
    context = project.train_context(
        run,
        trigger,
        champion,
        actor=actor,
        image=image_of(target),
        runner=target.on,
        place=target.place(run),
        served=project.export_served(run),
    )
    with RunFolder.of(project.home, run).lease():
        training = begin(context)
        if isinstance(training, TrainResult):
            return project.finish_training(training, champion, actor)
        remote = new_run(
            project,
            target,
            run,
            PIPELINE,
            trigger,
            actor,
            _parameters(target, training),
            dataset=asdict(training.dataset),
            champion=champion.number if champion is not None else None,
        )
        record.write(project.home, remote, training.document)
        try:
            upload(project, target, remote, say)
        except TrilhoError as error:
            record_failure(project, remote, error)
            raise
        return hand_over(project, target, remote, training.document)


def _parameters(target: Target, training: Training) -> dict[str, Any]:
    """Give the run's parameters with places there for places here."""
    there = {"store": target.store_root, "champion_uri": target.uri(training.champion) if training.champion else ""}
    return {name: there.get(name, value) for name, value in training.parameters.items()}


def upload(project: Project, target: Target, run: RemoteRun, say: Say) -> None:
    """Put a training's dataset version and champion into the bucket's store, as far as they are not there."""
    manifest = str((run.dataset or {})["digest"])
    champion = str(run.parameters.get("champion_uri") or "").rpartition("/")[2]
    files = [file["digest"] for file in read_manifest(manifest, project.store)["files"]]
    digests = dict.fromkeys(filter(None, [manifest, *files, champion]))
    missing = [digest for digest in digests if not target.store.use(digest)]
    if missing:
        say(f"uploading {len(missing)} of {len(digests)} artifacts to {target.store_root}")
    for digest in missing:
        target.store.put(project.store.path(digest))


def complete_training(project: Project, target: Target, run: RemoteRun, gathered: Gathered) -> Outcome:
    """Fetch what a training left, and put its end, its version and its verdict on record in one append.

    The caller holds the run's lease.
    """
    from trilho.train.run import finish

    result = _whole(run, gathered.result)
    sliced = [HOLDOUT] if project.settings.gate.slices else []
    for name in [*FETCHED, *sliced] if result.state == "succeeded" else ():
        if name in gathered.places:
            fetch(target.files, project.store, gathered.places[name], result.artifacts[name])
    state = project.state()
    champion = state.versions.get(run.champion) if run.champion is not None else None
    kept: list[r.Payload] = []
    context = project.train_context(run.run, run.trigger, champion, actor=run.actor)
    context = replace(
        context, record=lambda *payloads: kept.extend(payloads), commit=run.commit, commit_time=run.commit_time
    )
    trained = finish(context, _dataset(run.dataset or {}), result, result.seconds)
    code = trained.problem.exit_code if trained.problem is not None else 0
    record.write(project.home, replace(run, package=result.artifacts.get(NEEDED[0]), exit_code=code))
    done = project.finish_training(trained, champion, run.actor, before=kept)
    return replace(outcome(run, trained.state, trained.tasks, result.outputs, trained.problem), training=done)


def _whole(run: RemoteRun, result: RunResult) -> RunResult:
    """Make a run a failed one that succeeded there and left no word of what it made: nothing can be registered."""
    missing = next((name for name in NEEDED if name not in result.artifacts), None)
    if result.state != "succeeded" or missing is None:
        return result
    task, _, output = missing.partition(".")
    problem = StepFailed(
        f"run {run.run} succeeded on {run.on}, and {run.root}/runs/{run.run}/{task}.json does not name its {output}",
        hint="do its steps write to the bucket? docs/remote.md says what they need",
    )
    return replace(result, state="failed", error=problem)


def _dataset(kept: Mapping[str, Any]) -> Dataset:
    try:
        return Dataset(**kept)
    except TypeError:
        raise DataError(
            f"what was kept of the dataset is of another version of trilho: {json.dumps(dict(kept))[:200]}",
            hint="follow the run with the trilho that submitted it",
        ) from None
