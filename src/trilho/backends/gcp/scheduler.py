"""Vertex AI's schedules as a Scheduler: the job is kept whole in the schedule, and each run gets an id of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from trilho.backends.gcp.cloud import CALL_SECONDS, Cloud
from trilho.backends.gcp.jobs import job_of
from trilho.core.ports import NotFound, RemoteJob, ScheduleInfo

T = TypeVar("T")
ZONE = "TZ="


class VertexScheduler:
    """The Scheduler port on a project's Vertex AI; it lists the schedules that trilho made, of every model."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def create(self, job: RemoteJob, cron: str, timezone: str) -> str:
        """Keep a schedule and give its id. At most one of its runs starts at a time; missed ones are not made up."""
        from google.cloud.aiplatform_v1.types import CreatePipelineJobRequest, Schedule

        message = Schedule(
            display_name=job.run,
            cron=f"{ZONE}{timezone} {cron}",
            max_concurrent_run_count=1,
            create_pipeline_job_request=CreatePipelineJobRequest(parent=self.cloud.parent, pipeline_job=job_of(job)),
        )
        tries = 0

        def create() -> str:
            nonlocal tries
            tries += 1
            if tries > 1:  # the answer to the try before may be what was lost
                made = next((one for one in self._all() if one.display_name == job.run), None)
                if made is not None:
                    return _id(made.name)
            return _id(
                self.cloud.schedules.create_schedule(
                    parent=self.cloud.parent, schedule=message, retry=None, timeout=CALL_SECONDS
                ).name
            )

        return self.cloud.call(f"making the schedule {job.run}", create)

    def list(self) -> Sequence[ScheduleInfo]:
        """Give the schedules of pipelines, oldest first."""
        found = self.cloud.call("listing schedules", self._all)
        return [info_of(one) for one in sorted(found, key=lambda one: one.create_time)]

    def pause(self, id_: str) -> None:
        """Submit nothing until it is resumed."""
        self._act("pausing", id_, lambda name: self.cloud.schedules.pause_schedule(name=name, **ONCE))

    def resume(self, id_: str) -> None:
        """Go on from now; what was missed is not made up for."""
        self._act("resuming", id_, lambda name: self.cloud.schedules.resume_schedule(name=name, **ONCE))

    def delete(self, id_: str) -> None:
        """End a schedule; runs that it has submitted go on."""
        self._act("deleting", id_, lambda name: self.cloud.schedules.delete_schedule(name=name, **ONCE).result())

    def _act(self, doing: str, id_: str, make: Callable[[str], object]) -> None:
        from google.api_core.exceptions import NotFound as Absent

        def act() -> None:
            try:
                make(f"{self.cloud.parent}/schedules/{id_}")
            except Absent:
                raise NotFound(
                    f"Vertex AI has no schedule {id_} in {self.cloud.project}, {self.cloud.region}",
                    hint="trilho pipeline schedule --list",
                ) from None

        self.cloud.call(f"{doing} schedule {id_}", act)

    def _all(self) -> Sequence[Any]:
        pages = self.cloud.schedules.list_schedules(parent=self.cloud.parent, **ONCE)
        return [one for one in pages if one.create_pipeline_job_request.pipeline_job.pipeline_spec]


ONCE = {"retry": None, "timeout": CALL_SECONDS}


def info_of(schedule: Any) -> ScheduleInfo:
    """Read a schedule."""
    zone, _, cron = schedule.cron.removeprefix("CRON_").removeprefix(ZONE).partition(" ")
    if not schedule.cron.startswith((ZONE, f"CRON_{ZONE}")):
        zone, cron = "UTC", schedule.cron
    paused = schedule.state.name == "PAUSED"
    next_run = schedule.next_run_time
    return ScheduleInfo(
        id=_id(schedule.name),
        name=schedule.display_name,
        cron=cron,
        timezone=zone,
        paused=paused,
        next=next_run.isoformat() if next_run and schedule.state.name == "ACTIVE" else None,
    )


def _id(name: str) -> str:
    return name.rpartition("/")[2]
