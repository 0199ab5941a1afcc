"""How long profiles take: a reference and a profile of Parquet files, beside a plain scan of the same file.

Each is a process of its own, whose largest resident memory is part of the figure. The plain scan is DuckDB's: it reads
every column (a sum of each number, a length of each text) and keeps nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import ROOT, Figure, Spread

TURNS = 3
SMALL, LARGE = 1_000_000, 10_000_000
MEGABYTES = 300.0
SECONDS = 2.0
NUMBERS = (
    "sqrt(-2 * ln(1 - random())) * cos(6.28318530718 * random())",
    "exp(sqrt(-2 * ln(1 - random())) * cos(6.28318530718 * random()))",
    "random() * 1000",
    "round(random() * 200)",
)
TOLD = "import resource; told['mb'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024"
SCAN = """
import json, time, duckdb
began, told = time.perf_counter(), {{}}
numbers = ", ".join(f"sum(n{{k}})" for k in range(20))
texts = ", ".join(f"sum(strlen(c{{k}}))" for k in range(10))
connection = duckdb.connect()
connection.execute("SET enable_progress_bar = false")
for path in ("{reference}", "{current}"):
    connection.execute(f"SELECT {{numbers}}, {{texts}} FROM '{{path}}'").fetchall()
told["seconds"] = time.perf_counter() - began
"""
BOTH = """
import json, time
from trilho.watch import Reference
began, told = time.perf_counter(), {{}}
reference = Reference.fit("{reference}")
fitted = time.perf_counter()
counts = reference.profile("{current}")
told["seconds"] = time.perf_counter() - began
told["profile"] = time.perf_counter() - fitted
assert sum(int(x.sum()) for x in counts.values()) == {rows} * 30
"""
SAVED = """
import json, time
from trilho.watch import Reference
began, told = time.perf_counter(), {{}}
reference = Reference.from_json(open("{saved}").read())
reference.profile("{current}")
told["seconds"] = time.perf_counter() - began
"""


def profiling() -> list[Figure]:
    """Time both sizes: end to end, and with the reference saved."""
    return [figure for rows in (SMALL, LARGE) for figure in _profiling(rows)]


def _profiling(rows: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        names = {name: str(Path(folder, f"{name}.parquet")) for name in ("reference", "current")}
        for seed, path in enumerate(names.values(), 1):
            _write(path, rows, seed)
        saved = Path(folder, "reference.json")
        made = f"from trilho.watch import Reference; print(Reference.fit({names['reference']!r}).to_json())"
        saved.write_text(_run(made), encoding="utf-8")
        about = {**names, "rows": str(rows), "saved": str(saved)}
        load = os.getloadavg()[0]
        turns = [[_told(text.format(**about)) for text in (SCAN, BOTH, SAVED)] for _ in range(TURNS)]
    return _figures(rows, turns, load)


def _figures(rows: int, turns: list[list[dict[str, float]]], load: float) -> list[Figure]:
    scans = Spread.of([scan["seconds"] for scan, _, _ in turns])
    half = Spread.of([scan["seconds"] / 2 for scan, _, _ in turns])
    both, saved = (Spread.of([turn[k]["seconds"] for turn in turns]) for k in (1, 2))
    ratio = Spread.of([both["seconds"] / scan["seconds"] for scan, both, _ in turns])
    saved_ratio = Spread.of([saved["seconds"] * 2 / scan["seconds"] for scan, _, saved in turns])
    memory = Spread.of([both["mb"] for _, both, _ in turns])
    small, what = rows == SMALL, f"2 x {rows // 1_000_000}M rows x 30 columns of Parquet"
    aim = f"at most {SECONDS:g} s" if small else "at most 1.2 times a plain scan"
    met = both.median <= SECONDS if small else ratio.median <= 1.2
    saved_met = saved.median <= SECONDS / 2 if small else saved.median <= 0.6 * scans.median
    none = Spread.of([1.0])
    return [
        Figure(f"{what}: fit and profile", "s", both, "a plain scan of both", scans, ratio, load, aim, met),
        Figure(f"{what}: reference saved", "s", saved, "a plain scan of one", half, saved_ratio, load,
               "half of that", saved_met),
        Figure(f"{what}: largest memory", "MB", memory, "none", none, none, load, f"at most {MEGABYTES:g} MB",
               memory.high <= MEGABYTES),
    ]  # fmt: skip


def _write(path: str, rows: int, seed: int) -> None:
    """Write 20 columns of numbers and 10 of texts, the last of 10,000 values, some of all null."""
    numbers = [f"CASE WHEN random() < .01 THEN NULL ELSE {NUMBERS[k % 4]} END AS n{k}" for k in range(20)]
    texts = [f"'v' || floor({10 + 5 * k} * random() * random())::INT AS c{k}" for k in range(9)]
    columns = ", ".join([*numbers, *texts, "'item-' || floor(10000 * random())::INT AS c9"])
    told = f"COPY (SELECT {columns} FROM range({rows})) TO '{path}' (FORMAT parquet)"
    _run(f"import duckdb; c = duckdb.connect(); c.execute('SELECT setseed(.{seed})'); c.execute({told!r})")


def _told(text: str) -> dict[str, float]:
    told: dict[str, float] = json.loads(_run(f"{text}\n{TOLD}\nprint(json.dumps(told))"))
    return told


def _run(code: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'runtime' / 'src'}"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    return ran.stdout
