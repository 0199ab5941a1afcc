"""Measure each server in rounds, ours among them, one at a time on the same core, and lay out what was found.

In every round each server is started anew, answers 500 rows that are compared with the model's own, and is then asked
in three ways. Nothing else of this benchmark runs meanwhile; every second round goes backwards.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import answering
from benchmarks.answering import PYTHON, pinned
from benchmarks.measure import ROOT, Figure, environment, figure, number
from benchmarks.servers.environments import NotInstalled, programs, versions
from benchmarks.servers.products import PRODUCTS, Body, Product, Read, instances, listed
from benchmarks.servers.running import EXACT, NotServing, Running, cpu_seconds, memory_mb, serving

ASKED = ((1, 1), (8, 1), (8, 100))
CHECKED = 500
SECONDS, PATIENCE_SECONDS = 2.0, 300.0
FOLDER_VARIABLE = "TRILHO_BENCH_SERVERS"


@dataclass(frozen=True)
class Seen:
    """What one round showed of one server: by callers and rows, requests a second, 99th percentile, processor time."""

    rates: dict[tuple[int, int], float]
    waits_ms: dict[tuple[int, int], float]
    cpu_us: dict[tuple[int, int], float]
    started: float
    memory_mb: float
    right: int


@dataclass(frozen=True)
class Entry:
    """One server to measure. `run` starts it with the first request's body and what has to be answered."""

    name: str
    version: str
    run: Callable[[str, float], AbstractContextManager[Running]]
    body: Body = instances
    read: Read = listed


@dataclass(frozen=True)
class Model:
    """The model's folder, its rows and what it says of them."""

    folder: Path
    rows: list[dict[str, Any]]
    expected: list[float]
    types: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> Model:
        rows, expected, types = (
            json.loads((folder / f"{name}.json").read_bytes()) for name in ("rows", "expected", "types")
        )
        return cls(folder, rows, expected, types)

    def bodies(self, entry: Entry, size: int) -> Path:
        """Write the requests that ask an entry for all rows, so many at once."""
        made = [json.dumps(entry.body(self.rows[at : at + size], self.types)) for at in range(0, len(self.rows), size)]
        path = self.folder / f"bodies-{size}.json"
        path.write_text(json.dumps(made))
        return path


def ask(model: Model, address: str, bodies: Path, *options: str) -> dict[str, Any]:
    """Ask from the other core. Raises NotServing when a request was refused, or none was answered for a minute."""
    command = [str(PYTHON), "-m", "benchmarks.servers.asking", address, str(bodies), *options]
    env = environment(PYTHONPATH=str(ROOT))
    done = subprocess.run(
        pinned(1, command), env=env, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    if done.returncode:
        raise NotServing(done.stderr.strip().splitlines()[-1])
    found: dict[str, Any] = json.loads(done.stdout)
    if found["refused"]:
        raise NotServing(f"{found['refused']} of {found['requests']} requests were refused: {found['first']}")
    return found


def right(entry: Entry, model: Model, address: str) -> int:
    """Ask for rows once, eight callers at a time, and count the answers that are the model's."""
    bodies, kept = model.folder / "checked.json", model.folder / "answers.json"
    bodies.write_text(json.dumps([json.dumps(entry.body([row], model.types)) for row in model.rows[:CHECKED]]))
    kept.unlink(missing_ok=True)
    ask(model, address, bodies, "--each", str(kept))
    told = [(at, entry.read(body)) for at, body in json.loads(kept.read_bytes())]
    return sum(len(values) == 1 and abs(values[0] - model.expected[at]) <= EXACT for at, values in told)


def see(entry: Entry, model: Model) -> Seen:
    """Start a server, check it, ask it in every way, and end it."""
    rates, waits, taken = {}, {}, {}
    with entry.run(json.dumps(entry.body(model.rows[:1], model.types)), model.expected[0]) as running:
        good = right(entry, model, running.address)
        for callers, size in ASKED:
            bodies = model.bodies(entry, size)
            before = cpu_seconds(running.pid)
            found = ask(model, running.address, bodies, "--callers", str(callers), "--seconds", str(SECONDS))
            rates[callers, size], waits[callers, size] = found["rate"], found["p99_ms"]
            taken[callers, size] = (cpu_seconds(running.pid) - before) / found["asked"] * 1e6
        return Seen(rates, waits, taken, running.started, memory_mb(running.pid), good)


def ours(folder: Path) -> list[Entry]:
    """Give our own server: as a release runs, and with neither log nor live profile, which no other product keeps."""

    @contextmanager
    def run(name: str, options: Sequence[str], body: str, expected: float) -> Iterator[Running]:
        with answering.server(folder, name, *options) as running:
            yield Running(running.process.pid, f"{running.address}/predict", running.started)

    logged = ["--log", str(folder / "log"), "--profiles", str(folder / "profiles")]
    quiet = ["--name", "thirty"]  # with no option at all it would be the constant server
    return [
        Entry("trilho", "this tree", partial(run, "ours", logged)),
        Entry("trilho, no log", "this tree", partial(run, "bare", quiet)),
    ]


def others(folder: Path, cache: Path, words: Sequence[str]) -> tuple[list[Entry], dict[str, str]]:
    """Install the products; give those that are there, and for the others the reason."""
    found, left = list[Entry](), dict[str, str]()
    for product in PRODUCTS:
        if words and not any(word.lower() in product.name.lower() for word in words):
            continue
        try:
            found.append(_entry(product, folder, programs(product, cache)))
        except (NotInstalled, subprocess.SubprocessError) as error:
            left[product.name] = f"not installed: {error}"
    return found, left


def _entry(product: Product, folder: Path, bin_folder: Path) -> Entry:
    version = versions(bin_folder / "python", [product.package])[product.package]
    return Entry(product.name, version, partial(serving, product, bin_folder, folder), product.body, product.read)


def rounds(entries: Sequence[Entry], model: Model, turns: int) -> tuple[dict[str, list[Seen]], dict[str, str]]:
    """Measure every server once a round. One that fails is left out from then on, with the reason."""
    seen, left = {entry.name: list[Seen]() for entry in entries}, dict[str, str]()
    for turn in range(turns):
        for entry in entries if turn % 2 == 0 else reversed(entries):
            if entry.name in left:
                continue
            try:
                seen[entry.name].append(see(entry, model))
            except (NotServing, subprocess.SubprocessError, OSError, ValueError) as error:
                left[entry.name] = f"failed in round {turn + 1}: {error}"
                print(f"{entry.name}: {left[entry.name]}", file=sys.stderr, flush=True)
            else:
                last = seen[entry.name][-1]
                rates = ", ".join(f"{number(rate)}/s" for rate in last.rates.values())
                told = f"round {turn + 1}: {entry.name} {entry.version}: {rates}; load {os.getloadavg()[0]:.1f}"
                print(told, file=sys.stderr, flush=True)
    return {name: each for name, each in seen.items() if name not in left}, left


def figures(entries: Sequence[Entry], seen: dict[str, list[Seen]]) -> list[Figure]:
    """Give ours beside each other server, round by round."""
    mine, lines = seen.get("trilho", []), list[Figure]()
    for entry in entries:
        theirs = seen.get(entry.name, [])
        if entry.name == "trilho" or not mine or not theirs:
            continue
        line = partial(figure, baseline=f"{entry.name} {entry.version}", aim="none", met=None)
        for callers, size in ASKED:
            name = f"requests of {size} row{'s' if size > 1 else ''}, {callers} caller{'s' if callers > 1 else ''}"
            for told, unit, values in (
                ("", "1/s", "rates"),
                (", 99 in 100 wait", "ms", "waits_ms"),
                (", processor each", "us", "cpu_us"),
            ):
                both = [[getattr(each, values)[callers, size] for each in one] for one in (mine, theirs)]
                lines.append(line(f"{name}{told}", ours=both[0], theirs=both[1], unit=unit))
        starts = [[each.started for each in one] for one in (mine, theirs)]
        memory = [[each.memory_mb for each in one] for one in (mine, theirs)]
        lines.append(line("start to the first correct answer", ours=starts[0], theirs=starts[1], unit="s"))
        lines.append(line("memory, after all that", ours=memory[0], theirs=memory[1], unit="MB"))
    return lines


def markdown(entries: Sequence[Entry], seen: dict[str, list[Seen]], left: dict[str, str]) -> list[str]:
    """Lay out a row for each server: medians, and in brackets how much more ours answers, or the other takes."""
    mine = seen.get("trilho", [])
    lines = [
        "| server | 1 caller, 1 row | 8 callers, 1 row | 99th percentile | processor each | 8 callers, 100 rows "
        "| start | memory | right |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for entry in entries:
        if one := seen.get(entry.name):
            cells = [_rate(mine, one, asked) for asked in ASKED]
            good, held = min(each.right for each in one), statistics.median(each.memory_mb for each in one)
            wait = statistics.median(each.waits_ms[8, 1] for each in one)
            start = statistics.median(each.started for each in one)
            cells[2:2] = [f"{number(wait)} ms", _processor(mine, one)]
            cells += [f"{number(start)} s", f"{number(held)} MB", f"{good} of {CHECKED}"]
            lines.append(f"| {entry.name} {entry.version} | {' | '.join(cells)} |")
    return [*lines, *(f"\n{name} was left out: {why}" for name, why in left.items())]


def _rate(mine: Sequence[Seen], theirs: Sequence[Seen], asked: tuple[int, int]) -> str:
    rate = number(statistics.median(each.rates[asked] for each in theirs))
    if mine is theirs or not mine:
        return rate
    ratio = statistics.median(a.rates[asked] / b.rates[asked] for a, b in zip(mine, theirs, strict=True))
    return f"{rate} ({number(ratio)} x)"


def _processor(mine: Sequence[Seen], theirs: Sequence[Seen]) -> str:
    taken = statistics.median(each.cpu_us[8, 1] for each in theirs)
    if mine is theirs or not mine:
        return f"{number(taken)} us"
    ratio = statistics.median(b.cpu_us[8, 1] / a.cpu_us[8, 1] for a, b in zip(mine, theirs, strict=True))
    return f"{number(taken)} us ({number(ratio)} x)"


def compare(cache: Path, turns: int, words: Sequence[str] = ()) -> list[Figure]:
    """Install, measure and print; the environments are kept in `cache`. Told to end, it ends its servers first."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="trilho-bench-") as name:
        folder = Path(name)
        script = [str(PYTHON), str(ROOT / "benchmarks" / "thirty.py"), str(folder)]
        env = environment(PYTHONPATH=f"{ROOT / 'runtime' / 'src'}{os.pathsep}{ROOT}", OMP_NUM_THREADS="1")
        subprocess.run(script, env=env, check=True, capture_output=True, timeout=600)
        found, absent = others(folder, cache.resolve(), words)
        before = os.getloadavg()[0]
        entries = [*ours(folder), *found]
        seen, failed = rounds(entries, Model.read(folder), turns)
    print(*markdown(entries, seen, absent | failed), sep="\n")
    print(
        f"\n{turns} rounds; load average {before:.2f} before, {os.getloadavg()[0]:.2f} after; "
        "in brackets ours to theirs, for the processor theirs to ours."
    )
    return figures(entries, seen)


def beside(turns: int = 3) -> list[Figure]:
    """Measure the others beside ours: kept in the folder of TRILHO_BENCH_SERVERS, which may also say `none`."""
    chosen = os.environ.get(FOLDER_VARIABLE, "")
    if chosen == "none" or not PYTHON.exists():
        print(f"other servers left out: {FOLDER_VARIABLE}={chosen or 'unset'}", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory(prefix="trilho-servers-") as name:
        return compare(Path(chosen or name), turns)
