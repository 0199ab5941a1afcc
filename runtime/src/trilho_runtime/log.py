"""Log lines: what was predicted and what turned out to be true, written before the answer.

One `write` to a file opened for appending per request: a line is whole in the file, or the request is refused. The
files survive a kill of the process; with `fsync` also a power cut. Another process moves the lines on.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

VERSION = 1
LIMIT = 64 * 2**20
LARGEST_LABEL = 1e30  # far beyond any truth, and its square, summed, is still a number


class LabelError(ValueError):
    """A posted label is not of the right shape; `row` says which."""

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


class LineLog:
    """One writer's file of lines in a folder; a new file after 64 MB. For one thread at a time."""

    def __init__(self, folder: Path, prefix: str = "", *, fsync: bool = False, limit: int = LIMIT) -> None:
        self.folder = folder
        self._prefix = prefix
        self._fsync = fsync
        self._limit = limit
        self._file: int | None = None
        self._size = 0

    def append(self, lines: bytes) -> None:
        """Write whole lines. Raises OSError when they could not be kept, a full disk say; later lines may be.

        What a failed write left is cut back to the last whole line, which a reader may have seen already.
        """
        if not lines:
            return
        file = self._open()
        try:
            written = os.write(file, lines)
        except OSError:
            self._roll_if_broken(file)
            raise
        if written < len(lines):
            self._cut(file, self._size + lines.rfind(b"\n", 0, written) + 1)
            raise OSError(errno.ENOSPC, f"only {written} of {len(lines)} bytes could be written: the disk is full")
        self._size += written
        if self._fsync:
            os.fsync(file)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        if self._file is not None and (self._size >= self._limit or os.fstat(self._file).st_nlink == 0):
            self.close()
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
                return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
            except FileExistsError:
                moment += 1

    def _cut(self, file: int, size: int) -> None:
        try:
            os.ftruncate(file, size)
            self._size = size
        except OSError:  # the torn line stays the last of its file
            self.close()

    def _roll_if_broken(self, file: int) -> None:
        if os.fstat(file).st_size != self._size:
            self.close()


def now() -> str:
    """Give the time as ISO 8601 in UTC, to the millisecond."""
    seconds, rest = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:03d}Z"


def prediction_lines(
    identity: str, version: int, rows: Sequence[Mapping[str, Any]], names: frozenset[str], predictions: Sequence[float]
) -> bytes:
    """Give a request's log lines: for each row its id, the fields that the signature knows, the prediction.

    >>> lines = prediction_lines("r1", 2, [{"x": 1, "other": 9}], frozenset({"x"}), [0.5])
    >>> {k: v for k, v in orjson.loads(lines).items() if k != "t"}
    {'v': 1, 'id': 'r1.0', 'n': 2, 'x': {'x': 1}, 'y': 0.5}
    """
    moment = now()
    return b"".join(
        _line(
            {
                "v": VERSION,
                "id": f"{identity}.{index}",
                "t": moment,
                "n": version,
                "x": {key: value for key, value in row.items() if key in names},
                "y": y,
            }
        )
        for index, (row, y) in enumerate(zip(rows, predictions, strict=True))
    )


def label_lines(payload: Any) -> tuple[bytes, int]:
    """Check posted labels and give their log lines and their number. Raises LabelError for the first wrong one.

    >>> label_lines({"labels": [{"id": "r1.0", "value": "12"}]})
    Traceback (most recent call last):
        ...
    trilho_runtime.log.LabelError: label 0: value is '12'; wanted a finite number
    """
    labels = payload.get("labels") if isinstance(payload, dict) else None
    if not isinstance(labels, list):
        raise LabelError('wanted {"labels": [{"id": "...", "value": 1.0}, ...]}')
    moment = now()
    return b"".join(_line(_label(label, row, moment)) for row, label in enumerate(labels)), len(labels)


def _label(label: Any, row: int, moment: str) -> dict[str, Any]:
    if not isinstance(label, dict) or ("id" in label) == ("key" in label):
        raise LabelError(f"label {row}: wanted an object with a value and either an id or a key", row)
    value: Any = label.get("value")
    if type(value) not in (int, float) or not is_label(value):
        raise LabelError(f"label {row}: value is {_shown(value)}; wanted a finite number", row)
    name = "id" if "id" in label else "key"
    if name == "id" and not (isinstance(label["id"], str) and 0 < len(label["id"]) <= 200):
        raise LabelError(f"label {row}: id is {_shown(label['id'])}; wanted the id of a prediction", row)
    if name == "key" and not _is_key(label["key"]):
        raise LabelError(f"label {row}: key is {_shown(label['key'])}; wanted an object of strings or integers", row)
    return {"v": VERSION, name: label[name], "y": float(label["value"]), "t": moment}


def is_label(value: float) -> bool:
    """Say whether a number can be a true value: finite, and not so large that losses are not.

    >>> [is_label(x) for x in (0, -2.5, 1e31, 10**400, float("nan"))]
    [True, True, False, False, False]
    """
    return abs(value) <= LARGEST_LABEL


def _is_key(key: Any) -> bool:
    return isinstance(key, dict) and bool(key) and all(type(v) in (str, int) for v in key.values())


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _line(data: dict[str, Any]) -> bytes:
    return orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE)
