"""One project's three loops: serve, watch, retrain. Each is a pass that can be called again, after any crash.

What a loop decides it appends to the journal; what it needs to know it reads there. So any of them may be killed
between two lines and the next pass, in whatever process, goes on from the records.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from trilho.core import records as r
from trilho.core.files import write_whole
from trilho.core.lease import Lease
from trilho.core.ports import Conflict
from trilho.core.projection import ModelState
from trilho.data.labels import source_files
from trilho.errors import TrilhoError
from trilho.pipeline.execution.execute import Stopped
from trilho.project import OnTask, Project, TrainOutcome
from trilho.release import rollout
from trilho.retrain import loop, trigger
from trilho.serve.supervise import Supervisor
from trilho.watch import incident
from trilho.watch.alert import Outbox
from trilho.watch.monitor import Monitor

log = logging.getLogger("trilho")


class ServeLoop:
    """Keeps the endpoint as the journal wants it, and takes a rollout step by step to full traffic."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.supervisor = Supervisor(
            project.name,
            project.settings.serve,
            project.home,
            journal=project.journal,
            state=project.state,
            package_path=project.package,
            python=project.python,
        )

    def once(self) -> None:
        """Start, stop and route what the journal asks for; take the rollout under way one step, if it is due."""
        self.supervisor.tick()
        self._advance()

    def _advance(self) -> None:
        head = self.project.journal.head().seq
        under_way = self.project.state().rollout
        if under_way is None:
            return
        stats = self.supervisor.stats_since_share()
        failed = self.supervisor.failed_starts(under_way.version)
        payload = rollout.advance(under_way, stats, self.project.settings.serve, datetime.now(UTC), *failed)
        if payload is not None:
            try:
                self.project.journal.append(payload, actor="trilho", expect=head)
            except Conflict:
                return  # somebody else decided; the next pass sees what

    def stop(self) -> None:
        """End the endpoint and all that it started."""
        self.supervisor.stop()


class WatchLoop:
    """Reads what was served, measures it, and turns what the detectors say into incidents, alerts and triggers."""

    def __init__(self, project: Project, console: str = "") -> None:
        self.project = project
        self.outbox = Outbox(project.home / "watch.sqlite", project.settings.watch.alerts, console)
        self._monitor: Monitor | None = None
        self._label_files: dict[str, int] = {}
        self._calm_at = -1  # the mark of the readings in which open incidents were last looked for calm
        self._lease = Lease(project.home / "watch" / f"{project.name}.lease", f"{project.name} is being watched")

    def once(self) -> list[r.AlarmRaised]:
        """Make one pass; give the alarms that it raised. Raises Unreachable while another process watches."""
        self._lease.take()
        try:
            return self._pass()
        except BaseException:
            self._monitor = None  # what it learnt in a pass that was cut short is not kept: it will be read again
            raise

    def stop(self) -> None:
        """Let another process watch."""
        self._lease.release()
        self._monitor = None

    def _pass(self) -> list[r.AlarmRaised]:
        project = self.project
        self._load_labels()
        project.log.seal()
        labels = project.log.labels()
        state = project.state()
        if state.champion is None:
            return []
        monitor = self._monitor_of(state)
        seen = monitor.observe(project.log)
        alarms = [x for x in seen.payloads if isinstance(x, r.AlarmRaised) and x.alarm not in state.alarms]
        self._respond(state, alarms)
        monitor.commit()
        self._tell_progress(labels.served, labels.labelled)
        return alarms

    def _load_labels(self) -> None:
        """Load the label table of `[labels] source`, when one of its files has changed."""
        files = source_files(self.project.settings, self.project.folder)
        stamps = {str(path): path.stat().st_mtime_ns for path in files}
        if stamps == self._label_files:
            return
        self._label_files = stamps
        try:
            self.project.load_labels()
        except TrilhoError as error:  # a bad label table must not end the watch; it is read again when it changes
            log.error("labels of %s: %s", self.project.name, error)

    def _monitor_of(self, state: ModelState) -> Monitor:
        assert state.champion is not None
        if self._monitor is None or self._monitor.version != state.champion:
            self._monitor = Monitor(
                self.project.name,
                state.champion,
                self.project.package(state.champion),
                self.project.settings,
                self.project.watch_store,
            )
        return self._monitor

    def _respond(self, state: ModelState, alarms: list[r.AlarmRaised]) -> None:
        """Append alarms and what they mean for incidents, then a trigger; then queue the alerts.

        The ids are made from the alarms', so a repeat after a crash in between is recognised.
        """
        project = self.project
        payloads: list[r.Payload] = [*alarms, *incident.respond(state, alarms), *incident.close_outlived(state)]
        store, mark = project.watch_store, project.watch_store.mark(project.name)
        settled = not alarms and state.retraining is None and state.rollout is None
        if state.open_incidents and settled and mark != self._calm_at:
            payloads += incident.close_calm(state, store.readings(project.name, last=incident.LOOK_BACK))
            self._calm_at = mark
        if payloads:
            project.journal.append(*payloads, actor="trilho")
        head = project.journal.head().seq
        state = project.state()
        fired = trigger.decide(state, project.settings, alarms, project.data_time())
        if fired is not None:
            with suppress(Conflict):  # somebody else decided; the next pass asks again
                project.journal.append(fired, actor="trilho", expect=head)
        self.outbox.queue(project.state())

    def deliver(self) -> None:
        """Send the alerts that are due; those that fail are tried again later."""
        sent = self.outbox.deliver(self.project.name, datetime.now(UTC))
        recorded = {alert.alert for _, alert in self.project.state().alerts}  # by a process that was killed just then
        new = [alert for alert in sent if alert.alert not in recorded]
        if new:
            self.project.journal.append(*new, actor="trilho")

    def _tell_progress(self, served: int, labelled: int) -> None:
        path = self.project.home / "watch" / f"{self.project.name}.json"
        text = json.dumps({"schema": 1, "served": served, "labelled": labelled, "time": datetime.now(UTC).isoformat()})
        write_whole(path, text)


class RetrainLoop:
    """Carries out the retraining that a trigger asked for: train, judge, and release on `pass`."""

    def __init__(self, project: Project, on_task: OnTask | None = None, stop: threading.Event | None = None) -> None:
        self.project = project
        self.on_task = on_task
        self._stop = stop
        self._actor: str | None = None
        name = project.name
        self._lease = Lease(project.home / "watch" / f"{name}.retrain.lease", f"{name} is being retrained")

    def once(self) -> r.RetrainingEnded | None:
        """Carry out the retraining under way, if there is one, to its end.

        One that is told to stop stays open, and the next process carries it on. Raises Unreachable while another
        process carries it out.
        """
        if self.project.state().retraining is None:
            return None
        self._lease.take()
        try:
            return self._carry_out()
        except Stopped:
            return None
        finally:
            self._lease.release()

    def _carry_out(self) -> r.RetrainingEnded | None:
        state = self.project.state()
        if state.retraining is None:
            return None
        by_hand = state.retraining.cause == trigger.PERSON
        self._actor = None if by_hand else "trilho"
        ended = loop.carry_out(state.retraining, self.project.name, self._train, self._release, state)
        said = ended.note.partition("\n")[0]  # a step's traceback is in its run's log
        self.project.journal.append(replace(ended, note=said), actor="trilho")
        return ended

    def _train(self, cause: str) -> TrainOutcome:
        return self.project.train(trigger=cause, on_task=self.on_task, actor=self._actor, stop=self._stop)

    def _release(self, version: int, why: str) -> None:
        self.project.release(version, why=why, actor=self._actor)


def activity(folder: Path) -> tuple[int, int]:
    """Give the number and size of a log's open files: a cheap sign that something was served or labelled."""
    count = size = 0
    for part in ("predictions", "labels"):
        try:
            with os.scandir(folder / part) as entries:
                for entry in entries:
                    count += 1
                    size += entry.stat().st_size
        except OSError:
            continue
    return count, size
