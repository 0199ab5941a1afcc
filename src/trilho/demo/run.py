"""The demo: two example projects trained and released, a platform started, later periods played against it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from trilho.core import records as r
from trilho.core.lease import held
from trilho.core.projection import ModelState
from trilho.demo.play import Period, Player, Window, read_windows
from trilho.errors import DataError, TrilhoError, Unreachable, UsageError
from trilho.project import Project
from trilho.testing.receiver import Receiver

MODELS = ("bike-demand", "flight-delay")
MARKER = "made-by-trilho-demo"
START_SECONDS = 90.0


@dataclass
class Progress:
    """Where one model's line is now, for whoever watches."""

    model: str
    stage: str = "waiting"
    period: str = ""
    windows_played: int = 0
    windows: int = 0
    rows: int = 0


OnProgress = Callable[[Progress], None]


@dataclass
class ModelResult:
    """One model's later periods, as its servers answered and its journal recorded them."""

    model: str
    metric: str
    periods: list[dict[str, Any]]
    counts: dict[str, int]
    problems: list[str] = field(default_factory=list)


@dataclass
class Demo:
    """The demo's parts while it runs."""

    projects: list[Project]
    home: Path
    console: str
    results: list[ModelResult] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Give the result as one JSON object."""
        models = {x.model: {"metric": x.metric, "periods": x.periods, **x.counts} for x in self.results}
        return {"schema": 1, "models": models, "seconds": round(self.seconds, 1), "home": str(self.home)}


def find_examples(named: Path | None) -> Path:
    """Give the folder of the example projects: the one named, or the repository's. Raises UsageError."""
    places = [named] if named else [Path.cwd() / "examples", Path(__file__).resolve().parents[3] / "examples"]
    for place in places:
        if all((place / model / "trilho.toml").exists() for model in MODELS):
            return place.resolve()
    raise UsageError(
        f"no example projects ({', '.join(MODELS)}) in {places[0]}",
        hint="run it in a clone of trilho's repository, or give --examples DIR",
    )


def make_home(home: Path) -> Path:
    """Make an empty home, in place of an earlier demo's. Raises UsageError for a folder that is not a demo's."""
    if home.exists() and any(home.iterdir()) and not (home / MARKER).exists():
        raise UsageError(f"{home} holds something else than an earlier demo", hint="give another --home")
    if held(home / "platform.lease"):
        raise UsageError(f"another demo is running in {home}", hint="stop it, or give another --home")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True, exist_ok=True)
    (home / MARKER).write_text(
        "An earlier demo's journal, artifacts and logs. The next demo begins by removing them.\n"
    )
    return home


@contextmanager
def running_demo(examples: Path, home: Path, port: int, on_progress: OnProgress) -> Iterator[Demo]:
    """Run the line to its last period and give what came of it, with servers and console still up.

    They end with the block.
    """
    began = time.monotonic()
    home = make_home(home)
    projects = [_open(examples / model, home) for model in MODELS]
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver(home / "received"))
        _together(projects, lambda project: _first_release(project, on_progress))
        platform = stack.enter_context(_platform(projects, home, port, receiver))
        demo = Demo(projects, home, platform.address)
        demo.results = _together(projects, lambda project: _play(project, platform, on_progress))
        demo.seconds = time.monotonic() - began
        yield demo


def _open(folder: Path, home: Path) -> Project:
    project = Project.open(folder)
    return Project(folder, project.settings, home)


def _together(projects: list[Project], work: Callable[[Project], Any]) -> list[Any]:
    pool = ThreadPoolExecutor(len(projects))
    try:
        return [future.result() for future in [pool.submit(work, project) for project in projects]]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for what the others still do


def _first_release(project: Project, on_progress: OnProgress) -> None:
    progress = Progress(project.name)

    def tell(task: r.TaskResult) -> None:
        progress.stage = f"training: {task['name']} {task['state']}"
        on_progress(progress)

    progress.stage = "training"
    on_progress(progress)
    outcome = project.train(on_task=tell)
    if outcome.version is None:
        raise TrilhoError(f"{project.name}: the first training failed: {outcome.error}", hint="trilho runs")
    project.release(outcome.version, why="first release, by the demo")
    progress.stage = f"version {outcome.version} released"
    on_progress(progress)


@dataclass
class _Platform:
    process: subprocess.Popen[bytes]
    address: str
    home: Path

    def alive(self) -> None:
        if self.process.poll() is not None:
            raise Unreachable(
                f"the platform ended with code {self.process.returncode}", hint=f"see {self.home / 'platform.out'}"
            )


@contextmanager
def _platform(projects: list[Project], home: Path, port: int, receiver: Receiver) -> Iterator[_Platform]:
    """Run `trilho up` as a process of its own, as a user would, until the block ends."""
    read_end, write_end = os.pipe()  # the platform ends when this process does, however it ends
    command = [sys.executable, "-m", "trilho", "up", *(str(p.folder) for p in projects), "--port", str(port)]
    command += ["--parent-pipe", str(read_end)]
    environment = {
        **os.environ,
        "TRILHO_HOME": str(home),
        "TRILHO_SLACK_WEBHOOK": receiver.address("slack"),
        "TRILHO_TEAMS_WEBHOOK": receiver.address("teams"),
    }
    with (home / "platform.out").open("wb") as out:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            pass_fds=[read_end],
        )  # fmt: skip
        os.close(read_end)
        platform = _Platform(process, "", home)
        try:
            ready = _wait(lambda: _read_json(home / "platform.json"), platform.alive, "the platform")
            platform.address = ready["address"]
            yield platform
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
            os.close(write_end)


def _play(project: Project, platform: _Platform, on_progress: OnProgress) -> ModelResult:
    settings = project.settings
    if settings.model.time is None:
        raise DataError(f"{project.name} has no time column to play by", hint="set model.time")
    files = sorted((project.folder / "later").glob("*.parquet"))
    length = settings.watch.window
    total = sum(1 for _ in read_windows(files, settings.model.time, settings.model.target, length))
    progress = Progress(project.name, "starting servers", windows=total)
    on_progress(progress)
    endpoint = _wait(lambda: _ready(project), platform.alive, f"the endpoint of {project.name}")
    with _static_server(project) as static:
        player = Player(project, endpoint, static, platform.alive)
        spans: dict[str, tuple[datetime, datetime]] = {}

        def tell(window: Window, period: Period) -> None:
            first = spans.get(window.period, (window.start, window.start))[0]
            spans[window.period] = (first, window.start + length)
            progress.stage, progress.period = "playing", period.name
            progress.windows_played += 1
            progress.rows += len(window.rows)
            on_progress(progress)

        player.play(read_windows(files, settings.model.time, settings.model.target, length), tell)
    progress.stage = "done"
    on_progress(progress)
    return _result(project, player, spans)


def _ready(project: Project) -> str | None:
    status = project.endpoint()
    if status is None or not status.running or "ready" not in status.versions.values():
        return None
    return status.address


@contextmanager
def _static_server(project: Project) -> Iterator[str]:
    """Serve version 1 for ever beside the managed endpoint: what would have been without trilho."""
    ready = project.home / "static" / f"{project.name}.json"
    ready.parent.mkdir(exist_ok=True)
    read_end, write_end = os.pipe()  # the server ends when this process does
    command = [
        str(project.python), "-m", "trilho_runtime.server", str(project.package(1)), "--version", "1", "--port", "0",
        "--ready-file", str(ready), "--parent-pipe", str(read_end),
    ]  # fmt: skip
    with ready.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            command, pass_fds=[read_end], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
        )  # fmt: skip
        os.close(read_end)
        try:
            yield _wait(lambda: _healthy(_read_json(ready)), lambda: None, "the static model's server")
        finally:
            os.close(write_end)
            process.terminate()
            process.wait(30)


def _healthy(found: Any) -> str | None:
    """Give the address of a server that is ready to answer."""
    if not found:
        return None
    address = str(found["address"])
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5):  # noqa: S310
            return address
    except OSError:
        return None


def _wait(look: Callable[[], Any], alive: Callable[[], None], what: str) -> Any:
    deadline = time.monotonic() + START_SECONDS
    while True:
        found = look()
        if found:
            return found
        alive()
        if time.monotonic() > deadline:
            raise Unreachable(f"{what} was not ready in {START_SECONDS:.0f} seconds")
        time.sleep(0.05)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _result(project: Project, player: Player, spans: dict[str, tuple[datetime, datetime]]) -> ModelResult:
    state = project.state()
    metric = next(iter(state.versions.values())).metric
    periods = [
        _period(period, metric, spans[name], state, player.champions[name]) for name, period in player.periods.items()
    ]
    results = [x.result for x in state.retrainings.values()]
    managed, static = player.managed.tally, player.static.tally
    counts = {
        "requests": managed.requests,
        "single_row_requests": managed.single_row_requests,
        "batch_requests": managed.batch_requests,
        "label_requests": managed.label_requests,
        "static_requests": static.requests,
        "failed_requests": managed.failed + static.failed,
        "retrainings": len(results),
        "promotions": results.count("promoted"),
        "rejected": sum(x in ("rejected", "not enough data") for x in results),
    }
    return ModelResult(project.name, metric, periods, counts, managed.problems + static.problems)


def _period(
    period: Period, metric: str, span: tuple[datetime, datetime], state: ModelState, champion: int
) -> dict[str, Any]:
    start, end = (moment.isoformat() for moment in span)
    alarms = [alarm for alarm in state.alarms.values() if start < alarm.window_end <= end]
    fired = [x for x in state.retrainings.values() if start < (x.data_time or "") <= end]
    waits = [seconds for seconds in (seconds_to_serving(x.started, x.version, state) for x in fired) if seconds]
    return {
        "period": period.name,
        "rows": len(period.value),
        "metric": metric,
        "static": period.score(metric, "static"),
        "managed": period.score(metric, "managed"),
        "alarm": bool(alarms),
        "alarms": [f"{alarm.kind}: {alarm.summary}" for alarm in alarms],
        "retrained": len(fired),
        "released": sum(x.result == "promoted" for x in fired),
        "seconds_to_serving": round(max(waits), 1) if waits else None,
        "champion": champion,
    }


def seconds_to_serving(started: str, version: int | None, state: ModelState) -> float | None:
    """Give the time from a trigger to the first answer of the version that it led to."""
    served = state.versions[version].first_served if version in state.versions else None
    if served is None:
        return None
    return (datetime.fromisoformat(served) - datetime.fromisoformat(started)) / timedelta(seconds=1)
