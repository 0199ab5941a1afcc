"""Microsoft Teams: an Adaptive Card to a Workflows webhook, a new one for each change of state.

Such a webhook can neither change a card nor hear of a button, so a card links to the console.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from trilho.watch.alerts.letter import Letter
from trilho.watch.alerts.message import Message
from trilho.watch.alerts.posting import post
from trilho.watch.wording import say

COLOURS = {"high": "attention", "medium": "warning", "low": "accent", "closed": "good"}
LARGEST = 28_000  # bytes of a card that Teams takes


class Teams:
    """A Workflows webhook ("When a Teams webhook request is received")."""

    def __init__(self, name: str, address: Callable[[], str]) -> None:
        self.name, self._address = name, address

    def send(self, letter: Letter) -> None:
        """Post a letter's card. Raises Undelivered."""
        message = letter.message
        headers = {
            "Content-Type": "application/json",
            "X-Trilho-Incident": message.incident,
            "X-Trilho-Alert": message.alert,
        }
        post(self.name, self._address(), json.dumps(envelope(message, again=letter.again)).encode(), headers)

    def lacks(self) -> list[str]:
        """Say nothing: a card shows all that it can."""
        return []


def envelope(message: Message, *, again: bool = False) -> dict[str, Any]:
    """Give a message as a card in the envelope that Workflows want, its last facts left out if it is too large."""
    facts = list(message.facts)
    while True:
        made = card(message, facts, again=again)
        attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": made}
        body = {"type": "message", "attachments": [attachment]}
        if len(json.dumps(body)) <= LARGEST or len(facts) <= 1:
            return body
        facts = facts[: len(facts) * 3 // 4]


def card(message: Message, facts: list[tuple[str, str]], *, again: bool = False) -> dict[str, Any]:
    """Give a message as an Adaptive Card of version 1.4."""
    left = len(message.facts) - len(facts)
    small = {"type": "TextBlock", "isSubtle": True, "size": "small", "wrap": True}
    notes = [message.alert, *([say(message.language, "repeat")] if again else [])]
    notes += [say(message.language, "digest.more", count=left)] if left else []
    body: list[dict[str, Any]] = [
        {
            "type": "TextBlock", "text": _plain(message.headline, 500), "weight": "bolder", "size": "medium",
            "wrap": True, "color": COLOURS.get(message.grade, "default"),
        },
        {"type": "FactSet", "facts": [{"title": _plain(a, 200), "value": _plain(b, 2000)} for a, b in facts]},
        *({**small, "text": note} for note in notes),
    ]  # fmt: skip
    made: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": message.headline[:500],
        "body": body,
    }
    actions = _links(message)
    return {**made, "actions": actions} if actions else made


def _links(message: Message) -> list[dict[str, str]]:
    if not message.link:
        return []
    links = [{"type": "Action.OpenUrl", "title": say(message.language, "link.open"), "url": message.link}]
    if message.is_open:
        text = say(message.language, "link.acknowledge")
        links.append({"type": "Action.OpenUrl", "title": text, "url": f"{message.link}#acknowledge"})
    return links


def _plain(text: str, most: int) -> str:
    """Keep a text from being read as a link in Markdown: names come from data."""
    shown = text if len(text) <= most else text[: most - 1] + "…"
    return shown.replace("](", "] (")
