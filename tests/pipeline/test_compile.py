"""A compiled pipeline is what the official compiler writes of the same pipeline, and its loaders take it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.pipeline.twins import IMAGE, TWINS, Official

from trilho.pipeline.compile.compiler import compile_definition, dump
from trilho.pipeline.definition.document import Definition, GraphError, linked, read_interfaces
from trilho.pipeline.ir.reader import read
from trilho.pipeline.rules.check import require_sound
from trilho_runtime.pipeline import Item, Param, Pipeline, Status


def compiled(pipeline: Pipeline, source: Path) -> dict[str, Any]:
    definition = linked(Definition.read(pipeline.definition()), source)
    interfaces = read_interfaces(definition, source)
    require_sound(definition, interfaces)
    return compile_definition(definition, interfaces, image=IMAGE)


def normalised(ir: dict[str, Any]) -> dict[str, Any]:
    """Take out what does not change the meaning: who compiled it. Numbers are compared by value, 5 as 5.0."""
    return {key: value for key, value in json.loads(json.dumps(ir)).items() if key != "sdkVersion"}


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Official:
    return Official(tmp_path_factory.mktemp("source"))


@pytest.mark.parametrize("name", TWINS)
def test_the_official_compiler_writes_the_same(name: str, official: Official) -> None:
    from google.protobuf import json_format

    ours, theirs = TWINS[name](official)
    expected = json_format.MessageToDict(theirs.pipeline_spec)
    assert normalised(compiled(ours, official.source)) == normalised(expected)


@pytest.mark.parametrize("name", TWINS)
def test_the_official_loaders_take_it(name: str, official: Official, tmp_path: Path) -> None:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform
    from kfp import components

    text = dump(compiled(TWINS[name](official)[0], official.source))
    loaded = components.load_component_from_text(text)
    path = tmp_path / "pipeline.yaml"
    path.write_text(text)
    given = {"rows": 5} if name == "parameters_and_defaults" else {}
    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
    job = aiplatform.PipelineJob(
        display_name=name, template_path=str(path), pipeline_root="gs://shop/root", parameter_values=given,
        project="shop", location="southamerica-east1", credentials=credentials,
    )  # fmt: skip
    assert loaded.name == yaml.safe_load(text)["pipelineInfo"]["name"]
    assert job.to_dict()["pipelineSpec"] == normalised(yaml.safe_load(text)) | {"sdkVersion": job_sdk(text)}


def job_sdk(text: str) -> str:
    return str(yaml.safe_load(text)["sdkVersion"])


@pytest.mark.parametrize("name", TWINS)
def test_what_is_written_is_read_again_as_it_was(name: str, official: Official) -> None:
    ir = compiled(TWINS[name](official)[0], official.source)
    assert yaml.safe_load(dump(ir)) == ir
    assert read(ir).name == ir["pipelineInfo"]["name"]


def test_the_same_pipeline_gives_the_same_bytes_in_every_process(official: Official, tmp_path: Path) -> None:
    definitions = {name: TWINS[name](official)[0].definition() for name in TWINS}
    (tmp_path / "definitions.json").write_text(json.dumps(definitions))
    code = (
        "import json,sys;from pathlib import Path;from trilho.pipeline.compile.compiler import *;"
        "from trilho.pipeline.definition.document import *;source=Path(sys.argv[2]);out=[]\n"
        "for x in json.load(open(sys.argv[1])).values():\n"
        "    d=linked(Definition.read(x),source);i=read_interfaces(d,source)\n"
        "    out.append(dump(compile_definition(d,i,image='i')))\n"
        "sys.stdout.write('---'.join(out))"
    )
    said = set()
    for seed in ("0", "1", "4711"):
        words = [sys.executable, "-c", code, str(tmp_path / "definitions.json"), str(official.source)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        said.add(subprocess.run(words, env=environment, check=True, capture_output=True).stdout)
    assert len(said) == 1
    assert len(said.pop()) > 10_000


# ---- what the official compiler cannot say, or says wrongly ------------------------------------------------------


def conditions(official: Official, condition: Any) -> str:
    pipeline = Pipeline("p", parameters={"a": 1, "b": 0.5, "s": "x", "f": True})
    with pipeline.when(condition):
        pipeline.task("say", "shop.steps:say")
    tasks = compiled(pipeline, official.source)["root"]["dag"]["tasks"]
    return str(tasks["condition-1"]["triggerPolicy"]["condition"]).replace("inputs.parameter_values", "")


A, B, S, F = Param("a") > 1, Param("b") <= 2, Param("s") == "x", Param("f") == True  # noqa: E712


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (A & B, "int(['pipelinechannel--a']) > 1 && ['pipelinechannel--b'] <= double(2)"),
        (A | S, "int(['pipelinechannel--a']) > 1 || ['pipelinechannel--s'] == 'x'"),
        (~A, "!(int(['pipelinechannel--a']) > 1)"),
        (~(A & S), "!(int(['pipelinechannel--a']) > 1 && ['pipelinechannel--s'] == 'x')"),
        ((A | F) & ~S, "(int(['pipelinechannel--a']) > 1 || ['pipelinechannel--f'] == true) && "
                       "!(['pipelinechannel--s'] == 'x')"),
        (Param("s") == "it's \\ \n", r"['pipelinechannel--s'] == 'it\'s \\ \u000a'"),
        (Param("b") > Param("a"), "['pipelinechannel--b'] > double(int(['pipelinechannel--a']))"),
        (Param("a") >= -0.5, "double(int(['pipelinechannel--a'])) >= -0.5"),
    ],
)  # fmt: skip
def test_conditions_are_written_in_cel(official: Official, condition: Any, text: str) -> None:
    assert conditions(official, condition) == text


@pytest.mark.parametrize("number", range(16))
def test_and_or_and_not_come_to_what_they_mean(official: Official, number: int) -> None:
    from trilho.pipeline.ir.expression import parse

    a, b, s, f = (bool(number & 1 << bit) for bit in range(4))
    values = {"a": 2 if a else 1, "b": 0.5 if b else 2.5, "s": "x" if s else "it's", "f": f}
    given = {"inputs": {"parameter_values": {f"pipelinechannel--{key}": value for key, value in values.items()}}}
    for condition, expected in (
        ((A & B) | (S & F), (a and b) or (s and f)),
        (~(A | B) & S, not (a or b) and s),
        (~(A & ~(B | ~F)), not (a and not (b or not f))),
        ((A | B) & (S | F), (a or b) and (s or f)),
    ):
        text = conditions(official, condition).replace("['pipeline", "inputs.parameter_values['pipeline")
        assert parse(text).holds(given) is expected


def test_of_a_chain_exactly_one_branch_runs(official: Official) -> None:
    from trilho.pipeline.ir.expression import parse

    pipeline = Pipeline("p", parameters={"a": 1, "b": 0.5, "s": "x"})
    with pipeline.when(A | S):
        pipeline.task("say", "shop.steps:say")
    with pipeline.otherwise(B | S):
        pipeline.task("say-2", "shop.steps:say")
    with pipeline.otherwise():
        pipeline.task("say-3", "shop.steps:say")
    ir = compiled(pipeline, official.source)
    tasks = ir["components"]["comp-condition-branches-1"]["dag"]["tasks"]
    texts = [tasks[f"condition-{number}"]["triggerPolicy"]["condition"] for number in (2, 3, 4)]
    for a, b, s in ((2, 0, "x"), (1, 0, "y"), (1, 3, "y"), (2, 3, "y"), (1, 3, "x")):
        values = {"pipelinechannel--a": a, "pipelinechannel--b": b, "pipelinechannel--s": s}
        given = {"inputs": {"parameter_values": values}}
        assert sum(parse(text).holds(given) for text in texts) == 1


def test_a_field_of_a_written_item_reaches_into_a_condition(official: Official) -> None:
    """The official compiler fails here with an assertion."""
    pipeline = Pipeline("p")
    with pipeline.each("one", over=[{"a": "x", "n": 1}, {"a": "y", "n": 2}]), pipeline.when(Item("one")["a"] == "x"):
        pipeline.task("need", "shop.steps:need", rows=Item("one")["n"], side=Item("one")["a"])
    ir = compiled(pipeline, official.source)
    item = "pipelinechannel--loop-item-param-1"
    branch = ir["components"]["comp-condition-3"]
    assert branch["inputDefinitions"]["parameters"] == {
        item: {"parameterType": "STRUCT"},
        f"{item}-subvar-a": {"parameterType": "STRING"},
    }
    assert branch["dag"]["tasks"]["need"]["inputs"]["parameters"]["rows"] == {
        "componentInputParameter": item,
        "parameterExpressionSelector": 'parseJson(string_value)["n"]',
    }
    read(ir)


def test_outputs_pass_through_what_an_exit_task_follows(official: Official) -> None:
    pipeline = Pipeline("p")
    pipeline.task("load", "shop.steps:load")
    pipeline.task("fit", "shop.steps:fit", table="load.table")
    pipeline.on_exit("notify", "shop.steps:notify", status=Status())
    pipeline.output("model", "fit.model")
    pipeline.output("rows", "load.rows")
    ir = compiled(pipeline, official.source)
    assert ir["root"]["dag"]["outputs"] == {
        "artifacts": {"model": {"artifactSelectors": [
            {"producerSubtask": "exit-handler-1", "outputArtifactKey": "pipelinechannel--fit-model"}]}},
        "parameters": {"rows": {"valueFromParameter": {
            "producerSubtask": "exit-handler-1", "outputParameterKey": "pipelinechannel--load-rows"}}},
    }  # fmt: skip
    assert set(ir["root"]["dag"]["tasks"]) == {"exit-handler-1", "notify"}
    read(ir)


def test_the_kind_of_a_loops_items_is_that_of_what_reads_them(official: Official) -> None:
    pipeline = Pipeline("p", parameters={"sizes": [1, 2]})
    with pipeline.each("size", over=Param("sizes")):
        pipeline.task("need", "shop.steps:need", rows=Item("size"), side="x")
    with pipeline.each("part", over=[1, 2.5]):
        pipeline.task("load", "shop.steps:load", part=Item("part"))
    ir = compiled(pipeline, official.source)
    inputs = ir["components"]["comp-for-loop-1"]["inputDefinitions"]["parameters"]
    assert inputs["pipelinechannel--sizes-loop-item"] == {"parameterType": "NUMBER_INTEGER"}
    inputs = ir["components"]["comp-for-loop-3"]["inputDefinitions"]["parameters"]
    assert inputs["pipelinechannel--loop-item-param-2"] == {"parameterType": "NUMBER_DOUBLE"}


def test_blocks_are_numbered_past_the_names_of_tasks(official: Official) -> None:
    pipeline = Pipeline("p", parameters={"a": 1})
    pipeline.task("condition-1", "shop.steps:say")
    with pipeline.when(A):
        pipeline.task("Say_Two", "shop.steps:say")
    ir = compiled(pipeline, official.source)
    assert set(ir["root"]["dag"]["tasks"]) == {"condition-1", "condition-2"}
    assert set(ir["components"]["comp-condition-2"]["dag"]["tasks"]) == {"say-two"}


@pytest.mark.parametrize("value", [2**53 + 1, -(2**60), [1, {"a": 2**63}]])
def test_a_number_that_a_pipeline_would_change_is_refused(official: Official, value: Any) -> None:
    pipeline = Pipeline("p")
    pipeline.task("look", "shop.steps:look", **({"rows": value} if isinstance(value, int) else {"words": value}))
    with pytest.raises(GraphError, match="more than a pipeline's numbers hold"):
        compiled(pipeline, official.source)


def test_a_platform_step_says_its_version_and_a_step_what_code_counts(official: Official) -> None:
    pipeline = Pipeline("p", parameters={"dataset": str})
    pipeline.task("extract", "trilho.train.steps:extract", dataset=Param("dataset"), store="gs://s")
    pipeline.task("say", "shop.steps:say", code=["shop.more:a", "*"], uncounted=["text"])
    executors = compiled(pipeline, official.source)["deploymentSpec"]["executors"]
    environment = {one["name"]: one["value"] for one in executors["exec-extract"]["container"]["env"]}
    assert environment.keys() <= {"TRILHO_VERSION", "TRILHO_UNCOUNTED"}
    assert int(environment["TRILHO_VERSION"]) >= 1
    assert executors["exec-say"]["container"]["env"] == [
        {"name": "TRILHO_CODE", "value": "shop.steps:say,shop.more:a,*"},
        {"name": "TRILHO_UNCOUNTED", "value": "text"},
    ]


def test_texts_are_written_as_yaml_that_no_reader_takes_for_something_else() -> None:
    odd = ["no", "1e3", "0x1f", "12:30:00", "2026-01-01", "~", "", " a", "a: b", "#x", "- a", "ü😀", "a\tb\n",
           "\x7f\u2028", "=", "<<", "{a}", "null", "Nan", ".inf", "1_000", "a #b",
           "'q'", '"q"', "@x", "a:b", "a:"]  # fmt: skip
    ir = {
        "pipelineInfo": {"name": "p"},
        "root": {},
        "list": odd,
        "keys": {text: index for index, text in enumerate(odd)},
        "numbers": [1, -2, 0.5, 1e-05, 1e22, -1.5e300, True, False, None],
        "nested": [[1, []], [{"a": {}}, {"b": [{"c": "d"}]}]],
    }
    assert yaml.safe_load(dump(ir)) == ir
