"""Labels that come in a table: joined to predictions by key, each row loaded once.

The truth often lands in a file that grows or is written anew every night. What was loaded is remembered by key, so
that only new rows become label lines; a row without a value yet is left for a later time.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from trilho.config import FILE, Settings
from trilho.errors import ConfigError, DataError
from trilho_runtime.prediction.log import LineLog
from trilho_runtime.prediction.mask import Mask, canonical_text

LOADED = "labels.loaded"
LINES_AT_ONCE = 5000
NO_MASK = Mask()


@dataclass(frozen=True)
class KeyLabel:
    """A true value and the fields that name its prediction."""

    key: dict[str, Any]
    value: float

    def line(self, moment: str) -> bytes:
        """Give the label as the router would log it."""
        return orjson.dumps({"v": 1, "key": self.key, "y": self.value, "t": moment}, option=orjson.OPT_APPEND_NEWLINE)


def join_columns(settings: Settings) -> list[str]:
    """Give the columns by which labels of a table find their predictions: `[labels] on`, else the model's key."""
    return settings.labels.on or ([settings.model.key] if settings.model.key else [])


def key_text(fields: object, on: Sequence[str]) -> str | None:
    """Give the canonical text of a key, so that 7, 7.0, "7" and all spellings of one moment meet; None without a key.

    A time without a zone is one in UTC. A text is otherwise taken as it is: "007" is not 7.

    >>> key_text({"day": "2012-01-01 05:00-03:00", "store": 7.0}, ["day", "store"])
    '["2012-01-01T08:00:00","7"]'
    """
    if not on or not isinstance(fields, dict) or any(fields.get(name) is None for name in on):
        return None
    return json.dumps([canonical_text(fields[name]) for name in on], separators=(",", ":"), ensure_ascii=False)


def append_labels(
    settings: Settings, folder: Path, log: Path, file: Path | None = None, *, mask: Mask = NO_MASK
) -> int:
    """Load a table's new labels into a model's log folder and give how many there were.

    `mask` is the servers': a label finds its prediction by a key that is masked as the prediction's was.

    The lines reach the disk before they are remembered as loaded: after a crash in between they are loaded again,
    which the log counts as repeated.
    """
    fresh = new_labels(settings, folder, log, file, mask=mask)
    writer = LineLog(log / "labels", fsync=True)
    on = join_columns(settings)
    try:
        for start in range(0, len(fresh), LINES_AT_ONCE):
            part = fresh[start : start + LINES_AT_ONCE]
            moment = datetime.now(UTC).isoformat(timespec="milliseconds")
            writer.append(b"".join(label.line(moment) for label in part))
            _remember(log / LOADED, [str(key_text(label.key, on)) for label in part])
    except OSError as error:
        raise DataError(
            f"labels cannot be written to {log}: {error.strerror}", hint="free some space, then repeat"
        ) from error
    finally:
        writer.close()
    return len(fresh)


def new_labels(
    settings: Settings, folder: Path, log: Path, file: Path | None = None, *, mask: Mask = NO_MASK
) -> list[KeyLabel]:
    """Give the labels of a file, or of `[labels] source`, that were not loaded before; the first of a key counts."""
    on = join_columns(settings)
    if not on:
        raise ConfigError(
            f"{folder / FILE}: labels.on is empty and the model has no key; allowed: columns of the label table",
            hint="set labels.on, or model.key, to what names a row",
        )
    dropped = [name for name in on if mask.rules.get(name) == "drop"]
    if dropped:
        raise ConfigError(
            f"{folder / FILE}: labels are joined on {', '.join(dropped)}, which serve.mask drops from the log",
            hint='serve.mask = { column = "hash" } hides it and keeps labels finding their predictions',
        )
    seen = _remembered(log / LOADED)
    fresh = []
    for label in _read(_files(settings, folder, file), on, settings.labels.value or settings.model.target, folder):
        key = dict(mask.apply(label.key))
        text = key_text(key, on)
        if text is not None and text not in seen:
            seen.add(text)
            fresh.append(KeyLabel(key, label.value))
    return fresh


def _files(settings: Settings, folder: Path, file: Path | None) -> list[Path]:
    pattern = settings.labels.source
    if file is None and pattern is None:
        raise ConfigError(
            f"{folder / FILE}: labels.source is not set, and no file was named", hint="trilho labels load FILE"
        )
    found = source_files(settings, folder) if file is None else [file] if file.is_file() else []
    if not found:
        raise DataError(f"{file or folder / str(pattern)}: no such label file", hint="labels.source names it")
    return found


def source_files(settings: Settings, folder: Path) -> list[Path]:
    """Give the files that `[labels] source` names and that are there, a path or a pattern, relative or absolute."""
    pattern = settings.labels.source
    if pattern is None:
        return []
    if not any(c in pattern for c in "*?["):
        found = [folder / pattern]
    elif Path(pattern).is_absolute():
        anchor = Path(Path(pattern).anchor)
        found = sorted(anchor.glob(str(Path(pattern).relative_to(anchor))))
    else:
        found = sorted(folder.glob(pattern))
    return [path for path in found if path.is_file()]


def _read(files: list[Path], on: list[str], value: str, folder: Path) -> Iterator[KeyLabel]:
    import duckdb  # here: most commands read no table

    for path in files:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty", hint="a CSV with a header, or a Parquet file")
        try:
            rows = _rows(path, on, value, folder)
        except duckdb.Error as error:
            fact = f"{path}: not a readable label table: {str(error).splitlines()[0]}"
            raise DataError(fact, hint="a CSV with a header, or a Parquet file") from error
        for at, (*key, truth) in enumerate(rows):
            if truth is not None and all(part is not None for part in key):
                yield KeyLabel(dict(zip(on, map(_json_value, key), strict=True)), _number(truth, value, path, at))


def _rows(path: Path, on: list[str], value: str, folder: Path) -> list[tuple[Any, ...]]:
    """Give a table's keys and values. A CSV's keys are the texts that it holds: a guess at their type costs zeros."""
    from trilho.data.tables import as_type, database, name, text

    parquet = path.suffix in (".parquet", ".pq")
    reader = "read_parquet(?" if parquet else "read_csv(?, header = true, sample_size = -1"
    with database() as connection:
        found = connection.execute(f"DESCRIBE FROM {reader})", [str(path)]).fetchall()  # the name is no pattern
        kinds = {row[0]: str(row[1]) for row in found}
        for column in (*on, value):
            _check_column(column, list(kinds), path, folder)
        if not parquet:
            texts = {column: "VARCHAR" for column in on if column != value}
            kinds |= texts
            reader += f", types = {{{', '.join(f'{text(column)}: {text(kind)}' for column, kind in texts.items())}}}"
        chosen = [
            as_type(name(column), "TIMESTAMP") if kinds[column].startswith("TIMESTAMP") else name(column)
            for column in (*on, value)
        ]
        return connection.execute(f"SELECT {', '.join(chosen)} FROM {reader})", [str(path)]).fetchall()  # noqa: S608


def _check_column(name: str, names: list[str], path: Path, folder: Path) -> None:
    if name in names:
        return
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "change labels.on or labels.value, or the table"
    raise ConfigError(
        f"{folder / FILE}: [labels] joins on {name!r}, which {path.name} lacks; it has: {', '.join(names)}", hint=hint
    )


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def _number(truth: Any, name: str, path: Path, row: int) -> float:
    try:
        number = float(truth)
    except (TypeError, ValueError):
        number = float("nan")
    if number - number != 0:  # neither NaN nor infinite is a truth
        raise DataError(f"{path}: row {row + 1}: {name} is {truth!r}; allowed: a finite number", hint="correct the row")
    return number


def _remembered(path: Path) -> set[str]:
    try:
        return set(path.read_text(encoding="utf-8").split("\n"))
    except FileNotFoundError:
        return set()


def _remember(path: Path, keys: list[str]) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, "".join(f"{key}\n" for key in keys).encode())
    finally:
        os.close(handle)
