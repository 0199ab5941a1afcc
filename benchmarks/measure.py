"""How a thing is timed here: in turns with its baseline, several times, spread and all.

Machines are noisy, and a bare number says as much about the neighbours as about the code. So what is measured and its
baseline take turns; each turn gives one ratio, and the figure is the ratios' median with the smallest and the largest.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Spread:
    """The smallest, the median and the largest of several measurements."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(min(values), statistics.median(values), max(values))

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)} to {number(self.high)})"


@dataclass(frozen=True)
class Figure:
    """One line of the table. `aim` is in words; `met` is None where there is none."""

    name: str
    unit: str
    ours: Spread
    baseline: str
    theirs: Spread
    ratio: Spread
    load: float
    aim: str = "none"
    met: bool | None = None


def number(value: float) -> str:
    """Give three figures.

    >>> number(0.01234), number(1234.5), number(12.34)
    ('0.0123', '1,234', '12.3')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def seconds(action: Callable[[], object]) -> float:
    """Time one call."""
    before = time.perf_counter()
    action()
    return time.perf_counter() - before


def in_turns(*measures: Callable[[], float], turns: int) -> list[list[float]]:
    """Take each measure once a turn, after one turn that does not count; every other turn backwards."""
    taken: list[list[float]] = [[] for _ in measures]
    for turn in range(turns + 1):
        order = range(len(measures)) if turn % 2 else reversed(range(len(measures)))
        for index in order:
            value = measures[index]()
            if turn:
                taken[index].append(value)
    return taken


def compare(
    name: str,
    ours: Callable[[], float],
    baseline: str,
    theirs: Callable[[], float],
    *,
    turns: int,
    unit: str = "ms",
    scale: float = 1000.0,
    most: float | None = None,
) -> Figure:
    """Time two things in turns; `most` is the absolute aim for ours, in the unit."""
    mine, base = in_turns(ours, theirs, turns=turns)
    return figure(
        name, baseline, [scale * x for x in mine], [scale * x for x in base], unit=unit,
        aim=f"at most {number(most)} {unit}" if most is not None else "none",
        met=None if most is None else statistics.median(mine) * scale <= most,
    )  # fmt: skip


def figure(
    name: str, baseline: str, ours: Sequence[float], theirs: Sequence[float], *, unit: str, aim: str, met: bool | None
) -> Figure:
    """Make a line from measurements that were taken in turns, with the load of the machine at their end."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    spreads = Spread.of(ours), Spread.of(theirs), Spread.of(ratios)
    return Figure(name, unit, spreads[0], baseline, spreads[1], spreads[2], os.getloadavg()[0], aim, met)


def environment(**more: str) -> dict[str, str]:
    """Give the environment of a child: bytecode is kept, and no setting of the caller's reaches it."""
    dropped = ("TRILHO_", "AIP_", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)} | more


def run(command: Sequence[str], env: dict[str, str], folder: Path = ROOT) -> float:
    """Run a command to its end and give its seconds. Raises CalledProcessError when it fails."""
    return seconds(
        lambda: subprocess.run(
            command, env=env, cwd=folder, check=True, capture_output=True, stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
        )
    )  # fmt: skip


def table(figures: Sequence[Figure]) -> list[str]:
    """Lay figures out in columns."""
    met = {True: "met", False: "NOT MET", None: ""}
    rows = [("what", "unit", "median (min to max)", "baseline", "median (min to max)", "ratio", "load", "aim", "")]
    rows += [
        (f.name, f.unit, str(f.ours), f.baseline, str(f.theirs), f"{f.ratio} x", f"{f.load:.2f}", f.aim, met[f.met])
        for f in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
