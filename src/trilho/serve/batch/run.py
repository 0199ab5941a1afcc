"""One date scored: the rows frozen, held against the contract, predicted part by part, put in place whole.

What was done before is not done again: a date whose rows, package and decision are what they were is left as it is,
and a run that was killed goes on with the part that it was at.
"""

from __future__ import annotations

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
import orjson

from trilho.core.files import write_whole
from trilho.data.contract import Contract, check_view
from trilho.data.tables import name, text
from trilho.errors import DataError, Refused
from trilho.serve.batch.cohort import places
from trilho.serve.batch.scorer import Scorer, Scorers
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
from trilho.serve.columns import OWN
from trilho_runtime.scorer import DECISIONS, LABELS, PREDICTION, PROBABILITIES
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
                raise DataError(f"the table has no rows of {date}: {told}", hint="--at names another date")
            _hold(connection, batch)
            rows = digest(connection)
            for model in batch.models:
                _score_with(model, table, batch, connection, rows, outcome)
    finally:
        remove_database(frozen)
    return outcome


def _serve(table: ScoreTable, batch: Batch, outcome: Outcome) -> None:
    served = {model.version: batch.shares[model.version] for model in batch.models if batch.shares.get(model.version)}
    if table.served(outcome.date) != served or outcome.scored:
        table.serve({outcome.date: served or {batch.models[0].version: 100}}, soon=batch.one_of_many)


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
        fact = f"{table.folder} cannot be written: {why}"
        raise DataError(fact, hint="look for a full disk; the same command goes on where this one stopped") from error


def _hold(connection: duckdb.DuckDBPyConnection, batch: Batch) -> None:
    """Hold the rows against the contract. Raises Refused with the first findings."""
    found = check_view(connection, batch.contract, time=batch.time)
    if found:
        listed = "; ".join(map(str, found[:MOST_FINDINGS]))
        more = f" (and {len(found) - MOST_FINDINGS} more)" if len(found) > MOST_FINDINGS else ""
        raise Refused(
            f"the rows of {batch.date} break the contract: {listed}{more}",
            hint="correct the table, or contract.toml where the rule is wrong; nothing was scored",
        )


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
                _write(connection, exchange, file, (start, stop), model.version, batch, identity)
            finally:
                shutil.rmtree(exchange, ignore_errors=True)
            write_whole(note, json.dumps(told))
            found.append(told)
        if batch.progress is not None:
            batch.progress(model.version, stop, outcome.rows)
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


def _write(
    connection: duckdb.DuckDBPyConnection,
    exchange: Path,
    file: Path,
    span: tuple[int, int],
    version: int,
    batch: Batch,
    identity: str,
) -> None:
    """Write a part's rows with what was said of them."""
    columns = [row[0] for row in connection.execute("DESCRIBE t").fetchall()]
    told, more = _told(exchange, span)
    kept = ", ".join(f"t.{name(column)}" for column in columns if column not in OWN and column != "_cohort")
    moment = time.time()
    timed = batch.time if batch.time in columns else None
    event = f"coalesce(epoch(t.{name(timed)}), {moment!r})" if timed else repr(moment)
    told["_cohort"] = _cohorts(connection, columns, batch, span, identity)
    extra = "".join(f", p.{name(column)}" for column in more)
    chosen = (
        f"{text(identity + '.')} || t.rowid AS _id, {event} AS _time, {version} AS _version, p._prediction{extra}, "
        f"{moment!r} AS _served, p._cohort"
    )
    if batch.decision is not None:
        chosen += f", {batch.decision.version} AS _decision_version"
    query = (
        f"SELECT {chosen}{', ' if kept else ''}{kept} FROM t JOIN p ON t.rowid = p._place "  # noqa: S608
        f"WHERE t.rowid >= {span[0]} AND t.rowid < {span[1]} ORDER BY t.rowid"
    )
    part_file = file.with_suffix(".part")
    connection.register("p", told)
    try:
        connection.execute(f"COPY ({query}) TO {text(part_file)} (FORMAT parquet)")
        part_file.replace(file)
    finally:
        connection.unregister("p")
        part_file.unlink(missing_ok=True)


def _told(exchange: Path, span: tuple[int, int]) -> tuple[dict[str, Any], list[str]]:
    """Read what the scorer left, as columns."""
    told: dict[str, Any] = {"_place": np.arange(*span), "_prediction": np.load(exchange / PREDICTION)}
    more = []
    for column, file in (("_class", LABELS), ("_decision", DECISIONS)):
        if (exchange / file).exists():
            told[column] = _plain(orjson.loads((exchange / file).read_bytes()))
            more.append(column)
    if (exchange / PROBABILITIES).exists():
        chances = np.load(exchange / PROBABILITIES)
        for place in range(chances.shape[1]):
            told[f"_probability_of_{place}"] = np.ascontiguousarray(chances[:, place])
            more.append(f"_probability_of_{place}")
    return told, more


def _plain(values: list[Any]) -> Any:
    """Give values as one column: booleans, numbers or texts; of several kinds, texts."""
    kinds = {type(value) for value in values} - {type(None)}
    missing = np.array([value is None for value in values], bool)
    if kinds <= {bool}:
        return np.ma.masked_array(np.array([bool(value) for value in values]), mask=missing)
    if kinds <= {int, float}:
        return np.ma.masked_array(np.array([0.0 if value is None else value for value in values]), mask=missing)
    column = np.empty(len(values), object)
    column[:] = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return column


def _cohorts(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[str], batch: Batch, span: tuple[int, int], identity: str
) -> Any:
    key = [column for column in batch.key if column in columns]
    if not key:
        return places([f"{identity}.{row}" for row in range(*span)])
    found = part(connection, key, *span)
    lists = [_nulls_as_none(found[column]) for column in key]
    return places(lists[0] if len(lists) == 1 else [json.dumps(row, default=str) for row in zip(*lists, strict=True)])


def _nulls_as_none(column: Any) -> list[Any]:
    missing = np.ma.getmaskarray(column).tolist()
    values = np.ma.getdata(column).tolist()
    return [None if gone else value for value, gone in zip(values, missing, strict=True)]


def _sum(profiles: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, list[int]]:
    if not profiles:
        return {}
    return {column: np.sum([one[column] for one in profiles], axis=0).tolist() for column in profiles[0]}
