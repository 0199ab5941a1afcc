"""The files that are scored: those of a folder, or what one query read of a table of BigQuery."""

from __future__ import annotations

import shutil
from datetime import date as Date  # noqa: N812
from pathlib import Path

from trilho.core.warehouse import Span
from trilho.data.tables import format_of
from trilho.errors import ConfigError, UsageError
from trilho.project import Project
from trilho.scoring.places import BIGQUERY, Say, place_of, reach_bigquery
from trilho.scoring.request import Request
from trilho.serve.batch.source import MARK, bounds_of, files_of


class Source:
    """The files that are scored; a table of BigQuery is read once for all dates, or once for each that has its own."""

    def __init__(self, project: Project, request: Request, folder: Path, say: Say) -> None:
        self._project, self._request, self._say = project, request, say
        self._folder = folder / ".drafts" / "source"
        self._read: tuple[str, list[Path]] = ("", [])
        self._told = False

    def files(self, date: Date) -> list[Path]:
        """Give the files that hold a date's rows."""
        if not self._request.source.startswith(BIGQUERY):
            found = files_on(self._project, self._request.source, date)
            self._tell_how(found)
            return found
        address = self._request.source.replace(MARK, f"{date:%Y%m%d}")
        if self._read[0] != address:
            self._read = address, self._fetch(address)
        return self._read[1]

    def _tell_how(self, found: list[Path]) -> None:
        """Say once whether rows are scored as they lie there or as the project's load makes them."""
        load = self._project.settings.steps.load
        if load is None or self._told:
            return
        self._told = True
        made = found[0].is_relative_to(self._project.home / "cache")
        self._say(f"Rows are read by {load}." if made else f"Rows are taken as they are: {load} reads no Parquet.")

    def remove(self) -> None:
        """Remove what was read."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _fetch(self, address: str) -> list[Path]:
        from trilho.backends.gcp.bigquery import TableName
        from trilho.backends.gcp.tables import BigQueryTables

        request, settings = self._request, self._project.settings
        bigquery, bucket = reach_bigquery(self._project, address, request.environment, self._say)
        span = None
        if not request.whole and MARK not in request.source:
            first, last = request.dates[0], request.dates[-1]
            start, end = bounds_of(first, settings.timezone)[0], bounds_of(last, settings.timezone)[1]
            span = Span(first=first, last=last, start=start, end=end)
        tables = BigQueryTables(bigquery, bucket, self._say)
        return tables.fetch(TableName.parse(address, bigquery.cloud.project), self._folder, settings.model.time, span)


def require_apart(project: Project, request: Request) -> None:
    """Refuse a table of scores that lies in what it is made from, or the other way round: it would feed on itself."""
    if request.source.startswith(BIGQUERY) or request.to.startswith(BIGQUERY):
        if request.source == request.to:
            raise UsageError(f"--to {request.to} is --from itself", hint="name another table")
        return
    to = place_of(project, request.to)
    named = request.source.replace(MARK, request.dates[0].isoformat())
    source = (project.folder / Path(named.split("*")[0]).expanduser()).resolve()
    whole = source.is_dir() and ("**" in named or "*" not in named)  # what lies deeper is read too
    for inner, outer, words in ((to, source, "lies in"), (source, to, "holds")):
        if (whole or outer == to) and inner.is_relative_to(outer):
            raise UsageError(
                f"--to {request.to} {words} --from {request.source}; scores would be scored again",
                hint="name another folder",
            )


def files_on(project: Project, source: str, date: Date) -> list[Path]:
    """Give the files of this machine that a table is of on a date, as `[steps] load` makes them where there is one."""
    from trilho.train.loading import load_tables

    if "://" in source:
        raise ConfigError(
            f"--from {source}: a table is files on this machine",
            hint=f"name a file, a folder, a glob, or {BIGQUERY}PROJECT.DATASET.TABLE",
        )
    load = project.settings.steps.load
    path = project.folder / source.replace(MARK, date.isoformat())
    if load is not None and path.is_file() and path.suffix.lower() not in (".parquet", ".pq"):
        return load_tables([path], load, project.source, project.python, project.home)
    found = files_of(str(Path(source).expanduser()), project.folder, date)
    if load is not None and format_of(found[0]) != "parquet":
        return load_tables(found, load, project.source, project.python, project.home)
    return found
