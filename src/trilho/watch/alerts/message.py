"""What an alert says, before any channel gives it a form."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from trilho.core.projection import Rollout
from trilho.watch.wording import Language, say

Stage = Literal[
    "opened", "confirmed", "worse", "crossed", "acknowledged", "closed", "reopened", "held", "test", "digest"
]  # fmt: skip
GRADES = ("high", "medium", "low")


@dataclass(frozen=True, kw_only=True)
class Message:
    """One alert: a headline, facts (name, text), and where to read on; `incident` may be a rollout's id too."""

    alert: str
    incident: str
    model: str
    stage: Stage
    grade: str  # high, medium, low, or closed
    headline: str
    facts: tuple[tuple[str, str], ...]
    time: str  # of the change that it tells
    link: str = ""
    language: Language = "en"
    chart: dict[str, Any] | None = None  # what a chart of it shows: feature or metric, and the version
    members: tuple[str, ...] = ()  # a digest's alerts

    @property
    def is_open(self) -> bool:
        """Whether a person can still take it up."""
        return self.stage in ("opened", "confirmed", "worse", "crossed", "reopened")

    @property
    def text(self) -> str:
        """The whole of it as plain text."""
        lines = [self.headline, "", *(f"{name}: {text}" for name, text in self.facts)]
        return "\n".join([*lines, *(["", self.link] if self.link else []), "", self.alert])

    def encode(self) -> str:
        """Give it as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def decode(cls, text: str) -> Message:
        """Rebuild a message from its JSON."""
        data = json.loads(text)
        return cls(**{**data, "facts": tuple((a, b) for a, b in data["facts"]), "members": tuple(data["members"])})

    @classmethod
    def held(cls, rollout: Rollout, alert: str, console: str, language: Language = "en") -> Message:
        """Tell that a rollout waits for a person, since its predictions lie elsewhere."""
        share = rollout.shadow if rollout.in_shadow else rollout.share
        position = say(language, "position.shadow" if rollout.in_shadow else "position.traffic", share=share)
        note = rollout.note if language == "en" else ""
        facts = [
            ("what", note or say(language, "what.held")),
            ("cause", say(language, "cause.held")),
            ("effect", say(language, "effect.held", position=position, champion=rollout.champion)),
            ("next", say(language, "next.held")),
            ("rollout", rollout.id),
        ]
        return cls(
            alert=alert,
            incident=rollout.id,
            model=rollout.model,
            stage="held",
            grade="medium",
            headline=say(language, "headline.held", model=rollout.model, version=rollout.version),
            facts=named(language, facts),
            time=rollout.share_since or rollout.started,
            link=f"{console.rstrip('/')}/models/{rollout.model}#rollouts" if console else "",
            language=language,
        )

    @classmethod
    def test(cls, model: str, console: str, time: str, language: Language = "en") -> Message:
        """Tell that alerts arrive."""
        facts = [("what", say(language, "what.test")), ("next", say(language, "next.test"))]
        return cls(
            alert="test",
            incident="none",
            model=model,
            stage="test",
            grade="low",
            headline=say(language, "headline.test", model=model),
            facts=named(language, facts),
            time=time,
            link=console,
            language=language,
        )


def named(language: Language, facts: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Give facts their names in a language."""
    return tuple((say(language, f"fact.{name}"), text) for name, text in facts)
