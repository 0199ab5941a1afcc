"""One project's three loops: serve, watch, retrain. Each is a pass that can be called again, after any crash.

What a loop decides it appends to the journal; what it needs to know it reads there. So any of them may be killed
between two lines and the next pass, in whatever process, goes on from the records.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trilho.core import records as r
from trilho.core.classes import Classes
from trilho.core.files import write_whole
from trilho.core.lease import Lease
from trilho.core.ports import Conflict
from trilho.core.projection import ModelState, Rollout
from trilho.core.readings import ShadowStats, VersionStats
from trilho.data.labels import source_files
from trilho.errors import TrilhoError
from trilho.pipeline.execution.execute import Stopped
from trilho.project import OnTask, Project, TrainOutcome
from trilho.release import rollout
from trilho.release.quality import Quality
from trilho.retrain import loop, trigger
from trilho.serve.package import is_of_many_classes
from trilho.serve.supervise import Supervisor
from trilho.watch import incidents
from trilho.watch.alerts.outbox import PATIENCE_SECONDS, Outbox
from trilho.watch.monitor import Monitor, Observation

log = logging.getLogger("trilho")
WARM_SECONDS = 3600.0  # that the version which served before stays ready to serve again
LABEL_SECONDS = 2.0
EXPIRE_SECONDS = 3600.0


class ServeLoop:
    """Keeps the endpoint as the journal wants it, and takes a rollout step by step to full traffic."""

    def __init__(self, project: Project, host: str = "127.0.0.1", *, opened: bool = False) -> None:
        self.project = project
        self.supervisor = Supervisor(
            project.name,
            project.settings.serve,
            project.home,
            journal=project.journal,
            state=project.state,
            package_path=project.package,
            python=project.python,
            host=host,
            opened=opened,
            environ=project.settings.telemetry.environment(),
            slices=project.settings.gate.slices,
            warm_seconds=WARM_SECONDS,
            decision_path=project.decision,
            history=project.past_file if project.settings.history.rows else None,
        )
        if project.settings.history.rows:
            with suppress(TrilhoError):  # the servers say what is wrong with it, and answer all the same
                project.past.make()
        classify, memory = project.settings.model.task == "classification", self.supervisor.folder / "quality.json"
        self._quality = Quality(project.log, memory, classify, self._is_measured, self._classes)
        self._labels_due = 0.0
        self._told: dict[str, Any] = {}
        self._looked: Any = None

    def once(self) -> None:
        """Start, stop and route what the journal asks for; take the rollout under way one step, if it is due."""
        self.supervisor.tick()
        self._advance()

    def _advance(self) -> None:
        head = self.project.journal.head().seq
        state = self.project.state()
        under_way = state.rollout
        if under_way is None:
            return
        self._look_for_labels(state)
        stats, shadow = self.evidence(under_way)
        failed = self.supervisor.failed_starts(under_way.version)
        looked = (under_way, stats, shadow, failed)
        if looked == self._looked:
            return  # a decision depends on these alone
        serve, now = self.project.settings.serve, datetime.now(UTC)
        self._tell(rollout.standing(under_way, stats, serve, now, shadow, failed[0]))
        payload = rollout.advance(under_way, stats, serve, now, *failed, shadow=shadow)
        if payload is not None:
            try:
                self.project.journal.append(payload, actor="trilho", expect=head)
            except Conflict:
                return  # somebody else decided; the next pass sees what
        self._looked = looked

    def evidence(self, under_way: Rollout) -> tuple[dict[int, VersionStats], ShadowStats]:
        """Give all that is counted of a rollout's versions since its present part began."""
        shadow = self.supervisor.shadow_since_share(under_way.version)
        stats = self._quality.add_to(self.supervisor.stats_since_share())
        return stats, self._quality.add_to_shadow(shadow)

    def _is_measured(self, version: int) -> bool:
        """Say whether a version can be measured beside the other one: both name classes, or both say one number."""
        rollout = self.project.state().rollout
        others = {version} if rollout is None or rollout.champion is None else {rollout.version, rollout.champion}
        return len({is_of_many_classes(self.project.package(number)) for number in others}) == 1

    def _classes(self, version: int) -> Classes | None:
        return Classes.of(self.project.package(version))

    def _look_for_labels(self, state: ModelState) -> None:
        if time.monotonic() < self._labels_due:
            return
        self._labels_due = time.monotonic() + LABEL_SECONDS
        try:
            self._quality.update(state)
        except TrilhoError as error:  # a rollout without labels is one all the same
            log.error("labels of %s: %s", self.project.name, error)

    def _tell(self, standing: dict[str, Any]) -> None:
        """Write down where the rollout stands, for whoever asks, when that has changed."""
        if standing != self._told:
            self._told = standing
            with suppress(OSError):
                write_whole(self.supervisor.folder / "rollout.json", json.dumps(standing))

    def stop(self) -> None:
        """End the endpoint and all that it started."""
        self.supervisor.stop()


class WatchLoop:
    """Reads what was served, measures it, and turns what the detectors say into incidents, alerts and triggers."""

    def __init__(self, project: Project, console: str = "") -> None:
        self.project = project
        self.outbox = Outbox.of(project.settings, project.home, console, project.watch_store.readings)
        self._monitor: Monitor | None = None
        self._label_files: dict[str, int] = {}
        self._past_files: dict[str, int] = {}
        self._past_problem = ""
        self._expire_due = 0.0
        self._calm_at = -1  # the mark of the readings in which open incidents were last looked for calm
        self._seen_at = -1  # the mark in which they were last looked at at all
        self._lease = Lease(project.home / "watch" / f"{project.name}.lease", f"{project.name} is being watched")
        self._passed = project.home / "watch" / f"{project.name}.passed"  # its time is the last pass's, for /metrics

    def once(self) -> list[r.AlarmRaised]:
        """Make one pass; give the alarms that it raised. Raises Unreachable while another process watches."""
        self._lease.take()
        try:
            alarms = self._pass()
            self._passed.touch()
            return alarms
        except BaseException:
            self._monitor = None  # what it learnt in a pass that was cut short is not kept: it will be read again
            raise

    def stop(self) -> None:
        """Let another process watch; alerts that are on their way go on."""
        self._lease.release()
        self.outbox.close(0)
        self._monitor = None

    def _pass(self) -> list[r.AlarmRaised]:
        project = self.project
        self._load_labels()
        project.log.seal()
        self._keep_past()
        self._expire()
        labels = project.log.labels()
        state = project.state()
        self.outbox.queue(state)  # what a pass that was cut off has appended, before this one appends more
        if state.champion is None:
            return []
        monitor = self._monitor_of(state)
        seen = monitor.observe(project.log)
        alarms = [x for x in seen.payloads if isinstance(x, r.AlarmRaised) and x.alarm not in state.alarms]
        self._respond(state, alarms, monitor, seen)
        monitor.commit()
        self._tell_progress(labels.served, labels.labelled)
        return alarms

    def _expire(self) -> None:
        """Let served rows go that are older than `[serve] retention`, once an hour."""
        kept, now = self.project.settings.serve.retention, time.monotonic()
        if kept is None or now < self._expire_due:
            return
        self._expire_due = now + EXPIRE_SECONDS
        gone = self.project.log.expire(datetime.now(UTC) - kept)
        if gone["rows"]:
            log.info("%s: %d served rows were older than %s and are gone", self.project.name, gone["rows"], kept)

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

    def _keep_past(self) -> None:
        """For a model of lags, put what was labelled since, and what `[history] source` has, where servers look."""
        if not self.project.settings.history.rows or not self.project.state().versions:
            return
        stamps = {str(path): path.stat().st_mtime_ns for path in self.project.past_sources()}
        try:
            if stamps and stamps != self._past_files:
                self._past_files = stamps
                self.project.load_past()
            self.project.past.feed(self.project.log)
            if (kept := self.project.settings.serve.retention) is not None:
                self.project.past.expire(datetime.now(UTC) - kept)
            self._past_problem = ""
        except TrilhoError as error:  # the watch goes on; it is tried again in the next pass
            if str(error) != self._past_problem:
                log.error("history of %s: %s", self.project.name, error)
            self._past_problem = str(error)

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

    def _respond(self, state: ModelState, alarms: list[r.AlarmRaised], monitor: Monitor, seen: Observation) -> None:
        """Append alarms and what they mean for incidents, then a trigger; then queue the alerts.

        The ids are made from the alarms', so a repeat after a crash in between is recognised.
        """
        project, terms = self.project, incidents.Terms.of(self.project.settings.watch)
        store, mark = project.watch_store, project.watch_store.mark(project.name)
        newest = [] if not alarms else [*seen.readings, *store.readings(project.name, last=incidents.LOOK_BACK)]
        responses = incidents.respond(state, alarms, terms, newest)
        state = self._record([*alarms, *responses, *incidents.close_outlived(state)], state)
        free = not alarms and state.retraining is None and state.rollout is None
        unseen = mark != self._seen_at or (free and mark != self._calm_at)
        if state.open_incidents and (alarms or seen.findings or unseen):
            self._seen_at = mark
            readings = store.readings(project.name, last=incidents.LOOK_BACK)
            state = self._record(incidents.settle(state, seen.findings), state)
            state = self._record(incidents.foresee(state, readings, terms), state)
            if free:
                state = self._record(incidents.close_calm(state, readings), state)
                self._calm_at = mark
        monitor.trials.keep(state)
        head = project.journal.head().seq
        state = project.state()
        fired = trigger.decide(state, project.settings, alarms, project.data_time())
        if fired is not None:
            with suppress(Conflict):  # somebody else decided; the next pass asks again
                project.journal.append(fired, actor="trilho", expect=head)
        self.outbox.queue(project.state())

    def _record(self, payloads: list[r.Payload], state: ModelState) -> ModelState:
        """Append records, if there are any, and give what they make of the state."""
        if not payloads:
            return state
        self.project.journal.append(*payloads, actor="trilho")
        return self.project.state()

    def deliver(self, patience: float = PATIENCE_SECONDS) -> None:
        """Send the alerts that are due; those that fail are tried again later.

        What a channel takes longer than the patience for goes on meanwhile, and is recorded by a later call.
        """
        sent = self.outbox.deliver(self.project.name, datetime.now(UTC), patience)
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
        if ended.result == "unchanged":
            advice = loop.what_would_change(self.project.settings.data.served, self.project.labels().labelled)
            ended = replace(ended, note=f"{ended.note}; {advice}")
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
