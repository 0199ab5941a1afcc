"""Pipeline jobs, driven by the SDK: pipelines of the official compiler that run, fail, are cancelled, scheduled."""

# mypy: disable-error-code="untyped-decorator"
# kfp reads annotations as they are: no `from __future__ import annotations` here.

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.cloud.aiplatform")
pytest.importorskip("kfp")

from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1
from kfp import compiler, dsl

from trilho.testing.emulator.rules import Failure

ROOT = "gs://staging/root"


@dsl.component(base_image="python:3.11", packages_to_install=[])
def make(rows: int, table: dsl.Output[dsl.Dataset]) -> None:
    print(f"{rows} rows")  # noqa: T201
    with open(table.path, "w") as file:  # noqa: PTH123
        file.write("\n".join(str(row) for row in range(rows)))
    table.metadata["rows"] = rows


@dsl.component(base_image="python:3.11", packages_to_install=[])
def fit(table: dsl.Input[dsl.Dataset], model: dsl.Output[dsl.Model], metrics: dsl.Output[dsl.Metrics]) -> float:
    with open(table.path) as file:  # noqa: PTH123
        values = [float(line) for line in file]
    mean = sum(values) / len(values)
    with open(model.path, "w") as file:  # noqa: PTH123
        file.write(str(mean))
    metrics.log_metric("mean", mean)
    return mean


@dsl.container_component
def tell(mean: float) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(image="busybox", command=["sh", "-c", 'echo "the mean is $0"'], args=[mean])


@dsl.container_component
def shell(script: str) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(image="busybox", command=["sh", "-c"], args=[script])


@dsl.pipeline(name="train")
def train(rows: int = 4, least: float = 100.0) -> float:
    table = make(rows=rows)
    fitted = fit(table=table.outputs["table"])
    with dsl.If(fitted.outputs["Output"] >= least, name="good"):
        tell(mean=fitted.outputs["Output"])
    tell(mean=fitted.outputs["Output"]).set_display_name("say")
    return fitted.outputs["Output"]  # type: ignore[no-any-return]


@dsl.pipeline(name="one-step")
def one_step(script: str = "true") -> None:
    first = shell(script=script)
    tell(mean=1.0).after(first)


@pytest.fixture(scope="module")
def sdk(emulated: Any) -> Any:
    return emulated.init()


@pytest.fixture(scope="module")
def client(emulated: Any) -> Any:
    return emulated.client("PipelineServiceClient")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("packages")
    paths = {pipeline.name: str(folder / f"{pipeline.name}.yaml") for pipeline in (train, one_step)}
    for pipeline in (train, one_step):
        compiler.Compiler().compile(pipeline, paths[pipeline.name])
    return paths


@pytest.fixture(autouse=True)
def _no_rules(emulated: Any) -> Any:
    yield
    emulated.rules.deny.clear()
    emulated.rules.failures.clear()


def job_of(sdk: Any, package: str, id_: str, **more: Any) -> Any:
    return sdk.PipelineJob(display_name=id_, template_path=package, job_id=id_, pipeline_root=ROOT, **more)


def wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def tasks(job: Any) -> dict[str, str]:
    return {detail.task_name: detail.state.name for detail in job.task_details}


def detail(job: Any, name: str) -> Any:
    return next(one for one in job.task_details if one.task_name == name)


@pytest.fixture(scope="module")
def trained(sdk: Any, packages: dict[str, str]) -> Any:
    job = job_of(sdk, packages["train"], "trained", parameter_values={"rows": 5}, labels={"team": "a"})
    job.submit(service_account="trainer@shop.iam.gserviceaccount.com", experiment="pipelines")
    wait(job.done)
    return job


def test_a_pipeline_of_the_official_compiler_trains(emulated: Any, trained: Any) -> None:
    trained.wait()
    assert trained.state.name == "PIPELINE_STATE_SUCCEEDED"
    assert trained.resource_name == f"{emulated.parent}/pipelineJobs/trained"
    assert tasks(trained) == {
        "make": "SUCCEEDED",
        "fit": "SUCCEEDED",
        "condition-1": "NOT_TRIGGERED",
        "tell": "NOT_TRIGGERED",
        "tell-2": "SUCCEEDED",
    }
    resource = trained.gca_resource
    assert resource.create_time <= resource.start_time <= resource.end_time
    inner, outer = detail(trained, "tell"), detail(trained, "condition-1")
    assert inner.parent_task_id == outer.task_id
    assert inner.task_unique_name == "condition-1.tell"


def test_values_and_artifacts_are_told_and_lie_in_the_bucket(emulated: Any, trained: Any) -> None:
    fitted = detail(trained, "fit")
    assert dict(fitted.execution.metadata)["output:Output"] == 2.0
    assert dict(detail(trained, "make").execution.metadata)["input:rows"] == 5
    (model,) = fitted.outputs["model"].artifacts
    (metrics,) = fitted.outputs["metrics"].artifacts
    (table,) = fitted.inputs["table"].artifacts
    assert (model.schema_title, table.schema_title) == ("system.Model", "system.Dataset")
    assert dict(metrics.metadata)["mean"] == 2.0
    assert dict(table.metadata)["rows"] == 5
    assert model.uri.startswith(f"{ROOT}/")
    assert emulated.file(model.uri).read_text() == "2.0"
    assert emulated.file(table.uri).read_text() == "0\n1\n2\n3\n4"


def test_what_tasks_print_is_kept_under_their_custom_jobs(emulated: Any, trained: Any) -> None:
    jobs = {one.task_name: one.executor_detail.container_detail.main_job for one in trained.task_details}
    number = jobs["make"].rpartition("/")[2]
    assert jobs["make"] == f"{emulated.parent}/customJobs/{number}"
    assert (number, "make", "5 rows") in emulated.tasks
    assert any(task == "tell-2" and line == "the mean is 2" for _, task, line in emulated.tasks)


def test_a_job_is_a_run_of_its_experiment(sdk: Any, trained: Any) -> None:
    experiment = sdk.Experiment("pipelines")
    assert trained.get_associated_experiment().name == "pipelines"
    row = sdk.PipelineJob._query_experiment_row(trained._get_context(), experiment=experiment).to_dict()
    assert {key: row[key] for key in ("run_type", "run_name", "state", "param.rows", "metric.mean")} == {
        "run_type": "system.PipelineRun",
        "run_name": "trained",
        "state": "COMPLETE",
        "param.rows": 5.0,
        "metric.mean": 2.0,
    }


def test_what_was_done_before_is_skipped(sdk: Any, packages: dict[str, str], trained: Any) -> None:
    job = job_of(sdk, packages["train"], "again", parameter_values={"rows": 5, "least": 1.0})
    job.submit()
    wait(job.done)
    found = tasks(job)
    assert (found["make"], found["fit"]) == ("SKIPPED", "SKIPPED")
    assert found["condition-1"] == "SUCCEEDED"
    assert found["tell"] == "SKIPPED"  # the same command with the same mean as the last step


def test_a_task_that_fails_fails_the_job(emulated: Any, sdk: Any, packages: dict[str, str]) -> None:
    script = "echo about to fail; echo nothing works >&2; exit 3"
    job = job_of(sdk, packages["one-step"], "failing", parameter_values={"script": script})
    job.submit()
    wait(job.done)
    with pytest.raises(RuntimeError, match=r"(?s)code: 9.*The failed tasks are: \[shell\]"):
        job.wait()
    assert job.has_failed
    assert tasks(job) == {"shell": "FAILED", "tell": "NOT_TRIGGERED"}
    failed = detail(job, "shell")
    assert failed.error.code == 9
    assert "exited with a non-zero status" in failed.error.message
    assert "exit 3" in failed.error.message
    number = failed.executor_detail.container_detail.main_job.rpartition("/")[2]
    assert (number, "shell", "nothing works") in emulated.tasks


def test_a_job_is_seen_running_and_is_cancelled(
    emulated: Any, sdk: Any, packages: dict[str, str], tmp_path: Path
) -> None:
    script = f"echo $$ > {tmp_path}/pid; sleep 300"
    job = job_of(sdk, packages["one-step"], "endless", parameter_values={"script": script}, enable_caching=False)
    job.submit()
    wait(lambda: tasks(job).get("shell") == "RUNNING" and (tmp_path / "pid").exists())
    assert job.state.name == "PIPELINE_STATE_RUNNING"
    assert tasks(job)["tell"] == "PENDING"
    with pytest.raises(exceptions.FailedPrecondition, match="has not ended: PIPELINE_STATE_RUNNING"):
        job.delete()
    pid = int((tmp_path / "pid").read_text())
    job.cancel()
    wait(job.done)
    assert job.state.name == "PIPELINE_STATE_CANCELLED"
    assert (job.gca_resource.error.code, tasks(job)) == (1, {"shell": "CANCELLED", "tell": "NOT_TRIGGERED"})
    wait(lambda: not Path(f"/proc/{pid}").exists())
    job.wait()  # the SDK raises for failed jobs only
    with pytest.raises(exceptions.FailedPrecondition, match="has ended: PIPELINE_STATE_CANCELLED"):
        job.cancel()


def test_a_schedule_begins_jobs(emulated: Any, sdk: Any, packages: dict[str, str]) -> None:
    job = sdk.PipelineJob(display_name="nightly", template_path=packages["one-step"], pipeline_root=ROOT)
    schedule = job.create_schedule(cron="TZ=America/Sao_Paulo 0 3 * * *", display_name="nightly", max_run_count=1)
    assert schedule.state.name == "ACTIVE"
    emulated.vertex.clock.advance(24 * 3600)
    wait(lambda: len(schedule.list_jobs(enable_simple_view=False)) == 1)
    (begun,) = schedule.list_jobs(enable_simple_view=False)
    wait(begun.done)
    assert begun.state.name == "PIPELINE_STATE_SUCCEEDED"
    wait(lambda: schedule.state.name == "COMPLETED")
    simple = schedule.list_jobs()[0].gca_resource  # a read mask leaves only some fields
    assert simple.state.name == "PIPELINE_STATE_SUCCEEDED"
    assert simple.runtime_config.gcs_output_directory == ""
    assert dict(simple.pipeline_spec)["pipelineInfo"]["name"] == "one-step"
    schedule.delete()


def test_jobs_are_listed_filtered_and_deleted(client: Any, sdk: Any, emulated: Any, trained: Any) -> None:
    asked = {"parent": emulated.parent, "filter": 'labels.team="a" AND state="PIPELINE_STATE_SUCCEEDED"'}
    assert [job.name for job in client.list_pipeline_jobs(asked)] == [trained.resource_name]
    assert [job.name for job in sdk.PipelineJob.list(filter='display_name:"train*"')] == ["trained"]
    for chosen in (
        f'pipeline_name="{dict(trained.gca_resource.pipeline_spec)["pipelineInfo"]["name"]}"',
        'pipeline_job_user_id="train*"',
    ):
        assert "trained" in [job.name for job in sdk.PipelineJob.list(filter=chosen)]
    assert sdk.PipelineJob.list(filter='pipeline_name="other"') == []
    made = [_create(client, emulated, f"short-{number}").name for number in range(2)]
    wait(lambda: all(client.get_pipeline_job(name=name).state.name == "PIPELINE_STATE_SUCCEEDED" for name in made))
    gone = client.batch_delete_pipeline_jobs(parent=emulated.parent, names=made).result()
    assert [job.name for job in gone.pipeline_jobs] == made
    with pytest.raises(exceptions.NotFound, match=f"PipelineJob `{made[0]}` not found"):
        client.get_pipeline_job(name=made[0])


def test_an_id_is_used_once(client: Any, emulated: Any) -> None:
    _create(client, emulated, "once")
    with pytest.raises(exceptions.AlreadyExists, match="Pipeline job with the specified ID already exists"):
        _create(client, emulated, "once")


def test_a_permission_and_a_failure_are_met_by_the_sdk(emulated: Any, sdk: Any, packages: dict[str, str]) -> None:
    emulated.rules.failures.append(Failure("CreatePipelineJob", "UNAVAILABLE", 1))
    job = job_of(sdk, packages["one-step"], "denied")
    with pytest.raises(exceptions.ServiceUnavailable):
        job.submit()
    emulated.rules.deny.append("aiplatform.pipelineJobs.create")
    with pytest.raises(exceptions.PermissionDenied, match=r"'aiplatform\.pipelineJobs\.create' denied on resource"):
        job.submit()


def test_what_cannot_run_here_fails_by_name(client: Any, emulated: Any) -> None:
    spec = _spec(command=["no-such-command-anywhere"])
    job = _create(client, emulated, "unrunnable", spec=spec)
    wait(lambda: client.get_pipeline_job(name=job.name).state.name == "PIPELINE_STATE_FAILED")
    assert "task hello: " in client.get_pipeline_job(name=job.name).error.message


FIELD = "pipeline_job.runtime_config"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": ""}, f"{FIELD}.gcs_output_directory; Message: Required field is not set"),
        ({"root": "/tmp/root"}, "is not a Cloud Storage URI"),
        ({"spec": {}}, "pipeline_job.pipeline_spec; Message: Required field is not set"),
        ({"spec": {"root": {}}}, "pipeline_job.pipeline_spec"),
        ({"values": {"row": 1}}, "'row' is not an input of the pipeline; it has"),
        ({"values": {"rows": "4"}}, "'rows' must be NUMBER_INTEGER"),
        ({"values": {"rows": 1.5}}, "'rows' must be NUMBER_INTEGER"),
        ({"values": {"rows": 4, "name": 3}}, "'name' must be STRING"),
        ({"values": {}}, "Parameter 'rows' (NUMBER_INTEGER) is required"),
        ({"labels": {"Team": "x"}}, "Label Team='x'"),
        ({"id_": "Upper"}, "pipeline_job_id; Message: 'Upper' does not match"),
    ],
)
def test_a_job_is_refused(client: Any, emulated: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(exceptions.InvalidArgument) as caught:
        _create(client, emulated, **{"id_": "refused", "spec": _spec(), "values": {"rows": 4}, **changes})
    assert message in caught.value.message


def test_training_pipelines_are_refused(client: Any, emulated: Any) -> None:
    with pytest.raises(exceptions.MethodNotImplemented, match="does not have training pipelines"):
        client.list_training_pipelines(parent=emulated.parent)


def _spec(command: list[str] | None = None) -> dict[str, Any]:
    return {
        "pipelineInfo": {"name": "hello"},
        "schemaVersion": "2.1.0",
        "root": {
            "dag": {"tasks": {"hello": {"taskInfo": {"name": "hello"}, "componentRef": {"name": "comp-hello"}}}},
            "inputDefinitions": {
                "parameters": {
                    "rows": {"parameterType": "NUMBER_INTEGER"},
                    "name": {"parameterType": "STRING", "defaultValue": "a"},
                }
            },
        },
        "components": {"comp-hello": {"executorLabel": "exec-hello"}},
        "deploymentSpec": {"executors": {"exec-hello": {"container": {"image": "i", "command": command or ["true"]}}}},
    }


def _create(
    client: Any,
    emulated: Any,
    id_: str,
    *,
    spec: dict[str, Any] | None = None,
    root: str = ROOT,
    values: dict[str, Any] | None = None,
    labels: dict[str, str] | None = None,
) -> v1.PipelineJob:
    values = {"rows": 4} if values is None else values
    job = {
        "display_name": id_,
        "pipeline_spec": _spec() if spec is None else spec,
        "labels": labels or {},
        "runtime_config": {"gcs_output_directory": root, "parameter_values": values},
    }
    created: v1.PipelineJob = client.create_pipeline_job(parent=emulated.parent, pipeline_job=job, pipeline_job_id=id_)
    return created


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is told, on standard error
def test_a_job_whose_end_cannot_be_recorded_has_ended(
    emulated: Any, sdk: Any, packages: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise OSError("no room")

    monkeypatch.setattr(emulated.vertex.experiments, "end", failing)
    job = job_of(sdk, packages["one-step"], "unrecorded", enable_caching=False)
    job.submit()
    wait(job.done)
    runs = emulated.vertex.jobs._run
    wait(lambda: runs.live(job.resource_name) is None)
    assert tasks(job)["shell"] == "SUCCEEDED"
