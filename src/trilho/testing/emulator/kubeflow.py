"""A Kubeflow Pipelines server on this machine: runs that really run, recurring runs that are kept and never due.

It answers the v2beta1 API as the real server does, field by field: what it does not know it refuses, a workflow's nodes
are listed without nesting and with their drivers, a run that is terminated ends as failed after CANCELING.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trilho.core.ports import ArtifactStore
from trilho.errors import TrilhoError
from trilho.pipeline.execution.execute import Job, RunResult, Stopped, TaskEvent, execute
from trilho.pipeline.ir import reader as ir
from trilho.pipeline.places import Places
from trilho.testing.emulator.http import Handler, Reply, Request, Route
from trilho.testing.emulator.rules import Refusal, Rules

Json = dict[str, Any]
Execute = Callable[[Json, threading.Event, Callable[[TaskEvent], None]], RunResult]

API = "/apis/v2beta1"
STOP_SECONDS = 60.0
USER, NAMESPACE = "user@example.com", "kubeflow"
STATES = {"running": "RUNNING", "retrying": "RUNNING", "ran": "SUCCEEDED", "cached": "SUCCEEDED", "skipped": "SKIPPED",
          "failed": "FAILED"}  # fmt: skip
COMMON = {"display_name", "description", "pipeline_spec", "pipeline_version_reference", "runtime_config",
          "service_account", "experiment_id"}  # fmt: skip
RUN_FIELDS = COMMON | {"run_id", "recurring_run_id", "storage_state"}
SCHEDULE_FIELDS = COMMON | {"trigger", "mode", "max_concurrency", "no_catchup", "namespace"}
HTTP_CODES = {"INVALID_ARGUMENT": 400, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404,
              "RESOURCE_EXHAUSTED": 429, "INTERNAL": 500, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504}  # fmt: skip


def executor(folder: Path, store: ArtifactStore, places: Places) -> Execute:
    """Give what runs a run's pipeline on this machine: the executor, with each step as its own command."""

    def perform(run: Json, stop: threading.Event, observe: Callable[[TaskEvent], None]) -> RunResult:
        config = run.get("runtime_config") or {}
        return execute(
            ir.read(run["pipeline_spec"]),
            config.get("parameters") or {},
            run_id=run["run_id"],
            home=folder,
            store=store,
            places=places,
            stop=stop,
            observe=observe,
            job=Job(name=run["display_name"], root=config.get("pipeline_root") or "", uuid=run["run_id"]),
        )

    return perform


@dataclass
class _Run:
    """A run, and what its server keeps beside it."""

    resource: Json
    stop: threading.Event = field(default_factory=threading.Event)
    nodes: dict[str, Json] = field(default_factory=dict)
    logs: dict[str, Path] = field(default_factory=dict)
    thread: threading.Thread | None = None


class KubeflowService:
    """The routes of a server with a single user."""

    def __init__(self, perform: Execute, rules: Rules | None = None) -> None:
        self._perform, self._rules = perform, rules or Rules()
        self._runs: dict[str, _Run] = {}
        self._schedules: dict[str, Json] = {}
        self._lock = threading.RLock()

    @property
    def routes(self) -> list[Route]:
        """Every method, for a router to serve."""
        runs, schedules = f"{API}/runs", f"{API}/recurringruns"
        return [
            self._route("GET", f"{API}/healthz", "", lambda _request: {}),
            self._route("POST", runs, "runs.create", self._create_run),
            self._route("GET", runs, "runs.list", self._list_runs),
            self._route("GET", f"{runs}/{{id}}", "runs.get", lambda request: self._shown(self._run(request))),
            self._route("POST", f"{runs}/{{id}}:terminate", "runs.terminate", self._terminate),
            self._route("GET", "/apis/v1alpha1/runs/{id}/nodes/{node}/log", "runs.readLog", self._log),
            self._route("POST", schedules, "jobs.create", self._create_schedule),
            self._route("GET", schedules, "jobs.list", self._list_schedules),
            self._route("GET", f"{schedules}/{{id}}", "jobs.get", self._schedule),
            self._route("DELETE", f"{schedules}/{{id}}", "jobs.delete", self._delete_schedule),
            self._route("POST", f"{schedules}/{{id}}:enable", "jobs.enable", self._enable),
            self._route("POST", f"{schedules}/{{id}}:disable", "jobs.disable", self._disable),
        ]

    def close(self) -> None:
        """Stop what is running, and wait until it has ended."""
        runs = list(self._runs.values())
        for run in runs:
            run.stop.set()
        for run in runs:
            if run.thread is not None:
                run.thread.join(STOP_SECONDS)

    def _route(self, method: str, pattern: str, verb: str, handler: Handler) -> Route:
        def answer(request: Request) -> Reply | Mapping[str, Any] | None:
            try:
                if verb:
                    self._rules.enter(f"kubeflow.{verb}", "/".join(request.values.values()))
                return handler(request)
            except Refusal as refusal:
                return _refused(refusal, verb)

        return Route(method, pattern, "", answer)

    # ---- runs --------------------------------------------------------------------------------------------------

    def _create_run(self, request: Request) -> Json:
        given = _known(request.json(), RUN_FIELDS)
        spec = _sound(given)
        now = _now()
        resource = {
            **given,
            "pipeline_spec": spec,
            "run_id": str(uuid.uuid4()),
            "experiment_id": given.get("experiment_id") or str(uuid.UUID(int=1)),
            "storage_state": "AVAILABLE",
            "state": "PENDING",
            "created_at": now,
            "scheduled_at": now,
            "finished_at": "1970-01-01T00:00:00Z",
            "state_history": [{"update_time": now, "state": "PENDING"}],
        }
        run = _Run(resource)
        with self._lock:
            self._runs[resource["run_id"]] = run
        run.thread = threading.Thread(target=self._go, args=(run,), daemon=True, name=f"kfp {given['display_name']}")
        run.thread.start()
        return self._shown(run)

    def _go(self, run: _Run) -> None:
        self._set_state(run, "RUNNING")
        problem: str | None = None
        try:
            result = self._perform(run.resource, run.stop, lambda event: self._tell(run, event))
            problem = None if result.state == "succeeded" else str(result.error or "some tasks failed")
        except Stopped:
            problem = "workflow shutdown with strategy: Terminate"
        except TrilhoError as error:
            problem = error.fact
        except Exception as error:  # noqa: BLE001  a run that nobody ends would be waited for for ever
            problem = f"{type(error).__name__}: {error}"
        with self._lock:
            run.resource["finished_at"] = _now()
            if problem is not None:
                run.resource["error"] = {"code": 2, "message": problem, "details": []}
            self._set_state(run, "SUCCEEDED" if problem is None else "FAILED")

    def _set_state(self, run: _Run, state: str) -> None:
        with self._lock:
            if state == "RUNNING" and run.resource["state"] == "CANCELING":
                return
            run.resource["state"] = state
            run.resource["state_history"].append({"update_time": _now(), "state": state})

    def _tell(self, run: _Run, event: TaskEvent) -> None:
        """Keep a task as the nodes of a workflow: its driver, itself, and its container below it."""
        if event.kind not in ("container", "importer"):
            return
        key, now = event.name.rpartition("/")[2], _now()
        with self._lock:
            number = run.nodes.get(event.name, {}).get("number") or 1000 + len(run.nodes)
            begun = run.nodes.get(event.name, {}).get("start_time") or now
            child = f"{run.resource['display_name']}-{number}"
            node: Json = {"number": number, "display_name": key, "state": STATES[event.state], "start_time": begun}
            node |= {"child_tasks": [{"pod_name": child}], "end_time": now if event.state != "running" else None}
            run.nodes[event.name] = node
            if event.log is not None:
                run.logs[child] = event.log

    def _nodes(self, run: _Run) -> Iterator[Json]:
        base = {"run_id": run.resource["run_id"], "create_time": run.resource["created_at"]}
        yield {**base, "task_id": "root", "display_name": run.resource["display_name"], "state": run.resource["state"]}
        for node in run.nodes.values():
            shown = {key: value for key, value in node.items() if key != "number" and value is not None}
            driver = {"display_name": f"{node['display_name']}-driver", "state": "SUCCEEDED"}
            inner = {"display_name": "executor", "state": node["state"]}
            for index, one in enumerate((driver, shown, inner)):
                yield {**base, "task_id": f"{node['number']}-{index}", **one}

    def _shown(self, run: _Run) -> Json:
        with self._lock:
            details = {"task_details": list(self._nodes(run))}
            return json.loads(json.dumps({**run.resource, "run_details": details}))  # type: ignore[no-any-return]

    def _run(self, request: Request) -> _Run:
        found = self._runs.get(request.values["id"])
        if found is None:
            raise Refusal(
                "NOT_FOUND", f"Failed to get a run: ResourceNotFoundError: Run {request.values['id']} not found."
            )
        return found

    def _list_runs(self, request: Request) -> Json:
        return _page(request, "runs", [self._shown(run) for run in self._runs.values()])

    def _terminate(self, request: Request) -> Json:
        run = self._run(request)
        with self._lock:
            if run.resource["state"] not in ("PENDING", "RUNNING"):
                name = run.resource["run_id"]
                raise Refusal("INVALID_ARGUMENT", f"Failed to terminate a run {name}. Row not found")
            self._set_state(run, "CANCELING")
        run.stop.set()
        return {}

    def _log(self, request: Request) -> Reply:
        path = self._run(request).logs.get(request.values["node"])
        if path is None or not path.exists():
            raise Refusal("INVALID_ARGUMENT", f"Failed to read logs for run {request.values['id']}")
        return Reply(path.read_bytes(), 200, {"Content-Type": "text/plain"})

    # ---- recurring runs ----------------------------------------------------------------------------------------

    def _create_schedule(self, request: Request) -> Json:
        given = _known(request.json(), SCHEDULE_FIELDS)
        _sound(given)
        cron = str(((given.get("trigger") or {}).get("cron_schedule") or {}).get("cron") or "")
        if len(cron.split()) != 6:
            raise Refusal("INVALID_ARGUMENT", f"Schedule cron is not a supported format: Expected 6 fields: {cron!r}")
        now, id_ = _now(), str(uuid.uuid4())
        status = "ENABLED" if given.get("mode") == "ENABLE" else "DISABLED"
        made = {**given, "recurring_run_id": id_, "created_at": now, "updated_at": now, "status": status}
        with self._lock:
            self._schedules[id_] = made
        return made

    def _list_schedules(self, request: Request) -> Json:
        return _page(request, "recurringRuns", list(self._schedules.values()))

    def _schedule(self, request: Request) -> Json:
        found = self._schedules.get(request.values["id"])
        if found is None:
            raise Refusal("NOT_FOUND", f"Failed to get a recurring run: Job {request.values['id']} not found.")
        return found

    def _delete_schedule(self, request: Request) -> Json:
        del self._schedules[self._schedule(request)["recurring_run_id"]]
        return {}

    def _enable(self, request: Request) -> Json:
        self._schedule(request)["status"] = "ENABLED"
        return {}

    def _disable(self, request: Request) -> Json:
        self._schedule(request)["status"] = "DISABLED"
        return {}


def _known(given: Json, fields: set[str]) -> Json:
    """Refuse what the API has no field for, as the real server's JSON reader does."""
    unknown = sorted(set(given) - fields)
    if unknown:
        raise Refusal("INVALID_ARGUMENT", f'proto: (line 1:2): unknown field "{unknown[0]}"')
    if not given.get("display_name"):
        raise Refusal("INVALID_ARGUMENT", "Failed to create a run due to conversion error: display name is empty")
    return given


def _sound(given: Json) -> Json:
    """Refuse a pipeline that the real server refuses."""
    spec: Json = given.get("pipeline_spec") or {}
    spec = spec.get("pipeline_spec") or spec
    version = spec.get("schemaVersion")
    if version != "2.1.0":
        said = f"KFP only supports schema version 2.1.0, but the pipeline spec has version {version}"
        raise Refusal("INVALID_ARGUMENT", f"Invalid pipeline spec: {said}")
    if not (spec.get("pipelineInfo") or {}).get("name") or not spec.get("root"):
        raise Refusal("INVALID_ARGUMENT", "Invalid pipeline spec: name or root is empty")
    return spec


def _page(request: Request, key: str, found: list[Json]) -> Json:
    """Give one page of a list, filtered by names as the API allows."""
    text = request.first("filter")
    for predicate in json.loads(text).get("predicates", ()) if text else ():
        name = {"name": "display_name"}.get(predicate["key"], predicate["key"])
        if predicate["operation"] != "EQUALS":
            raise Refusal("INVALID_ARGUMENT", f"this server filters by EQUALS only, received {predicate['operation']}")
        found = [one for one in found if one.get(name) == predicate.get("string_value")]
    start = request.number("page_token", 0)
    size = request.number("page_size", 0) or 10
    more = str(start + size) if start + size < len(found) else ""
    return {key: found[start : start + size], "total_size": len(found), "next_page_token": more}


def _refused(refusal: Refusal, verb: str) -> Reply:
    message = refusal.message
    if refusal.status == "PERMISSION_DENIED":
        resource, _, action = verb.partition(".")
        attributes = f"&ResourceAttributes{{Namespace:{NAMESPACE},Verb:{action},Group:pipelines.kubeflow.org,"
        attributes += f"Version:v1beta1,Resource:{resource},Subresource:,Name:,}}"
        message = f"Failed to authorize: User '{USER}' is not authorized with reason:  (request: {attributes})"
    body = json.dumps({"code": refusal.code, "message": message, "details": []}).encode()
    return Reply(body, HTTP_CODES.get(refusal.status, 500), {"Content-Type": "application/json"})


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
