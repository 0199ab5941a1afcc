"""Callers of an endpoint, as an application would be: rows in, predictions out, labels later, everything counted."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

Row = Mapping[str, Any]
LARGEST_REQUEST = 200
SINGLE_EVERY = 20
IDLE_SECONDS = 2.0


@dataclass
class Tally:
    """What was sent, and what of it failed."""

    single_row_requests: int = 0
    batch_requests: int = 0
    label_requests: int = 0
    failed: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """Prediction requests, of one row and of many."""
        return self.single_row_requests + self.batch_requests

    def fail(self, problem: str) -> None:
        """Count a failure; the first few are kept word for word."""
        self.failed += 1
        if len(self.problems) < 5:
            self.problems.append(problem)


@dataclass(frozen=True)
class Answer:
    """What a server said about one row; `id` joins its label to it."""

    id: str
    prediction: float
    version: int


class Client:
    """One kept-open connection to an endpoint."""

    def __init__(self, address: str, timeout_seconds: float = 30.0) -> None:
        parts = urlsplit(address)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "127.0.0.1", parts.port, timeout=timeout_seconds
        )
        self._used = 0.0
        self.tally = Tally()

    def predict(self, rows: Sequence[Row]) -> list[Answer | None]:
        """Send rows in one request; None for each row of a request that failed, which is never tried again."""
        if len(rows) == 1:
            self.tally.single_row_requests += 1
        else:
            self.tally.batch_requests += 1
        answer = self._post("/predict", {"instances": list(rows)})
        if answer is None:
            return [None] * len(rows)
        version = int(answer["version"])
        pairs = zip(answer["ids"], answer["predictions"], strict=True)
        return [Answer(id_, _number(prediction), version) for id_, prediction in pairs]

    def play(self, rows: Sequence[Row]) -> list[Answer | None]:
        """Send rows as callers do: one in twenty by a request of its own, the rest in requests of at most 200 rows."""
        alone = set(range(0, len(rows), SINGLE_EVERY))
        together = [index for index in range(len(rows)) if index not in alone]
        answers: list[Answer | None] = [None] * len(rows)
        for group in [[index] for index in alone] + [
            together[start : start + LARGEST_REQUEST] for start in range(0, len(together), LARGEST_REQUEST)
        ]:
            for index, answer in zip(group, self.predict([rows[i] for i in group]), strict=True):
                answers[index] = answer
        return answers

    def label(self, labels: Sequence[tuple[str, float]]) -> None:
        """Send true values by prediction id."""
        for start in range(0, len(labels), LARGEST_REQUEST):
            self.tally.label_requests += 1
            part = labels[start : start + LARGEST_REQUEST]
            self._post("/labels", {"labels": [{"id": id_, "value": value} for id_, value in part]})

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        if time.monotonic() - self._used > IDLE_SECONDS:
            self._connection.close()  # a server may close a connection that was idle; the next request opens another
        self._used = time.monotonic()
        try:
            self._connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self.tally.fail(f"POST {path}: {type(error).__name__}: {error}")
            return None
        if response.status != 200:
            self.tally.fail(f"POST {path}: {response.status} {text[:200].decode(errors='replace')}")
            return None
        answer: dict[str, Any] = json.loads(text)
        return answer


def _number(prediction: float | Mapping[str, float]) -> float:
    return float(prediction["1"]) if isinstance(prediction, Mapping) else float(prediction)
