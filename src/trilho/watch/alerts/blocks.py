"""A message as Slack's Block Kit, within the limits that Slack states."""

from __future__ import annotations

from typing import Any

from trilho.watch.alerts.message import Message
from trilho.watch.wording import say

HEADER, SECTION, BLOCKS, LABEL, VALUE, LINK = 150, 3000, 50, 75, 2000, 3000
ACTION = "trilho_acknowledge"
Block = dict[str, Any]


def blocks(message: Message, *, button: bool = False, again: bool = False) -> list[Block]:
    """Give a message's blocks; with `button`, one that acknowledges the incident."""
    made: list[Block] = [{"type": "header", "text": _plain(message.headline, HEADER)}]
    made += [{"type": "section", "text": {"type": "mrkdwn", "text": text}} for text in _sections(message)]
    buttons = _buttons(message, button)
    if buttons:
        made.append({"type": "actions", "elements": buttons})
    notes = [_plain(message.alert, SECTION)]
    if again:
        notes.append(_plain(say(message.language, "repeat"), SECTION))
    return [*made[: BLOCKS - 1], {"type": "context", "elements": notes}]


def _sections(message: Message) -> list[str]:
    """Give the facts as texts that each fit into a section; what one fact has over is cut."""
    texts: list[str] = []
    for name, text in message.facts:
        line = _cut(f"*{escaped(name)}:* {escaped(text)}", SECTION)
        if texts and len(texts[-1]) + 1 + len(line) <= SECTION:
            texts[-1] += f"\n{line}"
        else:
            texts.append(line)
    return texts


def _buttons(message: Message, button: bool) -> list[Block]:
    made: list[Block] = []
    if button and message.is_open:
        text = _plain(say(message.language, "button.acknowledge"), LABEL)
        made.append(
            {"type": "button", "action_id": ACTION, "style": "primary", "text": text, "value": message.incident[:VALUE]}
        )
    if message.link and len(message.link) <= LINK:
        text = _plain(say(message.language, "link.open"), LABEL)
        made.append({"type": "button", "action_id": "trilho_open", "text": text, "url": message.link})
    return made


def escaped(text: str) -> str:
    """Escape the three characters that Slack gives a meaning."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _plain(text: str, most: int) -> Block:
    return {"type": "plain_text", "text": _cut(text, most)}


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    text = text[: most - 1]
    entity = text.rfind("&")
    return (text[:entity] if entity > most - 7 and ";" not in text[entity:] else text) + "…"
