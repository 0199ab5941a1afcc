"""The log for those who ask it with SQL: a DuckDB view on the files, with labels and real times."""

from __future__ import annotations

from trilho.errors import DataError
from trilho.serve.columns import named, quoted, union
from trilho.serve.partitions import Partitions

NONE = "none.parquet"
SECONDS = ("_time", "_served")


def view_sql(partitions: Partitions, name: str) -> str:
    """Give the SQL of a view on all that is sealed, now and later.

    A row is a served prediction: the raw fields, `_id`, `_time` and `_served` (UTC), `_version`, `_prediction`,
    `_label`, and what else its line held. The folders' `day` is left out: a raw field may be called so.
    """
    parts = partitions.parts("kind = 'segments' AND day IS NOT NULL")
    if not parts:
        raise DataError(f"{partitions.folder}: nothing was served yet", hint="a prediction makes the first segment")
    _write_none(partitions, _label_type(partitions))
    known = partitions.tables.fetch(f"SELECT * FROM {partitions.union(parts)} LIMIT 0")  # noqa: S608
    real = ", ".join(
        f"make_timestamp(CAST(round(s.{one} * 1e6) AS BIGINT)) AS {one}" for one in SECONDS if one in known
    )
    return (
        f"CREATE OR REPLACE VIEW {named(name)} AS\n"
        f"SELECT s.* REPLACE ({real}), l._label\n"
        f"FROM {_files(partitions, 'segments')} s\n"
        f"LEFT JOIN {_files(partitions, 'truths')} l ON l._row = s._row;\n"
    )


def _files(partitions: Partitions, kind: str) -> str:
    pattern = quoted(partitions.folder.resolve() / kind / "**" / "*.parquet")
    return f"read_parquet({pattern}, union_by_name=true, hive_partitioning=false)"


def _label_type(partitions: Partitions) -> str:
    """Give the SQL type of the labels that have come: a number's, where none has."""
    parts = partitions.parts("kind = 'truths'")
    if not parts:
        return "DOUBLE"
    query = f"SELECT column_type AS kind FROM (DESCRIBE SELECT _label FROM {partitions.union(parts)})"  # noqa: S608
    return str(partitions.tables.fetch(query)["kind"][0])


def _write_none(partitions: Partitions, kind: str) -> None:
    """Have one file of labels, with none in it and of their type: a pattern without files is an error."""
    path = partitions.folder / "truths" / NONE
    if path.exists():
        query = f"SELECT column_type AS kind FROM (DESCRIBE SELECT _label FROM {union([path])})"  # noqa: S608
        if str(partitions.tables.fetch(query)["kind"][0]) == kind:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    empty = f"SELECT CAST(0 AS BIGINT) AS _row, CAST(NULL AS {kind}) AS _label LIMIT 0"
    partitions.tables.copy(empty, path)
