"""What a training puts on record: its data, its start, how the data stood against the contract, its end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from trilho.core.records import ContractChecked, DatasetVersioned, Payload, RunEnded, RunStarted, RunState, TaskResult
from trilho.data.contract import Contract, check
from trilho.data.version import Dataset, load_table
from trilho.pipeline.execution.execute import RunResult
from trilho.pipeline.keeping.runs import RunFolder
from trilho.train.account import own_name
from trilho.train.plan import PIPELINE
from trilho.train.training import TrainContext

STOPPED = "its runner was stopped before it ended"


def record_start(context: TrainContext, dataset: Dataset | None) -> None:
    """Put the start on record, and before it the dataset version where it is new; None where there is none."""
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


def record_checks(context: TrainContext, dataset: Dataset, contract: Contract, result: RunResult) -> None:
    """Put on record how the data stood against its contract, where the run came to look."""
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


def record_end(
    context: TrainContext, state: RunState, tasks: list[TaskResult], error: str | None, seconds: float
) -> None:
    """Put the end on record."""
    model = context.settings.model.name
    end = RunEnded(model=model, run=context.run_id, state=state, tasks=tasks, error=error, seconds=round(seconds, 3))
    context.record(end)


def settle_runs(home: Path, model: str, running: Iterable[str], record: Callable[..., None]) -> None:
    """Put an end on record for the runs that have none though the process that ran them is gone."""
    for run in running:
        folder = RunFolder.of(home, run)
        if not folder.is_held():
            found = folder.settle(STOPPED)
            tasks: list[TaskResult] = list(found["tasks"])
            record(RunEnded(model=model, run=run, state="failed", tasks=tasks, error=STOPPED, seconds=found["seconds"]))
