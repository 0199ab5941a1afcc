"""What the console needs to know, and what it may do about incidents. The project or the platform provides it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from trilho.config import Settings
from trilho.core.projection import State
from trilho.core.readings import EndpointStatus, LabelStatus, Reading
from trilho.core.records import Payload


class Source(Protocol):
    """The models of a platform. Called from worker threads, several at once; answers may be a second old."""

    def state(self) -> State:
        """Give the journal's fold; what was given is never changed afterwards."""

    def head(self) -> str:
        """Give the journal's head, position and hash."""

    def models(self) -> Sequence[str]:
        """Name the models, those too that the journal has not heard of."""

    def readings(self, model: str) -> Sequence[Reading]:
        """Give a model's readings, oldest first."""

    def labels(self, model: str) -> LabelStatus | None:
        """Say how far labels have arrived."""

    def endpoint(self, model: str) -> EndpointStatus | None:
        """Give the endpoint as its supervisor last saw it."""

    def settings(self, model: str) -> Settings | None:
        """Give a model's settings, where its project is at hand."""

    def package(self, model: str, version: int) -> dict[str, Any] | None:
        """Give the manifest of a version's package, where it is at hand."""

    def tail_log(self, run: str, task: str) -> str:
        """Give the kept output of a run's task, empty where there is none."""

    def acknowledge(self, model: str, incident: str, actor: str, why: str) -> None:
        """Record that somebody has taken an incident up."""

    def act(self, model: str, payload: Payload, actor: str) -> None:
        """Record what a person did about an incident: mute it, let it be told again, close it."""
