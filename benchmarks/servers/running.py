"""Start a product's server on one core, wait for its first right answer, and end every process that it started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from benchmarks.answering import pinned
from benchmarks.measure import environment
from benchmarks.servers.environments import last_line
from benchmarks.servers.products import APPS, Place, Product

START_SECONDS, END_SECONDS = 120.0, 15.0
EXACT = 1e-6  # several servers write the model's 32-bit numbers with 7 digits


class NotServing(Exception):
    """A server does not answer; the text says what it said."""


@dataclass(frozen=True)
class Running:
    """A server that answers: the process that was started, where to ask, and the seconds to its first right answer."""

    pid: int
    address: str
    started: float


def tree(pid: int, parents: dict[int, int]) -> list[int]:
    """Give a process and all that come from it, by the parent of each.

    >>> tree(1, {2: 1, 3: 2, 5: 4})
    [1, 2, 3]
    """
    found = [pid]
    for one in found:
        found += sorted(child for child, parent in parents.items() if parent == one)
    return found


def processes() -> dict[int, int]:
    """Give the parent of every process of this machine."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def memory_mb(pid: int) -> float:
    """Give what a process holds, and with children what they hold together, where shared pages count once."""
    all_of_them, total = tree(pid, processes()), 0
    word = "Pss:" if len(all_of_them) > 1 else "Rss:"
    for one in all_of_them:
        with suppress(OSError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += next((int(line.split()[1]) for line in lines if line.startswith(word)), 0)
    return total / 1024


def cpu_seconds(pid: int) -> float:
    """Add up the processor time that a process, its children and those of them that ended have taken until now."""
    total = 0
    for one in tree(pid, processes()):
        with suppress(OSError):
            told = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += sum(int(ticks) for ticks in told[11:15])
    return total / os.sysconf("SC_CLK_TCK")


def free_ports() -> tuple[int, int, int]:
    """Give three ports that nobody listens on now."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    one, two, three = (int(each.getsockname()[1]) for each in taken)
    for each in taken:
        each.close()
    return one, two, three


@contextmanager
def serving(product: Product, programs: Path, model: Path, body: str, expected: float) -> Iterator[Running]:
    """Run a product's server until the block ends. Raises NotServing when it does not answer rightly in time."""
    own = model / f"run-{product.package}"
    own.mkdir(exist_ok=True)
    place = Place(programs, model, own, free_ports())
    env = environment(
        **product.settings, BENCH_FOLDER=str(model), PYTHONPATH=str(APPS), OMP_NUM_THREADS="1", HOME=str(own),
        RAY_TMPDIR=str(model), PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
    )  # fmt: skip
    prepare = product.prepare(place)
    if prepare:
        done = subprocess.run(prepare, cwd=APPS, env=env, capture_output=True, text=True, timeout=START_SECONDS)
        if done.returncode:
            raise NotServing(f"the model could not be saved for it: {last_line(done.stderr)}")
    errors = own / "errors.txt"
    began = time.perf_counter()
    with errors.open("wb") as out:
        process = subprocess.Popen(
            pinned(0, product.start(place)), cwd=APPS, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        address = f"http://127.0.0.1:{place.ports[0]}{product.path}"
        _until_right(process, product, address, body.encode(), expected, errors)
        yield Running(process.pid, address, time.perf_counter() - began)
    finally:
        end(process)


def _until_right(
    process: subprocess.Popen[bytes], product: Product, address: str, body: bytes, expected: float, errors: Path
) -> None:
    deadline, said = time.monotonic() + START_SECONDS, "no connection"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NotServing(f"it ended with {process.returncode}: {last_line(errors.read_text(errors='replace'))}")
        try:
            request = Request(address, body, {"content-type": "application/json"})
            with urlopen(request, timeout=20) as answer:
                (told,) = product.read(json.loads(answer.read()))
        except HTTPError as error:
            said = f"{error.code} {error.read()[:300].decode(errors='replace')}"
        except (OSError, ValueError, KeyError) as error:
            said = str(error)
        else:
            if abs(told - expected) > EXACT:
                raise NotServing(f"the first row is answered with {told}, the model says {expected}")
            return
        time.sleep(0.01)
    raise NotServing(f"no answer after {START_SECONDS:.0f} s; the last was: {said}")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children, by the number of each: kindly first."""
    children = [(pid, born(pid)) for pid in tree(process.pid, processes())[1:]]
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    process.kill()
    process.wait()
    _gone(children)
    for pid, since in children:
        if since and born(pid) == since:  # the number is still that process's
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    _gone(children)


def _gone(children: Sequence[tuple[int, str]]) -> None:
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline and any(since and born(pid) == since for pid, since in children):
        time.sleep(0.02)


def born(pid: int) -> str:
    """Say when a process began, in the kernel's own ticks; nothing for one that has ended."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if told[0] == "Z" else told[19]
