"""`trilho alerts`: what was sent, waits or was given up, tried again, and tested channel by channel."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trilho.config import load_settings
from trilho.core import records as r
from trilho.errors import ConfigError
from trilho.project import Project
from trilho.testing.receiver import Receiver
from trilho.watch.alerts.outbox import Outbox

if TYPE_CHECKING:
    from tests.cli.conftest import Made, Verb

HOOK = '\n[alerts.hook]\nkind = "webhook"\naddress = "secret://hook"\n'


def given_up(made: Made) -> None:
    """Let an incident open, and its alert fail for two days, since nothing is wired."""
    made.journal.append(
        r.IncidentOpened(
            model="bikes", incident="drift-a1", kind="drift", alarm="a1", version=1, severity="low", title="Drift"
        )
    )
    project = Project(made.folder, load_settings(made.folder))
    box = Outbox.of(project.settings, project.home)
    assert box.queue(project.state()) == 1
    for days in (0, 2):
        box.deliver("bikes", datetime.now(UTC) + timedelta(days=days))


def settings_of(folder: Path, alerts: str, more: str = "") -> Path:
    """Write other channels into a project's settings."""
    path = folder / "trilho.toml"
    path.write_text(path.read_text().replace('alerts = ["slack"]', f"alerts = {alerts}") + more)
    return path


def test_what_was_given_up_is_listed_and_tried_again(trilho: Verb, made: Made) -> None:
    assert trilho("alerts", "--dead").out.splitlines()[0] == "No alert was given up."
    given_up(made)
    line = "given up: drift-a1:opened:slack, 2 attempts: TRILHO_SLACK_WEBHOOK is not set"
    assert trilho("alerts", "--dead").out.splitlines()[0] == line
    found = trilho("alerts", "--json").json
    assert found["dead"] == [
        {"alert": "drift-a1:opened:slack", "attempts": 2, "problem": "TRILHO_SLACK_WEBHOOK is not set"}
    ]
    assert found["next"] == "trilho alerts resend"
    assert trilho("alerts", "resend", "nothing").code == 2
    assert trilho("alerts", "resend", "drift-a1:opened:slack").out.splitlines()[0] == "1 alert is tried again."
    after = trilho("alerts", "--json").json
    assert after["dead"] == []
    assert [x["alert"] for x in after["waiting"]] == ["drift-a1:opened:slack"]
    assert trilho("alerts", "resend", "--json").json["resent"] == 0


def test_each_channel_is_tested_by_its_name(
    trilho: Verb, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_of(made.folder, '["teams", "hook"]', HOOK)
    monkeypatch.setenv("TRILHO_SECRETS", str(tmp_path))
    with Receiver(tmp_path / "received") as receiver:
        (tmp_path / "hook").write_text(receiver.address("hook"))
        assert trilho("alerts", "test", "hook", "--json").json["channels"] == {"hook": None}
        failed = trilho("alerts", "test")
        assert failed.code == 5
        assert "hook: taken" in failed.out
        assert failed.err.splitlines()[1] == "Hint: set TRILHO_TEAMS_WEBHOOK"
        monkeypatch.setenv("TRILHO_TEAMS_WEBHOOK", receiver.address("teams"))
        assert trilho("alerts", "test", "--json").json["channels"] == {"teams": None, "hook": None}
    (tmp_path / "hook").unlink()
    assert trilho("alerts", "test", "hook").err.splitlines()[1] == "Hint: look at [alerts.hook] in trilho.toml"
    assert len(receiver.messages("hook")) == 3


@pytest.mark.parametrize(
    ("alerts", "more", "fact", "hint"),
    [
        ('["slak"]', "", "watch.alerts names 'slak'; allowed: slack, teams", "did you mean 'slack'?"),
        ('["pager"]', "", "watch.alerts names 'pager'; allowed: slack, teams", "add a table [alerts.pager] to it"),
        ('["hook"]', '[alerts.hook]\nkind = "webhook"\n', "address: kind 'webhook' needs one", "alerts.hook"),
        ("[]", '[alerts.x]\nkind = "slack"\ntoken = "secret://t"\n', "a bot needs the channel's id", "alerts.x"),
        ("[]", '[alerts.x]\nkind = "teams"\nroom = "C1"\n', "kind 'teams' has none", "alerts.x"),
        ("[]", '[alerts.x]\nkind = "email"\naddress = "mailto://x"\n', "alerts.x.address is 'mailto://x'", "change"),
    ],
)
def test_a_channel_that_is_described_wrongly_is_said(made: Made, alerts: str, more: str, fact: str, hint: str) -> None:
    settings_of(made.folder, alerts, "\n" + more)
    with pytest.raises(ConfigError) as caught:
        load_settings(made.folder)
    assert fact in caught.value.fact
    assert hint in str(caught.value)
