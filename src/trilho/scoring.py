"""A project's tables scored: which versions score, what of it is served, and what a rollback changes of it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from datetime import date as Date  # noqa: N812
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from trilho.config import FILE
from trilho.core.files import write_whole
from trilho.core.projection import ModelState
from trilho.core.warehouse import Span
from trilho.data.contract import Contract, load_contract
from trilho.data.tables import format_of
from trilho.errors import ConfigError, NotYet, TrilhoError, UsageError
from trilho.project import Project
from trilho.serve.batch.run import PART_ROWS, Batch, Model, Outcome, Progress, Rule, score
from trilho.serve.batch.scorer import Scorer, Scorers
from trilho.serve.batch.source import MARK, Field, bounds_of, files_of
from trilho.serve.batch.table import ScoreTable, shares_after_rollback
from trilho.serve.batch.warehouse import WarehouseTable
from trilho.serve.endpoint import read_json
from trilho.serve.flags import mask_of
from trilho.serve.scored import ScoredDate

if TYPE_CHECKING:
    from trilho.backends.gcp.bigquery import BigQuery

MOST_DATES = 3660
BIGQUERY = "bigquery://"
WATCHED_DAYS = 7
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `trilho score` was asked."""

    source: str
    to: str
    dates: Sequence[Date]
    whole: bool = False  # all rows of the table, whatever their date
    version: int | None = None  # by default what serves
    again: bool = False
    warn: bool = False  # score in spite of a broken contract
    part_rows: int = PART_ROWS
    environment: str | None = None  # whose project and bucket tables of BigQuery are reached with


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
    shares = _shares(project, request.version)
    versions = _versions(project, shares, request.version)
    days = [date.isoformat() for date in request.dates]
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]} ({len(days)} dates)"
    remote = request.source.startswith(BIGQUERY)
    files = "one query" if remote else f"{len(_files(project, request.source, request.dates[0]))} files"
    served = ", ".join(f"version {version} for {share}% of the rows" for version, share in sorted(shares.items()))
    unseen = [version for version in versions if version not in shares]
    beside = [f"version {version} scores too, and is not served" for version in unseen]
    place = request.to if request.to.startswith(BIGQUERY) else _place(project, request.to)
    return [f"score {request.source} ({files}) of {when} into {place}", f"serve {served}", *beside]


def score_table(
    project: Project, request: Request, progress: Progress | None = None, say: Say = lambda _line: None
) -> Iterator[Outcome]:
    """Score dates one after the other; each is in its place before the next begins.

    Raises NotYet while no version serves, and whatever a date raises: the dates before it stay scored.
    """
    shares = _shares(project, request.version)
    models = [_model(project, version) for version in _versions(project, shares, request.version)]
    table = open_table(project, request.to, request.environment, say)
    try:
        _remember(project, request.to if isinstance(table, WarehouseTable) else str(table.folder), request.environment)
        _leave_rolled_back(project, table, say)
        rule, source = _rule(project), _Source(project, request, table.folder, say)
        with Scorers(_starter(project, models, rule.folder if rule is not None else None)) as scorers:
            for date in request.dates:
                batch = _batch(project, request, date, models, shares, scorers, source)
                outcome = score(table, replace(batch, progress=progress, decision=rule, past=_past(project)))
                if all(version in project.state().shares for version in shares):
                    outcome.watched = _hand_over(project, table, date)
                if isinstance(table, WarehouseTable):
                    table.free(outcome.date)
                yield outcome
        source.remove()
        table.sweep()
    finally:
        table.close()


# ---- rollbacks -----------------------------------------------------------------------------------------------------


def repoint(
    project: Project, bad: int, good: int, say: Say = lambda _line: None
) -> tuple[list[tuple[str, int]], list[tuple[str, list[str]]]]:
    """After a rollback, serve the good version's rows again wherever there are some.

    Gives the tables that changed with how many dates, and those with dates that nobody but the bad version scored.
    A table that cannot be reached now is told, and repointed when it is next scored into.
    """
    changed, lacking = [], []
    for place, environment in tables(project).items():
        try:
            table = open_table(project, place, environment, say)
        except TrilhoError as error:
            say(f"{place} is not changed yet, the next `trilho score` into it does that: {error.fact}")
            continue
        try:
            back, missing = shares_after_rollback(table.dates, bad, good)
            if back:
                table.serve(back)
                changed.append((place, len(back)))
            if missing:
                lacking.append((place, missing))
        finally:
            table.close()
    return changed, lacking


def repoint_all(project: Project, say: Say = lambda _line: None) -> Iterator[str]:
    """Repoint all tables of scores after a rollback, and say so in plain lines."""
    state = project.state()
    for bad in sorted(rolled_back(state)) if state.champion is not None and tables(project) else ():
        changed, lacking = repoint(project, bad, int(state.champion or 0), say)
        for place, count in changed:
            yield f"{place}: {count} dates are served from version {state.champion} again, instead of version {bad}."
        for place, dates in lacking:
            command = f"trilho score --from TABLE --to {shlex.quote(place)} --since {dates[0]} --until {dates[-1]}"
            yield f"{place}: nobody but version {bad} scored {_listed(dates)}. To score them: {command}"


def rolled_back(state: ModelState) -> set[int]:
    """Give the versions that were taken from their users again and do not serve now.

    >>> rolled_back(ModelState("m", champion=2, champions=[("t1", 1), ("t2", 2), ("t3", 3), ("t4", 2)]))
    {3}
    """
    ended = {one.version for one in state.rollouts.values() if one.outcome in ("rolled back", "aborted")}
    return (ended | {version for _, version in state.champions}) - {*state.succession, *state.shares}


def _leave_rolled_back(project: Project, table: ScoreTable, say: Say) -> None:
    """Serve no date from a version that was rolled back since, by whom or what it was, where another one scored it."""
    state = project.state()
    if state.champion is None:
        return
    for bad in sorted(rolled_back(state)):
        back, missing = shares_after_rollback(table.dates, bad, state.champion)
        if back:
            table.serve(back)
            say(f"Version {bad} was rolled back: {len(back)} dates are served from version {state.champion} again.")
        if missing:
            say(f"Version {bad} was rolled back, and nobody else scored {_listed(missing)}: score them again.")


def _listed(dates: Sequence[str]) -> str:
    return ", ".join(dates[:3]) + (f" and {len(dates) - 3} more dates" if len(dates) > 3 else "")


def tables(project: Project) -> dict[str, str | None]:
    """Give the tables of scores that this machine has written for a project, and that are still there, each with the
    environment that it is reached with."""
    known = (read_json(_register(project)) or {}).get("tables", [])
    found = {str(one["to"]): one["environment"] for one in known if isinstance(one, dict)}
    return {to: name for to, name in found.items() if to.startswith(BIGQUERY) or Path(to).is_dir()}


def _register(project: Project) -> Path:
    return project.home / "scores" / f"{project.name}.json"


def _remember(project: Project, to: str, environment: str | None) -> None:
    known = {**tables(project), to: environment}
    listed = [{"to": to, "environment": name} for to, name in known.items()]
    write_whole(_register(project), json.dumps({"schema": 1, "tables": listed}))


# ---- places --------------------------------------------------------------------------------------------------------


def open_table(project: Project, to: str, environment: str | None = None, say: Say = lambda _line: None) -> ScoreTable:
    """Open a table of scores for writing: a folder of this machine, or a table of BigQuery."""
    if not to.startswith(BIGQUERY):
        return ScoreTable(_place(project, to), project.name).open()
    from trilho.backends.gcp.bigquery import TableName
    from trilho.backends.gcp.scores import BigQueryScores

    bigquery, _ = _bigquery(project, to, environment, say)
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


def _bigquery(project: Project, address: str, environment: str | None, say: Say) -> tuple[BigQuery, str | None]:
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


def _place(project: Project, to: str) -> Path:
    if "://" in to:
        raise ConfigError(f"--to {to}: allowed: a folder, or {BIGQUERY}PROJECT.DATASET.TABLE", hint="name one of them")
    if MARK in to:
        raise UsageError(f"--to {to}: the table has a partition for each date itself", hint=f"leave {MARK} out of it")
    return (project.folder / Path(to).expanduser()).resolve()


class _Source:
    """The files that are scored; a table of BigQuery is read once for all dates, or once for each that has its own."""

    def __init__(self, project: Project, request: Request, folder: Path, say: Say) -> None:
        self._project, self._request, self._say = project, request, say
        self._folder = folder / ".drafts" / "source"
        self._read: tuple[str, list[Path]] = ("", [])

    def files(self, date: Date) -> list[Path]:
        """Give the files that hold a date's rows."""
        if not self._request.source.startswith(BIGQUERY):
            return _files(self._project, self._request.source, date)
        address = self._request.source.replace(MARK, f"{date:%Y%m%d}")
        if self._read[0] != address:
            self._read = address, self._fetch(address)
        return self._read[1]

    def remove(self) -> None:
        """Remove what was read."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _fetch(self, address: str) -> list[Path]:
        from trilho.backends.gcp.bigquery import TableName
        from trilho.backends.gcp.tables import BigQueryTables

        request, settings = self._request, self._project.settings
        bigquery, bucket = _bigquery(self._project, address, request.environment, self._say)
        span = None
        if not request.whole and MARK not in request.source:
            first, last = request.dates[0], request.dates[-1]
            start, end = bounds_of(first, settings.timezone)[0], bounds_of(last, settings.timezone)[1]
            span = Span(first=first, last=last, start=start, end=end)
        tables = BigQueryTables(bigquery, bucket, self._say)
        return tables.fetch(TableName.parse(address, bigquery.cloud.project), self._folder, settings.model.time, span)


# ---- the watcher ---------------------------------------------------------------------------------------------------


def _hand_over(project: Project, table: ScoreTable, date: Date) -> int | None:
    """Give the watcher a date as it is served; None for one that lies too far back to be watched for the first time.

    The watcher reads windows in their order: a backfill of the past beside what is served today would look as if it
    had come late, all of it today.
    """
    name = date.isoformat()
    place, served = str(table.folder), table.dates[name]
    extent = project.log.extent()
    end = bounds_of(date, project.settings.timezone)[1].replace(tzinfo=UTC)
    room = max(timedelta(days=WATCHED_DAYS), 2 * project.settings.watch.window)
    timed = project.settings.model.time is not None
    if timed and extent is not None and end < extent[1] - room and project.log.scored(place, name) is None:
        return None
    files = table.served_files(name)
    if not files:  # another machine scored it, and its watcher was told
        return 0
    version = next(iter(served.served))
    manifest = json.loads((project.package(version) / "manifest.json").read_text(encoding="utf-8"))
    given = ScoredDate(
        table=place,
        date=name,
        identity=served.versions[version].identity,
        files=files,
        fields=[field["name"] for field in manifest["signature"]],
    )
    return project.log.add_scored(given, mask_of(project.settings.serve, project.home))


# ---- what scores ---------------------------------------------------------------------------------------------------


def _shares(project: Project, version: int | None) -> Mapping[int, int]:
    if version is not None:
        return {version: 100}
    shares = project.state().shares
    if not shares:
        raise NotYet(
            f"no version of {project.name} is released", hint="trilho release VERSION, or --version N to try one"
        )
    return shares


def _versions(project: Project, shares: Mapping[int, int], asked: int | None) -> list[int]:
    """Give the versions that score: what serves, and beside it the one that is on its way, unseen at first."""
    rollout = project.state().rollout
    if asked is not None or rollout is None:
        return sorted(shares)
    beside = {rollout.version, *([rollout.champion] if rollout.champion is not None else [])}
    return sorted({*shares, *beside})


def _model(project: Project, version: int) -> Model:
    package = project.package(version)
    return Model(version, package, project.state().versions[version].package)


def _rule(project: Project) -> Rule | None:
    """Give the decision that holds; None where none does."""
    held = project.state().decision
    return None if held is None else Rule(held, project.decision(held))


def _past(project: Project) -> str:
    """Say how far the past of a model of lags is known: with more of it the same rows get other scores."""
    return str(project.past.extent()) if project.settings.history.rows and project.past_file.exists() else ""


def _starter(project: Project, models: Sequence[Model], decision: Path | None = None) -> Callable[[int], Scorer]:
    packages = {model.version: model for model in models}
    history = project.past_file if project.settings.history.rows else None

    def start(version: int) -> Scorer:
        model = packages[version]
        return Scorer(project.python, model.package, model.digest, decision, history)

    return start


def _batch(
    project: Project,
    request: Request,
    date: Date,
    models: Sequence[Model],
    shares: Mapping[int, int],
    scorers: Scorers,
    source: _Source,
) -> Batch:
    settings = project.settings
    manifest = json.loads((models[0].package / "manifest.json").read_text(encoding="utf-8"))
    fields = [Field(field["name"], field["type"]) for field in manifest["signature"]]
    return Batch(
        model=project.name,
        date=date,
        files=source.files(date),
        models=models,
        shares=shares,
        scorers=scorers,
        fields=fields,
        contract=Contract() if request.warn else _contract(project, {field.name for field in fields}),
        time=settings.model.time,
        only_date=not request.whole and MARK not in request.source and settings.model.time is not None,
        zone=settings.timezone,
        key=[settings.serve.sticky] if settings.serve.sticky else [settings.model.key] if settings.model.key else [],
        again=request.again,
        part_rows=2**31 if manifest.get("batch_only") else request.part_rows,
    )


def _files(project: Project, source: str, date: Date) -> list[Path]:
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


def _contract(project: Project, fields: set[str]) -> Contract:
    """Give what the contract says of the model's fields, and nothing of how many rows there must be."""
    whole = load_contract(project.folder / project.settings.data.contract)
    table = whole.table.model_copy(update={"min_rows": 0, "freshness": None})
    columns = {name: rule for name, rule in whole.columns.items() if name in fields}
    return whole.model_copy(update={"table": table, "columns": columns})


def summary(outcome: Outcome) -> dict[str, Any]:
    """Give what came of a date as `trilho score --json` shows it."""
    scored = {
        number: {"seconds": one.seconds, "undecided": one.undecided, "files": len(one.files)}
        for number, one in outcome.scored.items()
    }
    told = {"date": outcome.date, "rows": outcome.rows, "versions": scored, "unchanged": outcome.unchanged}
    return {**told, "watched": outcome.watched, "resumed_parts": outcome.resumed, "path": outcome.path}
