"""A project opened on this machine: what can be done with it. Only here are settings, backend and stages wired."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trilho.core import records as r
from trilho.core.projection import Version
from trilho.core.readings import LabelStatus, Reading
from trilho.errors import DataError, UsageError
from trilho.pipeline.keeping.runs import new_run_id
from trilho.project.outcome import OnTask, Plan, Say, TrainOutcome
from trilho.project.tracing import RunTrace
from trilho.project.workspace import Workspace

if TYPE_CHECKING:
    from trilho.project.forgetting import Forgotten
    from trilho.train.training import TrainContext, TrainResult

__all__ = ["OnTask", "Plan", "Project", "Say", "TrainOutcome", "Workspace"]


class Project(Workspace):
    """One project on this machine.

    Everything that the command line and the platform do with a project goes through here; the stages that it calls
    know neither each other nor where they run.
    """

    def train(
        self,
        trigger: str = "a person",
        on_task: OnTask | None = None,
        actor: str | None = None,
        stop: threading.Event | None = None,
    ) -> TrainOutcome:
        """Run the training pipeline, register what it leaves as a version, and judge it.

        A run that fails leaves its records and logs and nothing else; the next one repeats only what was unfinished.
        Raises Stopped, with nothing left running, soon after `stop` is set. (Elsewhere: `trilho.remote`.)
        """
        from trilho.train.run import train

        state = self.state()
        champion = state.versions.get(state.champion) if state.champion is not None else None
        run = new_run_id()
        context = self.train_context(run, trigger, champion, actor=actor, served=self.export_served(run), stop=stop)
        trace = RunTrace(self.settings.telemetry, self.name, run, trigger)
        told = trace.following(on_task)
        try:
            result = train(replace(context, on_task=told) if told else context)
            outcome = self.finish_training(result, champion, actor)
        except BaseException:
            trace.end(failed=True)
            raise
        trace.end(outcome.version, failed=outcome.version is None)
        return outcome

    def train_context(
        self, run: str, trigger: str, champion: Version | None, *, actor: str | None = None, **more: Any
    ) -> TrainContext:
        """Give a training what it needs of this project; `champion` is the version that it is to beat."""
        from trilho.project.training import context_of

        return context_of(self, run, trigger, champion, actor=actor, **more)

    def export_served(self, run: str) -> Path | None:
        """Write the rows that were served and labelled since, where they are training rows too."""
        from trilho.project.training import export_served

        return export_served(self, run)

    def finish_training(
        self, result: TrainResult, champion: Version | None, actor: str | None, before: Sequence[r.Payload] = ()
    ) -> TrainOutcome:
        """Register what a training left and judge it, in one append together with what comes `before` on record.

        The same package keeps the version number that it has; the champion itself is not judged again.
        """
        from trilho.project.training import finish

        return finish(self, result, champion, actor, before)

    def plan_release(
        self,
        version: int,
        why: str = "",
        force: bool = False,
        say: Say | None = None,
        certificate: r.VersionCertified | None = None,
        **how: Any,
    ) -> Plan:
        """Say what releasing a version would do. Raises Refused or NotYet when its gate or an approval is missing.

        A version gets no traffic before its server has answered and borne what it must; `say` is told how that goes,
        and a `certificate` of a plan before this one is taken as it is. `how` is what `rollout.start` takes by name:
        shadow, sticky, hold.
        """
        from trilho.project import releases

        return releases.release(self, version, why, force=force, say=say, certificate=certificate, how=how)

    def release(
        self,
        version: int,
        why: str = "",
        force: bool = False,
        actor: str | None = None,
        certificate: r.VersionCertified | None = None,
        **how: Any,
    ) -> Plan:
        """Start a version's way to its users, by canary where another one serves; the rest as in `plan_release`."""
        seen = certificate or self.plan_release(version, why, force, **how).certificate
        return self.carry_out(lambda: self.plan_release(version, why, force, certificate=seen, **how), actor)

    def standing(self) -> dict[str, Any] | None:
        """Give where the rollout under way stands, as its endpoint last saw it; None where none serves it."""
        from trilho.project import releases

        return releases.standing(self)

    def plan_rollback(self, why: str = "") -> Plan:
        """Say what rolling back would do: the version that served before serves again, once its server is ready."""
        from trilho.project import releases

        return releases.rollback(self, why)

    def rollback(self, why: str = "") -> Plan:
        """Put the version that served before back, as soon as its server is ready."""
        return self.carry_out(lambda: self.plan_rollback(why))

    def plan_move(self, move: str, why: str = "") -> Plan:
        """Say what a move of the rollout under way would do. Raises NotYet when there is none."""
        from trilho.project import releases

        return releases.move(self, move, why)

    def move_rollout(self, move: str, why: str = "") -> Plan:
        """Take the rollout under way to its `next` share, or `pause`, `resume` or `abort` it."""
        return self.carry_out(lambda: self.plan_move(move, why))

    def approve(self, version: int, why: str = "") -> None:
        """Allow a version's release. Raises Refused for the one who trained it."""
        from trilho.release import approve

        self.carry_out(lambda: Plan(lines=[], payloads=[approve.approve(self.state(), version, why)]))

    def carry_out(self, plan: Callable[[], Plan], actor: str | None = None) -> Plan:
        """Do what a plan says; it is made anew while others append."""
        from trilho.project import releases

        return releases.carry_out(self, plan, actor)

    def labels(self) -> LabelStatus:
        """Say how far the labels have arrived."""
        self.log.seal()
        return self.log.labels()

    def load_labels(self, file: Path | None = None) -> int:
        """Load labels from a table by key ([labels] or a file); rows that were loaded before are not loaded again."""
        from trilho.data.labels import append_labels
        from trilho.serve.flags import mask_of

        mask = mask_of(self.settings.serve, self.home)
        log = self.home / "log" / self.name
        return append_labels(self.settings, self.folder, log, file, mask=mask, classes=self.classes())

    def forget(self, field: str, value: str, why: str = "") -> Forgotten:
        """Delete the served and past rows whose field has a value, such as a person's number, for good."""
        from trilho.project.forgetting import forget

        return forget(self, field, value, why)

    def data_time(self) -> datetime | None:
        """Give the newest event time that was served, at most the present: a wrong clock must not move it ahead."""
        extent = self.log.extent()
        return min(extent[1], datetime.now(UTC)) if extent else None

    def readings(self) -> list[Reading]:
        """Give all readings, oldest first."""
        return self.watch_store.readings(self.name)

    def load_past(self, file: Path | None = None) -> int:
        """Load past rows from a table, `[history] source` or a file; a row that is known is replaced."""
        files = self.past_sources() if file is None else [file]
        if not files or not all(path.is_file() for path in files):
            named = file or self.settings.history.source
            unset = "history.source is not set, and no file is named"
            said = f"{named}: no such table of past rows" if named else unset
            raise DataError(said, hint="trilho history load FILE, or history.source in trilho.toml")
        load = self.settings.steps.load
        if load is not None and files[0].suffix.lower() not in (".parquet", ".pq"):
            from trilho.train.loading import load_tables

            files = load_tables(files, load, self.source, self.python, self.home)
        return self.past.load(files)

    def acknowledge(self, incident: str, why: str = "", actor: str | None = None) -> None:
        """Say that somebody has seen an incident."""
        if incident not in self.state().incidents:
            raise UsageError(f"{self.name} has no incident {incident}", hint="trilho incidents")
        self.record(r.IncidentUpdated(model=self.name, incident=incident, change="acknowledged", note=why), actor=actor)

    def tail_log(self, run: str, task: str) -> str:
        """Give what a step of a run printed."""
        folder = self.home / "runs" / run
        path = folder / f"{task}.log"
        if not path.exists():
            within = [found for found in sorted(folder.rglob("*.log")) if found.stem == task]  # as condition-1/score
            path = within[0] if len(within) == 1 else path
        if not path.exists():
            raise UsageError(f"run {run} kept no output of {task}", hint=f"trilho runs show {run}")
        return path.read_text(encoding="utf-8", errors="replace")
