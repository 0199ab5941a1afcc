"""The lines that servers and the router write: which are complete, whose writer is gone, what was torn.

A file is named after its writer, `...<pid>-<epoch ms>.jsonl`, and only grows. A line counts once its newline is there;
what a dead writer left without one is torn, counted and passed over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from trilho.core.processes import alive
from trilho.errors import DataError

FORMAT = 2
AT_ONCE = 8 * 2**20
NAME = re.compile(r"(?:.*-)?(\d+)-(\d+)\.jsonl")
START = b'{"v":'
BLANK = b"\n" * 2**16


@dataclass(frozen=True)
class Chunk:
    """The complete lines of a file between two offsets, and how many places in it could not be read."""

    lines: list[dict[str, Any]]
    end: int
    torn: int


def read_chunk(path: Path, offset: int, *, writer_gone: bool, limit: int = AT_ONCE) -> Chunk:
    """Read complete lines from an offset on, at most about `limit` bytes, more only for a single longer line."""
    with path.open("rb") as handle:
        handle.seek(offset)
        data = handle.read(limit)
        while b"\n" not in data and (more := handle.read(limit)):
            data += more
        at_end = not handle.read(1)
    whole, newline, rest = data.rpartition(b"\n")
    lines, torn = _parse(path, whole) if newline else ([], 0)
    if rest and at_end and writer_gone:
        return Chunk(lines, offset + len(data), torn + 1)
    return Chunk(lines, offset + len(data) - len(rest), torn)


def _parse(path: Path, data: bytes) -> tuple[list[dict[str, Any]], int]:
    lines, torn = [], 0
    for raw in filter(None, data.split(b"\n")):
        line = _load(raw)
        if line is None:
            # A write cut short by a full disk has the next line glued to it: that one is whole.
            torn += 1
            line = _load(raw[raw.rfind(START) :]) if raw.rfind(START) > 0 else None
        if line is None:
            continue
        if line["v"] > FORMAT:
            raise DataError(
                f"{path}: a line of format {line['v']}; this trilho reads up to {FORMAT}",
                hint="a newer trilho-runtime wrote it: upgrade trilho",
            )
        lines.append(line)
    return lines, torn


def _load(raw: bytes) -> dict[str, Any] | None:
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("v"), int) else None


def gone(path: Path, siblings: Sequence[Path]) -> bool:
    """Say whether nobody writes to a file any more: its process has ended, or has gone on to a newer file."""
    match = NAME.fullmatch(path.name)
    if match is None:
        return False
    pid, started = match[1], int(match[2])
    others = (NAME.fullmatch(other.name) for other in siblings)
    if any(other is not None and other[1] == pid and int(other[2]) > started for other in others):
        return True
    return not alive(int(pid))


def erase(path: Path, size: int) -> None:
    """Blank the beginning of a file that its writer may go on with; blank lines are passed over.

    The writer only adds at the end, and what is blanked is in the log: nothing that is still to be read changes.
    """
    handle = os.open(path, os.O_WRONLY)
    try:
        for start in range(0, size, len(BLANK)):
            os.pwrite(handle, BLANK[: min(len(BLANK), size - start)], start)
        os.fsync(handle)
    finally:
        os.close(handle)
