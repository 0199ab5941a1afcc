"""The prediction log where BigQuery holds it: the table that Vertex AI, or a server's topic, writes its requests to.

What is new in the table is brought to a log of this machine and read there: windows, late rows and labels need numbers
in the order of arrival, which no table of Google's has. Rows may land late and out of order, so each look goes back a
while, and the numbers of the requests that were brought since are remembered: none is brought twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from trilho.backends.gcp.cloud import Cloud, needed_extra
from trilho.core.database import Database
from trilho.core.ports import Columns, Gathered, Labelled, PredictionLog
from trilho.core.readings import LabelStatus
from trilho.errors import ConfigError

REQUESTS = (
    ("endpoint", "STRING", "NULLABLE"),
    ("deployed_model_id", "STRING", "NULLABLE"),
    ("logging_time", "TIMESTAMP", "NULLABLE"),
    ("request_id", "NUMERIC", "NULLABLE"),
    ("request_payload", "STRING", "REPEATED"),
    ("response_payload", "STRING", "REPEATED"),
)
"""The columns of Vertex AI's request-response log."""
BACK = timedelta(minutes=30)
PAGE_ROWS = 1000
STATE = """
CREATE TABLE IF NOT EXISTS seen (request TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_by_time ON seen (at);
CREATE TABLE IF NOT EXISTS until (one INTEGER PRIMARY KEY CHECK (one = 1), at REAL NOT NULL)
"""
Row = Mapping[str, Any]
Take = Callable[[Sequence[Row]], None]


class GcpPredictionLog:
    """The PredictionLog port on a table of BigQuery, read through a log of this machine.

    `take` turns rows into lines of the near log and has them on the disk when it returns; a crash right after it brings
    them once more, which the near log knows by their ids.
    """

    def __init__(
        self, cloud: Cloud, table: str, *, near: PredictionLog, take: Take, folder: Path, endpoint: str | None = None
    ) -> None:
        """`table` is PROJECT.DATASET.TABLE; `endpoint` picks one of several endpoints that share it."""
        parts = table.split(".")
        if len(parts) != 3 or not all(parts) or "`" in table:
            raise ConfigError(f"the log's table is {table!r}", hint="PROJECT.DATASET.TABLE is wanted")
        self.cloud, self.table = cloud, table
        self.near, self._take, self._endpoint = near, take, endpoint
        self._state = Database(folder / "bigquery.sqlite", STATE, what="the memory of what BigQuery gave")

    @cached_property
    def client(self) -> Any:
        """The client of BigQuery; BIGQUERY_EMULATOR_HOST points it elsewhere."""
        with needed_extra():
            from google.cloud.bigquery import Client
        return Client(project=self.cloud.project, credentials=self.cloud.credentials)

    def make_table(self, retention: timedelta | None = None) -> None:
        """Make the table where it is absent, by days of logging time; partitions older than `retention` go."""
        with needed_extra():
            from google.cloud import bigquery

        table = bigquery.Table(self.table, schema=[bigquery.SchemaField(*column) for column in REQUESTS])
        kept = int(retention.total_seconds() * 1000) if retention else None
        table.time_partitioning = bigquery.TimePartitioning(field="logging_time", expiration_ms=kept)
        self.cloud.call(f"making {self.table}", lambda: self.client.create_table(table, exists_ok=True))

    def seal(self) -> int:
        """Bring what is new in the table, and move it into the near log; give how many lines were moved."""
        for page in self._pages():
            fresh = self._fresh(page)
            if fresh:
                self._take(fresh)
            self._remember(page)
        return self.near.seal()

    def _pages(self) -> Iterator[list[Row]]:
        found = self._state.read("SELECT at FROM until")
        since = datetime.fromtimestamp(found[0][0], UTC) - BACK if found else datetime(1970, 1, 1, tzinfo=UTC)
        rows = self.cloud.call(f"reading {self.table}", lambda: self._query(since))
        page: list[Row] = []
        for row in rows:
            page.append(dict(row.items()))
            if len(page) == PAGE_ROWS:
                yield page
                page = []
        if page:
            yield page

    def _query(self, since: datetime) -> Any:
        with needed_extra():
            from google.cloud import bigquery

        parameters = [bigquery.ScalarQueryParameter("since", "TIMESTAMP", since)]
        where = "logging_time >= @since"
        if self._endpoint is not None:
            where += " AND endpoint = @endpoint"
            parameters.append(bigquery.ScalarQueryParameter("endpoint", "STRING", self._endpoint))
        query = f"SELECT {', '.join(name for name, _, _ in REQUESTS)} FROM `{self.table}` WHERE {where}"  # noqa: S608
        config = bigquery.QueryJobConfig(query_parameters=parameters)
        job = self.client.query(f"{query} ORDER BY logging_time, request_id", job_config=config)
        return job.result(page_size=PAGE_ROWS)

    def _fresh(self, page: Sequence[Row]) -> list[Row]:
        """Give the rows that were not brought before; a subscription may write one twice, in one page too."""
        marks = ",".join("?" * len(page))
        names = tuple(map(_request, page))
        query = f"SELECT request FROM seen WHERE request IN ({marks})"  # noqa: S608
        seen = {request for (request,) in self._state.read(query, names)}
        fresh = []
        for name, row in zip(names, page, strict=True):
            if name not in seen:
                seen.add(name)
                fresh.append(row)
        return fresh

    def _remember(self, page: Sequence[Row]) -> None:
        times = [row["logging_time"].timestamp() for row in page]
        with self._state.write() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO seen VALUES (?, ?)", list(zip(map(_request, page), times, strict=True))
            )
            connection.execute(
                "INSERT INTO until VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET at = max(at, excluded.at)",
                (min(max(times), datetime.now(UTC).timestamp()),),
            )
            connection.execute("DELETE FROM seen WHERE at < (SELECT at FROM until) - ?", (2 * BACK.total_seconds(),))

    # ---- the near log's answers ------------------------------------------------------------------------------------

    def extent(self) -> tuple[datetime, datetime] | None:
        """Give the event times of the oldest and the newest served row."""
        return self.near.extent()

    def rows(self, start: datetime, end: datetime) -> Columns:
        """Give the rows with start <= event time < end, as a log of this machine does."""
        return self.near.rows(start, end)

    def gather(
        self,
        start: datetime,
        end: datetime,
        begin: Callable[[], Gathered],
        *,
        after: int = 0,
        fields: Collection[str] | None = None,
    ) -> Gathered:
        """Show rows to what adds them up, some at a time, as a log of this machine does."""
        return self.near.gather(start, end, begin, after=after, fields=fields)

    def newest(self) -> int:
        """Give the number of the row that arrived last; 0 without any."""
        return self.near.newest()

    def late(self, after: int, before: datetime) -> Columns:
        """Give the rows that arrived after a row, of an event time before a moment."""
        return self.near.late(after, before)

    def labelled(self, after: int, most: int | None = None) -> Labelled:
        """Give the predictions that were labelled after a cursor (0 at first)."""
        return self.near.labelled(after, most)

    def corrected(self, after: int) -> Labelled:
        """Give the predictions that got another label than they had, after a cursor of its own."""
        return self.near.corrected(after)

    def labels(self) -> LabelStatus:
        """Say how far labels have arrived."""
        return self.near.labels()


def _request(row: Row) -> str:
    """Name a request: Vertex numbers them for each endpoint."""
    return f"{row.get('endpoint') or ''} {row.get('deployed_model_id') or ''} {row['request_id']} {row['logging_time']}"
