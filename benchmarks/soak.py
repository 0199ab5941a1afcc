"""Rollouts every few seconds under load, with servers that die: no request may fail, no row be lost or counted twice.

`trilho serve` runs a project with four versions: two that are well, one whose own code ends its process at some rows,
one that raises at some. Eight callers ask without a pause. Versions are released, in the shadow first, and go to full
traffic or are rolled back, by themselves or by a person; meanwhile servers are killed -9, the champion's too. All is
done by the verbs that people type.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import ROOT, Figure, environment, figure
from benchmarks.soak_account import Account, Rolled, account_of
from trilho.core import records as r
from trilho.project import Project

PYTHON = ROOT / "tests" / "notebooks" / ".venv" / "bin" / "python"
BENCHMARKS = ROOT / "benchmarks"
CALLERS = 8
SECONDS = 90.0
PATIENCE_SECONDS = 60.0
ROLLOUT_SECONDS = 45.0  # after which one that still waits is stopped by hand
KILL_SECONDS = (3.0, 9.0)  # between two servers that are killed
ROLLBACK_SECONDS = 1.0
WELL, OTHER, DYING, FAILING = 1, 2, 3, 4
SETTINGS = f"""
python = "{PYTHON}"
[model]
name = "soak"
task = "classification"
target = "bought"
[data]
source = "rows.csv"
[steps]
train = "soak.train:fit"
[serve]
shadow = 25
shadow_requests = 100
canary = [10, 50, 100]
canary_requests = 200
"""


@dataclass
class Soak:
    """A project that is served and asked, and what was done to it."""

    folder: Path
    env: dict[str, str]
    random: random.Random = field(default_factory=lambda: random.Random(5))
    killed: list[int] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    rolled: list[Rolled] = field(default_factory=list)
    let_through: int = 0
    """Rollouts of a version that is not well to all traffic."""
    _kill_due: float = 0.0
    _seal_due: float = 0.0

    def __post_init__(self) -> None:
        self.project = Project.open(self.folder)

    @property
    def home(self) -> Path:
        """Where everything is kept."""
        return self.project.home

    def trilho(self, *words: str) -> str:
        """Type a command. Raises RuntimeError where it fails."""
        command = [sys.executable, "-m", "trilho", "-C", str(self.folder), *words]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"trilho {' '.join(words)}: exit {done.returncode}: {done.stderr}")
        return done.stdout

    def go_on(self, seconds: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass, with a server killed now and then and the log sealed, until something has happened."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if done():
                return True
            now = time.monotonic()
            if now > self._kill_due:
                self._kill()
                self._kill_due = now + self.random.uniform(*KILL_SECONDS)
            if now > self._seal_due:
                self.project.log.seal()
                self._seal_due = now + 2.0
            time.sleep(0.02)
        return done()

    def _kill(self) -> None:
        """Kill one of the servers that are ready, whichever."""
        status = self.project.endpoint()
        ready = [version for version, state in sorted(status.versions.items()) if state == "ready"] if status else []
        if not ready:
            return
        version = self.random.choice(ready)
        told = json.loads((self.home / "endpoints" / "soak" / f"v{version}.ready.json").read_bytes())
        with suppress(ProcessLookupError):
            os.kill(told["pid"], signal.SIGKILL)
            self.killed.append(version)
            print(f"{datetime.now(UTC):%H:%M:%S} killed version {version}", file=sys.stderr, flush=True)

    def release(self, version: int, *, unseen: bool = True, back_at: int | None = None) -> None:
        """Release a version and see it to its end; with `back_at` a person rolls it back at that share."""
        how = [] if unseen else ["--shadow", "0"]
        self.trilho("release", str(version), "--yes", "--force", "--why", "soak", *how)
        if back_at is not None:
            self.go_on(ROLLOUT_SECONDS, lambda: self._share() is None or self._share() == back_at)
            if self._share() is not None:
                self.trilho("rollback", "--yes", "--why", "soak")
        if not self.go_on(ROLLOUT_SECONDS, lambda: self._share() is None):
            with suppress(RuntimeError):  # it has just ended
                self.trilho("rollout", "abort", "--yes", "--why", "it waits too long")
        last = list(self.project.state().rollouts.values())[-1]
        said = f"version {version} {last.outcome}"
        self.ended[said] = self.ended.get(said, 0) + 1
        if last.outcome == "full" and version in (DYING, FAILING):
            self.let_through += 1
            self.undo()
        print(f"{datetime.now(UTC):%H:%M:%S} {said}: {last.note[:150]}", file=sys.stderr, flush=True)

    def _share(self) -> int | None:
        rollout = self.project.state().rollout
        return None if rollout is None else rollout.share

    def rival(self) -> int:
        """Give the version that is well and does not serve."""
        return OTHER if self.project.state().champion == WELL else WELL

    def undo(self) -> None:
        """Roll the last release back."""
        self.trilho("rollback", "--yes", "--why", "soak")

    def rollbacks(self) -> list[Rolled]:
        """Give each rollback: of which version, when it stood in the journal, and when that version was next wanted."""
        found: list[Rolled] = []
        for record in self.project.journal.read_from():
            when, payload = datetime.fromisoformat(record.time).timestamp(), record.payload
            match payload:
                case r.RolloutEnded(outcome="rolled back") | r.RolloutEnded(outcome="aborted"):
                    found.append(Rolled(payload.version, when))
                case r.ChampionRestored():
                    found.append(Rolled(payload.replaced, when))
                case r.RolloutStarted():
                    found = [x.until(when) if x.version == payload.version else x for x in found]
        return found


def soak(seconds: float = SECONDS) -> list[Figure]:
    """Run it, and give what came of it. Raises SystemExit where a version's own figures cannot be had."""
    if not PYTHON.exists():
        print(f"left out: {PYTHON.relative_to(ROOT)} is absent", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory(prefix="trilho-soak-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        run = prepare(folder)
        before = os.getloadavg()
        with serving(run), asking(run, folder / "answers") as answers:
            _play(run, time.monotonic() + seconds)
            told = run.project.endpoint()
            assert told is not None
            memory = _memory_mb(run.home, "router")
        run.project.log.seal()
        found = account_of(
            answers, json.loads((folder / "expected.json").read_bytes()), run.project.log, run.rollbacks()
        )
        _print(run, found, before, memory)
        return _figures(run, found, seconds)


def prepare(folder: Path) -> Soak:
    """Make the versions and a project that has them; the first one serves."""
    env = environment(
        PYTHONPATH=str(ROOT / "runtime" / "src"),
        OMP_NUM_THREADS="1",
        TRILHO_HOME=str(folder / "home"),
        TRILHO_ACTOR="soak",
    )
    script = [str(PYTHON), str(BENCHMARKS / "soak_models.py"), str(folder)]
    subprocess.run(script, env=env, check=True, capture_output=True, timeout=300)
    project = folder / "project"
    project.mkdir()
    (project / "trilho.toml").write_text(f'home = "{folder / "home"}"\n{SETTINGS}')
    run = Soak(project, env)
    (folder / "home").mkdir()
    for number in (WELL, OTHER, DYING, FAILING):
        digest = run.project.store.put(folder / "packages" / str(number))
        run.project.record(
            r.VersionPackaged(
                model="soak", version=number, run="soak", dataset="soak", package=digest, metric="roc_auc", metrics={},
                commit=None, commit_time=None, data_until=None,
            )
        )  # fmt: skip
    run.trilho("release", str(WELL), "--yes", "--force", "--why", "the first")
    return run


@contextmanager
def serving(run: Soak) -> Iterator[None]:
    """Run `trilho serve` until the block ends."""
    with (run.folder / "serve.out").open("wb") as out:
        command = [sys.executable, "-m", "trilho", "-C", str(run.folder), "serve"]
        process = subprocess.Popen(command, env=run.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "ready" not in getattr(run.project.endpoint(), "versions", {}).values():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"it does not serve: {(run.folder / 'serve.out').read_text()}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


@contextmanager
def asking(run: Soak, answers: Path) -> Iterator[Path]:
    """Have the callers ask until the block ends; they end when everything they asked is answered."""
    status = run.project.endpoint()
    assert status is not None
    command = [sys.executable, str(BENCHMARKS / "soak_callers.py"), str(status.address)]
    command += [str(run.folder.parent / "rows.json"), str(answers), "--callers", str(CALLERS)]
    process = subprocess.Popen(command, env=run.env, stdin=subprocess.PIPE)
    try:
        yield answers
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(PATIENCE_SECONDS)


def _play(run: Soak, end: float) -> None:
    """Release one version after the other until the time is over."""
    scenes: list[Callable[[], None]] = [
        lambda: run.release(run.rival()),
        lambda: run.release(DYING, unseen=False),
        lambda: run.release(run.rival()),
        lambda: run.release(FAILING, unseen=False),
        lambda: run.release(DYING),
        lambda: run.release(run.rival(), back_at=10),
        lambda: run.release(FAILING),
        lambda: run.release(run.rival(), back_at=50),
        lambda: run.release(run.rival(), unseen=False),
        run.undo,
    ]
    while time.monotonic() < end:
        for scene in scenes:
            scene()
            run.go_on(run.random.uniform(0.5, 2.0))
            if time.monotonic() > end:
                return


def _memory_mb(home: Path, name: str) -> float:
    pid = json.loads((home / "endpoints" / "soak" / f"{name}.ready.json").read_bytes())["pid"]
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _print(run: Soak, found: Account, before: tuple[float, float, float], memory: float) -> None:
    kills = ", ".join(f"version {v}: {run.killed.count(v)}" for v in sorted(set(run.killed)))
    after = os.getloadavg()
    lines = [
        *found.lines(),
        f"rollouts ended: {', '.join(f'{n} x {said}' for said, n in sorted(run.ended.items()))}",
        f"servers killed -9 by the soak: {len(run.killed)} ({kills})",
        f"router: {memory:.0f} MB at the end; load average {before[0]:.2f} before, {after[0]:.2f} after",
    ]
    print(*lines, sep="\n", file=sys.stderr)


def _figures(run: Soak, found: Account, seconds: float) -> list[Figure]:
    def none_of(name: str, number: int, of: str, all_: int) -> Figure:
        return figure(name, of, [number], [max(all_, 1)], unit="", aim="none", met=number == 0)

    slowest = max((took for took, _ in found.rollbacks), default=0.0)
    return [
        none_of("soak: requests that failed", found.failed, "requests", found.requests),
        none_of("soak: ids answered twice", found.twice, "rows answered", found.answered),
        none_of("soak: answered, not in the log", found.unlogged, "rows answered", found.answered),
        none_of("soak: in the log, not answered", found.unanswered, "rows in the log", found.logged),
        none_of("soak: in the log, of another version", found.otherwise, "rows in the log", found.logged),
        none_of("soak: answers that are not their version's", found.wrong, "rows answered", found.answered),
        none_of("soak: bad versions let through", run.let_through, "rollouts ended", sum(run.ended.values())),
        figure("soak: requests a second", "of how long it ran", [found.requests / found.span], [seconds], unit="",
               aim="none", met=None),
        figure("soak: longest gap without any answer", "of how long it ran", [found.gap], [seconds], unit="s",
               aim="none", met=None),
        figure("soak: slowest rollback", "of how long it ran", [slowest], [seconds], unit="s",
               aim=f"at most {ROLLBACK_SECONDS:g} s", met=slowest <= ROLLBACK_SECONDS),
    ]  # fmt: skip


if __name__ == "__main__":
    from benchmarks.measure import table

    print(*table(soak(float(sys.argv[1]) if sys.argv[1:] else SECONDS)), sep="\n")
