"""Labels by prediction id: what turned out to be true, written down before the answer.

The server keeps what it is told; whether an id is known, late or labelled before is found where labels meet
predictions, and counted there. The router and a server that stands alone share this, so both answer the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from trilho_runtime.prediction.log import Classes, LabelError, LineLog, Torn, label_lines
from trilho_runtime.web.http import Answer, Handler, HttpError, Request, parse_json

LISTED = 20  # refused labels that are told one by one
MAX_LABELS = 100_000


class Labelling:
    """Answers /labels; `counted` hears how many labels were kept, `failed` that some could not be.

    `classes` gives those of the model that answers, none for one of numbers, None where they are not known; it may
    raise HttpError 503 while there is no model yet.
    """

    def __init__(
        self,
        log: LineLog,
        *,
        counted: Callable[[int], None] = lambda number: None,
        failed: Callable[[], None] = lambda: None,
        classes: Callable[[], Classes | None] = lambda: None,
    ) -> None:
        self._log = log
        self._classes = classes
        self._counted = counted
        self._failed = failed

    def routes(self) -> dict[tuple[str, str], Handler]:
        """Give the handlers by method and path."""
        return {("POST", "/labels"): self.label}

    async def label(self, request: Request) -> Answer:
        """Keep labels, then say how many were accepted, came twice in this request, or were refused."""
        payload = parse_json(await request.body())
        answer = self.take(payload)
        request.rows = answer.payload["accepted"]
        return answer

    def take(self, payload: Any) -> Answer:
        """Keep a request's labels: all of them or none, or with {"partial": true} those that are right.

        Raises HttpError 422 for a wrong label, 507 when they could not be written.
        """
        if isinstance(payload, dict) and not isinstance(payload.get("partial", False), bool):
            raise HttpError(422, "partial is neither true nor false", field="partial")
        if isinstance(payload, dict) and isinstance(payload.get("labels"), list):
            if len(payload["labels"]) > MAX_LABELS:
                raise HttpError(413, f"{len(payload['labels'])} labels in one request; at most {MAX_LABELS} are taken")
            _make_keys_whole(payload["labels"])
            if payload.get("partial") is True:
                return self._take_right_ones(payload["labels"])
        found = self._checked(payload)
        if found.refused:
            raise _refusal(found)
        self._write(found)
        return Answer(200, found.told())

    def _take_right_ones(self, labels: list[Any]) -> Answer:
        found = self._checked({"labels": labels})
        self._write(found)
        told: dict[str, Any] = found.told()
        return Answer(200, {**told, "errors": found.refused[:LISTED]} if found.refused else told)

    def _checked(self, payload: Any) -> Found:
        """Check labels one by one. Raises HttpError 422 for what holds none."""
        classes = self._classes()
        try:
            return Found([label_lines(payload, classes)[0]], payload["labels"])
        except LabelError as error:
            if error.row is None:
                raise HttpError(422, str(error), field="labels") from None
        found = Found()
        for row, label in enumerate(payload["labels"]):
            try:
                found.lines.append(label_lines({"labels": [label]}, classes)[0])
                found.right.append(label)
            except LabelError as error:
                found.refused.append({"row": row, "error": str(error).removeprefix("label 0: ")})
        return found

    def _write(self, found: Found) -> None:
        try:
            self._log.append(b"".join(found.lines))
        except OSError as error:
            self._failed()
            kept = error.lines if isinstance(error, Torn) else 0
            if kept:
                self._counted(kept)
            some = f"; of {len(found.right)} the first {kept} are" if kept else ""
            raise HttpError(507, f"the labels could not be kept: {error.strerror or error}{some}") from None
        self._counted(len(found.right))


@dataclass
class Found:
    """What a request's labels are: lines of the right ones, and what is wrong with the others."""

    lines: list[bytes] = field(default_factory=list)
    right: list[Any] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)

    def told(self) -> dict[str, int]:
        """Give the counts that the caller is told."""
        return {"accepted": len(self.right), "repeated": repeated(self.right), "refused": len(self.refused)}


def _refusal(found: Found) -> HttpError:
    """Say that nothing was kept, for which labels, and how the others are."""
    first = found.refused[0]
    rest = f", and {len(found.refused) - 1} more are wrong" if len(found.refused) > 1 else ""
    fact = f"label {first['row']}: {first['error']}{rest}; no label of this request was kept"
    if found.right:
        fact += f', {{"partial": true}} beside "labels" keeps the {len(found.right)} right ones'
    error = HttpError(422, fact, field="labels", row=first["row"])
    error.answer.payload["accepted"], error.answer.payload["refused"] = 0, len(found.refused)
    error.answer.payload["errors"] = found.refused[:LISTED]
    return error


def _make_keys_whole(labels: list[Any]) -> None:
    """Turn 7.0 in a key into 7: a table whose column of whole numbers has a gap sends them so."""
    for label in labels:
        key = label.get("key") if isinstance(label, dict) else None
        if not isinstance(key, dict):
            continue
        for name, value in key.items():
            if type(value) is float and value.is_integer() and -(2**63) < value < 2**64:
                key[name] = int(value)


def repeated(labels: list[Any]) -> int:
    """Count the labels whose id or key was in the same request before; where predictions meet labels the first counts.

    >>> repeated([{"id": "a.0", "value": 1}, {"id": "b.0", "value": 1}, {"id": "a.0", "value": 0}])
    1
    """
    names = {orjson.dumps([label.get("id"), label.get("key")], option=orjson.OPT_SORT_KEYS) for label in labels}
    return len(labels) - len(names)
