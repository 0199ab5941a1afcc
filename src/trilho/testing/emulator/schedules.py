"""Schedules: pipeline jobs that begin when a cron schedule is due, by the emulator's clock, which tests can move.

Without a time zone before it a cron schedule is in UTC. `max_concurrent_run_count` must be given and limits the
requests that start runs, which here never overlap; what limits the runs themselves is
`max_concurrent_active_run_count`: over it a run is queued where `allow_queueing` says so, else left out. After the
clock was moved over several due times each of them is run, as it was due. Refused: schedules of notebooks.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import empty_pb2

from trilho.core.cron import Cron
from trilho.testing.emulator.checks import Findings, masked
from trilho.testing.emulator.crud import Crud
from trilho.testing.emulator.pipelines import ENDED, PipelineJobs
from trilho.testing.emulator.resources import Resources, copied, new_id
from trilho.testing.emulator.rules import Refusal

State: Any = v1.Schedule.State
CHANGEABLE = {
    "display_name", "cron", "start_time", "end_time", "max_run_count", "max_concurrent_run_count", "allow_queueing",
    "max_concurrent_active_run_count", "create_pipeline_job_request",
}  # fmt: skip
LONGEST_SLEEP_SECONDS = 30.0


class Schedules:
    """The handlers of the schedule service, and the thread that begins what is due."""

    def __init__(self, resources: Resources, jobs: PipelineJobs) -> None:
        self.resources, self.jobs = resources, jobs
        self._crud = Crud(resources)
        self._queued: defaultdict[str, deque[datetime]] = defaultdict(deque)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="schedules")

    def handlers(self) -> Mapping[str, Callable[[Any, Any], Any]]:
        """Give the handlers by method; what is not here is CRUD."""
        return {
            "CreateSchedule": self.create,
            "UpdateSchedule": self.update,
            "DeleteSchedule": self.delete,
            "PauseSchedule": self.pause,
            "ResumeSchedule": self.resume,
        }

    def start(self) -> None:
        """Begin what is due from now on."""
        self._thread.start()

    def close(self) -> None:
        """Begin nothing any more."""
        self._closed.set()
        self.resources.clock.wake()
        if self._thread.is_alive():
            self._thread.join()

    def create(self, _: Any, request: v1.CreateScheduleRequest) -> v1.Schedule:
        """Answer CreateSchedule."""
        findings = Findings()
        findings.location(request.parent)
        self._check(request.schedule, findings)
        new = copied(request.schedule)
        new.state, new.catch_up, new.started_run_count = State.ACTIVE, False, 0
        if "start_time" not in new:
            _set(new, "start_time", self.resources.now())
        self._plan(new)
        created = self.resources.create(f"{request.parent}/schedules/{new_id()}", new)
        self.resources.clock.wake()
        return created

    def update(self, _: Any, request: v1.UpdateScheduleRequest) -> v1.Schedule:
        """Answer UpdateSchedule: the next run is planned anew."""
        paths = masked(request.update_mask, CHANGEABLE)
        with self.resources.lock:
            held = self.resources.get(request.schedule.name, v1.Schedule)
            if held.state == State.COMPLETED:
                raise _completed(held)
            self._crud.update(request.schedule, paths)
            try:
                with self.resources.editing(held.name, v1.Schedule) as new:
                    self._check(new, Findings())
                    self._plan(new)
            except Refusal:
                with self.resources.editing(held.name, v1.Schedule, touch=False) as new:
                    type(new).copy_from(new, held)
                raise
        self.resources.clock.wake()
        return self.resources.get(request.schedule.name, v1.Schedule)

    def delete(self, call: Any, request: v1.DeleteScheduleRequest) -> Any:
        """Answer DeleteSchedule: the jobs that it began stay."""
        self.resources.get(request.name, v1.Schedule)
        return call.later(request.name, lambda: self.resources.remove(request.name, v1.Schedule) and None)

    def pause(self, _: Any, request: v1.PauseScheduleRequest) -> Any:
        """Answer PauseSchedule: what was queued is no longer."""
        with self.resources.editing(request.name, v1.Schedule) as schedule:
            if schedule.state == State.COMPLETED:
                raise _completed(schedule)
            schedule.state = State.PAUSED
            self.resources.stamp(schedule, "last_pause_time")
            _set(schedule, "next_run_time", None)
            self._queued.pop(request.name, None)
        return empty_pb2.Empty()

    def resume(self, _: Any, request: v1.ResumeScheduleRequest) -> Any:
        """Answer ResumeSchedule: with `catch_up` every run that was missed is begun, else the next one that is due."""
        with self.resources.editing(request.name, v1.Schedule) as schedule:
            if schedule.state != State.PAUSED:
                fact = f"Schedule `{request.name}` is {State(schedule.state).name}"
                raise Refusal("FAILED_PRECONDITION", f"{fact}; only a paused schedule can be resumed.")
            paused: Any = schedule.last_pause_time
            schedule.state, schedule.catch_up = State.ACTIVE, request.catch_up
            self.resources.stamp(schedule, "last_resume_time")
            self._plan(schedule, paused if request.catch_up else None)
        self.resources.clock.wake()
        return empty_pb2.Empty()

    def _check(self, schedule: v1.Schedule, findings: Findings) -> None:
        findings.display_name("schedule.display_name", schedule.display_name)
        if findings.need("schedule.cron", schedule.cron):
            try:
                Cron.read(schedule.cron)
            except ValueError as error:
                findings.add("schedule.cron", f"{schedule.cron!r} is no cron schedule: {error}.")
        if schedule.max_concurrent_run_count < 1:
            findings.need("schedule.max_concurrent_run_count", None)
        for name in ("max_run_count", "max_concurrent_active_run_count"):
            if getattr(schedule, name) < 0:
                findings.add(f"schedule.{name}", "It must not be negative.")
        start, end = _time(schedule, "start_time"), _time(schedule, "end_time")
        if end is not None and end <= (start or self.resources.now()):
            findings.add("schedule.end_time", "It must be after the start.")
        if "create_notebook_execution_job_request" in schedule:
            raise Refusal("UNIMPLEMENTED", "trilho emulate does not have schedules of notebooks.")
        asked = schedule.create_pipeline_job_request
        findings.need("schedule.create_pipeline_job_request", "create_pipeline_job_request" in schedule)
        if asked.pipeline_job_id:
            findings.add(
                "schedule.create_pipeline_job_request.pipeline_job_id", "It must not be set: each run has one."
            )
        findings.done()
        self.jobs.accept(asked, "schedule.create_pipeline_job_request.")

    def _plan(self, schedule: v1.Schedule, since: datetime | None = None) -> None:
        """Set when the next run is due after now or a moment, or that there will be none."""
        start = _time(schedule, "start_time")
        moment = since or self.resources.now()
        moment = start if start is not None and start > moment else moment
        due, end = Cron.read(schedule.cron).after(moment), _time(schedule, "end_time")
        over = end is not None and due > end
        over = over or 0 < schedule.max_run_count <= schedule.started_run_count
        if over and schedule.state == State.ACTIVE:
            schedule.state = State.COMPLETED
        _set(schedule, "next_run_time", due if schedule.state == State.ACTIVE else None)

    def _watch(self) -> None:
        while not self._closed.is_set():
            ticket = self.resources.clock.ticket()
            moment = self._begin_due()
            if not self._closed.is_set():
                self.resources.clock.wait_until(moment, ticket, LONGEST_SLEEP_SECONDS)

    def _begin_due(self) -> float:
        """Begin every run that is due; give when the next one will be."""
        moment = self.resources.clock.now() + LONGEST_SLEEP_SECONDS
        for schedule in self.resources.every(v1.Schedule):
            with contextlib.suppress(Refusal):  # it was deleted at this moment
                moment = min(moment, self._begin_due_of(schedule.name))
        return moment

    def _begin_due_of(self, name: str) -> float:
        while (due := self._due(name)) is not None and not self._closed.is_set():
            if due > self.resources.now():
                break
            self._take(name, due)
        self._unqueue(name)
        return due.timestamp() if due is not None else float("inf")

    def _due(self, name: str) -> datetime | None:
        schedule = self.resources.find(name, v1.Schedule)
        return _time(schedule, "next_run_time") if schedule is not None and schedule.state == State.ACTIVE else None

    def _take(self, name: str, due: datetime) -> None:
        """Let a run that is due begin, or wait, or fall out; and plan the next one."""
        schedule = self.resources.get(name, v1.Schedule)
        if not self._full(schedule) and not self._queued[name]:
            self._begin(name, due)
        elif schedule.allow_queueing:
            self._queued[name].append(due)
        with self.resources.editing(name, v1.Schedule, touch=False) as schedule:
            if schedule.state == State.ACTIVE:
                self._plan(schedule, due)

    def _unqueue(self, name: str) -> None:
        while self._queued[name]:
            schedule = self.resources.find(name, v1.Schedule)
            if schedule is None or self._full(schedule):
                break
            self._begin(name, self._queued[name].popleft())

    def _full(self, schedule: v1.Schedule) -> bool:
        most = schedule.max_concurrent_active_run_count
        jobs = self.resources.every(v1.PipelineJob) if most else []
        return bool(most) and sum(job.schedule_name == schedule.name and job.state not in ENDED for job in jobs) >= most

    def _begin(self, name: str, due: datetime) -> None:
        schedule = self.resources.get(name, v1.Schedule)
        asked = schedule.create_pipeline_job_request
        try:
            job = self.jobs.start(asked.parent, "", asked.pipeline_job, self.jobs.accept(asked), name)
            said = job.name
        except Refusal as refusal:
            said = refusal.message
        with self.resources.editing(name, v1.Schedule, touch=False) as schedule:
            schedule.started_run_count += 1
            response: Any = {"scheduled_run_time": due, "run_response": said}
            schedule.last_scheduled_run_response = v1.Schedule.RunResponse(response)


def _completed(schedule: v1.Schedule) -> Refusal:
    return Refusal("FAILED_PRECONDITION", f"Schedule `{schedule.name}` is COMPLETED and stays so.")


def _time(schedule: Any, name: str) -> datetime | None:
    return datetime.fromtimestamp(getattr(schedule, name).timestamp(), UTC) if name in schedule else None


def _set(schedule: Any, name: str, value: Any) -> None:
    setattr(schedule, name, value)
