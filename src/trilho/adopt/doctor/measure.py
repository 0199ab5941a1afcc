"""The metric's honest change: the notebook as it is and as patched, both really run in its own environment."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from trilho.adopt.doctor.notebook_file import with_sources
from trilho.adopt.doctor.patch import Patch
from trilho.adopt.doctor.report import Change
from trilho.adopt.notebook import Notebook, read_notebook
from trilho.adopt.trace import Trace

Run = Callable[[Notebook, Path], Trace]


def measure(notebook: Notebook, patch: Patch, before: Trace, run: Run) -> tuple[list[Change], str]:
    """Run the patched notebook where the notebook lies, and compare; gives what changed, or why it can't be told."""
    with tempfile.TemporaryDirectory(prefix="trilho-doctor-") as folder:
        path = Path(folder) / notebook.path.name
        shutil.copyfile(notebook.path, path)
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        path.write_text(with_sources(notebook, text, patch.sources), encoding="utf-8", errors="surrogateescape")
        patched = dataclasses.replace(read_notebook(path), path=notebook.path)
        after = run(patched, Path(folder) / "scratch")
    failed = next((one for one in after.statements if one.state == "failed"), None)
    if failed is not None:
        gaps = "; what the training rows do not have has no value now" if "NaN" in failed.error else ""
        return [], f"the patched notebook fails: {failed.error.splitlines()[0]}{gaps}"
    old, new = metrics_of(before), metrics_of(after)
    changes = [Change(name, old[name], new[name]) for name in old if name in new]
    return changes, "" if changes else "the notebook computes no metric that can be compared"


def metrics_of(trace: Trace) -> dict[str, float]:
    """Give the last value of each metric that is one number."""
    found: dict[str, float] = {}
    for call in sorted(trace.metrics, key=lambda call: call.order):
        try:
            number = float((call.result.literal or "").removeprefix("np.float64(").removesuffix(")"))
        except ValueError:
            continue
        found[call.function.rpartition(".")[2]] = number
    return found
