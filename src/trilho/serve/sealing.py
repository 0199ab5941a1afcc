"""Sealing: complete lines become rows of segments, places in the index, and labels of predictions, in one transaction.

A pass takes a bounded number of bytes of all files together, so that memory does not grow with the backlog.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from trilho.data.labels import key_text
from trilho.serve import compaction
from trilho.serve.index import Index, Line, seconds_of
from trilho.serve.intake import DAY_SECONDS, Batch, Intake, day_text
from trilho.serve.lines import Chunk, gone, read_chunk
from trilho.serve.partitions import Partitions
from trilho.serve.superseding import latest, supersede
from trilho.serve.truth import label_columns, stored, truth_of
from trilho_runtime.prediction.log import Classes, is_truth

PREDICTIONS_AT_ONCE = 8 * 2**20
LABELS_AT_ONCE = 2 * 2**20
BY_ID = "SELECT row FROM predictions WHERE id = ?"
BY_KEY = "SELECT row FROM predictions WHERE key = ?"


class Sealer:
    """Moves the lines of one log's folder."""

    def __init__(
        self, partitions: Partitions, time: str | None, on: Sequence[str], classes: Callable[[], Classes | None]
    ) -> None:
        """`classes` are what a label may be: none where it is a number, None where nobody knows."""
        self._partitions, self._on, self._classes = partitions, on, classes
        self._folder, self._database = partitions.folder, partitions.database
        self._intake = Intake(time, on)
        self._swept = False
        self._passed: set[str] = set()  # damaged segments, which merging leaves alone

    def seal(self) -> int:
        """Move complete new lines of predictions and labels into the log; give how many were moved.

        Safe with several sealers and with servers that go on writing: what they write meanwhile is the next call's.
        What cannot be read is counted and passed over.
        """
        moved = 0
        self._tidy()
        goal = {path: _size(path) for path in self.files()}
        try:
            while news := self._news(goal):
                lines, bytes_ = self._seal_once(news)
                moved += lines
                if not bytes_:
                    break
        except BaseException:
            self._swept = False
            raise
        if self._folder.exists():
            compaction.compact(self._partitions, self._passed)
        return moved

    def _tidy(self) -> None:
        """Finish what a killed process left, once; a folder of an older version gets its days."""
        if self._swept or not self._folder.exists():
            return
        with self._database.write() as connection:
            self._partitions.settle(connection)
            self._partitions.sweep(connection)
        compaction.migrate(self._partitions, self._passed)
        self._swept = True

    def files(self) -> list[Path]:
        """Give the files of lines."""
        # Predictions first: a label is looked up among what was served before it.
        return [path for part in ("predictions", "labels") for path in sorted((self._folder / part).glob("*.jsonl"))]

    def _news(self, goal: Mapping[Path, int]) -> list[Path]:
        """Give the files that are not sealed as far as the goal; delete those that never will grow again."""
        offsets = dict(self._database.read("SELECT path, offset FROM files"))
        files = self.files()
        ended = {path for path in files if gone(path, files)}  # asked before the size: it can grow until then
        sealed = {path: offsets.get(self.name(path), 0) for path in files}
        self._drop([path for path in files if path in ended and _size(path) <= sealed[path]])
        return [path for path in files if sealed[path] < goal.get(path, 0)]

    def name(self, path: Path) -> str:
        """Give a file's name in the index."""
        return f"{path.parent.name}/{path.name}"

    def _drop(self, files: list[Path]) -> None:
        """Delete fully sealed files whose writer is gone, once what they held has reached the disk."""
        if not files:
            return
        with self._database.write() as connection:
            self._partitions.settle(connection, durably=True)
        if self._database.read("PRAGMA wal_checkpoint(FULL)")[0][0]:
            return  # a reader holds the checkpoint up: next time
        with self._database.write() as connection:
            for path in files:
                path.unlink(missing_ok=True)
                connection.execute("DELETE FROM files WHERE path = ?", (self.name(path),))

    def _seal_once(self, files: list[Path]) -> tuple[int, int]:
        """Seal some new lines in one transaction; give the lines and bytes that were moved."""
        with self._database.write() as connection:
            self._partitions.settle(connection)
            index = Index(connection)
            offsets = dict(connection.execute("SELECT path, offset FROM files").fetchall())
            room = {"predictions": PREDICTIONS_AT_ONCE, "labels": LABELS_AT_ONCE}
            found: dict[str, list[Line]] = {"predictions": [], "labels": []}
            bytes_ = 0
            for path in files:
                part, offset = path.parent.name, offsets.get(self.name(path), 0)
                chunk = self._read(path, offset, files, room[part]) if room[part] > 0 else None
                if chunk is None or chunk.end == offset:
                    continue
                found[part] += chunk.lines
                index.move(self.name(path), chunk.end)
                index.counted["torn"] += chunk.torn
                room[part] -= chunk.end - offset
                bytes_ += chunk.end - offset
            self._take_predictions(index, found["predictions"])
            self._take_labels(index, found["labels"])
            self._keep_labels(index)
            index.count()
        with self._database.write() as connection:
            self._partitions.settle(connection)
        return len(found["predictions"]) + len(found["labels"]), bytes_

    def _read(self, path: Path, offset: int, files: list[Path], limit: int) -> Chunk | None:
        ended = gone(path, files)  # asked before reading: what a process wrote before it ended is all there
        try:
            return read_chunk(path, offset, writer_gone=ended, limit=limit)
        except FileNotFoundError:  # another sealer was faster
            return None

    def _take_predictions(self, index: Index, lines: list[Line]) -> None:
        batch = self._intake.read((line for line in lines if not line.get("s")), index.next_row(), index.counted)
        batch, later = supersede(latest(batch, index.counted), self._partitions, index)
        batch = batch.chosen(index.add_predictions(batch.rows, batch.told())).and_then(later)
        index.note_attempts((batch.rows[at][0], n) for at, n in batch.attempts().items())
        self._add("segments", index, batch)
        index.meet((row[0], row[1], row[2]) for row in batch.rows)
        first = index.next_number("shadow", "SELECT 0")
        shadow = self._intake.read((line for line in lines if line.get("s")), first, index.counted)
        if shadow.rows:
            index.counted["shadow"] += len(shadow.rows)
            index.mark("shadow", shadow.rows[-1][0])
            self._add("shadow", index, shadow)

    def _add(self, kind: str, index: Index, batch: Batch) -> None:
        for day, part in batch.by_day() if batch.rows else ():
            times = [row[3] for row in part.rows]
            self._partitions.add(
                index.connection,
                kind,
                day,
                part.columns(),
                number=part.rows[0][0],
                span=(min(times), max(times)),
                served=max(part.served),
            )

    def _take_labels(self, index: Index, lines: list[Line]) -> None:
        classes = self._classes() if lines else None
        for line in lines:
            value, id_, key = truth_of(line.get("y")), line.get("id"), key_text(line.get("key"), self._on)
            at = seconds_of(line.get("t"))
            if value is None or not (isinstance(id_, str) or isinstance(line.get("key"), dict)):
                index.counted["torn"] += 1
            elif not is_truth(value, classes):
                index.counted["impossible"] += 1
            elif isinstance(id_, str):
                index.add_label(f"id:{id_}", BY_ID, id_, stored(value), at)
            elif key is not None:
                index.add_label(f"key:{key}", BY_KEY, key, stored(value), at)
            else:
                index.counted["unknown"] += 1

    def _keep_labels(self, index: Index) -> None:
        """Write the labels that found their prediction as a table, for those who read the files only."""
        if index.given:
            now = time.time()
            self._partitions.add(
                index.connection, "truths", day_text(int(now // DAY_SECONDS)), label_columns(index.given),
                number=index.given[0][0], span=(now, now), served=now,
            )  # fmt: skip


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another sealer has dropped it
        return 0
