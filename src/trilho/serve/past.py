"""What happened since a model of lags was packaged: served rows whose truth has come, and tables of such rows.

The servers look the past of a row up in one SQLite file (`trilho_runtime.serving.online`), which is written here: by
the watch after it sealed, from a cursor, and by hand from a table. A row is known by the model's key, or else by its
own content, so that one that is asked, labelled or loaded twice counts once, and a corrected truth takes the place of
a wrong one.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from trilho.core.ports import PredictionLog
from trilho.errors import DataError, NotYet
from trilho.serve.batch.source import Field as Wanted
from trilho.serve.batch.source import freeze, open_database, part
from trilho.serve.endpoint import read_json
from trilho_runtime.history import keys_of
from trilho_runtime.prediction.mask import canonical_text
from trilho_runtime.schema.casting import Given, cast_columns
from trilho_runtime.schema.field import Field
from trilho_runtime.schema.signature import RowError, Signature
from trilho_runtime.serving.online import SqlitePast, StoreError

TIMES_KEPT = 4  # as many rows of an entity as a row's features look at are kept so often
ROWS_AT_ONCE = 20_000
CURSOR, CORRECTED = "cursor", "corrected"
Row = dict[str, Any]


@dataclass(frozen=True)
class Extent:
    """How far the past is known."""

    until: str | None
    entities: int
    rows: int


@dataclass(frozen=True)
class Past:
    """The online store of one model, to be written; raises DataError where the file is not one."""

    file: Path
    package: Path | None
    """The package whose signature its rows have; None for a model without a version."""
    rows: int
    """How many past rows a row's features look at."""
    key: str | None = None
    hidden: Sequence[str] = field(default=())
    """Columns that the log holds as hashes, or not at all."""

    def make(self) -> None:
        """Have a store there, empty where it is new."""
        with self._open():
            pass

    def extent(self) -> Extent:
        """Say how far the past is known."""
        with self._open() as store:
            return Extent(*store.extent())

    def feed(self, log: PredictionLog) -> int:
        """Keep the served rows whose truth has come or was corrected since the last time; give how many there were.

        Raises DataError where the log hides a field: such a row cannot be anybody's past.
        """
        shape = self._shape()
        masked = [name for name in self.hidden if name in shape.signature.names]
        if masked:
            raise DataError(
                f"serve.mask hides {', '.join(masked)} from the log, so that served rows are no past to look up",
                hint="trilho history load FILE brings past rows from a table",
            )
        with self._open() as store:
            known = log.labelled(int(store.mark(CURSOR) or 0))
            corrected = log.corrected(int(store.mark(CORRECTED) or 0))
            truth: dict[int, Any] = {}
            for found in (known, corrected):  # a correction takes the place of what it corrects
                rows = [] if found.row is None else found.row.tolist()
                truth |= dict(zip(rows, found.value.tolist(), strict=True))
            if not truth:
                return 0
            kept = 0
            for past in _served(log, np.concatenate([known.time, corrected.time]), truth, shape):
                kept += self._put(store, shape, past)
            store.mark(CURSOR, str(known.cursor))
            store.mark(CORRECTED, str(corrected.cursor))
            return kept

    def expire(self, before: datetime) -> int:
        """Forget the rows of an event time before a moment; give how many went."""
        with self._open() as store:
            return store.expire(before.astimezone(UTC).replace(tzinfo=None).isoformat())

    def forget(self, field: str, value: Any) -> int:
        """Forget the rows whose field has a value, such as a person's number; give how many went."""
        with self._open() as store:
            return store.forget(field, value)

    def load(self, files: Sequence[Path]) -> int:
        """Keep the rows of a table, each with its target; those without one yet are passed over."""
        shape = self._shape()
        fields = [*shape.signature.fields, Field(shape.target, "number", True)]
        with self._open() as store, tempfile.TemporaryDirectory(prefix="trilho-") as folder:
            kept = 0
            with open_database(Path(folder) / "rows.db") as connection:
                count = freeze(connection, files, [Wanted(x.name, x.type) for x in fields])
                there = {row[0] for row in connection.execute("DESCRIBE t").fetchall()}
                names = [x.name for x in fields if x.name in there]
                for start in range(0, count, ROWS_AT_ONCE):
                    stop = min(start + ROWS_AT_ONCE, count)
                    columns = _cast(fields, part(connection, names, start, stop), stop - start, start, files[0])
                    kept += self._put(store, shape, _complete(columns, shape))
            return kept

    def _put(self, store: SqlitePast, shape: Shape, rows: Sequence[Row]) -> int:
        good = _checked(shape.signature, rows)
        if not good:
            return 0
        columns = shape.signature.columns(good)
        keys = keys_of(columns, shape.entity, len(good))
        times = columns[shape.time]
        told = [
            (list(key), str(time.item().isoformat()), self._name(row), row)
            for key, time, row in zip(keys, times, shape.signature.canonical(good), strict=True)
            if not np.isnat(time)
        ]
        kept = store.put(told)
        store.trim(TIMES_KEPT * self.rows, dict.fromkeys(keys))
        return kept

    def _name(self, row: Mapping[str, Any]) -> str:
        """Name a row: by the model's key, or by all of its fields but for the target."""
        target = self._shape().target
        if self.key is not None and row.get(self.key) is not None:
            return f"key:{canonical_text(row[self.key])}"
        fields = {name: canonical_text(value) for name, value in row.items() if name != target}
        return f"row:{hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]}"

    def _shape(self) -> Shape:
        found = read_json(self.package / "manifest.json") if self.package is not None else None
        told = (found or {}).get("history")
        if found is None or told is None:
            raise NotYet("no version of this model looks at past rows yet", hint="trilho train, with rows in [history]")
        signature = Signature.from_json(found["signature"])
        return Shape(signature, told["target"], told["time"], tuple(told["entity"]))

    @contextmanager
    def _open(self) -> Iterator[SqlitePast]:
        try:
            store = SqlitePast(self.file, writable=True)
            try:
                yield store
            finally:
                store.close()
        except (StoreError, sqlite3.Error) as error:
            said = str(error) if isinstance(error, StoreError) else f"{self.file}: {error}"
            raise DataError(said, hint="move the file away: it is made anew, and read from the log again") from None


@dataclass(frozen=True)
class Shape:
    """What a past row is made of."""

    signature: Signature
    target: str
    time: str
    entity: tuple[str, ...]


def _served(
    log: PredictionLog, times: NDArray[np.float64], truth: Mapping[int, float], shape: Shape
) -> Iterator[list[Row]]:
    """Give the labelled rows day by day, as their callers sent them, with their truth."""
    for day in np.unique(times // 86400).tolist():
        start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
        columns = log.rows(start, start + timedelta(days=1))
        places = [place for place, row in enumerate(columns["_row"].tolist()) if row in truth]
        fields = [x for x in shape.signature.fields if x.name in columns]
        yield [
            {
                **{x.name: _value(x, columns[x.name][place]) for x in fields},
                shape.target: truth[int(columns["_row"][place])],
            }
            for place in places
        ]


def _complete(columns: Mapping[str, NDArray[Any]], shape: Shape) -> list[Row]:
    """Give the rows whose target and time are known."""
    whole = ~np.isnan(columns[shape.target]) & ~np.isnat(columns[shape.time])
    names = list(columns)
    rows = zip(*(columns[name][whole] for name in names), strict=True)
    return [{name: _plain(value) for name, value in zip(names, row, strict=True)} for row in rows]


def _cast(
    fields: Sequence[Field], found: Mapping[str, Any], rows: int, start: int, file: Path
) -> dict[str, NDArray[Any]]:
    given = {
        name: Given.of(np.asarray(column.data), np.ma.getmaskarray(column))
        if np.ma.isMaskedArray(column)
        else Given.of(column)
        for name, column in found.items()
    }
    try:
        return cast_columns(Signature(tuple(fields)), given, rows)
    except RowError as error:
        said = str(error).partition(": ")[2]
        raise DataError(f"{file}: row {start + (error.row or 0)}: {said}", hint="correct the table") from None


def _checked(signature: Signature, rows: Sequence[Row]) -> list[Row]:
    """Leave out the rows that the signature refuses: an older version may have taken them."""
    try:
        signature.columns(rows)
    except RowError:
        return [row for row in rows if _fits(signature, row)]
    return list(rows)


def _fits(signature: Signature, row: Row) -> bool:
    try:
        signature.columns([row])
    except RowError:
        return False
    return True


def _value(field: Field, value: Any) -> Any:
    found = _plain(value)
    return int(found) if field.type == "integer" and isinstance(found, float) and found.is_integer() else found


def _plain(value: Any) -> Any:
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else value.item().isoformat()
    found = value.item() if isinstance(value, np.generic) else value
    return None if found != found else found


def to_json(extent: Extent) -> dict[str, Any]:
    """Give an extent as `trilho history --json` shows it.

    >>> to_json(Extent(None, 0, 0))
    {'until': None, 'entities': 0, 'rows': 0}
    """
    return asdict(extent)
