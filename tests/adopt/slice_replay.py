"""For developers: plan a captured notebook, write a crude package of the plan, and hold it to what the run left.

    python tests/adopt/slice_replay.py NOTEBOOK SCRATCH [--show] [--form FORM]

The package is run by the interpreter that the trace names, on the frozen read.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from trilho.adopt.emit.modules import write_modules
from trilho.adopt.notebook import read_notebook
from trilho.adopt.plan import Choice, Plan
from trilho.adopt.slice.choose import choose
from trilho.adopt.slice.slice import FORMS, make_plan
from trilho.adopt.trace import Trace, load_trace

RUN = Path(__file__).with_name("slice_replay_run.py")


def replay(plan: Plan, choice: Choice, trace: Trace, scratch: Path, python: str, folder: Path) -> dict[str, Any]:
    """Write the package of a plan, run it, and give what was compared."""
    package = folder / plan.package
    (package / "tables").mkdir(parents=True, exist_ok=True)
    for name, text in write_modules(plan, choice, trace).items():
        (package / name).write_text(text, encoding="utf-8")
    reads = {read.id: read for read in trace.reads}
    for lookup in plan.lookups:
        source = scratch / reads[lookup.read].file
        (package / "tables" / f"{lookup.name}{source.suffix or '.csv'}").write_bytes(source.read_bytes())
    everything = bool(plan.train_only and (choice.refitted or choice.split.kind == "none"))
    facts = {
        "package": plan.package, "form": plan.form, "target": choice.target.column, "task": choice.task,
        "split_in_fit": plan.split_in_fit or everything, "read": str(scratch / reads[choice.main_read].file),
        "metrics": {m.name: m.value for m in choice.metrics}, "scratch": str(scratch), "unlike": list(plan.unlike),
        "golden": [vars(g) for g in trace.golden if g.object == choice.shipped],
        "fit": choice.shipped_fit, "lags": bool(choice.lags),
    }  # fmt: skip
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    done = subprocess.run([python, str(RUN), str(folder)], capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        return {"error": done.stderr[-3000:]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    """Replay one notebook."""
    parser = argparse.ArgumentParser()
    parser.add_argument("notebook", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--form", default="")
    given = parser.parse_args()
    notebook, trace = read_notebook(given.notebook), load_trace(given.scratch)
    choice = choose(notebook, trace, scratch=given.scratch)
    allowed = [form for form in FORMS if given.form in ("", form)]
    plan = make_plan(notebook, trace, choice, name="project", allowed=allowed, scratch=given.scratch)
    with tempfile.TemporaryDirectory() as folder:
        found = replay(plan, choice, trace, given.scratch, trace.python, Path(folder))
        if given.show:
            for path in sorted(Path(folder).rglob("*.py")):
                sys.stdout.write(f"##### {path.name}\n{path.read_text()}\n")
    told = found.get("error") or json.dumps(found)
    sys.stdout.write(f"{plan.form} {[f.reason for f in plan.fallback]} {told}\n")
    return 1 if "error" in found else 0


if __name__ == "__main__":
    sys.exit(main())
