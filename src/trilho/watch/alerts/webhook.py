"""A generic webhook: a CloudEvent in its structured JSON form, signed as the Standard Webhooks specification says."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from trilho.errors import ConfigError, DataError
from trilho.watch.alerts.letter import Letter
from trilho.watch.alerts.message import Message
from trilho.watch.alerts.posting import post

TOLERANCE_SECONDS = 300.0
PREFIX = "whsec_"


class Webhook:
    """Any HTTP receiver; it recognises a repeat by the event's id."""

    def __init__(self, name: str, address: Callable[[], str], secret: Callable[[], str] | None = None) -> None:
        self.name, self._address, self._secret = name, address, secret

    def send(self, letter: Letter) -> None:
        """Post a letter's event. Raises Undelivered."""
        message = letter.message
        body = json.dumps(event(message, again=letter.again), ensure_ascii=False).encode()
        headers = {
            "Content-Type": "application/cloudevents+json; charset=utf-8",
            "X-Trilho-Incident": message.incident,
            "X-Trilho-Alert": message.alert,
        }
        if self._secret is not None:
            headers |= sign(body, message.alert, self._secret())
        post(self.name, self._address(), body, headers)

    def lacks(self) -> list[str]:
        """Say nothing: an event holds all there is."""
        return []


def event(message: Message, *, again: bool = False) -> dict[str, Any]:
    """Give a message as a CloudEvent 1.0; the same message has the same id and source, however often it is sent."""
    data: dict[str, Any] = {
        "alert": message.alert,
        "incident": message.incident,
        "model": message.model,
        "stage": message.stage,
        "severity": message.grade,
        "headline": message.headline,
        "facts": [{"name": name, "text": text} for name, text in message.facts],
        "language": message.language,
        "repeat": again,
    }
    data |= {"link": message.link} if message.link else {}
    data |= {"members": list(message.members)} if message.members else {}
    return {
        "specversion": "1.0",
        "id": message.alert,
        "source": f"/trilho/models/{quote(message.model)}" if message.model else "/trilho",
        "type": f"dev.trilho.alert.{message.stage}.v1",
        "subject": message.incident,
        **({"time": message.time} if "T" in message.time else {}),
        "datacontenttype": "application/json",
        "data": data,
    }


def sign(body: bytes, name: str, secret: str, at: float | None = None) -> dict[str, str]:
    """Give the headers that prove who sent a body, and when.

    >>> sign(b"{}", "a1", "key", at=0)["webhook-timestamp"]
    '0'
    """
    timestamp = str(int(time.time() if at is None else at))
    signature = base64.b64encode(_digest(body, name, timestamp, secret)).decode()
    return {"webhook-id": name, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}


def verify(
    headers: Mapping[str, str],
    body: bytes,
    secret: str,
    *,
    at: float | None = None,
    tolerance: float = TOLERANCE_SECONDS,
) -> str:
    """Give the id of a message that was signed with a secret, within five minutes of now. Raises DataError."""
    given = {name.lower(): value for name, value in headers.items()}
    name, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit()):
        raise DataError("the message has no webhook-timestamp", hint="the sender signs it: [alerts.NAME] secret")
    age = (time.time() if at is None else at) - int(timestamp)
    if abs(age) > tolerance:
        raise DataError(f"the message was signed {age:.0f} s ago; allowed: {tolerance:.0f}", hint="compare the clocks")
    expected = base64.b64encode(_digest(body, name, timestamp, secret))
    for signature in given.get("webhook-signature", "").split():
        version, _, value = signature.partition(",")
        if version == "v1" and hmac.compare_digest(value.encode(), expected):
            return name
    raise DataError("the message is not signed with this secret", hint="both sides need the same secret")


def _digest(body: bytes, name: str, timestamp: str, secret: str) -> bytes:
    return hmac.new(_key(secret), f"{name}.{timestamp}.".encode() + body, hashlib.sha256).digest()


def _key(secret: str) -> bytes:
    """Give a secret's bytes: after "whsec_" in base64, as the specification has it, else as they are."""
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ConfigError(
            'the webhook\'s secret begins with "whsec_" and is not base64 after that', hint="copy it whole"
        ) from None
