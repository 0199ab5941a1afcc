"""A pipeline to look at, whoever compiled it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.test_compile import compiled
from tests.pipeline.twins import TWINS, Official

from trilho.pipeline.ir.outline import images, lines, outline, outputs, parameters
from trilho.pipeline.ir.reader import read


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Official:
    return Official(tmp_path_factory.mktemp("source"))


def rows(official: Official, name: str) -> list[tuple[str, str]]:
    spec = read(compiled(TWINS[name](official)[0], official.source))
    return [(title, runs) for title, runs, _ in lines(outline(spec))]


def test_conditions_name_what_they_compare(official: Official) -> None:
    assert rows(official, "nested_conditions") == [
        ("  load", "shop.steps:load"),
        ("  condition-branches-1", "one of"),
        ("    condition-6", "if load.rows > rows"),
        ("      look", "shop.steps:look"),
        ("      condition-branches-2", "one of"),
        ("        condition-4", "if look.output == side"),
        ("          need", "shop.steps:need"),
        ("          condition-3", "if load.ok == true"),
        ("            say", "shop.steps:say"),
        ("        condition-5", "if !(look.output == side)"),
        ("          say-2", "shop.steps:say"),
        ("    condition-7", "if !(load.rows > rows)"),
        ("      say-3", "shop.steps:say"),
    ]


def test_loops_name_what_they_go_over(official: Official) -> None:
    found = dict(rows(official, "each_of_structs"))
    assert found["  for-loop-1"] == "for each item of plan.options"
    assert found["    condition-2"] == "if item of plan.options[\"kind\"] == 'deep'"
    assert dict(rows(official, "each_of_a_written_list"))["  for-loop-2"] == "for each item of [1, 2, 3]"


def test_outputs_name_the_task_that_makes_them(official: Official) -> None:
    for name, expected in (
        ("collected", {"Output": "all fit.output"}),
        ("first_of_branches", {"Output": "say.output or say-2.output or say-3.output"}),
        ("several_outputs", {"model": "fit.model", "share": "fit.output", "side": "load.side"}),
    ):
        assert outputs(read(compiled(TWINS[name](official)[0], official.source))) == expected


def test_every_pipeline_the_official_compiler_writes_can_be_shown(official: Official) -> None:
    from google.protobuf import json_format

    for name, twin in TWINS.items():
        ours, theirs = twin(official)
        documents = [json_format.MessageToDict(theirs.pipeline_spec), compiled(ours, official.source)]
        specs = [read(json.loads(json.dumps(document, sort_keys=True))) for document in documents]
        assert list(lines(outline(specs[0]))) == list(lines(outline(specs[1]))), name


TFX: dict[str, Any] = {
    "displayName": "penguin",
    "pipelineSpec": {
        "pipelineInfo": {"name": "penguin"},
        "schemaVersion": "2.0.0",
        "sdkVersion": "tfx-1.15.1",
        "deploymentSpec": {"executors": {
            "CsvExampleGen_executor": {"container": {
                "image": "gcr.io/tfx-oss-public/tfx:1.15.1",
                "args": ["--executor_class_path", "tfx.components.example_gen.csv_example_gen.executor.Executor",
                         "--json_serialized_invocation_args", "{{$}}"],
                "lifecycle": {"preCacheCheck": {"args": ["--executor_input", "{{$}}"], "command": ["python"]}},
            }},
            "Trainer_executor": {"container": {
                "image": "gcr.io/tfx-oss-public/tfx:1.15.1",
                "args": ["--executor_class_path", "tfx.components.trainer.executor.GenericExecutor",
                         "--json_serialized_invocation_args", "{{$}}"],
            }},
            "latest_resolver_executor": {"resolver": {"outputArtifactQueries": {"model": {"filter": "state=LIVE"}}}},
            "schema_importer_executor": {"importer": {
                "artifactUri": {"constantValue": {"stringValue": "gs://penguin/schema"}},
                "typeSchema": {"instanceSchema": "title: tfx.Schema\ntype: object\n"},
            }},
        }},
        "components": {
            "CsvExampleGen": {
                "executorLabel": "CsvExampleGen_executor",
                "inputDefinitions": {"parameters": {"input_base": {"type": "STRING"}}},
                "outputDefinitions": {"artifacts": {"examples": {
                    "artifactType": {"instanceSchema": "title: tfx.Examples\ntype: object\n"}}}},
            },
            "Trainer": {
                "executorLabel": "Trainer_executor",
                "inputDefinitions": {
                    "artifacts": {
                        "examples": {"artifactType": {"instanceSchema": "title: tfx.Examples\ntype: object\n"}},
                        "schema": {"artifactType": {"instanceSchema": "title: tfx.Schema\ntype: object\n"}},
                        "base_model": {"artifactType": {"instanceSchema": "title: tfx.Model\ntype: object\n"}},
                    },
                    "parameters": {"train_steps": {"type": "INT"}},
                },
                "outputDefinitions": {"artifacts": {"model": {
                    "artifactType": {"instanceSchema": "title: tfx.Model\ntype: object\n"}}}},
            },
            "latest_resolver": {
                "executorLabel": "latest_resolver_executor",
                "outputDefinitions": {"artifacts": {"model": {
                    "artifactType": {"instanceSchema": "title: tfx.Model\ntype: object\n"}}}},
            },
            "schema_importer": {
                "executorLabel": "schema_importer_executor",
                "inputDefinitions": {"parameters": {"artifact_uri": {"type": "STRING"}}},
                "outputDefinitions": {"artifacts": {"result": {
                    "artifactType": {"instanceSchema": "title: tfx.Schema\ntype: object\n"}}}},
            },
        },
        "root": {
            "inputDefinitions": {"parameters": {"train-steps": {"type": "INT"}}},
            "dag": {"tasks": {
                "CsvExampleGen": {
                    "taskInfo": {"name": "CsvExampleGen"}, "componentRef": {"name": "CsvExampleGen"},
                    "cachingOptions": {"enableCache": True},
                    "inputs": {"parameters": {
                        "input_base": {"runtimeValue": {"constantValue": {"stringValue": "gs://penguin/data"}}}}},
                },
                "latest_resolver": {
                    "taskInfo": {"name": "latest_resolver"}, "componentRef": {"name": "latest_resolver"},
                },
                "schema_importer": {
                    "taskInfo": {"name": "schema_importer"}, "componentRef": {"name": "schema_importer"},
                    "inputs": {"parameters": {
                        "artifact_uri": {"runtimeValue": {"constantValue": {"stringValue": "gs://penguin/schema"}}}}},
                },
                "Trainer": {
                    "taskInfo": {"name": "Trainer"}, "componentRef": {"name": "Trainer"},
                    "dependentTasks": ["CsvExampleGen", "latest_resolver", "schema_importer"],
                    "inputs": {
                        "artifacts": {
                            "examples": {"taskOutputArtifact": {
                                "producerTask": "CsvExampleGen", "outputArtifactKey": "examples"}},
                            "schema": {"taskOutputArtifact": {
                                "producerTask": "schema_importer", "outputArtifactKey": "result"}},
                            "base_model": {"taskOutputArtifact": {
                                "producerTask": "latest_resolver", "outputArtifactKey": "model"}},
                        },
                        "parameters": {"train_steps": {"runtimeValue": {"runtimeParameter": "train-steps"}}},
                    },
                },
            }},
        },
    },
    "runtimeConfig": {
        "gcsOutputDirectory": "gs://penguin/root", "parameters": {"train-steps": {"intValue": "100"}},
    },
}  # fmt: skip


def test_what_tfx_compiles_is_shown_like_any_other(tmp_path: Path) -> None:
    spec = read(TFX)
    assert parameters(spec) == [("train-steps", "int", "100")]
    assert [(name, runs) for name, runs, _ in lines(outline(spec))] == [
        ("  CsvExampleGen", "tfx.components.example_gen.csv_example_gen.executor.Executor"),
        ("  latest_resolver", "resolver (of a cloud)"),
        ("  schema_importer", "import 'gs://penguin/schema'"),
        ("  Trainer", "tfx.components.trainer.executor.GenericExecutor"),
    ]
    trainer = outline(spec)[-1]
    assert trainer.given["schema"] == "schema_importer.result"
    assert trainer.given["train_steps"] == "train-steps"
    assert images(spec) == ["gcr.io/tfx-oss-public/tfx:1.15.1"]
