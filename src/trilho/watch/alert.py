"""Alerts: messages about incidents, and about rollouts that wait for a person, delivered at least once.

A message is queued in a table together with its text, and tried until its channel takes it. Exactly once does not
exist between two systems: each message names its incident, so that a repeat after a crash is recognised.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from trilho.core.database import Database
from trilho.core.projection import ModelState
from trilho.core.records import AlertSent
from trilho.core.vault import reveal
from trilho.errors import ConfigError
from trilho.watch.message import CHANNELS, Message

ADDRESS = "TRILHO_{}_WEBHOOK"
TIMEOUT_SECONDS = 5.0
LONGEST_WAIT = 300.0
Row = tuple[str, str, str, str, str]  # of the outbox: alert, model, what it is about, channel, body
SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
  alert TEXT PRIMARY KEY, model TEXT NOT NULL, incident TEXT NOT NULL, channel TEXT NOT NULL, body TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, due TEXT NOT NULL DEFAULT '', problem TEXT NOT NULL DEFAULT '',
  state TEXT NOT NULL DEFAULT 'waiting')
"""


class Outbox:
    """The queue of alerts beside the watcher's store, in a file of its own (outbox.sqlite).

    A channel's address is read from TRILHO_SLACK_WEBHOOK or TRILHO_TEAMS_WEBHOOK when it is used, never stored; it
    may be named there, as secret://NAME.
    """

    def __init__(self, path: Path, channels: Sequence[str], console: str = "") -> None:
        self.channels, self.console = list(channels), console
        self._database = Database(path.with_name("outbox.sqlite"), SCHEMA, what="the outbox of alerts")
        self._told: set[str] = set()

    def queue(self, state: ModelState) -> int:
        """Queue what incidents' openings and ends, and a rollout's hold, have to tell; give how many messages are new.

        Idempotent: what was queued or recorded as sent before stays as it is. An end is told where the opening was.
        """
        if not self.channels:
            return 0
        sent = {alert.alert for _, alert in state.alerts}
        known = dict(self._database.read("SELECT alert, state FROM outbox WHERE model = ?", (state.name,)))
        new = [row for row in self._messages(state, known) if row[0] not in known and row[0] not in sent]
        recorded = [(alert,) for alert, stage in known.items() if stage == "sent" and alert in sent]
        if new or recorded:
            with self._database.write() as connection:
                fields = "(alert, model, incident, channel, body)"
                connection.executemany(f"INSERT OR IGNORE INTO outbox {fields} VALUES (?, ?, ?, ?, ?)", new)  # noqa: S608
                connection.executemany("UPDATE outbox SET state = 'recorded' WHERE alert = ?", recorded)
        return len(new)

    def _messages(self, state: ModelState, known: Mapping[str, str]) -> Iterator[Row]:
        for incident in state.incidents.values():
            for channel in self.channels:
                opening = f"{incident.id}:opened:{channel}"
                if incident.closed is None:
                    yield _row(state, channel, Message.about(state, incident, opening, self.console))
                elif opening in known:
                    alert = f"{incident.id}:closed:{channel}"
                    yield _row(state, channel, Message.about(state, incident, alert, self.console))
        yield from self._held(state)

    def _held(self, state: ModelState) -> Iterator[Row]:
        """Tell a rollout that waits for a person, though nobody paused it: once at each share."""
        rollout = state.rollout
        if rollout is None or rollout.held_by != "shift":
            return
        for channel in self.channels:
            alert = f"{rollout.id}:held-at-{rollout.share}:{channel}"
            yield _row(state, channel, Message.held(rollout, alert, self.console))

    def deliver(self, model: str, now: datetime) -> list[AlertSent]:
        """Try the messages that are due; give those that reached their channel and are not in the journal yet."""
        due = self._database.read(
            "SELECT alert, incident, channel, body, attempts FROM outbox"
            " WHERE model = ? AND state = 'waiting' AND due <= ? ORDER BY rowid",
            (model, now.isoformat()),
        )
        for alert, incident, channel, body, attempts in due:
            problem, wait = post(channel, json.loads(body), {"X-Trilho-Incident": incident, "X-Trilho-Alert": alert})
            self._keep(alert, attempts + 1, problem, now + timedelta(seconds=wait or _backoff(attempts)))
        return self._unrecorded(model)

    def _keep(self, alert: str, attempts: int, problem: str | None, again: datetime) -> None:
        with self._database.write() as connection:
            connection.execute(
                "UPDATE outbox SET state = ?, attempts = ?, problem = ?, due = ? WHERE alert = ?",
                ("waiting" if problem else "sent", attempts, problem or "", again.isoformat(), alert),
            )

    def _unrecorded(self, model: str) -> list[AlertSent]:
        """Give what was sent, once in a process; a later `queue` sees in the journal that it was recorded."""
        query = (
            "SELECT alert, incident, channel, attempts FROM outbox WHERE model = ? AND state = 'sent' ORDER BY rowid"
        )
        rows = [row for row in self._database.read(query, (model,)) if row[0] not in self._told]
        self._told.update(row[0] for row in rows)
        return [AlertSent(model=model, alert=a, incident=i, channel=c, attempts=n) for a, i, c, n in rows]

    def waiting(self, model: str) -> list[tuple[str, int, str]]:
        """Give the messages that have not got through: alert, attempts, the last problem."""
        query = "SELECT alert, attempts, problem FROM outbox WHERE model = ? AND state = 'waiting' ORDER BY rowid"
        return [tuple(row) for row in self._database.read(query, (model,))]


def _row(state: ModelState, channel: str, message: Message) -> Row:
    return message.alert, state.name, message.incident, channel, json.dumps(CHANNELS[channel](message))


def send_test(model: str, channels: Sequence[str], console: str = "") -> dict[str, str | None]:
    """Send one message to each channel now; give for each what went wrong, None when it was taken."""
    message = Message.test(model, console)
    return {channel: post(channel, CHANNELS[channel](message), {"X-Trilho-Alert": "test"})[0] for channel in channels}


def post(channel: str, body: Any, headers: Mapping[str, str]) -> tuple[str | None, float | None]:
    """Post a message; give what went wrong, if anything, and how long the channel asks to wait."""
    name = ADDRESS.format(channel.upper())
    try:
        address = reveal(os.environ.get(name, ""))
    except ConfigError as error:
        return f"{name}: {error.fact}", None
    if not address.startswith(("http://", "https://")):
        return f"{name} is {'not an http address' if address else 'not set'}", None
    request = urllib.request.Request(  # noqa: S310
        address, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):  # noqa: S310
            return None, None
    except urllib.error.HTTPError as error:
        with error:
            asked = error.headers.get("Retry-After", "")
            return f"{channel} answered {error.code}", float(asked) if asked.isdigit() else None
    except (OSError, ValueError) as error:
        return f"{channel}: {error}", None


def _backoff(attempts: int) -> float:
    return float(min(2.0 ** min(attempts, 16), LONGEST_WAIT))
