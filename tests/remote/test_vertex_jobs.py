"""A pipeline job as Vertex AI is sent it, and what is read out of one; the message types are the real client's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from google.cloud import aiplatform_v1 as v1

from trilho.backends.gcp import logs
from trilho.backends.gcp.jobs import container_job, job_of, require_id, runtime_values, status_of
from trilho.backends.gcp.logs import line_of, log_filter
from trilho.backends.gcp.scheduler import info_of
from trilho.core.ports import RemoteJob
from trilho.errors import UsageError
from trilho.testing.conformance import document_of

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def made(**changes: Any) -> RemoteJob:
    given: dict[str, Any] = {
        "run": "r20260301-120000-1a2b",
        "model": "bike-demand",
        "document": document_of({"first": "true", "second": "true"}),
        "parameters": {"word": "olá", "count": 3, "share": 0.5, "names": ["a"], "deep": {"x": [1]}, "yes": True},
        "root": "gs://b/trilho/bike-demand",
        "labels": {"trilho-model": "bike-demand", "trilho-run": "r20260301-120000-1a2b"},
        "service_account": "runner@shop.iam.gserviceaccount.com",
    }
    return RemoteJob(**{**given, **changes})


def test_a_job_carries_the_ir_the_values_and_the_labels() -> None:
    job = job_of(made())
    assert job.display_name == "r20260301-120000-1a2b"
    assert job.runtime_config.gcs_output_directory == "gs://b/trilho/bike-demand"
    assert dict(job.labels) == {"trilho-model": "bike-demand", "trilho-run": "r20260301-120000-1a2b"}
    assert job.service_account == "runner@shop.iam.gserviceaccount.com"
    assert {name: value for name, value in job.runtime_config.parameter_values.items()} == {  # noqa: C416  of a message
        "word": "olá",
        "count": 3.0,
        "share": 0.5,
        "names": ["a"],
        "deep": {"x": [1.0]},
        "yes": True,
    }
    assert job.pipeline_spec["pipelineInfo"]["name"] == "conformance"


def test_the_platform_s_cache_is_off_for_every_task_and_the_ir_is_left_alone() -> None:
    document = document_of({"first": "true", "second": "true"})
    for task in document["root"]["dag"]["tasks"].values():
        task["cachingOptions"] = {"enableCache": True}
    document["components"]["comp-first"] = {"dag": {"tasks": {"deep": {"cachingOptions": {"enableCache": True}}}}}
    spec = job_of(made(document=document)).pipeline_spec
    assert [spec["root"]["dag"]["tasks"][name]["cachingOptions"]["enableCache"] for name in ("first", "second")] == [
        False,
        False,
    ]
    assert spec["components"]["comp-first"]["dag"]["tasks"]["deep"]["cachingOptions"]["enableCache"] is False
    assert document["root"]["dag"]["tasks"]["first"]["cachingOptions"] == {"enableCache": True}


def test_a_pipeline_of_tfx_has_its_values_typed() -> None:
    document = {**document_of({"first": "true"}), "schemaVersion": "2.0.0"}
    job = job_of(made(document=document, parameters={"rows": 5, "rate": 0.5, "name": "x"}))
    assert job.runtime_config.parameters["rows"].int_value == 5
    assert job.runtime_config.parameters["rate"].double_value == 0.5
    assert job.runtime_config.parameters["name"].string_value == "x"
    assert runtime_values({"schemaVersion": "2.1.0"}, {"a": 1}) == {"parameterValues": {"a": 1}}


def test_an_id_that_vertex_would_refuse_is_refused_here() -> None:
    with pytest.raises(UsageError, match="cannot be a job's id"):
        require_id("Nightly run")
    assert job_of(made(run="Nightly run")).display_name == "Nightly run"  # a schedule may be called so


def task(number: int, name: str, state: str, **more: Any) -> Any:
    return v1.PipelineTaskDetail(
        task_id=number,
        task_name=name,
        state=state,
        start_time=START,
        end_time=START + timedelta(seconds=number),
        **more,
    )


def job(state: str, *details: Any, **more: Any) -> Any:
    return v1.PipelineJob(
        name="projects/p/locations/r/pipelineJobs/r1",
        state=f"PIPELINE_STATE_{state}",
        job_detail=v1.PipelineJobDetail(task_details=details),
        **more,
    )


def test_tasks_are_named_by_their_groups() -> None:
    status = status_of(
        job(
            "SUCCEEDED",
            task(1, "r1", "SUCCEEDED"),
            task(2, "fit", "SUCCEEDED", parent_task_id=1),
            task(3, "condition-1", "SUCCEEDED", parent_task_id=1),
            task(4, "deploy", "SUCCEEDED", parent_task_id=3),
            task(5, "for-loop-2", "SUCCEEDED", parent_task_id=1),
            task(6, "for-loop-2-0", "SUCCEEDED", parent_task_id=5),
            task(7, "fit-region", "SKIPPED", parent_task_id=6),
            task(8, "condition-3", "NOT_TRIGGERED", parent_task_id=1),
        )
    )
    assert [(x.name, x.state, x.seconds) for x in status.tasks] == [
        ("fit", "succeeded", 2.0),
        ("condition-1/deploy", "succeeded", 4.0),
        ("for-loop-2/0/fit-region", "cached", 7.0),
        ("condition-3", "skipped", 8.0),
    ]
    assert (status.state, status.ended, status.error) == ("succeeded", True, None)


def test_what_a_task_left_is_read_from_its_execution() -> None:
    execution = v1.Execution(metadata={"input:rows": 3.0, "output:auc": 0.5, "output:sizes": {"rows": 3.0}})
    model = v1.Artifact(uri="gs://b/model")
    held = v1.PipelineTaskDetail.ArtifactList(artifacts=[model])
    (found,) = status_of(
        job("SUCCEEDED", task(2, "fit", "SUCCEEDED", execution=execution, outputs={"model": held}))
    ).tasks
    assert (found.values, found.artifacts) == ({"auc": 0.5, "sizes": {"rows": 3.0}}, {"model": "gs://b/model"})


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("QUEUED", "pending"),
        ("PENDING", "pending"),
        ("RUNNING", "running"),
        ("CANCELLING", "running"),
        ("CANCELLED", "cancelled"),
        ("FAILED", "failed"),
        ("PAUSED", "pending"),
    ],
)
def test_the_states_of_a_job(state: str, expected: str) -> None:
    assert status_of(job(state)).state == expected


def test_errors_are_told_for_the_job_and_for_its_tasks() -> None:
    error = {"code": 9, "message": "the container was killed"}
    status = status_of(job("FAILED", task(2, "fit", "FAILED", error=error), error={"message": "the DAG failed"}))
    assert (status.error, status.tasks[0].error) == ("the DAG failed", "the container was killed")


def test_the_log_of_a_task_is_that_of_its_container_s_job() -> None:
    executor = {"container_detail": {"main_job": "projects/p/locations/r/customJobs/77"}}
    found = job("FAILED", task(2, "fit", "FAILED", executor_detail=executor), task(3, "pack", "PENDING"))
    assert container_job(found, "fit") == "77"
    assert container_job(found, "pack") is None
    assert log_filter("r1", "fit", "77") == 'resource.type="ml_job" AND resource.labels.job_id="77"'
    assert 'resource.labels.pipeline_job_id="r1"' in log_filter("r1", "fit", None)


def test_of_a_long_log_the_end_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def page(_cloud: Any, _filter: str, token: str) -> dict[str, Any]:  # the newest first
        start = int(token or 0)
        return {
            "entries": [{"textPayload": f"line {7000 - start - n}"} for n in range(1000)],
            **({"nextPageToken": str(start + 1000)} if start < 6000 else {}),
        }

    cloud: Any = SimpleNamespace(call=lambda _doing, make: make())
    monkeypatch.setattr(logs, "_page", page)
    lines = logs.read_log(cloud, "r1", "fit", "77").splitlines()
    assert (len(lines), lines[0], lines[-1]) == (5000, "line 2001", "line 7000")


def test_the_texts_of_log_entries() -> None:
    assert line_of({"textPayload": "a\n"}) == "a"
    assert line_of({"jsonPayload": {"message": "b", "levelname": "INFO"}}) == "b"
    assert line_of({"protoPayload": {}}) is None


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("TZ=America/Sao_Paulo 30 4 * * 1", ("30 4 * * 1", "America/Sao_Paulo")),
        ("CRON_TZ=Asia/Tokyo 0 0 * * *", ("0 0 * * *", "Asia/Tokyo")),
        ("0 3 * * *", ("0 3 * * *", "UTC")),
    ],
)
def test_a_schedule_is_read_back(cron: str, expected: tuple[str, str]) -> None:
    schedule = v1.Schedule(name="projects/p/locations/r/schedules/5", display_name="nightly", cron=cron, state="PAUSED")
    found = info_of(schedule)
    assert (found.id, found.name, found.paused, found.next) == ("5", "nightly", True, None)
    assert (found.cron, found.timezone) == expected
