"""A training from the project's side: what it is given, and how what it left becomes a version with a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from trilho.core import records as r
from trilho.core.ports import Conflict
from trilho.core.projection import Version
from trilho.errors import TrilhoError
from trilho.pipeline.keeping.runs import is_elsewhere
from trilho.project.outcome import TrainOutcome
from trilho.project.workspace import Workspace
from trilho.release.certified import with_certificate
from trilho.release.decisions import packaged
from trilho.release.verdict import Shipped, verdict_of
from trilho.release.with_model import pack_decision, try_decision
from trilho.train.training import TrainContext, TrainResult

SERVES: tuple[r.Verdict, dict[str, Any]] = ("pass", {"reason": "nothing changed: this version serves already"})


def context_of(
    work: Workspace, run: str, trigger: str, champion: Version | None, *, actor: str | None, **more: Any
) -> TrainContext:
    """Give a training its context, once the project's decision is known to work."""
    if work.settings.steps.decide is not None:
        try_decision(work.decision_code, work.state())
    state, (commit, commit_time) = work.state(), work.commit()
    running = [run.id for run in state.runs.values() if run.state == "running"]
    return TrainContext(
        settings=work.settings,
        project=work.folder,
        source=work.source,
        home=work.home,
        store=work.store,
        python=work.python,
        sources=work.tables,
        champion_package=work.store.path(champion.package) if champion else None,
        first_dataset=next(iter(state.datasets.values()), None),
        run_id=run,
        trigger=trigger,
        commit=commit,
        commit_time=commit_time,
        record=partial(work.record, actor=actor),
        datasets=frozenset(state.datasets),
        running=tuple(run for run in running if not is_elsewhere(work.home, run)),
        **{"served": None, **more},
    )


def export_served(work: Workspace, run: str) -> Path | None:
    """Write the labelled rows into the run's folder; None where none are wanted or there."""
    if not (work.settings.data.served and any(x.is_file() for x in (work.home / "log" / work.name).rglob("*"))):
        return None
    work.log.seal()
    out = work.home / "runs" / run / "served.parquet"
    out.parent.mkdir(parents=True, exist_ok=True)
    return out if work.log.export_labelled(out, work.settings.model.target) else None


def finish(
    work: Workspace, result: TrainResult, champion: Version | None, actor: str | None, before: Sequence[r.Payload]
) -> TrainOutcome:
    """Judge and try what a training left, then append its version; the number is chosen anew while others append."""
    outcome = TrainOutcome(run=result.run, state=result.state, tasks=result.tasks)
    if result.package is None or result.dataset is None or result.predictions is None:
        if before:
            work.record(*before, actor=actor)
        return _failed(outcome, result.problem)
    serves = champion is not None and champion.package == result.package
    verdict, evidence = SERVES if serves else _judge(work, result, result.predictions, champion)
    certificate = None if serves else _try(work, result.package)
    if certificate is not None:
        verdict, evidence = with_certificate(verdict, evidence, certificate)
    decision = _pack_decision(work, result.package)
    while True:
        head, versions = work.journal.head().seq, work.state().versions
        known = next((v.number for v in versions.values() if v.package == result.package), None)
        number = known or max(versions, default=0) + 1
        made: list[r.Payload] = _decided(work, decision, result)
        made += [] if known else [_version(work, result, result.package, result.dataset, number)]
        against = champion.number if champion else None
        gate = r.GateJudged(model=work.name, version=number, champion=against, verdict=verdict, evidence=evidence)
        tried = [] if certificate is None else [replace(certificate, version=number)]
        told = [] if serves else [*tried, gate]
        try:
            work.journal.append(*before, *made, *told, actor=actor, expect=head)
        except Conflict:
            continue
        reason = str(evidence.get("reason", ""))
        return replace(outcome, version=number, metrics=result.metrics, verdict=verdict, reason=reason)


def _failed(outcome: TrainOutcome, problem: TrilhoError | None) -> TrainOutcome:
    if problem is None:
        return replace(outcome, exit_code=1)
    # whoever shows the error gives its hint
    return replace(outcome, error=problem.fact, exit_code=problem.exit_code, hint=problem.hint)


def _version(work: Workspace, result: TrainResult, package: str, dataset: str, number: int) -> r.VersionPackaged:
    return r.VersionPackaged(
        model=work.name,
        version=number,
        run=result.run,
        dataset=dataset,
        package=package,
        metric=result.metric,
        metrics=result.metrics,
        commit=result.commit,
        commit_time=result.commit_time,
        data_until=result.data_until,
    )


def _pack_decision(work: Workspace, package: str) -> str | None:
    decides = work.settings.steps.decide is not None
    return pack_decision(work.decision_code, work.state(), work.store.path(package)) if decides else None


def _decided(work: Workspace, artifact: str | None, result: TrainResult) -> list[r.Payload]:
    commit, reference = (result.commit, result.commit_time), str(work.settings.steps.decide)
    return packaged(work.state(), artifact, reference, commit, result.run) if artifact is not None else []


def _judge(
    work: Workspace, result: TrainResult, predictions: Path, champion: Version | None
) -> tuple[r.Verdict, dict[str, Any]]:
    gate, task = work.settings.gate, work.settings.model.task
    shipped = Shipped(
        package=work.store.path(str(result.package)),
        champion=work.store.path(champion.package) if champion is not None else None,
        answered=any(version.first_served for version in work.state().versions.values()),
        holdout=result.holdout,
    )
    return verdict_of(predictions, result.champion_predictions, gate, task, result.candidates, work.home, shipped)


def _try(work: Workspace, package: str) -> r.VersionCertified | None:
    """Certify what was just packaged, where the gate asks how long its answers take."""
    folder, versions = work.store.path(package), work.state().versions
    if work.settings.gate.latency is None or work.settings.serve.batch_only:
        return None
    number = next((v.number for v in versions.values() if v.package == package), max(versions, default=0) + 1)
    return work.certifier.current(number, folder.name) or work.certifier.certify(number, folder)
