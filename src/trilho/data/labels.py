"""Labels that come in a table: joined to predictions by key, each row loaded once.

The truth often lands in a file that grows or is written anew every night. What was loaded is remembered by key, so
that only new rows become label lines; a row without a value yet is left for a later time.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from trilho.config import FILE, Settings
from trilho.core.files import write_whole
from trilho.errors import ConfigError, DataError
from trilho_runtime.prediction.log import NAMED, VERSION, LineLog
from trilho_runtime.prediction.mask import Mask, canonical_text

LOADED = "labels.loaded"
LINES_AT_ONCE = 5000
NO_MASK = Mask()


@dataclass(frozen=True)
class KeyLabel:
    """A true value and the fields that name its prediction."""

    key: dict[str, Any]
    value: float | str | bool

    def line(self, moment: str) -> bytes:
        """Give the label as the router would log it."""
        version = VERSION if type(self.value) is float else NAMED
        line = {"v": version, "key": self.key, "y": self.value, "t": moment}
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


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
    settings: Settings,
    folder: Path,
    log: Path,
    file: Path | None = None,
    *,
    mask: Mask = NO_MASK,
    classes: Sequence[Any] = (),
) -> int:
    """Load a table's new labels into a model's log folder and give how many there were.

    `mask` is the servers': a label finds its prediction by a key that is masked as the prediction's was. `classes` are
    the model's; where there are none a label is a number.

    The lines reach the disk before they are remembered as loaded: after a crash in between they are loaded again,
    which the log counts as repeated.
    """
    fresh = new_labels(settings, folder, log, file, mask=mask, classes=classes)
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
    settings: Settings,
    folder: Path,
    log: Path,
    file: Path | None = None,
    *,
    mask: Mask = NO_MASK,
    classes: Sequence[Any] = (),
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
    value = settings.labels.value or settings.model.target
    words = _Words(value, settings.model.target, settings.labels.classes, tuple(classes))
    for label in _read(_files(settings, folder, file), on, words, folder):
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


@dataclass(frozen=True)
class _Words:
    """How a table says what is true: in which column, and what its words stand for."""

    column: str
    target: str
    known: Mapping[str, float]  # `[labels] classes`
    classes: tuple[Any, ...]

    def of(self, there: Collection[str]) -> _Words:
        """Give what holds for a table of these columns: one that lacks the column may have the model's own target."""
        if self.column in there or self.target not in there:
            return self
        return replace(self, column=self.target, known={})

    def truth(self, value: Any, path: Path, row: int) -> float | str | bool:
        """Give the class or number that a value stands for. Raises DataError where it stands for none."""
        word = value.strip() if isinstance(value, str) else _text(_json_value(value))
        value = self.known.get(word, self.known.get(canonical_text(word), value))  # 2.0 is 2 in a CSV too
        found = as_class(value, self.classes)
        return _number(value, self.column, path, row, (*self.known, *self.classes)) if found is None else found


def _read(files: list[Path], on: list[str], words: _Words, folder: Path) -> Iterator[KeyLabel]:
    import duckdb  # here: most commands read no table

    for path in files:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty", hint="a CSV with a header, or a Parquet file")
        try:
            here, rows = _rows(path, on, words, folder)
        except duckdb.Error as error:
            fact = f"{path}: not a readable label table: {str(error).splitlines()[0]}"
            raise DataError(fact, hint="a CSV with a header, or a Parquet file") from error
        for at, (*key, truth) in enumerate(rows):
            if truth is not None and all(part is not None for part in key):
                found = here.truth(truth, path, at)
                yield KeyLabel(dict(zip(on, map(_json_value, key), strict=True)), found)


def _rows(path: Path, on: list[str], words: _Words, folder: Path) -> tuple[_Words, list[tuple[Any, ...]]]:
    """Give how a table says it, its keys and values. A CSV's keys are its own texts: a guess costs zeros."""
    from trilho.data.tables import as_type, database, name, text

    parquet = path.suffix in (".parquet", ".pq")
    reader = "read_parquet(?" if parquet else "read_csv(?, header = true, sample_size = -1"
    with database() as connection:
        found = connection.execute(f"DESCRIBE FROM {reader})", [str(path)]).fetchall()  # the name is no pattern
        kinds = {row[0]: str(row[1]) for row in found}
        words = words.of(kinds)
        value = words.column
        for column in (*on, value):
            _check_column(column, list(kinds), path, folder)
        if not parquet:
            texts = {column: "VARCHAR" for column in on if column != value}
            texts |= {value: "VARCHAR"} if words.known else {}  # "t" and "f" are words of somebody's
            kinds |= texts
            reader += f", types = {{{', '.join(f'{text(column)}: {text(kind)}' for column, kind in texts.items())}}}"
        chosen = [
            as_type(name(column), "TIMESTAMP") if kinds[column].startswith("TIMESTAMP") else name(column)
            for column in (*on, value)
        ]
        rows = connection.execute(f"SELECT {', '.join(chosen)} FROM {reader})", [str(path)]).fetchall()  # noqa: S608
        return words, rows


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


def as_class(truth: Any, classes: Sequence[Any]) -> float | str | bool | None:
    """Give the class that a table's value stands for: itself, or what is written the same; None for no class.

    >>> as_class("yes", ("no", "yes")), as_class(7, ("7", "8")), as_class(True, (0, 1)), as_class("true", (False, True))
    ('yes', '7', 1.0, True)
    >>> as_class(2, (0, 1))
    """
    found = next((label for label in classes if type(label) is type(truth) and label == truth), None)
    if found is None:
        found = next((label for label in classes if not isinstance(label, str) and _is_same(label, truth)), None)
    if found is None and isinstance(truth, str | int | float):
        text = _text(truth)
        found = next((label for label in classes if text in (str(label), _text(label))), None)
    return found if found is None or isinstance(found, str | bool) else float(found)


def _is_same(label: Any, truth: Any) -> bool:
    return isinstance(truth, int | float | Decimal) and bool(label == truth)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else canonical_text(value)


def _number(truth: Any, name: str, path: Path, row: int, classes: Sequence[Any] = ()) -> float:
    try:
        number = float(truth)
    except (TypeError, ValueError):
        number = float("nan")
    if number - number != 0:  # neither NaN nor infinite is a truth
        allowed = f"one of {', '.join(map(repr, classes))}" if classes else "a finite number"
        raise DataError(f"{path}: row {row + 1}: {name} is {truth!r}; allowed: {allowed}", hint="correct the row")
    return number


def _remembered(path: Path) -> set[str]:
    try:
        return set(path.read_text(encoding="utf-8").split("\n"))
    except FileNotFoundError:
        return set()


def forget_loaded(log: Path, on: Sequence[str], field: str, value: Any) -> int:
    """Forget that labels of a key with a value were loaded, as nothing of that key is to be kept; give how many."""
    path = log / LOADED
    if field not in on or not path.exists():
        return 0
    place, sought = on.index(field), canonical_text(value)
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line or json.loads(line)[place] != sought]
    if len(kept) < len(lines):
        write_whole(path, "".join(f"{line}\n" for line in kept))
    return len(lines) - len(kept)


def _remember(path: Path, keys: list[str]) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, "".join(f"{key}\n" for key in keys).encode())
    finally:
        os.close(handle)
