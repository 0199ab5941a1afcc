# mypy: ignore-errors
# ruff: noqa: E501, UP006, UP035, UP045
"""Steps of a shop, and the official SDK's components made of them: containers with the command that trilho gives."""

import inspect
import warnings
from pathlib import Path
from typing import Dict, List, Optional

from kfp import dsl

from trilho.pipeline.definition.interface import read_step

warnings.simplefilter("ignore", FutureWarning)
warnings.simplefilter("ignore", DeprecationWarning)
IMAGE = "eu.gcr.io/shop/shop@sha256:" + "0" * 64

STEPS = '''
"""Steps of a shop."""
from typing import NamedTuple
from trilho_runtime.step import In, Metrics, Model, Out, Table, File, step

class Found(NamedTuple):
    rows: int
    share: float
    side: str
    ok: bool

class Plan(NamedTuple):
    regions: list[str]
    sizes: list[int]
    options: list[dict]

@step
def load(table: Out[Table], count: int = 10, part: float = 0.5, where: str = "here") -> Found: ...
@step
def look(rows: int = 1, share: float = 0.5, side: str = "x", ok: bool = True, words: list = ["a"], more: dict = {"k": [1]}, kept: str | None = None) -> str: ...
@step
def need(rows: int, side: str) -> int: ...
@step
def plan(n: int = 3) -> Plan: ...
@step
def fit(table: In[Table], model: Out[Model], metrics: Out[Metrics], side: str = "a", depth: int = 2) -> float: ...
@step
def judge(model: In[Model], table: In[Table], report: Out[File]) -> Found: ...
@step
def best(models: In[list[Model]], model: Out[Model]) -> int: ...
@step
def total(numbers: list) -> float: ...
@step(side_effect=True)
def deploy(model: In[Model], note: str = "") -> None: ...
@step
def say(text: str = "") -> str: ...
@step(side_effect=True)
def notify(status: dict, note: str = "done") -> None: ...
@step(retries=2, cpu=2, memory="4G", timeout_seconds=90)
def heavy(n: int = 1) -> int: ...
'''
KINDS = {"table": dsl.Dataset, "model": dsl.Model, "metrics": dsl.Metrics, "file": dsl.Artifact}
TYPES = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict}


class Official:
    """The SDK's components, by the name of the step."""

    def __init__(self, source: Path) -> None:
        (source / "shop").mkdir(parents=True)
        (source / "shop" / "__init__.py").touch()
        (source / "shop" / "steps.py").write_text(STEPS)
        self.source = source
        self.types = {
            ("plan", "regions"): List[str],
            ("plan", "sizes"): List[int],
            ("plan", "options"): List[Dict[str, str]],
        }

    def __call__(self, name, *, timeout=None, code=None, **arguments):
        """Make a task of a step."""
        interface = read_step(self.source, f"shop.steps:{name}")
        task = self.component(interface, timeout)(**arguments)
        task.set_env_variable("TRILHO_CODE", ",".join([interface.reference, *(code or [])]))
        if interface.options.get("side_effect"):
            task.set_caching_options(False)
        return task

    def component(self, interface, timeout=None):
        name = interface.reference.partition(":")[2]
        taken = []
        for key, one in interface.inputs.items():
            taken.append(
                (
                    key,
                    dsl.Input[List[KINDS[one.kind]]] if one.is_list else dsl.Input[KINDS[one.kind]],
                    inspect.Parameter.empty,
                )
            )
        for key, kind in interface.outputs.items():
            taken.append((key, dsl.Output[KINDS[kind]], inspect.Parameter.empty))
        for key, one in interface.parameters.items():
            kind = Optional[TYPES[one.type]] if one.is_optional else TYPES[one.type]
            kind = dsl.PipelineTaskFinalStatus if key == "status" else kind
            taken.append((key, kind, inspect.Parameter.empty if one.required else one.default))
        for key, kind in interface.values.items():
            taken.append((key, dsl.OutputPath(self.types.get((name, key), TYPES[kind])), inspect.Parameter.empty))
        options = interface.options
        timeout = timeout or options.get("timeout_seconds")
        args = [
            "--executor-input",
            "{{$}}",
            "--root",
            "{{$.pipeline_root}}",
            "--run",
            "{{$.pipeline_job_name}}",
            "--task",
            "{{$.pipeline_task_name}}",
        ]
        args += ["--timeout", str(timeout)] if timeout else []
        args += ["--no-cache"] if options.get("side_effect") else []

        def made(*_):
            return dsl.ContainerSpec(
                image=IMAGE, command=["python", "-m", "trilho_runtime.step", interface.reference], args=args
            )

        order = [one for one in taken if one[2] is inspect.Parameter.empty] + [
            one for one in taken if one[2] is not inspect.Parameter.empty
        ]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        made.__name__ = name
        made.__signature__ = inspect.Signature(
            [inspect.Parameter(key, kind, annotation=a, default=d) for key, a, d in order]
        )
        made.__annotations__ = {key: a for key, a, _ in order}
        return dsl.container_component(made)


TWINS = {}


def twin(function):
    """Register a pair: the function is given the SDK's components and gives both forms."""
    TWINS[function.__name__] = function
    return function


def at(name):
    return f"shop.steps:{name}"
