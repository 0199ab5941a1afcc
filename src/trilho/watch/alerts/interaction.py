"""What a person does to a message in Slack: the signed request that tells it, checked and read."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from trilho.watch.alerts.blocks import ACTION

WINDOW_SECONDS = 300.0
LARGEST = 256_000  # bytes of such a request: it holds the whole message


@dataclass(frozen=True)
class Press:
    """A button that was pressed: on which incident, by whom."""

    incident: str
    actor: str


def is_signed(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], at: float | None = None) -> bool:
    """Say whether Slack has signed a request with one of the secrets, within five minutes of now."""
    given = {name.lower(): value for name, value in headers.items()}
    timestamp, signature = given.get("x-slack-request-timestamp", ""), given.get("x-slack-signature", "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 12):
        return False
    if abs((time.time() if at is None else at) - int(timestamp)) > WINDOW_SECONDS:
        return False
    based = f"v0:{timestamp}:".encode() + body
    expected = ["v0=" + hmac.new(secret.encode(), based, hashlib.sha256).hexdigest() for secret in secrets if secret]
    matches = [hmac.compare_digest(one.encode(), signature.encode()) for one in expected]
    return any(matches)


def read(body: bytes) -> Press | None:
    """Read which button was pressed; None for any but ours. Raises ValueError for what is no request of Slack."""
    fields = parse_qs(body.decode("utf-8"), strict_parsing=True, max_num_fields=10)
    payload = json.loads(fields.get("payload", [""])[0])
    if not isinstance(payload, dict) or payload.get("type") != "block_actions":
        return None
    actions = payload.get("actions")
    for action in actions if isinstance(actions, list) else []:
        if isinstance(action, dict) and action.get("action_id") == ACTION:
            return Press(str(action.get("value") or ""), _actor(payload.get("user")))
    return None


def _actor(user: Any) -> str:
    """Name a person of Slack by name and id: names can change, ids do not."""
    found = user if isinstance(user, dict) else {}
    name = re.sub(r"[^\w .@-]", "", str(found.get("username") or found.get("name") or ""))[:80]
    number = re.sub(r"\W", "", str(found.get("id") or ""))[:40]
    return f"{name} ({number}, Slack)" if name else f"{number or 'somebody'} (Slack)"
