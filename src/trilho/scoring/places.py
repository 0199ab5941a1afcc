"""Where tables of scores lie: a folder of this machine, or a table of BigQuery as an environment reaches it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from trilho.config import FILE
from trilho.core.files import write_whole
from trilho.errors import ConfigError, UsageError
from trilho.project import Project
from trilho.serve.batch.source import MARK
from trilho.serve.batch.table import ScoreTable
from trilho.serve.batch.warehouse import WarehouseTable

if TYPE_CHECKING:
    from trilho.backends.gcp.bigquery import BigQuery

BIGQUERY = "bigquery://"
Say = Callable[[str], None]


def open_table(project: Project, to: str, environment: str | None = None, say: Say = lambda _line: None) -> ScoreTable:
    """Open a table of scores for writing: a folder of this machine, or a table of BigQuery."""
    if not to.startswith(BIGQUERY):
        return ScoreTable(place_of(project, to), project.name).open()
    from trilho.backends.gcp.bigquery import TableName
    from trilho.backends.gcp.scores import BigQueryScores

    bigquery, _ = reach_bigquery(project, to, environment, say)
    name = TableName.parse(to, bigquery.cloud.project)
    if MARK in to:
        raise UsageError(f"--to {to}: the table has a partition for each date itself", hint=f"leave {MARK} out of it")
    folder = project.home / "scores" / f"{project.name}@{name}"
    return WarehouseTable(folder, project.name, BigQueryScores(bigquery, name), _owner(project)).open()


def _owner(project: Project) -> str:
    """Give what this home is known by where others write too; a process of it that was killed is no stranger."""
    path = project.home / "scores" / "owner"
    if not path.exists():
        write_whole(path, uuid.uuid4().hex)
    return path.read_text(encoding="ascii")


def reach_bigquery(project: Project, address: str, environment: str | None, say: Say) -> tuple[BigQuery, str | None]:
    """Give BigQuery as an environment reaches it, and the folder of its bucket; without one as this machine does."""
    from trilho.backends.gcp.bigquery import BigQuery, TableName
    from trilho.backends.gcp.cloud import Cloud

    known = {name: one for name, one in project.settings.environments.items() if one.backend == "gcp"}
    if environment is not None and environment not in known:
        listed = ", ".join(known) or "none"
        raise ConfigError(
            f"{FILE}: no environment {environment!r} of Google Cloud; there are: {listed}",
            hint=f'[environments.{environment}] backend = "gcp"',
        )
    chosen = known[environment] if environment else next(iter(known.values())) if len(known) == 1 else None
    charged = chosen.project if chosen is not None else os.environ.get("GOOGLE_CLOUD_PROJECT")
    name = TableName.parse(address.replace(MARK, "20260101"), charged)
    bucket = chosen.bucket.removeprefix("gs://").partition("/")[0] if chosen is not None else ""
    region = chosen.region if chosen is not None else "US"
    cloud = Cloud(project=charged or name.project, region=region, bucket=bucket, say=say)
    return BigQuery(cloud), f"{chosen.bucket}/trilho/{project.name}" if chosen is not None else None


def place_of(project: Project, to: str) -> Path:
    """Give the folder that --to names. Raises ConfigError and UsageError for what is none."""
    if "://" in to:
        raise ConfigError(f"--to {to}: allowed: a folder, or {BIGQUERY}PROJECT.DATASET.TABLE", hint="name one of them")
    if MARK in to:
        raise UsageError(f"--to {to}: the table has a partition for each date itself", hint=f"leave {MARK} out of it")
    return (project.folder / Path(to).expanduser()).resolve()
