"""What a training leaves in the journal: the data, the run, the version and what the gate said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from typing_extensions import TypedDict

from trilho.core.records.payload import UPCASTS, Payload, kind

Verdict = Literal["pass", "fail", "not enough data"]
TaskState = Literal["ran", "cached", "skipped", "failed"]
RunState = Literal["running", "succeeded", "failed"]


class TaskResult(TypedDict):
    """One task of a run, as it ended."""

    name: str
    state: TaskState
    seconds: float
    needs: list[str]
    reason: str


@kind("dataset.versioned")
@dataclass(frozen=True, kw_only=True)
class DatasetVersioned(Payload):
    """A dataset became an immutable version, named by the digest of its manifest."""

    dataset: str
    rows: int
    columns: list[str]
    source: str
    first: str | None  # smallest and largest value of the time column, ISO 8601
    last: str | None
    served_rows: int  # how many of the rows came from labelled predictions


@kind("contract.checked")
@dataclass(frozen=True, kw_only=True)
class ContractChecked(Payload):
    """A dataset was held against its contract."""

    dataset: str
    verdict: Verdict
    findings: list[str]


@kind("run.started", version=2)
@dataclass(frozen=True, kw_only=True)
class RunStarted(Payload):
    """An execution of a pipeline began."""

    run: str
    pipeline: str
    trigger: str  # "a person", or the kind of alarm
    dataset: str | None
    commit: str | None
    commit_time: str | None
    runner: str = "local"  # "vertex", "kubeflow"
    place: str | None = None  # the job's full name there; None on this machine


@kind("run.ended")
@dataclass(frozen=True, kw_only=True)
class RunEnded(Payload):
    """An execution of a pipeline ended."""

    run: str
    state: RunState
    tasks: list[TaskResult]
    error: str | None
    seconds: float


@kind("version.packaged")
@dataclass(frozen=True, kw_only=True)
class VersionPackaged(Payload):
    """A run left a model version, packaged under its digest."""

    version: int
    run: str
    dataset: str
    package: str
    metric: str
    metrics: dict[str, float]
    commit: str | None
    commit_time: str | None
    data_until: str | None


@kind("gate.judged")
@dataclass(frozen=True, kw_only=True)
class GateJudged(Payload):
    """A challenger was compared with the champion on the same held-out rows."""

    version: int
    champion: int | None
    verdict: Verdict
    evidence: dict[str, Any]  # metric, rows, challenger, champion, difference, low, high, margin, confidence, checks


UPCASTS["run.started", 1] = lambda data: {**data, "runner": "local", "place": None}
