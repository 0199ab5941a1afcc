"""A training from beginning to end: what is put on record, what is run, what is left.

What is done before the pipeline runs (`begin`) and after (`finish`) is the same wherever that is: on this machine in
one go (`train`), elsewhere with days or another process in between.
"""

from __future__ import annotations

import difflib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trilho.config import FILE, Settings
from trilho.core.metrics import resolve
from trilho.core.ports import ArtifactStore
from trilho.core.records import ContractChecked, DatasetVersioned, Payload, RunEnded, RunStarted, RunState, TaskResult
from trilho.data.contract import Contract, check, load_contract
from trilho.data.known import known_version
from trilho.data.version import Dataset, load_table
from trilho.errors import ConfigError, TrilhoError
from trilho.pipeline.execution.execute import RunResult, execute
from trilho.pipeline.ir.reader import read
from trilho.pipeline.keeping.runs import RunFolder
from trilho.pipeline.places import Places
from trilho.pipeline.workers.workers import Workers
from trilho.train.account import own_name, told
from trilho.train.plan import PIPELINE, compile_training
from trilho.train.split import window_start
from trilho_runtime.describe import look_for

STOPPED = "its runner was stopped before it ended"


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training that is about to run: its compiled pipeline, and what this run of it is given."""

    run: str
    document: Mapping[str, Any]
    """The pipeline as a KFP v2 PipelineSpec."""
    parameters: Mapping[str, Any]
    """With `store` and `champion_uri` as places on this machine."""
    dataset: Dataset
    """The dataset version, whose files are in the store."""
    champion: str | None
    """The champion's package's digest, which is in the store."""
    about: Mapping[str, Any]


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
    workers: Workers | None = None
    stop: threading.Event | None = None
    image: str | None = None
    """The project's image, where the pipeline is to run elsewhere."""
    runner: str = "local"
    place: str | None = None
    """The job's full name there; None on this machine."""


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
    holdout: Path | None = None
    """The held-out rows, where the gate slices them."""
    commit: str | None = None
    commit_time: str | None = None
    problem: TrilhoError | None = None

    @property
    def error(self) -> str | None:
        """The problem in words, with a failed step's own output."""
        return str(self.problem) if self.problem is not None else None


def train(context: TrainContext) -> TrainResult:
    """Run the training pipeline on this machine and say what it left.

    Raises ConfigError for settings that name what is not there; every other failure is in the result and on record.
    """
    contract, document = _plan(context)
    with RunFolder.of(context.home, context.run_id).lease():
        begun = time.monotonic()
        training = _begin(context, contract, document)
        if isinstance(training, TrainResult):
            return training
        try:
            result = _execute(context, training)
        except BaseException as error:
            said = error.fact if isinstance(error, TrilhoError) else f"it was interrupted: {type(error).__name__}"
            _record_end(context, "failed", [], said, time.monotonic() - begun)
            raise
        return finish(context, training.dataset, result, time.monotonic() - begun)


def begin(context: TrainContext) -> Training | TrainResult:
    """Do what comes before a training that runs elsewhere: version the data, put its start on record.

    Where that fails the result says why, and the run has its end on record. The caller holds the run's lease.
    """
    contract, document = _plan(context)
    return _begin(context, contract, document)


def supply(context: TrainContext, document: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a training's pipeline is run with: its data, versioned now, and its champion. Nothing is put on record.

    For whoever runs the compiled pipeline by itself, as any other.
    """
    contract = load_contract(context.project / context.settings.data.contract)
    return dict(_prepare(context, document, _read_data(context, contract)).parameters)


def finish(context: TrainContext, dataset: Dataset, result: RunResult, seconds: float) -> TrainResult:
    """Put a run that has ended on record, and say what it left."""
    _record_checks(context, dataset, load_contract(context.project / context.settings.data.contract), result)
    problem = result.error.line if result.error is not None else None
    _record_end(context, result.state, _told(context, dataset, result.tasks), problem, seconds)
    return _result(context, dataset, result, seconds)


def _plan(context: TrainContext) -> tuple[Contract, dict[str, Any]]:
    check_steps(context.settings, context.project, context.source)
    if context.settings.gate.calibration is not None and context.settings.model.task != "classification":
        raise ConfigError(
            f"{context.project / FILE}: gate.calibration is set, and the task is {context.settings.model.task}; only "
            "the probabilities of a classification can be calibrated",
            hint="remove gate.calibration",
        )
    contract = load_contract(context.project / context.settings.data.contract)
    document = compile_training(context.settings, contract, context.source, context.python, context.home, context.image)
    settle_runs(context.home, context.settings.model.name, context.running, context.record)
    return contract, document


def _begin(context: TrainContext, contract: Contract, document: Mapping[str, Any]) -> Training | TrainResult:
    dataset = _version(context, contract, time.monotonic())
    if isinstance(dataset, TrainResult):
        return dataset
    _record_start(context, dataset)
    return _prepare(context, document, dataset)


def check_steps(settings: Settings, project: Path, source: Path) -> None:
    """Hold the functions that trilho.toml names against the project's files, without importing them."""
    for key, arguments in (("load", 1), ("features", 1), ("train", 2), ("decide", 1)):
        reference = getattr(settings.steps, key)
        if reference is None:
            continue
        found = look_for(source, reference, arguments)
        if not found.found and key == "decide":  # the score alone, or the score and the row
            found = with_row if (with_row := look_for(source, reference, 2)).found else found
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
    try:
        return _read_data(context, contract)
    except TrilhoError as error:
        _record_start(context, None)
        _record_end(context, "failed", [], error.fact, time.monotonic() - begun)
        if isinstance(error, ConfigError):
            raise
        return _failed(context, error, time.monotonic() - begun)


def _read_data(context: TrainContext, contract: Contract) -> Dataset:
    model = context.settings.model
    try:
        sources = context.sources() if callable(context.sources) else context.sources
        dataset = known_version(
            sources,
            context.store,
            context.home,
            time=model.time,
            key=model.key,
            target=model.target,
            served=context.served,
            contract=contract,
        )
        _check_columns(context, dataset)
        return dataset
    finally:
        if context.served is not None:
            context.served.unlink(missing_ok=True)


def _check_columns(context: TrainContext, dataset: Dataset) -> None:
    """Hold the settings that name columns against the data's."""
    settings = context.settings
    for key, named in (("watch.ignore", settings.watch.ignore), ("gate.slices", settings.gate.slices)):
        for column in named:
            if column not in dataset.columns:
                close = difflib.get_close_matches(column, dataset.columns, n=1)
                raise ConfigError(
                    f"{context.project / FILE}: {key} has {column!r}, and the data has no such column; it has: "
                    + ", ".join(dataset.columns),
                    hint=f"did you mean {close[0]!r}?" if close else f"correct {key}",
                )


def _failed(context: TrainContext, problem: TrilhoError, seconds: float) -> TrainResult:
    metric = resolve(context.settings.gate.metric, context.settings.model.task)
    return TrainResult(run=context.run_id, state="failed", tasks=[], seconds=seconds, metric=metric, problem=problem)


def _prepare(context: TrainContext, document: Mapping[str, Any], dataset: Dataset) -> Training:
    package, digest, trained_until = context.champion_package, None, ""
    if package is not None:
        manifest = json.loads((package / "manifest.json").read_text(encoding="utf-8"))
        digest, trained_until = context.store.put(package), manifest.get("lineage", {}).get("train_until") or ""
    parameters = {
        "dataset": dataset.digest,
        "store": str(context.store.path(dataset.digest).parents[1]),
        "since": _since(context, dataset),
        "champion_uri": str(context.store.path(digest)) if digest is not None else "",
        "champion_trained_until": trained_until,
        "run": context.run_id,
        "commit": context.commit or "",
        "data_until": dataset.last or "",
    }
    about = {"model": context.settings.model.name, "trigger": context.trigger, "commit": context.commit}
    return Training(
        run=context.run_id,
        document=document,
        parameters=_asked_for(document, parameters),
        dataset=dataset,
        champion=digest,
        about=about,
    )


def _asked_for(document: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Give the parameters that a pipeline takes: a project's own may take fewer."""
    taken = document["root"].get("inputDefinitions", {}).get("parameters", {})
    return {name: value for name, value in parameters.items() if name in taken}


def _execute(context: TrainContext, training: Training) -> RunResult:
    spec = read(training.document)
    names = [name for name, _ in spec.walk()]

    def on_task(task: TaskResult) -> None:
        for shown in _told(context, training.dataset, [task], names):
            context.on_task(shown)

    return execute(
        spec,
        training.parameters,
        run_id=context.run_id,
        home=context.home,
        store=context.store,
        places=Places(
            python=context.python, source=context.source, folder=context.project, platform=Path(sys.executable)
        ),
        timeout=context.settings.train.timeout,
        on_task=on_task,
        about=training.about,
        workers=context.workers,
        held=True,
        stop=context.stop,
    )


def _told(
    context: TrainContext, dataset: Dataset, tasks: Sequence[TaskResult], names: Iterable[str] = ()
) -> list[TaskResult]:
    compared, windowed = context.champion_package is not None, bool(_since(context, dataset))
    return told(tasks, names, compared=compared, windowed=windowed)


def _since(context: TrainContext, dataset: Dataset) -> str:
    train = context.settings.train
    return window_start(train.history, train.holdout, dataset, context.first_dataset)


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
        runner=context.runner,
        place=context.place,
    )
    context.record(*payloads, start)


def _record_checks(context: TrainContext, dataset: Dataset, contract: Contract, result: RunResult) -> None:
    state = next((task["state"] for task in result.tasks if own_name(task["name"]) == "check"), None)
    findings = _findings(context, dataset, contract) if state == "failed" else []
    if state in ("ran", "cached") or findings:
        verdict: Any = "fail" if findings else "pass"
        model = context.settings.model.name
        context.record(ContractChecked(model=model, dataset=dataset.digest, verdict=verdict, findings=findings))


def _findings(context: TrainContext, dataset: Dataset, contract: Contract) -> list[str]:
    """Check once more for all that is wrong: a failed step leaves no values."""
    with tempfile.TemporaryDirectory(prefix="trilho-") as folder:
        table = Path(folder) / "table.parquet"
        load_table(dataset.digest, context.store, table)
        return [str(finding) for finding in check(table, contract, time=context.settings.model.time)]


def _record_end(
    context: TrainContext, state: RunState, tasks: list[TaskResult], error: str | None, seconds: float
) -> None:
    model = context.settings.model.name
    end = RunEnded(model=model, run=context.run_id, state=state, tasks=tasks, error=error, seconds=round(seconds, 3))
    context.record(end)


def _result(context: TrainContext, dataset: Dataset, result: RunResult, seconds: float) -> TrainResult:
    def path(output: str) -> Path | None:
        digest = result.artifacts.get(output)
        return context.store.path(digest) if digest is not None else None

    compared = context.champion_package is not None
    succeeded = result.state == "succeeded"
    return TrainResult(
        run=context.run_id,
        state=result.state,
        tasks=_told(context, dataset, result.tasks),
        seconds=seconds,
        metric=resolve(context.settings.gate.metric, context.settings.model.task),
        dataset=dataset.digest,
        data_until=dataset.last,
        train_until=result.values.get("split.train_until") or None,
        history=result.values.get("evaluate.history"),
        candidates=len(result.values.get("evaluate.candidates", {})) or 1,
        package=result.artifacts.get("pack.package") if succeeded else None,
        metrics=result.values.get("evaluate.metrics", {}),
        predictions=path("pair.challenger" if compared else "evaluate.predictions"),
        champion_predictions=path("pair.champion") if compared else None,
        holdout=path("split.holdout") if succeeded and compared and context.settings.gate.slices else None,
        commit=context.commit,
        commit_time=context.commit_time,
        problem=result.error,
    )
