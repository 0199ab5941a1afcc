"""The methods of BigQuery's REST API v2, as google-cloud-bigquery calls them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trilho.testing.emulator.bigquery.answers import Answers
from trilho.testing.emulator.bigquery.inserts import Inserts
from trilho.testing.emulator.bigquery.jobs import Jobs
from trilho.testing.emulator.bigquery.loads import Loads
from trilho.testing.emulator.bigquery.naming import DatasetName, TableName
from trilho.testing.emulator.bigquery.queries import Queries
from trilho.testing.emulator.bigquery.resources import listed
from trilho.testing.emulator.bigquery.tables import DatasetMethods, TableMethods
from trilho.testing.emulator.bigquery.warehouse import Warehouse
from trilho.testing.emulator.drafts import Draft, Drafts
from trilho.testing.emulator.http import Handler, Json, Reply, Request, Route
from trilho.testing.emulator.rules import Rules
from trilho.testing.emulator.storage.objects import Objects
from trilho.testing.emulator.uploads import Uploads

PROJECT = "/bigquery/v2/projects/{project}"
UPLOADS = ("/upload" + PROJECT + "/jobs", "/resumable/upload" + PROJECT + "/jobs")


class BigQueryService:
    """BigQuery over the file ROOT/bigquery/warehouse.duckdb."""

    def __init__(self, root: Path, rules: Rules, objects: Objects, *, project: str, location: str) -> None:
        folder = root / "bigquery"
        self.warehouse = Warehouse(folder / "warehouse.duckdb", project=project, location=location)
        self._answers, self._inserts = Answers(self.warehouse), Inserts(self.warehouse)
        email = f"emulator@{project}.iam.gserviceaccount.com"
        queries = Queries(self.warehouse, rules)
        self._jobs = Jobs(self.warehouse, queries, Loads(self.warehouse, objects), email)
        self._uploads = Uploads(Drafts(folder / "drafts"), self._finish)
        self.routes = [*self._job_routes(), *self._data_routes()]
        self.routes += [self._locked(route) for route in (
            *DatasetMethods(self.warehouse).routes(), *TableMethods(self.warehouse).routes()
        )]  # fmt: skip

    def close(self) -> None:
        """Close the file."""
        self.warehouse.close()

    def _job_routes(self) -> list[Route]:
        jobs, queries = PROJECT + "/jobs", PROJECT + "/queries"
        uploads = [Route("POST", path, "bigquery.jobs.create", self._uploads.start) for path in UPLOADS]
        uploads += [Route("PUT", path, "", self._uploads.go_on) for path in UPLOADS]
        own = [
            Route("POST", jobs, "bigquery.jobs.create", lambda at: self._jobs.insert(at.values["project"], at.json())),
            Route("GET", jobs, "bigquery.jobs.list", self._list_jobs),
            Route("GET", jobs + "/{job}", "bigquery.jobs.get", lambda at: self._jobs.get(*_job(at))),
            Route("POST", jobs + "/{job}/cancel", "bigquery.jobs.update", self._cancel),
            Route("DELETE", jobs + "/{job}/delete", "bigquery.jobs.delete", lambda at: self._jobs.delete(*_job(at))),
            Route("POST", queries, "bigquery.jobs.create", self._query),
            Route("GET", queries + "/{job}", "bigquery.jobs.get", self._results),
            Route("GET", PROJECT + "/serviceAccount", "", _account),
            Route("GET", "/bigquery/v2/projects", "", self._projects),
        ]
        return uploads + [self._locked(route) for route in own]

    def _data_routes(self) -> list[Route]:
        table = PROJECT + "/datasets/{dataset}/tables/{table}"
        return [
            self._locked(Route("POST", table + "/insertAll", "bigquery.tables.updateData", self._insert)),
            self._locked(Route("GET", table + "/data", "bigquery.tables.getData", self._data)),
        ]

    def _locked(self, route: Route) -> Route:
        return Route(route.method, route.pattern, route.permission, self._locking(route.handler))

    def _locking(self, handler: Handler) -> Callable[[Request], Any]:
        def answer(request: Request) -> Any:
            with self.warehouse.lock:
                return handler(request)

        return answer

    # Jobs

    def _finish(self, request: Request, draft: Draft, document: dict[str, Any]) -> Json:
        try:
            with self.warehouse.lock:
                return self._jobs.insert(request.values["project"], document, draft.path)
        finally:
            for path in (draft.path, draft.path.with_name(f"{draft.path.name}.gz")):
                path.unlink(missing_ok=True)

    def _list_jobs(self, request: Request) -> Json:
        found = self._jobs.all(request.values["project"])
        states = {state.lower() for state in request.query.get("stateFilter", ())}
        shown = [] if states and "done" not in states else found
        least, most = request.first("minCreationTime"), request.first("maxCreationTime")
        shown = [
            job | {"state": "DONE"} for job in shown
            if int(least or 0) <= int(job["statistics"]["creationTime"]) <= int(most or 1 << 62)
        ]  # fmt: skip
        return listed("bigquery#jobList", "jobs", shown, request)

    def _cancel(self, request: Request) -> Json:
        return {"kind": "bigquery#jobCancelResponse", "job": self._jobs.get(*_job(request))}

    def _query(self, request: Request) -> Json:
        given = request.json()
        job = self._jobs.query(request.values["project"], given)
        if given.get("dryRun"):
            statistics = job["statistics"]
            return {"kind": "bigquery#queryResponse", "jobReference": job["jobReference"], "jobComplete": True,
                    "schema": statistics["query"]["schema"], "cacheHit": False,
                    "totalBytesProcessed": statistics["totalBytesProcessed"]}  # fmt: skip
        size = given.get("maxResults")
        micros = bool((given.get("formatOptions") or {}).get("useInt64Timestamp"))
        answer = self._answers.results(job, "", -1 if size is None else int(size), micros=micros)
        return {"kind": "bigquery#queryResponse", "queryId": job["jobReference"]["jobId"], **answer}

    def _results(self, request: Request) -> Json:
        job = self._jobs.get(*_job(request))
        self._jobs.raise_for(job)
        if "query" not in job["configuration"]:
            return {
                "kind": "bigquery#getQueryResultsResponse",
                "jobReference": job["jobReference"],
                "jobComplete": True,
            }
        micros = request.flag("formatOptions.useInt64Timestamp")
        token = request.first("pageToken") or request.first("startIndex")
        answer = self._answers.results(job, token, request.number("maxResults", -1), micros=micros)
        return {"kind": "bigquery#getQueryResultsResponse", **answer}

    def _projects(self, request: Request) -> Json:
        name = self.warehouse.project
        one = {"kind": "bigquery#project", "id": name, "projectReference": {"projectId": name}, "friendlyName": name,
               "numericId": "1"}  # fmt: skip
        return listed("bigquery#projectList", "projects", [one], request)

    # Rows

    def _insert(self, request: Request) -> Json:
        return self._inserts.insert(table_of(request), request.json())

    def _data(self, request: Request) -> Json | Reply:
        return self._answers.table(table_of(request), request)


def table_of(request: Request) -> TableName:
    """Give the table that a path names."""
    return TableName(DatasetName(request.values["project"], request.values["dataset"]), request.values["table"])


def _job(request: Request) -> tuple[str, str]:
    return request.values["project"], request.values["job"]


def _account(request: Request) -> Json:
    return {"kind": "bigquery#getServiceAccountResponse", "email": f"bq-{request.values['project']}@emulated.local"}
