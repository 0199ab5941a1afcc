"""How one task is compiled: its component, the container that runs it, its retries and resources."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trilho.pipeline.compile.scopes import artifact_type
from trilho.pipeline.compile.wiring import TITLES, constant, parameter_type
from trilho.pipeline.definition.document import IMPORTED, Task
from trilho.pipeline.definition.interface import StepInterface

Interfaces = Mapping[str, StepInterface]
PLATFORM, RUNTIME = "trilho.", "trilho_runtime."
COMMAND = ["python", "-m", "trilho_runtime.step"]
ARGUMENTS = [
    "--executor-input", "{{$}}", "--root", "{{$.pipeline_root}}", "--run", "{{$.pipeline_job_name}}",
    "--task", "{{$.pipeline_task_name}}",
]  # fmt: skip
LONGEST_WAIT = "3600s"
BYTES = {"": 1, **{unit: 1000**power for power, unit in enumerate("KMGTPE", 1)}}
BYTES |= {f"{unit}i": 1024**power for power, unit in enumerate("KMGTPE", 1)}


def option(task: Task, interfaces: Interfaces, name: str) -> Any:
    """Give an option as it holds for a task: its own, or what @step says."""
    own = getattr(task, name, None)
    return own if own is not None or task.step is None else interfaces[task.step].options.get(name)


def is_cached(task: Task, interfaces: Interfaces) -> bool:
    """Say whether a task's earlier result may stand for a new one."""
    return task.cache is not False and not option(task, interfaces, "side_effect")


def component_of(task: Task, interfaces: Interfaces, key: str) -> dict[str, Any]:
    """Give a task's component: what it takes and gives, and who executes it."""
    label = {"executorLabel": f"exec-{key}"}
    if task.import_ is not None:
        made = {IMPORTED: {"artifactType": artifact_type(TITLES[task.import_["kind"]])}}
        inputs: dict[str, Any] = {"parameters": {"uri": {"parameterType": "STRING"}}}
        return label | {"inputDefinitions": inputs, "outputDefinitions": {"artifacts": made}}
    interface = interfaces[str(task.step)]
    taken = {"parameters": _parameters(task, interface), "artifacts": _inputs(interface)}
    given = {
        "parameters": {name: {"parameterType": parameter_type(kind)} for name, kind in interface.values.items()},
        "artifacts": {name: {"artifactType": artifact_type(TITLES[kind])} for name, kind in interface.outputs.items()},
    }
    return label | _section("inputDefinitions", taken) | _section("outputDefinitions", given)


def _section(title: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    filled = {name: part for name, part in parts.items() if part}
    return {title: filled} if filled else {}


def _parameters(task: Task, interface: StepInterface) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, parameter in interface.parameters.items():
        if "status" in task.arguments.get(name, {}):
            found[name] = {"parameterType": "TASK_FINAL_STATUS", "isOptional": True}
            continue
        found[name] = {"parameterType": parameter_type(parameter.type)}
        if not parameter.required:
            found[name]["isOptional"] = True
            if parameter.default is not None:
                found[name]["defaultValue"] = constant(parameter.default, f"the default of {name}")
    return found


def _inputs(interface: StepInterface) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, wanted in interface.inputs.items():
        found[name] = {"artifactType": artifact_type(TITLES[wanted.kind])}
        found[name] |= {"isArtifactList": True} if wanted.is_list else {}
    return found


def executor_of(task: Task, interfaces: Interfaces, image: str) -> dict[str, Any]:
    """Give what executes a task: the project's image, or for an artifact that is there already an importer."""
    if task.import_ is not None:
        uri = task.import_["uri"]
        where = {"constant": uri["const"]} if "const" in uri else {"runtimeParameter": "uri"}
        return {"importer": {"artifactUri": where, "typeSchema": artifact_type(TITLES[task.import_["kind"]])}}
    timeout = option(task, interfaces, "timeout_seconds")
    arguments = [*ARGUMENTS, *(["--timeout", f"{timeout:.12g}"] if timeout is not None else [])]
    arguments += ["--no-cache"] if option(task, interfaces, "side_effect") else []
    container: dict[str, Any] = {"image": image, "command": [*COMMAND, str(task.step)], "args": arguments}
    variables = [{"name": name, "value": value} for name, value in environment_of(task, interfaces).items() if value]
    container |= {"env": variables} if variables else {}
    resources = resources_of(task, interfaces)
    return {"container": container | ({"resources": resources} if resources else {})}


def environment_of(task: Task, interfaces: Interfaces) -> dict[str, str]:
    """Give what a step is told of what makes its result: which code counts, and which parameters do not."""
    step = str(task.step)
    code = list(task.code or ())
    if not step.startswith((PLATFORM, RUNTIME)):
        code.insert(0, step)
    uncounted = task.uncounted if task.uncounted is not None else interfaces[step].options.get("uncounted", ())
    version = interfaces[step].options.get("version", 1)
    return {
        "TRILHO_CODE": ",".join(dict.fromkeys(code)),
        "TRILHO_UNCOUNTED": ",".join(uncounted),
        "TRILHO_VERSION": str(version) if step.startswith(PLATFORM) else "",
    }


def retry_policy(task: Task, interfaces: Interfaces) -> dict[str, Any]:
    """Give how often a task is tried again, and after how long."""
    retries = option(task, interfaces, "retries")
    if not retries:
        return {}
    first, factor = option(task, interfaces, "backoff_seconds") or 0, option(task, interfaces, "backoff_factor") or 2.0
    return {
        "retryPolicy": {
            "maxRetryCount": retries,
            "backoffDuration": f"{first:.12g}s",
            "backoffFactor": float(factor),
            "backoffMaxDuration": LONGEST_WAIT,
        }
    }


def resources_of(task: Task, interfaces: Interfaces) -> dict[str, Any]:
    """Give what a task asks for, in the fields that services read today and in those that they read before."""
    found: dict[str, Any] = {}
    cpu, memory = option(task, interfaces, "cpu"), option(task, interfaces, "memory")
    if cpu is not None:
        found |= {"cpuLimit": cores(str(cpu)), "resourceCpuLimit": str(cpu)}
    if memory is not None:
        found |= {"memoryLimit": gigabytes(memory), "resourceMemoryLimit": memory}
    accelerator = option(task, interfaces, "accelerator")
    if accelerator is not None:
        count = str(option(task, interfaces, "accelerators") or 1)
        both = {"count": count, "type": accelerator, "resourceCount": count, "resourceType": accelerator}
        found["accelerator"] = both
    return found


def cores(text: str) -> float:
    """Read a number of cores.

    >>> cores("2"), cores("500m")
    (2.0, 0.5)
    """
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def gigabytes(text: str) -> float:
    """Read an amount of memory, in units of 10^9 bytes.

    >>> gigabytes("4G"), gigabytes("512Mi")
    (4.0, 0.536870912)
    """
    match = re.fullmatch(r"([\d.]+)([A-Za-z]*)", text)
    assert match is not None
    unit: int = BYTES[match[2]]
    return float(match[1]) * unit / 1_000_000_000
