"""Whatever data somebody has at hand, opened as a table."""

from __future__ import annotations

import glob
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import numpy as np

from trilho.data.tables import text as literal
from trilho.errors import ConfigError, DataError
from trilho.watch.tables.bigquery import BigQueryTable, Rows
from trilho.watch.tables.duck import DuckTable, connect, own_table
from trilho.watch.tables.log import LogTable
from trilho.watch.tables.table import ArrayTable, Table

KNOWN = "a mapping of arrays, a pandas frame, an Arrow table, a path, a DuckDB relation, a Delta table or a log"
PARQUET, CSV = (".parquet", ".pq"), (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")


def open_table(data: Any, *, client: Any = None) -> Table:
    """Open data as a table that can be profiled.

    `client` is what runs SQL for `bigquery:project.dataset.table`: a google.cloud.bigquery.Client, or a function that
    takes SQL and gives rows.
    """
    if isinstance(data, (str, Path)):
        return _named(str(data), client)
    if isinstance(data, Mapping):
        return ArrayTable(data)
    return _object(data)


def _object(data: Any) -> Table:
    home = type(data).__module__.partition(".")[0]
    if hasattr(data, "windows") and hasattr(data, "count") and hasattr(data, "sample"):
        return cast(Table, data)
    if hasattr(data, "gather") and hasattr(data, "extent"):
        return LogTable(data)
    if hasattr(data, "query") and hasattr(data, "fetchnumpy"):
        return DuckTable(lambda sql: data.query("_relation", sql), "_relation")
    if hasattr(data, "file_uris") and hasattr(data, "protocol"):
        return _delta(data)
    if home == "pandas":
        return ArrayTable({str(name): data[name] for name in data.columns})
    if hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        connection = connect()
        connection.register("_arrow", data)
        return own_table("_arrow", connection, columnar=True)
    if isinstance(data, Sequence) and data and all(isinstance(item, (str, Path)) for item in data):
        return _files([str(item) for item in data])
    raise ConfigError(f"a {type(data).__name__} cannot be profiled", hint=f"give {KNOWN}")


def _named(name: str, client: Any) -> Table:
    if name.startswith("bigquery:"):
        if client is None:
            hint = "pass client=google.cloud.bigquery.Client(), or a function that takes SQL and gives rows"
            raise ConfigError(f"{name} needs a client of BigQuery", hint=hint)
        return BigQueryTable(name.removeprefix("bigquery:"), _runner(client))
    if name.startswith("delta:"):
        return _delta(_delta_table(name.removeprefix("delta:")))
    found = [name]
    if glob.has_magic(name) and not Path(name).exists():
        found = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (a pattern may be absolute)
    if not found or not Path(found[0]).exists():
        raise DataError(f"{name}: no such file", hint='give a path, or a pattern such as "data/*.parquet"')
    if Path(name, "_delta_log").is_dir():
        return _delta(_delta_table(name))
    if Path(name).is_dir():
        raise DataError(f"{name} is a folder, not a file", hint=f'a folder is named with a pattern: "{name}/*.parquet"')
    return _files(found)


def _files(paths: Sequence[str]) -> Table:
    listed = f"[{', '.join(map(literal, paths))}]"
    if all(path.lower().endswith(PARQUET) for path in paths):
        return _parquet(listed)
    if not all(path.lower().endswith(CSV) for path in paths):
        raise DataError(f"{paths[0]}: not a kind of table", hint="give .csv or .parquet files, all of one kind")

    def typed(texts: Collection[str]) -> str:
        kinds = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in sorted(texts))
        return f"read_csv({listed}, union_by_name = true" + (f", types = {{{kinds}}})" if kinds else ")")

    return own_table(typed(()), typed=typed)


def _parquet(listed: str, more: str = "") -> Table:
    source = f"read_parquet({listed}, union_by_name = true, file_row_number = true{more})"
    return own_table(source, position="file_row_number", columnar=True)


def _delta_table(path: str) -> Any:
    try:
        from deltalake import DeltaTable
    except ImportError as error:
        raise ConfigError("a Delta table needs deltalake", hint='pip install "trilho[delta]"') from error
    try:
        return DeltaTable(path)
    except Exception as error:
        raise DataError(f"{path}: not a Delta table: {str(error).splitlines()[0]}", hint="check the path") from error


def _delta(table: Any) -> Table:
    """Read the files of a Delta table's version; a table whose rows are deleted by vectors would show them again."""
    if "deletionVectors" in (table.protocol().reader_features or ()):
        hint = "write the table without deletion vectors, or give what a reader of yours fetches"
        raise DataError("this Delta table deletes rows by vectors, which are not read here", hint=hint)
    paths = [_on_disk(uri.removeprefix("file://")) for uri in table.file_uris()]
    if not paths:
        return ArrayTable({field.name: np.zeros(0) for field in table.schema().fields})
    return _parquet(f"[{', '.join(map(literal, paths))}]", ", hive_partitioning = true")


def _on_disk(path: str) -> str:
    """Give a file's path as it is on disk: a partition's folder may be named with escapes, or the log may have them."""
    return path if Path(path).exists() else unquote(path)


def _runner(client: Any) -> Callable[[str], Rows]:
    if callable(client):
        return cast(Callable[[str], Rows], client)
    return lambda sql: [tuple(row.values()) for row in client.query(sql).result()]
