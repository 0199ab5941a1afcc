"""Labels by prediction id: what turned out to be true, written down before the answer.

The server keeps what it is told; whether an id is known, late or labelled before is found where labels meet
predictions, and counted there. The router and a server that stands alone share this, so both answer the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from trilho_runtime.prediction.log import LabelError, LineLog, label_lines
from trilho_runtime.web.http import Answer, Handler, HttpError, Request, parse_json

LISTED = 20  # refused labels that are told one by one
MAX_LABELS = 100_000


class Labelling:
    """Answers /labels; `counted` hears how many labels were kept, `failed` that some could not be."""

    def __init__(
        self,
        log: LineLog,
        *,
        counted: Callable[[int], None] = lambda number: None,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        self._log = log
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
        try:
            lines, number = label_lines(payload)
        except LabelError as error:
            raise HttpError(422, str(error), field="labels", row=error.row) from None
        self._write(lines, number)
        return Answer(200, {"accepted": number, "repeated": repeated(payload["labels"]), "refused": 0})

    def _take_right_ones(self, labels: list[Any]) -> Answer:
        lines, right, refused = [], [], []
        for row, label in enumerate(labels):
            try:
                lines.append(label_lines({"labels": [label]})[0])
                right.append(label)
            except LabelError as error:
                refused.append({"row": row, "error": str(error).removeprefix("label 0: ")})
        self._write(b"".join(lines), len(right))
        told = {"accepted": len(right), "repeated": repeated(right), "refused": len(refused)}
        return Answer(200, {**told, "errors": refused[:LISTED]} if refused else told)

    def _write(self, lines: bytes, number: int) -> None:
        try:
            self._log.append(lines)
        except OSError as error:
            self._failed()
            raise HttpError(507, f"the labels could not be kept: {error.strerror or error}") from None
        self._counted(number)


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
