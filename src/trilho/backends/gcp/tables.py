"""A table of BigQuery as Parquet files of this machine.

One query reads it as it is at one moment, so that rows which come meanwhile are not half there. Its result crosses as
files through the environment's bucket; without a bucket page by page, which is slower. Neither holds more than a page
in memory.
"""

from __future__ import annotations

import base64
import json
import shutil
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from trilho.backends.gcp.bigquery import BigQuery, TableName
from trilho.backends.gcp.objects import SCHEME, GcsFiles
from trilho.core.warehouse import Span
from trilho.data.tables import database, name, text
from trilho.errors import DataError, UsageError

PAGE = 20_000
MOST_ROW_BYTES = 2**28
TIMES = ("TIMESTAMP", "DATETIME", "DATE", "STRING")
KINDS = {
    "INTEGER": "BIGINT", "INT64": "BIGINT", "FLOAT": "DOUBLE", "FLOAT64": "DOUBLE", "BOOLEAN": "BOOLEAN",
    "BOOL": "BOOLEAN", "STRING": "VARCHAR", "TIMESTAMP": "TIMESTAMPTZ", "DATETIME": "TIMESTAMP", "DATE": "DATE",
    "TIME": "TIME", "NUMERIC": "DECIMAL(38, 9)", "BIGNUMERIC": "DOUBLE", "BYTES": "BLOB",
}  # fmt: skip
Say = Callable[[str], None]


class BigQueryTables:
    """Reads tables; `bucket` is where results may cross, as gs://BUCKET/FOLDER."""

    def __init__(self, bigquery: BigQuery, bucket: str | None = None, say: Say = lambda _line: None) -> None:
        self._bigquery, self._bucket, self._say = bigquery, bucket, say

    def fetch(self, table: TableName, to: Path, time: str | None = None, span: Span | None = None) -> list[Path]:
        """Copy a table's rows, or those whose time lies in a span, to Parquet files of a folder that is new.

        Without a column of times the table's own partitions are taken. Raises UsageError for a table that has neither.
        """
        found = self._bigquery.table(table)
        if found is None:
            raise UsageError(f"--from {table}: there is no such table", hint="correct the name of the table")
        query = f"SELECT * FROM {table.sql}{self._where(found, table, time, span)}"  # noqa: S608
        self._say(f"Reads {_size(self._bigquery.bytes_of(f'planning to read {table}', query))} of {table}.")
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir(parents=True)
        job = self._bigquery.query(f"reading {table}", query)
        nested = [one.name for one in found.schema if one.mode == "REPEATED" or one.field_type in ("RECORD", "STRUCT")]
        if self._bucket and not nested:
            return self._through_bucket(job, to, table)
        return self._by_pages(job, to, table)

    def _where(self, found: Any, table: TableName, time: str | None, span: Span | None) -> str:
        if span is None:
            return ""
        kinds = {one.name: one.field_type for one in found.schema}
        partition = getattr(found, "time_partitioning", None)
        if time is not None and time in kinds:
            return f" WHERE {_between(f'`{time}`', kinds[time], span, table)}"
        if partition is None:
            raise UsageError(
                f"--from {table} has no column {time or 'of times'} and no partitions by time",
                hint="--whole scores all of its rows; {date} in the name is one table for each date",
            )
        column = f"`{partition.field}`" if partition.field else "_PARTITIONTIME"
        return f" WHERE {_between(column, kinds.get(partition.field or '', 'TIMESTAMP'), span, table)}"

    # ---- through a bucket ------------------------------------------------------------------------------------------

    def _through_bucket(self, job: Any, to: Path, table: TableName) -> list[Path]:
        folder = f"{self._bucket}/exchange/{uuid.uuid4().hex}"
        files = GcsFiles(self._bigquery.cloud)
        try:
            self._bigquery.extract(f"writing {table} to {folder}", job.destination, f"{folder}/part-*.parquet")
            listed = files.list(folder)
            for number, uri in enumerate(listed, 1):
                files.load_many({uri: to / uri.rpartition("/")[2]})
                self._say(f"  {number} of {len(listed)} files of {table}")
        finally:
            self._remove(files, folder)
        return sorted(to.glob("*.parquet"))

    def _remove(self, files: GcsFiles, folder: str) -> None:
        cloud = self._bigquery.cloud
        for uri in files.list(folder):
            bucket, _, blob = uri.removeprefix(SCHEME).partition("/")
            cloud.call(f"removing {uri}", lambda b=bucket, n=blob: cloud.storage.bucket(b).blob(n).delete(retry=None))  # type: ignore[misc]

    # ---- page by page ----------------------------------------------------------------------------------------------

    def _by_pages(self, job: Any, to: Path, table: TableName) -> list[Path]:
        from google.api_core.retry import Retry

        again = Retry(timeout=self._bigquery.cloud.patience.seconds)
        rows = self._bigquery.call(f"reading {table}", lambda: job.result(page_size=PAGE, retry=again))
        fields = [(one.name, _kind(one)) for one in rows.schema]
        files: list[Path] = []
        pages, done = iter(rows.pages), 0
        while (page := self._bigquery.call(f"reading {table}", lambda: next(pages, None))) is not None:
            lines = to / "page.jsonl"
            done += _write_lines(lines, page)
            files.append(_as_parquet(lines, to / f"page-{len(files):06d}.parquet", fields))
            if len(files) % 10 == 0:
                self._say(f"  {done:,} of {rows.total_rows:,} rows of {table}")
        if done != rows.total_rows:
            raise DataError(f"{table}: {done:,} of {rows.total_rows:,} rows came", hint="try again")
        return files or [_as_parquet(_empty(to / "page.jsonl"), to / "page-000000.parquet", fields)]


def _between(column: str, kind: str, span: Span, table: TableName) -> str:
    """Give the SQL that holds for a time of a span, so that partitions outside of it are not read.

    >>> from datetime import date as Date
    >>> span = Span(first=Date(2026, 1, 31), last=Date(2026, 1, 31), start=datetime(2026, 1, 31, 3),
    ...             end=datetime(2026, 2, 1, 3))
    >>> _between("`day`", "DATE", span, TableName("p", "d", "t"))
    "`day` BETWEEN DATE '2026-01-31' AND DATE '2026-01-31'"
    >>> _between("`at`", "TIMESTAMP", span, TableName("p", "d", "t"))
    "`at` >= TIMESTAMP '2026-01-31 03:00:00+00' AND `at` < TIMESTAMP '2026-02-01 03:00:00+00'"
    """
    if kind not in TIMES:
        raise UsageError(
            f"--from {table}: {column.strip('`')} is a {kind}; wanted a time or a date", hint="--whole scores all rows"
        )
    if kind == "DATE":
        return f"{column} BETWEEN DATE '{span.first}' AND DATE '{span.last}'"
    if kind == "DATETIME":
        return f"{column} >= DATETIME '{span.start}' AND {column} < DATETIME '{span.end}'"
    value = f"SAFE_CAST({column} AS TIMESTAMP)" if kind == "STRING" else column
    return f"{value} >= TIMESTAMP '{span.start}+00' AND {value} < TIMESTAMP '{span.end}+00'"


def _kind(field: Any) -> str:
    if field.mode == "REPEATED" or field.field_type not in KINDS:
        return "VARCHAR"  # as JSON
    return KINDS[field.field_type]


def _write_lines(file: Path, page: Any) -> int:
    count = 0
    with file.open("w", encoding="utf-8") as lines:
        for row in page:
            lines.write(json.dumps([_plain(value) for value in row.values()]) + "\n")
            count += 1
    return count


def _plain(value: Any) -> Any:
    """Give a cell as JSON has it; a number keeps all of its digits."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float | int):
        return repr(value)
    if isinstance(value, list | dict):
        return json.dumps(value, default=str, ensure_ascii=False)
    return value.isoformat(sep=" ") if isinstance(value, datetime) else str(value)


def _as_parquet(lines: Path, to: Path, fields: Sequence[tuple[str, str]]) -> Path:
    casts = [f"{_cast(place + 1, kind)} AS {name(column)}" for place, (column, kind) in enumerate(fields)]
    how = f"format = 'newline_delimited', records = false, maximum_object_size = {MOST_ROW_BYTES}"
    source = f"read_json({text(lines)}, columns = {{json: 'VARCHAR[]'}}, {how})"
    with database() as connection:
        connection.execute("SET threads = 1")
        connection.execute(f"COPY (SELECT {', '.join(casts)} FROM {source}) TO {text(to)} (FORMAT parquet)")  # noqa: S608
    lines.unlink()
    return to


def _cast(place: int, kind: str) -> str:
    cell = f"json[{place}]"
    return f"from_base64({cell})" if kind == "BLOB" else f"CAST({cell} AS {kind})"


def _empty(file: Path) -> Path:
    file.write_text("")
    return file


def _size(bytes_: int) -> str:
    """Give a size in the unit that fits.

    >>> _size(0), _size(12_345_678)
    ('0 B', '12.3 MB')
    """
    size, units = float(bytes_), iter(("B", "kB", "MB", "GB", "TB", "PB"))
    unit = next(units)
    while size >= 1000 and unit != "PB":
        size, unit = size / 1000, next(units)
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
