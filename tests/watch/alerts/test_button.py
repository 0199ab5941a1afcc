"""The button of a message in Slack: a request that Slack has signed acknowledges once, and no other does anything."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.console.memory import NOW, MemorySource, settings

from trilho.console.app import create_app
from trilho.core import records as r
from trilho.watch.alerts.interaction import is_signed, read

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"  # not-a-secret: from Slack's own documentation
INCIDENT = "drift-a1"


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> MemorySource:
    monkeypatch.setenv("TRILHO_SLACK_SIGNING_SECRET", SECRET)
    source = MemorySource(known={"bike": settings("bike", "regression")})
    opened = r.IncidentOpened(
        model="bike", incident=INCIDENT, kind="drift", alarm="a1", version=1, severity="low", title="Drift"
    )
    source.write(NOW, opened)
    return source


def pressed(incident: str = INCIDENT, action: str = "trilho_acknowledge", **more: Any) -> bytes:
    """Give the body of a press."""
    actions = [{"type": "button", "action_id": action, "value": incident}]
    payload = {"type": "block_actions", "user": {"id": "U2CERLKJA", "username": "ana.souza"}, "actions": actions}
    return urlencode({"payload": json.dumps({**payload, **more})}).encode()


def signed(body: bytes, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """Give the headers that Slack would send."""
    stamp = str(int(time.time() if at is None else at))
    digest = hmac.new(secret.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    return {"x-slack-request-timestamp": stamp, "x-slack-signature": f"v0={digest}"}


def call(source: MemorySource, body: bytes, headers: dict[str, str], host: str = "hooks.example") -> int:
    """Post to the console; give the status."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http", "method": "POST", "path": "/slack/actions", "raw_path": b"/slack/actions", "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in {"host": host, **headers}.items()], "scheme": "http",
        "http_version": "1.1", "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(create_app(source, clock=NOW.isoformat)(scope, receive, send))
    return int(sent[0]["status"])


def test_a_press_acknowledges_with_the_name_of_who_pressed(source: MemorySource) -> None:
    body = pressed()
    assert call(source, body, signed(body)) == 200
    assert source.acknowledged == [("bike", INCIDENT, "ana.souza (U2CERLKJA, Slack)", "in Slack")]
    assert source.state().models["bike"].incidents[INCIDENT].acknowledged_by == "ana.souza (U2CERLKJA, Slack)"


def test_a_press_that_comes_again_changes_nothing(source: MemorySource) -> None:
    body = pressed()
    headers = signed(body)
    assert [call(source, body, headers), call(source, body, headers)] == [200, 200]
    assert len(source.acknowledged) == 1


def test_what_slack_has_not_signed_now_is_refused(source: MemorySource) -> None:
    body = pressed()
    now = time.time()
    for headers in ({}, signed(body, "other"), signed(body, at=now - 301), signed(body, at=now + 301),
                    signed(pressed("drift-b2")), {**signed(body), "x-slack-signature": "v0=é"}):  # fmt: skip
        assert call(source, body, {k: v.encode().decode("latin-1") for k, v in headers.items()}) == 401
    assert source.acknowledged == []


def test_without_a_signing_secret_every_request_is_refused(
    source: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRILHO_SLACK_SIGNING_SECRET")
    body = pressed()
    assert call(source, body, signed(body, "")) == 401
    assert source.acknowledged == []


def test_other_buttons_and_unknown_incidents_change_nothing(source: MemorySource) -> None:
    for body in (pressed(action="trilho_open"), pressed("drift-zz"), pressed(type="view_submission"), pressed("")):
        assert call(source, body, signed(body)) == 200
    assert source.acknowledged == []


def test_what_is_no_request_of_slack_is_refused(source: MemorySource) -> None:
    for body in (b"payload=%7Bnot", b"nothing", b"\xff\xfe=1"):
        assert call(source, body, signed(body)) == 400
    assert call(source, b"x" * 300_000, signed(b"x" * 300_000)) == 413


def test_the_signature_is_that_of_slacks_documentation() -> None:
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"  # not-a-secret
        b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect"
        b"&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554"  # not-a-secret
        b"%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"  # not-a-secret
    headers = {"X-Slack-Request-Timestamp": "1531420618", "X-Slack-Signature": signature}
    assert is_signed(headers, body, ["other", SECRET], at=1531420628)
    assert not is_signed(headers, body, [SECRET], at=1531420618 + 301)
    assert not is_signed(headers, body + b"0", [SECRET], at=1531420628)
    assert not is_signed(headers, body, [], at=1531420628)


def test_a_name_that_is_no_name_is_cleaned() -> None:
    press = read(pressed(user={"id": "U1\n", "username": "<script>ana"}))
    assert press is not None
    assert press.actor == "scriptana (U1, Slack)"
