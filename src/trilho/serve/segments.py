"""The log of what was served: lines that servers wrote, sealed into Parquet segments, joined with their labels.

A server writes a line before it answers, by one write; this side moves complete lines into segments that are renamed
into place and listed in one transaction with the offsets. Nothing here is in the path of a request.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trilho.core.database import Database
from trilho.core.ports import Columns, Labelled
from trilho.core.readings import LabelStatus
from trilho.data.labels import key_text
from trilho.errors import DataError
from trilho.serve.columns import META, Tables, to_columns, union
from trilho.serve.index import SCHEMA, Index, Line, number_of, seconds_of, time_of
from trilho.serve.lines import Chunk, gone, read_chunk
from trilho_runtime.log import is_label

SMALL_ROWS = 20_000
MANY_SMALL = 32
MOST_STRAY = 10
DAY_SECONDS = 86400.0
BY_ID = "SELECT row FROM predictions WHERE id = ?"
BY_KEY = "SELECT row FROM predictions WHERE key = ?"
T = TypeVar("T")


class LocalPredictionLog:
    """The PredictionLog port on a folder: predictions/*.jsonl, labels/*.jsonl, segments/*.parquet, log.sqlite.

    A row's event time is its `time` field (ISO 8601, UTC where it names no zone), else the moment it was served.
    `key` names the field, or the fields, by which labels may come; a key that was served twice labels both.
    The first label of a prediction counts, later ones are counted as repeated. A label that cannot be true, as 7 where
    labels are `binary`, is counted as impossible: one of them would fail every training.
    """

    def __init__(
        self, folder: Path, time: str | None = None, key: str | Sequence[str] | None = None, *, binary: bool = False
    ) -> None:
        self.folder = folder
        self._binary = binary
        self._time = time
        self._on = [key] if isinstance(key, str) else list(key or ())
        self._database = Database(folder / "log.sqlite", SCHEMA, what="the prediction log", durable=False)
        self._tables, self._lock = Tables(), threading.RLock()
        self._swept = False

    def seal(self) -> int:
        """Move complete new lines of predictions and labels into the log; give how many were moved.

        Safe with several sealers and with servers that go on writing. What cannot be read is counted and passed over.
        """
        moved = 0
        with self._lock:
            while news := self._news():
                lines, bytes_ = self._seal_once(news)
                moved += lines
                if not bytes_:
                    break
            self._merge()
        return moved

    def _files(self) -> list[Path]:
        # Predictions first: a label is looked up among what was served before it.
        return [path for part in ("predictions", "labels") for path in sorted((self.folder / part).glob("*.jsonl"))]

    def _news(self) -> list[Path]:
        offsets = dict(self._database.read("SELECT path, offset FROM files"))
        files = self._files()
        ended = {path for path in files if gone(path, files)}  # asked before the size: it can grow until then
        finished = [path for path in files if _size(path) <= offsets.get(self._name(path), 0)]
        self._drop([path for path in finished if path in ended])
        return [path for path in files if path not in finished]

    def _name(self, path: Path) -> str:
        return f"{path.parent.name}/{path.name}"

    def _drop(self, files: list[Path]) -> None:
        """Delete fully sealed files whose writer is gone, once what they held has reached the disk."""
        if not files or self._database.read("PRAGMA wal_checkpoint(FULL)")[0][0]:
            return  # a reader holds the checkpoint up: next time
        with self._database.write() as connection:
            for path in files:
                path.unlink(missing_ok=True)
                connection.execute("DELETE FROM files WHERE path = ?", (self._name(path),))

    def _seal_once(self, files: list[Path]) -> tuple[int, int]:
        """Seal up to one chunk of each file in one transaction; give the lines and bytes that were moved."""
        (self.folder / "segments").mkdir(parents=True, exist_ok=True)
        lines = bytes_ = 0
        with self._database.write() as connection:
            index = Index(connection)
            offsets = dict(connection.execute("SELECT path, offset FROM files").fetchall())
            chunks: dict[str, list[Chunk]] = {"predictions": [], "labels": []}
            for path in files:
                offset = offsets.get(self._name(path), 0)
                chunk = self._read(path, offset, files)
                if chunk is None or chunk.end == offset:
                    continue
                chunks[path.parent.name].append(chunk)
                index.move(self._name(path), chunk.end)
                index.counted["torn"] += chunk.torn
                lines, bytes_ = lines + len(chunk.lines), bytes_ + chunk.end - offset
            self._take_predictions(index, [line for chunk in chunks["predictions"] for line in chunk.lines])
            self._take_labels(index, [line for chunk in chunks["labels"] for line in chunk.lines])
            index.count()
        return lines, bytes_

    def _read(self, path: Path, offset: int, files: list[Path]) -> Chunk | None:
        ended = gone(path, files)  # asked before reading: what a process wrote before it ended is all there
        try:
            return read_chunk(path, offset, writer_gone=ended)
        except FileNotFoundError:  # another sealer was faster
            return None

    def _take_predictions(self, index: Index, lines: list[Line]) -> None:
        rows, fields, met = [], [], []
        for line in lines:
            x, served, y = line.get("x"), seconds_of(line.get("t")), number_of(line.get("y"))
            if not (isinstance(x, dict) and isinstance(line.get("id"), str) and isinstance(line.get("n"), int)) or (
                served is None or y is None
            ):
                index.counted["torn"] += 1
                continue
            event = time_of(x.get(self._time)) if self._time else None
            if self._time and event is not None:
                x = {**x, self._time: event.isoformat()}  # older servers logged it as it was received
            time, key = served if event is None else _seconds(event), key_text(x, self._on)
            row = index.add_prediction(line, time, key)
            if row is not None:
                rows.append((row, line["id"], time, line["n"], y))
                fields.append(x)
                met.append((row, line["id"], key))
        if rows:
            times = [row[2] for row in rows]
            name = f"{rows[0][0]:012d}-{uuid.uuid4().hex[:8]}.parquet"
            self._tables.write({**_meta(rows), **to_columns(fields)}, self.folder / "segments" / name)
            index.list_segment(name, len(rows), min(times), max(times))
            index.meet(met)

    def _take_labels(self, index: Index, lines: list[Line]) -> None:
        for line in lines:
            value, id_, key = number_of(line.get("y")), line.get("id"), key_text(line.get("key"), self._on)
            if value is None or not (isinstance(id_, str) or isinstance(line.get("key"), dict)):
                index.counted["torn"] += 1
            elif not is_label(value) or (self._binary and value not in (0.0, 1.0)):
                index.counted["impossible"] += 1
            elif isinstance(id_, str):
                index.add_label(f"id:{id_}", BY_ID, id_, value)
            elif key is not None:
                index.add_label(f"key:{key}", BY_KEY, key, value)
            else:
                index.counted["unknown"] += 1

    def _merge(self) -> None:
        """Turn many small segments into one, and remove what a killed process left unlisted."""
        if not (self.folder / "segments").exists():
            return
        small = self._database.read("SELECT name FROM segments WHERE rows < ?", (SMALL_ROWS,))
        if self._swept and len(small) <= MANY_SMALL:
            return
        with self._database.write() as connection:
            query = "SELECT name, rows, first, last FROM segments"
            listed = connection.execute(query).fetchall()
            few = [segment for segment in listed if segment[1] < SMALL_ROWS]
            if len(few) > MANY_SMALL:
                name = f"{few[0][0].partition('-')[0]}-{uuid.uuid4().hex[:8]}.parquet"
                files = union(self._segment(segment[0]) for segment in few)
                self._tables.copy(f"SELECT * FROM {files} ORDER BY _time, _row", self._segment(name))  # noqa: S608
                connection.executemany("DELETE FROM segments WHERE name = ?", [(segment[0],) for segment in few])
                Index(connection).list_segment(
                    name, sum(s[1] for s in few), min(s[2] for s in few), max(s[3] for s in few)
                )
        self._sweep()

    def _sweep(self) -> None:
        with self._database.write() as connection:  # nobody else is between renaming and listing
            listed = {name for (name,) in connection.execute("SELECT name FROM segments")}
            for path in (self.folder / "segments").glob("*"):
                if path.name not in listed:
                    path.unlink(missing_ok=True)
        self._swept = True

    def _segment(self, name: str) -> Path:
        return self.folder / "segments" / name

    def extent(self) -> tuple[datetime, datetime] | None:
        """Give the event times of the oldest and the newest served row, but for stray ones.

        A row whose caller's clock was wrong by years would close windows that are still to come. Stray are up to ten
        rows (up to a tenth of few) that lie further from all others than those span.
        """
        found = self._database.read("SELECT max(row) FROM predictions")
        if not found or found[0][0] is None:
            return None
        few = min(MOST_STRAY, found[0][0] // 10) + 1
        low, high = (
            [time for (time,) in self._database.read(f"SELECT time FROM predictions ORDER BY time {way} LIMIT {few}")]  # noqa: S608
            for way in ("ASC", "DESC")
        )
        room = max(high[-1] - low[-1], DAY_SECONDS)
        first = next(time for time in low if time >= low[-1] - room)
        last = next(time for time in high if time <= high[-1] + room)
        return _moment(first), _moment(last)

    def rows(self, start: datetime, end: datetime) -> Columns:
        """Give the rows with start <= event time < end, in order of time: raw fields, and `_id`, `_time` (seconds
        since 1970 UTC), `_version`, `_prediction`, `_value` (NaN where no label has come), `_row` (numbered as they
        arrived).

        A missing number is NaN, another missing value None. A time without a zone is UTC.
        """
        span = _seconds(start), _seconds(end)
        with self._lock:
            columns = self._reading(
                lambda files: self._tables.fetch(
                    f"SELECT * FROM {files} WHERE _time >= {span[0]!r} AND _time < {span[1]!r} ORDER BY _time, _row"  # noqa: S608
                ),
                "SELECT name FROM segments WHERE last >= ? AND first < ? ORDER BY name",
                span,
            )
            labels = self._database.read(
                "SELECT p.row, l.value FROM predictions p JOIN labels l ON l.row = p.row"
                " WHERE p.time >= ? AND p.time < ?",
                span,
            )
        if columns is None:
            columns = _meta([])
        return {**columns, "_value": _joined(columns["_row"], labels)}

    def newest(self) -> int:
        """Give the number of the row that arrived last; 0 without any."""
        found = self._database.read("SELECT max(row) FROM predictions")
        return int(found[0][0] or 0) if found else 0

    def late(self, after: int, before: datetime) -> Columns:
        """Give the rows that arrived after a row, of an event time before a moment: as `rows`, without `_value`."""
        until = _seconds(before)
        query = "SELECT min(time), max(time) FROM predictions WHERE row > ? AND time < ?"
        found = self._database.read(query, (after, until))
        if not found or found[0][0] is None:
            return _meta([])
        with self._lock:
            columns = self._reading(
                lambda files: self._tables.fetch(
                    f"SELECT * FROM {files} WHERE _row > {int(after)} AND _time < {until!r} ORDER BY _row"  # noqa: S608
                ),
                "SELECT name FROM segments WHERE last >= ? AND first <= ? ORDER BY name",
                tuple(found[0]),
            )
        return columns if columns is not None else _meta([])

    def _reading(self, act: Callable[[str], T], query: str, values: tuple[float, ...] = ()) -> T | None:
        """Act on the listed segments as one table; again when one was merged away since it was listed."""
        for attempt in range(5):
            files = [self._segment(name) for (name,) in self._database.read(query, values)]
            if not files:
                return None
            try:
                return act(union(files))
            except DataError:
                if attempt == 4 or all(path.exists() for path in files):
                    raise
        return None

    def labelled(self, after: int) -> Labelled:
        """Give the predictions that were labelled after a cursor (0 at first), in order of arrival."""
        found = self._database.read(
            "SELECT l.seq, p.time, p.version, p.prediction, l.value FROM labels l JOIN predictions p ON p.row = l.row"
            " WHERE l.seq > ? ORDER BY l.seq",
            (after,),
        )
        table = np.array(found, dtype=np.float64).reshape(-1, 5)
        return Labelled(
            cursor=found[-1][0] if found else after,
            time=table[:, 1],
            version=table[:, 2].astype(np.int64),
            prediction=table[:, 3],
            value=table[:, 4],
        )

    def labels(self) -> LabelStatus:
        """Say how far labels have arrived."""
        counted = self.counters()
        return LabelStatus(
            served=counted.get("served", 0),
            labelled=counted.get("labelled", 0),
            unknown=counted.get("unknown", 0),
            repeated=counted.get("repeated", 0),
            until=self._complete_until(),
        )

    def counters(self) -> dict[str, int]:
        """Give what was counted: served, labelled, unknown, repeated and impossible labels, duplicates (retried
        requests), torn (lines)."""
        return dict(self._database.read("SELECT name, n FROM counters"))

    def _complete_until(self) -> str | None:
        extent = self.extent()
        found = self._database.read(
            "SELECT max(time) FROM predictions"
            " WHERE time < coalesce((SELECT min(time) FROM predictions WHERE labelled = 0), 9e999) AND time <= ?",
            (_seconds(extent[1]) if extent else 0.0,),
        )
        return _moment(found[0][0]).isoformat() if found and found[0][0] is not None else None

    def export_labelled(self, out: Path, target: str) -> int:
        """Write the labelled rows' raw fields and their true value as a Parquet file; give how many.

        Without any labelled row nothing is written. Rows of a wrong clock are left out, those that `extent` passes over
        and those whose time has not come: the newest rows are what a training holds out.
        """
        extent = self.extent()
        if extent is None:
            return 0
        until = min(_seconds(extent[1]), _seconds(datetime.now(UTC)) + DAY_SECONDS)  # a day: times without a zone
        with self._lock:
            labels = self._database.read(
                "SELECT p.row, l.value FROM labels l JOIN predictions p ON p.row = l.row"
                " WHERE p.time >= ? AND p.time <= ? ORDER BY p.row",
                (_seconds(extent[0]), until),
            )
            if not labels:
                return 0
            table = np.array(labels, dtype=np.float64)
            truth = {"row": table[:, 0].astype(np.int64), "value": table[:, 1]}
            column = '"' + target.replace('"', '""') + '"'
            chosen = f"SELECT s.* EXCLUDE ({', '.join(META)}), t.value AS {column}"
            self._reading(
                lambda files: self._tables.copy(
                    f"{chosen} FROM {files} s JOIN truth t ON t.row = s._row ORDER BY s._time, s._row", out, truth=truth
                ),
                "SELECT name FROM segments ORDER BY name",
            )
        return len(labels)

    def close(self) -> None:
        """Close the index; the next use opens it again."""
        self._database.close()


def _meta(rows: list[tuple[int, str, float, int, float]]) -> dict[str, NDArray[Any]]:
    kinds = (np.int64, object, np.float64, np.int64, np.float64)
    return {
        name: np.array([row[at] for row in rows], dtype=kind)
        for at, (name, kind) in enumerate(zip(META, kinds, strict=True))
    }


def _joined(row: NDArray[Any], labels: list[tuple[int, float]]) -> NDArray[np.float64]:
    value = np.full(len(row), np.nan)
    if labels:
        known = np.array(sorted(labels), dtype=np.float64)
        at = np.minimum(np.searchsorted(known[:, 0], row), len(known) - 1)
        hit = known[at, 0] == row
        value[hit] = known[at[hit], 1]
    return value


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another sealer has dropped it
        return 0


def _moment(seconds: float) -> datetime:
    """Give a time in seconds since 1970; a float of the last microsecond that there is lies beyond it."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError):
        return (datetime.min if seconds < 0 else datetime.max).replace(tzinfo=UTC)


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
