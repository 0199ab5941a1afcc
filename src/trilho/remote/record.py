"""What this machine keeps of a run elsewhere: enough for any later process to follow it and to finish its records.

HOME/runs/RUN/remote.json     where the run is and what it was given, written before it is submitted
HOME/runs/RUN/pipeline.json   the IR that was submitted
HOME/runs/RUN/run.json        how far it is, for those who look on
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trilho.core.files import write_whole
from trilho.core.ports import RemoteJob, RemoteStatus
from trilho.core.records import TaskResult
from trilho.errors import DataError, UsageError
from trilho.pipeline.keeping.runs import RunFolder

SCHEMA = 1
SHOWN = {"succeeded": "ran", "cancelled": "failed"}
RUN_STATES = {"succeeded": "succeeded", "failed": "failed", "cancelled": "failed"}


@dataclass(frozen=True, kw_only=True)
class RemoteRun:
    """A run elsewhere, as it was submitted."""

    run: str
    on: str
    environment: str
    settings: Mapping[str, Any]
    """The environment as it was then: a later change of trilho.toml does not lose the run."""
    place: str
    root: str
    pipeline: str
    model: str
    trigger: str
    actor: str
    begun: str  # ISO 8601
    parameters: Mapping[str, Any]
    dataset: Mapping[str, Any] | None = None
    """The dataset version that it trains on; None for a pipeline that is no training."""
    champion: int | None = None
    commit: str | None = None
    commit_time: str | None = None
    cancelled_by: str | None = None
    submitted: bool = False
    package: str | None = None
    """What a training left, known before it is on record: the same package may be an older run's version."""
    exit_code: int = 0
    """Of how it ended: whoever asks later is told with the same one."""

    @property
    def labels(self) -> dict[str, str]:
        """What the job is labelled with there."""
        return {"trilho-model": self.model, "trilho-run": self.run}

    def job(self, document: Mapping[str, Any]) -> RemoteJob:
        """Give what is submitted."""
        return RemoteJob(
            run=self.run,
            model=self.model,
            document=document,
            parameters=self.parameters,
            root=self.root,
            labels=self.labels,
            service_account=self.settings.get("service_account"),
        )

    def seconds(self) -> float:
        """Give how long it has been under way."""
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(self.begun)).total_seconds())


def is_remote(home: Path, run: str) -> bool:
    """Say whether a run of this machine's records runs elsewhere."""
    return (RunFolder.of(home, run).path / "remote.json").exists()


def write(home: Path, run: RemoteRun, document: Mapping[str, Any] | None = None) -> None:
    """Keep a run, whole or not at all; with `document` its IR too."""
    folder = RunFolder.of(home, run.run).path
    try:
        if document is not None:
            write_whole(folder / "pipeline.json", json.dumps(document))  # tasks are listed in its order
        write_whole(folder / "remote.json", json.dumps({"schema": SCHEMA, **asdict(run)}, indent=1))
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror}", hint="free some space") from None


def read(home: Path, run: str) -> RemoteRun:
    """Read what is kept of a run. Raises UsageError for one that ran here, DataError for one that cannot be read."""
    path = RunFolder.of(home, run).path / "remote.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = {one.name for one in fields(RemoteRun)}
        return RemoteRun(**{name: value for name, value in found.items() if name in known})
    except FileNotFoundError:
        raise UsageError(
            f"run {run} was not submitted from this machine's home, {home}", hint=f"trilho runs show {run}"
        ) from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="the run goes on; its job has the run's id") from None


def read_document(home: Path, run: str) -> dict[str, Any]:
    """Read the IR that was submitted."""
    path = RunFolder.of(home, run).path / "pipeline.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="the run goes on; its job has the run's id") from None
    return dict(found)


def show(home: Path, run: RemoteRun, status: RemoteStatus, planned: list[dict[str, Any]]) -> None:
    """Write run.json, as a run on this machine does, for the console and whoever else looks on."""
    tasks = [
        TaskResult(
            name=task.name,
            state=SHOWN.get(task.state, task.state),  # type: ignore[typeddict-item]
            seconds=round(task.seconds, 4),
            needs=next((entry["needs"] for entry in planned if entry["name"] == task.name), []),
            reason=task.error or "",
        )
        for task in status.tasks
        if task.state != "pending"
    ]
    ended = datetime.now(UTC).isoformat(timespec="microseconds") if status.ended else None
    RunFolder.of(home, run.run).write(
        {
            "run": run.run,
            "pipeline": run.pipeline,
            "about": {"model": run.model, "trigger": run.trigger, "commit": run.commit, "runner": run.on},
            "state": status.state
            if status.state in ("succeeded", "failed")
            else "failed"
            if status.ended
            else "running",
            "started": run.begun,
            "ended": ended,
            "error": status.error,
            "tasks": tasks,
            "planned": planned,
        }
    )
