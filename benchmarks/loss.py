"""The loss detector's figures: how soon it alarms, how often for nothing, and how long a value takes.

    python -m benchmarks.loss [RUNS] [PYTHON THAT HAS river]

River has pins of its own: `python3 -m venv /tmp/river && /tmp/river/bin/pip install river`. Its ADWIN sees the same
losses. It has no run length to set; at its usual delta it is about as quiet as A = 1,000,000 here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
from numpy.typing import NDArray

from trilho.watch.loss import LossDetector

Floats = NDArray[np.float64]
Z = 1.959964
RATE, RUN_LENGTH = 0.1, 1e6
QUIET = (0, 1_000, 10_000)
CHANGED = (0.15, 0.20)
LONGEST = 20_000
ADWIN = """
import json, sys
import numpy as np
from river.drift import ADWIN
runs, quiet, rate = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
rows = []
for seed in range(runs):
    detector, rng = ADWIN(), np.random.default_rng([seed, 7])
    losses = np.concatenate([rng.random(quiet) < 0.1, rng.random(20000) < rate]) * 1.0
    for place, loss in enumerate(losses.tolist()):
        detector.update(loss)
        if detector.drift_detected and place >= quiet:
            break
    rows.append(place + 1 - quiet)
print(json.dumps(rows))
"""


def stream(seed: int, quiet: int, rate: float) -> Floats:
    """Give losses of which `rate` are 1 after so many quiet ones."""
    rng = np.random.default_rng([seed, 7])
    return np.concatenate([rng.random(quiet) < RATE, rng.random(LONGEST) < rate]) * 1.0


def delay(seed: int, quiet: int, rate: float) -> int:
    """Give the changed rows that it took to alarm."""
    losses, detector = stream(seed, quiet, rate), LossDetector(RATE, RUN_LENGTH)
    detector.update_many(losses[:quiet])
    found = detector.update_many(losses[quiet:])
    return LONGEST if found is None else found + 1


def false_alarms(seed: int, rows: int, run_length: float) -> int:
    """Count the alarms in so many losses whose mean is just what is allowed."""
    losses, detector = np.random.default_rng([seed, 99]).random(rows) < RATE, LossDetector(RATE, run_length)
    count, at = 0, 0
    while at < rows:
        found = detector.update_many(losses[at : at + 1000])
        count += found is not None
        at += 1000
    return count


def told(values: Floats) -> str:
    """Give a mean with its 95% interval."""
    half = Z * float(values.std(ddof=1)) / len(values) ** 0.5
    return f"{values.mean():.4g} ({values.mean() - half:.4g} to {values.mean() + half:.4g})"


def microseconds(detector: LossDetector, losses: Floats) -> float:
    """Give the time that a value takes, the middle of five."""
    found = []
    for _ in range(5):
        begun = time.perf_counter()
        detector.update_many(losses)
        found.append(time.perf_counter() - begun)
    return 1e6 * float(np.median(found)) / len(losses)


def main(runs: int, river: str | None) -> None:
    """Print the figures, a line each."""
    for rate in CHANGED:
        for quiet in QUIET:
            ours = np.array([delay(seed, quiet, rate) for seed in range(runs)], np.float64)
            print(f"{RATE} -> {rate}, {quiet} quiet rows before, A = {RUN_LENGTH:,.0f}: {told(ours)} rows", flush=True)
            if river and quiet:  # it only knows its own past
                command = [river, "-c", ADWIN, str(runs), str(quiet), str(rate)]
                rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                print(f"    ADWIN: {told(np.array(rows, np.float64))} rows", flush=True)
    counts = np.array([false_alarms(seed, 50_000, 10_000) for seed in range(runs)], np.float64) / 5
    print(f"false alarms per 10,000 rows at the limit, A = 10,000: {told(counts)}")
    rng = np.random.default_rng(0)
    zero_one, real = (rng.random(1_000_000) < RATE).astype(np.float64), rng.random(1_000_000)
    print(f"a value in bulk, 0 or 1: {microseconds(LossDetector(RATE, 1e12), zero_one):.2f} microseconds")
    print(f"a value in bulk, kappa .5: {microseconds(LossDetector(RATE, 1e12, kappa=0.5), zero_one):.2f} microseconds")
    print(f"a value in bulk, real: {microseconds(LossDetector(0.6, 1e12), real):.2f} microseconds")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300, sys.argv[2] if len(sys.argv) > 2 else None)
