"""The log of what was served: lines that servers wrote, sealed into Parquet segments, joined with their labels.

A server writes a line before it answers, by one write; this side moves complete lines into segments that are listed
in one transaction with the offsets. Nothing here is in the path of a request.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from trilho.core.database import Database
from trilho.core.ports import Columns, Gathered, Labelled
from trilho.core.readings import LabelStatus
from trilho.errors import DataError
from trilho.serve import retention, views
from trilho.serve.columns import OWN, Tables, named, quoted
from trilho.serve.gathering import Wanted, show_all
from trilho.serve.index import open_index
from trilho.serve.intake import DAY_SECONDS, moment, no_rows
from trilho.serve.partitions import Part, Partitions
from trilho.serve.scored import ScoredDate, ScoredIntake
from trilho.serve.sealing import Sealer
from trilho.serve.truth import column, joined, label_columns
from trilho_runtime.prediction.log import Classes
from trilho_runtime.prediction.mask import Mask

MOST_STRAY = 10
WITHIN = "kind = ? AND last >= ? AND first < ?"
NEWEST = (
    "SELECT max(coalesce((SELECT max(row) FROM predictions), 0), coalesce((SELECT n FROM marks WHERE name = 'row'), 0))"
)
T = TypeVar("T")


class LocalPredictionLog:
    """The PredictionLog port on a folder: lines in predictions/ and labels/, Parquet files in segments/, log.sqlite.

    A row's event time is its `time` field (ISO 8601, UTC where it names no zone), else the moment it was served.
    `key` names the field, or the fields, by which labels may come; a key that was served twice labels both.
    The first label of a prediction counts, later ones are counted as repeated. A label that cannot be true, as 7 where
    labels are `binary` or none of the model's `classes`, is counted as impossible: one of them would fail every
    training. Where there are no classes labels are numbers; where nobody knows, texts and booleans besides.
    """

    def __init__(
        self,
        folder: Path,
        time: str | None = None,
        key: str | Sequence[str] | None = None,
        *,
        binary: bool = False,
        classes: Callable[[], Classes | None] | None = None,
    ) -> None:
        self.folder = folder
        self._classes = classes or (lambda: (0, 1) if binary else None)
        self._time = time
        self._on = [key] if isinstance(key, str) else list(key or ())
        self._tables, self._lock = Tables(), threading.RLock()

    @cached_property
    def _database(self) -> Database:
        return open_index(self.folder / "log.sqlite")

    @cached_property
    def _partitions(self) -> Partitions:
        return Partitions(self.folder, self._database, self._tables)

    @cached_property
    def _sealer(self) -> Sealer:
        return Sealer(self._partitions, self._time, self._on, self._classes)

    def seal(self) -> int:
        """Move complete new lines of predictions and labels into the log; give how many were moved.

        Safe with several sealers and with servers that go on writing: what they write meanwhile is the next call's.
        What cannot be read is counted and passed over.
        """
        with self._lock:
            return self._sealer.seal()

    def add_scored(self, scored: ScoredDate, mask: Mask | None = None) -> int:
        """Take a date that a batch scored, as if its rows had been asked for; give how many rows are new.

        The same rows again are none; other rows of the same table and date take the place of those. `mask` is what
        servers keep out of their lines.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            return self._scored(mask).take(scored)

    def scored(self, table: str, date: str) -> str | None:
        """Give the identity of the rows that were taken of a table's date; None where none were."""
        with self._lock:
            return self._scored().taken(table, date) if self.folder.exists() else None

    def _scored(self, mask: Mask | None = None) -> ScoredIntake:
        return ScoredIntake(self._partitions, self._on, mask or Mask())

    # ---- reading ---------------------------------------------------------------------------------------------------

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
        return moment(first), moment(last)

    def rows(self, start: datetime, end: datetime) -> Columns:
        """Give the rows with start <= event time < end, in order of time: raw fields, and `_id`, `_time` (seconds
        since 1970 UTC), `_version`, `_prediction`, `_value` (NaN where no label has come), `_row` (numbered as they
        arrived); `_served`, `_class`, `_probabilities`, `_decision` and `_decision_version` where lines had them.

        A missing number is NaN, another missing value None. A time without a zone is UTC.
        """
        span = _seconds(start), _seconds(end)
        with self._lock:
            columns = self._reading(
                lambda files: self._tables.fetch(f"SELECT * FROM {files} WHERE {_within(span)} ORDER BY _time, _row"),  # noqa: S608
                WITHIN,
                ("segments", *span),
            )
            labels = self._database.read(
                "SELECT p.row, l.value FROM predictions p JOIN labels l ON l.row = p.row"
                " WHERE p.time >= ? AND p.time < ?",
                span,
            )
        if columns is None:
            columns = no_rows()
        return {**columns, "_value": joined(columns["_row"], labels)}

    def gather(
        self,
        start: datetime,
        end: datetime,
        begin: Callable[[], Gathered],
        *,
        after: int = 0,
        fields: Collection[str] | None = None,
    ) -> Gathered:
        """Show rows to what adds them up, some at a time and in no order: a window may hold more than memory does.

        The columns are those of `rows`, of the raw fields only those in `fields`. Others may write between two of the
        times; where files were replaced meanwhile it is begun anew.
        """
        wanted = Wanted((_seconds(start), _seconds(end)), after, fields).narrowed(self._database)
        gathered = self._acting(
            lambda parts: show_all(parts, wanted, self._partitions, begin(), self._lock),
            WITHIN,
            ("segments", *wanted.span),
        )
        return begin() if gathered is None else gathered

    def shadow_rows(self, start: datetime, end: datetime) -> Columns:
        """Give what challengers answered in the shadow, start <= event time < end, beside the champion's answer.

        The columns are those of `rows`; `_champion` and `_champion_version` are the prediction that the caller got of
        the same id (NaN where it is not in the log), `_value` its label; `_champion_class` and
        `_champion_probabilities` are there where the champion names classes. Of an answer that came twice the first
        counts.
        """
        span = _seconds(start), _seconds(end)
        with self._lock:
            columns = self._reading(
                lambda files: self._tables.fetch(
                    "SELECT s.*, CAST(c._prediction AS DOUBLE) AS _champion,"  # noqa: S608
                    " CAST(c._version AS DOUBLE) AS _champion_version, c.* EXCLUDE (_id, _row, _prediction, _version),"
                    f" coalesce(c._row, 0) AS _of FROM {files} s"
                    f" LEFT JOIN {self._champion(span)} c ON c._id = s._id WHERE {_within(span, 's.')}"
                    " QUALIFY row_number() OVER (PARTITION BY s._id, s._version ORDER BY s._row) = 1"
                    " ORDER BY s._time, s._row"
                ),
                WITHIN,
                ("shadow", *span),
            )
            labels = self._database.read(
                "SELECT p.row, l.value FROM predictions p JOIN labels l ON l.row = p.row"
                " WHERE p.time >= ? AND p.time < ?",
                span,
            )
        if columns is None:
            nothing = np.array([], np.float64)
            return {**no_rows(), "_champion": nothing, "_champion_version": nothing, "_value": nothing}
        of = columns["_of"]
        return {**{k: v for k, v in columns.items() if k != "_of"}, "_value": joined(of, labels)}

    def _champion(self, span: tuple[float, float]) -> str:
        parts = self._partitions.parts(WITHIN, ("segments", *span))
        if not parts:
            return "(SELECT '' AS _id, 0 AS _row, NULL AS _prediction, NULL AS _version WHERE false)"
        files = self._partitions.union(parts)
        there = self._tables.fetch(f"SELECT * FROM {files} LIMIT 0")  # noqa: S608
        named = "".join(f", {one} AS _champion{one}" for one in ("_class", "_probabilities") if one in there)
        return f"(SELECT _id, _row, _prediction, _version{named} FROM {files})"  # noqa: S608

    def newest(self) -> int:
        """Give the number of the row that arrived last; 0 without any."""
        found = self._database.read(NEWEST)
        return int(found[0][0]) if found else 0

    def late(self, after: int, before: datetime) -> Columns:
        """Give the rows that arrived after a row, of an event time before a moment: as `rows`, without `_value`."""
        until = _seconds(before)
        query = "SELECT min(time), max(time) FROM predictions WHERE row > ? AND time < ?"
        found = self._database.read(query, (after, until))
        if not found or found[0][0] is None:
            return no_rows()
        with self._lock:
            columns = self._reading(
                lambda files: self._tables.fetch(
                    f"SELECT * FROM {files} WHERE _row > {int(after)} AND _time < {until!r} ORDER BY _row"  # noqa: S608
                ),
                "kind = ? AND last >= ? AND first <= ?",
                ("segments", *found[0]),
            )
        return columns if columns is not None else no_rows()

    def _reading(self, act: Callable[[str], T], where: str, values: tuple[Any, ...]) -> T | None:
        """Act on listed files as one table."""
        return self._acting(lambda parts: act(self._partitions.union(parts)), where, values)

    def _acting(self, act: Callable[[Sequence[Part]], T], where: str, values: tuple[Any, ...]) -> T | None:
        """Act on listed files; again when one was replaced since it was listed, or waits to be moved."""
        for attempt in range(5):
            parts = self._partitions.parts(where, values)
            if not parts:
                return None
            try:
                return act(parts)
            except DataError as error:
                there = all(self._partitions.path(part).exists() for part in parts)
                blamed = self._blamed(parts) if there or attempt == 4 else None
                if blamed is not None or attempt == 4:
                    raise blamed or error from error
            with self._database.write() as connection:
                self._partitions.settle(connection)
        return None

    def _blamed(self, parts: Sequence[Part]) -> DataError | None:
        found = self._partitions.damaged(parts)
        if not found:
            return None
        what = f"{self.folder / found[0]}" + (f" and {len(found) - 1} more" if len(found) > 1 else "")
        return DataError(f"{what}: a segment of the log is gone or damaged", hint="restore it from a backup")

    def damaged(self) -> list[str]:
        """Name the segments that are gone, or whose bytes are not those that were written; all of them are read."""
        return self._partitions.damaged(self._partitions.parts())

    def labelled(self, after: int, most: int | None = None) -> Labelled:
        """Give the predictions that were labelled after a cursor (0 at first), in order of arrival; the first `most`
        of them where that is given."""
        found = self._database.read(
            "SELECT l.seq, p.time, p.version, p.prediction, p.row, l.value, p.told"
            " FROM labels l JOIN predictions p ON p.row = l.row"
            " WHERE l.seq > ? ORDER BY l.seq LIMIT ?",
            (after, -1 if most is None else most),
        )
        return _labelled(found, after)

    def corrected(self, after: int) -> Labelled:
        """Give the predictions that got another label than they had, after a cursor of its own (0 at first), each as
        often as that happened, with the new one."""
        found = self._database.read(
            "SELECT c.seq, p.time, p.version, p.prediction, p.row, c.value, p.told"
            " FROM corrections c JOIN predictions p ON p.row = c.row WHERE c.seq > ? ORDER BY c.seq",
            (after,),
        )
        return _labelled(found, after)

    def labels(self) -> LabelStatus:
        """Say how far labels have arrived."""
        counted = self.counters()
        return LabelStatus(
            served=counted.get("served", 0),
            labelled=counted.get("labelled", 0),
            unknown=counted.get("unknown", 0),
            repeated=counted.get("repeated", 0),
            corrected=counted.get("corrected", 0),
            impossible=counted.get("impossible", 0),
            until=self._complete_until(),
        )

    def counters(self) -> dict[str, int]:
        """Give what was counted: served, labelled, unknown, repeated, corrected and impossible labels, duplicates
        (retried requests), torn (lines), shadow (answers), expired and forgotten (rows)."""
        return dict(self._database.read("SELECT name, n FROM counters"))

    def held(self) -> int:
        """Give how many served rows there are."""
        found = self._database.read("SELECT count(*) FROM predictions")
        return int(found[0][0]) if found else 0

    def _complete_until(self) -> str | None:
        extent = self.extent()
        found = self._database.read(
            "SELECT max(time) FROM predictions"
            " WHERE time < coalesce((SELECT min(time) FROM predictions WHERE labelled = 0), 9e999) AND time <= ?",
            (_seconds(extent[1]) if extent else 0.0,),
        )
        return moment(found[0][0]).isoformat() if found and found[0][0] is not None else None

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
            known = label_columns(labels)
            truth = {"row": known["_row"], "value": known["_label"]}
            own = ", ".join(quoted(name) for name in (*sorted(OWN), "_truth"))
            chosen = f"SELECT COLUMNS(lambda one: one NOT IN ({own})), _truth AS {named(target)}"
            self._reading(
                lambda files: self._tables.copy(
                    f"{chosen} FROM (SELECT s.*, t.value AS _truth FROM {files} s JOIN truth t ON t.row = s._row)"  # noqa: S608
                    " ORDER BY _time, _row",
                    out,
                    truth=truth,
                ),
                "kind = ?",
                ("segments",),
            )
        return len(labels)

    def view_sql(self, name: str = "predictions") -> str:
        """Give the SQL of a DuckDB view on what is sealed, with `_label`; it goes on to be true as rows come."""
        return views.view_sql(self._partitions, name)

    # ---- forgetting ------------------------------------------------------------------------------------------------

    def expire(self, before: datetime) -> dict[str, int]:
        """Delete the rows that are older than a moment, whole days of them; give what was deleted by name.

        A row goes when its day of event time has ended by then and it was served before, never sooner; with it its
        label, its place in the index and the line it was written as.
        """
        with self._lock:
            self.seal()
            return retention.expire(self._partitions, _seconds(before), self._sealed_lines)

    def forget(self, field: str, value: Any) -> int:
        """Delete the rows whose field has a value, such as a person's number, for good; give how many.

        A column that is masked holds the mask's hash: `mask.hash(value)` is what is to be forgotten then.
        """
        with self._lock:
            self.seal()
            return retention.forget(self._partitions, field, value, self._on, self._sealed_lines)

    def _sealed_lines(self) -> list[tuple[Path, int]]:
        """Give the files of lines, and up to where each is sealed."""
        offsets = dict(self._database.read("SELECT path, offset FROM files"))
        return [(path, offsets.get(self._sealer.name(path), 0)) for path in self._sealer.files()]

    def close(self) -> None:
        """Close the index; the next use opens it again."""
        self._database.close()


def _within(span: tuple[float, float], of: str = "") -> str:
    return f"{of}_time >= {span[0]!r} AND {of}_time < {span[1]!r}"


def _labelled(found: list[tuple[Any, ...]], after: int) -> Labelled:
    """Give labelled predictions, of (cursor, time, version, prediction, row, label, class that was predicted)."""
    table = np.array([row[:5] for row in found], dtype=np.float64).reshape(-1, 5)
    return Labelled(
        cursor=found[-1][0] if found else after,
        time=table[:, 1],
        version=table[:, 2].astype(np.int64),
        prediction=table[:, 3],
        value=column([row[5] for row in found]),
        row=table[:, 4].astype(np.int64),
        told=column([row[6] for row in found]),
    )


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
