"""The standard pipeline's tasks, wired for one dataset version.

    extract -> check -> split -> fit -> predict -> evaluate -> pack
                             \\-> score (the champion, on the same held-out rows) -> pair

With `history = "auto"` there are two fits, on all of the history and on a window of it, side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trilho.config import Settings
from trilho.core.metrics import resolve
from trilho.core.records import DatasetVersioned
from trilho.data.contract import Contract, check
from trilho.data.version import Dataset, load_table, read_manifest
from trilho.errors import Refused
from trilho.pipeline.graph import Graph, Task, Value, Work, stored, versioned
from trilho.train.evaluate import evaluate, pair
from trilho.train.split import Candidate, candidates, split

PIPELINE = "train"


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The version to beat: its package's digest, and the newest row that it was trained on."""

    package: str
    trained_until: str | None


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a run comes from, for the lineage of what it leaves."""

    run: str
    commit: str | None
    source: Path


def training_graph(
    settings: Settings,
    dataset: Dataset,
    contract: Contract,
    origin: Origin,
    *,
    champion: Champion | None = None,
    first_dataset: DatasetVersioned | None = None,
) -> Graph:
    """Wire the standard pipeline."""
    chosen = candidates(settings.train.history, settings.train.holdout, dataset, first_dataset)
    tasks = [*_data_tasks(settings, dataset, contract, chosen)]
    for candidate in chosen:
        tasks += _fit_tasks(settings, candidate.name)
    tasks += [_evaluate_task(settings, chosen), _pack_task(settings, dataset, origin)]
    if champion is not None:
        tasks += _champion_tasks(settings, champion)
    return Graph(PIPELINE, tuple(tasks))


def _data_tasks(settings: Settings, dataset: Dataset, contract: Contract, chosen: list[Candidate]) -> list[Task]:
    model = settings.model
    return [
        Task("extract", "platform", extract, parameters={"dataset": dataset.digest}, outputs=("table",)),
        Task(
            "check",
            "platform",
            check_contract,
            inputs={"table": "extract.table"},
            parameters={"contract": contract.model_dump(mode="json"), "time": model.time},
            cacheable=contract.table.freshness is None,
        ),
        Task(
            "split",
            "platform",
            split,
            inputs={"table": "extract.table"},
            parameters={
                "time": model.time,
                "holdout_seconds": settings.train.holdout.total_seconds(),
                "candidates": {candidate.name: candidate.since for candidate in chosen},
            },
            outputs=("holdout", *(f"train-{candidate.name}" for candidate in chosen)),
            after=("check",),
        ),
    ]


def _fit_tasks(settings: Settings, candidate: str) -> list[Task]:
    steps, model = settings.steps, settings.model
    common = {"features": steps.features, "target": model.target, "task": model.task}
    return [
        Task(
            f"fit-{candidate}",
            "project",
            "trilho_runtime.fit:fit",
            inputs={"table": f"split.train-{candidate}"},
            parameters={**common, "train": steps.train},
            outputs=("model",),
            code=(steps.features, steps.train),
        ),
        Task(
            f"predict-{candidate}",
            "project",
            "trilho_runtime.fit:predict",
            inputs={"model": f"fit-{candidate}.model", "table": "split.holdout"},
            parameters={**common, "time": model.time or ""},
            outputs=("predictions",),
            code=(steps.features, steps.train),
        ),
    ]


def _evaluate_task(settings: Settings, chosen: list[Candidate]) -> Task:
    inputs = {}
    for candidate in chosen:
        inputs[f"model-{candidate.name}"] = f"fit-{candidate.name}.model"
        inputs[f"train-{candidate.name}"] = f"split.train-{candidate.name}"
        inputs[f"predictions-{candidate.name}"] = f"predict-{candidate.name}.predictions"
    task = settings.model.task
    return Task(
        "evaluate",
        "platform",
        evaluate,
        inputs=inputs,
        parameters={
            "candidates": [candidate.name for candidate in chosen],
            "task": task,
            "metric": resolve(settings.gate.metric, task),
        },
        outputs=("model", "train", "predictions"),
    )


def _pack_task(settings: Settings, dataset: Dataset, origin: Origin) -> Task:
    model = settings.model
    return Task(
        "pack",
        "project",
        "trilho_runtime.pack:pack",
        inputs={
            "model": "evaluate.model",
            "train": "evaluate.train",
            "holdout": "split.holdout",
            "predictions": "evaluate.predictions",
        },
        parameters={
            "name": model.name,
            "task": model.task,
            "target": model.target,
            "time": model.time or "",
            "key": model.key or "",
            "features": settings.steps.features,
            "source": str(origin.source),
            "window_seconds": settings.watch.window.total_seconds(),
            "ignore": settings.watch.ignore,
            "metrics": Value("evaluate.metrics"),
            "lineage": {
                "dataset": dataset.digest,
                "run": origin.run,
                "commit": origin.commit,
                "data_until": dataset.last,
                "train_until": Value("split.train_until"),
                "history": Value("evaluate.history"),
            },
        },
        outputs=("package",),
        code=("*",),
        uncounted=frozenset({"source", "lineage"}),
    )


def _champion_tasks(settings: Settings, champion: Champion) -> list[Task]:
    model = settings.model
    return [
        Task(
            "score",
            "project",
            "trilho_runtime.fit:score",
            inputs={"package": stored(champion.package), "table": "split.holdout"},
            parameters={"target": model.target, "time": model.time or ""},
            outputs=("predictions",),
        ),
        Task(
            "pair",
            "platform",
            pair,
            inputs={"challenger": "evaluate.predictions", "champion": "score.predictions"},
            parameters={"trained_until": [Value("split.train_until"), champion.trained_until]},
            outputs=("challenger", "champion"),
        ),
    ]


@versioned(2)
def extract(work: Work) -> None:
    """Write a dataset version as one table."""
    assert work.store is not None
    rows = load_table(work.parameters["dataset"], work.store, work.outputs["table"])
    work.say(f"{rows} rows of dataset {work.parameters['dataset'][:12]}")
    left_out = read_manifest(work.parameters["dataset"], work.store).get("served_left_out", 0)
    if left_out:
        work.say(f"{left_out} served rows left out: they break the contract")


@versioned(1)
def check_contract(work: Work) -> None:
    """Hold the table against its contract. Raises Refused with all that is wrong."""
    contract = Contract.model_validate(work.parameters["contract"])
    findings = [str(finding) for finding in check(work.inputs["table"], contract, time=work.parameters["time"])]
    work.values["findings"] = findings
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        for finding in findings:
            work.say(finding)
        raise Refused(
            f"the data breaks its contract: {findings[0]}{more}",
            hint="correct the data, or the contract where the world has changed",
        )
