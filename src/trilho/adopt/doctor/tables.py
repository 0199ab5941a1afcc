"""The first rows of data files that the code reads: enough to see what is in their columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trilho.adopt.doctor.flow.names import last
from trilho.adopt.doctor.flow.values import Place
from trilho.adopt.doctor.subject import Subject
from trilho.data.tables import database, text

ROWS = 300
LARGEST_HEAD = 1 << 20
READERS = re.compile(r"(read|scan)_(csv|parquet|table|json)|open")
DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Sample:
    """The first rows of a file, as texts, by column."""

    path: str
    place: Place
    columns: dict[str, list[str]]


def samples(subject: Subject) -> Iterator[Sample]:
    """Read the first rows of every file that the code names and that is here, each file once."""
    seen: set[Path] = set()
    for chunk, node, name in subject.calls():
        told = subject.constants.text(node.args[0]) if node.args and READERS.fullmatch(last(name)) else None
        if told is None or "://" in told:
            continue
        for path in _files(subject.folder, told):
            if path not in seen:
                seen.add(path)
                columns = head(path)
                if columns:
                    yield Sample(told, chunk.place(node), columns)
    source = subject.settings.data.source if subject.settings is not None else ""
    for path in _files(subject.folder, source)[:1] if source else ():
        if path not in seen and (columns := head(path)):
            yield Sample(source, Place(None, 1, "trilho.toml"), columns)


def _files(folder: Path, told: str) -> list[Path]:
    if any(sign in told for sign in "*?["):
        return sorted(path for path in folder.glob(told.lstrip("/")) if path.is_file())[:1]
    path = folder / told
    try:
        return [path.resolve()] if path.is_file() else []
    except OSError:
        return []


def head(path: Path) -> dict[str, list[str]]:
    """Give a file's first rows as texts; {} for what is no table that can be read cheaply."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] in ([".parquet"], [".pq"]):
        return _parquet(path)
    if any(suffix in (".csv", ".tsv", ".txt") for suffix in suffixes) and suffixes[-1] not in (".gz", ".zip", ".bz2"):
        return _separated(path)
    return {}


def _parquet(path: Path) -> dict[str, list[str]]:
    import duckdb

    with database() as connection:
        try:
            found = connection.execute(f"SELECT * FROM read_parquet({text(path)}) LIMIT {ROWS}")  # noqa: S608
            names = [column[0] for column in found.description or ()]
            rows = found.fetchall()
        except duckdb.Error:
            return {}
    return {name: [str(row[at]) for row in rows if row[at] is not None] for at, name in enumerate(names)}


def _separated(path: Path) -> dict[str, list[str]]:
    """Read the first lines of a separated file by hand: its encoding and separator are anybody's."""
    import csv

    with path.open("rb") as handle:
        raw = handle.read(LARGEST_HEAD)
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        content = raw.decode("latin-1")
    lines = content.splitlines()[: ROWS + 1]
    if not lines:
        return {}
    delimiter = max(DELIMITERS, key=lines[0].count)
    try:
        rows = list(csv.reader(lines, delimiter=delimiter))
    except csv.Error:
        return {}
    names = rows[0]
    return {name: [row[at] for row in rows[1:] if at < len(row) and row[at] != ""] for at, name in enumerate(names)}
