"""What `trilho watch compare` decides and costs: `python -m benchmarks.comparing [rates] [levels] [cost] [peers]`.

- *rates*: over 200 seeds, of 25 columns 5 drifted, 10 drifted under the floor and 10 did not: how many are flagged?
- *levels*: how often the test of chance is wrong at 5% where there is no drift, for 2 to 10,000 values in a column.
- *cost*: 2 x 1 million rows x 30 columns in Parquet, the whole command: time, processor time, memory.
- *peers*: the same files by other tools, each in an environment of its own (see `benchmarks.servers`), which is made in
  the folder that TRILHO_BENCH_DRIFT names. What each flags without drift and with a planted one stands beside.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import ROOT, environment
from trilho.watch.comparison.decision import FLOOR, RATE, chance, decide
from trilho.watch.comparison.gamma import gamma_quantile

Floats = NDArray[np.float64]
SEEDS = 200
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
TRUE, SMALL = 5, 10
TRIALS = 4000
LEVEL_SIZES = (1_000, 10_000, 100_000, 1_000_000)
NUMBERS, CATEGORIES = 20, (2, 3, 5, 8, 12, 20, 40, 100, 1_000, 10_000)
ROWS = 1_000_000
FOLDER_VARIABLE = "TRILHO_BENCH_DRIFT"
PEERS = {
    "evidently": ("evidently", "pandas<3", "pyarrow"),
    "whylogs": ("whylogs[viz]", "ipython", "pandas<3", "numpy<2", "pyarrow<20"),
    "nannyml": ("nannyml", "statsmodels", "pandas<3", "pyarrow"),
    "frouros": ("frouros", "pandas", "pyarrow"),
    "alibi-detect": ("alibi-detect", "pandas<3", "pyarrow<20"),
}
"""What is installed for each: with the newest pandas or numpy most of them do not import."""
PATIENCE_SECONDS = 900


def world(seed: int) -> list[tuple[Floats, Floats]]:
    """Give 25 columns as bins' probabilities before and now: 5 that drifted, 10 under the floor, 10 that did not."""
    draw = np.random.default_rng([7, seed])
    twenty, skewed = np.full(20, 1 / 20), draw.dirichlet(np.full(39, 0.5))
    true = [
        (twenty, _shifted(twenty, 0.1)),
        (twenty, _shifted(twenty, 0.2)),
        (skewed, _moved(skewed, int(np.argmax(skewed)), 0.05)),
        (_moved(twenty, 0, 0.01), _moved(twenty, 0, 0.05)),
        (np.full(10, 0.1), _moved(np.full(10, 0.1), 3, 0.06)),
    ]
    small = [(twenty, _shifted(twenty, size)) for size in draw.uniform(0.005, 0.03, 5)]
    small += [(skewed, _moved(skewed, int(np.argmax(skewed)), size)) for size in draw.uniform(0.001, 0.012, 5)]
    same = [(p, p) for p in [*draw.dirichlet(np.full(10, 1.0), 5), *draw.dirichlet(np.full(39, 0.3), 5)]]
    return [*true, *small, *same]


def _shifted(p: Floats, by: float) -> Floats:
    """Move the mass of ordered bins as a normal score that shifts by so many standard deviations would."""
    normal = NormalDist()
    ends = [normal.cdf(normal.inv_cdf(x) - by) for x in np.cumsum(p)[:-1]]
    return np.asarray(np.diff([0.0, *ends, 1.0]))


def _moved(p: Floats, place: int, by: float) -> Floats:
    """Let one value take so much of all, from the others in proportion."""
    out = p * (1 - by / (1 - p[place]))
    out[place] = p[place] + by
    return np.asarray(out, np.float64)


def rates(seeds: int = SEEDS, sizes: Sequence[int] = SIZES) -> list[str]:
    """Count right and false flags."""
    lines = ["rows of each | strict | true found of 5 | flagged under the floor of 10 | flagged unmoved of 10 | "
             "share of flags that are false, 95% interval"]  # fmt: skip
    for rows in sizes:
        for strict in (False, True):
            flags = np.array([_flags(seed, rows, strict=strict) for seed in range(seeds)])
            true, small, same = flags[:, :TRUE], flags[:, TRUE : TRUE + SMALL], flags[:, TRUE + SMALL :]
            false = flags[:, TRUE:].sum(1) / np.maximum(flags.sum(1), 1)
            error = 1.96 * float(false.std(ddof=1)) / seeds**0.5
            wrong = int(flags[:, TRUE:].sum())
            most = gamma_quantile(wrong + 1, 0.975) / max(int(flags.sum()), 1)
            lines.append(
                f"{rows:,} | {'strict' if strict else 'usual'} | {true.sum(1).mean():.2f} | "
                f"{small.sum(1).mean():.3f} | "
                f"{same.sum(1).mean():.3f} | {false.mean():.4f} ({max(false.mean() - error, 0):.4f} to "
                f"{max(false.mean() + error, most):.4f}), stated {RATE}"
            )
    return lines


def _flags(seed: int, rows: int, *, strict: bool) -> list[bool]:
    draw = np.random.default_rng([11, seed, rows])
    pairs = [(draw.multinomial(rows, p), draw.multinomial(rows, q)) for p, q in world(seed)]
    return [one.drifted for one in decide(pairs, rate=RATE, floor=FLOOR, strict=strict)]


def levels(trials: int = TRIALS, sizes: Sequence[int] = LEVEL_SIZES) -> list[str]:
    """Count false answers of the test alone, on tables without drift."""
    lines = ["values | shares | rows of each | false at 5% | false at 1% | standard error at 5%"]
    for values in (2, 10, 1_000, 10_000):
        for shape in ("equal", "Zipf"):
            weight = np.ones(values) if shape == "equal" else 1 / np.arange(1, values + 1)
            for rows in sizes:
                draw, times = np.random.default_rng([13, values, rows]), trials if values < 10_000 else trials // 8
                p = weight / weight.sum()
                found = np.array([chance(draw.multinomial(rows, p), draw.multinomial(rows, p)) for _ in range(times)])
                error = (0.05 * 0.95 / times) ** 0.5
                lines.append(
                    f"{values:,} | {shape} | {rows:,} | {np.mean(found <= 0.05):.4f} | {np.mean(found <= 0.01):.4f} | "
                    f"{error:.4f}"
                )
    return lines


@contextmanager
def tables(rows: int = ROWS) -> Iterator[tuple[Path, Path, Path]]:
    """Make three Parquet tables of 20 numbers and 10 categories: one, one like it, and one with 3 drifted columns."""
    with tempfile.TemporaryDirectory(prefix="trilho-comparing-") as name:
        folder = Path(name)
        made = [folder / f"{name}.parquet" for name in ("reference", "same", "drifted")]
        for place, path in enumerate(made):
            _write(path, rows, seed=place, drifted=path.stem == "drifted")
        yield made[0], made[1], made[2]


def _write(path: Path, rows: int, *, seed: int, drifted: bool) -> None:
    import duckdb

    normal = "sqrt(-2 * ln(random() + 1e-12)) * cos(2 * pi() * random())"
    numbers = [f"{normal}{' + 0.2' if drifted and i == 3 else ''} AS n{i}" for i in range(NUMBERS)]
    categories = [
        f"'c' || CAST(FLOOR({_chosen(values, drifted=drifted and values in (8, 10_000))}) AS INT) AS c{values}"
        for values in CATEGORIES
    ]
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.execute(f"SELECT setseed({0.1 + 0.2 * seed})")
        connection.execute(f"COPY (SELECT {', '.join([*numbers, *categories])} FROM range({rows})) TO '{path}'")


def _chosen(values: int, *, drifted: bool) -> str:
    usual = f"random() * random() * {values}"
    return f"(CASE WHEN random() < 0.05 THEN {values - 1} ELSE {usual} END)" if drifted else usual


def measured(command: Sequence[str]) -> tuple[float, float, float, str]:
    """Run a command; give its seconds, its processor seconds, its memory in MB, and what it printed."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment(), cwd=ROOT)
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        out.seek(0)
        err.seek(0)
        if status:
            lines = err.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(lines[-1] if lines else f"it ended with {status}")
        return took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, out.read().decode()


def cost(turns: int = 5) -> list[str]:
    """Measure the whole command, and beside it a bare DuckDB scan of the same two files."""
    lines = ["what | seconds, median (min to max) | processor seconds | MB | load"]
    with tables() as (reference, same, drifted):
        command = [sys.executable, "-m", "trilho", "watch", "compare", str(reference), str(drifted), "--json"]
        scan = [sys.executable, "-c", SCAN, str(reference), str(drifted)]
        for name, run in (("trilho watch compare", command), ("a plain scan of both files", scan)):
            found = [measured(run) for _ in range(turns)]
            wall = sorted(x[0] for x in found)
            lines.append(
                f"{name} | {wall[turns // 2]:.2f} ({wall[0]:.2f} to {wall[-1]:.2f}) | "
                f"{sorted(x[1] for x in found)[turns // 2]:.2f} | {max(x[2] for x in found):.0f} | "
                f"{os.getloadavg()[0]:.1f}"
            )
        lines.append(f"flagged between reference and drifted: {json.loads(measured(command)[3])['drifted']}")
        command[-2] = str(same)
        lines.append(f"flagged between reference and another like it: {json.loads(measured(command)[3])['drifted']}")
    return lines


SCAN = """
import duckdb, sys
for path in sys.argv[1:]:
    names = [row[0] for row in duckdb.sql(f"DESCRIBE FROM '{path}'").fetchall()]
    duckdb.sql("SELECT " + ", ".join(f'MIN("{n}")' for n in names) + f" FROM '{path}'").fetchall()
"""


def peers(rows: int = ROWS) -> list[str]:
    """Run the other tools on the same files, once each."""
    folder = Path(os.environ.get(FOLDER_VARIABLE, Path(tempfile.gettempdir()) / "trilho-drift-peers"))
    lines = [
        f"{rows:,} rows of each, 30 columns | seconds | processor seconds | MB | flagged unmoved | flagged drifted of 3"
    ]
    with tables(rows) as (reference, same, drifted):
        ours = [sys.executable, "-m", "trilho", "watch", "compare"]
        lines.append(_beside("trilho", [*ours, str(reference)], same, drifted, ["--json"]))
        for name in PEERS:
            try:
                python = _installed(name, folder)
                script = str(ROOT / "benchmarks" / "drift_peers" / f"{name.replace('-', '_')}_script.py")
                lines.append(_beside(name, ["timeout", "400", str(python), script, str(reference)], same, drifted, []))
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                lines.append(f"{name} | not measured: {str(error)[:160]}")
    return lines


def _beside(name: str, command: list[str], same: Path, drifted: Path, options: list[str]) -> str:
    quiet = json.loads(measured([*command, str(same), *options])[3].splitlines()[-1])["drifted"]
    took, used, memory, said = measured([*command, str(drifted), *options])
    found = json.loads(said.splitlines()[-1])["drifted"]
    planted = {"n3", "c8", "c10000"}
    extra = len(set(found) - planted)
    return (
        f"{name} | {took:.1f} | {used:.1f} | {memory:.0f} | {len(quiet)} of 30, and {extra} of 27 beside the drifted | "
        f"{len(planted & set(found))}"
    )


def _installed(name: str, folder: Path) -> Path:
    place = folder / name
    python = place / "bin" / "python"
    if not python.exists():
        uv = os.environ.get("UV") or shutil.which("uv") or "uv"
        folder.mkdir(parents=True, exist_ok=True)
        real = str(Path(sys.executable).resolve())
        for command in (
            [uv, "venv", "--quiet", "--python", real, str(place)],
            [uv, "pip", "install", "--quiet", "--python", str(python), *PEERS[name]],
        ):
            subprocess.run(command, check=True, capture_output=True, env=environment(), timeout=PATIENCE_SECONDS)
    return python


GROUPS: dict[str, Callable[[], list[str]]] = {"rates": rates, "levels": levels, "cost": cost, "peers": peers}


def main(words: list[str]) -> int:
    """Print what was asked for, all but the peers by default."""
    unknown: list[Any] = [word for word in words if word not in GROUPS]
    if unknown:
        print(f"no group {unknown[0]}; there are: {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    for name in words or ("rates", "levels", "cost"):
        print("", name, *GROUPS[name](), sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
