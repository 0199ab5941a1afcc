"""Dataset versions: an immutable snapshot of files, named by the digest of a manifest.

The files are kept in the artifact store; the manifest says what they are and how they become one table. What a
storage format calls a version is not one here, since those are forgotten after days.
"""

from __future__ import annotations

import difflib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trilho.core.ports import ArtifactStore
from trilho.data.contract import Contract, row_rules
from trilho.data.tables import (
    Column,
    as_type,
    check_file,
    columns_of,
    database,
    format_of,
    name,
    scan,
    text,
    told_of,
)
from trilho.errors import ConfigError, DataError

if TYPE_CHECKING:
    import duckdb

SCHEMA = 1


class Files(Protocol):
    """Artifacts as far as reading them goes."""

    def path(self, digest: str) -> Path:
        """Give where an artifact lies. Raises DataError when it is not there."""


@dataclass(frozen=True)
class Dataset:
    """A dataset version: the digest of its manifest, and what is known of its table."""

    digest: str
    rows: int
    columns: list[str]
    first: str | None  # smallest and largest value of the time column, ISO 8601
    last: str | None
    served_rows: int
    source: str
    baseline_first: str | None = None  # of the rows that are no served ones
    baseline_last: str | None = None
    served_left_out: int = 0  # served rows that break the contract, and are not of the dataset


@dataclass(frozen=True)
class File:
    """One file of a dataset version, as its manifest lists it."""

    name: str
    digest: str
    rows: int
    format: str
    role: str  # "baseline", or "served": rows that a model answered and that were labelled since


def version_data(
    sources: Sequence[Path],
    store: ArtifactStore,
    *,
    time: str | None,
    key: str | None,
    target: str,
    served: Path | None,
    contract: Contract | None = None,
) -> Dataset:
    """Make a dataset version of files: copy them into the store and name them by a manifest.

    `served` is a Parquet file with the raw columns and the target; its rows that break the contract's rules for
    columns are left out and counted. Raises DataError for a file that is missing, empty
    or cannot be read, and ConfigError for a column that trilho.toml names and the data has not.
    """
    if not sources:
        raise DataError("no data file", hint="change data.source in trilho.toml")
    with database() as connection:
        baseline = [_read(connection, path, store, "baseline") for path in sources]
        columns = _united([columns for _, columns in baseline], sources)
        _check_columns(columns, target=target, time=time, key=key)
        typed = [asdict(_as_time(column) if column.name == time else column) for column in columns]
        rules, files, left_out = contract or Contract(), [file for file, _ in baseline], 0
        if served is not None:
            needed = [target, *([time] if time else [])]
            with tempfile.TemporaryDirectory(prefix="trilho-") as folder:
                good = Path(folder) / served.name
                left_out = _keep_good(connection, served, typed, rules, needed, good)
                files.append(_read(connection, good, store, "served")[0])
        manifest: dict[str, Any] = {
            "schema": SCHEMA,
            "target": target,
            "time": time,
            "key": key,
            "columns": typed,
            "files": [asdict(file) for file in files],
            "served_left_out": left_out,
            "unique": [x for x in rules.table.unique if x in [column.name for column in columns]],
        }
        manifest |= _measure(connection, manifest, store, sources)
    digest = _keep(manifest, store)
    return describe(digest, manifest)


def describe(digest: str, manifest: Mapping[str, Any]) -> Dataset:
    """Give a dataset version as its manifest has it."""
    files = [File(**file) for file in manifest["files"]]
    names = ", ".join(file.name for file in files if file.role == "baseline")
    served, left_out = manifest["served_rows"], manifest.get("served_left_out", 0)
    source = f"{names} and {served} served rows" if served else names
    return Dataset(
        digest=digest,
        rows=manifest["rows"],
        columns=[column["name"] for column in manifest["columns"]],
        first=manifest["first"],
        last=manifest["last"],
        served_rows=served,
        source=f"{source}, {left_out} more left out: they break the contract" if left_out else source,
        baseline_first=manifest["baseline_first"],
        baseline_last=manifest["baseline_last"],
        served_left_out=left_out,
    )


def read_manifest(digest: str, store: Files) -> dict[str, Any]:
    """Read a dataset version's manifest."""
    found: dict[str, Any] = json.loads(store.path(digest).read_text(encoding="utf-8"))
    if found.get("schema") != SCHEMA:
        raise DataError(
            f"dataset {digest[:12]} has a manifest of schema {found.get('schema')}; this trilho reads {SCHEMA}",
            hint="use the trilho that wrote it",
        )
    return found


def artifacts_of(digest: str, store: Files) -> set[str]:
    """Give the artifacts that a dataset version stands on: its manifest and its files."""
    return {digest, *(file["digest"] for file in read_manifest(digest, store)["files"])}


def load_table(digest: str, store: Files, out: Path) -> int:
    """Write a dataset version as one Parquet table and give its rows.

    Files are joined by the names of their columns and read as the baseline's types; of rows with one key the first
    counts, so that a served row never replaces a baseline row; the order is that of time.
    """
    manifest = read_manifest(digest, store)
    columns = ", ".join(name(column["name"]) for column in manifest["columns"])
    time = f"{name(manifest['time'])}, " if manifest["time"] else ""
    with database() as connection:
        query = f"SELECT {columns} FROM ({_table(manifest, store)}) ORDER BY {time}_file, _row"  # noqa: S608
        connection.execute(f"COPY ({query}) TO {text(out)} (FORMAT parquet)")
    return int(manifest["rows"])


def _read(
    connection: duckdb.DuckDBPyConnection, path: Path, store: ArtifactStore, role: str
) -> tuple[File, list[Column]]:
    check_file(path)
    format_ = format_of(path)
    source = scan(path, format_)
    columns = columns_of(connection, source, path)
    with told_of(path):
        found = connection.execute(f"SELECT count(*) FROM {source}").fetchone()  # noqa: S608
    rows = int(found[0]) if found else 0
    if rows == 0 and role == "baseline":
        raise DataError(f"{path} has a header and no rows", hint="get the file again from where it comes from")
    return File(path.name, store.put(path), rows, format_, role), columns


def _united(tables: Sequence[Sequence[Column]], sources: Sequence[Path]) -> list[Column]:
    """Join the columns of several files by name; integers and floats of one name are floats."""
    found: dict[str, str] = {}
    for columns, path in zip(tables, sources, strict=True):
        for column in columns:
            known = found.setdefault(column.name, column.type)
            if known != column.type and {known, column.type} != {"BIGINT", "DOUBLE"}:
                raise DataError(
                    f"{path}: column {column.name} is {column.type}, and {known} in a file before it",
                    hint="give the column one type in all files",
                )
            if known != column.type:
                found[column.name] = "DOUBLE"
    return [Column(column, type_) for column, type_ in found.items()]


def _check_columns(columns: Sequence[Column], **named: str | None) -> None:
    there = {column.name: column.type for column in columns}
    for role, column in named.items():
        if column is not None and column not in there:
            raise ConfigError(
                f"trilho.toml: model.{role} is {column!r}, and the data has no such column; it has: {', '.join(there)}",
                hint=_nearest(column, there) or f"change model.{role}",
            )
    target = named["target"]
    if target is not None and there[target] not in ("BIGINT", "DOUBLE", "BOOLEAN"):
        raise DataError(
            f"the target {target} is {there[target]}; a number is wanted, or 0 and 1 for a class",
            hint="write the target as a number, or change model.target in trilho.toml",
        )
    time = named["time"]
    if time is not None and there[time] not in ("TIMESTAMP", "VARCHAR"):
        raise ConfigError(
            f"trilho.toml: model.time is {time!r}, a column of {there[time]}; a time is wanted",
            hint="change model.time, or leave it out",
        )


def _nearest(column: str, there: Iterable[str]) -> str | None:
    close = difflib.get_close_matches(column, list(there), n=1)
    return f"did you mean {close[0]!r}?" if close else None


def _as_time(column: Column) -> Column:
    return Column(column.name, "TIMESTAMP")


def _table(manifest: Mapping[str, Any], store: Files) -> str:
    """Give the SQL of the whole table, with `_file`, `_row` and `_served` beside its columns."""
    parts = [_part(index, File(**file), manifest["columns"], store) for index, file in enumerate(manifest["files"])]
    whole = " UNION ALL ".join(parts)
    key, unique = manifest["key"], manifest.get("unique", [])  # what repeats in a source file the contract may forbid
    kept = [f"({name(key)} IS NULL OR {_first_of(key)})"] if key and key not in unique else []
    kept += [f"(NOT _served OR {name(column)} IS NULL OR {_first_of(column)})" for column in unique]
    return f"SELECT * FROM ({whole}) QUALIFY {' AND '.join(kept)}" if kept else whole  # noqa: S608


def _first_of(column: str) -> str:
    return f"row_number() OVER (PARTITION BY {name(column)} ORDER BY _file, _row) = 1"


def _part(index: int, file: File, columns: Sequence[Mapping[str, str]], store: Files) -> str:
    """Give the SQL of one file. What a served row holds that is not of the baseline's type counts as missing."""
    source = scan(store.path(file.digest), file.format)
    served = file.role == "served"
    chosen = _chosen(source, columns, "TRY_CAST" if served else "CAST")
    return f"SELECT {chosen}, {index} AS _file, row_number() OVER () AS _row, {served} AS _served FROM {source}"  # noqa: S608


def _chosen(source: str, columns: Sequence[Mapping[str, str]], cast: str) -> str:
    """Give the SQL of a file's columns as the types of the whole table; a column that it lacks is empty."""
    with database() as connection:
        there = {row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}  # noqa: S608
    return ", ".join(
        f"{as_type(name(c['name']) if c['name'] in there else 'NULL', c['type'], cast)} AS {name(c['name'])}"
        for c in columns
    )


def _keep_good(
    connection: duckdb.DuckDBPyConnection,
    served: Path,
    columns: Sequence[Mapping[str, str]],
    contract: Contract,
    needed: Sequence[str],
    out: Path,
) -> int:
    """Write the served rows that can be learnt from, and give how many cannot.

    A row that a caller sent must not stop every training to come: without a time or a target, or against the
    contract's rules for columns, it is left out. A source file that is wrong does stop them.
    """
    check_file(served)
    source = scan(served, "parquet")
    kinds = {column["name"]: column["type"] for column in columns}
    good = " AND ".join([*(f"{name(column)} IS NOT NULL" for column in needed), *row_rules(contract, kinds), "true"])
    with told_of(served):
        rows = f"SELECT {_chosen(source, columns, 'TRY_CAST')} FROM {source}"  # noqa: S608
        found = connection.execute(f"SELECT count(*) FILTER (NOT ({good})) FROM ({rows})").fetchone()  # noqa: S608
        connection.execute(f"COPY (SELECT * FROM ({rows}) WHERE {good}) TO {text(out)} (FORMAT parquet)")  # noqa: S608
    return int(found[0]) if found else 0


def _measure(
    connection: duckdb.DuckDBPyConnection, manifest: Mapping[str, Any], store: ArtifactStore, sources: Sequence[Path]
) -> dict[str, Any]:
    time = name(manifest["time"]) if manifest["time"] else "NULL"
    query = f"""
        SELECT count(*), count(*) FILTER (_served), min({time}), max({time}),
               min({time}) FILTER (NOT _served), max({time}) FILTER (NOT _served), count(*) FILTER ({time} IS NULL)
        FROM ({_table(manifest, store)})"""  # noqa: S608
    with told_of(sources[0]):
        row = connection.execute(query).fetchone()
    assert row is not None
    if manifest["time"] and row[6]:
        raise DataError(
            f"the time column {manifest['time']} is empty in {row[6]} of {row[0]} rows",
            hint="leave those rows out, or leave model.time out of trilho.toml",
        )
    first, last, baseline_first, baseline_last = (_iso(value) for value in row[2:6])
    return {
        "rows": int(row[0]),
        "served_rows": int(row[1]),
        "first": first,
        "last": last,
        "baseline_first": baseline_first,
        "baseline_last": baseline_last,
    }


def _iso(value: datetime | None) -> str | None:
    return value.isoformat() if value is not None else None


def _keep(manifest: Mapping[str, Any], store: ArtifactStore) -> str:
    with tempfile.TemporaryDirectory(prefix="trilho-") as folder:
        file = Path(folder) / "dataset.json"
        file.write_text(json.dumps(manifest, sort_keys=True, indent=1), encoding="utf-8")
        return store.put(file)
