"""Answers of a 30-column pipeline with 200 trees: the server on one core, its callers on the other.

10,000 distinct rows are asked for once first: each answer is compared with the original model's, and the rows in the
log are counted. Then the servers take turns: with log and live profile, without the log, with every line synced, and a
granian that answers with a constant, which is the floor of any server written on it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.measure import ROOT, Figure, environment, figure, in_turns

PYTHON = ROOT / "tests" / "notebooks" / ".venv" / "bin" / "python"
ONE_ROW, MANY_ROWS, WAIT_MS, START_SECONDS, MEMORY_MB, LOG_COST = 1500, 600, 15.0, 1.0, 100.0, 0.15
REQUESTS = {(1, 1): 2000, (8, 1): 6000, (8, 100): 600}
TRIALS = 50
PATIENCE_SECONDS = 30.0
PEER_SECONDS = 2.0


@dataclass(frozen=True)
class Server:
    """A server that runs, and how long it took from its start to its first correct answer."""

    process: subprocess.Popen[bytes]
    address: str
    started: float

    def cpu_seconds(self) -> float:
        """Give the processor's time that it has taken until now, which neighbours change little."""
        told = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """Keep a command on one core, where that can be said."""
    return ["taskset", "-c", str(core % (os.cpu_count() or 1)), *command] if shutil.which("taskset") else [*command]


def _env() -> dict[str, str]:
    return environment(PYTHONPATH=f"{ROOT / 'runtime' / 'src'}{os.pathsep}{ROOT}", OMP_NUM_THREADS="1")


@contextmanager
def server(folder: Path, name: str, *options: str) -> Iterator[Server]:
    """Run a server of the packaged model; with no options, the constant one."""
    ready = folder / f"{name}.json"
    ready.unlink(missing_ok=True)
    end, hold = os.pipe()
    module, arguments = ("benchmarks.constant", [str(ready)])
    if options:
        module = "trilho_runtime.server"
        piped = ["--ready-file", str(ready), "--parent-pipe", str(end)]
        arguments = [str(folder / "package"), "--version", "1", *piped, *options]
    began = time.perf_counter()
    with (folder / f"{name}.err").open("wb") as errors:
        process = subprocess.Popen(
            pinned(0, [str(PYTHON), "-m", module, *arguments]), cwd=ROOT, env=_env(), pass_fds=(end,), stdin=end,
            stdout=subprocess.DEVNULL, stderr=errors,
        )  # fmt: skip
    os.close(end)
    try:
        address = _first_answer(folder, ready, process)
        yield Server(process, address, time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait(20)
        os.close(hold)


def _first_answer(folder: Path, ready: Path, process: subprocess.Popen[bytes]) -> str:
    """Wait for the first answer with a prediction, which has to be the model's own."""
    row, expected = _first_row(folder)
    body = json.dumps({"instances": [row]}).encode()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"a server ended: {ready.with_suffix('.err').read_text()}")
        if ready.exists():
            address = str(json.loads(ready.read_bytes())["address"])
            try:
                with urlopen(f"{address}/predict", body, timeout=PATIENCE_SECONDS) as answer:
                    (told,) = json.loads(answer.read())["predictions"]
                if isinstance(told, dict) and abs(told["1"] - expected) > 1e-12:
                    raise SystemExit(f"row 0 is answered with {told['1']}, the model says {expected}")
                return address
            except OSError:  # 503 while it loads
                pass
        time.sleep(0.005)
    raise SystemExit(f"a server was not ready after {PATIENCE_SECONDS:.0f} s")


def _first_row(folder: Path) -> tuple[Any, float]:
    kept = folder / "first.json"
    if not kept.exists():
        row, told = (json.loads((folder / name).read_bytes())[0] for name in ("rows.json", "expected.json"))
        kept.write_text(json.dumps([row, told]))
    row, told = json.loads(kept.read_bytes())
    return row, float(told)


def load(folder: Path, address: str, callers: int, size: int, requests: int, answers: Path | None = None) -> Any:
    """Ask from the other core, and give what came of it. Raises RuntimeError when a request was refused."""
    command = [str(PYTHON), str(ROOT / "benchmarks" / "load.py"), address, str(folder / "rows.json")]
    command += ["--callers", str(callers), "--size", str(size), "--requests", str(requests)]
    command += [] if answers is None else ["--answers", str(answers)]
    done = subprocess.run(pinned(1, command), capture_output=True, check=True, env=_env(), timeout=600)
    found = json.loads(done.stdout)
    if found["refused"]:
        raise RuntimeError(f"{found['refused']} of {requests} requests were refused")
    return found


def answering(turns: int = 5) -> list[Figure]:
    """Ask the packaged model, and check what it answers."""
    if not PYTHON.exists():
        print(f"left out: {PYTHON.relative_to(ROOT)} is absent", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory(prefix="trilho-bench-") as name:
        folder = Path(name)
        script = [str(PYTHON), str(ROOT / "benchmarks" / "thirty.py"), str(folder)]
        subprocess.run(script, env=_env(), check=True, capture_output=True, timeout=600)
        check(folder)
        lines = [*_rates(folder, script, turns), *_starts(folder, turns)]
        return [*lines, _killed(folder)]


def check(folder: Path) -> None:
    """Ask for every row once. Raises SystemExit for a wrong answer, and for a line too many or too few."""
    expected = json.loads((folder / "expected.json").read_bytes())
    log, answers = folder / "checked", folder / "answers.json"
    with server(folder, "checked", "--log", str(log)) as running:
        load(folder, running.address, 8, 1, len(expected), answers)
    told = {at: (ids[0], predictions[0]["1"]) for at, ids, predictions in json.loads(answers.read_bytes())}
    wrong = [at for at, value in enumerate(expected) if abs(told[at][1] - value) > 1e-12]
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(expected)} rows are answered otherwise than by the model: {wrong[:5]}")
    logged = [line["id"] for path in log.glob("*.jsonl") for line in map(json.loads, path.read_bytes().splitlines())]
    if len(logged) != len(expected) + 1 or not {id_ for id_, _ in told.values()} <= set(logged):
        raise SystemExit(f"{len(expected) + 1} rows were answered, {len(logged)} are in the log")
    print(f"{len(expected)} rows: every answer is the model's, every one is in the log once", file=sys.stderr)


def _rates(folder: Path, script: list[str], turns: int) -> list[Figure]:
    profiles, log = ["--profiles", str(folder / "profiles")], ["--log", str(folder / "log")]
    synced = ["--log", str(folder / "synced"), "--fsync"]
    with ExitStack() as running:
        ours, bare, safe = (
            running.enter_context(server(folder, name, *options, *profiles))
            for name, options in (("ours", log), ("bare", []), ("safe", synced))
        )
        constant = running.enter_context(server(folder, "constant"))
        found: list[Figure] = []
        for (callers, size), requests in REQUESTS.items():
            found += _compared(folder, (ours, bare, safe, constant), (callers, size, requests), turns)
        found.append(_beside_the_pipeline(folder, script, ours, turns))
        memory = [_memory_mb(each.process.pid) for each in (ours, constant)]
        found.append(
            figure("memory, after all that", "granian, a constant", memory[:1], memory[1:], unit="MB",
                   aim=f"at most {MEMORY_MB:.0f} MB", met=memory[0] <= MEMORY_MB)
        )  # fmt: skip
        return found


@dataclass
class Beside:
    """What was seen of a server beside its rate, a turn each: how long its callers waited, and what it cost."""

    waits_ms: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


def _asked(folder: Path, running: Server, asked: tuple[int, int, int], beside: Beside) -> float:
    callers, size, requests = asked
    before = running.cpu_seconds()
    found = load(folder, running.address, callers, size, requests)
    beside.cpu_us.append((running.cpu_seconds() - before) / requests * 1e6)
    beside.waits_ms.append(float(found["p99_ms"]))
    return float(found["rate"])


def _compared(folder: Path, servers: Sequence[Server], asking: tuple[int, int, int], turns: int) -> list[Figure]:
    """Take turns with the four servers at so many callers with so many rows each."""
    callers, size, _ = asking
    beside = [Beside() for _ in servers]
    measures = [partial(_asked, folder, each, asking, own) for each, own in zip(servers, beside, strict=True)]
    rates = in_turns(*measures, turns=turns)
    ours, bare, safe, constant = rates
    least = {(8, 1): ONE_ROW, (8, 100): MANY_ROWS}.get((callers, size))
    rows = "one-row requests" if size == 1 else f"requests of {size} rows"
    name = f"{rows}, {callers} caller{'s' if callers > 1 else ''}"
    aim = "none" if least is None else f"at least {least:,} a second"
    met = None if least is None else statistics.median(ours) >= least
    lines = [figure(name, "granian, a constant", ours, constant, unit="1/s", aim=aim, met=met)]
    cost = 1 - statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    told = (f"the log takes at most {LOG_COST:.0%}", cost <= LOG_COST) if (callers, size) == (8, 1) else ("none", None)
    lines.append(figure(name, "the same without a log", ours, bare, unit="1/s", aim=told[0], met=told[1]))
    lines.append(figure(f"{name}, synced", "the same without a log", safe, bare, unit="1/s", aim="none", met=None))
    taken = [own.cpu_us[1:] for own in beside]  # the turn that does not count is there too
    lines.append(
        figure(f"{name}, processor each", "the same without a log", *taken[:2], unit="us", aim="none", met=None)
    )
    slow = [own.waits_ms[1:] for own in beside]
    wait = statistics.median(slow[0]) <= WAIT_MS if (callers, size) == (8, 1) else None
    within = f"at most {WAIT_MS:g} ms" if wait is not None else "none"
    lines.append(
        figure(f"{name}, 99 in 100 wait", "granian, a constant", slow[0], slow[3], unit="ms", aim=within, met=wait)
    )
    return lines


def _beside_the_pipeline(folder: Path, script: list[str], running: Server, turns: int) -> Figure:
    """Ask the server one row after the other, and the pipeline object itself in a process without any server."""

    def pipeline() -> float:
        command = pinned(0, [*script, "ask", str(PEER_SECONDS)])
        return float(subprocess.run(command, env=_env(), check=True, capture_output=True, timeout=60).stdout)

    ours, theirs = in_turns(partial(_asked, folder, running, (8, 1, REQUESTS[8, 1]), Beside()), pipeline, turns=turns)
    return figure(
        "one-row requests, 8 callers", "the pipeline object, no server", ours, theirs, unit="1/s", aim="none", met=None
    )


def _starts(folder: Path, turns: int) -> list[Figure]:
    def begun(name: str, *options: str) -> float:
        with server(folder, name, *options) as running:
            return running.started

    log = ("--log", str(folder / "log"), "--profiles", str(folder / "profiles"))
    ours, constant = in_turns(partial(begun, "start", *log), partial(begun, "start-constant"), turns=turns)
    return [
        figure("start to the first correct answer", "granian, a constant", ours, constant, unit="s",
               aim=f"at most {START_SECONDS:g} s", met=statistics.median(ours) <= START_SECONDS)
    ]  # fmt: skip


def _killed(folder: Path) -> Figure:
    """Kill the server again and again while it answers, and count what was answered and is not in the log."""
    lost, acknowledged = 0, 0
    for trial in range(TRIALS):
        log, told = folder / f"killed-{trial}", folder / f"told-{trial}"
        with server(folder, f"killed-{trial}", "--log", str(log)) as running:
            command = [str(PYTHON), str(ROOT / "benchmarks" / "load.py"), running.address, str(folder / "rows.json")]
            with told.open("wb") as out:
                asking = subprocess.Popen(pinned(1, [*command, "--ids"]), env=_env(), stdout=out)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while told.stat().st_size < 5000 * (1 + trial % 10) and time.monotonic() < deadline:
                time.sleep(0.001)
            running.process.send_signal(signal.SIGKILL)
            asking.wait(PATIENCE_SECONDS)
        whole = b"".join(path.read_bytes() for path in log.glob("*.jsonl"))
        logged = {json.loads(line)["id"] for line in whole[: whole.rfind(b"\n") + 1].splitlines()}
        given = told.read_text().split()
        acknowledged += len(given)
        lost += len(set(given) - logged)
    return figure(
        f"rows lost in {TRIALS} kill -9 under load", "rows acknowledged", [lost], [acknowledged], unit="rows",
        aim="none lost", met=lost == 0,
    )  # fmt: skip


def _memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) / 1024
    return float("nan")


if __name__ == "__main__":
    from benchmarks.measure import table

    print(*table(answering()), sep="\n")
