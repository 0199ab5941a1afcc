"""The platform on this machine: console, watchers, triggers and endpoints of many projects in one process.

A changed trilho.toml is taken over between two passes, whole, or said to wait for a restart.
Every loop is a thread that is called again and again; one that fails says so in the platform's log and is tried again,
slower each time, while the others go on. Whatever is killed, the journal knows what was decided.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from trilho.console.serve import ConsoleServer
from trilho.core.files import write_whole
from trilho.core.lease import Lease
from trilho.errors import TrilhoError, UsageError
from trilho.loops import RetrainLoop, ServeLoop, WatchLoop, activity
from trilho.project import Project
from trilho.project.renewal import Renewal
from trilho.source import ProjectSource
from trilho.tracking import mirror

log = logging.getLogger("trilho")
TICK_SECONDS = 0.1
MIRROR_SECONDS = 30.0
LOOK_SECONDS = 0.02
ALERT_PATIENCE_SECONDS = 0.2
IDLE_SECONDS = 2.0
SLOWEST_SECONDS = 30.0
LOG_BYTES = 4 * 2**20


class Platform:
    """Runs projects that share a home, until told to stop."""

    def __init__(self, projects: Sequence[Project], host: str = "127.0.0.1", *, opened: bool = False) -> None:
        if not projects:
            raise UsageError("no project to run", hint="trilho up DIR [DIR ...]")
        homes = {project.home for project in projects}
        if len(homes) > 1:
            raise UsageError(
                f"these projects have different homes: {', '.join(sorted(map(str, homes)))}",
                hint='give them the same home in trilho.toml, such as home = "../.trilho", or set TRILHO_HOME',
            )
        self.projects = list(projects)
        self._host, self._opened = host, opened  # of the endpoints
        self.home = homes.pop()
        self._lease = Lease(self.home / "platform.lease", f"the platform of {self.home} is run")
        self._threads: list[threading.Thread] = []
        self._watched: list[_Watching] = []
        self._renewals = {project.name: Renewal(project) for project in projects}
        self._address, self._started = "", datetime.now(UTC).isoformat()
        self._source: ProjectSource | None = None
        self._fatal: TrilhoError | None = None
        self._alone = f"serve {self.projects[0].name}" if len(self.projects) == 1 else None

    def run(
        self,
        stop: threading.Event,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        serve: bool = True,
        watch: bool = True,
        console: bool = True,
        ready: Callable[[str], None] = lambda _address: None,
    ) -> None:
        """Run until `stop` is set, then end everything that was started. `ready` gets the console's address."""
        self.home.mkdir(parents=True, exist_ok=True)
        if watch:
            self._lease.take()  # before anything is started, so that a second platform leaves the first as it is
        self._log_to(self.home / "platform.log")
        self._source = ProjectSource(self.projects)
        server = ConsoleServer(self._source, host=host, port=port) if console else None
        loops = [ServeLoop(project, self._host, opened=self._opened) for project in self.projects] if serve else []
        try:
            address = server.start() if server else ""
            for loop in loops:
                loop.once()  # what makes serving impossible, such as another process that serves, is known at once
                self._thread(f"serve {loop.project.name}", stop, loop.once, TICK_SECONDS)
            if watch:
                for project in self.projects:
                    self._watch(project, address, stop)
                self._address = address
                self._announce(address)
            ready(address)
            stop.wait()
        finally:
            stop.set()
            self._end(loops, server)
        if self._fatal is not None:
            raise self._fatal

    def _watch(self, project: Project, console: str, stop: threading.Event) -> None:
        watching = _Watching(project, console)
        self._watched.append(watching)
        retrain, renewal = RetrainLoop(project, stop=stop), self._renewals[project.name]
        pace = _Pace(project.home / "log" / project.name)

        def look() -> None:
            if pace.due():
                self._renew(renewal)
                watching.take(renewal.project)
                watching.loop.once()

        def carry_out() -> None:
            self._renew(renewal)
            retrain.project = renewal.project
            retrain.once()

        self._thread(f"watch {project.name}", stop, look, LOOK_SECONDS)
        self._thread(f"retrain {project.name}", stop, carry_out, TICK_SECONDS)
        self._thread(f"alert {project.name}", stop, lambda: watching.loop.deliver(ALERT_PATIENCE_SECONDS), 0.5)
        if project.settings.tracking.mlflow is not None:
            self._thread(f"mirror {project.name}", stop, lambda: mirror(project), MIRROR_SECONDS)

    def _renew(self, renewal: Renewal) -> None:
        """Take over what a changed trilho.toml says, or say why what it said before still holds."""
        if not renewal.look():
            return
        project = renewal.project
        if renewal.waits:
            log.error("%s: trilho.toml was changed, and what it said before still holds: %s; restart trilho up",
                      project.name, renewal.waits)  # fmt: skip
        else:
            log.info(
                "%s: trilho.toml was changed; now holds: %s", project.name, ", ".join(renewal.changed) or "the same"
            )
        if self._source is not None:
            self._source.renew(project)
        self._announce(self._address)

    def _thread(self, name: str, stop: threading.Event, once: Callable[[], object], pause_seconds: float) -> None:
        thread = threading.Thread(target=self._repeat, args=(name, stop, once, pause_seconds), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _repeat(self, name: str, stop: threading.Event, once: Callable[[], object], pause_seconds: float) -> None:
        wait = pause_seconds
        while not stop.wait(wait):
            try:
                once()
                wait = pause_seconds
            except TrilhoError as error:
                if isinstance(error, UsageError) and name == self._alone:
                    self._fatal = error  # its only endpoint cannot be served as configured: to try on would hide it
                    stop.set()
                    return
                wait = min(max(2 * wait, 1.0), SLOWEST_SECONDS)
                log.error("%s: %s; again in %.0f s", name, " ".join(str(error).splitlines()), wait)
            except Exception:
                wait = min(max(2 * wait, 1.0), SLOWEST_SECONDS)
                log.exception("%s failed; again in %.0f s", name, wait)

    def _announce(self, address: str) -> None:
        path = self.home / "platform.json"
        models = [project.name for project in self.projects]
        settings = {name: {"digest": one.digest, "waits": one.waits} for name, one in self._renewals.items()}
        found = {"schema": 1, "pid": os.getpid(), "address": address, "started": self._started, "models": models,
                 "settings": settings}  # fmt: skip
        write_whole(path, json.dumps(found))

    def _end(self, loops: list[ServeLoop], server: ConsoleServer | None) -> None:
        for thread in self._threads:
            thread.join(10)
        for watching in self._watched:
            watching.loop.outbox.close()
        for loop in loops:
            loop.stop()
        if server is not None:
            server.stop()
        if self._lease.taken:
            (self.home / "platform.json").unlink(missing_ok=True)
        self._lease.release()

    def _log_to(self, path: Path) -> None:
        handler = _LogFile(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(threadName)s: %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        terminal = _Terminal(logging.ERROR)
        terminal.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(terminal)


class _Watching:
    """A project's watch, begun anew with the settings that hold when these have changed."""

    def __init__(self, project: Project, console: str) -> None:
        self.loop, self._console = WatchLoop(project, console), console

    def take(self, project: Project) -> None:
        """Watch the project as it is now; to be called between two passes."""
        if project is not self.loop.project:
            self.loop.stop()
            self.loop = WatchLoop(project, self._console)


class _LogFile(RotatingFileHandler):
    """A bounded log; a full disk loses lines of it, and says nothing of that where people read."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the library's name
        """Go on without."""


class _Terminal(logging.Handler):
    """What goes wrong, said once where the platform was started: a problem that lasts fills no screen."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, unless it was said before."""
        text = record.getMessage().partition("; again in ")[0]
        if text not in self._said:
            self._said.add(text)
            with suppress(OSError, ValueError):
                sys.stderr.write(f"{text}\n")
                sys.stderr.flush()


class _Pace:
    """Says when a look at the log is due: something was written, or a while has passed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: tuple[int, int] | None = None
        self._last = 0.0

    def due(self) -> bool:
        seen = activity(self.folder)
        if seen == self._seen and time.monotonic() - self._last < IDLE_SECONDS:
            return False
        self._seen, self._last = seen, time.monotonic()
        return True
