"""Reading pipelines: every form they come in, and errors that name what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.pipeline import sdk
from tests.pipeline.executing import document, text_of

from trilho.pipeline.ir.reader import (
    MISSING,
    ComponentInput,
    Constant,
    Container,
    FinalStatus,
    Importer,
    IrError,
    Retry,
    TaskOutput,
    Unsupported,
    load,
    parse,
    read,
)

TASKS: dict[str, dict[str, Any]] = {
    "make": {"takes": {"n": 1}, "values": {"n": "NUMBER_INTEGER"}, "makes": ["data"]},
    "use": {"takes": {"n": "make.n", "data": "=make.data"}},
}


def test_what_the_official_compiler_writes_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(text_of(sdk.branches))
    spec = load(tmp_path / "p.yaml")
    assert (spec.name, spec.schema_version, spec.platform) == ("branches", "2.1.0", None)
    assert spec.document == yaml.safe_load(text_of(sdk.branches))
    assert [name for name, _ in spec.walk()] == [
        "condition-branches-1",
        "condition-branches-1/condition-2",
        "condition-branches-1/condition-2/text",
        "condition-branches-1/condition-3",
        "condition-branches-1/condition-3/text-2",
        "condition-branches-1/condition-4",
        "condition-branches-1/condition-4/text-3",
        "flip",
        "text-4",
    ]
    assert spec.root.inputs["n"].default == 3
    assert isinstance(spec.root.inputs["n"].default, int)
    assert spec.components["comp-flip"].outputs == {
        "side": "STRING",
        "num": "NUMBER_INTEGER",
        "share": "NUMBER_DOUBLE",
        "ok": "BOOLEAN",
    }
    group = spec.components["comp-condition-branches-1"].dag
    assert group is not None
    chosen = group.parameters["pipelinechannel--condition-branches-1-oneof-1"]
    assert (chosen.one_of, [source.task for source in chosen.sources]) == (
        True,
        ["condition-2", "condition-3", "condition-4"],
    )


def test_exits_loops_retries_importers_are_read() -> None:
    exits = parse(text_of(sdk.exits)).root.dag
    assert exits is not None
    last = exits.tasks["status-of"]
    assert (last.whatever_happens, last.needs) == (True, ("exit-handler-1",))
    assert last.parameters["status"].source == FinalStatus("exit-handler-1")
    retrying = parse(text_of(sdk.retrying)).root.dag
    assert retrying is not None
    assert retrying.tasks["flaky"].retry == Retry(3, 0.0, 1.0, 3600.0)
    static = parse(text_of(sdk.static_loops)).root.dag
    assert static is not None
    loop = static.tasks["for-loop-4"].loop
    assert loop is not None
    assert (loop.over, loop.items, loop.at_once) == ("parameter", (1, 2, 3), 1)
    artifacts = parse(text_of(sdk.artifact_loop)).root.dag
    assert artifacts is not None
    over = artifacts.tasks["for-loop-1"].loop
    assert over is not None
    assert (over.over, over.items) == ("artifact", None)
    importing = parse(text_of(sdk.importing))
    importer = importing.executors["exec-importer"]
    assert isinstance(importer, Importer)
    assert importer.uri == ComponentInput("uri")
    assert importer.metadata == {"rows": "{{$.inputs.parameters['metadata']}}"}


def test_every_form_of_a_document_is_the_same_pipeline(tmp_path: Path) -> None:
    made = document(TASKS)
    job = {"displayName": "job", "pipelineSpec": made, "runtimeConfig": {
        "gcsOutputDirectory": "gs://b/r", "parameterValues": {"n": 3}, "parameters": {"old": {"intValue": "4"}},
    }}  # fmt: skip
    for name, text in {
        "a.json": json.dumps(made), "b.yaml": yaml.safe_dump(made), "c.json": json.dumps(job, indent=1),
        "d.yaml": yaml.safe_dump_all([made, {"platforms": {"kubernetes": {}}}]),
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    specs = [load(tmp_path / name) for name in ("a.json", "b.yaml", "c.json", "d.yaml")]
    assert all(spec.root == specs[0].root and spec.executors == specs[0].executors for spec in specs)
    assert specs[2].given == {"n": 3, "old": 4}
    assert specs[2].pipeline_root == "gs://b/r"
    assert specs[3].platform == {"platforms": {"kubernetes": {}}}


def test_the_older_schema_is_read() -> None:
    """The shape that TFX compiles to: typed by `type`, with values that say their type."""
    spec = read({
        "pipelineSpec": {
            "pipelineInfo": {"name": "penguin"},
            "schemaVersion": "2.0.0",
            "sdkVersion": "tfx-1.14.0",
            "deploymentSpec": {"executors": {
                "CsvExampleGen_executor": {"container": {
                    "image": "gcr.io/tfx", "command": ["python", "-m", "tfx.run"], "args": ["{{$}}"],
                    "lifecycle": {"preCacheCheck": {"args": ["--x"], "command": ["python"]}},
                }},
                "resolver_executor": {"resolver": {"outputArtifactQueries": {}}},
                "importer_executor": {"importer": {
                    "artifactUri": {"constantValue": {"stringValue": "gs://b/schema"}},
                    "typeSchema": {"instanceSchema": "title: tfx.Schema\\ntype: object\\n"},
                    "properties": {"p": {"constantValue": {"intValue": "1"}}},
                }},
            }},
            "components": {
                "CsvExampleGen": {
                    "executorLabel": "CsvExampleGen_executor",
                    "inputDefinitions": {"parameters": {
                        "input_base": {"type": "STRING"}, "output_file_format": {"type": "INT"},
                        "share": {"type": "DOUBLE"},
                    }},
                    "outputDefinitions": {"artifacts": {"examples": {
                        "artifactType": {"instanceSchema": "title: tfx.Examples"},
                        "properties": {"span": {"constantValue": {"intValue": "2"}}},
                    }}},
                },
            },
            "root": {
                "inputDefinitions": {"parameters": {"pipeline-root": {"type": "STRING"}}},
                "dag": {"tasks": {"CsvExampleGen": {
                    "taskInfo": {"name": "CsvExampleGen"},
                    "componentRef": {"name": "CsvExampleGen"},
                    "cachingOptions": {"enableCache": True},
                    "inputs": {"parameters": {
                        "input_base": {"runtimeValue": {"runtimeParameter": "pipeline-root"}},
                        "output_file_format": {"runtimeValue": {"constantValue": {"intValue": "6"}}},
                        "share": {"runtimeValue": {"constantValue": {"doubleValue": 0.5}}},
                    }},
                }}},
            },
        },
        "runtimeConfig": {"parameters": {"pipeline-root": {"stringValue": "gs://b/root"}}},
    })  # fmt: skip
    assert spec.given == {"pipeline-root": "gs://b/root"}
    component = spec.components["CsvExampleGen"]
    assert [kind.type for kind in component.inputs.values()] == ["STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE"]
    assert component.inputs["input_base"].default is MISSING
    assert component.artifact_outputs["examples"].metadata == {"span": 2}
    assert spec.root.dag is not None
    task = spec.root.dag.tasks["CsvExampleGen"]
    assert {name: given.source for name, given in task.parameters.items()} == {
        "input_base": ComponentInput("pipeline-root"), "output_file_format": Constant(6), "share": Constant(0.5),
    }  # fmt: skip
    container = spec.executor(component)
    assert isinstance(container, Container)
    assert container.hook
    assert spec.executors["resolver_executor"] == Unsupported("resolver")
    importer = spec.executors["importer_executor"]
    assert isinstance(importer, Importer)
    assert (importer.uri, importer.metadata) == (Constant("gs://b/schema"), {"p": 1})


def changed(change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(document(TASKS)))
    change(made, made["root"]["dag"]["tasks"])
    return made


def set_in(of: dict[str, Any], *keys: Any) -> None:
    for key in keys[:-2]:
        of = of[key]
    of[keys[-2]] = keys[-1]


@pytest.mark.parametrize(
    ("change", "fact", "hint"),
    [
        (lambda d, t: d.pop("root"), "this is no pipeline in the KFP v2 representation: it has no root", None),
        (lambda d, t: d.update(schemaVersion="3.0.0"), "it has schemaVersion '3.0.0'; known are 2.0.0, 2.1.0", None),
        (lambda d, t: set_in(t, "use", "componentRef", "name", "comp-mak"),
         "task use: component 'comp-mak' is not there", "did you mean 'comp-make'?"),
        (lambda d, t: set_in(t, "use", "dependentTasks", ["mak"]), "task use: the task 'mak' is not there", "'make'?"),
        (lambda d, t: set_in(t, "use", "inputs", "parameters", "n", {"componentInputParameter": "k"}),
         "task use: input n: the parameter 'k' is not there", "there are: none"),
        (lambda d, t: set_in(t, "use", "inputs", "parameters", "n", "taskOutputParameter", "outputParameterKey", "m"),
         "task use: input n: the parameter of task make 'm' is not there", "there are: n"),
        (lambda d, t: set_in(t, "use", "inputs", "artifacts", "data", "taskOutputArtifact", "outputArtifactKey", "m"),
         "task use: input data: the artifact of task make 'm' is not there", "there are: data"),
        (lambda d, t: set_in(t, "use", "inputs", "parameters", "n", {"fromTheMoon": 1}),
         "root: task use: input n comes from fromTheMoon, which is not known here", None),
        (lambda d, t: set_in(t, "make", "dependentTasks", ["use"]), "root goes in a circle: make, use", None),
        (lambda d, t: set_in(t, "use", "newThing", 1), "task use has 'newThing', which is not known here", None),
        (lambda d, t: set_in(t, "use", "triggerPolicy", {"strategy": "NEVER"}), "strategy 'NEVER' is not known", None),
        (lambda d, t: set_in(t, "use", "retryPolicy", {"maxRetryCount": 2, "backoffDuration": "1m"}),
         "task use: '1m' is no duration; one is written as '60s'", None),
        (lambda d, t: set_in(t, "use", "parameterIterator", {"items": {"raw": "{"}, "itemInput": "n"}),
         "the items of its loop are '{', which is no JSON list", None),
        (lambda d, t: set_in(t, "use", "parameterIterator", {"items": {"inputParameter": "m"}, "itemInput": "n"}),
         "task use: the input of its loop 'm' is not there", None),
        (lambda d, t: d["deploymentSpec"]["executors"].pop("exec-use"),
         "component comp-use: executor 'exec-use' is not there", None),
        (lambda d, t: set_in(d, "components", "comp-use", "inputDefinitions", "parameters", "n", "parameterType", "X"),
         "component comp-use: input n is of type 'X'; known are STRING", None),
        (lambda d, t: set_in(d, "components", "comp-use", "inputDefinitions", "parameters", "n", "defaultValue", "x"),
         'component comp-use: input n: its default "x" is not a whole number', None),
        (lambda d, t: d["components"]["comp-use"].pop("executorLabel"),
         "component comp-use has to have either a dag or an executorLabel", None),
        (lambda d, t: t.update({"../../etc": t["use"]}), "has the name '../../etc'; names are of letters", None),
        (lambda d, t: set_in(d, "components", "comp-use", {"dag": {"tasks": {
            "in": {"componentRef": {"name": "comp-use"}}}}}),
         "component comp-use is inside itself: root > comp-use > comp-use", None),
        (lambda d, t: set_in(d, "root", "dag", "outputs", {"parameters": {"o": {"valueFromParameter": {
            "producerSubtask": "nope", "outputParameterKey": "n"}}}}),
         "root: output o: the task 'nope' is not there", None),
        (lambda d, t: set_in(d, "root", 5), "root is a number, and a map is wanted", None),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(change: Any, fact: str, hint: str | None) -> None:
    with pytest.raises(IrError) as caught:
        read(changed(change))
    assert fact in caught.value.fact
    assert caught.value.exit_code == 2
    if hint is not None:
        assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("a: [", "this is no YAML and no JSON"),
        ("{", "this is no YAML and no JSON"),
        ("", "0 documents"),
        ("a: 1\n---\nb: 1\n---\nc: 1\n", "3 documents"),
        ("- 1\n", "the document is a list, and a map is wanted"),
    ],
)
def test_what_is_no_document_is_said_with_its_file(tmp_path: Path, text: str, fact: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(IrError) as caught:
        load(tmp_path / "p.yaml")
    assert caught.value.fact.startswith(f"{tmp_path}/p.yaml: {fact}")


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(IrError, match=r"none\.yaml cannot be read"):
        load(tmp_path / "none.yaml")


def test_needs_are_what_is_read_and_what_is_waited_for() -> None:
    made = document({**TASKS, "last": {"takes": {"n": "make.n"}, "dependentTasks": ["use", "make"]}})
    spec = read(made)
    assert spec.root.dag is not None
    assert spec.root.dag.tasks["last"].needs == ("make", "use")
    assert spec.root.dag.tasks["use"].artifacts == {"data": TaskOutput("make", "data")}
