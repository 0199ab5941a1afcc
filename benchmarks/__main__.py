"""Run the timings and print them: `make bench`, or `python -m benchmarks [WORD]...` for those whose name has a word.

`python -m benchmarks soak --seconds 300` lets the soak run for so long.

It exits with 0 whatever the figures: they are to be read, and a busy machine is no mistake of the code's.
"""

from __future__ import annotations

import compileall
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from benchmarks.answering import answering
from benchmarks.commands import PROJECT_PYTHON, Bike, bike, start_up, training
from benchmarks.judging import gating, watching
from benchmarks.keeping import appending, sealing
from benchmarks.measure import ROOT, Figure, table
from benchmarks.pipelining import pipelining
from benchmarks.profiling import profiling
from benchmarks.servers.comparing import beside
from benchmarks.serving import serving
from benchmarks.soak import SECONDS, soak

Group = Callable[[Bike], list[Figure]]
GROUPS: dict[str, Group] = {
    "start-up": lambda _: start_up(),
    "journal": lambda _: appending(),
    "training": training,
    "pipeline": lambda _: pipelining(),
    "sealing": lambda _: sealing(),
    "watching": watching,
    "profiling": lambda _: profiling(),
    "gate": lambda _: gating(),
    "serving": serving,
    "answering": lambda _: [*answering(), *beside()],
    "soak": lambda _: soak(),
}
QUIET = 0.5  # of a processor: above this load somebody else is at work


def main(words: list[str]) -> int:
    """Run what was asked for, one after the other, and give the exit code."""
    words, seconds = _seconds(words)
    GROUPS["soak"] = lambda _: soak(seconds)
    chosen = [name for name in GROUPS if not words or any(word in name for word in words)]
    if not chosen:
        print(f"no timing has {' or '.join(words)} in its name; there are: {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    for folder in (ROOT / "src", ROOT / "runtime" / "src"):
        compileall.compile_dir(folder, quiet=1)
    began, load = time.monotonic(), os.getloadavg()
    figures: list[Figure] = []
    with bike() as example:
        for name in chosen:
            print(f"{name} ...", file=sys.stderr, flush=True)
            figures += GROUPS[name](example)
    print(*table(figures), sep="\n")
    print(*_about(load, time.monotonic() - began), sep="\n")
    return 0


def _seconds(words: list[str]) -> tuple[list[str], float]:
    """Take `--seconds N` out of the words."""
    if "--seconds" not in words:
        return words, SECONDS
    at = words.index("--seconds")
    return words[:at] + words[at + 2 :], float(words[at + 1])


def _about(load: tuple[float, float, float], took: float) -> list[str]:
    after = os.getloadavg()
    lines = [
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} processors, {platform.machine()}, "
        f"{platform.system()}, Python {platform.python_version()}; projects run {PROJECT_PYTHON.relative_to(ROOT)}",
        f"load average {load[0]:.2f} before, {after[0]:.2f} after; took {took:.0f} s. A ratio is the median of the "
        "turns' own ratios.",
    ]
    if load[0] > QUIET:
        lines.append("The machine was not quiet when this began: read the ratios, not the milliseconds.")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
