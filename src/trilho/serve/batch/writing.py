"""A part of a table written with its scores: the columns of the log, then the table's own."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from trilho.data.tables import name, text
from trilho.serve.batch.cohort import places
from trilho.serve.batch.source import part
from trilho.serve.columns import OWN
from trilho_runtime.scorer import DECISIONS, LABELS, PREDICTION, PROBABILITIES

if TYPE_CHECKING:
    import duckdb

    from trilho.serve.batch.run import Batch


def write_scores(
    connection: duckdb.DuckDBPyConnection,
    exchange: Path,
    file: Path,
    span: tuple[int, int],
    version: int,
    batch: Batch,
    identity: str,
) -> None:
    """Write a part's rows with what the scorer said of them; the file is there whole or not at all."""
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
