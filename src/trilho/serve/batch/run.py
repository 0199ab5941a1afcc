"""One date scored: the rows frozen, held against the contract, predicted part by part, put in place whole.

What was done before is not done again: a date whose rows, package and decision are what they were is left as it is,
and a run that was killed goes on with the part that it was at.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from datetime import date as Date  # noqa: N812
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trilho.core.files import write_whole
from trilho.data.contract import Contract, check_view
from trilho.errors import DataError, Refused
from trilho.serve.batch.scorer import Scorer, Scorers
from trilho.serve.batch.signature import misfits, signature_of
from trilho.serve.batch.source import (
    MEMORY,
    MORE_MEMORY,
    Field,
    TooLarge,
    digest,
    extent,
    freeze,
    open_database,
    part,
    remove_database,
)
from trilho.serve.batch.table import DRAFTS, Scored, ScoreTable
from trilho.serve.batch.writing import write_scores
from trilho_runtime.serving.exchange import write_part

if TYPE_CHECKING:
    import duckdb

SCHEMA = 1
PART_ROWS = 100_000
PROFILE = "profile.json"
MOST_FINDINGS = 5
Progress = Callable[[int, int, int], None]
"""Called with a version, the rows done and the rows there are."""


@dataclass(frozen=True)
class Model:
    """A version that scores: its package, and the digest that it is known by."""

    version: int
    package: Path
    digest: str | None


@dataclass(frozen=True)
class Rule:
    """The decision that holds."""

    version: int
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What is scored, by what, and what of it is served."""

    model: str
    date: Date
    files: Sequence[Path]
    models: Sequence[Model]
    shares: Mapping[int, int]
    scorers: Scorers
    fields: Sequence[Field]
    contract: Contract
    time: str | None = None
    only_date: bool = False
    zone: str = "UTC"
    """Whose dates the dates are."""
    key: Sequence[str] = ()
    decision: Rule | None = None
    past: str = ""
    """How far the past of a model of lags is known."""
    again: bool = False
    part_rows: int = PART_ROWS
    one_of_many: bool = False
    """Other dates follow: this one may be in its place a little later."""
    progress: Progress | None = None


class NoRows(DataError):
    """A date has no rows."""


@dataclass
class Outcome:
    """What came of a date."""

    date: str
    rows: int = 0
    scored: dict[int, Scored] = field(default_factory=dict)
    unchanged: list[int] = field(default_factory=list)
    resumed: int = 0  # parts that a killed run had done
    path: str = ""
    why: str = ""
    profile: dict[int, dict[str, list[int]]] = field(default_factory=dict)
    watched: int | None = None  # rows that are new to the watcher; None where it was not told
    shares: dict[int, int] = field(default_factory=dict)  # what of the rows is served from which version
    empty: str = ""  # why there was nothing to score


def score(table: ScoreTable, batch: Batch) -> Outcome:
    """Score a date with each model, then serve it by its shares.

    Raises DataError for rows that cannot be read or predicted, Refused where the contract is broken; the table then
    is as it was.
    """
    try:
        outcome = _score(table, batch, MEMORY)
    except TooLarge:  # rare, and seen late: most tables do with little
        outcome = _score_large(table, batch)
    with _writing(table):
        _serve(table, batch, outcome)
    outcome.shares = dict(table.served(outcome.date))
    return outcome


def _score_large(table: ScoreTable, batch: Batch) -> Outcome:
    try:
        return _score(table, batch, MORE_MEMORY)
    except TooLarge:
        raise DataError(
            f"the rows of {batch.date} do not fit into {MORE_MEMORY}, {batch.part_rows:,} of them at once",
            hint="--part-rows 1000 takes fewer at once",
        ) from None


def _score(table: ScoreTable, batch: Batch, memory: str) -> Outcome:
    date = batch.date.isoformat()
    outcome = Outcome(date)
    frozen = table.folder / DRAFTS / f"rows-{date}.db"
    try:
        with _writing(table), open_database(frozen, memory) as connection:
            only = (batch.time, batch.date) if batch.only_date and batch.time else None
            outcome.rows = freeze(connection, batch.files, batch.fields, only, batch.zone)
            if not outcome.rows:
                told = extent(connection, batch.files, only[0]) if only else "it is empty"
                raise NoRows(f"the table has no rows of {date}: {told}", hint="--at names another date")
            _hold(connection, batch)
            _fit(connection, batch)
            rows = digest(connection)
            for model in batch.models:
                _score_with(model, table, batch, connection, rows, outcome)
    finally:
        remove_database(frozen)
    return outcome


def _serve(table: ScoreTable, batch: Batch, outcome: Outcome) -> None:
    served = {model.version: batch.shares[model.version] for model in batch.models if batch.shares.get(model.version)}
    served = served or {batch.models[0].version: 100}
    if outcome.scored or not table.in_place(outcome.date, served):
        table.serve({outcome.date: served}, soon=batch.one_of_many)


@contextmanager
def _writing(table: ScoreTable) -> Iterator[None]:
    """Turn what a disk says into an error of two lines; what was served is served still."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise TooLarge(str(error).splitlines()[0]) from error
    except (OSError, duckdb.IOException) as error:
        why = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
        if "requested and" in why:  # numpy's words for a file that ended too soon
            why = os.strerror(errno.ENOSPC)
        fact = f"{table.folder} cannot be written: {why}"
        raise DataError(fact, hint="look for a full disk; the same command goes on where this one stopped") from error


def _hold(connection: duckdb.DuckDBPyConnection, batch: Batch) -> None:
    """Hold the rows against the contract. Raises Refused with the first findings."""
    found = check_view(connection, batch.contract, time=batch.time)
    if found:
        raise Refused(
            f"the rows of {batch.date} break the contract: {_listed(found)}",
            hint="correct the table, or contract.toml where the rule is wrong; nothing was scored",
        )


def _fit(connection: duckdb.DuckDBPyConnection, batch: Batch) -> None:
    """Hold the rows against what each model wants. Raises DataError that names the columns that do not fit."""
    for model in batch.models:
        found = misfits(connection, signature_of(model.package))
        if found:
            raise DataError(_listed(found), hint="nothing was scored; `trilho models show` has what the model wants")


def _listed(found: Sequence[object]) -> str:
    more = f" (and {len(found) - MOST_FINDINGS} more)" if len(found) > MOST_FINDINGS else ""
    return "; ".join(map(str, found[:MOST_FINDINGS])) + more


def _score_with(
    model: Model,
    table: ScoreTable,
    batch: Batch,
    connection: duckdb.DuckDBPyConnection,
    rows: str,
    outcome: Outcome,
) -> None:
    fingerprint = _fingerprint(rows, model, batch)
    known = table.dates[outcome.date].versions.get(model.version) if outcome.date in table.dates else None
    if known is not None and known.fingerprint == fingerprint and not batch.again:
        outcome.unchanged.append(model.version)
        return
    draft = table.draft(model.version, outcome.date, fingerprint)
    identity = hashlib.sha256(f"{batch.model} {outcome.date} {rows}".encode()).hexdigest()[:24]
    started = time.monotonic()
    scorer = batch.scorers.of(model.version)
    outcome.path, outcome.why = scorer.path, scorer.why
    told = _parts(scorer, model, draft, batch, connection, identity, outcome)
    profile = _sum([one["profile"] for one in told])
    write_whole(draft / PROFILE, json.dumps({"schema": SCHEMA, "rows": outcome.rows, "counts": profile}))
    scored = Scored(
        rows=outcome.rows,
        fingerprint=fingerprint,
        identity=identity,
        decision=batch.decision.version if batch.decision else None,
        undecided=sum(one["undecided"] for one in told),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 3),
        files=sorted(path.name for path in draft.glob("*.parquet")),
    )
    table.keep(model.version, outcome.date, draft, scored)
    outcome.scored[model.version], outcome.profile[model.version] = scored, profile


def _fingerprint(rows: str, model: Model, batch: Batch) -> str:
    decision = _manifest(batch.decision.folder / "decision.json") if batch.decision else None
    package = model.digest or _manifest(model.package / "manifest.json")
    made_of = [SCHEMA, rows, package, decision, batch.part_rows, list(batch.key), *([batch.past] if batch.past else [])]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]


def _manifest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _parts(
    scorer: Scorer,
    model: Model,
    draft: Path,
    batch: Batch,
    connection: duckdb.DuckDBPyConnection,
    identity: str,
    outcome: Outcome,
) -> list[Mapping[str, Any]]:
    """Predict the rows part by part; a part that is there whole is not predicted again."""
    found = []
    there = {row[0] for row in connection.execute("DESCRIBE t").fetchall()}
    wanted = [str(item["name"]) for item in scorer.fields if item["name"] in there]
    for place, start in enumerate(range(0, outcome.rows, batch.part_rows)):
        stop = min(start + batch.part_rows, outcome.rows)
        file, note = draft / f"part-{place:05d}.parquet", draft / f"part-{place:05d}.told"
        if note.exists() and file.exists():
            outcome.resumed += 1
            found.append(json.loads(note.read_text(encoding="utf-8")))
        else:
            exchange = draft / f"exchange-{os.getpid()}"
            shutil.rmtree(exchange, ignore_errors=True)
            try:
                write_part(exchange, part(connection, wanted, start, stop), stop - start)
                told = _located(lambda at=exchange: scorer.score(at), start)  # type: ignore[misc]
                write_scores(connection, exchange, file, (start, stop), model.version, batch, identity)
            finally:
                shutil.rmtree(exchange, ignore_errors=True)
            write_whole(note, json.dumps(told))
            found.append(told)
        if batch.progress is not None:
            batch.progress(model.version, stop, outcome.rows)
    wanted_files = {f"part-{place:05d}.parquet" for place in range(len(found))}
    for file in draft.glob("*.parquet"):
        if file.name not in wanted_files:  # of the rows before, of a run killed while it put these in their place
            file.unlink()
    return found


def _located(score: Callable[[], Mapping[str, Any]], start: int) -> Mapping[str, Any]:
    """Name a wrong row by its place in the table, not in its part."""
    try:
        return score()
    except DataError as error:
        word, _, rest = error.fact.partition(":")
        number = word.removeprefix("row ")
        if not number.isdigit():
            raise
        raise DataError(f"row {int(number) + start}:{rest}", hint=error.hint) from None


def _sum(profiles: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, list[int]]:
    if not profiles:
        return {}
    return {column: np.sum([one[column] for one in profiles], axis=0).tolist() for column in profiles[0]}
