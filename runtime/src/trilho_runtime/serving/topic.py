"""The topic that a server's predictions are published to before they are answered, where its disk does not last."""

from __future__ import annotations

from typing import Any

from trilho_runtime.prediction.job import Job, Outcome
from trilho_runtime.prediction.publish import Publisher, request_message
from trilho_runtime.prediction.served import plain
from trilho_runtime.serving.work import Work
from trilho_runtime.web.http import note


class Topic:
    """Publishes a message a request: its rows as the log may hold them, and what was answered in full.

    `endpoint` names the endpoint in the messages; by default it is the model's name.
    """

    def __init__(self, publisher: Publisher, endpoint: str = "") -> None:
        self._publisher = publisher
        self._endpoint = endpoint
        self._resting = False

    async def keep(self, work: Work, job: Job, outcome: Outcome) -> bool:
        """Publish a request, and say whether the topic has acknowledged it."""
        entries = work.telling.full(outcome)
        if job.attempt:
            entries = [{**entry, "attempt": job.attempt} for entry in entries]
        rows = work.lines.kept(job.rows, known=outcome.extra == 0)
        endpoint = self._endpoint or work.model.name
        try:
            message = request_message(endpoint, outcome.version, job.identity, rows, entries)
        except TypeError:  # half of a surrogate pair, an integer of more than 64 bits
            message = request_message(endpoint, outcome.version, job.identity, [plain(row) for row in rows], entries)
        published = await self._publisher.publish(message)
        self._say(published)
        return published

    def close(self) -> None:
        """Let the publisher's threads end."""
        self._publisher.close()

    def counts(self) -> list[tuple[str, str, int]]:
        """Give the requests that were published and those that were shed, for Prometheus."""
        return [
            ("published", "Requests that the topic has acknowledged.", self._publisher.published),
            ("shed", "Requests that were answered and not published.", self._publisher.shed),
        ]

    def to_json(self) -> dict[str, Any]:
        """Say how the topic stands, for `GET /`."""
        publisher = self._publisher
        told = {"topic": publisher.topic, "published": publisher.published, "shed": publisher.shed}
        return {**told, **({"why": publisher.why} if publisher.why else {})}

    def _say(self, published: bool) -> None:
        """Say once that requests are not published, and once that they are again."""
        if published == self._resting:
            self._resting = not published
            if published:
                note(f"requests are published to {self._publisher.topic} again; {self._publisher.shed} were not")
            else:
                why = self._publisher.why or "the message is too large"
                note(f"{self._publisher.topic}: {why}: requests are answered and not published")
