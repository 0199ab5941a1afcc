"""What an alert says, and the JSON that Slack (Block Kit) and Teams (an Adaptive Card for Workflows) want for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trilho.core.projection import Incident, ModelState, Retraining, Rollout
from trilho.core.records import Cause
from trilho_runtime.profile import PREDICTION

COLOURS = {"high": "attention", "medium": "warning", "low": "accent", "closed": "good"}
NAMES = {"mae": "MAE", "brier": "Brier loss", PREDICTION: "predictions"}


@dataclass(frozen=True)
class Message:
    """One alert: a headline, facts (name, text), and where to read on; `incident` may be a rollout's id too."""

    headline: str
    facts: tuple[tuple[str, str], ...]
    colour: str
    incident: str
    alert: str
    link: str

    @classmethod
    def about(cls, state: ModelState, incident: Incident, alert: str, console: str) -> Message:
        """Tell an incident as it is now."""
        link = f"{console.rstrip('/')}/incidents/{incident.id}" if console else ""
        if incident.closed is not None:
            headline = f"{state.name}: closed, {incident.reason}"
            was = (("Was", incident.title), ("Incident", incident.id))
            return cls(headline, was, COLOURS["closed"], incident.id, alert, link)
        facts = (
            ("What", incident.title),
            ("Cause", _cause(state, incident)),
            ("Effect", _effect(incident)),
            ("Next", _next(state.retraining)),
            ("Incident", f"{incident.id}, severity {incident.severity}"),
        )
        headline = f"{state.name} version {incident.version}: {incident.kind}"
        return cls(headline, facts, COLOURS[incident.severity], incident.id, alert, link)

    @classmethod
    def held(cls, rollout: Rollout, alert: str, console: str) -> Message:
        """Tell that a rollout waits for a person, since its predictions lie elsewhere."""
        facts = (
            ("What", rollout.note or "its predictions lie elsewhere than the champion's"),
            ("Cause", "not known: it may have learnt something, or requests reach it broken"),
            ("Effect", f"it stays {rollout.position}; version {rollout.champion} answers the others as before"),
            ("Next", "trilho rollout shows it; trilho rollout resume lets it go on, trilho rollback ends it"),
            ("Rollout", rollout.id),
        )
        link = f"{console.rstrip('/')}/models/{rollout.model}#rollouts" if console else ""
        return cls(
            f"{rollout.model} version {rollout.version}: held", facts, COLOURS["medium"], rollout.id, alert, link
        )

    @classmethod
    def test(cls, model: str, console: str) -> Message:
        """Tell that alerts arrive."""
        facts = (("What", "a test: alerts of this model arrive here"), ("Next", "nothing, no incident is open"))
        return cls(f"{model}: test alert", facts, COLOURS["low"], "none", "test", console)


def slack(message: Message) -> dict[str, Any]:
    """Give a message as Slack's Block Kit."""
    facts = "\n".join(f"*{name}:* {_escaped(text)}" for name, text in message.facts)
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": message.headline[:150]}},
        {"type": "section", "text": {"type": "mrkdwn", "text": facts[:3000]}},
    ]
    if message.link:
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": f"<{message.link}|Open in the console>"}})
    blocks.append({"type": "context", "elements": [{"type": "plain_text", "text": message.alert}]})
    return {"text": message.headline, "blocks": blocks}


def teams(message: Message) -> dict[str, Any]:
    """Give a message as an Adaptive Card in the envelope of a Teams Workflows webhook."""
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {
                "type": "TextBlock", "text": message.headline, "weight": "bolder", "size": "medium", "wrap": True,
                "color": message.colour,
            },
            {"type": "FactSet", "facts": [{"title": name, "value": text} for name, text in message.facts]},
            {"type": "TextBlock", "text": message.alert, "isSubtle": True, "size": "small", "wrap": True},
        ],
    }  # fmt: skip
    if message.link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open in the console", "url": message.link}]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


CHANNELS: dict[str, Callable[[Message], dict[str, Any]]] = {"slack": slack, "teams": teams}


def _cause(state: ModelState, incident: Incident) -> str:
    causes = [cause for id_ in incident.alarms[:1] if id_ in state.alarms for cause in state.alarms[id_].causes]
    if not causes:
        return "not known"
    if incident.kind == "performance":
        drifting = any(x.kind == "drift" for x in state.open_incidents)
        return "inputs drift as well" if drifting else "inputs hold: the target itself may have changed"
    return "; ".join(_share(cause) for cause in causes[:3])


def _share(cause: Cause) -> str:
    name = NAMES.get(cause["feature"], cause["feature"])
    return f"{name}: {cause['distance']:.2f} from training, {cause['tolerance']:.2f} allowed"


def _effect(incident: Incident) -> str:
    if incident.kind == "performance":
        return "predictions are worse than was allowed at release"
    return "not known before labels come: the model sees data it was not trained on"


def _next(retraining: Retraining | None) -> str:
    if retraining is None:
        return "nothing by itself yet; trilho retrain starts a retraining"
    return "a retraining has started; what it yields replaces this version only if the gate says pass"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
