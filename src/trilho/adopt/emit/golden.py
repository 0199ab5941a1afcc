"""What the tests of a project compare with: kept once, by running the project in the notebook's own interpreter."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trilho.adopt.emit.contract import is_personal_name
from trilho.adopt.plan import Choice, Plan
from trilho.adopt.trace import Golden, Trace
from trilho.errors import TrilhoError

HARNESS = Path(__file__).parent / "harness"
START = """
import sys, types
harness = sys.modules["harness"] = types.ModuleType("harness")
harness.__path__ = [sys.argv[1]]
from harness.golden import main
sys.exit(main(*sys.argv[2:]))
"""  # a package that no path of imports leads to
TIMEOUT_SECONDS = 3600


@dataclass(frozen=True)
class Observed:
    """What a first run of the project's own code showed."""

    facts: Mapping[str, Any]
    tables: Mapping[str, bytes]  # rows.parquet, features.parquet, fitted.npy


def observe(
    project: Path, plan: Plan, choice: Choice, trace: Trace, scratch: Path, data: Path, wanted: Sequence[str]
) -> Observed:
    """Run a project's load, features and model once. Raises TrilhoError with where its code failed."""
    with tempfile.TemporaryDirectory(prefix="trilho-golden-") as place:
        out = Path(place)
        request = out / "request.json"
        request.write_text(
            json.dumps(
                {
                    **_request(project, plan, choice, trace, scratch, data),
                    "distributions": [*wanted, "pyarrow", "pandas"],
                }
            ),
            encoding="utf-8",
        )
        command = [trace.python, "-c", START, str(HARNESS), str(request), str(out)]
        try:
            done = subprocess.run(
                command, cwd=out, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise TrilhoError(f"the project's own code did not end within {TIMEOUT_SECONDS // 60} minutes") from None
        if done.returncode:
            raise TrilhoError(f"the project's code failed on the notebook's data: {_last(done.stderr, project)}",
                              hint="the notebook has code that could not be taken apart: name its model with --model"
                              )  # fmt: skip
        facts = json.loads((out / "facts.json").read_bytes())
        kept = sorted(path for path in out.iterdir() if path.suffix in (".parquet", ".npy"))
        tables = {path.name: path.read_bytes() for path in kept}
        return Observed(facts, tables)


def _last(stderr: str, project: Path) -> str:
    """Give the error, and the last line of the project's own code that led to it."""
    lines = stderr.strip().splitlines()
    where = [line.strip() for line in lines if f'File "{project}' in line]
    place = where[-1].replace(f"{project}/", "") if where else ""
    return f"{lines[-1] if lines else 'no word'}{f' ({place})' if place else ''}"


def _request(project: Path, plan: Plan, choice: Choice, trace: Trace, scratch: Path, data: Path) -> dict[str, Any]:
    read = next(read for read in trace.reads if read.id == choice.main_read)
    fit = next((fit for fit in trace.fits if fit.id == choice.shipped_fit), None)
    kept = _kept(choice, trace)
    shipped = next((o for o in trace.objects if o.id == choice.shipped), None)
    build = plan.features[-1] if plan.features and plan.form != "whole" else None
    return {
        "src": str(project / "src"), "package": plan.package, "data": str(data), "scratch": str(scratch),
        "digest": read.digest, "read_rows": read.value.rows,
        "fit_all": plan.split_in_fit or bool(plan.train_only and (choice.refitted or choice.split.kind == "none")),
        "target": choice.target.column, "time": choice.time, "key": choice.key,
        "needed": list(plan.columns) if plan.columns is not None else list(read.value.columns or []),
        "personal": [name for name in read.value.columns or [] if is_personal_name(name)],
        "build": "" if build is None else "build(df)" if len(build.parameters) == 1 else "build(df, state)",
        "X": fit.X.value.file if fit is not None and fit.X is not None and not plan.unlike_fit else "",
        "predictions": kept.file if kept is not None and not plan.unlike_fit else "",
        "positions": kept.positions if kept is not None and kept.read in (None, choice.main_read) else "",
        "column": _column(choice, shipped.classes if shipped is not None else None),
        "object": shipped.file if shipped is not None and plan.predict is None else "",
        "processed": plan.predict is not None or bool(choice.target.transform),
        "form": plan.form, "batch_only": bool(choice.lags),
        "past": _past(plan, choice),
        "state": list(plan.state), "literals": _literals(plan, choice, trace),

    }  # fmt: skip


def _past(plan: Plan, choice: Choice) -> dict[str, Any] | None:
    if plan.past is None:
        return None
    return {"entity": list(plan.past.entity), "rows": plan.past.rows, "time": choice.time}


def _kept(choice: Choice, trace: Trace) -> Golden | None:
    """Find what the shipped model predicts for the rows of its last fit."""
    found = [g for g in trace.golden if g.object == choice.shipped and g.event == "fit" and g.id == choice.shipped_fit]
    wanted = ("predict_proba", "predict") if choice.task == "classification" else ("predict",)
    return min(
        (golden for golden in found if golden.method in wanted), key=lambda g: wanted.index(g.method), default=None
    )


def _column(choice: Choice, classes: list[str] | None) -> int:
    positive = choice.target.positive
    return classes.index(positive) if classes and positive in classes else 1


def _literals(plan: Plan, choice: Choice, trace: Trace) -> dict[str, str]:
    """Give the notebook's own values of the state, as they were when the model was fitted."""
    fit = next((fit for fit in trace.fits if fit.id == choice.shipped_fit), None)
    found: dict[str, str] = {}
    for statement in trace.statements:
        if fit is None or statement.id <= fit.statement:
            for name, value in statement.values.items():
                if name in plan.state:
                    found[name] = value.literal or ""
    return found
