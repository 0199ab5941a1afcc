"""A pipeline named nightly and its steps, and what the rules find in it; `# here` marks the lines they point at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trilho.pipeline.definition.document import Definition, linked, read_interfaces
from trilho.pipeline.rules.check import Finding, check
from trilho_runtime.pipeline import Pipeline

STEPS = """
from datetime import date
from typing import Any, NamedTuple, TypedDict
import pandas as pd
from trilho_runtime.step import File, In, Metrics, Model, Out, Table, step

class Sizes(NamedTuple):
    rows: int
    until: str

@step
def load(table: Out[Table], rows: int = 5) -> Sizes: ...

@step
def split(table: In[Table], train: Out[Table], share: float = 0.2) -> None: ...

@step
def fit(train: In[Table], model: Out[Model], rate: float = 0.5, names: list[str] = []) -> float: ...

@step
def best(models: In[list[Model]]) -> None: ...

@step
def deploy(model: In[Model]) -> str: ...

@step
def plan() -> list[str]: ...

@step
def say(text: str, more: dict[str, Any] | None = None, on: bool = False) -> str: ...

@step
def tell(status: dict[str, Any], text: str = "") -> None: ...

@step
def late(text: str = "") -> None: ...

@step(side_effect=True)
def send(text: str) -> None: ...

def plain(x: int) -> int: ...  # here

@step
def old(x: int) -> dict[str, Any]: ...  # here

@step
def frame(x: pd.DataFrame) -> None: ...  # here

@step
def dated(day: str = str(date.today())) -> None: ...  # here

@step
def untyped(x) -> None: ...  # here

@step
def kind(x: In[Modle]) -> None: ...  # here

@step
def maybe(x: In[Model] | None) -> None: ...  # here

@step
def many(*x: int) -> None: ...  # here

@step
def default(x: int = "a") -> None: ...  # here

@step
def none() -> str | None: ...  # here

@step(retry=2)  # here
def option() -> None: ...

@step(retries=2 + int("3"))  # here
def computed() -> None: ...

@step
def outs(x: Out[list[Model]]) -> None: ...  # here

class Pair(TypedDict):
    a: int
    b: Model

@step
def pair() -> Pair: ...  # here

@step
async def later() -> None: ...  # here
"""
Case = Callable[[Pipeline], Any]


def find(source: Path, write: Case, **parameters: Any) -> list[Finding]:
    pipeline = Pipeline("nightly", parameters=parameters)  # here
    write(pipeline)
    definition = linked(Definition.read(pipeline.definition()), source)
    return check(definition, read_interfaces(definition, source))


def errors(source: Path, write: Case, **parameters: Any) -> list[Finding]:
    return [finding for finding in find(source, write, **parameters) if finding.severity == "error"]


def task(name: str, step: str, **arguments: Any) -> Case:
    return lambda p: p.task(name, f"shop.steps:{step}", **arguments)  # here


def begin(p: Pipeline) -> None:
    """Add the beginning that most cases go on from: load, split, fit."""
    p.task("load", "shop.steps:load")
    p.task("split", "shop.steps:split", table="load.table")
    p.task("fit", "shop.steps:fit", train="split.train")


def after_begin(name: str, step: str, **arguments: Any) -> Case:
    def write(p: Pipeline) -> None:
        begin(p)
        p.task(name, f"shop.steps:{step}", **arguments)  # here

    return write
