"""A project opened on this machine: settings, backend and stages, wired together. The only place where that happens."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trilho.backends.local.journal import LocalJournal, StateReader
from trilho.backends.local.store import LocalStore
from trilho.backends.local.watch_store import LocalWatchStore
from trilho.config import FILE, Settings, load_settings
from trilho.core import records as r
from trilho.core.ports import Conflict
from trilho.core.projection import ModelState, Version
from trilho.core.readings import EndpointStatus, LabelStatus, Reading
from trilho.errors import ConfigError, DataError, NotYet, Refused, UsageError
from trilho.pipeline.keeping.runs import is_elsewhere, new_run_id

if TYPE_CHECKING:
    from trilho.release.decision_code import Code
    from trilho.serve.certificate import Certifier
    from trilho.serve.past import Past
    from trilho.serve.segments import LocalPredictionLog
    from trilho.train.run import TrainContext, TrainResult

OnTask = Callable[[r.TaskResult], None]
Say = Callable[[str], None]
SERVES: tuple[r.Verdict, dict[str, Any]] = ("pass", {"reason": "nothing changed: this version serves already"})


@dataclass(frozen=True, kw_only=True)
class TrainOutcome:
    """What a training left: a version where it succeeded, and what the gate said of it."""

    run: str
    state: r.RunState
    tasks: list[r.TaskResult]
    version: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    verdict: r.Verdict | None = None
    reason: str = ""
    error: str | None = None
    exit_code: int = 0  # of the error, as in `trilho.errors`
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a change would do, in plain lines, and the records that would be written."""

    lines: list[str]
    payloads: list[r.Payload]
    certificate: r.VersionCertified | None = None
    """What a version that is to be released was seen to answer and bear."""


class Project:
    """One project on this machine.

    Everything that the command line and the platform do with a project goes through here; the stages that it calls
    know neither each other nor where they run.
    """

    def __init__(self, folder: Path, settings: Settings, home: Path | None = None) -> None:
        self.folder = folder
        self.settings = settings
        self.home = home or home_of(folder, settings)
        self.name = settings.model.name

    @classmethod
    def open(cls, folder: Path | str = ".") -> Project:
        """Open the project in a folder. Raises ConfigError when trilho.toml is missing or wrong."""
        path = Path(folder).expanduser().resolve()
        if not path.is_dir():
            raise UsageError(f"{folder} is not a folder", hint="-C DIR names the folder that holds trilho.toml")
        return cls(path, load_settings(path))

    @cached_property
    def journal(self) -> LocalJournal:
        """The journal that this project shares with all projects of the same home."""
        return LocalJournal(self.home / "journal.sqlite")

    @cached_property
    def reader(self) -> StateReader:
        """The journal's projection, read on from where it was."""
        return StateReader(self.journal)

    @cached_property
    def store(self) -> LocalStore:
        """The artifacts."""
        return LocalStore(self.home / "store")

    @cached_property
    def watch_store(self) -> LocalWatchStore:
        """The readings and the detectors' memory."""
        return LocalWatchStore(self.home / "watch.sqlite")

    @cached_property
    def log(self) -> LocalPredictionLog:
        """What was served, and the labels that came."""
        from trilho.data.labels import join_columns
        from trilho.serve.segments import LocalPredictionLog

        return LocalPredictionLog(
            self.home / "log" / self.name,
            self.settings.model.time,
            join_columns(self.settings) or None,
            binary=self.settings.model.task == "classification",
        )

    @cached_property
    def python(self) -> Path:
        """The project's own interpreter."""
        named = os.environ.get("TRILHO_PYTHON") or self.settings.python
        own = self.folder / ".venv" / "bin" / "python"
        path = Path(os.path.normpath(self.folder / named)) if named else own if own.exists() else Path(sys.executable)
        if not path.exists():
            raise ConfigError(
                f"{self.folder / FILE}: python is {named!r}, and {path} does not exist",
                hint="make the project's environment there, or change python",
            )
        return path

    @property
    def source(self) -> Path:
        """The folder from which the project's own packages are imported."""
        src = self.folder / "src"
        return src if src.is_dir() else self.folder

    def state(self) -> ModelState:
        """Give what the journal says of this model now."""
        return self.reader.state().model(self.name)

    def record(self, *payloads: r.Payload, actor: str | None = None) -> None:
        """Append facts about this model to the journal; by default in the name of the person who runs this."""
        self.journal.append(*payloads, actor=actor)

    def sources(self) -> list[Path]:
        """Give the data files that `[data] source` names. Raises DataError when there is none."""
        pattern = self.settings.data.source
        found = sorted(self.folder.glob(pattern)) if any(c in pattern for c in "*?[") else [self.folder / pattern]
        if not found or not all(path.exists() for path in found):
            raise DataError(
                f"{self.folder / FILE}: data.source is {pattern!r}, and no such file is in {self.folder}",
                hint="put the file there, or change data.source",
            )
        return found

    def tables(self) -> list[Path]:
        """Give the data files as tables: what `[steps] load` makes of each, where there is one."""
        from trilho.train.loading import load_tables

        load = self.settings.steps.load
        return (
            self.sources() if load is None else load_tables(self.sources(), load, self.source, self.python, self.home)
        )

    def commit(self) -> tuple[str | None, str | None]:
        """Give the git commit of the project's code and its time, where it is in a repository."""
        command = ["git", "-C", str(self.folder), "log", "-1", "--format=%H %cI", "--", "."]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None, None
        commit, _, time = done.stdout.strip().partition(" ")
        return (commit, time) if done.returncode == 0 and commit else (None, None)

    # ---- train -------------------------------------------------------------------------------------------------

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
        return self.finish_training(train(replace(context, on_task=on_task) if on_task else context), champion, actor)

    def train_context(
        self, run: str, trigger: str, champion: Version | None, *, actor: str | None = None, **more: Any
    ) -> TrainContext:
        """Give a training what it needs of this project; `champion` is the version that it is to beat."""
        from trilho.train.run import TrainContext

        if self.settings.steps.decide is not None:
            from trilho.release.with_model import try_decision

            try_decision(self.decision_code, self.state())
        state, (commit, commit_time) = self.state(), self.commit()
        running = [run.id for run in state.runs.values() if run.state == "running"]
        return TrainContext(
            settings=self.settings,
            project=self.folder,
            source=self.source,
            home=self.home,
            store=self.store,
            python=self.python,
            sources=self.tables,
            champion_package=self.store.path(champion.package) if champion else None,
            first_dataset=next(iter(state.datasets.values()), None),
            run_id=run,
            trigger=trigger,
            commit=commit,
            commit_time=commit_time,
            record=partial(self.record, actor=actor),
            datasets=frozenset(state.datasets),
            running=tuple(run for run in running if not is_elsewhere(self.home, run)),
            **{"served": None, **more},
        )

    def export_served(self, run: str) -> Path | None:
        """Write the rows that were served and labelled since, where they are training rows too."""
        if not (self.settings.data.served and any(x.is_file() for x in (self.home / "log" / self.name).rglob("*"))):
            return None
        self.log.seal()
        out = self.home / "runs" / run / "served.parquet"
        out.parent.mkdir(parents=True, exist_ok=True)
        return out if self.log.export_labelled(out, self.settings.model.target) else None

    def finish_training(
        self, result: TrainResult, champion: Version | None, actor: str | None, before: Sequence[r.Payload] = ()
    ) -> TrainOutcome:
        """Register what a training left and judge it, in one append together with what comes `before` on record.

        The same package keeps the version number that it has; the champion itself is not judged again.
        """
        outcome = TrainOutcome(run=result.run, state=result.state, tasks=result.tasks)
        if result.package is None or result.dataset is None or result.predictions is None:
            if before:
                self.record(*before, actor=actor)
            problem = result.problem
            error = problem.fact if problem is not None else None  # whoever shows it gives the hint
            code, hint = (problem.exit_code, problem.hint) if problem is not None else (1, None)
            return replace(outcome, error=error, exit_code=code, hint=hint)
        serves = champion is not None and champion.package == result.package
        verdict, evidence = SERVES if serves else self._judge(result, result.predictions, champion)
        certificate = None if serves else self._try(result.package)
        if certificate is not None:
            from trilho.release.certified import with_certificate

            verdict, evidence = with_certificate(verdict, evidence, certificate)
        decision = self._pack_decision(result.package)
        while True:
            head, versions = self.journal.head().seq, self.state().versions
            known = next((v.number for v in versions.values() if v.package == result.package), None)
            number = known or max(versions, default=0) + 1
            packaged: list[r.Payload] = self._decided(decision, result)
            packaged += [] if known else [self._packaged(result, result.package, result.dataset, number)]
            against = champion.number if champion else None
            gate = r.GateJudged(model=self.name, version=number, champion=against, verdict=verdict, evidence=evidence)
            tried = [] if certificate is None else [replace(certificate, version=number)]
            told = [] if serves else [*tried, gate]
            try:
                self.journal.append(*before, *packaged, *told, actor=actor, expect=head)
            except Conflict:
                continue
            reason = str(evidence.get("reason", ""))
            return replace(outcome, version=number, metrics=result.metrics, verdict=verdict, reason=reason)

    def _packaged(self, result: TrainResult, package: str, dataset: str, number: int) -> r.VersionPackaged:
        return r.VersionPackaged(
            model=self.name,
            version=number,
            run=result.run,
            dataset=dataset,
            package=package,
            metric=result.metric,
            metrics=result.metrics,
            commit=result.commit,
            commit_time=result.commit_time,
            data_until=result.data_until,
        )

    @property
    def decision_code(self) -> Code:
        """The code of the project's decision. Raises ConfigError where it has none."""
        from trilho.release.decision_code import Code

        reference = self.settings.steps.decide
        if reference is None:
            raise ConfigError(
                f"{self.folder / FILE}: steps.decide is not set, so that {self.name} has no decision",
                hint='decide = "PACKAGE.MODULE:FUNCTION" in [steps]: a score in, what is done about it out',
            )
        return Code(reference, self.folder, self.source, self.python, self.store)

    def _pack_decision(self, package: str) -> str | None:
        from trilho.release.with_model import pack_decision

        decides = self.settings.steps.decide is not None
        return pack_decision(self.decision_code, self.state(), self.store.path(package)) if decides else None

    def _decided(self, artifact: str | None, result: TrainResult) -> list[r.Payload]:
        from trilho.release.decisions import packaged

        commit, reference = (result.commit, result.commit_time), str(self.settings.steps.decide)
        return packaged(self.state(), artifact, reference, commit, result.run) if artifact is not None else []

    def _first_decision(self, version: Version) -> tuple[list[r.Payload], list[str]]:
        from trilho.release.with_model import first_decision

        state = self.state()
        if self.settings.steps.decide is None or state.decision is not None:
            return [], []
        package, approval = self.package(version.number), self.settings.gate.approval
        return first_decision(self.decision_code, state, version, package, self.commit, approval=approval)

    def _judge(
        self, result: TrainResult, predictions: Path, champion: Version | None
    ) -> tuple[r.Verdict, dict[str, Any]]:
        from trilho.release.verdict import Shipped, verdict_of

        gate, task = self.settings.gate, self.settings.model.task
        shipped = Shipped(
            package=self.store.path(str(result.package)),
            champion=self.store.path(champion.package) if champion is not None else None,
            answered=any(version.first_served for version in self.state().versions.values()),
            holdout=result.holdout,
        )
        return verdict_of(predictions, result.champion_predictions, gate, task, result.candidates, self.home, shipped)

    def _try(self, package: str) -> r.VersionCertified | None:
        """Certify what was just packaged, where the gate asks how long its answers take."""
        folder, versions = self.store.path(package), self.state().versions
        if self.settings.gate.latency is None or self.settings.serve.batch_only:
            return None
        number = next((v.number for v in versions.values() if v.package == package), max(versions, default=0) + 1)
        return self.certifier.current(number, folder.name) or self.certifier.certify(number, folder)

    # ---- release -----------------------------------------------------------------------------------------------

    @property
    def certifier(self) -> Certifier:
        """What tries a version's server before it gets traffic."""
        from trilho.serve.certificate import Certifier

        serve, latency = self.settings.serve, self.settings.gate.latency
        return Certifier(model=self.name, home=self.home, python=self.python, settings=serve, latency=latency)

    def certify(self, version: int, say: Say | None = None) -> r.VersionCertified:
        """Give a version's certificate; where none holds its server is started, asked and loaded."""
        package = self.package(version)
        return self.certifier.current(version, package.name) or self.certifier.certify(version, package, say)

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
        from trilho.release import approve, certified, rollout

        state = self.state()
        target = state.versions.get(version)
        if target is None:
            known = ", ".join(str(number) for number in state.versions) or "none"
            raise UsageError(f"{self.name} has no version {version}; it has: {known}", hint="trilho models")
        if state.rollout is not None:
            raise Refused(
                f"version {state.rollout.version} is on its way, {rollout.position(state.rollout)}",
                hint="trilho rollout status, or trilho rollout abort",
            )
        if state.champion == version:
            raise UsageError(f"version {version} serves already", hint="trilho models")
        if not force:
            approve.require_pass(target)
        if self.settings.gate.approval:
            approve.require(state, target)
        approve.require_online(self.package(version))
        payloads = rollout.start(state, version, self.settings.serve, why, **how)
        first, said = self._first_decision(target)
        seen = certificate or self.certify(version, say)
        if not force:
            certified.require_certificate(seen)
        lines = [*rollout.explain(state, version, self.settings.serve, payloads), *said, certified.explain(seen)]
        tried = [seen] if target.certified != seen else []
        return Plan(lines=lines, payloads=[*tried, *first, *payloads], certificate=seen)

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
        return self._carry_out(lambda: self.plan_release(version, why, force, certificate=seen, **how), actor)

    def standing(self) -> dict[str, Any] | None:
        """Give where the rollout under way stands, as its endpoint last saw it; None where none serves it."""
        from trilho.serve.endpoint import folder_of, read_json

        under_way, endpoint = self.state().rollout, self.endpoint()
        if under_way is None or endpoint is None or not endpoint.running:
            return None
        found = read_json(folder_of(self.home, self.name) / "rollout.json") or {}
        now = (under_way.id, under_way.share, under_way.share_since)
        return found if (found.get("rollout"), found.get("share"), found.get("since")) == now else None

    def plan_rollback(self, why: str = "") -> Plan:
        """Say what rolling back would do: the version that served before serves again, once its server is ready."""
        from trilho.release import rollout

        payload = rollout.rollback(self.state(), why)
        if isinstance(payload, r.ChampionRestored):
            self.package(payload.version)  # it may have been freed
        return Plan(lines=rollout.explain_rollback(self.state()), payloads=[payload])

    def rollback(self, why: str = "") -> Plan:
        """Put the version that served before back, as soon as its server is ready."""
        return self._carry_out(lambda: self.plan_rollback(why))

    def plan_move(self, move: str, why: str = "") -> Plan:
        """Say what a move of the rollout under way would do. Raises NotYet when there is none."""
        from trilho.release import rollout

        state = self.state()
        if state.rollout is None:
            raise NotYet(f"no rollout of {self.name} is under way", hint="trilho release VERSION starts one")
        payload = rollout.move(state.rollout, move, why)
        return Plan(lines=[rollout.describe(payload)], payloads=[payload])

    def move_rollout(self, move: str, why: str = "") -> Plan:
        """Take the rollout under way to its `next` share, or `pause`, `resume` or `abort` it."""
        return self._carry_out(lambda: self.plan_move(move, why))

    def approve(self, version: int, why: str = "") -> None:
        """Allow a version's release. Raises Refused for the one who trained it."""
        from trilho.release import approve

        self._carry_out(lambda: Plan(lines=[], payloads=[approve.approve(self.state(), version, why)]))

    def carry_out(self, plan: Callable[[], Plan], actor: str | None = None) -> Plan:
        """Do what a plan says; it is made anew while others append."""
        return self._carry_out(plan, actor)

    def _carry_out(self, plan: Callable[[], Plan], actor: str | None = None) -> Plan:
        while True:
            head = self.journal.head().seq
            chosen = plan()
            try:
                self.journal.append(*chosen.payloads, actor=actor, expect=head)
            except Conflict:
                continue
            return chosen

    # ---- watch and retrain -------------------------------------------------------------------------------------

    def labels(self) -> LabelStatus:
        """Say how far the labels have arrived."""
        self.log.seal()
        return self.log.labels()

    def load_labels(self, file: Path | None = None) -> int:
        """Load labels from a table by key ([labels] or a file); rows that were loaded before are not loaded again."""
        from trilho.data.labels import append_labels
        from trilho.serve.flags import mask_of

        mask = mask_of(self.settings.serve, self.home)
        return append_labels(self.settings, self.folder, self.home / "log" / self.name, file, mask=mask)

    def data_time(self) -> datetime | None:
        """Give the newest event time that was served, at most the present: a wrong clock must not move it ahead."""
        extent = self.log.extent()
        return min(extent[1], datetime.now(UTC)) if extent else None

    def readings(self) -> list[Reading]:
        """Give all readings, oldest first."""
        return self.watch_store.readings(self.name)

    def endpoint(self) -> EndpointStatus | None:
        """Give the endpoint as its supervisor last saw it; `running` is checked now."""
        from trilho.serve.supervise import read_status

        return read_status(self.home, self.name)

    def package(self, version: int) -> Path:
        """Give the folder of a version's package."""
        versions = self.state().versions
        if version not in versions:
            raise UsageError(f"{self.name} has no version {version}", hint="trilho models")
        return self.store.path(versions[version].package)

    def decision(self, number: int) -> Path:
        """Give the folder of a decision version."""
        from trilho.release.decisions import known

        return self.store.path(known(self.state(), number).artifact)

    @property
    def past_file(self) -> Path:
        """The online store of past rows, for a model of lags."""
        return self.home / "history" / f"{self.name}.sqlite"

    @property
    def past(self) -> Past:
        """The past rows that came since, for a model of lags."""
        from trilho.serve.past import Past

        state, history = self.state(), self.settings.history
        number = state.champion if state.champion is not None else max(state.versions, default=None)
        package = self.package(number) if number is not None else None
        return Past(self.past_file, package, history.rows, self.settings.model.key, list(self.settings.serve.mask))

    def past_sources(self) -> list[Path]:
        """Give the files that `[history] source` names and that are there."""
        pattern = self.settings.history.source
        found = sorted(self.folder.glob(pattern)) if pattern and any(c in pattern for c in "*?[") else []
        found = found or ([self.folder / pattern] if pattern else [])
        return [path for path in found if path.is_file()]

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


def home_of(folder: Path, settings: Settings) -> Path:
    """Give the folder that holds a project's journal, artifacts and logs on this machine."""
    named = os.environ.get("TRILHO_HOME")
    return Path(named).expanduser().resolve() if named else Path(os.path.normpath(folder / settings.home))
