"""A project's tables scored: which versions score, what of it is served, and what a rollback changes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date as Date  # noqa: N812
from datetime import timedelta
from pathlib import Path
from typing import Any

from trilho.core.files import write_whole
from trilho.data.contract import Contract, load_contract
from trilho.data.tables import format_of
from trilho.errors import ConfigError, NotYet, UsageError
from trilho.project import Project
from trilho.serve.batch.run import PART_ROWS, Batch, Model, Outcome, Progress, score
from trilho.serve.batch.scorer import Scorer, Scorers
from trilho.serve.batch.source import MARK, Field, files_of
from trilho.serve.batch.table import ScoreTable, shares_after_rollback
from trilho.serve.endpoint import read_json

MOST_DATES = 3660


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
    files = len(_files(project, request.source, request.dates[0]))
    served = ", ".join(f"version {version} for {share}% of the rows" for version, share in sorted(shares.items()))
    unseen = [version for version in versions if version not in shares]
    beside = [f"version {version} scores too, and is not served" for version in unseen]
    place = _place(project, request.to)
    return [f"score {request.source} ({files} files) of {when} into {place}", f"serve {served}", *beside]


def score_table(project: Project, request: Request, progress: Progress | None = None) -> Iterator[Outcome]:
    """Score dates one after the other; each is in its place before the next begins.

    Raises NotYet while no version serves, and whatever a date raises: the dates before it stay scored.
    """
    shares = _shares(project, request.version)
    models = [_model(project, version) for version in _versions(project, shares, request.version)]
    table = ScoreTable(_place(project, request.to), project.name).open()
    try:
        _remember(project, table.folder)
        with Scorers(_starter(project, models)) as scorers:
            for date in request.dates:
                batch = _batch(project, request, date, models, shares, scorers)
                yield score(table, replace(batch, progress=progress))
        table.sweep()
    finally:
        table.close()


def repoint(project: Project, bad: int, good: int) -> tuple[list[tuple[Path, int]], list[tuple[Path, list[str]]]]:
    """After a rollback, serve the good version's rows again wherever there are some.

    Gives the tables that changed with how many dates, and those with dates that nobody but the bad version scored.
    """
    changed, lacking = [], []
    for folder in tables(project):
        table = ScoreTable(folder, project.name).open()
        try:
            back, missing = shares_after_rollback(table.dates, bad, good)
            if back:
                table.serve(back)
                changed.append((folder, len(back)))
            if missing:
                lacking.append((folder, missing))
        finally:
            table.close()
    return changed, lacking


def tables(project: Project) -> list[Path]:
    """Give the tables of scores that this project has written on this machine, and that are still there."""
    known = read_json(_register(project)) or {}
    return [Path(folder) for folder in known.get("tables", []) if Path(folder).is_dir()]


def _register(project: Project) -> Path:
    return project.home / "scores" / f"{project.name}.json"


def _remember(project: Project, folder: Path) -> None:
    known = (read_json(_register(project)) or {}).get("tables", [])
    if str(folder) not in known:
        write_whole(_register(project), json.dumps({"schema": 1, "tables": [*known, str(folder)]}))


def _place(project: Project, to: str) -> Path:
    if "://" in to:
        raise ConfigError(f"--to {to}: a table of scores is a folder on this machine", hint="name a folder")
    if MARK in to:
        raise UsageError(f"--to {to}: the table has a partition for each date itself", hint=f"leave {MARK} out of it")
    return (project.folder / Path(to).expanduser()).resolve()


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


def _starter(project: Project, models: Sequence[Model], decision: Path | None = None) -> Callable[[int], Scorer]:
    packages = {model.version: model for model in models}

    def start(version: int) -> Scorer:
        model = packages[version]
        return Scorer(project.python, model.package, model.digest, decision)

    return start


def _batch(
    project: Project,
    request: Request,
    date: Date,
    models: Sequence[Model],
    shares: Mapping[int, int],
    scorers: Scorers,
) -> Batch:
    settings = project.settings
    manifest = json.loads((models[0].package / "manifest.json").read_text(encoding="utf-8"))
    fields = [Field(field["name"], field["type"]) for field in manifest["signature"]]
    return Batch(
        model=project.name,
        date=date,
        files=_files(project, request.source, date),
        models=models,
        shares=shares,
        scorers=scorers,
        fields=fields,
        contract=Contract() if request.warn else _contract(project, {field.name for field in fields}),
        time=settings.model.time,
        only_date=not request.whole and MARK not in request.source and settings.model.time is not None,
        key=[settings.serve.sticky] if settings.serve.sticky else [settings.model.key] if settings.model.key else [],
        again=request.again,
        part_rows=2**31 if manifest.get("batch_only") else request.part_rows,
    )


def _files(project: Project, source: str, date: Date) -> list[Path]:
    from trilho.train.loading import load_tables

    if "://" in source:
        raise ConfigError(f"--from {source}: a table is files on this machine", hint="name a file, a folder or a glob")
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
    return {**told, "resumed_parts": outcome.resumed, "path": outcome.path}
