"""E-mail and Apprise's other addresses, to receivers that really listen."""

from __future__ import annotations

import email
import email.policy
import socketserver
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from tests.watch.alerts.servers import Faulty
from tests.watch.alerts.world import NOW, model, readings

from trilho.config import Alert
from trilho.watch.alerts.anywhere import Anywhere
from trilho.watch.alerts.letter import Letter, Undelivered
from trilho.watch.alerts.message import Message
from trilho.watch.alerts.outbox import Outbox

pytest.importorskip("apprise")
MESSAGE = Message.test("flights", "", "2026-01-01T00:00:00+00:00")


class Post(socketserver.ThreadingTCPServer):
    """A mail server that keeps what it is given."""

    daemon_threads, allow_reuse_address = True, True

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        super().__init__(("127.0.0.1", 0), _Talk)


class _Talk(socketserver.StreamRequestHandler):
    server: Post

    def handle(self) -> None:
        self._say("220 here")
        while line := self.rfile.readline().strip().upper():
            if line == b"DATA":
                self._say("354 go on")
                text = b"".join(iter(self.rfile.readline, b".\r\n"))
                found = email.message_from_bytes(text, policy=email.policy.default)
                assert isinstance(found, EmailMessage)
                self.server.mails.append(found)
            if line == b"QUIT":
                self._say("221 bye")
                return
            self._say("250 fine")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@pytest.fixture
def post() -> Iterator[Post]:
    with Post() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_mail_holds_the_incident_and_its_chart(tmp_path: Path, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRILHO_SECRETS", str(tmp_path))
    host = f"127.0.0.1:{post.server_address[1]}"
    (tmp_path / "mail").write_text(f"mailto://{host}?from=trilho@example.com&to=team@example.com&mode=insecure")
    table = {"mail": Alert(kind="email", address="secret://mail")}
    box = Outbox(tmp_path / "watch.sqlite", ["mail"], "http://c.example", tables=table, readings=lambda _: readings())
    box.queue(model("drift-a1"))
    sent = box.deliver("flights", NOW)
    assert box.waiting("flights") == []
    assert [x.alert for x in sent] == ["drift-a1:opened:mail"]
    (mail,) = post.mails
    assert mail["Subject"] == "flights version 1: drift"
    parts = {part.get_content_type(): part for part in mail.walk()}
    text = parts["text/plain"].get_content()
    assert "temp: 0.74 from training, 0.07 allowed" in text
    assert "http://c.example/incidents/drift-a1" in text
    assert "drift-a1:opened:mail" in text
    (picture,) = [p for kind, p in parts.items() if kind == "image/png"]
    assert picture.get_filename() == "drift-a1.png"


def test_any_other_service_by_its_address() -> None:
    with Faulty(500) as server:
        channel = Anywhere("any", lambda: server.address.replace("http://", "json://"))
        with pytest.raises(Undelivered) as caught:
            channel.send(Letter(MESSAGE))
        assert caught.value.unsure
        channel.send(Letter(MESSAGE, again=True))
    (got,) = server.taken
    assert got.json["title"] == "flights: test alert"
    assert "may have been sent before" in got.json["message"]


def test_what_goes_wrong_names_no_password() -> None:
    channel = Anywhere("any", lambda: "json://user:geheim-4711@127.0.0.1:1/hidden-path")  # not-a-secret
    with pytest.raises(Undelivered) as caught:
        channel.send(Letter(MESSAGE))
    assert "geheim" not in caught.value.problem
    assert "hidden-path" not in caught.value.problem


def test_an_address_that_apprise_does_not_know() -> None:
    with pytest.raises(Undelivered, match="none that Apprise knows"):
        Anywhere("any", lambda: "nonsense").send(Letter(MESSAGE))


def test_a_plugin_that_raises_is_a_problem_of_its_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    import apprise

    def fail(*_: object, **__: object) -> bool:
        raise RuntimeError("broken plugin")

    monkeypatch.setattr(apprise.Apprise, "notify", fail)
    with pytest.raises(Undelivered, match="any: broken plugin"):
        Anywhere("any", lambda: "json://localhost").send(Letter(MESSAGE))
