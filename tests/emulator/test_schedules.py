"""Schedules, driven by the SDK and the emulator's clock; the jobs that they begin are not run here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.cloud.aiplatform")

from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1
from google.protobuf import field_mask_pb2

from trilho.testing.emulator.pipelines import PipelineJobs
from trilho.testing.emulator.resources import Resources
from trilho.testing.emulator.rpc import RpcServer, transport_of
from trilho.testing.emulator.schedules import Schedules

PARENT = "projects/shop/locations/southamerica-east1"
SPEC = {
    "pipelineInfo": {"name": "Nightly train"},
    "schemaVersion": "2.1.0",
    "root": {
        "dag": {"tasks": {"hello": {"taskInfo": {"name": "hello"}, "componentRef": {"name": "comp-hello"}}}},
        "inputDefinitions": {"parameters": {"rows": {"parameterType": "NUMBER_INTEGER"}}},
    },
    "components": {"comp-hello": {"executorLabel": "exec-hello"}},
    "deploymentSpec": {"executors": {"exec-hello": {"container": {"image": "i", "command": ["true"]}}}},
}
HOUR = 3600.0
SUCCEEDED: Any = v1.PipelineState.PIPELINE_STATE_SUCCEEDED


@dataclass
class Emulated:
    """A schedule service whose jobs go on until they are released."""

    client: Any
    jobs: Any
    resources: Resources
    release: threading.Event

    def started(self, schedule: Any) -> list[v1.PipelineJob]:
        """Give the jobs that a schedule began."""
        return [job for job in self.resources.every(v1.PipelineJob) if job.schedule_name == schedule.name]

    def wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.fixture
def emulated() -> Iterator[Emulated]:
    import grpc
    from google.auth import credentials

    resources, release = Resources(), threading.Event()

    def run(name: str, accepted: Any, stop: threading.Event) -> None:
        while not (release.is_set() or stop.is_set()):
            release.wait(0.02)
        with resources.editing(name, v1.PipelineJob) as job:
            job.state = SUCCEEDED

    server = RpcServer(resources)
    jobs = PipelineJobs(resources, run)
    schedules = Schedules(resources, jobs)
    server.add(transport_of("schedule_service"), schedules.handlers())
    server.start()
    schedules.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
    anonymous = credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]
    transport = transport_of("schedule_service")(channel=channel, credentials=anonymous)
    yield Emulated(v1.ScheduleServiceClient(transport=transport), jobs, resources, release)
    schedules.close()
    jobs.close()
    channel.close()
    server.stop()


def asked(**changes: Any) -> dict[str, Any]:
    job = {
        "pipeline_spec": SPEC,
        "runtime_config": {"gcs_output_directory": "gs://b/root", "parameter_values": {"rows": 3}},
    }
    good = {
        "display_name": "nightly",
        "cron": "TZ=America/Sao_Paulo 0 * * * *",
        "max_concurrent_run_count": 1,
        "create_pipeline_job_request": {"parent": PARENT, "pipeline_job": job},
    }
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


def create(emulated: Emulated, **changes: Any) -> Any:
    return emulated.client.create_schedule(parent=PARENT, schedule=asked(**changes))


def test_runs_begin_when_they_are_due(emulated: Emulated) -> None:
    schedule = create(emulated)
    assert schedule.name.startswith(f"{PARENT}/schedules/")
    assert schedule.state == v1.Schedule.State.ACTIVE
    due = schedule.next_run_time
    assert (due.minute, due.second) == (0, 0)
    assert emulated.resources.now() < due <= datetime.fromtimestamp(emulated.resources.clock.now() + HOUR, UTC)
    assert emulated.started(schedule) == []
    emulated.resources.clock.advance(HOUR)
    emulated.wait(lambda: len(emulated.started(schedule)) == 1)
    (job,) = emulated.started(schedule)
    assert job.name.startswith(f"{PARENT}/pipelineJobs/nightly-train-")
    assert job.runtime_config.parameter_values["rows"] == 3
    emulated.wait(lambda: emulated.client.get_schedule(name=schedule.name).started_run_count == 1)
    held = emulated.client.get_schedule(name=schedule.name)
    assert held.last_scheduled_run_response.run_response == job.name
    assert held.last_scheduled_run_response.scheduled_run_time == due
    assert (held.next_run_time - due).total_seconds() == HOUR


def test_every_run_of_a_moved_clock_is_begun(emulated: Emulated) -> None:
    schedule = create(emulated)
    emulated.resources.clock.advance(5 * HOUR)
    emulated.wait(lambda: len(emulated.started(schedule)) == 5)
    assert len({job.name for job in emulated.started(schedule)}) == 5


def test_a_schedule_ends_with_its_last_run_or_its_time(emulated: Emulated) -> None:
    twice = create(emulated, max_run_count=2)
    end = datetime.fromtimestamp(emulated.resources.clock.now() + 3 * HOUR, UTC)
    short = create(emulated, end_time=end)
    emulated.resources.clock.advance(10 * HOUR)
    completed = v1.Schedule.State.COMPLETED
    for schedule, count in ((twice, 2), (short, 3)):
        emulated.wait(lambda name=schedule.name: emulated.client.get_schedule(name=name).state == completed)  # type: ignore[misc]
        held = emulated.client.get_schedule(name=schedule.name)
        assert "next_run_time" not in held
        assert len(emulated.started(schedule)) == count
        with pytest.raises(exceptions.FailedPrecondition, match="COMPLETED"):
            emulated.client.pause_schedule(name=schedule.name)
        with pytest.raises(exceptions.FailedPrecondition, match="COMPLETED"):
            emulated.client.resume_schedule(name=schedule.name)


@pytest.mark.parametrize(("catch_up", "count"), [(False, 1), (True, 4)])
def test_what_a_paused_schedule_missed(emulated: Emulated, catch_up: bool, count: int) -> None:
    schedule = create(emulated)
    emulated.client.pause_schedule(name=schedule.name)
    held = emulated.client.get_schedule(name=schedule.name)
    assert (held.state, "next_run_time" in held) == (v1.Schedule.State.PAUSED, False)
    emulated.resources.clock.advance(3 * HOUR)
    emulated.client.resume_schedule(name=schedule.name, catch_up=catch_up)
    emulated.resources.clock.advance(HOUR)
    emulated.wait(lambda: emulated.client.get_schedule(name=schedule.name).started_run_count == count)
    assert len(emulated.started(schedule)) == count
    with pytest.raises(exceptions.FailedPrecondition, match="only a paused schedule"):
        emulated.client.resume_schedule(name=schedule.name)


@pytest.mark.parametrize(("queued", "count"), [(False, 1), (True, 3)])
def test_active_runs_are_limited(emulated: Emulated, queued: bool, count: int) -> None:
    schedule = create(emulated, max_concurrent_active_run_count=1, allow_queueing=queued, max_run_count=3)
    emulated.resources.clock.advance(3 * HOUR)
    emulated.wait(lambda: bool(emulated.started(schedule)))
    passed = datetime.fromtimestamp(emulated.resources.clock.now(), UTC)
    emulated.wait(lambda: emulated.client.get_schedule(name=schedule.name).next_run_time > passed)
    assert len(emulated.started(schedule)) == 1
    emulated.release.set()
    emulated.wait(lambda: len(emulated.started(schedule)) == count)


def test_an_update_plans_anew(emulated: Emulated) -> None:
    schedule = create(emulated)
    schedule.cron, schedule.display_name = "30 4 * * *", "other"
    mask = field_mask_pb2.FieldMask(paths=["cron"])
    changed = emulated.client.update_schedule(schedule=schedule, update_mask=mask)
    assert (changed.next_run_time.hour, changed.next_run_time.minute, changed.display_name) == (4, 30, "nightly")
    schedule = changed
    schedule.cron = "30 4 * *"
    with pytest.raises(exceptions.InvalidArgument, match="expected 5 fields, received 4"):
        emulated.client.update_schedule(schedule=schedule, update_mask=mask)
    assert emulated.client.get_schedule(name=schedule.name).cron == "30 4 * * *"
    with pytest.raises(exceptions.InvalidArgument, match="state cannot be updated"):
        emulated.client.update_schedule(schedule=schedule, update_mask=field_mask_pb2.FieldMask(paths=["state"]))


def test_a_deleted_schedule_begins_nothing(emulated: Emulated) -> None:
    schedule = create(emulated)
    assert [
        one.name for one in emulated.client.list_schedules({"parent": PARENT, "filter": 'display_name="nightly"'})
    ] == [schedule.name]
    emulated.client.delete_schedule(name=schedule.name).result()
    other = create(emulated)
    emulated.resources.clock.advance(HOUR)
    emulated.wait(lambda: len(emulated.started(other)) == 1)
    assert emulated.started(schedule) == []
    with pytest.raises(exceptions.NotFound, match=f"Schedule `{schedule.name}` not found"):
        emulated.client.get_schedule(name=schedule.name)


REQUEST = "create_pipeline_job_request"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cron": None}, "schedule.cron; Message: Required field is not set"),
        ({"cron": "0 25 * * *"}, "the hour is '25'; allowed are 0-23"),
        ({"cron": "TZ=Brasil/Bahia 0 2 * * *"}, "unknown time zone 'Brasil/Bahia'"),
        ({"cron": "0 0 31 2 *"}, "never due"),
        ({"display_name": ""}, "schedule.display_name; Message: Required field"),
        ({"max_concurrent_run_count": None}, "max_concurrent_run_count; Message: Required field is not set"),
        ({"end_time": datetime(2020, 1, 1, tzinfo=UTC)}, "It must be after the start"),
        ({REQUEST: None}, f"schedule.{REQUEST}; Message: Required field is not set"),
        ({REQUEST: {"parent": PARENT, "pipeline_job": {}}}, "gcs_output_directory; Message: Required field is not set"),
        ({REQUEST: {**asked()[REQUEST], "pipeline_job_id": "x"}}, "must not be set"),
        ({REQUEST: {**asked()[REQUEST], "parent": "here"}}, "is not projects/{project}/locations/{location}"),
        (
            {REQUEST: {**asked()[REQUEST], "parent": "projects/../locations/.."}},
            "is not projects/{project}/locations/{location}",
        ),
    ],
)
def test_a_schedule_is_refused(emulated: Emulated, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(exceptions.InvalidArgument) as caught:
        create(emulated, **changes)
    assert message in caught.value.message
    assert list(emulated.client.list_schedules(parent=PARENT)) == []


def test_several_faults_are_listed_together(emulated: Emulated) -> None:
    with pytest.raises(exceptions.InvalidArgument) as caught:
        create(emulated, display_name="", cron=None)
    assert caught.value.message == (
        "List of found errors:\t1.Field: schedule.display_name; Message: Required field is not set.\t"
        "2.Field: schedule.cron; Message: Required field is not set.\t"
    )


def test_jobs_of_a_schedule_end_with_the_emulator(emulated: Emulated, tmp_path: Path) -> None:
    schedule = create(emulated)
    emulated.resources.clock.advance(HOUR)
    emulated.wait(lambda: len(emulated.started(schedule)) == 1)
    emulated.jobs.close()
    (job,) = emulated.started(schedule)
    assert job.state == SUCCEEDED
