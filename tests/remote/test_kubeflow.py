"""Kubeflow Pipelines: the ports against a server that runs pipelines, whose wire the official client reads."""

from __future__ import annotations

import json
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trilho.backends.kubeflow import messages
from trilho.backends.kubeflow.runner import KubeflowRunner
from trilho.backends.kubeflow.scheduler import KubeflowScheduler, in_utc
from trilho.backends.local.store import LocalStore
from trilho.core.ports import NoAccess, NotFound, RemoteJob, Runner, Scheduler
from trilho.core.retry import Patience
from trilho.errors import TrilhoError, Unreachable, UsageError
from trilho.pipeline.places import Place, Places
from trilho.testing import conformance
from trilho.testing.emulator.http import Reply, Request, Route, Router, Server
from trilho.testing.emulator.kubeflow import KubeflowService, executor
from trilho.testing.emulator.rules import Failure, Rules

QUICK = Patience(seconds=1.0, first_seconds=0.01, most_seconds=0.05)


@dataclass
class Kubeflow:
    """A server of Kubeflow Pipelines, and the rules before its methods."""

    address: str
    rules: Rules

    def runner(self) -> KubeflowRunner:
        return KubeflowRunner(self.address, QUICK)

    def scheduler(self) -> KubeflowScheduler:
        return KubeflowScheduler(self.address, QUICK)


@pytest.fixture
def kubeflow(tmp_path: Path) -> Iterator[Kubeflow]:
    python, rules = Path(sys.executable), Rules()
    places = Places(
        python=python,
        source=None,
        folder=tmp_path,
        platform=python,
        images={"": Place(python)},
        install=False,
        direct=False,
    )
    service = KubeflowService(executor(tmp_path / "kfp", LocalStore(tmp_path / "store"), places), rules)
    server = Server(Router(service.routes, rules))
    server.start()
    yield Kubeflow(server.address, rules)
    service.close()
    server.stop()


@pytest.mark.parametrize("check", conformance.RUNNER, ids=conformance.title)
def test_runner(check: conformance.RemoteCheck[Runner], kubeflow: Kubeflow, tmp_path: Path) -> None:
    check(kubeflow.runner, str(tmp_path / "root"))


@pytest.mark.parametrize("check", conformance.SCHEDULER, ids=conformance.title)
def test_scheduler(check: conformance.RemoteCheck[Scheduler], kubeflow: Kubeflow, tmp_path: Path) -> None:
    check(kubeflow.scheduler, str(tmp_path / "root"))


def job(**more: Any) -> RemoteJob:
    return conformance.job_of("/tmp/root", conformance.HELLO, **more)


# ---- the wire, by the official client -------------------------------------------------------------------------


def official(kubeflow: Kubeflow) -> Any:
    kfp = pytest.importorskip("kfp_server_api")
    return kfp, kfp.ApiClient(kfp.Configuration(host=kubeflow.address))


def test_what_is_sent_is_what_the_official_client_sends(kubeflow: Kubeflow) -> None:
    kfp, client = official(kubeflow)
    asked = job(run="r-1", parameters={"word": "olá", "n": 3})
    body = messages.run_of(asked)
    config = kfp.V2beta1RuntimeConfig(parameters={"word": "olá", "n": 3}, pipeline_root="/tmp/root")
    same = kfp.V2beta1Run(
        display_name="r-1",
        description=json.dumps({"trilho": dict(asked.labels)}, sort_keys=True),
        pipeline_spec=body["pipeline_spec"],
        runtime_config=config,
    )
    assert client.sanitize_for_serialization(same) == body


def test_the_official_client_reads_the_servers_runs_and_schedules(kubeflow: Kubeflow) -> None:
    kfp, client = official(kubeflow)
    runner, asked = kubeflow.runner(), job()
    runner.submit(asked)
    conformance.until_ended(runner, asked.run)
    found = kfp.RunServiceApi(client).run_service_list_runs(page_size=5)
    assert [(run.display_name, run.state) for run in found.runs] == [(asked.run, "SUCCEEDED")]
    details = found.runs[0].run_details.task_details
    assert {detail.display_name for detail in details} >= {"first", "first-driver", "executor", "second"}
    assert all(detail.end_time is None or detail.end_time >= detail.start_time for detail in details)
    id_ = kubeflow.scheduler().create(job(run="s-1"), "30 4 * * 1", "America/Sao_Paulo")
    schedules = kfp.RecurringRunServiceApi(client)
    kept = schedules.recurring_run_service_get_recurring_run(id_)
    assert (kept.trigger.cron_schedule.cron, kept.status, kept.no_catchup) == ("0 30 7 * * 1", "ENABLED", True)
    assert kept.max_concurrency == "1"


def test_what_the_official_client_creates_is_found(kubeflow: Kubeflow, tmp_path: Path) -> None:
    kfp, client = official(kubeflow)
    document = conformance.document_of(conformance.HELLO)
    runs = kfp.RunServiceApi(client)
    made = runs.run_service_create_run(kfp.V2beta1Run(display_name="by-hand", pipeline_spec=document))
    assert conformance.until_ended(kubeflow.runner(), "by-hand").state == "succeeded"
    assert runs.run_service_get_run(made.run_id).state == "SUCCEEDED"
    with pytest.raises(UsageError, match="by-hand exists, and trilho did not submit it"):
        kubeflow.runner().submit(job(run="by-hand"))


def test_a_schedule_is_made_once_and_listed_past_a_page(kubeflow: Kubeflow) -> None:
    scheduler = kubeflow.scheduler()
    ids = [scheduler.create(job(run=f"s-{number}"), "0 3 * * *", "UTC") for number in range(120)]
    assert scheduler.create(job(run="s-0"), "0 3 * * *", "UTC") == ids[0]
    assert sorted(one.id for one in scheduler.list()) == sorted(ids)


# ---- what goes wrong ------------------------------------------------------------------------------------------


def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(Unreachable) as told:
        KubeflowRunner("http://127.0.0.1:9", QUICK).status("r-1")
    assert told.value.exit_code == 5
    assert told.value.fact.startswith("looking at run r-1: http://127.0.0.1:9 does not answer: ")


def test_a_passing_failure_is_tried_again_and_nothing_is_made_twice(kubeflow: Kubeflow) -> None:
    kubeflow.rules.failures.append(Failure("kubeflow.runs.create", "UNAVAILABLE", 2))
    runner, asked = kubeflow.runner(), job()
    runner.submit(asked)
    assert conformance.until_ended(runner, asked.run).state == "succeeded"
    assert len(list(runner.api.pages("runs", "runs"))) == 1


def test_a_lasting_failure_is_unreachable(kubeflow: Kubeflow) -> None:
    kubeflow.rules.failures.append(Failure("kubeflow.runs.list", "UNAVAILABLE"))
    with pytest.raises(Unreachable, match="did not succeed for 1 s: The service is currently unavailable"):
        kubeflow.runner().status("r-1")


def test_a_missing_right_is_named_with_the_role_that_has_it(kubeflow: Kubeflow) -> None:
    kubeflow.rules.deny.append("kubeflow.runs.create")
    with pytest.raises(TrilhoError) as told:
        kubeflow.runner().submit(job(run="r-1"))
    assert told.value.fact == (
        "submitting run r-1 to Kubeflow: user@example.com lacks the right to create runs in namespace kubeflow"
    )
    assert told.value.hint == (
        "kubectl create rolebinding trilho -n kubeflow --clusterrole=kubeflow-pipelines-edit --user=user@example.com"
    )
    kubeflow.rules.deny[:] = ["kubeflow.jobs.list"]
    with pytest.raises(TrilhoError) as told:
        kubeflow.scheduler().list()
    assert "--clusterrole=kubeflow-pipelines-view" in str(told.value.hint)


def test_missing_credentials_are_no_access(kubeflow: Kubeflow) -> None:
    kubeflow.rules.failures.append(Failure("kubeflow.runs.list", "UNAUTHENTICATED"))
    with pytest.raises(NoAccess) as told:
        kubeflow.runner().status("r-1")
    assert told.value.fact.endswith("does not know this account; the credentials are missing or expired")
    assert "TRILHO_KUBEFLOW_TOKEN=TOKEN" in str(told.value.hint)


def serve(*routes: Route) -> Server:
    server = Server(Router(routes, Rules()))
    server.start()
    return server


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"<html>log in</html>", 200, {"Content-Type": "text/html; charset=utf-8"}),
        Reply(b"", 302, {"Location": "/dex/auth"}),
    ],
)
def test_a_login_page_is_no_access(reply: Reply) -> None:
    server = serve(Route("GET", "/apis/v2beta1/runs", "", lambda _request: reply))
    try:
        with pytest.raises(NoAccess, match="answers with a login page"):
            KubeflowRunner(server.address, QUICK).status("r-1")
    finally:
        server.stop()


def test_the_token_and_the_namespace_are_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heard: list[tuple[str, str | None, str]] = []

    def hear(request: Request) -> dict[str, Any]:
        heard.append((request.method, request.headers.get("Authorization"), request.first("namespace")))
        return {"experiments": [{"experiment_id": "e1"}]} if "experiments" in request.path else {"run_id": "1"}

    paths = ("runs", "experiments")
    routes = [Route(m, f"/pipeline/apis/v2beta1/{path}", "", hear) for path in paths for m in ("GET", "POST")]
    server = serve(*routes)
    try:
        monkeypatch.setenv("TRILHO_KUBEFLOW_TOKEN", "secret")
        runner = KubeflowRunner(f"{server.address}/pipeline/?namespace=team-a", QUICK)
        assert runner.submit(job(run="r-1")) == f"{server.address}/pipeline#r-1"
        assert heard == [("GET", "Bearer secret", "team-a")] * 2 + [("POST", "Bearer secret", "")]
        monkeypatch.delenv("TRILHO_KUBEFLOW_TOKEN")
        (tmp_path / "token").write_text("of a file\n")
        monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
        assert runner.api.experiment() == {"experiment_id": "e1"}
        assert heard[-1][1] == "Bearer of a file"
        monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", "/nowhere")
        with pytest.raises(UsageError, match="KF_PIPELINES_SA_TOKEN_PATH is '/nowhere': No such file or directory"):
            runner.status("r-2")
    finally:
        server.stop()


def test_an_endpoint_that_is_no_address_is_told() -> None:
    with pytest.raises(UsageError, match="the endpoint is 'ftp://host'"):
        KubeflowRunner("ftp://host")
    with pytest.raises(UsageError, match=r"the endpoint of kfp.example.com names a user or a password") as caught:
        KubeflowRunner("https://ana:secret@kfp.example.com")
    assert "secret" not in str(caught.value)
    assert KubeflowRunner("kfp.example.com/").api.endpoint == "https://kfp.example.com"


def test_a_run_that_was_never_submitted_is_not_found(kubeflow: Kubeflow) -> None:
    with pytest.raises(NotFound, match="has no run r-1"):
        kubeflow.runner().log("r-1", "first")


# ---- messages -------------------------------------------------------------------------------------------------


def nested() -> dict[str, Any]:
    def task(component: str, **more: Any) -> dict[str, Any]:
        return {"componentRef": {"name": component}, **more}

    return {
        "root": {"dag": {"tasks": {"plan": task("c"), "for-loop-1": task("loop", parameterIterator={})}}},
        "components": {
            "c": {"executorLabel": "e"},
            "loop": {"dag": {"tasks": {"fit": task("c"), "condition-2": task("branch")}}},
            "branch": {"dag": {"tasks": {"deploy": task("c")}}},
        },
    }


def test_the_nodes_of_a_workflow_are_found_in_the_pipelines_nesting() -> None:
    details = [
        {"display_name": "fit", "state": "SUCCEEDED", "start_time": "2024-01-01T00:00:09Z"},
        {
            "display_name": "fit",
            "state": "FAILED",
            "start_time": "2024-01-01T00:00:05Z",
            "end_time": "2024-01-01T00:00:07Z",
            "error": {"message": "OOM"},
        },
        {"display_name": "fit-driver", "state": "SUCCEEDED"},
        {"display_name": "plan", "state": "SUCCEEDED"},
    ]
    run = {"state": "FAILED", "pipeline_spec": nested(), "run_details": {"task_details": details}}
    status = messages.status_of(run)
    assert {task.name: (task.state, task.seconds, task.error) for task in status.tasks} == {
        "plan": ("succeeded", 0.0, None),
        "for-loop-1/0/fit": ("failed", 2.0, "OOM"),
        "for-loop-1/1/fit": ("succeeded", 0.0, None),
        "for-loop-1/condition-2/deploy": ("skipped", 0.0, None),
    }
    assert status.error == "it failed in for-loop-1/0/fit"


@pytest.mark.parametrize(
    ("state", "history", "expected"),
    [
        ("PENDING", [], "pending"),
        ("RUNTIME_STATE_UNSPECIFIED", [], "pending"),
        ("CANCELING", [], "running"),
        ("FAILED", ["RUNNING", "CANCELING", "FAILED"], "cancelled"),
        ("CANCELED", [], "cancelled"),
        ("SUCCEEDED", [], "succeeded"),
    ],
)
def test_states(state: str, history: list[str], expected: str) -> None:
    run = {"state": state, "state_history": [{"state": one} for one in history]}
    assert messages.status_of(run).state == expected


def test_what_tfx_compiles_is_written_in_the_schema_that_the_server_takes(kubeflow: Kubeflow) -> None:
    document = conformance.document_of({"first": 'echo "said $0"'})
    document["schemaVersion"] = "2.0.0"
    document["root"]["inputDefinitions"] = {"parameters": {"word": {"type": "STRING"}}}
    document["components"]["comp-first"]["inputDefinitions"] = {"parameters": {"word": {"type": "STRING"}}}
    tasks = document["root"]["dag"]["tasks"]
    tasks["first"]["inputs"] = {"parameters": {"word": {"runtimeValue": {"runtimeParameter": "word"}}}}
    asked = RemoteJob(run="tfx-1", model="m", document=document, parameters={"word": "x"}, root="/tmp/root", labels={})
    assert messages.spec_of(document)["root"]["inputDefinitions"]["parameters"]["word"] == {"parameterType": "STRING"}
    runner = kubeflow.runner()
    runner.submit(asked)
    assert conformance.until_ended(runner, "tfx-1").state == "succeeded"
    assert "said x" in runner.log("tfx-1", "first")


@pytest.mark.parametrize(
    ("cron", "timezone", "expected"),
    [
        ("0 3 * * *", "UTC", "0 0 3 * * *"),
        ("*/15 8-10 * * MON-FRI", "UTC", "0 */15 8-10 * * MON-FRI"),
        ("0 22 * * *", "America/Sao_Paulo", "0 0 1 * * *"),
        ("0 22 * * 1-5", "America/Sao_Paulo", "0 0 1 * * 2,3,4,5,6"),
        ("15 9 1 * *", "Asia/Kolkata", "0 45 3 1 * *"),
        ("* * * * *", "America/Sao_Paulo", "0 * * * * *"),
    ],
)
def test_a_schedule_is_moved_to_utc(cron: str, timezone: str, expected: str) -> None:
    assert in_utc(cron, timezone) == expected


@pytest.mark.parametrize(
    ("cron", "timezone", "words"),
    [
        ("0 3 * * *", "Europe/Berlin", "Kubeflow keeps time in UTC, and the clocks of Europe/Berlin are changed"),
        ("0 22 1 * *", "America/Sao_Paulo", "is no schedule in UTC, which is what Kubeflow keeps"),
        ("0 20-23 * * 1", "America/Sao_Paulo", "is no schedule in UTC, which is what Kubeflow keeps"),
        ("0 3 * *", "UTC", r"the schedule is '0 3 \* \*' in UTC: expected 5 fields, received 4"),
        ("0 3 * * *", "Mars/Base", "unknown time zone 'Mars/Base'"),
    ],
)
def test_a_schedule_that_cannot_be_kept_in_utc_is_told(cron: str, timezone: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        in_utc(cron, timezone)


def test_many_at_once_share_a_server(kubeflow: Kubeflow) -> None:
    asked = [job(run=f"r-{uuid.uuid4().hex[:8]}") for _ in range(4)]
    threads = [threading.Thread(target=lambda one=one: kubeflow.runner().submit(one)) for one in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [conformance.until_ended(kubeflow.runner(), one.run).state for one in asked] == ["succeeded"] * 4
