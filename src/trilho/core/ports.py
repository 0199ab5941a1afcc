"""What a backend provides. A port is added together with its second real implementation, not before, but for those
that keep a stage from knowing a backend."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from trilho.core.capabilities import Capabilities
from trilho.core.journal import Head, Record
from trilho.core.readings import LabelStatus, Reading
from trilho.core.records import Payload
from trilho.errors import Unreachable, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Columns = Mapping[str, NDArray[Any]]
else:
    Columns = Mapping  # numpy is for those who read tables


class Journal(Protocol):
    """An append-only, hash-chained list of records; one appender at a time, any number of readers."""

    def append(self, *payloads: Payload, actor: str | None = None, expect: int | None = None) -> Sequence[Record]:
        """Add the payloads in one transaction, all or none, and give them back as records.

        With `expect` the append happens only if the head is still at that position; otherwise `Conflict` is raised
        and nothing is written: the way for two deciders to agree without a lock of their own.
        """

    def read_from(self, seq: int = 1) -> Iterator[Record]:
        """Give the records from a position on, in order."""

    def head(self) -> Head:
        """Give the newest record's position and hash."""


class Conflict(Exception):
    """Somebody appended between the reading and the deciding; read again and decide again."""


class ArtifactStore(Protocol):
    """Files and folders named by the digest of their content; immutable once put."""

    def put(self, source: Path) -> str:
        """Keep a copy of a file or folder and give its digest; atomic, and free when it is already there."""

    def path(self, digest: str) -> Path:
        """Give where an artifact lies. Raises DataError when it is not there."""

    def has(self, digest: str) -> bool:
        """Say whether an artifact is there."""

    def use(self, digest: str) -> bool:
        """Say whether an artifact is there, and keep what frees old artifacts away from it as if it were new."""

    def discard(self, digest: str) -> None:
        """Forget the copy on this machine of an artifact: its content is no longer what the digest names."""


@dataclass(frozen=True)
class Labelled:
    """Predictions whose labels arrived after a cursor, in order of arrival."""

    cursor: int
    time: NDArray[np.float64]  # event time, seconds since 1970 UTC
    version: NDArray[np.int64]
    prediction: NDArray[np.float64]
    value: NDArray[Any]
    """What came true: numbers; objects where some are texts or booleans."""
    row: NDArray[np.int64] | None = None
    """The rows' numbers, as they arrived; None where the log does not say."""
    told: NDArray[Any] | None = None
    """The classes that were predicted, as `value` has them; NaN or None for a model that names none."""


class Gathering(Protocol):
    """What adds rows up that it is shown some at a time."""

    def add(self, rows: Columns) -> None:
        """Take in some rows."""


Gathered = TypeVar("Gathered", bound=Gathering)


class PredictionLog(Protocol):
    """One model's served rows and their labels."""

    def seal(self) -> int:
        """Move complete new lines of predictions and labels into the log; give how many were moved."""

    def extent(self) -> tuple[datetime, datetime] | None:
        """Give the event times of the oldest and the newest served row."""

    def rows(self, start: datetime, end: datetime) -> Columns:
        """Give the rows with start <= event time < end: raw fields, and `_id`, `_time`, `_version`, `_prediction`,
        `_value` (NaN where no label has come), `_row` (numbered as they arrived)."""

    def gather(
        self,
        start: datetime,
        end: datetime,
        begin: Callable[[], Gathered],
        *,
        after: int = 0,
        fields: Collection[str] | None = None,
    ) -> Gathered:
        """Show the rows with start <= event time < end that arrived after a row to what adds them up, and give it.

        They come some at a time, in no order, with the columns of `rows`; of the raw fields only those in `fields`.
        `begin` may be called again, where what was being read was replaced.
        """

    def newest(self) -> int:
        """Give the number of the row that arrived last; 0 without any."""

    def late(self, after: int, before: datetime) -> Columns:
        """Give the rows that arrived after a row, of an event time before a moment: as `rows`, without `_value`."""

    def labelled(self, after: int, most: int | None = None) -> Labelled:
        """Give the predictions that were labelled after a cursor (0 at first), the first of them with `most`."""

    def corrected(self, after: int) -> Labelled:
        """Give the predictions that got another label than they had, after a cursor of its own (0 at first)."""

    def labels(self) -> LabelStatus:
        """Say how far labels have arrived."""


class WatchStore(Protocol):
    """Readings and the detectors' memory; what a restarted watcher goes on from."""

    def save(self, model: str, readings: Sequence[Reading], memory: bytes) -> None:
        """Keep readings (replacing those of the same window) and the detectors' memory in one transaction."""

    def memory(self, model: str) -> bytes | None:
        """Give the memory that was last saved."""

    def readings(self, model: str, since: str | None = None, until: str | None = None) -> list[Reading]:
        """Give a model's readings, oldest first; of windows that start at `since` or later, and before `until`."""


class NotFound(UsageError):
    """There is no run, schedule or file of that name there."""


class NoAccess(Unreachable):
    """Nobody answers us until our credentials are renewed: waiting does not help."""


RemoteState = Literal["pending", "running", "succeeded", "failed", "cancelled"]
RemoteTaskState = Literal["pending", "running", "succeeded", "cached", "skipped", "failed", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class RemoteJob:
    """A pipeline to be run elsewhere: its IR, the values of its parameters, and where its artifacts go."""

    run: str
    """The run's id, which is the job's id there too: to submit it twice is to submit it once."""
    model: str
    document: Mapping[str, Any]
    parameters: Mapping[str, Any]
    root: str
    """The folder, as a URI, that steps write their outputs, records and manifests under."""
    labels: Mapping[str, str]
    service_account: str | None = None


@dataclass(frozen=True, kw_only=True)
class RemoteTask:
    """One task of a run elsewhere; the tasks of a group are named by their path, as in "condition-1/deploy"."""

    name: str
    state: RemoteTaskState
    seconds: float = 0.0
    error: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Its output values, by name, where the service tells them."""
    artifacts: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The URIs of its output artifacts, by name, where the service tells them."""


@dataclass(frozen=True, kw_only=True)
class RemoteStatus:
    """How far a run elsewhere is."""

    state: RemoteState
    tasks: tuple[RemoteTask, ...] = ()
    error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will change."""
        return self.state in ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class ScheduleInfo:
    """A pipeline that is submitted again and again."""

    id: str
    name: str
    cron: str
    timezone: str
    paused: bool
    next: str | None
    """When it will be submitted next, ISO 8601; None where it won't."""


class Runner(Protocol):
    """Runs pipelines elsewhere, by run id. Every method raises Unreachable when nobody answers."""

    def submit(self, job: RemoteJob) -> str:
        """Hand a pipeline over, or find that it was; give the job's full name there."""

    def status(self, run: str) -> RemoteStatus:
        """Say how far a run is. Raises NotFound where it was never submitted."""

    def cancel(self, run: str) -> None:
        """Ask for a run to be stopped; one that has ended stays as it is. Raises NotFound as `status` does."""

    def log(self, run: str, task: str) -> str:
        """Give what a task printed, as far as it is kept; empty where nothing is."""


class Scheduler(Protocol):
    """Submits pipelines at set times. Every method that is given an unknown id raises NotFound."""

    def create(self, job: RemoteJob, cron: str, timezone: str) -> str:
        """Keep a schedule and give its id; `job.run` names it, and each run gets an id of its own."""

    def list(self) -> Sequence[ScheduleInfo]:
        """Give the schedules, oldest first."""

    def pause(self, id_: str) -> None:
        """Submit nothing until it is resumed."""

    def resume(self, id_: str) -> None:
        """Go on from now; what was missed is not made up for."""

    def delete(self, id_: str) -> None:
        """End a schedule; runs that it has submitted go on."""


class RemoteFiles(Protocol):
    """The files that steps left elsewhere, by URI."""

    def read(self, uri: str) -> bytes | None:
        """Give a small file's content, or None where there is no such file."""

    def list(self, uri: str) -> Sequence[str]:
        """Give the URIs of the files directly in a folder, sorted."""

    def fetch(self, uri: str, to: Path) -> None:
        """Copy a file or folder to a path of this machine. Raises DataError where there is none."""


@dataclass(frozen=True, kw_only=True)
class ServedPackage:
    """A version that is to answer: its number, and the folder of this machine that holds its package."""

    version: int
    package: Path


@dataclass(frozen=True, kw_only=True)
class Split:
    """Who answers: the shares of the traffic in percent, 100 together, and who is asked unseen besides."""

    shares: Mapping[int, int]
    shadow: int | None = None
    """A version that is asked unseen."""
    shadow_share: int = 100
    """About what share of the requests it is asked, in percent."""
    sticky: str | None = None
    """The field whose value decides which version answers."""
    position: int | None = None
    """Where in the journal it was decided: what was decided earlier never replaces what was decided later."""

    def __post_init__(self) -> None:
        """Refuse shares that are none. Raises UsageError.

        >>> Split(shares={1: 90, 2: 20})
        Traceback (most recent call last):
            ...
        trilho.errors.UsageError: the shares are 1: 90%, 2: 20%; allowed: 1 to 100 each, 100 together
        """
        if sum(self.shares.values()) != 100 or not all(0 < share <= 100 for share in self.shares.values()):
            told = ", ".join(f"{version}: {share}%" for version, share in self.shares.items()) or "none"
            raise UsageError(f"the shares are {told}; allowed: 1 to 100 each, 100 together")

    @property
    def versions(self) -> list[int]:
        """The versions that are asked, unseen or not."""
        return sorted({*self.shares, *([self.shadow] if self.shadow is not None else [])})


ServedState = Literal["starting", "ready", "failed"]


@dataclass(frozen=True, kw_only=True)
class Served:
    """What is at an endpoint."""

    versions: Mapping[int, ServedState]
    """The versions that are deployed, with traffic or without."""
    split: Split | None = None
    """Who answers; None while nothing gets traffic."""
    address: str | None = None
    """Where it is asked; None where nothing is deployed."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an endpoint predicted, and the version that did."""

    predictions: Sequence[Any]
    version: int


class Endpoint(Protocol):
    """One model's endpoint: versions are deployed without traffic, then given shares of it.

    Every method may be called again after it was cut off, by anybody: it goes on from what is there.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What its traffic can be asked to do."""

    def deploy(self, served: ServedPackage) -> None:
        """Make a version ready to answer; nothing where it is. Gives back once it is ready, raises once it never will
        be, with its server's last words."""

    def route(self, split: Split) -> None:
        """Let the versions of a split answer, all at once or not at all.

        Raises NotFound for a version that is not deployed, UsageError for what the traffic cannot be asked to do, and
        Refused for a split that was decided before the one that is there.
        """

    def status(self) -> Served:
        """Say what is there."""

    def predict(self, rows: Sequence[Any]) -> Answer:
        """Ask it as a caller would. Raises NotYet where nothing gets traffic, UsageError for rows that it refuses."""

    def undeploy(self, version: int) -> None:
        """Take a version away; nothing where it is not. Raises Refused while it gets traffic."""
