"""What one worker of a server wants to know of the others, asked and answered through their parent.

A caller who was answered before is counted: the others are asked at that moment, not by what they last wrote down. Only
for a worker that was killed, or does not answer, its last word stands, which is half a second old at most.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trilho_runtime.processes.channel import Channel
from trilho_runtime.processes.sums import add_json, add_metrics
from trilho_runtime.web.memory import memory_bytes

GIVE_SECONDS = 1.0


@dataclass(eq=False)
class Worker:
    """A child process, and what is known of it."""

    place: int
    pid: int
    channel: Channel
    early: bool  # it answers with 503 while it loads, when nobody else could answer either
    started: float
    state: str = "loading"  # then "ready", "accepting", "leaving"
    left: float = 0.0
    replaces: Worker | None = None
    kept: dict[str, str] = field(default_factory=dict)


@dataclass
class Question:
    """What one worker asked, who has still to say, and what the others said."""

    asker: Worker
    number: int
    what: str
    until: float
    waiting: set[Worker]
    parts: list[str] = field(default_factory=list)


class Hub:
    """Passes questions on, and remembers for those who have ended."""

    def __init__(self) -> None:
        self._questions: dict[int, Question] = {}
        self._asked = 0
        self._ended: dict[str, str] = {}

    @property
    def due(self) -> Iterable[float]:
        """Give the moments by which questions have to be answered."""
        return [question.until for question in self._questions.values()]

    def ask(self, asker: Worker, number: int, what: str, workers: Sequence[Worker]) -> None:
        """Pass a worker's question on to the others."""
        self._asked += 1
        others = {worker for worker in workers if worker is not asker and worker.channel.open}
        self._questions[self._asked] = Question(asker, number, what, time.monotonic() + GIVE_SECONDS, others)
        for worker in others:
            worker.channel.say({"give": self._asked, "what": what})

    def hear(self, worker: Worker, told: Mapping[str, Any]) -> None:
        """Take what a worker says to a question, or of itself."""
        worker.kept |= told.get("keep", {})
        question = self._questions.get(told.get("given", 0))
        if question is not None and worker in question.waiting:
            question.waiting.discard(worker)
            if told["text"] is not None:
                question.parts.append(told["text"])
                worker.kept[question.what] = told["text"]

    def bury(self, worker: Worker) -> None:
        """Remember what a worker had counted when it ended: a sum must not fall because of that."""
        self._questions = {key: q for key, q in self._questions.items() if q.asker is not worker}
        for question in self._questions.values():
            question.waiting.discard(worker)
        for what, text in worker.kept.items():
            before = [self._ended[what]] if what in self._ended else []
            self._ended[what] = _sum(what, [*before, text])

    def answer(self, workers: Sequence[Worker], *, now: float) -> None:
        """Answer the questions to which everybody has spoken, or had the time to."""
        for key, question in list(self._questions.items()):
            if question.waiting and now < question.until:
                continue
            del self._questions[key]
            late = [worker.kept[question.what] for worker in question.waiting if question.what in worker.kept]
            ended = [self._ended[question.what]] if question.what in self._ended else []
            told = {"answer": question.number, "parts": [*question.parts, *late], "ended": ended}
            question.asker.channel.say({**told, "workers": [_shown(worker) for worker in workers]})


def _sum(what: str, texts: Sequence[str]) -> str:
    if what == "metrics":
        return add_metrics([], texts)
    return json.dumps(add_json([json.loads(text) for text in texts]))


def _shown(worker: Worker) -> dict[str, Any]:
    return {"pid": worker.pid, "state": worker.state, "memory_bytes": memory_bytes(worker.pid)}
