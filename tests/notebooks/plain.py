"""Run notebooks' cells one after the other, as plainly as can be, and tell their metrics: the tests' own measure.

    python plain.py REQUESTS_JSON

Nothing of trilho's is used. A request is [notebook, what is expected of it]; every notebook gets a process of its own,
forked when the big libraries are imported. For each one line of JSON is printed: values of the metrics' expressions,
saved outputs by cell, and the error that ended the run, if one did.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import json
import os
import re
import sys
import time
import types
from pathlib import Path
from typing import Any

LIMIT = 3000
SHARED = ("matplotlib.pyplot", "pandas", "sklearn.ensemble", "sklearn.model_selection", "sklearn.linear_model")


def main(requests: list[tuple[str, dict[str, Any]]]) -> None:
    """Run each notebook in a child."""
    importlib.import_module("matplotlib").use("Agg")
    for name in SHARED:
        importlib.import_module(name)
    for path, wanted in requests:
        child = os.fork()
        if child == 0:
            os.chdir(Path(path).parent)
            told = run(Path(path), wanted)
            os.write(1, f"{json.dumps(told)}\n".encode())
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"{path} ended its process")


def run(path: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Run one notebook here, in a namespace that is `__main__`."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [(at, cell) for at, cell in enumerate(cells) if cell["cell_type"] == "code"]
    if wanted.get("order") == "counts":
        code = sorted(
            (pair for pair in code if pair[1]["execution_count"]), key=lambda pair: pair[1]["execution_count"]
        )
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    names = module.__dict__
    names["display"] = print
    if wanted.get("bigquery"):
        stand_in(wanted["bigquery"])
    outputs: dict[str, list[dict[str, Any]]] = {}
    error, started = "", time.perf_counter()
    for at, cell in code:
        outputs[str(at)], error = run_cell(python_of("".join(cell["source"])), names, cell["execution_count"])
        if error:
            break
    values = (
        {name: float(eval(text, names)) for name, text in wanted.get("expressions", {}).items()} if not error else {}
    )
    return {"values": values, "outputs": {at: out for at, out in outputs.items() if out}, "error": error,
            "seconds": round(time.perf_counter() - started, 2)}  # fmt: skip


def run_cell(code: str, names: dict[str, Any], count: int | None) -> tuple[list[dict[str, Any]], str]:
    """Run one cell; gives its outputs as a notebook keeps them, and an error."""
    tree = ast.parse(code)
    last = tree.body[-1] if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    tree.body = tree.body[:-1] if last is not None else tree.body
    printed, value, error = io.StringIO(), None, ""
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        try:
            exec(compile(tree, "<cell>", "exec"), names)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
        except Exception as problem:  # noqa: BLE001  a notebook may fail in any way
            error = f"{type(problem).__name__}: {problem}"
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": printed.getvalue()[:LIMIT].splitlines(True)})
    shown = "" if value is None or code.rstrip().endswith(";") else repr(value)
    if shown and "0x" not in shown and count is not None:
        outputs.append({"output_type": "execute_result", "execution_count": count, "metadata": {},
                        "data": {"text/plain": shown[:LIMIT].splitlines(True)}})  # fmt: skip
    if error:
        kind, _, said = error.partition(": ")
        outputs.append({"output_type": "error", "ename": kind, "evalue": said, "traceback": [error]})
    return outputs, error


def python_of(source: str) -> str:
    """Take magics away; the one that reads from BigQuery becomes the call that it stands for."""
    first, _, rest = source.partition("\n")
    if first.startswith("%%bigquery"):
        return f"{first.split()[1]} = client.query({rest!r}).to_dataframe()"
    lines = [line for line in source.split("\n") if not re.match(r"\s*[%!]|\w+\?$", line)]
    return "\n".join(lines)


def stand_in(tables: dict[str, str]) -> None:
    """Let BigQuery's client answer from files."""
    pandas, bigquery = importlib.import_module("pandas"), importlib.import_module("google.cloud.bigquery")

    class Job:
        def __init__(self, sql: str) -> None:
            self.sql = sql

        def to_dataframe(self) -> Any:
            frame = pandas.read_csv(tables[next(table for table in tables if table in self.sql)])
            chosen = re.search(r"SELECT(.*?)FROM", self.sql, re.S)
            frame = frame[[part.strip() for part in chosen[1].split(",")]] if chosen else frame
            order = re.search(r"ORDER BY (\w+)", self.sql)
            return frame.sort_values(order[1], ignore_index=True) if order else frame

    class Client:
        def __init__(self, project: str = "") -> None:
            self.project = project

        def query(self, sql: str) -> Job:
            return Job(sql)

    bigquery.Client = Client  # type: ignore[attr-defined]
    pandas.DataFrame.to_gbq = lambda *given, **words: None


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
