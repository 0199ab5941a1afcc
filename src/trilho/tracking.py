"""A model's runs and versions, mirrored to an MLflow server for those who look there. The journal stays the truth.

The journal is read on from a cursor, record by record, and the cursor moves when a record has arrived. What was in
flight when something broke is done again: each run and version carries a tag of ours by which it is found.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, singledispatchmethod
from pathlib import Path
from typing import Any

from trilho.core import records as r
from trilho.core.database import Database
from trilho.core.journal import Record
from trilho.core.lease import Lease
from trilho.core.projection import ModelState
from trilho.errors import DataError, TrilhoError, UsageError
from trilho.govern.tracking_server import Server, keys_of
from trilho.project import Project

SCHEMA = """CREATE TABLE IF NOT EXISTS cursors (
    server TEXT, model TEXT, seq INTEGER NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (server, model))"""
QUIET_SECONDS = 10.0  # in all, after a training
NOT_SET = "trilho.toml: tracking.mlflow is not set; allowed: the address of an MLflow server"
NOT_SET_HINT = 'add mlflow = "https://..." to [tracking]'


@dataclass
class Mirrored:
    """What came to the server: our runs and versions by name, and the champion where it changed."""

    server: str
    records: int = 0
    runs: list[str] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    aliases: dict[str, int | None] = field(default_factory=dict)


def mirror(project: Project, *, again: bool = False, within_seconds: float = math.inf) -> Mirrored:
    """Send what the journal says of this model's runs and versions, from where it was sent before.

    With `again` from the beginning. Raises Unreachable where the server does not answer, or another process mirrors;
    what had arrived by then is not sent again.
    """
    settings = project.settings.tracking
    if settings.mlflow is None:
        raise UsageError(NOT_SET, hint=NOT_SET_HINT)
    server = Server(settings.mlflow, settings.token, within_seconds)
    lease = Lease(project.home / "tracking" / f"{project.name}.lock", f"{project.name} is being mirrored")
    lease.take()
    try:
        return _Mirror(project, server).catch_up(again)
    finally:
        lease.release()


def mirror_quietly(project: Project) -> str | None:
    """Mirror after a training, which must not fail or wait for it: give what to say of it, None where not asked for."""
    if project.settings.tracking.mlflow is None:
        return None
    try:
        return sentence(mirror(project, within_seconds=QUIET_SECONDS))
    except (TrilhoError, OSError, KeyError, TypeError, ValueError) as error:
        fact = error.fact if isinstance(error, TrilhoError) else f"{type(error).__name__}: {error}"
        return f"Not mirrored: {fact}. `trilho models mirror` catches up."


def sentence(found: Mirrored) -> str:
    """Say in a sentence what was mirrored."""
    if not found.records:
        return f"{found.server} has all of it already."
    parts = [
        f"{len(found.runs)} run{'' if len(found.runs) == 1 else 's'}",
        f"{len(found.versions)} version{'' if len(found.versions) == 1 else 's'}",
        *(f"{alias} is {'none' if v is None else f'version {v}'}" for alias, v in found.aliases.items()),
    ]
    return f"Mirrored to {found.server}: {', '.join(parts)}."


class _Mirror:
    """One catching up: the project's state, the server, and what was found there."""

    def __init__(self, project: Project, server: Server) -> None:
        self.project, self.server, self.name = project, server, project.name
        whole = project.reader.state()
        self.state: ModelState = whole.model(self.name)
        self.newest = whole.seq  # what was appended since is for the next time: the state does not know it
        self.done = Mirrored(server.address)
        self._cursors = Database(project.home / "tracking.sqlite", SCHEMA, what="the cursors of tracking")

    def catch_up(self, again: bool) -> Mirrored:
        """Go through the records after the cursor."""
        last = None
        for record in self.project.journal.read_from(1 if again else self._start()):
            if record.seq > self.newest:
                break
            last = record
            if record.subject == self.name and isinstance(record.payload, SENT):
                self.send(record.payload, record)
                self.done.records += 1
                self._move(record)
        if last is not None:
            self._move(last)
        return self.done

    @cached_property
    def experiment(self) -> str:
        """The experiment that holds the runs: the settings', or the model's name."""
        return self.server.experiment(self.project.settings.tracking.experiment or self.name)

    @cached_property
    def numbers(self) -> dict[int, str]:
        """MLflow's number of each of our versions."""
        self.server.registered_model(self.name)
        return self.server.versions(self.name)

    @singledispatchmethod
    def send(self, payload: Any, record: Record) -> None:
        """Send what a record says; most kinds say nothing of runs and versions."""

    @send.register
    def _(self, payload: r.RunStarted, record: Record) -> None:
        if payload.pipeline == "train":
            self._run(payload.run)

    @send.register
    def _(self, payload: r.RunEnded, record: Record) -> None:
        info = self._run(payload.run)
        if info is None:
            return
        tags = {"trilho.error": payload.error[:500]} if payload.error else {}
        seconds = {f"seconds.{task['name']}": task["seconds"] for task in payload.tasks if task["state"] == "ran"}
        metrics = keys_of({"seconds": payload.seconds, **seconds})
        self.server.log(info["run_id"], {}, metrics, _milliseconds(record.time), tags)
        self.server.end_run(info["run_id"], payload.state == "succeeded", _milliseconds(record.time))
        self.done.runs.append(payload.run)

    @send.register
    def _(self, payload: r.VersionPackaged, record: Record) -> None:
        info = self._run(payload.run)
        if info is None:
            return
        metrics = {key: value for key, value in payload.metrics.items() if math.isfinite(value)}
        tags = {"trilho.package": payload.package, "trilho.dataset": payload.dataset, "trilho.metric": payload.metric}
        tags |= {"trilho.data_until": payload.data_until} if payload.data_until else {}
        tags |= {"trilho.commit": payload.commit} if payload.commit else {}
        given = self._parameters(payload.package)
        self.server.log(info["run_id"], given, keys_of(metrics), _milliseconds(record.time), tags)
        if payload.version not in self.numbers:
            source = self._source(payload.package, info)
            more = {**tags, RUN: payload.run}
            number = self.server.add_version(self.name, payload.version, source, info["run_id"], more)
            self.numbers[payload.version] = number
        self.done.versions.append(payload.version)

    @send.register
    def _(self, payload: r.GateJudged, record: Record) -> None:
        if payload.version in self.numbers:
            number = self.numbers[payload.version]
            self.server.tag_version(self.name, number, "gate", payload.verdict)
            self.server.tag_version(self.name, number, "gate_reason", str(payload.evidence.get("reason", "")))

    @send.register
    def _(self, payload: r.RolloutStarted, record: Record) -> None:
        self._alias("challenger", payload.version)

    @send.register
    def _(self, payload: r.RolloutEnded, record: Record) -> None:
        self._alias("challenger", None)
        self._alias("champion", payload.champion)

    @send.register
    def _(self, payload: r.ChampionRestored, record: Record) -> None:
        self._alias("champion", payload.version)

    def _run(self, run: str) -> Mapping[str, Any] | None:
        """Give the server's run of a training, made where there is none; None for what is no training."""
        known = self.state.runs.get(run)
        if known is None or not known.trains:
            return None
        tags = {
            "trilho.model": self.name,
            "trilho.trigger": known.trigger,
            "trilho.runner": known.runner,
            "mlflow.user": known.actor,
            "mlflow.source.name": "trilho train",
            **({"trilho.dataset": known.dataset} if known.dataset else {}),
            **({"mlflow.source.git.commit": known.commit} if known.commit else {}),
            **({"trilho.place": known.place} if known.place else {}),
        }
        return self.server.start_run(self.experiment, run, _milliseconds(known.started), tags)

    def _parameters(self, package: str) -> dict[str, Any]:
        """Give what a version was made with, as its package says; nothing where the package was freed."""
        manifest = _manifest(self._package(package))
        estimator = manifest.get("estimator") or {}
        given = {name: manifest.get(name) for name in ("task", "target", "features", "time", "key")}
        given |= {"estimator": estimator.get("class"), "format": estimator.get("format")}
        given |= {f"estimator.{key}": value for key, value in (estimator.get("parameters") or {}).items()}
        given |= {key: (manifest.get("lineage") or {}).get(key) for key in ("data_until", "train_until", "history")}
        return keys_of({key: value for key, value in given.items() if value not in (None, "")})

    def _source(self, package: str, info: Mapping[str, Any]) -> str:
        """Give where a version's package is: copied to the run's artifacts where that is wanted, else a link to it."""
        wanted = self.project.settings.tracking.upload
        folder = self._package(package)
        if folder is not None and (self.server.local if wanted is None else wanted):
            found = self.server.upload(folder, str(info.get("artifact_uri", "")), "package")
            if found is not None:
                return found
        return f"trilho://{self.name}/{package}"

    def _package(self, digest: str) -> Path | None:
        try:
            path = self.project.store.path(digest)
        except DataError:
            return None
        return path if path.is_dir() else None

    def _alias(self, alias: str, version: int | None) -> None:
        if version is not None and version not in self.numbers:
            return  # it was packaged by a run that is not mirrored
        self.server.set_alias(self.name, alias, None if version is None else self.numbers[version])
        self.done.aliases[alias] = version

    def _start(self) -> int:
        """Give the first record to send: the one after the cursor, or the first where the journal is another one."""
        query = "SELECT seq, hash FROM cursors WHERE server = ? AND model = ?"
        rows = self._cursors.read(query, (self.server.address, self.name))
        if not rows:
            return 1
        seq, hash_ = rows[0]
        last = next(self.project.journal.read_from(seq), None)
        return int(seq) + 1 if last is not None and last.hash == hash_ else 1

    def _move(self, record: Record) -> None:
        with self._cursors.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?)",
                (self.server.address, self.name, record.seq, record.hash),
            )


RUN = "trilho.run"
SENT = (r.RunStarted, r.RunEnded, r.VersionPackaged, r.GateJudged, r.RolloutStarted, r.RolloutEnded, r.ChampionRestored)


def _milliseconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000)


def _manifest(package: Path | None) -> dict[str, Any]:
    if package is None:
        return {}
    try:
        found = json.loads((package / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
