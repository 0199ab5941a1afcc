"""What is kept of an answer: a line for each row, written before its caller hears of it.

    {"v": 2, "id": "a9f7...e9.0", "t": "2026-01-01T13:05:00.123Z", "n": 3, "x": {fields}, "y": 0.25, ...}

A log that cannot be written never holds a prediction up: its lines are shed, counted, and the answer says so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from trilho_runtime.prediction.entries import Telling
from trilho_runtime.prediction.log import LineLog, Torn, now
from trilho_runtime.prediction.mask import Mask
from trilho_runtime.schema.signature import Signature
from trilho_runtime.web.http import note

VERSION = 2
SAID_SECONDS = 60.0
LARGEST = 2**63


class Lines:
    """Writes a model's answers as lines: the fields that its signature knows, times in one spelling, masked."""

    def __init__(self, version: int, signature: Signature, telling: Telling, mask: Mask | None = None) -> None:
        self._version = version
        self._signature = signature
        self._names = signature.names
        self._telling = telling
        self._mask = mask or None
        self._timed = any(field.type == "timestamp" for field in signature.fields)

    def of(
        self,
        ids: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
        scores: Sequence[Any],
        decisions: Sequence[Any] | None = None,
        decision_version: str | None = None,
        shadows: Sequence[bool] = (),
        attempts: Sequence[int] = (),
        *,
        known: bool = False,
    ) -> bytes:
        """Give the lines of rows; `shadows` says of each whether nobody was told, where that is so of any.

        `attempts` says of each how often its request had been sent before, where one had: of an id that has several
        lines the latest attempt's counts. `known` says that the rows hold no fields but the signature's, for whoever
        has looked already.

        >>> from trilho_runtime.schema.signature import Field
        >>> lines = Lines(2, Signature((Field("x", "number", False),)), Telling.of({"task": "regression"}))
        >>> {k: v for k, v in orjson.loads(lines.of(["r1.0"], [{"x": 1, "other": 9}], [0.5])).items() if k != "t"}
        {'v': 2, 'id': 'r1.0', 'n': 2, 'x': {'x': 1}, 'y': 0.5}
        """
        moment, version = now(), self._version
        told = [
            {"v": VERSION, "id": id_, "t": moment, "n": version, "x": fields, "y": score}
            for id_, fields, score in zip(ids, self.kept(rows, known=known), scores, strict=True)
        ]
        if self._telling.kind in ("probabilities", "class"):
            for line in told:
                self._tell_class(line)
        if decisions is not None:
            for line, decision in zip(told, decisions, strict=True):
                line |= {"d": decision, "dn": decision_version}
        for line, shadow in zip(told, shadows, strict=False):
            if shadow:
                line["s"] = 1
        for line, attempt in zip(told, attempts, strict=False):
            if attempt and "s" not in line:  # whoever asks unseen asks once
                line["a"] = attempt
        return b"".join(map(_dumped, told))

    def kept(self, rows: Sequence[Mapping[str, Any]], *, known: bool = False) -> Sequence[Mapping[str, Any]]:
        """Give rows as a log may hold them: known fields alone, times in one spelling, masked."""
        if self._timed:
            rows = self._signature.canonical(rows)
        names = self._names
        if not known and not all(map(names.issuperset, rows)):
            rows = [{name: value for name, value in row.items() if name in names} for row in rows]
        return rows if self._mask is None else [self._mask.apply(row) for row in rows]

    def _tell_class(self, line: dict[str, Any]) -> None:
        """Name the most probable class; where each has a probability, tell them all, and that one's as the value."""
        score = line["y"]
        line["c"] = self._telling.class_of(score)
        if type(score) is list:
            line["y"], line["p"] = max(score), score


class ServedLog:
    """The log of one process's predictions; it is written, or shed while it cannot be."""

    def __init__(self, log: LineLog) -> None:
        self._log = log
        self._said = -SAID_SECONDS
        self.shed = 0
        self.why = ""

    @property
    def state(self) -> str:
        """Say how the log stands: "written", or "shed" since the last lines could not be kept."""
        return "shed" if self.why else "written"

    def write(self, lines: bytes, rows: int) -> int:
        """Keep the lines of rows, and say how many are kept: on a disk that fills up just then the first of them."""
        return self._kept(lambda: self._log.write(lines), rows)

    def sync(self, rows: int) -> bool:
        """Put what was written on the disk, and say whether it is there; `rows` wait to hear it."""
        return self._kept(self._log.sync, rows) == rows

    def close(self) -> None:
        """Close the file."""
        self._log.close()

    def to_json(self) -> dict[str, Any]:
        """Say how the log stands, for `GET /`."""
        return {"state": self.state, "shed": self.shed, **({"why": self.why} if self.why else {})}

    def _kept(self, keep: Any, rows: int) -> int:
        try:
            keep()
        except OSError as error:
            kept = error.lines if isinstance(error, Torn) else 0
            self.shed += rows - kept
            self._say(f"{self._log.folder}: {error.strerror or error}")
            return kept
        if self.why:
            note(f"the log of predictions is written again; {self.shed} rows were not logged since the start")
            self.why, self._said = "", -SAID_SECONDS
        return rows

    def _say(self, why: str) -> None:
        self.why = why
        moment = time.monotonic()
        if moment - self._said >= SAID_SECONDS:
            self._said = moment
            note(f"{why}: predictions are answered and not logged, {self.shed} rows until now")


def _dumped(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # half of a surrogate pair, an integer of more than 64 bits
        return orjson.dumps(plain(line), option=orjson.OPT_APPEND_NEWLINE)


def plain(value: Any) -> Any:
    """Give a value of JSON as every writer takes it: whole characters, and no integer of more than 64 bits."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return float(value) if type(value) is int and not -LARGEST <= value < LARGEST else value
