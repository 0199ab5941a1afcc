"""Write the corpus: notebooks as messy as real ones are, each in a folder with its data.

    python tests/notebooks/corpus.py OUT [NAME ...]

Any Python will do; the same bytes come out everywhere. `sources/NAME.nb` holds a notebook's cells, `expected.json` what
is to be expected of it, `outputs.json` the outputs that are saved in it. `--record` runs the cells plainly, in the
interpreter of tests/notebooks/.venv, and renews `outputs.json` and the figures in `expected.json`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))  # when run as a script

from tests.notebooks.tables import write_table  # noqa: E402

PYTHON = HERE / ".venv" / "bin" / "python"
MARKER = re.compile(r"#%% (code|markdown|raw)(?: (\d+))?")


def names() -> list[str]:
    """Give the names of all notebooks."""
    return sorted(expected())


def expected() -> dict[str, dict[str, Any]]:
    """Give what is to be expected of each notebook, by name.

    `form` lists the forms of project that are right ("refused" for none), `metrics` every metric of the model that is
    evaluated, `metric` the one that heads, `model` the name of the one that is shipped, `main` the table whose rows are
    served, `lags` the features made of other rows, `findings` rules that must be found.
    """
    table: dict[str, dict[str, Any]] = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
    return table


def write_notebook(out: Path, name: str) -> Path:
    """Write one notebook and its data into OUT/NAME, and give the notebook's path."""
    wanted = expected()[name]
    folder = out / name
    for table in wanted["tables"]:
        write_table(folder / "data", table)
    outputs = (
        json.loads((HERE / "outputs.json").read_text(encoding="utf-8")) if (HERE / "outputs.json").exists() else {}
    )
    path = folder / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook = {"cells": list(_cells(name, outputs.get(name, {}))), "metadata": _metadata(), "nbformat": 4,
                "nbformat_minor": 4}  # fmt: skip
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _cells(name: str, outputs: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Read a source: every cell begins with its marker, which has the saved execution count."""
    cells: list[dict[str, Any]] = []
    for line in (HERE / "sources" / f"{name}.nb").read_text(encoding="utf-8").splitlines():
        marker = MARKER.fullmatch(line)
        if marker is None:
            cells[-1]["source"].append(line)
            continue
        cell: dict[str, Any] = {"cell_type": marker[1], "metadata": {}, "source": []}
        if marker[1] == "code":
            cell |= {
                "execution_count": int(marker[2]) if marker[2] else None,
                "outputs": outputs.get(str(len(cells)), []),
            }
        cells.append(cell)
    for cell in cells:
        cell["source"] = [f"{line}\n" for line in cell["source"][:-1]] + cell["source"][-1:]
    return cells


def _metadata() -> dict[str, Any]:
    return {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python",
                              "version": "3.11.7"}}  # fmt: skip


def run_plainly(folder: Path, chosen: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Write notebooks and run their cells in their own environment, nothing of trilho's near.

    Gives of each its `values`, by metric, its `outputs`, by cell, its `error` and its `seconds`.
    """
    chosen, table = list(chosen), expected()
    requests = [(str(write_notebook(folder, name)), table[name]) for name in chosen]
    told = subprocess.run(
        [str(PYTHON), str(HERE / "plain.py"), json.dumps(requests)],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if told.returncode:
        raise RuntimeError(told.stderr[-2000:])
    return dict(zip(chosen, map(json.loads, told.stdout.splitlines()), strict=True))


def record() -> None:
    """Run everything, and keep the outputs and figures."""
    table = expected()
    with tempfile.TemporaryDirectory() as scratch:
        told = run_plainly(Path(scratch), table)
    for name, wanted in table.items():
        values = told[name]["values"]
        wanted["metrics"] = {metric: values[metric] for metric in wanted.get("expressions", {})}
        sys.stdout.write(f"{name:12s} {told[name]['seconds']:5.1f} s  {wanted['metrics'] or told[name]['error']}\n")
    outputs = {name: found["outputs"] for name, found in told.items()}
    for file, data in (("outputs.json", outputs), ("expected.json", table)):
        (HERE / file).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Do what the command line says."""
    if arguments == ["--record"]:
        record()
        return 0
    if not arguments:
        sys.stdout.write(__doc__ or "")
        return 2
    for name in arguments[1:] or names():
        sys.stdout.write(f"{write_notebook(Path(arguments[0]), name)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
