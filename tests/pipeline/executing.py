"""Executes pipelines in tests: those of the official SDK, and documents, with workers that start no interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import traceback
import types
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from trilho.backends.local.store import LocalStore
from trilho.core.records import TaskResult
from trilho.pipeline.execution.execute import RunResult, TaskEvent, execute
from trilho.pipeline.ir.reader import Spec, parse, read
from trilho.pipeline.places import Places
from trilho.pipeline.workers.workers import Ended, Leaf, Problem, Workers

PYTHON = Path(sys.executable)
LOCK = threading.Lock()


class QuickWorkers(Workers):
    """Workers without processes of their own: the SDK's executor in this process, any other command as it is.

    `calls` counts the executions by task; `fake` replaces a task's execution, by its name or by "*".
    """

    def __init__(self, places: Places, home: Path) -> None:
        self.places, self.home = places, home
        self.calls: Counter[str] = Counter()
        self.fake: dict[str, Callable[[Leaf], Ended]] = {}
        self.leaves: dict[str, Leaf] = {}
        self.at_once = self.most_at_once = 0

    def check(self, spec: Spec, parameters: Mapping[str, Any]) -> list[Problem]:
        return []

    def run(self, leaf: Leaf) -> Ended:
        with LOCK:
            self.calls[leaf.name] += 1
            self.leaves[leaf.name] = leaf
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            fake = self.fake.get(leaf.name, self.fake.get("*"))
            if fake is not None:
                return fake(leaf)
            return _lightweight(leaf) if "--function_to_execute" in leaf.args else _command(leaf)
        finally:
            with LOCK:
                self.at_once -= 1

    def stop_all(self) -> None: ...

    def close(self) -> None: ...


def _command(leaf: Leaf) -> Ended:
    path = f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*leaf.command, *leaf.args],
        env={**os.environ, "PATH": path, **leaf.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=leaf.scratch,
    )
    with leaf.log.open("a") as log:
        log.write(done.stdout)
    return Ended(done.returncode, done.stdout)


def _lightweight(leaf: Leaf) -> Ended:
    from kfp.dsl.executor import Executor

    module = types.ModuleType("component")
    request = json.loads(leaf.args[leaf.args.index("--executor_input") + 1])
    name = leaf.args[leaf.args.index("--function_to_execute") + 1]
    try:
        code = compile(leaf.command[-1], "component.py", "exec", dont_inherit=True)
        exec(code, module.__dict__)
        Executor(executor_input=request, function_to_execute=getattr(module, name)).execute()
    except Exception:  # noqa: BLE001  what a component raises is the test's to see
        return Ended(1, traceback.format_exc())
    return Ended(0, "")


@dataclass
class Bench:
    """Runs pipelines one after the other in one home."""

    home: Path
    folder: Path
    places: Places = field(init=False)
    store: LocalStore = field(init=False)
    workers: QuickWorkers = field(init=False)
    count: int = 0
    events: list[TaskEvent] = field(default_factory=list)
    told: list[TaskResult] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.places = Places(python=PYTHON, source=None, folder=self.folder, platform=PYTHON)
        self.store = LocalStore(self.home / "store")
        self.workers = QuickWorkers(self.places, self.home)

    def __call__(self, pipeline: Any, parameters: Mapping[str, Any] | None = None, **options: Any) -> RunResult:
        """Run a pipeline: a function of the SDK's, a document, or a Spec."""
        self.count += 1
        self.events, self.told = [], []
        options = {"workers": self.workers, "run_id": f"r{self.count}", "places": self.places, **options}
        return execute(
            spec_of(pipeline),
            parameters or {},
            home=self.home,
            store=self.store,
            on_task=self.told.append,
            observe=self.events.append,
            **options,
        )

    def mounted(self, folder: Path) -> None:
        """Let gs:// lie under a folder."""
        self.places = replace(self.places, environment={"TRILHO_MOUNTS": json.dumps({"gs://": f"{folder}/"})})


def spec_of(pipeline: Any) -> Spec:
    """Give what is to be run as a Spec."""
    if isinstance(pipeline, Spec):
        return pipeline
    if isinstance(pipeline, Mapping):
        return read(pipeline)
    return parse(pipeline if isinstance(pipeline, str) else text_of(pipeline))


def text_of(pipeline: Any) -> str:
    """Compile a pipeline function with the official SDK."""
    spec, platform = pipeline.pipeline_spec, pipeline.platform_spec
    from google.protobuf import json_format

    documents = [json_format.MessageToDict(spec)]
    if platform.platforms:
        documents.append(json_format.MessageToDict(platform))
    return yaml.safe_dump_all(documents)


def states(result: RunResult) -> dict[str, str]:
    """Give how each task ended, by name."""
    return {task["name"]: task["state"] for task in result.tasks}


def reasons(result: RunResult) -> dict[str, str]:
    """Give why each task ended so, by name, where there is a reason."""
    return {task["name"]: task["reason"] for task in result.tasks if task["reason"]}


def document(tasks: Mapping[str, Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """Build a pipeline by hand: each task has a component of its own that QuickWorkers.fake executes, or a `run`.

    A task's `takes` are constants, or "task.output" for a value and "=task.output" for an artifact; `values` are its
    outputs with their types, `makes` its artifacts; anything else goes into the task as it is.
    """
    components, executors, wired = {}, {}, {}
    for name, given in tasks.items():
        own = {key: x for key, x in given.items() if key not in ("run", "takes", "values", "makes")}
        takes: Mapping[str, Any] = given.get("takes", {})
        artifacts = {key: x for key, x in takes.items() if isinstance(x, str) and x.startswith("=")}
        values = {key: x for key, x in takes.items() if key not in artifacts}
        kind = {"artifactType": {"schemaTitle": "system.Artifact"}}
        components[f"comp-{name}"] = {
            "executorLabel": f"exec-{name}",
            "inputDefinitions": {
                "parameters": {key: {"parameterType": _type_of(x, tasks)} for key, x in values.items()},
                "artifacts": dict.fromkeys(artifacts, kind),
            },
            "outputDefinitions": {
                "parameters": {key: {"parameterType": x} for key, x in given.get("values", {}).items()},
                "artifacts": dict.fromkeys(given.get("makes", ()), kind),
            },
        }
        run = list(given.get("run", ["true"]))
        executors[f"exec-{name}"] = {"container": {"image": "img", "command": run[:1], "args": run[1:]}}
        wired[name] = {
            "componentRef": {"name": f"comp-{name}"},
            "taskInfo": {"name": name},
            "cachingOptions": {"enableCache": True},
            "inputs": {
                "parameters": {key: _source(x, tasks) for key, x in values.items()},
                "artifacts": {key: _made(x) for key, x in artifacts.items()},
            },
            **own,
        }
    return {
        "pipelineInfo": {"name": "by-hand"},
        "schemaVersion": "2.1.0",
        "components": components,
        "deploymentSpec": {"executors": executors},
        "root": {"dag": {"tasks": wired}},
        **more,
    }


def _is_output(given: Any, tasks: Mapping[str, Any]) -> bool:
    return isinstance(given, str) and given.partition(".")[0] in tasks and "." in given


def _type_of(given: Any, tasks: Mapping[str, Mapping[str, Any]]) -> str:
    if _is_output(given, tasks):
        task, _, key = given.partition(".")
        return str(tasks[task]["values"][key])
    types = {
        bool: "BOOLEAN",
        int: "NUMBER_INTEGER",
        float: "NUMBER_DOUBLE",
        str: "STRING",
        list: "LIST",
        dict: "STRUCT",
    }
    return types[type(given)]


def _source(given: Any, tasks: Mapping[str, Any]) -> dict[str, Any]:
    if _is_output(given, tasks):
        task, _, key = given.partition(".")
        return {"taskOutputParameter": {"producerTask": task, "outputParameterKey": key}}
    return {"runtimeValue": {"constant": given}}


def _made(given: str) -> dict[str, Any]:
    task, _, key = given.removeprefix("=").partition(".")
    return {"taskOutputArtifact": {"producerTask": task, "outputArtifactKey": key}}


def leaves(values: Mapping[str, Any] | None = None, files: Mapping[str, str] | None = None) -> Callable[[Leaf], Ended]:
    """Give an execution that leaves these values and artifacts."""

    def run(leaf: Leaf) -> Ended:
        outputs = leaf.request["outputs"]
        for name, content in (files or {}).items():
            Path(outputs["artifacts"][name]["artifacts"][0]["uri"]).write_text(content)
        Path(outputs["outputFile"]).write_text(json.dumps({"parameterValues": dict(values or {})}))
        return Ended(0, "")

    return run
