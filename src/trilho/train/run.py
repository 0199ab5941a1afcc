"""A training from beginning to end: what is put on record, what is run, what is left."""

from __future__ import annotations

import difflib
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trilho.config import FILE, Settings
from trilho.core.metrics import resolve
from trilho.core.ports import ArtifactStore
from trilho.core.records import ContractChecked, DatasetVersioned, Payload, RunEnded, RunStarted, RunState, TaskResult
from trilho.data.contract import Contract, load_contract
from trilho.data.version import Dataset, version_data
from trilho.errors import ConfigError, TrilhoError
from trilho.pipeline.execute import RunResult, execute
from trilho.pipeline.process import StepServer
from trilho.pipeline.runs import RunFolder
from trilho.train.tasks import PIPELINE, Champion, Origin, training_graph
from trilho_runtime.describe import look_for

STOPPED = "its runner was stopped before it ended"


@dataclass(frozen=True, kw_only=True)
class TrainContext:
    """What a training needs of the project around it; what happened goes out through `record`."""

    settings: Settings
    project: Path
    source: Path
    home: Path
    store: ArtifactStore
    python: Path
    sources: list[Path] | Callable[[], list[Path]]
    served: Path | None
    """Rows that were served and labelled since; the file is removed once the store has it."""
    champion_package: Path | None
    first_dataset: DatasetVersioned | None
    run_id: str
    trigger: str
    commit: str | None
    commit_time: str | None
    record: Callable[..., None]
    on_task: Callable[[TaskResult], None] = lambda _: None
    datasets: frozenset[str] = frozenset()
    """Dataset versions that were recorded before; they are not recorded again."""
    running: tuple[str, ...] = ()
    """Runs that have no end on record; those whose runner is gone get one."""
    steps: StepServer | None = None
    stop: threading.Event | None = None


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training left. Without a package it has failed, and `problem` says why."""

    run: str
    state: RunState
    tasks: list[TaskResult]
    seconds: float
    metric: str
    dataset: str | None = None
    data_until: str | None = None
    train_until: str | None = None
    history: str | None = None
    candidates: int = 1
    """How many models the one that is kept was chosen from, on the held-out rows."""
    package: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    predictions: Path | None = None
    champion_predictions: Path | None = None
    problem: TrilhoError | None = None

    @property
    def error(self) -> str | None:
        """The problem in words, with a failed step's own output."""
        return str(self.problem) if self.problem is not None else None


def train(context: TrainContext) -> TrainResult:
    """Run the training pipeline and say what it left.

    Raises ConfigError for settings that name what is not there; every other failure is in the result and on record.
    """
    check_steps(context.settings, context.project, context.source)
    contract = load_contract(context.project / context.settings.data.contract)
    settle_runs(context.home, context.settings.model.name, context.running, context.record)
    with RunFolder.of(context.home, context.run_id).lease():
        begun = time.monotonic()
        dataset = _version(context, contract, begun)
        if isinstance(dataset, TrainResult):
            return dataset
        _record_start(context, dataset)
        try:
            result = _execute(context, dataset, contract)
        except BaseException as error:
            said = error.fact if isinstance(error, TrilhoError) else f"it was interrupted: {type(error).__name__}"
            _record_end(context, "failed", [], said, time.monotonic() - begun)
            raise
        _record_checks(context, dataset, result)
        problem = result.error.fact.splitlines()[0] if result.error is not None else None
        _record_end(context, result.state, result.tasks, problem, time.monotonic() - begun)
        return _result(context, dataset, result, time.monotonic() - begun)


def check_steps(settings: Settings, project: Path, source: Path) -> None:
    """Hold the functions that trilho.toml names against the project's files, without importing them."""
    for key, reference, arguments in (("features", settings.steps.features, 1), ("train", settings.steps.train, 2)):
        found = look_for(source, reference, arguments)
        if not found.found:
            hint = f"did you mean {found.near!r}?" if found.near else f"correct steps.{key}, or write the function"
            raise ConfigError(f"{project / FILE}: steps.{key} is {reference!r}: {found.problem}", hint=hint)


def settle_runs(home: Path, model: str, running: Iterable[str], record: Callable[..., None]) -> None:
    """Put an end on record for the runs that have none though the process that ran them is gone."""
    for run in running:
        folder = RunFolder.of(home, run)
        if not folder.is_held():
            found = folder.settle(STOPPED)
            tasks: list[TaskResult] = list(found["tasks"])
            record(RunEnded(model=model, run=run, state="failed", tasks=tasks, error=STOPPED, seconds=found["seconds"]))


def _version(context: TrainContext, contract: Contract, begun: float) -> Dataset | TrainResult:
    """Make the dataset version; where that fails the journal gets a run that failed before it trained."""
    model = context.settings.model
    try:
        sources = context.sources() if callable(context.sources) else context.sources
        dataset = version_data(
            sources,
            context.store,
            time=model.time,
            key=model.key,
            target=model.target,
            served=context.served,
            contract=contract,
        )
        _check_ignored(context, dataset)
        return dataset
    except TrilhoError as error:
        _record_start(context, None)
        _record_end(context, "failed", [], error.fact, time.monotonic() - begun)
        if isinstance(error, ConfigError):
            raise
        return _failed(context, error, time.monotonic() - begun)
    finally:
        if context.served is not None:
            context.served.unlink(missing_ok=True)


def _check_ignored(context: TrainContext, dataset: Dataset) -> None:
    for column in context.settings.watch.ignore:
        if column not in dataset.columns:
            close = difflib.get_close_matches(column, dataset.columns, n=1)
            raise ConfigError(
                f"{context.project / FILE}: watch.ignore has {column!r}, and the data has no such column; it has: "
                + ", ".join(dataset.columns),
                hint=f"did you mean {close[0]!r}?" if close else "correct watch.ignore",
            )


def _failed(context: TrainContext, problem: TrilhoError, seconds: float) -> TrainResult:
    metric = resolve(context.settings.gate.metric, context.settings.model.task)
    return TrainResult(run=context.run_id, state="failed", tasks=[], seconds=seconds, metric=metric, problem=problem)


def _champion(context: TrainContext) -> Champion | None:
    package = context.champion_package
    if package is None:
        return None
    manifest = json.loads((package / "manifest.json").read_text(encoding="utf-8"))
    return Champion(package=context.store.put(package), trained_until=manifest.get("lineage", {}).get("train_until"))


def _execute(context: TrainContext, dataset: Dataset, contract: Contract) -> RunResult:
    graph = training_graph(
        context.settings,
        dataset,
        contract,
        Origin(run=context.run_id, commit=context.commit, source=context.source),
        champion=_champion(context),
        first_dataset=context.first_dataset,
    )
    arguments: dict[str, Any] = {
        "run_id": context.run_id,
        "home": context.home,
        "store": context.store,
        "python": context.python,
        "source": context.source,
        "timeout": context.settings.train.timeout,
        "on_task": context.on_task,
        "about": {"model": context.settings.model.name, "trigger": context.trigger, "commit": context.commit},
        "held": True,
        "stop": context.stop,
    }
    if context.steps is not None:
        return execute(graph, steps=context.steps, **arguments)
    with StepServer(context.python, context.source, context.project) as steps:
        return execute(graph, steps=steps, **arguments)


def _record_start(context: TrainContext, dataset: Dataset | None) -> None:
    model = context.settings.model.name
    payloads: list[Payload] = []
    if dataset is not None and dataset.digest not in context.datasets:
        payloads.append(
            DatasetVersioned(
                model=model,
                dataset=dataset.digest,
                rows=dataset.rows,
                columns=dataset.columns,
                source=dataset.source,
                first=dataset.first,
                last=dataset.last,
                served_rows=dataset.served_rows,
            )
        )
    start = RunStarted(
        model=model,
        run=context.run_id,
        pipeline=PIPELINE,
        trigger=context.trigger,
        dataset=dataset.digest if dataset is not None else None,
        commit=context.commit,
        commit_time=context.commit_time,
    )
    context.record(*payloads, start)


def _record_checks(context: TrainContext, dataset: Dataset, result: RunResult) -> None:
    findings = result.values.get("check.findings")
    if findings is not None:
        verdict: Any = "fail" if findings else "pass"
        model = context.settings.model.name
        context.record(ContractChecked(model=model, dataset=dataset.digest, verdict=verdict, findings=findings))


def _record_end(
    context: TrainContext, state: RunState, tasks: list[TaskResult], error: str | None, seconds: float
) -> None:
    model = context.settings.model.name
    end = RunEnded(model=model, run=context.run_id, state=state, tasks=tasks, error=error, seconds=round(seconds, 3))
    context.record(end)


def _result(context: TrainContext, dataset: Dataset, result: RunResult, seconds: float) -> TrainResult:
    def path(output: str) -> Path | None:
        digest = result.outputs.get(output)
        return context.store.path(digest) if digest is not None else None

    compared = context.champion_package is not None
    succeeded = result.state == "succeeded"
    return TrainResult(
        run=context.run_id,
        state=result.state,
        tasks=result.tasks,
        seconds=seconds,
        metric=resolve(context.settings.gate.metric, context.settings.model.task),
        dataset=dataset.digest,
        data_until=dataset.last,
        train_until=result.values.get("split.train_until"),
        history=result.values.get("evaluate.history"),
        candidates=len(result.values.get("evaluate.candidates", {})) or 1,
        package=result.outputs.get("pack.package") if succeeded else None,
        metrics=result.values.get("evaluate.metrics", {}),
        predictions=path("pair.challenger" if compared else "evaluate.predictions"),
        champion_predictions=path("pair.champion") if compared else None,
        problem=result.error,
    )
