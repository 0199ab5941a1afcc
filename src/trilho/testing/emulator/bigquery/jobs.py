"""Jobs: what was asked for, how it ended, and where its rows are. A job is done when its insertion is answered."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trilho.testing.emulator.bigquery.loads import Loads
from trilho.testing.emulator.bigquery.naming import invalid
from trilho.testing.emulator.bigquery.queries import Outcome, Queries
from trilho.testing.emulator.bigquery.warehouse import Warehouse, now_millis
from trilho.testing.emulator.http import ApiError, Json

KINDS = ("query", "load", "copy", "extract")
ID = re.compile(r"[\w-]{1,1024}", re.ASCII)


class Jobs:
    """Run jobs and remember them."""

    def __init__(self, warehouse: Warehouse, queries: Queries, loads: Loads, email: str) -> None:
        self._warehouse, self._queries, self._loads, self._email = warehouse, queries, loads, email

    def insert(self, project: str, given: Json, upload: Path | None = None) -> Json:
        """Run a job. Its own mistakes are in its status; those of a dry run are raised, as the real one does."""
        config = given.get("configuration") or {}
        kind = next((name for name in KINDS if name in config), "")
        if not kind:
            raise invalid("Job configuration must contain exactly one job-specific configuration object", "required")
        if config.get("dryRun"):
            if kind != "query":
                raise invalid("trilho emulate does dry runs of queries only")
            return self._dry_run(project, config)
        reference = given.get("jobReference") or {}
        id_ = str(reference.get("jobId") or f"job_{uuid.uuid4().hex}")
        if not ID.fullmatch(id_):
            raise invalid(f'Invalid job ID "{id_}"')
        if self._find(project, id_) is not None:
            where = reference.get("location") or self._warehouse.location
            raise ApiError(409, f"Already Exists: Job {project}:{where}.{id_}", reason="duplicate")
        return self._keep(project, self._run(project, id_, kind, config, upload))

    def query(self, project: str, given: Json) -> Json:
        """Run a query at once, as jobs.query; mistakes are raised."""
        own = ("query", "defaultDataset", "useLegacySql", "parameterMode", "queryParameters", "maximumBytesBilled")
        config: Json = {"query": {key: given[key] for key in own if key in given}}
        if given.get("dryRun"):
            return self._dry_run(project, config)
        job = self.insert(project, {"configuration": config | {"labels": given.get("labels") or {}}})
        self.raise_for(job)
        return job

    def get(self, project: str, id_: str) -> Json:
        """Give a job; 404 where there is none."""
        found = self._find(project, id_)
        if found is None:
            raise ApiError(404, f"Not found: Job {project}:{id_}", reason="notFound")
        return found

    def all(self, project: str) -> list[Json]:
        """Give a project's jobs, newest first."""
        chosen = "SELECT document FROM trilho_catalog.jobs WHERE project = ? ORDER BY created DESC, rowid DESC"
        return [json.loads(row[0]) for row in self._warehouse.rows(chosen, project)]

    def delete(self, project: str, id_: str) -> None:
        """Forget a job."""
        self.get(project, id_)
        self._warehouse.run("DELETE FROM trilho_catalog.jobs WHERE project = ? AND id = ?", project, id_)

    def raise_for(self, job: Json) -> None:
        """Raise what a job failed with."""
        error = job["status"].get("errorResult")
        if error:
            raise ApiError(CODES.get(error["reason"], 400), error["message"], reason=error["reason"])

    def _run(self, project: str, id_: str, kind: str, config: Json, upload: Path | None) -> Json:
        job = self._new(project, id_, kind, config)
        try:
            WORK[kind](self, project, id_, job, upload)
        except ApiError as error:
            detail = {"reason": error.reason, "message": error.message, **error.more}
            job["status"] |= {"errorResult": detail, "errors": [detail]}
            self._warehouse.end_transaction()
        job["statistics"]["endTime"] = now_millis()
        return job

    def _new(self, project: str, id_: str, kind: str, config: Json) -> Json:
        location, at = self._warehouse.location, now_millis()
        return {
            "kind": "bigquery#job", "id": f"{project}:{location}.{id_}", "etag": uuid.uuid4().hex,
            "jobReference": {"projectId": project, "jobId": id_, "location": location}, "user_email": self._email,
            "configuration": config | {"jobType": kind.upper()}, "status": {"state": "DONE"},
            "statistics": {"creationTime": at, "startTime": at},
        }  # fmt: skip

    def _query(self, project: str, id_: str, job: Json, upload: Path | None) -> None:
        del upload
        config = job["configuration"]["query"]
        outcome = self._queries.run(config, project, id_)
        _note(job, outcome)
        if outcome.destination:
            config["destinationTable"] = outcome.destination.reference

    def _load(self, project: str, id_: str, job: Json, upload: Path | None) -> None:
        del id_
        job["statistics"]["load"] = self._loads.load(job["configuration"]["load"], project, upload)

    def _copy(self, project: str, id_: str, job: Json, upload: Path | None) -> None:
        del id_, upload
        job["statistics"]["copy"] = self._loads.copy(job["configuration"]["copy"], project)

    def _extract(self, project: str, id_: str, job: Json, upload: Path | None) -> None:
        del id_, upload
        job["statistics"]["extract"] = self._loads.extract(job["configuration"]["extract"], project)

    def _dry_run(self, project: str, config: Json) -> Json:
        outcome = self._queries.run(config["query"], project, "", dry=True)
        job = self._new(project, "", "query", config | {"dryRun": True})
        del job["id"], job["jobReference"]["jobId"]
        _note(job, outcome)
        job["statistics"]["query"]["schema"] = {"fields": outcome.fields}
        return job

    def _find(self, project: str, id_: str) -> Json | None:
        chosen = "SELECT document FROM trilho_catalog.jobs WHERE project = ? AND id = ?"
        found = self._warehouse.rows(chosen, project, id_)
        return json.loads(found[0][0]) if found else None

    def _keep(self, project: str, job: Json) -> Json:
        values: tuple[Any, ...] = (project, job["jobReference"]["jobId"], int(job["statistics"]["creationTime"]))
        self._warehouse.run("INSERT INTO trilho_catalog.jobs VALUES (?, ?, ?, ?)", *values, json.dumps(job))
        return job


CODES = {
    "notFound": 404, "duplicate": 409, "accessDenied": 403, "backendError": 500, "internalError": 500,
    "rateLimitExceeded": 429, "notImplemented": 501,
}  # fmt: skip
WORK: dict[str, Callable[[Jobs, str, str, Json, Path | None], None]] = {
    "query": Jobs._query, "load": Jobs._load, "copy": Jobs._copy, "extract": Jobs._extract,
}  # fmt: skip


def _note(job: Json, outcome: Outcome) -> None:
    job["statistics"] |= {"totalBytesProcessed": str(outcome.bytes_processed), "query": outcome.statistics}
