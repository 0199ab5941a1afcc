"""What the watcher is told of a date that was scored."""

from __future__ import annotations

import json
from datetime import UTC, timedelta
from datetime import date as Date  # noqa: N812

from trilho.project import Project
from trilho.serve.batch.source import bounds_of
from trilho.serve.batch.table import ScoreTable
from trilho.serve.flags import mask_of
from trilho.serve.scored import ScoredDate

WATCHED_DAYS = 7


def hand_over(project: Project, table: ScoreTable, date: Date) -> int | None:
    """Give the watcher a date as it is served; None for one that lies too far back to be watched for the first time.

    The watcher reads windows in their order: a backfill of the past beside what is served today would look as if it
    had come late, all of it today.
    """
    name = date.isoformat()
    place, scored = str(table.folder), table.dates[name].versions
    extent = project.log.extent()
    end = bounds_of(date, project.settings.timezone)[1].replace(tzinfo=UTC)
    room = max(timedelta(days=WATCHED_DAYS), 2 * project.settings.watch.window)
    timed = project.settings.model.time is not None
    if timed and extent is not None and end < extent[1] - room and project.log.scored(place, name) is None:
        return None
    files = table.served_files(name)
    if not files:  # another machine scored it, and its watcher was told
        return 0
    version = next(iter(table.served(name)))
    manifest = json.loads((project.package(version) / "manifest.json").read_text(encoding="utf-8"))
    given = ScoredDate(
        table=place,
        date=name,
        identity=scored[version].identity,
        files=files,
        fields=[field["name"] for field in manifest["signature"]],
    )
    return project.log.add_scored(given, mask_of(project.settings.serve, project.home))
