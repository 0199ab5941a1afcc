"""Other orchestrators at the same six small steps: `python -m benchmarks.peers [PATH OF dvc]`.

kfp.local runs where the tests' environment has the SDK. DVC needs one of its own, since its pins and ours differ:

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install dvc && python -m benchmarks.peers /tmp/peers/bin/dvc
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Figure, compare, environment, run, table
from benchmarks.pipelining import PYTHON, Bench, bench

STEP = """
import json, sys
name, *files = sys.argv[1:]
read, write = (lambda f: json.loads(open(f).read())), (lambda f, x: open(f, "w").write(json.dumps(x)))
if name == "load":
    write(files[0], list(range(1000)))
elif name == "split":
    rows = read(files[0]); write(files[1], rows[:750]); write(files[2], rows[750:])
elif name == "fit":
    rows = read(files[0]); write(files[1], sum(rows) / len(rows))
elif name == "predict":
    write(files[2], [read(files[0])] * len(read(files[1])))
elif name == "evaluate":
    write(files[2], sum(abs(a - b) for a, b in zip(read(files[0]), read(files[1]))))
else:
    write(files[2], [read(files[0]), read(files[1])])
"""
STAGES = {
    "load": ((), ("table",)),
    "split": (("table",), ("train", "test")),
    "fit": (("train",), ("model",)),
    "predict": (("model", "test"), ("predictions",)),
    "evaluate": (("predictions", "test"), ("error",)),
    "pack": (("model", "error"), ("package",)),
}
LOCAL = """
import shutil, sys, warnings
warnings.simplefilter("ignore")
from kfp import dsl, local
from kfp.dsl import Artifact, Input, Output
local.init(local.SubprocessRunner(use_venv=False), pipeline_root="root", raise_on_error=True)
c = dsl.component(base_image="python:3.11", install_kfp_package=False)
@c
def first(made: Output[Artifact]):
    open(made.path, "w").write("0")
@c
def more(given: Input[Artifact], made: Output[Artifact]):
    open(made.path, "w").write(open(given.path).read() + "1")
@dsl.pipeline
def six():
    last = first()
    for _ in range(5):
        last = more(given=last.outputs["made"])
six()
"""


@contextmanager
def dvc_project(dvc: str) -> Iterator[Path]:
    """Give a folder whose six stages DVC has run once."""
    with tempfile.TemporaryDirectory(prefix="trilho-bench-") as name:
        folder = Path(name)
        (folder / "step.py").write_text(STEP)
        run([dvc, "init", "--no-scm"], environment(), folder)
        for stage, (deps, outs) in STAGES.items():
            options = [word for file in ("step.py", *deps) for word in ("-d", file)]
            options += [word for file in outs for word in ("-o", file)]
            command = [str(PYTHON), "step.py", stage, *deps, *outs]
            run([dvc, "stage", "add", "-n", stage, *options, *command], environment(), folder)
        run([dvc, "repro"], environment(), folder)
        yield folder


def repeating(at: Bench, dvc: str) -> list[Figure]:
    """An unchanged run of six steps, whole process."""
    file = str(at.compiled("six"))
    at.trilho("pipeline", "run", file)
    with dvc_project(dvc) as folder:
        return [
            compare(
                "unchanged run of six steps", lambda: at.trilho("pipeline", "run", file),
                "dvc repro", lambda: run([dvc, "repro"], environment(DVC_NO_ANALYTICS="1"), folder), turns=7,
            ),
            compare(
                "six steps run", lambda: at.trilho("pipeline", "run", file, "--no-cache"),
                "dvc repro --force", lambda: run([dvc, "repro", "-f"], environment(DVC_NO_ANALYTICS="1"), folder),
                turns=5,
            ),
        ]  # fmt: skip


def local(at: Bench) -> list[Figure]:
    """Six components run by kfp.local in subprocesses, whole process."""
    (at.folder / "local.py").write_text(LOCAL)
    file = str(at.compiled("six"))
    return [
        compare(
            "six steps run", lambda: at.trilho("pipeline", "run", file, "--no-cache"),
            "kfp.local, SubprocessRunner", lambda: run([str(PYTHON), "local.py"], environment(), at.folder), turns=5,
        )
    ]  # fmt: skip


def main(arguments: list[str]) -> int:
    """Measure the peers that are there."""
    figures: list[Figure] = []
    with bench() as at:
        if importlib.util.find_spec("kfp") is not None:
            figures += local(at)
        if arguments and os.access(arguments[0], os.X_OK):
            figures += repeating(at, arguments[0])
    print(*table(figures) if figures else ["no peer is installed"], sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
