"""The signature of a generic webhook: what the Standard Webhooks specification says, and what it must refuse."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest
from tests.watch.alerts.servers import Faulty
from tests.watch.alerts.world import NOW, model

from trilho.config import Alert
from trilho.errors import DataError, TrilhoError
from trilho.watch.alerts.outbox import Outbox
from trilho.watch.alerts.webhook import sign, verify

BODY, AT = b'{"id": "a1"}', 1_700_000_000.0


def test_a_receiver_can_prove_who_sent_an_alert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRILHO_SECRETS", str(tmp_path))
    (tmp_path / "key").write_text("not very secret\n")
    with Faulty() as server:
        (tmp_path / "hook").write_text(server.address)
        table = Alert(kind="webhook", address="secret://hook", secret="secret://key")
        box = Outbox(tmp_path / "watch.sqlite", ["hook"], tables={"hook": table})
        box.queue(model("drift-a1"))
        assert len(box.deliver("flights", NOW)) == 1
    (got,) = server.taken
    assert got.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert verify(got.headers, got.body, "not very secret") == got.json["id"] == "drift-a1:opened:hook"


def test_the_signature_is_that_of_the_specification() -> None:
    key = b"0123456789abcdef01234567"
    headers = sign(BODY, "msg_1", "whsec_" + base64.b64encode(key).decode(), AT)
    expected = hmac.new(key, b"msg_1.1700000000." + BODY, hashlib.sha256).digest()
    assert headers == {
        "webhook-id": "msg_1",
        "webhook-timestamp": "1700000000",
        "webhook-signature": f"v1,{base64.b64encode(expected).decode()}",
    }


def test_one_of_several_signatures_is_enough() -> None:
    headers = sign(BODY, "a1", "new", AT)
    headers["webhook-signature"] = "v1,bm90aGluZw== " + headers["webhook-signature"] + " v2,abc"
    assert verify(headers, BODY, "new", at=AT) == "a1"


@pytest.mark.parametrize(
    ("change", "body", "secret", "at"),
    [
        ({}, b'{"id": "a2"}', "key", AT),
        ({}, BODY, "other", AT),
        ({}, BODY, "key", AT + 301),
        ({}, BODY, "key", AT - 301),
        ({"webhook-timestamp": "1700000001"}, BODY, "key", AT),
        ({"webhook-timestamp": "soon"}, BODY, "key", AT),
        ({"webhook-id": "a2"}, BODY, "key", AT),
        ({"webhook-signature": ""}, BODY, "key", AT),
        ({"webhook-signature": "v1,é"}, BODY, "key", AT),
    ],
)
def test_what_is_changed_or_old_is_refused(change: dict[str, str], body: bytes, secret: str, at: float) -> None:
    headers = {**sign(BODY, "a1", "key", AT), **change}
    with pytest.raises(DataError):
        verify(headers, body, secret, at=at)


def test_within_five_minutes_the_clocks_may_differ() -> None:
    assert verify(sign(BODY, "a1", "key", AT), BODY, "key", at=AT + 299) == "a1"


def test_a_broken_secret_says_so() -> None:
    with pytest.raises(TrilhoError, match="not base64"):
        sign(BODY, "a1", "whsec_***")
