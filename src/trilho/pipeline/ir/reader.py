"""Reads the KFP v2 intermediate representation and checks it by name.

It reads what the official compiler, TFX and trilho write: YAML of one or two documents (the second holds what a
platform adds), JSON, a PipelineJob around it; schema 2.1.0 and the older 2.0.0 of TFX. What is not understood is an
error that says where, never ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from trilho.pipeline.ir.names import check_names, mend
from trilho.pipeline.ir.shapes import (
    as_known,
    as_list,
    as_map,
    as_named,
    as_number,
    as_text,
    as_texts,
    as_value,
    as_whole,
    check_extent,
)
from trilho.pipeline.ir.spec import (
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
from trilho.pipeline.ir.values import ValueMismatch, coerced

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
HINT = "a pipeline is what kfp 2, TFX 1 or trilho pipeline compile writes; compile it again, or correct it there"
KINDS_ELSEWHERE = ("resolver", "customJob")
COMPLETED = "ALL_UPSTREAM_TASKS_COMPLETED"
STRATEGIES = (None, "TRIGGER_STRATEGY_UNSPECIFIED", "ALL_UPSTREAM_TASKS_SUCCEEDED", COMPLETED)


def load(path: Path) -> Spec:
    """Read a pipeline from a file: YAML or JSON."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or error
        raise IrError(f"{path} cannot be read: {said}", hint="give a pipeline compiled to YAML or JSON") from None
    try:
        return parse(text)
    except IrError as error:
        raise IrError(f"{path}: {error.fact}", hint=error.hint or HINT) from None


def parse(text: str) -> Spec:
    """Read a pipeline from the text of a document."""
    import yaml  # it takes a while, and a document in memory needs none of it

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = [json.loads(text)] if text.lstrip().startswith("{") else list(yaml.load_all(text, Loader=loader))
    except RecursionError:
        raise IrError("it is nested too deep to be read", hint=HINT) from None
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
    check_extent([document, platform])
    top = as_map(document, "the document")
    job, body = (top, as_map(top["pipelineSpec"], "pipelineSpec")) if "pipelineSpec" in top else ({}, top)
    schema = str(body.get("schemaVersion", ""))
    if "root" not in body or schema not in SCHEMAS:
        had = f"schemaVersion {schema!r}" if "root" in body else "no root"
        raise IrError(
            f"this is no pipeline in the KFP v2 representation: it has {had}; known are {', '.join(SCHEMAS)}",
            hint="compile it again with kfp 2, TFX 1 or trilho pipeline compile",
        )
    runtime = as_map(job.get("runtimeConfig", {}), "runtimeConfig")
    given = {
        name: as_value(value, f"parameter {name}")
        for name, value in as_map(runtime.get("parameters", {}), "parameters").items()
    }
    given |= as_map(runtime.get("parameterValues", {}), "parameterValues")
    written = as_map(body.get("components", {}), "components")
    components = {name: mend(_component(name, item)) for name, item in written.items()}
    deployment = as_map(as_map(body.get("deploymentSpec", {}), "deploymentSpec").get("executors", {}), "executors")
    spec = Spec(
        name=str(as_map(body.get("pipelineInfo", {}), "pipelineInfo").get("name", "pipeline")),
        root=_component("root", body["root"]),
        components=components,
        executors={label: _executor(label, item) for label, item in deployment.items()},
        document=body,
        platform=platform if platform is None else as_map(platform, "the second document"),
        schema_version=schema,
        given=given,
        pipeline_root=str(runtime.get("gcsOutputDirectory") or body.get("defaultPipelineRoot") or ""),
    )
    check_names(spec)
    return spec


def _component(name: str, item: Any) -> Component:
    where = name if name == "root" else f"component {name}"
    held = as_known(
        item, where, "inputDefinitions", "outputDefinitions", "dag", "executorLabel", "singlePlatformSpecs",
        "taskConfigPassthroughs", "platformSpecs",
    )  # fmt: skip
    if ("dag" in held) == ("executorLabel" in held) or (name == "root" and "dag" not in held):
        raise IrError(f"{where} has to have either a dag or an executorLabel" if name != "root" else "root has no dag")
    takes, leaves = as_map(held.get("inputDefinitions", {}), where), as_map(held.get("outputDefinitions", {}), where)
    return Component(
        name=name,
        inputs=as_named(takes.get("parameters", {}), f"{where}: input", _parameter),
        artifact_inputs=as_named(takes.get("artifacts", {}), f"{where}: input", _artifact_input),
        outputs=as_named(leaves.get("parameters", {}), f"{where}: output", _type),
        artifact_outputs=as_named(leaves.get("artifacts", {}), f"{where}: output", _artifact_output),
        dag=_dag(where, held["dag"]) if "dag" in held else None,
        executor=str(held["executorLabel"]) if "executorLabel" in held else None,
    )


def _type(where: str, item: Any) -> ParameterType:
    held = as_map(item, where)
    new, old = held.get("parameterType"), held.get("type")
    if new in TYPES:
        return cast("ParameterType", new)
    if new is None and old in OLD_TYPES:
        return OLD_TYPES[str(old)]
    raise IrError(f"{where} is of type {new or old!r}; known are {', '.join(TYPES)}")


def _parameter(where: str, item: Any) -> Parameter:
    held, kind = as_map(item, where), _type(where, item)
    default = as_value(held["defaultValue"], where) if "defaultValue" in held else MISSING
    if default is None:
        default = MISSING
    try:
        default = default if default is MISSING else coerced(default, kind)
    except ValueMismatch as error:
        raise IrError(f"{where}: its default {error}") from None
    optional = bool(held.get("isOptional", False))
    return Parameter(kind, default, optional, tuple(as_list(held.get("literals", []), where)))


def _artifact_input(where: str, item: Any) -> ArtifactInput:
    held = as_map(item, where)
    schema = as_map(held.get("artifactType", {}), where)
    return ArtifactInput(schema, bool(held.get("isArtifactList")), bool(held.get("isOptional")))


def _artifact_output(where: str, item: Any) -> ArtifactOutput:
    held = as_map(item, where)
    metadata = {
        name: _constant(value)
        for key in ("properties", "customProperties")
        for name, value in as_map(held.get(key, {}), where).items()
    }
    metadata |= as_map(held.get("metadata", {}), where)
    return ArtifactOutput(as_map(held.get("artifactType", {}), where), bool(held.get("isArtifactList")), metadata)


def _constant(value: Any) -> Any:
    held = value if isinstance(value, Mapping) else {}
    return as_value(held["constantValue"], "a property") if "constantValue" in held else held.get("constant", value)


def _dag(where: str, item: Any) -> Dag:
    held = as_known(item, f"{where}: dag", "tasks", "outputs")
    tasks = as_named(held.get("tasks", {}), f"{where}: task", _task)
    leaves = as_known(held.get("outputs", {}), f"{where}: outputs", "parameters", "artifacts")
    return Dag(
        tasks=tasks,
        parameters=as_named(leaves.get("parameters", {}), f"{where}: output", _parameter_selection),
        artifacts=as_named(leaves.get("artifacts", {}), f"{where}: output", _artifact_selection),
    )


def _parameter_selection(where: str, item: Any) -> Selection:
    held = as_known(item, where, "valueFromParameter", "valueFromOneof")
    if "valueFromParameter" in held:
        return Selection((_selected(where, held["valueFromParameter"], "outputParameterKey"),))
    one_of = as_known(held.get("valueFromOneof"), where, "parameterSelectors")
    selectors = as_list(one_of.get("parameterSelectors"), where)
    return Selection(tuple(_selected(where, one, "outputParameterKey") for one in selectors), True)


def _artifact_selection(where: str, item: Any) -> Selection:
    selectors = as_list(as_known(item, where, "artifactSelectors").get("artifactSelectors"), where)
    return Selection(tuple(_selected(where, one, "outputArtifactKey") for one in selectors), len(selectors) > 1)


def _selected(where: str, item: Any, key: str) -> TaskOutput:
    held = as_known(item, where, "producerSubtask", key)
    return TaskOutput(str(held.get("producerSubtask")), str(held.get(key)))


def _task(where: str, item: Any) -> Task:
    held = as_known(
        item, where, "taskInfo", "inputs", "dependentTasks", "cachingOptions", "componentRef", "triggerPolicy",
        "artifactIterator", "parameterIterator", "retryPolicy", "iteratorPolicy",
    )  # fmt: skip
    name = where.rpartition(" ")[2]
    inputs = as_known(held.get("inputs", {}), f"{where}: inputs", "parameters", "artifacts")
    trigger = as_known(held.get("triggerPolicy", {}), f"{where}: triggerPolicy", "condition", "strategy")
    if trigger.get("strategy") not in STRATEGIES:
        raise IrError(f"{where}: the trigger strategy {trigger['strategy']!r} is not known here")
    return Task(
        name=name,
        label=str(as_map(held.get("taskInfo", {}), where).get("name", name)),
        component=str(as_map(held.get("componentRef", {}), where).get("name", "")),
        parameters=as_named(inputs.get("parameters", {}), f"{where}: input", _input),
        artifacts=as_named(inputs.get("artifacts", {}), f"{where}: input", _artifact_source),
        after=as_texts(held.get("dependentTasks", []), f"{where}: dependentTasks"),
        cache=bool(as_map(held.get("cachingOptions", {}), where).get("enableCache", False)),
        condition=as_text(trigger.get("condition", ""), f"{where}: condition") or None,
        whatever_happens=trigger.get("strategy") == COMPLETED,
        retry=_retry(where, held["retryPolicy"]) if held.get("retryPolicy") else None,
        loop=_loop(where, held),
    )


def _input(where: str, item: Any) -> Input:
    held = as_map(item, where)
    selector = held.pop("parameterExpressionSelector", None)
    return Input(_source(where, held), as_text(selector, where) if selector else None)


def _source(where: str, held: dict[str, Any]) -> Source:
    match list(held):
        case ["taskOutputParameter"]:
            made = as_map(held["taskOutputParameter"], where)
            return TaskOutput(str(made.get("producerTask")), str(made.get("outputParameterKey")))
        case ["componentInputParameter"]:
            return ComponentInput(str(held["componentInputParameter"]))
        case ["taskFinalStatus"]:
            return FinalStatus(str(as_map(held["taskFinalStatus"], where).get("producerTask")))
        case ["runtimeValue"]:
            return _runtime_value(where, held["runtimeValue"])
    raise IrError(f"{where} comes from {', '.join(held) or 'nowhere'}, which is not known here")


def _runtime_value(where: str, item: Any) -> Constant | ComponentInput:
    held = as_known(item, where, "constant", "constantValue", "runtimeParameter")
    if "runtimeParameter" in held:
        return ComponentInput(str(held["runtimeParameter"]))
    return Constant(as_value(held["constantValue"], where) if "constantValue" in held else held.get("constant"))


def _artifact_source(where: str, item: Any) -> Source:
    held = as_known(item, where, "taskOutputArtifact", "componentInputArtifact")
    if "componentInputArtifact" in held:
        return ComponentInput(str(held["componentInputArtifact"]))
    made = as_map(held.get("taskOutputArtifact"), where)
    return TaskOutput(str(made.get("producerTask")), str(made.get("outputArtifactKey")))


def _retry(where: str, item: Any) -> Retry | None:
    held = as_known(item, where, "maxRetryCount", "backoffDuration", "backoffFactor", "backoffMaxDuration")
    retry = Retry(
        times=as_whole(held.get("maxRetryCount", 0), f"{where}: maxRetryCount"),
        seconds=_seconds(where, held.get("backoffDuration", "0s")),
        factor=as_number(held.get("backoffFactor", 2.0), f"{where}: backoffFactor") or 2.0,
        most_seconds=min(_seconds(where, held.get("backoffMaxDuration", "3600s")), 3600.0),
    )
    return retry if retry.times > 0 else None


def _seconds(where: str, text: Any) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(text))
    if found is None:
        raise IrError(f"{where}: {text!r} is no duration; one is written as '60s'")
    return float(found[1])


def _loop(where: str, held: Mapping[str, Any]) -> Loop | None:
    policy = as_known(held.get("iteratorPolicy", {}), f"{where}: iteratorPolicy", "parallelismLimit")
    at_once = as_whole(policy.get("parallelismLimit", 0), f"{where}: parallelismLimit")
    if "artifactIterator" in held:
        over = as_known(held["artifactIterator"], f"{where}: artifactIterator", "items", "itemInput")
        items = as_known(over.get("items", {}), f"{where}: items", "inputArtifact")
        return Loop("artifact", str(over.get("itemInput")), None, str(items.get("inputArtifact")), at_once)
    if "parameterIterator" not in held:
        return None
    over = as_known(held["parameterIterator"], f"{where}: parameterIterator", "items", "itemInput")
    items = as_known(over.get("items", {}), f"{where}: items", "raw", "inputParameter")
    if "raw" not in items:
        return Loop("parameter", str(over.get("itemInput")), None, str(items.get("inputParameter")), at_once)
    try:
        raw = json.loads(as_text(items["raw"], f"{where}: raw"))
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, list):
        raise IrError(f"{where}: the items of its loop are {items['raw']!r}, which is no JSON list")
    return Loop("parameter", str(over.get("itemInput")), tuple(raw), None, at_once)


def _executor(label: str, item: Any) -> Executor:
    held, where = as_map(item, f"executor {label}"), f"executor {label}"
    kind = next(iter(held), "nothing")
    if kind == "container":
        container = as_known(held[kind], where, "image", "command", "args", "env", "resources", "lifecycle")
        return Container(
            image=str(container.get("image", "")),
            command=as_texts(container.get("command", []), f"{where}: command"),
            args=as_texts(container.get("args", []), f"{where}: args"),
            env=_environment(where, container.get("env", [])),
            resources=as_map(container.get("resources", {}), where),
            hook="preCacheCheck" in as_map(container.get("lifecycle", {}), where),
        )
    if kind == "importer":
        return _importer(where, held[kind])
    if kind in KINDS_ELSEWHERE:
        return Unsupported(kind)
    raise IrError(f"{where} is of kind {kind!r}; known are container, importer, {', '.join(KINDS_ELSEWHERE)}")


def _environment(where: str, item: Any) -> dict[str, str]:
    listed = [as_map(one, f"{where}: env") for one in as_list(item, f"{where}: env")]
    return {as_text(one.get("name"), f"{where}: env"): str(one.get("value", "")) for one in listed}


def _importer(where: str, item: Any) -> Importer:
    held = as_map(item, where)
    metadata = {
        name: _constant(value)
        for key in ("properties", "customProperties")
        for name, value in as_map(held.get(key, {}), where).items()
    }
    return Importer(
        uri=_runtime_value(where, held.get("artifactUri", {})),
        schema=as_map(held.get("typeSchema", {}), where),
        metadata=metadata | as_map(held.get("metadata", {}), where),
        reimport=bool(held.get("reimport", False)),
    )
