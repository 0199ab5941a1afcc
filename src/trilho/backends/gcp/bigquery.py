"""BigQuery's jobs: each has an id before it is sent, so that a call that is repeated finds the job instead of a second.

The client's own retries are off: `Cloud.call` is the one place that tries again and that tells what went wrong.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trilho.backends.gcp.cloud import Cloud, needed_extra
from trilho.errors import TrilhoError, UsageError

SCHEME = "bigquery://"
PROJECT = r"(?:[a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"
NAME = re.compile(rf"(?:(?P<project>{PROJECT})\.)?(?P<dataset>\w{{1,1024}})\.(?P<table>[\w -]{{1,1000}})")
POLL_SECONDS = 600.0


@dataclass(frozen=True)
class TableName:
    """A table's full name.

    >>> TableName.parse("bigquery://shop-prod.crm.customers")
    TableName(project='shop-prod', dataset='crm', table='customers')
    >>> TableName.parse("bigquery://crm.customers", project="shop-prod").sql
    '`shop-prod.crm.customers`'
    """

    project: str
    dataset: str
    table: str

    @classmethod
    def parse(cls, address: str, project: str | None = None) -> TableName:
        """Read an address. Raises UsageError for one that is none, or that names no project where none is known."""
        found = NAME.fullmatch(address.removeprefix(SCHEME))
        if found is None:
            raise UsageError(f"{address} is no table; allowed: {SCHEME}PROJECT.DATASET.TABLE", hint="name all three")
        named = found["project"] or project
        if not named:
            raise UsageError(
                f"{address} names no project, and no environment does", hint=f"{SCHEME}PROJECT.DATASET.TABLE, or --env"
            )
        return cls(named, found["dataset"], found["table"])

    @property
    def sql(self) -> str:
        """The name as a query has it."""
        return f"`{self}`"

    def beside(self, suffix: str) -> TableName:
        """Give the name of a table that belongs to this one."""
        return TableName(self.project, self.dataset, f"{self.table}__{suffix}")

    def __str__(self) -> str:
        return f"{self.project}.{self.dataset}.{self.table}"


class BigQuery:
    """One project's BigQuery, as the jobs of `project` are charged to it."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    @cached_property
    def client(self) -> Any:
        """The client; BIGQUERY_EMULATOR_HOST points it elsewhere."""
        with needed_extra():
            from google.cloud.bigquery import Client
        return Client(project=self.cloud.project, credentials=self.cloud.credentials)

    def call(self, doing: str, make: Callable[[], Any]) -> Any:
        """Make a call; what does not exist is an error that says so."""
        with needed_extra():
            from google.api_core.exceptions import NotFound
            from google.cloud import bigquery  # noqa: F401

        def told() -> Any:
            try:
                return make()
            except NotFound as error:
                said = re.sub(r"^.*?(Not found: )", r"\1", error.message.splitlines()[0])
                raise UsageError(f"{doing}: {said}", hint=_missing(said, self.cloud)) from None

        return self.cloud.call(doing, told)

    def query(self, doing: str, sql: str, values: Mapping[str, Any] | None = None) -> Any:
        """Run a query to its end and give its job."""
        from google.cloud.bigquery import QueryJobConfig, ScalarQueryParameter

        given = [ScalarQueryParameter(key, _type(value), value) for key, value in (values or {}).items()]
        config = QueryJobConfig(query_parameters=given, labels={"trilho": "score"})
        name = _new_id()

        def start() -> Any:
            return self.client.query(sql, job_config=config, job_id=name, retry=None, job_retry=None)

        return self._finish(doing, name, start)

    def rows(self, doing: str, sql: str) -> list[tuple[Any, ...]]:
        """Give a query's rows: of a few, not of a table."""
        job = self.query(doing, sql)
        return [tuple(row.values()) for row in self.call(doing, lambda: list(job.result(retry=None)))]

    def bytes_of(self, doing: str, sql: str) -> int:
        """Give how much a query would read, without running it."""
        from google.cloud.bigquery import QueryJobConfig

        config = QueryJobConfig(dry_run=True, use_query_cache=False)
        job = self.call(doing, lambda: self.client.query(sql, job_config=config, retry=None, job_retry=None))
        return int(job.total_bytes_processed or 0)

    def load(self, doing: str, file: Path, to: str, settings: Mapping[str, Any]) -> None:
        """Load a Parquet file, all of it or nothing."""
        from google.cloud.bigquery import LoadJobConfig

        config = LoadJobConfig.from_api_repr({"load": {"sourceFormat": "PARQUET", **settings}})
        name = _new_id()

        def start() -> Any:
            with file.open("rb") as handle:
                return self.client.load_table_from_file(handle, to, job_config=config, job_id=name, num_retries=0)

        self._finish(doing, name, start)

    def extract(self, doing: str, source: Any, uri: str) -> None:
        """Write a table to Parquet files in a bucket."""
        from google.cloud.bigquery import ExtractJobConfig

        config = ExtractJobConfig(destination_format="PARQUET", compression="SNAPPY")  # type: ignore[no-untyped-call]
        name = _new_id()
        self._finish(
            doing, name, lambda: self.client.extract_table(source, uri, job_config=config, job_id=name, retry=None)
        )

    def table(self, name: TableName) -> Any | None:
        """Give a table's resource; None where there is no such table."""
        from google.api_core.exceptions import NotFound

        def get() -> Any:
            try:
                return self.client.get_table(str(name), retry=None)
            except NotFound as error:
                if "dataset" in error.message.lower().partition("not found")[2][:12]:
                    raise
                return None

        return self.call(f"looking at {name}", get)

    def _finish(self, doing: str, name: str, start: Callable[[], Any]) -> Any:
        """Send a job, or find the one that an earlier try has sent, and wait for its end."""
        from google.api_core.exceptions import Conflict

        def sent() -> Any:
            try:
                return start()
            except Conflict:
                return self.client.get_job(name, retry=None)

        job = self.call(doing, sent)

        def ended() -> Any:
            job.result(retry=None, timeout=POLL_SECONDS)
            return job

        return self.call(doing, ended)


def _new_id() -> str:
    return f"trilho_{uuid.uuid4().hex}"


def _type(value: Any) -> str:
    return {bool: "BOOL", int: "INT64", float: "FLOAT64"}.get(type(value), "STRING")


def _missing(said: str, cloud: Cloud) -> str:
    found = re.search(r"Dataset (?P<project>[\w.:-]+):(?P<dataset>\w+)", said)
    if found:
        return f"bq mk --location={cloud.region} --dataset {found['project']}:{found['dataset']}, or correct the name"
    return "correct the name of the table"


def require_plain(columns: Sequence[str]) -> None:
    """Refuse columns that BigQuery cannot have."""
    strange = [name for name in columns if not re.fullmatch(r"[^\W][\w &%=+:'<>#|-]*|_[\w &%=+:'<>#|-]*", name)]
    if strange:
        raise TrilhoError(
            f"the columns {', '.join(map(repr, strange[:5]))} cannot be columns of BigQuery",
            hint="rename them where the table is made: letters, digits, _ and spaces are allowed",
        )
