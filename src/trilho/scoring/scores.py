"""Dates scored one after the other, each in its place before the next begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date as Date  # noqa: N812
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from trilho.errors import TrilhoError, UsageError
from trilho.project import Project
from trilho.scoring.batches import batch_of, model_of, past_of, rule_of, shares_of, starter_of, versions_of
from trilho.scoring.places import BIGQUERY, Say, open_table, place_of
from trilho.scoring.request import Request
from trilho.scoring.rollbacks import Origin, leave_rolled_back, remember
from trilho.scoring.source import Source, files_on, require_apart
from trilho.scoring.watching import hand_over
from trilho.serve.batch.run import NoRows, Outcome, Progress, score
from trilho.serve.batch.scorer import Scorers
from trilho.serve.batch.source import NoFiles
from trilho.serve.batch.warehouse import WarehouseTable

MOST_DATES = 3660


def today(project: Project) -> Date:
    """Give the date that it is in the project's zone."""
    return datetime.now(ZoneInfo(project.settings.timezone)).date()


def span(first: Date, last: Date) -> list[Date]:
    """Give the dates from a first to a last one.

    >>> [day.isoformat() for day in span(Date(2026, 2, 27), Date(2026, 3, 1))]
    ['2026-02-27', '2026-02-28', '2026-03-01']
    """
    if last < first:
        raise UsageError(f"--until {last} is before --since {first}", hint="exchange them")
    if (last - first).days >= MOST_DATES:
        raise UsageError(f"{(last - first).days + 1} dates at once; at most {MOST_DATES}", hint="take a shorter span")
    return [first + timedelta(days=day) for day in range((last - first).days + 1)]


def explain(project: Project, request: Request) -> list[str]:
    """Say in plain lines what scoring would do."""
    shares = shares_of(project, request.version)
    versions = versions_of(project, shares, request.version)
    days = [date.isoformat() for date in request.dates]
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]} ({len(days)} dates)"
    remote = request.source.startswith(BIGQUERY)
    files = "one query" if remote else f"{len(files_on(project, request.source, request.dates[0]))} files"
    served = ", ".join(f"version {version} for {share}% of the rows" for version, share in sorted(shares.items()))
    unseen = [version for version in versions if version not in shares]
    beside = [f"version {version} scores too, and is not served" for version in unseen]
    place = request.to if request.to.startswith(BIGQUERY) else place_of(project, request.to)
    return [f"score {request.source} ({files}) of {when} into {place}", f"serve {served}", *beside]


def score_table(
    project: Project, request: Request, progress: Progress | None = None, say: Say = lambda _line: None
) -> Iterator[Outcome]:
    """Score dates one after the other; each is in its place before the next begins.

    Raises NotYet while no version serves, and whatever a date raises: the dates before it stay scored.
    """
    shares = shares_of(project, request.version)
    models = [model_of(project, version) for version in versions_of(project, shares, request.version)]
    require_apart(project, request)
    if not request.source.startswith(BIGQUERY) and len(request.dates) == 1 and project.settings.steps.load is None:
        files_on(project, request.source, request.dates[0])  # a slip in --from leaves no empty table behind
    table = open_table(project, request.to, request.environment, say)
    try:
        place = request.to if isinstance(table, WarehouseTable) else str(table.folder)
        origin = Origin(request.source, request.whole, request.warn)
        remember(project, place, request.environment, origin)
        leave_rolled_back(project, place, table, say)
        rule, source, empty = rule_of(project), Source(project, request, table.folder, say), 0
        with Scorers(starter_of(project, models, rule.folder if rule is not None else None)) as scorers:
            for date in request.dates:
                with _named(date, request):
                    try:
                        batch = batch_of(project, request, date, models, shares, scorers, source)
                        outcome = score(table, replace(batch, progress=progress, decision=rule, past=past_of(project)))
                    except (NoFiles, NoRows) as error:
                        if len(request.dates) == 1:
                            raise
                        empty += 1
                        if empty == len(request.dates):
                            fact = f"none of the {empty} dates from {request.dates[0]} to {date} has rows: {error.fact}"
                            raise NoRows(fact, hint="look at --from, --since and --until") from error
                        yield Outcome(date.isoformat(), empty=error.fact)
                        continue
                remember(project, place, request.environment, origin, outcome.date)
                if all(version in project.state().shares for version in shares):
                    outcome.watched = hand_over(project, table, date)
                if isinstance(table, WarehouseTable):
                    table.free(outcome.date)
                yield outcome
        source.remove()
        table.sweep()
    finally:
        table.close()


@contextmanager
def _named(date: Date, request: Request) -> Iterator[None]:
    """Say of which of several dates an error is, and that those before it are in their place."""
    try:
        yield
    except TrilhoError as error:
        if len(request.dates) > 1 and date.isoformat() not in error.fact:
            raise type(error)(f"{date}: {error.fact}", hint=error.hint) from error
        raise


def summary(outcome: Outcome) -> dict[str, Any]:
    """Give what came of a date as `trilho score --json` shows it."""
    scored = {
        number: {"seconds": one.seconds, "undecided": one.undecided, "files": len(one.files)}
        for number, one in outcome.scored.items()
    }
    told = {"date": outcome.date, "rows": outcome.rows, "versions": scored, "unchanged": outcome.unchanged}
    told |= {"watched": outcome.watched, "resumed_parts": outcome.resumed, "path": outcome.path}
    return {**told, "served": outcome.shares, "empty": outcome.empty or None}
