"""What a project has on this machine: its settings, journal, artifacts, log, data and interpreter, wired together."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from trilho.backends.local.journal import LocalJournal, StateReader
from trilho.backends.local.store import LocalStore
from trilho.backends.local.watch_store import LocalWatchStore
from trilho.config import FILE, Settings, load_settings
from trilho.core import records as r
from trilho.core.projection import ModelState
from trilho.core.readings import EndpointStatus
from trilho.errors import ConfigError, DataError, TrilhoError, UsageError
from trilho.project.outcome import Say

if TYPE_CHECKING:
    from trilho.release.decision_code import Code
    from trilho.serve.certificate import Certifier
    from trilho.serve.past import Past
    from trilho.serve.segments import LocalPredictionLog


class Workspace:
    """One project's things on this machine; the stages that are given them do not know where they are."""

    def __init__(self, folder: Path, settings: Settings, home: Path | None = None) -> None:
        self.folder = folder
        self.settings = settings
        self.home = home or home_of(folder, settings)
        self.name = settings.model.name

    @classmethod
    def open(cls, folder: Path | str = ".") -> Self:
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
            classes=self.classes,
        )

    def classes(self) -> list[Any]:
        """Give what a label may be: the classes of all versions, 0 and 1 before there is one; none for numbers."""
        from trilho.core.classes import name_of
        from trilho.serve.package import classes_of

        if self.settings.model.task == "regression":
            return []
        for number in self.state().versions:
            if number not in self._classes:
                with suppress(TrilhoError):  # its package was freed
                    self._classes[number] = classes_of(self.package(number))
        found = {name_of(label): label for known in self._classes.values() for label in known}
        return list(found.values()) or [0, 1]

    @cached_property
    def _classes(self) -> dict[int, tuple[Any, ...]]:
        return {}

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

    def endpoint(self) -> EndpointStatus | None:
        """Give the endpoint as its supervisor last saw it; `running` is checked now."""
        from trilho.serve.supervise import read_status

        return read_status(self.home, self.name)

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


def home_of(folder: Path, settings: Settings) -> Path:
    """Give the folder that holds a project's journal, artifacts and logs on this machine."""
    named = os.environ.get("TRILHO_HOME")
    return Path(named).expanduser().resolve() if named else Path(os.path.normpath(folder / settings.home))
