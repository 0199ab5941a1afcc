"""The outbox: what is to be told, and the couriers that take it to the channels, each on its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from trilho.config import Alert, Settings
from trilho.core import journal
from trilho.core.projection import ModelState
from trilho.core.readings import Reading
from trilho.core.records import AlertSent
from trilho.errors import TrilhoError
from trilho.watch.alerts.channels import Directory
from trilho.watch.alerts.letter import Channel, Letter, Undelivered
from trilho.watch.alerts.message import Message
from trilho.watch.alerts.table import Claimed, LetterTable
from trilho.watch.alerts.telling import Voice, changes, tell

log = logging.getLogger("trilho")
PATIENCE_SECONDS = 20.0
Readings = Callable[[str], Sequence[Reading]]
Row = tuple[Message, str, str, str]  # message, channel, route, state


class Outbox:
    """The queue of alerts beside the watcher's store, in a file of its own (outbox.sqlite).

    `tables` are the [alerts] tables; `readings` gives a model's readings, of which charts are drawn. Several processes
    may use one file: each message is claimed by one of them before it is sent.
    """

    def __init__(
        self,
        path: Path,
        channels: Sequence[str],
        console: str = "",
        *,
        tables: Mapping[str, Alert] | None = None,
        voice: Voice | None = None,
        readings: Readings | None = None,
    ) -> None:
        self.channels = list(channels)
        self.voice = voice or Voice(console=console)
        self._directory = Directory(tuple(channels), tables or {})
        self._table = LetterTable(path.with_name("outbox.sqlite"))
        self._readings = readings
        self._told: set[str] = set()
        self._couriers: dict[str, threading.Thread] = {}
        self._closing = threading.Event()

    @classmethod
    def of(cls, settings: Settings, home: Path, console: str = "", readings: Readings | None = None) -> Outbox:
        """Give the outbox that a project's settings describe."""
        watch = settings.watch
        voice = Voice(watch.language, console, watch.runbook or "")
        path = home / "watch.sqlite"
        return cls(path, watch.alerts, console, tables=settings.alerts, voice=voice, readings=readings)

    def queue(self, state: ModelState) -> int:
        """Queue what incidents' changes of state, and a rollout's hold, have to tell; give how many messages are new.

        Idempotent: what was queued or recorded as sent before stays as it is. A channel hears of the changes since it
        listens, and of an incident that it finds open how it stands.
        """
        if not self.channels:
            return 0
        known, sent = self._table.known(state.name), {alert.alert for _, alert in state.alerts}
        rows = [row for row in self._rows(state, known.keys() | sent) if row[0].alert not in sent]
        recorded = [alert for alert, stage in known.items() if stage == "sent" and alert in sent]
        if rows or recorded:
            self._table.add(rows, recorded)
        return sum(row[3] == "waiting" for row in rows)

    def _rows(self, state: ModelState, known: set[str]) -> Iterator[Row]:
        moment = journal.now()
        since = self._table.listening(state.name, self.channels, moment)
        for name in self.channels:
            route = self._directory.route(name)
            self._table.reroute(state.name, name, route)
            for incident in state.incidents.values():
                heard = f"{incident.id}:opened:{name}" in known or incident.opened >= since[name]
                if not heard and incident.closed is not None:
                    continue  # what ended before anybody listened is not news
                if incident.closed is not None and f"{incident.id}:closed:{name}" in known:
                    continue  # its end was told, maybe by a trilho that told less in between
                muted = incident.is_muted(moment)
                for change in changes(incident):
                    alert = f"{incident.id}:{change.name}:{name}"
                    if alert not in known:
                        covered = not heard and change.name != "opened" and change.time < since[name]
                        where = name, route, "covered" if covered or muted else "waiting"
                        yield tell(state, incident, change, alert, self.voice), *where
            yield from self._held(state, name, route, known)

    def _held(self, state: ModelState, name: str, route: str, known: set[str]) -> Iterator[Row]:
        """Tell a rollout that waits for a person, though nobody paused it: once at each share."""
        rollout = state.rollout
        if rollout is None or rollout.held_by != "shift":
            return
        alert = f"{rollout.id}:held-at-{rollout.share}:{name}"
        if alert not in known:
            yield Message.held(rollout, alert, self.voice.console, self.voice.language), name, route, "waiting"

    def deliver(self, model: str, now: datetime, patience: float = PATIENCE_SECONDS) -> list[AlertSent]:
        """Let each channel's courier take what is due; give what has arrived and is not in the journal yet.

        A courier that takes longer than the patience goes on by itself, and delays none of the others.
        """
        until = time.monotonic() + patience
        started = [self._start(name, now.timestamp()) for name in self.channels]
        for courier in started:
            if courier is not None:
                courier.join(max(until - time.monotonic(), 0.0))
        return self._unrecorded(model)

    def close(self, patience: float = PATIENCE_SECONDS) -> None:
        """Let couriers end what they are at; who is cut off leaves a letter that may be sent again."""
        closing, self._closing = self._closing, threading.Event()
        closing.set()
        until = time.monotonic() + patience
        for courier in list(self._couriers.values()):
            courier.join(max(until - time.monotonic(), 0.0))

    def _start(self, name: str, now: float) -> threading.Thread | None:
        running = self._couriers.get(name)
        if running is not None and running.is_alive():
            return running
        route = self._directory.route(name)
        if not self._table.pending(route, now):
            return None
        began = time.monotonic()
        courier = threading.Thread(
            target=self._carry,
            args=(name, route, lambda: now + time.monotonic() - began, self._closing),
            name=f"alerts to {name}",
            daemon=True,
        )
        self._couriers[name] = courier
        courier.start()
        return courier

    def _carry(self, name: str, route: str, clock: Callable[[], float], closing: threading.Event) -> None:
        """Take a channel's letters to it, one after the other, until there is none for now."""
        try:
            channel = self._directory.channel(name)
            while not closing.is_set():
                claimed = self._table.claim(route, clock())
                if claimed is None:
                    return
                self._take(channel, claimed, clock)
        except TrilhoError as error:  # the disk is full, or the file is held: the next pass tries again
            log.error("alerts to %s: %s", name, " ".join(str(error).splitlines()))

    def _take(self, channel: Channel, claimed: Claimed, clock: Callable[[], float]) -> None:
        message = claimed.message
        letter = Letter(
            message,
            claimed.again,
            claimed.attempts,
            claimed.receipt,
            self._table.opening(claimed.incident, claimed.channel) if message.stage != "opened" else {},
            lambda: self._picture(message),
            lambda receipt: self._table.keep(claimed, receipt),
        )
        try:
            channel.send(letter)
        except Undelivered as error:
            self._failed(claimed, error, clock())
        except Exception as error:  # a fault in one channel's code must not end the others' alerts
            log.exception("alert %s", claimed.alert)
            self._failed(claimed, Undelivered(f"{channel.name}: {type(error).__name__}", unsure=True), clock())
        else:
            self._table.arrived(claimed, letter.receipt, clock())
            for lack in channel.lacks():
                log.warning("alert %s: could not %s", claimed.alert, lack)

    def _failed(self, claimed: Claimed, error: Undelivered, now: float) -> None:
        if self._table.failed(claimed, error, now):
            log.error("alert %s is given up: %s; trilho alerts --dead shows it", claimed.alert, error.problem)

    def _picture(self, message: Message) -> bytes | None:
        if message.chart is None or self._readings is None:
            return None
        from trilho.watch.alerts.picture import draw

        try:
            return draw(self._readings(message.model), message.chart, message.headline, message.language)
        except Exception as error:  # noqa: BLE001  # an alert without its picture is an alert all the same
            log.warning("chart of %s: %s: %s", message.alert, type(error).__name__, error)
            return None

    def _unrecorded(self, model: str) -> list[AlertSent]:
        """Give what was sent, once in a process; a later `queue` sees in the journal that it was recorded."""
        rows = [row for row in self._table.sent(model) if row[0] not in self._told]
        self._told.update(row[0] for row in rows)
        return [AlertSent(model=model, alert=a, incident=i, channel=c, attempts=n) for a, i, c, n in rows]

    def waiting(self, model: str) -> list[tuple[str, int, str]]:
        """Give the messages that have not got through: alert, attempts, the last problem."""
        return self._table.in_state(model, "waiting")

    def dead(self, model: str) -> list[tuple[str, int, str]]:
        """Give the messages that were given up after a day: alert, attempts, the last problem."""
        return self._table.in_state(model, "dead")

    def resend(self, model: str, alerts: Sequence[str] = ()) -> int:
        """Let messages that were given up be tried again, all of them or those named; give how many."""
        return self._table.resend(model, alerts)


def send_test(
    model: str,
    channels: Sequence[str],
    console: str = "",
    *,
    tables: Mapping[str, Alert] | None = None,
    voice: Voice | None = None,
    lacks: dict[str, list[str]] | None = None,
) -> dict[str, str | None]:
    """Send one message to each channel now, to all at once; give for each what went wrong, None when it was taken.

    `lacks` is filled with what a channel took but could not show all of.
    """
    directory, language = Directory(tuple(channels), tables or {}), (voice or Voice()).language
    time_ = datetime.now(UTC).isoformat()
    found: dict[str, str | None] = dict.fromkeys(channels, "no answer in time")

    def send(name: str) -> None:
        try:
            channel = directory.channel(name)
            channel.send(Letter(Message.test(model, console, time_, language), picture=lambda: _sample(language)))
            found[name] = None
            if lacks is not None and channel.lacks():
                lacks[name] = channel.lacks()
        except Undelivered as error:
            found[name] = error.problem
        except TrilhoError as error:
            found[name] = error.fact

    threads = [threading.Thread(target=send, args=(name,), daemon=True) for name in channels]
    for thread in threads:
        thread.start()
    until = time.monotonic() + PATIENCE_SECONDS
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0.0))
    return dict(found)


def _sample(language: str) -> bytes | None:
    """Give a small picture, for the channels that show one."""
    from trilho.watch.alerts.picture import sample

    try:
        return sample(language)
    except TrilhoError:
        return None
