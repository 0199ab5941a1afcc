"""Pipelines on this machine: what a step costs, a run of which nothing has changed, compiling, a wide fan-out.

The baselines are plain Python doing the same work, the official SDK where it is installed, and processes that do
nothing. `python -m benchmarks.peers` measures other orchestrators, which need an environment of their own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, compare, environment, run, seconds
from trilho.backends.local.store import LocalStore
from trilho.pipeline.execution.execute import execute
from trilho.pipeline.ir.reader import load
from trilho.pipeline.places import Places
from trilho.pipeline.workers.keeper import AT_ONCE
from trilho.pipeline.workers.workers import Workers

STEP_MS, UNCHANGED_MS, COMPILE_MS, FAN_OUT_SECONDS = 50.0, 300.0, 300.0, 30.0
CHAIN, WIDE = 20, 500
PYTHON = Path(sys.executable)

STEPS = """
import json
from typing import NamedTuple
from trilho_runtime.step import In, Out, step

class Sizes(NamedTuple):
    rows: int
    share: float

@step
def add(n: int, more: int = 1) -> int:
    return n + more

@step
def load(table: Out, rows: int) -> int:
    table.path.write_text(json.dumps(list(range(rows))))
    return rows

@step
def split(table: In, train: Out, test: Out, share: float = 0.25) -> Sizes:
    rows = json.loads(table.path.read_text())
    cut = int(len(rows) * (1 - share))
    train.path.write_text(json.dumps(rows[:cut]))
    test.path.write_text(json.dumps(rows[cut:]))
    return Sizes(len(rows), share)

@step
def fit(train: In, model: Out) -> None:
    rows = json.loads(train.path.read_text())
    model.path.write_text(json.dumps({"mean": sum(rows) / len(rows)}))

@step
def predict(model: In, test: In, predictions: Out) -> None:
    mean = json.loads(model.path.read_text())["mean"]
    predictions.path.write_text(json.dumps([mean for _ in json.loads(test.path.read_text())]))

@step
def evaluate(predictions: In, test: In) -> float:
    pairs = zip(json.loads(predictions.path.read_text()), json.loads(test.path.read_text()))
    errors = [abs(a - b) for a, b in pairs]
    return sum(errors) / len(errors)

@step
def pack(model: In, package: Out, error: float) -> None:
    package.path.write_text(json.dumps([json.loads(model.path.read_text()), error]))
"""

PIPELINES = f"""
from trilho_runtime.pipeline import Collected, Item, Param, Pipeline, Value

def six():
    p = Pipeline("six", parameters={{"rows": 1000}})
    p.task("load", "bench.steps:load", rows=Param("rows"))
    p.task("split", "bench.steps:split", table="load.table")
    p.task("fit", "bench.steps:fit", train="split.train")
    p.task("predict", "bench.steps:predict", model="fit.model", test="split.test")
    p.task("evaluate", "bench.steps:evaluate", predictions="predict.predictions", test="split.test")
    p.task("pack", "bench.steps:pack", model="fit.model", error=Value("evaluate.output"))
    p.output("error", "evaluate.output")
    return p

def chain():
    p = Pipeline("chain")
    p.task("step0", "bench.steps:add", n=0)
    for index in range(1, {CHAIN}):
        p.task(f"step{{index}}", "bench.steps:add", n=Value(f"step{{index - 1}}.output"))
    p.output("n", "step{CHAIN - 1}.output")
    return p

def wide():
    p = Pipeline("wide")
    with p.each("number", over=list(range({WIDE}))):
        p.task("one", "bench.steps:add", n=Item("number"))
    p.output("numbers", Collected("one.output"))
    return p
"""

SDK = """
from typing import NamedTuple
from kfp import compiler, dsl
from kfp.dsl import Artifact, Input, Output
c = dsl.component(base_image="python:3.11", install_kfp_package=False)
@c
def load(table: Output[Artifact], rows: int) -> int: ...
@c
def split(table: Input[Artifact], train: Output[Artifact], test: Output[Artifact], share: float = 0.25) -> int: ...
@c
def fit(train: Input[Artifact], model: Output[Artifact]): ...
@c
def predict(model: Input[Artifact], test: Input[Artifact], predictions: Output[Artifact]): ...
@c
def evaluate(predictions: Input[Artifact], test: Input[Artifact]) -> float: ...
@c
def pack(model: Input[Artifact], package: Output[Artifact], error: float): ...
@dsl.pipeline
def six(rows: int = 1000) -> float:
    s = split(table=load(rows=rows).outputs["table"])
    m = fit(train=s.outputs["train"]).outputs["model"]
    e = evaluate(predictions=predict(model=m, test=s.outputs["test"]).output, test=s.outputs["test"])
    pack(model=m, error=e.output)
    return e.output
compiler.Compiler().compile(six, "kfp.yaml")
"""
NOTHING = [str(PYTHON), "-c", "pass"]


@dataclass(frozen=True)
class Bench:
    """A folder with the pipelines above, and a home."""

    folder: Path

    def trilho(self, *words: str, home: str = "home") -> float:
        """Run trilho in the folder and give its seconds."""
        env = environment(TRILHO_HOME=str(self.folder / home), TRILHO_PYTHON=str(PYTHON))
        return run([str(PYTHON), "-m", "trilho", *words], env, self.folder)

    def sdk(self) -> float:
        """Let the official SDK compile the six steps, and give its seconds."""
        return run([str(PYTHON), "-W", "ignore", "sdk.py"], environment(), self.folder)

    def compiled(self, name: str) -> Path:
        """Compile one of the pipelines."""
        self.trilho("pipeline", "compile", f"bench.pipelines:{name}", "-o", f"{name}.yaml")
        return self.folder / f"{name}.yaml"


@contextmanager
def bench() -> Iterator[Bench]:
    """Give the folder for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="trilho-bench-") as name:
        package = Path(name, "src", "bench")
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "steps.py").write_text(STEPS)
        (package / "pipelines.py").write_text(PIPELINES)
        Path(name, "sdk.py").write_text(SDK)
        yield Bench(Path(name))


def pipelining() -> list[Figure]:
    """Take all four."""
    with bench() as at:
        return [*stepping(at), *repeating(at), *compiling(at), *fanning_out(at)]


def stepping(at: Bench, turns: int = 7) -> list[Figure]:
    """A chain of steps that only add, per step, with warm workers; beside a process for each, as cheap as they come."""
    spec, home, count = load(at.compiled("chain")), at.folder / "chain", iter(range(1_000_000))
    places = Places(python=PYTHON, source=at.folder / "src", folder=at.folder, platform=PYTHON)
    store = LocalStore(home / "store")

    def ours(workers: Workers) -> float:
        options: dict[str, Any] = {"home": home, "store": store, "places": places, "workers": workers, "cache": False}
        return seconds(lambda: execute(spec, {}, run_id=f"r{next(count)}", **options))

    def processes() -> float:
        return seconds(lambda: [subprocess.run(NOTHING, check=True) for _ in range(CHAIN)])

    with Workers(places, home) as workers:
        return [
            compare(
                "one more step of a chain", lambda: ours(workers), "one python -c pass", processes, turns=turns,
                scale=1000 / CHAIN, most=STEP_MS,
            )
        ]  # fmt: skip


def repeating(at: Bench, turns: int = 9) -> list[Figure]:
    """A second run of six steps with nothing changed, whole process; beside one without the cache."""
    file = str(at.compiled("six"))
    at.trilho("pipeline", "run", file)
    return [
        compare(
            "unchanged run of six steps", lambda: at.trilho("pipeline", "run", file),
            "all six run again", lambda: at.trilho("pipeline", "run", file, "--no-cache"), turns=turns,
            most=UNCHANGED_MS,
        )
    ]  # fmt: skip


def compiling(at: Bench, turns: int = 7) -> list[Figure]:
    """Six steps to KFP v2, whole process; beside the official SDK."""
    words = ("pipeline", "compile", "bench.pipelines:six", "-o", "six.yaml")
    return [
        compare(
            "compiling six steps", lambda: at.trilho(*words),
            "the same by the KFP SDK", at.sdk, turns=turns, most=COMPILE_MS,
        )
    ]  # fmt: skip


def fanning_out(at: Bench, turns: int = 3) -> list[Figure]:
    """500 steps side by side, whole process; beside as many processes that do nothing, as many at once."""
    file = str(at.compiled("wide"))

    def processes() -> float:
        def all_of_them() -> None:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(lambda _: subprocess.run(NOTHING, check=True), range(WIDE)))

        return seconds(all_of_them)

    return [
        compare(
            f"a fan-out of {WIDE} steps", lambda: at.trilho("pipeline", "run", file, "--no-cache"),
            f"{WIDE} times python -c pass", processes, turns=turns, unit="s", scale=1, most=FAN_OUT_SECONDS,
        )
    ]  # fmt: skip
