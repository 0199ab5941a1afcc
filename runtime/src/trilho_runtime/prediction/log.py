"""Log lines: what was predicted and what turned out to be true, written before the answer.

One `write` to a file opened for appending per turn: a line is whole in the file, or it is not there. The files survive
a kill of the process; synced also a power cut. Another process moves the lines on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

VERSION = 1  # of a label's line; a prediction's has one of its own (served.py)
NAMED = 2  # the version of a line whose label is no number
LIMIT = 64 * 2**20
LARGEST_LABEL = 1e30  # far beyond any truth, and its square, summed, is still a number
LONGEST_LABEL = 1000
SHOWN = 20  # classes that an error names
Classes = Sequence[Any]
SHAPE = 'wanted {"labels": [{"id": "...", "value": 1.0}, ...]}'
PARTS = "wanted an object with a value and either an id or a key"


class LabelError(ValueError):
    """A posted label is not of the right shape; `row` says which."""

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


class Torn(OSError):
    """Lines could not be written to their end; the first `lines` of them are in the file."""

    def __init__(self, number: int, message: str, lines: int) -> None:
        super().__init__(number, message)
        self.lines = lines


class LineLog:
    """One writer's file of lines in a folder; a new file after 64 MB. Any thread may write."""

    def __init__(self, folder: Path, prefix: str = "", *, fsync: bool = False, limit: int = LIMIT) -> None:
        self.folder = folder
        self._prefix = prefix
        self._fsync = fsync
        self._limit = limit
        self._file: int | None = None
        self._full: list[int] = []  # files that are not written any more and not synced yet
        self._size = 0
        self._lock = threading.Lock()

    def append(self, lines: bytes) -> None:
        """Write whole lines, and sync them where that is wanted. Raises OSError when they could not be kept."""
        self.write(lines)
        if self._fsync and lines:
            self.sync()

    def write(self, lines: bytes) -> None:
        """Write whole lines. Raises OSError when they could not be kept, a full disk say; later lines may be.

        What a failed write left is cut back to the last whole line, which a reader may have seen already: Torn says
        how many lines that leaves.
        """
        if not lines:
            return
        with self._lock:
            file = self._open()
            try:
                written = os.write(file, lines)
            except OSError:
                self._roll_if_broken(file)
                raise
            if written < len(lines):
                self._cut(file, self._size + lines.rfind(b"\n", 0, written) + 1)
                fact = f"only {written} of {len(lines)} bytes could be written: the disk is full"
                raise Torn(errno.ENOSPC, fact, lines.count(b"\n", 0, written))
            self._size += written

    def sync(self) -> None:
        """Put all that was written on the disk. Raises OSError when it may not be there; others go on writing."""
        with self._lock:
            files, self._full = self._full, []
            if self._file is not None:
                files.append(os.dup(self._file))
        try:
            for file in files:
                os.fsync(file)
        except OSError:
            with self._lock:
                self._release()  # what a failed sync has lost, a later one would call written
            raise
        finally:
            for file in files:
                os.close(file)

    def close(self) -> None:
        """Close the file; what was not synced yet is synced first, where that is wanted."""
        if self._fsync:
            with contextlib.suppress(OSError):
                self.sync()
        with self._lock:
            self._release()

    def _open(self) -> int:
        if self._file is not None and (self._size >= self._limit or os.fstat(self._file).st_nlink == 0):
            if self._fsync:
                self._full.append(os.dup(self._file))
            self._release()
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = self._create()
            self._size = 0
        return self._file

    def _create(self) -> int:
        moment = time.time_ns() // 1_000_000
        while True:
            path = self.folder / f"{self._prefix}{os.getpid()}-{moment}.jsonl"
            try:
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
            except FileExistsError:
                moment += 1
                continue
            if self._fsync:
                _sync_folder(self.folder)
            return file

    def _release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _cut(self, file: int, size: int) -> None:
        try:
            os.ftruncate(file, size)
            self._size = size
        except OSError:  # the torn line stays the last of its file
            self._release()

    def _roll_if_broken(self, file: int) -> None:
        if os.fstat(file).st_size != self._size:
            self._release()


def _sync_folder(folder: Path) -> None:
    """Put a folder's entries on the disk: a synced file whose name is lost is lost too."""
    with contextlib.suppress(OSError):  # some file systems sync no folders
        place = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(place)
        finally:
            os.close(place)


_second: tuple[int, str] = (0, "1970-01-01T00:00:00")


def now() -> str:
    """Give the time as ISO 8601 in UTC, to the millisecond."""
    global _second
    seconds, rest = divmod(time.time_ns() // 1_000_000, 1000)
    known = _second
    if known[0] != seconds:
        known = _second = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)))
    return f"{known[1]}.{rest:03d}Z"


def label_lines(payload: Any, classes: Classes | None = None) -> tuple[bytes, int]:
    """Check posted labels and give their log lines and their number. Raises LabelError for the first wrong one.

    `classes` are the model's: a label is one of them, or any number where there are none. None is for whoever does not
    know them; what no model can have meant is told apart where labels meet predictions.

    >>> label_lines({"labels": [{"id": "r1.0", "value": "12"}]}, ())
    Traceback (most recent call last):
        ...
    trilho_runtime.prediction.log.LabelError: label 0: value is "12"; wanted a finite number
    >>> label_lines({"labels": [{"id": "r1.0", "value": "maybe"}]}, ("no", "yes"))
    Traceback (most recent call last):
        ...
    trilho_runtime.prediction.log.LabelError: label 0: value is "maybe"; wanted one of "no", "yes"
    """
    labels = payload.get("labels") if isinstance(payload, dict) else None
    if not isinstance(labels, list):
        raise LabelError(SHAPE)
    moment = now()
    return b"".join(_line(_label(label, row, moment, classes)) for row, label in enumerate(labels)), len(labels)


def _label(label: Any, row: int, moment: str, classes: Classes | None) -> dict[str, Any]:
    if not isinstance(label, dict):
        raise LabelError(f"label {row}: it is {_shown(label)}; {PARTS}", row)
    if "value" not in label or ("id" in label) == ("key" in label):
        keys = ", ".join(map(_shown, sorted(label))) or "nothing"
        raise LabelError(f"label {row}: it has {keys}; {PARTS}", row)
    value = label["value"]
    if not is_truth(value, classes):
        raise LabelError(f"label {row}: value is {_shown(value)}; wanted {_wanted(classes)}", row)
    name = "id" if "id" in label else "key"
    if name == "id" and not (isinstance(label["id"], str) and 0 < len(label["id"]) <= 200):
        raise LabelError(f"label {row}: id is {_shown(label['id'])}; wanted the id of a prediction", row)
    if name == "key" and not _is_key(label["key"]):
        raise LabelError(f"label {row}: key is {_shown(label['key'])}; wanted an object of strings or integers", row)
    number = type(value) in (int, float)
    line = {"v": VERSION if number else NAMED, name: label[name], "y": float(value) if number else value}
    return {**line, "t": moment}


def is_label(value: float) -> bool:
    """Say whether a number can be a true value: finite, and not so large that losses are not.

    >>> [is_label(x) for x in (0, -2.5, 1e31, 10**400, float("nan"))]
    [True, True, False, False, False]
    """
    return abs(value) <= LARGEST_LABEL


def is_truth(value: Any, classes: Classes | None = None) -> bool:
    """Say whether a value of JSON can be the truth for a model of such classes; true is not 1, and "1" neither.

    >>> [is_truth(x, (0, 1)) for x in (1, 1.0, 7, True, "1", None)]
    [True, True, False, False, False, False]
    >>> [is_truth(x, ()) for x in (7, "yes", True)], [is_truth(x) for x in (7, "yes", True, "", [1])]
    ([True, False, False], [True, True, True, False, False])
    """
    kind = type(value)
    if kind in (int, float):
        return is_label(value) and (not classes or any(type(c) in (int, float) and c == value for c in classes))
    if kind not in (str, bool):
        return False
    if classes is None:
        return kind is bool or 0 < len(value) <= LONGEST_LABEL
    return any(type(c) is kind and c == value for c in classes)


def _wanted(classes: Classes | None) -> str:
    if not classes:
        return "a finite number" if classes is not None else "a finite number, a text, true or false"
    more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
    return f"one of {', '.join(map(_shown, classes[:SHOWN]))}{more}"


def _is_key(key: Any) -> bool:
    return isinstance(key, dict) and bool(key) and all(type(v) in (str, int) for v in key.values())


def _shown(value: Any) -> str:
    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # an integer of more than 64 bits
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _line(data: dict[str, Any]) -> bytes:
    return orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE)
