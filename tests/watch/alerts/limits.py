"""What the platforms' published schemas and documents demand of a payload, for the parts that alerts use."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

TEXTS = {"plain_text", "mrkdwn"}
CARD = {"$schema", "type", "version", "fallbackText", "body", "actions"}
TEXT_BLOCK = {"type", "text", "weight", "size", "wrap", "color", "isSubtle"}
COLOURS = {"default", "dark", "light", "accent", "good", "warning", "attention"}
NAME = re.compile(r"[a-z0-9]+")


def check_blocks(blocks: list[dict[str, Any]]) -> None:
    """Hold blocks against the limits of Block Kit."""
    assert 1 <= len(blocks) <= 50
    for block in blocks:
        kind = block["type"]
        if kind == "header":
            _text(block["text"], 150, {"plain_text"})
        elif kind == "section":
            _text(block["text"], 3000, TEXTS)
        elif kind == "context":
            assert 1 <= len(block["elements"]) <= 10
            for element in block["elements"]:
                _text(element, 3000, TEXTS)
        else:
            assert kind == "actions"
            assert 1 <= len(block["elements"]) <= 25
            assert len({e["action_id"] for e in block["elements"]}) == len(block["elements"])
            for element in block["elements"]:
                _button(element)


def _text(text: dict[str, Any], most: int, kinds: set[str]) -> None:
    assert set(text) == {"type", "text"}
    assert text["type"] in kinds
    assert 1 <= len(text["text"]) <= most


def _button(button: dict[str, Any]) -> None:
    assert button["type"] == "button"
    assert set(button) <= {"type", "text", "action_id", "value", "url", "style"}
    _text(button["text"], 75, {"plain_text"})
    assert len(button["action_id"]) <= 255
    assert len(button.get("value", "")) <= 2000
    assert len(button.get("url", "")) <= 3000
    assert button.get("style", "primary") in {"primary", "danger"}


def check_card(body: dict[str, Any]) -> dict[str, Any]:
    """Hold a message to Teams against the Workflows envelope and the schema of Adaptive Cards 1.4; give the card."""
    assert set(body) == {"type", "attachments"}
    assert body["type"] == "message"
    (attachment,) = body["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["contentUrl"] is None
    card: dict[str, Any] = attachment["content"]
    assert set(card) <= CARD  # the schema allows no other
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    for element in card["body"]:
        if element["type"] == "FactSet":
            assert set(element) == {"type", "facts"}
            assert all(set(f) == {"title", "value"} and f["title"] and f["value"] for f in element["facts"])
        else:
            assert element["type"] == "TextBlock"
            assert set(element) <= TEXT_BLOCK
            assert element["text"]
            assert element.get("color", "default") in COLOURS
            assert element.get("size", "default") in {"default", "small", "medium", "large", "extraLarge"}
            assert element.get("weight", "default") in {"default", "lighter", "bolder"}
    for action in card.get("actions", []):
        assert set(action) == {"type", "title", "url"}
        assert action["type"] == "Action.OpenUrl"
    return card


def check_event(event: dict[str, Any]) -> None:
    """Hold an event against the JSON schema of CloudEvents 1.0."""
    assert event["specversion"] == "1.0"
    assert all(isinstance(event[name], str) and event[name] for name in ("id", "source", "type", "subject"))
    assert all(NAME.fullmatch(name) for name in event)
    assert re.fullmatch(r"[!-~]+", event["source"])  # a reference to a URI
    assert event["datacontenttype"] == "application/json"
    if "time" in event:
        assert datetime.fromisoformat(event["time"]).tzinfo is not None
