"""A training from beginning to end: what is put on record, what is run, what is left.

What is done before the pipeline runs (`begin`) and after (`finish`) is the same wherever that is: on this machine in
one go (`train`), elsewhere with days or another process in between.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trilho.config import FILE
from trilho.core.metrics import resolve
from trilho.core.records import TaskResult
from trilho.data.contract import Contract, load_contract
from trilho.data.version import Dataset
from trilho.errors import ConfigError, TrilhoError
from trilho.pipeline.execution.execute import RunResult, execute
from trilho.pipeline.ir.reader import read
from trilho.pipeline.keeping.runs import RunFolder
from trilho.pipeline.places import Places
from trilho.train.account import told
from trilho.train.inputs import check_steps, read_data
from trilho.train.plan import compile_training
from trilho.train.records import record_checks, record_end, record_start, settle_runs
from trilho.train.split import window_start
from trilho.train.training import TrainContext, Training, TrainResult


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
            record_end(context, "failed", [], said, time.monotonic() - begun)
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
    return dict(_prepare(context, document, read_data(context, contract)).parameters)


def finish(context: TrainContext, dataset: Dataset, result: RunResult, seconds: float) -> TrainResult:
    """Put a run that has ended on record, and say what it left."""
    record_checks(context, dataset, load_contract(context.project / context.settings.data.contract), result)
    problem = result.error.line if result.error is not None else None
    record_end(context, result.state, _told(context, dataset, result.tasks), problem, seconds)
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
    record_start(context, dataset)
    return _prepare(context, document, dataset)


def _version(context: TrainContext, contract: Contract, begun: float) -> Dataset | TrainResult:
    """Make the dataset version; where that fails the journal gets a run that failed before it trained."""
    try:
        return read_data(context, contract)
    except TrilhoError as error:
        record_start(context, None)
        record_end(context, "failed", [], error.fact, time.monotonic() - begun)
        if isinstance(error, ConfigError):
            raise
        return _failed(context, error, time.monotonic() - begun)


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
