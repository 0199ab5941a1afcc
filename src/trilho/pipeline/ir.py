"""Reads the KFP v2 intermediate representation and checks it by name.

It reads what the official compiler, TFX and trilho write: YAML of one or two documents (the second holds what a
platform adds), JSON, a PipelineJob around it; schema 2.1.0 and the older 2.0.0 of TFX. What is not understood is an
error that says where, never ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from trilho.pipeline.spec import (
    MISSING,
    TYPES,
    ArtifactInput,
    ArtifactOutput,
    Component,
    ComponentInput,
    Constant,
    Container,
    Dag,
    Executor,
    FinalStatus,
    Importer,
    Input,
    IrError,
    Loop,
    Parameter,
    ParameterType,
    Retry,
    Selection,
    Source,
    Spec,
    Task,
    TaskOutput,
    Unsupported,
)
from trilho.pipeline.values import ValueMismatch, coerced, from_old
from trilho.pipeline.wiring import check_names

__all__ = [
    "MISSING",
    "ArtifactInput",
    "ArtifactOutput",
    "Component",
    "ComponentInput",
    "Constant",
    "Container",
    "Dag",
    "Executor",
    "FinalStatus",
    "Importer",
    "Input",
    "IrError",
    "Loop",
    "Parameter",
    "ParameterType",
    "Retry",
    "Selection",
    "Source",
    "Spec",
    "Task",
    "TaskOutput",
    "Unsupported",
    "load",
    "read",
]

SCHEMAS = ("2.0.0", "2.1.0")
OLD_TYPES: dict[str, ParameterType] = {"INT": "NUMBER_INTEGER", "DOUBLE": "NUMBER_DOUBLE", "STRING": "STRING"}
NAME = re.compile(r"\w[\w.-]*")
COMPLETED = "ALL_UPSTREAM_TASKS_COMPLETED"
STRATEGIES = (None, "TRIGGER_STRATEGY_UNSPECIFIED", "ALL_UPSTREAM_TASKS_SUCCEEDED", COMPLETED)
T = TypeVar("T")


def load(path: Path) -> Spec:
    """Read a pipeline from a file: YAML or JSON."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise IrError(f"{path} cannot be read: {error}", hint="give a pipeline compiled to YAML or JSON") from None
    try:
        return parse(text)
    except IrError as error:
        raise IrError(f"{path}: {error.fact}", hint=error.hint) from None


def parse(text: str) -> Spec:
    """Read a pipeline from the text of a document."""
    import yaml  # it takes a while, and a document in memory needs none of it

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = [json.loads(text)] if text.lstrip().startswith("{") else list(yaml.load_all(text, Loader=loader))
    except (yaml.YAMLError, ValueError) as error:
        said = " ".join(str(error).split())
        raise IrError(f"this is no YAML and no JSON: {said}", hint="trilho pipeline compile writes one") from None
    documents = [document for document in found if document is not None]
    if not documents or len(documents) > 2:
        raise IrError(f"{len(documents)} documents; a pipeline has one, and a second for its platform's settings")
    return read(documents[0], documents[1] if len(documents) == 2 else None)


def read(document: Any, platform: Any = None) -> Spec:
    """Read a pipeline from a document: a PipelineSpec, or a PipelineJob that holds one.

    Raises IrError, which says where, for what is missing, unknown or wired to what is not there.
    """
    top = _map(document, "the document")
    job, body = (top, _map(top["pipelineSpec"], "pipelineSpec")) if "pipelineSpec" in top else ({}, top)
    schema = str(body.get("schemaVersion", ""))
    if "root" not in body or schema not in SCHEMAS:
        had = f"schemaVersion {schema!r}" if "root" in body else "no root"
        raise IrError(
            f"this is no pipeline in the KFP v2 representation: it has {had}; known are {', '.join(SCHEMAS)}",
            hint="compile it again with kfp 2, TFX 1 or trilho pipeline compile",
        )
    runtime = _map(job.get("runtimeConfig", {}), "runtimeConfig")
    given = {name: from_old(value) for name, value in _map(runtime.get("parameters", {}), "parameters").items()}
    given |= _map(runtime.get("parameterValues", {}), "parameterValues")
    components = {name: _component(name, item) for name, item in _map(body.get("components", {}), "components").items()}
    deployment = _map(_map(body.get("deploymentSpec", {}), "deploymentSpec").get("executors", {}), "executors")
    spec = Spec(
        name=str(_map(body.get("pipelineInfo", {}), "pipelineInfo").get("name", "pipeline")),
        root=_component("root", body["root"]),
        components=components,
        executors={label: _executor(label, item) for label, item in deployment.items()},
        document=body,
        platform=platform if platform is None else _map(platform, "the second document"),
        schema_version=schema,
        given=given,
        pipeline_root=str(runtime.get("gcsOutputDirectory") or body.get("defaultPipelineRoot") or ""),
    )
    check_names(spec)
    return spec


def _map(found: Any, where: str) -> dict[str, Any]:
    if not isinstance(found, Mapping):
        raise IrError(f"{where} is {type(found).__name__}, and a map is wanted")
    return {str(key): value for key, value in found.items()}


def _known(found: Any, where: str, *keys: str) -> dict[str, Any]:
    held = _map(found, where)
    unknown = sorted(set(held) - set(keys))
    if unknown:
        raise IrError(f"{where} has {unknown[0]!r}, which is not known here; known are {', '.join(keys)}")
    return held


def _named(found: Any, where: str, make: Callable[[str, Any], T]) -> dict[str, T]:
    held = _map(found, where)
    for name in held:
        if NAME.fullmatch(name) is None:
            raise IrError(f"{where} has the name {name!r}; names are of letters, digits, '_', '-' and '.'")
    return {name: make(f"{where} {name}", item) for name, item in held.items()}


def _component(name: str, item: Any) -> Component:
    where = name if name == "root" else f"component {name}"
    held = _known(
        item, where, "inputDefinitions", "outputDefinitions", "dag", "executorLabel", "singlePlatformSpecs",
        "taskConfigPassthroughs", "platformSpecs",
    )  # fmt: skip
    if ("dag" in held) == ("executorLabel" in held) or (name == "root" and "dag" not in held):
        raise IrError(f"{where} has to have either a dag or an executorLabel" if name != "root" else "root has no dag")
    takes, leaves = _map(held.get("inputDefinitions", {}), where), _map(held.get("outputDefinitions", {}), where)
    return Component(
        name=name,
        inputs=_named(takes.get("parameters", {}), f"{where}: input", _parameter),
        artifact_inputs=_named(takes.get("artifacts", {}), f"{where}: input", _artifact_input),
        outputs=_named(leaves.get("parameters", {}), f"{where}: output", _type),
        artifact_outputs=_named(leaves.get("artifacts", {}), f"{where}: output", _artifact_output),
        dag=_dag(where, held["dag"]) if "dag" in held else None,
        executor=str(held["executorLabel"]) if "executorLabel" in held else None,
    )


def _type(where: str, item: Any) -> ParameterType:
    held = _map(item, where)
    new, old = held.get("parameterType"), held.get("type")
    if new in TYPES:
        return cast("ParameterType", new)
    if new is None and old in OLD_TYPES:
        return OLD_TYPES[str(old)]
    raise IrError(f"{where} is of type {new or old!r}; known are {', '.join(TYPES)}")


def _parameter(where: str, item: Any) -> Parameter:
    held, kind = _map(item, where), _type(where, item)
    default = from_old(held["defaultValue"]) if "defaultValue" in held else MISSING
    if default is None:
        default = MISSING
    try:
        default = default if default is MISSING else coerced(default, kind)
    except ValueMismatch as error:
        raise IrError(f"{where}: its default {error}") from None
    optional = bool(held.get("isOptional", False))
    return Parameter(kind, default, optional, tuple(held.get("literals", ())))


def _artifact_input(where: str, item: Any) -> ArtifactInput:
    held = _map(item, where)
    schema = _map(held.get("artifactType", {}), where)
    return ArtifactInput(schema, bool(held.get("isArtifactList")), bool(held.get("isOptional")))


def _artifact_output(where: str, item: Any) -> ArtifactOutput:
    held = _map(item, where)
    metadata = {
        name: _constant(value)
        for key in ("properties", "customProperties")
        for name, value in _map(held.get(key, {}), where).items()
    }
    metadata |= _map(held.get("metadata", {}), where)
    return ArtifactOutput(_map(held.get("artifactType", {}), where), bool(held.get("isArtifactList")), metadata)


def _constant(value: Any) -> Any:
    held = value if isinstance(value, Mapping) else {}
    return from_old(held["constantValue"]) if "constantValue" in held else held.get("constant", value)


def _dag(where: str, item: Any) -> Dag:
    held = _known(item, f"{where}: dag", "tasks", "outputs")
    tasks = _named(held.get("tasks", {}), f"{where}: task", _task)
    leaves = _known(held.get("outputs", {}), f"{where}: outputs", "parameters", "artifacts")
    return Dag(
        tasks=tasks,
        parameters=_named(leaves.get("parameters", {}), f"{where}: output", _parameter_selection),
        artifacts=_named(leaves.get("artifacts", {}), f"{where}: output", _artifact_selection),
    )


def _parameter_selection(where: str, item: Any) -> Selection:
    held = _known(item, where, "valueFromParameter", "valueFromOneof")
    if "valueFromParameter" in held:
        return Selection((_selected(where, held["valueFromParameter"], "outputParameterKey"),))
    one_of = _known(held.get("valueFromOneof"), where, "parameterSelectors")
    return Selection(tuple(_selected(where, one, "outputParameterKey") for one in one_of["parameterSelectors"]), True)


def _artifact_selection(where: str, item: Any) -> Selection:
    selectors = _known(item, where, "artifactSelectors")["artifactSelectors"]
    return Selection(tuple(_selected(where, one, "outputArtifactKey") for one in selectors), len(selectors) > 1)


def _selected(where: str, item: Any, key: str) -> TaskOutput:
    held = _known(item, where, "producerSubtask", key)
    return TaskOutput(str(held.get("producerSubtask")), str(held.get(key)))


def _task(where: str, item: Any) -> Task:
    held = _known(
        item, where, "taskInfo", "inputs", "dependentTasks", "cachingOptions", "componentRef", "triggerPolicy",
        "artifactIterator", "parameterIterator", "retryPolicy", "iteratorPolicy",
    )  # fmt: skip
    name = where.rpartition(" ")[2]
    inputs = _known(held.get("inputs", {}), f"{where}: inputs", "parameters", "artifacts")
    trigger = _known(held.get("triggerPolicy", {}), f"{where}: triggerPolicy", "condition", "strategy")
    if trigger.get("strategy") not in STRATEGIES:
        raise IrError(f"{where}: the trigger strategy {trigger['strategy']!r} is not known here")
    return Task(
        name=name,
        label=str(_map(held.get("taskInfo", {}), where).get("name", name)),
        component=str(_map(held.get("componentRef", {}), where).get("name", "")),
        parameters=_named(inputs.get("parameters", {}), f"{where}: input", _input),
        artifacts=_named(inputs.get("artifacts", {}), f"{where}: input", _artifact_source),
        after=tuple(map(str, held.get("dependentTasks", ()))),
        cache=bool(_map(held.get("cachingOptions", {}), where).get("enableCache", False)),
        condition=trigger.get("condition") or None,
        whatever_happens=trigger.get("strategy") == COMPLETED,
        retry=_retry(where, held["retryPolicy"]) if held.get("retryPolicy") else None,
        loop=_loop(where, held),
    )


def _input(where: str, item: Any) -> Input:
    held = _map(item, where)
    selector = held.pop("parameterExpressionSelector", None)
    return Input(_source(where, held), str(selector) if selector else None)


def _source(where: str, held: dict[str, Any]) -> Source:
    match list(held):
        case ["taskOutputParameter"]:
            made = _map(held["taskOutputParameter"], where)
            return TaskOutput(str(made.get("producerTask")), str(made.get("outputParameterKey")))
        case ["componentInputParameter"]:
            return ComponentInput(str(held["componentInputParameter"]))
        case ["taskFinalStatus"]:
            return FinalStatus(str(_map(held["taskFinalStatus"], where).get("producerTask")))
        case ["runtimeValue"]:
            return _runtime_value(where, held["runtimeValue"])
    raise IrError(f"{where} comes from {', '.join(held) or 'nowhere'}, which is not known here")


def _runtime_value(where: str, item: Any) -> Constant | ComponentInput:
    held = _known(item, where, "constant", "constantValue", "runtimeParameter")
    if "runtimeParameter" in held:
        return ComponentInput(str(held["runtimeParameter"]))
    return Constant(from_old(held["constantValue"]) if "constantValue" in held else held.get("constant"))


def _artifact_source(where: str, item: Any) -> Source:
    held = _known(item, where, "taskOutputArtifact", "componentInputArtifact")
    if "componentInputArtifact" in held:
        return ComponentInput(str(held["componentInputArtifact"]))
    made = _map(held.get("taskOutputArtifact"), where)
    return TaskOutput(str(made.get("producerTask")), str(made.get("outputArtifactKey")))


def _retry(where: str, item: Any) -> Retry | None:
    held = _known(item, where, "maxRetryCount", "backoffDuration", "backoffFactor", "backoffMaxDuration")
    retry = Retry(
        times=int(held.get("maxRetryCount", 0)),
        seconds=_seconds(where, held.get("backoffDuration", "0s")),
        factor=float(held.get("backoffFactor") or 2.0),
        most_seconds=min(_seconds(where, held.get("backoffMaxDuration", "3600s")), 3600.0),
    )
    return retry if retry.times > 0 else None


def _seconds(where: str, text: Any) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(text))
    if found is None:
        raise IrError(f"{where}: {text!r} is no duration; one is written as '60s'")
    return float(found[1])


def _loop(where: str, held: Mapping[str, Any]) -> Loop | None:
    policy = _known(held.get("iteratorPolicy", {}), f"{where}: iteratorPolicy", "parallelismLimit")
    at_once = int(policy.get("parallelismLimit", 0))
    if "artifactIterator" in held:
        over = _known(held["artifactIterator"], f"{where}: artifactIterator", "items", "itemInput")
        items = _known(over.get("items", {}), f"{where}: items", "inputArtifact")
        return Loop("artifact", str(over.get("itemInput")), None, str(items.get("inputArtifact")), at_once)
    if "parameterIterator" not in held:
        return None
    over = _known(held["parameterIterator"], f"{where}: parameterIterator", "items", "itemInput")
    items = _known(over.get("items", {}), f"{where}: items", "raw", "inputParameter")
    if "raw" not in items:
        return Loop("parameter", str(over.get("itemInput")), None, str(items.get("inputParameter")), at_once)
    try:
        raw = json.loads(items["raw"])
    except ValueError:
        raw = None
    if not isinstance(raw, list):
        raise IrError(f"{where}: the items of its loop are {items['raw']!r}, which is no JSON list")
    return Loop("parameter", str(over.get("itemInput")), tuple(raw), None, at_once)


def _executor(label: str, item: Any) -> Executor:
    held, where = _map(item, f"executor {label}"), f"executor {label}"
    kind = next(iter(held), "nothing")
    if kind == "container":
        container = _known(held[kind], where, "image", "command", "args", "env", "resources", "lifecycle")
        return Container(
            image=str(container.get("image", "")),
            command=tuple(map(str, container.get("command", ()))),
            args=tuple(map(str, container.get("args", ()))),
            env={str(one.get("name")): str(one.get("value", "")) for one in container.get("env", ())},
            resources=_map(container.get("resources", {}), where),
            hook="preCacheCheck" in _map(container.get("lifecycle", {}), where),
        )
    if kind == "importer":
        return _importer(where, held[kind])
    return Unsupported(kind)


def _importer(where: str, item: Any) -> Importer:
    held = _map(item, where)
    metadata = {
        name: _constant(value)
        for key in ("properties", "customProperties")
        for name, value in _map(held.get(key, {}), where).items()
    }
    return Importer(
        uri=_runtime_value(where, held.get("artifactUri", {})),
        schema=_map(held.get("typeSchema", {}), where),
        metadata=metadata | _map(held.get("metadata", {}), where),
        reimport=bool(held.get("reimport", False)),
    )
