"""The table of alerts that wait, fly, have arrived, or were given up: outbox.sqlite beside the watcher's store.

A letter is claimed before it is sent, by a process that is named in the claim: another one takes it over when that
process is gone, and then the letter says that it may have arrived before.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
import sqlite3
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trilho.core.database import Database
from trilho.core.processes import alive
from trilho.watch.alerts.digest import digest
from trilho.watch.alerts.letter import Receipt, Undelivered
from trilho.watch.alerts.message import Message

LEASE_SECONDS = 180.0  # more than the longest try takes
GIVE_UP_SECONDS = 24 * 3600.0
LONGEST_WAIT = 3600.0
BURST, BURST_SECONDS = 10, 60.0  # messages of a channel; more at once become a digest
SCHEMA = """
DROP TABLE IF EXISTS outbox;
CREATE TABLE IF NOT EXISTS letters (
  number INTEGER PRIMARY KEY, alert TEXT UNIQUE NOT NULL, model TEXT NOT NULL, incident TEXT NOT NULL,
  channel TEXT NOT NULL, route TEXT NOT NULL, message TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'waiting',
  attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0, first REAL, problem TEXT NOT NULL DEFAULT '',
  again INTEGER NOT NULL DEFAULT 0, claim TEXT NOT NULL DEFAULT '', until REAL NOT NULL DEFAULT 0,
  receipt TEXT NOT NULL DEFAULT '{}', arrived REAL, digest TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS letters_by_state ON letters (state, route);
CREATE INDEX IF NOT EXISTS letters_by_incident ON letters (incident, channel);
CREATE TABLE IF NOT EXISTS listeners (
  model TEXT NOT NULL, channel TEXT NOT NULL, since TEXT NOT NULL, PRIMARY KEY (model, channel)
);
CREATE TABLE IF NOT EXISTS routes (route TEXT PRIMARY KEY, until REAL NOT NULL, failures INTEGER NOT NULL)
"""
LETTER = "number, alert, incident, channel, message, attempts, again, receipt, claim"
HEADS = """
SELECT number, attempts, again, receipt, digest FROM letters AS l WHERE route = ? AND state = 'waiting' AND due <= ?
 AND NOT EXISTS (SELECT 1 FROM letters AS e WHERE e.incident = l.incident AND e.channel = l.channel
  AND e.number < l.number AND e.state IN ('waiting', 'flying', 'merged')) ORDER BY number LIMIT ?
"""
AGAIN = "UPDATE letters SET state = 'waiting', attempts = 0, due = 0, first = NULL WHERE state = 'dead' AND digest = ''"
ALONE_AGAIN = f"{AGAIN} AND alert = ?"
WHOLE_AGAIN = f"{AGAIN} AND alert = (SELECT digest FROM letters WHERE alert = ?)"  # noqa: S608
MERGED_AGAIN = """
UPDATE letters SET state = 'merged' WHERE state = 'dead' AND digest != ''
 AND digest = (SELECT digest FROM letters WHERE alert = ?)
"""
_me = (0, "")


@dataclass(frozen=True)
class Claimed:
    """A letter that this process may send."""

    number: int
    alert: str
    incident: str
    channel: str
    message: Message
    attempts: int
    again: bool
    receipt: Receipt
    claim: str


class LetterTable:
    """The outbox's file. Times are seconds since 1970."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA, what="the outbox of alerts", version=2)

    def known(self, model: str) -> dict[str, str]:
        """Give the alerts of a model that were ever queued, with their states."""
        return dict(self._read("SELECT alert, state FROM letters WHERE model = ?", (model,)))

    def listening(self, model: str, channels: Collection[str], now: str) -> dict[str, str]:
        """Give since when each channel has listened to a model; one that is new does from now on."""
        query, values = "SELECT channel, since FROM listeners WHERE model = ?", (model,)
        since = dict(self._read(query, values))
        if not set(channels) <= since.keys():
            with self._database.write() as connection:
                new = [(model, channel, now) for channel in channels]
                connection.executemany("INSERT OR IGNORE INTO listeners VALUES (?, ?, ?)", new)
            since = dict(self._read(query, values))
        return since

    def reroute(self, model: str, channel: str, route: str) -> None:
        """Let what waits for a channel go where the channel leads now."""
        away = "model = ? AND channel = ? AND route != ? AND (state IN ('waiting', 'merged', 'dead')"
        away += " OR (state = 'flying' AND until < ?))"
        values = model, channel, route, time.time()
        if self._read(f"SELECT 1 FROM letters WHERE {away} LIMIT 1", values):  # noqa: S608
            with self._database.write() as connection:
                connection.execute(f"UPDATE letters SET route = ? WHERE {away}", (route, *values))  # noqa: S608

    def add(self, rows: Iterable[tuple[Message, str, str, str]], recorded: Iterable[str]) -> None:
        """Queue messages (with channel, route, state), and mark those that the journal has."""
        fields = "(alert, model, incident, message, channel, route, state)"
        values = [(m.alert, m.model, m.incident, m.encode(), *where) for m, *where in rows]
        with self._database.write() as connection:
            connection.executemany(f"INSERT OR IGNORE INTO letters {fields} VALUES (?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608
            mark = "UPDATE letters SET state = 'recorded' WHERE alert = ? AND state = 'sent'"
            connection.executemany(mark, [(alert,) for alert in recorded])

    def pending(self, route: str, now: float) -> bool:
        """Say whether a route has something to do now."""
        query = (
            "SELECT 1 FROM letters WHERE route = ? AND ((state = 'waiting' AND due <= ?) OR state = 'flying')"
            " AND NOT EXISTS (SELECT 1 FROM routes AS r WHERE r.route = letters.route AND r.until > ?) LIMIT 1"
        )
        return bool(self._read(query, (route, now, now)))

    def claim(self, route: str, now: float) -> Claimed | None:
        """Take the next letter of a route, or a digest of many; none while there is nothing, or the channel rests."""
        with self._database.write() as connection:
            _recover(connection, route)
            held = connection.execute("SELECT until FROM routes WHERE route = ?", (route,)).fetchone()
            if held is not None and held[0] > now:
                return None
            number = _next(connection, route, now)
            if number is None:
                return None
            connection.execute(
                "UPDATE letters SET state = 'flying', claim = ?, until = ?, attempts = attempts + 1,"
                " first = coalesce(first, ?) WHERE number = ?",
                (_claim(), time.time() + LEASE_SECONDS, now, number),
            )
            row = connection.execute(f"SELECT {LETTER} FROM letters WHERE number = ?", (number,)).fetchone()  # noqa: S608
        number, alert, incident, channel, message, attempts, again, receipt, claim = row
        return Claimed(
            number, alert, incident, channel, Message.decode(message), attempts, bool(again), json.loads(receipt), claim
        )

    def opening(self, incident: str, channel: str) -> Receipt:
        """Give the receipt of the message that opened an incident on a channel, empty where there is none."""
        alert = f"{incident}:opened:{channel}"
        rows = self._read("SELECT receipt, digest FROM letters WHERE alert = ? AND state != 'flying'", (alert,))
        if not rows:
            return {}
        return {**json.loads(rows[0][0]), "alert": alert, **({"digest": True} if rows[0][1] else {})}

    def keep(self, letter: Claimed, receipt: Receipt) -> None:
        """Keep what a channel has given for a letter so far."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE letters SET receipt = ? WHERE number = ?", (json.dumps(receipt), letter.number)
            )  # whoever holds it now: it has arrived

    def arrived(self, letter: Claimed, receipt: Receipt, now: float) -> None:
        """Mark a letter, and what it stands for, as sent."""
        text = json.dumps(receipt)
        with self._database.write() as connection:
            connection.execute(
                "UPDATE letters SET state = 'sent', problem = '', receipt = ?, arrived = ? WHERE number = ?"
                " AND state NOT IN ('sent', 'recorded')",
                (text, now, letter.number),
            )
            connection.execute(
                "UPDATE letters SET state = 'sent', problem = '', receipt = ?, attempts = ?"
                " WHERE digest = ? AND state IN ('merged', 'dead')",
                (text, letter.attempts, letter.alert),
            )
            connection.execute("DELETE FROM routes WHERE route = (SELECT route FROM letters WHERE number = ?)",
                               (letter.number,))  # fmt: skip

    def failed(self, letter: Claimed, error: Undelivered, now: float) -> bool:
        """Put a letter back for later, or give it up after a day; say whether it was given up."""
        wait = max(error.wait or 0.0, backoff(letter.attempts))
        with self._database.write() as connection:
            first, route = connection.execute(
                "SELECT first, route FROM letters WHERE number = ?", (letter.number,)
            ).fetchone()
            dead = now - first >= GIVE_UP_SECONDS
            connection.execute(
                "UPDATE letters SET state = ?, problem = ?, due = ?, again = max(again, ?), claim = ''"
                " WHERE number = ? AND claim = ? AND state = 'flying'",
                ("dead" if dead else "waiting", error.problem, now + wait, int(error.unsure), letter.number,
                 letter.claim),
            )  # fmt: skip
            if dead:
                connection.execute("UPDATE letters SET state = 'dead' WHERE digest = ?", (letter.alert,))
            if error.everyone:
                _rest(connection, route, now, error.wait)
        return bool(dead)

    def sent(self, model: str) -> list[tuple[str, str, str, int]]:
        """Give what has arrived and the journal may not have: alert, incident, channel, attempts."""
        return self._read(
            "SELECT alert, incident, channel, attempts FROM letters WHERE model = ? AND state = 'sent'"
            " AND alert NOT LIKE 'digest-%' ORDER BY number",
            (model,),
        )

    def in_state(self, model: str, state: str) -> list[tuple[str, int, str]]:
        """Give a model's letters in a state, for a digest those in it: alert, attempts, the last problem."""
        found = self._read(
            "SELECT l.alert, coalesce(d.attempts, l.attempts), coalesce(d.problem, l.problem) FROM letters AS l"
            " LEFT JOIN letters AS d ON d.alert = l.digest WHERE l.model = ? AND l.alert NOT LIKE 'digest-%'"
            " AND CASE WHEN l.state = 'merged' THEN d.state ELSE l.state END IN (?, ?) ORDER BY l.number",
            (model, state, "flying" if state == "waiting" else state),
        )
        return [(alert, attempts, problem) for alert, attempts, problem in found]

    def resend(self, model: str, alerts: Collection[str] = ()) -> int:
        """Let letters that were given up be tried again, all of a model or those named; give how many."""
        dead = [row[0] for row in self.in_state(model, "dead")]
        picked = [(alert,) for alert in dead if not alerts or alert in alerts]
        with self._database.write() as connection:
            for query in (WHOLE_AGAIN, ALONE_AGAIN, MERGED_AGAIN):
                connection.executemany(query, picked)
            if picked:
                query = "DELETE FROM routes WHERE route IN (SELECT route FROM letters WHERE model = ?)"
                connection.execute(query, (model,))
        return len(picked)

    def _read(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        return self._database.read(query, values)


def backoff(attempts: int) -> float:
    """Give the seconds until a further try: twice as long each time, up to an hour, less up to a quarter by chance.

    >>> 1.5 <= backoff(1) <= 2, 2700 <= backoff(40) <= 3600
    (True, True)
    """
    return float(min(2.0 ** min(attempts, 16), LONGEST_WAIT)) * random.uniform(0.75, 1.0)


def _claim() -> str:
    """Name this process for the claims: its host, its number, and a word that a later process will not have."""
    global _me  # made anew after a fork
    if _me[0] != os.getpid():
        _me = (os.getpid(), secrets.token_hex(8))
    return f"{socket.gethostname()} {_me[0]} {_me[1]}"


def _abandoned(claim: str, until: float) -> bool:
    host, pid, word = claim.split()
    if until < time.time():
        return True
    if host != socket.gethostname():
        return False
    if int(pid) == os.getpid():
        return claim != _claim()  # a process before this one, whose number this one has
    return not alive(int(pid)) if word else True


def _recover(connection: sqlite3.Connection, route: str) -> None:
    """Put back what a process that is gone had claimed: it may have arrived."""
    rows = connection.execute(
        "SELECT number, claim, until FROM letters WHERE route = ? AND state = 'flying'", (route,)
    ).fetchall()
    for number, claim, until in rows:
        if _abandoned(claim, until):
            connection.execute(
                "UPDATE letters SET state = 'waiting', again = 1, due = 0, claim = '' WHERE number = ?", (number,)
            )


def _next(connection: sqlite3.Connection, route: str, now: float) -> int | None:
    """Choose the oldest letter whose predecessors of the same incident are through; in a storm make a digest."""
    heads = connection.execute(HEADS, (route, now, BURST + 1)).fetchall()
    if not heads:
        return None
    cut_off = [head[0] for head in heads if head[2] or head[3] != "{}"]
    if cut_off:  # it may be there already, alone: it goes alone
        return int(cut_off[0])
    lately = connection.execute(
        "SELECT count(*) FROM letters WHERE route = ? AND arrived > ? AND arrived <= ?",
        (route, now - BURST_SECONDS, now),
    ).fetchone()[0]
    if len(heads) <= BURST - lately:
        return int(heads[0][0])
    if lately >= BURST:
        return None
    return _merge(connection, route, now)


def _merge(connection: sqlite3.Connection, route: str, now: float) -> int:
    rows = connection.execute(
        "SELECT number, channel, message, model FROM letters WHERE route = ? AND state = 'waiting' AND again = 0"
        " AND receipt = '{}' AND due <= ? AND alert NOT LIKE 'digest-%' ORDER BY number",
        (route, now),
    ).fetchall()
    messages = [Message.decode(row[2]) for row in rows]
    if len(rows) < 2:
        return int(connection.execute(HEADS, (route, now, 1)).fetchone()[0])
    made = digest(messages, rows[0][1])
    inserted = connection.execute(
        "INSERT INTO letters (alert, model, incident, message, channel, route) VALUES (?, ?, ?, ?, ?, ?)",
        (made.alert, made.model or rows[0][3], made.incident, made.encode(), rows[0][1], route),
    ).lastrowid
    _mark_merged(connection, made.alert, [row[0] for row in rows])
    assert inserted is not None
    return inserted


def _mark_merged(connection: sqlite3.Connection, alert: str, numbers: Sequence[int]) -> None:
    connection.executemany(
        "UPDATE letters SET state = 'merged', digest = ? WHERE number = ?", [(alert, number) for number in numbers]
    )


def _rest(connection: sqlite3.Connection, route: str, now: float, asked: float | None) -> None:
    """Let a channel that takes nothing rest, for all of its letters: longer each time."""
    found = connection.execute("SELECT failures FROM routes WHERE route = ?", (route,)).fetchone()
    failures = (found[0] if found else 0) + 1
    until = now + max(asked or 0.0, backoff(failures))
    connection.execute("INSERT OR REPLACE INTO routes VALUES (?, ?, ?)", (route, until, failures))
