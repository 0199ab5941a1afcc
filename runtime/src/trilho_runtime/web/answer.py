"""What a request is answered with: a status, JSON values or bytes, and the error that becomes an answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """What a handler answers: JSON values, or bytes as they are."""

    status: int
    payload: Any
    headers: Headers = field(default_factory=list)
    content_type: str = "application/json"


class HttpError(Exception):
    """A request that is answered with an error status.

    >>> HttpError(422, "row 0: x is null", field="x", row=0).answer.payload
    {'error': 'row 0: x is null', 'field': 'x', 'row': 0}
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        field: str | None = None,
        row: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        super().__init__(message)
        where = {key: value for key, value in (("field", field), ("row", row)) if value is not None}
        self.answer = Answer(status, {"error": message, **where}, headers or [])
