"""The Open Inference Protocol v2: Triton's own client unchanged, tensors of every type, refusals."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.runtime.protocol_server import ANSWER, CLASSES, FIELDS, ROW, Plane
from tests.runtime.serving import ANSWER as WHOLE_ANSWER
from tests.runtime.serving import ROW as WHOLE_ROW
from tests.runtime.serving import Launcher, Reply, call
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from trilho_runtime.model.outputs import Outputs
from trilho_runtime.prediction.entries import Telling
from trilho_runtime.prediction.job import Outcome
from trilho_runtime.protocols.inference import Inference, datatype_of, header_length, past_of, read_head, rows_of
from trilho_runtime.protocols.inferred import described, inferred
from trilho_runtime.protocols.tensors import NUMPY, Binary, read_tensor, write_binary, write_tensor
from trilho_runtime.schema.signature import Field
from trilho_runtime.web.http import HttpError

SERVER = "tests.runtime.protocol_server"
INFER = "/v2/models/tiny/infer"
ARRAYS = {
    "x": np.array([1.5, 0.0]),
    "count": np.array([2, 7], np.int64),
    "level": np.array([np.nan, 3.0], np.float32),
    "kind": np.array(["new", "é\x00b"], object),
    "flag": np.array([True, False]),
    "at": np.array([b"2026-01-31T12:00:00", b"2026-02-01"], object),
}
DATATYPES = {"x": "FP64", "count": "INT64", "level": "FP32", "kind": "BYTES", "flag": "BOOL", "at": "BYTES"}


@pytest.fixture(scope="module")
def launch_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path_factory.mktemp("inference"), Path(sys.executable))
    yield launcher
    launcher.end()


@pytest.fixture(scope="module")
def address(launch_here: Launcher) -> str:
    return launch_here.run(Path(sys.executable), SERVER, "--decide").wait_until_ready()


@pytest.fixture(scope="module")
def classifier(launch_here: Launcher) -> str:
    return launch_here.run(Path(sys.executable), SERVER, "--kind", "probabilities").wait_until_ready()


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with triton.InferenceServerClient(address.removeprefix("http://")) as opened:
        yield opened


def inputs(binary: bool, column: bool = False) -> list[Any]:
    made = []
    for name, array in ARRAYS.items():
        shaped = array.reshape(-1, 1) if column else array
        tensor = triton.InferInput(name, shaped.shape, DATATYPES[name])
        made.append(tensor.set_data_from_numpy(shaped, binary_data=binary))
    return made


def tensors(**changes: Any) -> list[dict[str, Any]]:
    """Give the example row as tensors; None leaves one out."""
    kinds = {field["name"]: datatype_of(Field(field["name"], field["type"], True)) for field in FIELDS}
    made = {name: {"name": name, "shape": [1], "datatype": kinds[name], "data": [value]} for name, value in ROW.items()}
    for name, change in changes.items():
        made[name] = {**made.get(name, {"name": name, "shape": [1]}), **change} if change is not None else {}
    return [tensor for tensor in made.values() if tensor]


def test_triton_sees_a_server_and_a_model_that_are_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "3")
    assert not client.is_model_ready("tiny", "4")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("tiny", "3")
    assert (metadata["name"], metadata["versions"]) == ("tiny", ["3"])
    assert [(i["name"], i["datatype"], i["shape"]) for i in metadata["inputs"]] == [
        ("x", "FP64", [-1]),
        ("count", "INT64", [-1]),
        ("level", "FP64", [-1]),
        ("kind", "BYTES", [-1]),
        ("flag", "BOOL", [-1]),
        ("at", "BYTES", [-1]),
    ]
    assert [(o["name"], o["datatype"]) for o in metadata["outputs"]] == [
        ("prediction", "FP64"),
        ("id", "BYTES"),
        ("decision", "BYTES"),
    ]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("column", [True, False])
def test_triton_infers(client: Any, binary_in: bool, binary_out: bool, column: bool) -> None:
    wanted = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("prediction", "decision")]
    result = client.infer("tiny", inputs(binary_in, column), outputs=wanted, request_id="mine")
    assert result.as_numpy("prediction").tolist() == [ANSWER, 7.0]
    decisions = [value.decode() if binary_out else str(value) for value in result.as_numpy("decision").tolist()]
    assert decisions == ["true", "true"]
    assert result.get_response()["id"] == "mine"
    assert [output["name"] for output in result.get_response()["outputs"]] == ["prediction", "decision"]


def test_triton_infers_with_nothing_asked_and_by_version(client: Any) -> None:
    result = client.infer("tiny", inputs(True), model_version="3")
    assert result.as_numpy("prediction").tolist() == [ANSWER, 7.0]
    ids = [value.decode() for value in result.as_numpy("id")]
    assert [name.split(".")[1] for name in ids] == ["0", "1"]
    with pytest.raises(InferenceServerException, match="no version '9' here; there is 3"):
        client.infer("tiny", inputs(True), model_version="9")
    with pytest.raises(InferenceServerException, match="no output 'probability'"):
        client.infer("tiny", inputs(True), outputs=[triton.InferRequestedOutput("probability")])
    with pytest.raises(InferenceServerException, match="x is missing"):
        client.infer("tiny", inputs(True)[1:])


def test_triton_reads_probabilities_and_labels(classifier: str) -> None:
    with triton.InferenceServerClient(classifier.removeprefix("http://")) as client:
        result = client.infer("tiny", inputs(True))
        shares = result.as_numpy("probabilities")
        assert shares.shape == (2, 3)
        assert np.allclose(shares.sum(axis=1), 1)
        labels = [CLASSES[place] for place in shares.argmax(axis=1)]
        assert [value.decode() for value in result.as_numpy("label")] == labels
        outputs = client.get_model_metadata("tiny")["outputs"]
    assert outputs[0] == {"name": "probabilities", "datatype": "FP64", "shape": [-1, 3]}
    assert call(classifier, INFER, {"inputs": tensors(), "outputs": [{"name": "decision"}]}).status == 400


def test_one_tensor_carries_a_row_of_one_type() -> None:
    fields = (Field("a", "number", True), Field("b", "integer", False))
    told = {"name": "input-0", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2], [None, 4]]}
    tensor = read_tensor(told, Binary(b""), 10)
    assert rows_of([tensor], fields) == [{"a": 1, "b": 2}, {"a": None, "b": 4}]
    assert rows_of([read_tensor({**told, "data": [1, 2, 3, 4]}, Binary(b""), 10)], fields)[1] == {"a": 3, "b": 4}
    with pytest.raises(HttpError, match="has 2 columns; the model has 1 fields, a"):
        rows_of([tensor], fields[:1])
    one = read_tensor({**told, "name": "b", "shape": [2, 1], "data": [5, 6]}, Binary(b""), 10)
    assert rows_of([one], fields) == [{"b": 5}, {"b": 6}]
    assert rows_of([one], fields[:1]) == [{"a": 5}, {"a": 6}]


@pytest.mark.parametrize("datatype", [name for name in NUMPY if name not in ("BOOL", "BYTES")])
def test_every_number_comes_as_json_and_as_bytes(datatype: str) -> None:
    told = {"name": "x", "shape": [3], "datatype": datatype}
    values = [0, 1, 100]
    data = np.array(values, NUMPY[datatype]).tobytes()
    assert read_tensor({**told, "data": values}, Binary(b""), 3).values == values
    sized = {**told, "parameters": {"binary_data_size": len(data)}}
    assert read_tensor(sized, Binary(data), 3).values == values


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": 3}, "not an object with a"),
        ({"datatype": "BF16"}, 'datatype is "BF16"; allowed: BOOL'),
        ({"datatype": ["FP64"]}, "allowed: BOOL"),
        ({"shape": [-1]}, "shape is [-1]; wanted"),
        ({"shape": [1, 1, 1]}, "wanted [rows]"),
        ({"shape": []}, "wanted [rows]"),
        ({"shape": [True]}, "wanted [rows]"),
        ({"shape": [0]}, "one at least"),
        ({"shape": [1e3]}, "wanted [rows]"),
        ({"shape": [2]}, "data has 1 values; its shape [2] holds 2"),
        ({"data": None}, "data is null; wanted an array"),
        ({"shape": [1, 2], "data": [[1]]}, "a row of data has not 2 values"),
        ({"data": [[1]]}, "row 0: input x is [1], a list; wanted FP64"),
        ({"data": [True]}, "row 0: input x is true, a boolean; wanted FP64"),
        ({"datatype": "INT8", "data": [128]}, "row 0: input x is 128, an integer; wanted INT8, -128 to 127"),
        ({"datatype": "BOOL", "data": [1]}, "row 0: input x is 1, an integer; wanted BOOL"),
        ({"datatype": "BYTES", "data": [1]}, "row 0: input x is 1, an integer; wanted BYTES"),
        ({"parameters": {"shared_memory_region": "a"}}, "shared memory is not supported"),
        ({"parameters": [1]}, "binary_data_size"),
        ({"parameters": {"binary_data_size": 9}}, "binary_data_size is 9; 8 bytes of the body are left"),
        ({"parameters": {"binary_data_size": -1}}, "binary_data_size is -1"),
        ({"parameters": {"binary_data_size": 7}}, "7 bytes; 1 values of FP64 are 8"),
        ({"datatype": "BYTES", "parameters": {"binary_data_size": 8}}, "is cut"),
        ({"datatype": "BYTES", "parameters": {"binary_data_size": 3}}, "not a length in four bytes"),
    ],
)
def test_a_malformed_tensor_is_400(change: dict[str, Any], says: str) -> None:
    told = {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0], **change}
    with pytest.raises(HttpError) as raised:
        read_tensor(told, Binary(b"\xff" * 8), 5)
    assert raised.value.answer.status == 400
    assert says in raised.value.answer.payload["error"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shape": [10**30]}, f"shape is [{10**30}]; wanted [rows] or [rows, columns]"),
        ({"datatype": 10**30}, f"datatype is {10**30}; allowed: BOOL"),
        (
            {"datatype": "INT64", "data": [10**30]},
            f"row 0: input x is {10**30}, an integer; wanted INT64, -9223372036854",
        ),
        ({"parameters": {"binary_data_size": 10**30}}, f"binary_data_size is {10**30}"),
        ({"data": 10**30}, f"data is {10**30}; wanted an array"),
    ],
)
def test_an_integer_beyond_64_bits_is_refused_as_any_other(change: dict[str, Any], says: str) -> None:
    told = {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0], **change}
    with pytest.raises(HttpError) as raised:
        read_tensor(read_head(json.dumps(told | {"other": float("nan")}).encode()), Binary(b""), 5)
    assert says in raised.value.answer.payload["error"]


def test_a_value_that_a_tensor_cannot_carry_is_named_by_its_row() -> None:
    told = {"name": "all", "shape": [2, 2], "datatype": "INT8", "data": [[1, 2], [3, 400]]}
    with pytest.raises(HttpError) as raised:
        read_tensor(told, Binary(b""), 5)
    assert raised.value.answer.payload == {
        "error": "row 1: input all is 400, an integer; wanted INT8, -128 to 127", "field": "all", "row": 1
    }  # fmt: skip


PAST = [{"x": 1.0, "count": 2, "y": 4.0}]


@pytest.mark.parametrize("told", [json.dumps(PAST), PAST])
def test_past_rows_are_a_parameter_of_the_request(told: Any) -> None:
    assert past_of({"parameters": {"past": told}}) == PAST


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ("[", "parameters.past: it is not JSON"),
        ("[" * 99 + "]" * 99, "parameters.past: it is JSON nested more than 32 levels deep"),
        ("{}", 'wanted "parameters": {"past": "[{field: value, ...}, ...]"}'),
        (7, 'wanted "parameters": {"past"'),
    ],
)
def test_past_rows_of_another_shape_are_400(told: Any, says: str) -> None:
    with pytest.raises(HttpError) as raised:
        past_of({"parameters": {"past": told}})
    assert raised.value.answer.status == 400
    assert raised.value.answer.payload["error"].startswith(says)
    assert raised.value.answer.payload["field"] == "past"


def test_past_rows_reach_the_model_and_the_metadata_says_how() -> None:
    async def talk(plane: Plane) -> tuple[dict[str, Any], Any]:
        infer = Inference(plane)
        request: Any = SimpleNamespace(scope=SimpleNamespace(method="GET", path="/v2/models/tiny", headers={}), id="a")
        told = (await infer.model(request)).payload
        inputs = [{"name": n, "shape": [1], "datatype": DATATYPES[n], "data": [ROW[n]]} for n in ("x", "count", "flag")]
        payload = {"inputs": inputs, "parameters": {"past": json.dumps(PAST)}}
        return told, await infer.infer(request, payload)

    plain, model = Plane(), Plane(history=True)
    model.model.predictor.history = object()
    told, answer = asyncio.run(talk(model))
    assert answer.status == 200
    assert model.jobs[0].past == PAST
    assert told["parameters"]["past"].startswith(
        "of a request, optional: rows of before with their targets, as JSON text"
    )
    with pytest.raises(HttpError) as raised:
        asyncio.run(talk(plain))
    assert raised.value.answer.status == 400
    assert raised.value.answer.payload == {"error": "past: this model looks at no past rows", "field": "past"}
    assert "parameters" not in Inference(plain)._metadata(plain.model)


def test_tritons_client_sends_past_rows(address: str) -> None:
    client = triton.InferenceServerClient(address.removeprefix("http://"))
    inputs = [triton.InferInput(name, [2], DATATYPES[name]) for name in ARRAYS]
    for tensor in inputs:
        tensor.set_data_from_numpy(ARRAYS[tensor.name()])
    with pytest.raises(InferenceServerException, match="this model looks at no past rows"):
        client.infer("tiny", inputs, parameters={"past": json.dumps(PAST)})


def test_more_rows_than_are_taken_are_413_before_their_values_are_read() -> None:
    with pytest.raises(HttpError) as raised:
        read_tensor({"name": "x", "shape": [2**30], "datatype": "FP64"}, Binary(b""), 5)
    assert raised.value.answer.status == 413


def test_texts_are_counted_and_are_utf_8() -> None:
    def read(data: bytes, count: int) -> list[Any]:
        told = {"name": "s", "shape": [count], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
        return read_tensor(told, Binary(data), 9).values

    two = b"".join(struct.pack("<I", len(text)) + text for text in (b"", b"\xc3\xa9"))
    assert read(two, 2) == ["", "é"]
    for data, count in ((two, 1), (two, 3), (struct.pack("<I", 1) + b"\xff", 1), (two + b"\x00", 2)):
        with pytest.raises(HttpError):
            read(data, count)


def test_bytes_that_belong_to_nothing_are_refused(address: str) -> None:
    body = json.dumps({"inputs": tensors()}).encode()
    headers = {"inference-header-content-length": str(len(body))}
    assert call(address, INFER, body, headers).status == 200
    answer = call(address, INFER, body + b"!!", headers)
    assert (answer.status, answer.json["error"]) == (400, "2 bytes after the JSON belong to no input")
    for length in ("x", "-1", "99999999", "1" * 40, "1_0", ""):
        assert call(address, INFER, body, {"inference-header-content-length": length}).status == 400, length


def test_the_length_of_the_json_may_stand_in_the_content_type() -> None:
    """Vertex AI passes on no other header of a raw prediction."""
    kind = "application/vnd.vertex-ai-triton.binary+json;json-header-size=7"
    assert header_length({"content-type": kind}, 9) == 7
    assert header_length({"content-type": "application/json; charset=utf-8"}, 9) == 9
    with pytest.raises(HttpError):
        header_length({"content-type": kind}, 6)


@pytest.mark.parametrize(
    ("payload", "status", "says"),
    [
        ([], 400, "wanted"),
        ({"inputs": []}, 400, "wanted"),
        ({"inputs": [3]}, 400, "an input is not an object"),
        ({"id": 3, "inputs": tensors()}, 400, "id is not a string"),
        ({"parameters": 3, "inputs": tensors()}, 400, "parameters is not an object"),
        ({"inputs": [*tensors(), *tensors()]}, 400, "two inputs have the same name"),
        ({"inputs": tensors(x={"shape": [2], "data": [1.0, 2.0]})}, 400, "wanted [2]"),
        ({"inputs": tensors(x={"shape": [1, 2], "data": [1.0, 2.0]})}, 400, "wanted [1]"),
        ({"inputs": tensors(x=None)}, 400, "x is missing"),
        ({"inputs": tensors(x={"datatype": "BYTES", "data": ["a"]})}, 400, 'x is "a", a string'),
        ({"inputs": tensors(at={"data": ["soon"]})}, 400, "wanted an ISO 8601 time"),
        ({"inputs": tensors(x={"data": [None]})}, 400, "x is null"),
        ({"inputs": tensors(x={"shape": [101], "data": [1.0] * 101})}, 413, "at most 100"),
        ({"inputs": tensors(), "outputs": [{"name": "score"}]}, 400, "no output 'score'; there is prediction"),
        ({"inputs": tensors(), "outputs": [3]}, 400, "wanted"),
        ({"inputs": tensors(), "outputs": {}}, 200, ""),
        (
            {"inputs": tensors(), "outputs": [{"name": "id", "parameters": {"classification": 2}}]},
            400,
            "binary_data only",
        ),
    ],
)
def test_a_malformed_request_is_400_with_an_error(address: str, payload: Any, status: int, says: str) -> None:
    answer = call(address, INFER, payload)
    assert answer.status == status, answer.body
    assert says in answer.json.get("error", "")


def test_what_is_left_out_is_null_and_what_is_unknown_is_counted(address: str) -> None:
    shorter = call(address, INFER, {"inputs": tensors(level=None, kind=None, new={"datatype": "INT8", "data": [1]})})
    assert shorter.status == 200
    assert shorter.headers["x-trilho-extra-fields"] == "1"
    assert (shorter.json["model_name"], shorter.json["model_version"]) == ("tiny", "3")
    assert shorter.json["id"] == shorter.headers["x-request-id"]


def test_nan_in_json_is_a_null() -> None:
    assert str(read_head(b'{"data": [NaN, 1]}')["data"][0]) == "nan"
    for body in (b"NaN}", b'{"data": [NaN, Infinity]}', b"[" * 40 + b"NaN"):
        with pytest.raises(HttpError) as raised:
            read_head(body)
        assert raised.value.answer.status == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/other", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("GET", "/v2/models/tiny/versions/4/ready", 404),
        ("GET", "/v2/models/tiny/versions", 404),
        ("GET", "/v2/models/tiny/config", 404),
        ("GET", "/v2/models/", 404),
        ("GET", "/v2/models/%00%ff", 404),
        ("GET", "/v2/models/tiny/infer", 405),
        ("POST", "/v2/models/tiny/ready", 405),
        ("POST", "/v2/models/tiny", 405),
        ("POST", "/v2/health/live", 405),
    ],
)
def test_other_models_versions_and_methods_are_refused(address: str, method: str, path: str, status: int) -> None:
    reply: Reply = call(address, path, {"inputs": tensors()} if method == "POST" else None)
    assert reply.status == status
    assert reply.json["error"]


@pytest.mark.parametrize(
    ("outputs", "score", "told"),
    [
        (Outputs("value"), 2.5, {"prediction": ("FP64", [1], [2.5])}),
        (
            Outputs("probability", (0, 1)),
            0.75,
            {"probabilities": ("FP64", [1, 2], [0.25, 0.75]), "label": ("INT64", [1], [1])},
        ),
        (
            Outputs("probabilities", (False, True)),
            [0.9, 0.1],
            {"probabilities": ("FP64", [1, 2], [0.9, 0.1]), "label": ("BOOL", [1], [False])},
        ),
        (Outputs("class", (1, "b")), 1.0, {"label": ("BYTES", [1], ["b"])}),
        (Outputs("class", (3, 7)), 7.0, {"label": ("INT64", [1], [7])}),
    ],
)
def test_outputs_of_each_kind_are_what_the_metadata_says(outputs: Outputs, score: Any, told: dict[str, Any]) -> None:
    telling = Telling(outputs)
    made = inferred(telling, Outcome(["a.0"], [score], 1, [0.5], "d1"))
    assert {k: (t["datatype"], t["shape"], t["data"]) for k, t in made.items() if k in told} == told
    assert (made["id"]["data"], made["decision"]["data"]) == (["a.0"], ["0.5"])
    assert [(name, made[name]["datatype"]) for name in made] == [(n, d) for n, d, _ in described(telling, True)]


@pytest.mark.parametrize("datatype", list(NUMPY))
def test_binary_outputs_read_back(datatype: str) -> None:
    texts: dict[str, list[Any]] = {"BOOL": [True, False], "BYTES": ["a", "éé"]}
    values = texts.get(datatype, [1, 2])
    told, data = write_binary(write_tensor("o", datatype, values))
    assert told["parameters"] == {"binary_data_size": len(data)}
    assert read_tensor(told, Binary(data), 2).values == values


def test_triton_infers_from_the_prediction_server(launch: Launcher, package: Path) -> None:
    """The whole server, with a model that runs the project's own code."""
    address = launch.server(package, version=3).wait_until_ready()
    kinds = {"id": "BYTES", "at": "BYTES", "x": "FP64", "count": "INT64", "wish": "BYTES", "flag": "BOOL"}
    columns: dict[str, Any] = {name: np.array([WHOLE_ROW[name]] * 2) for name in ("x", "count", "flag")}
    columns |= {name: np.array([WHOLE_ROW[name] or ""] * 2, object) for name in ("id", "at", "wish")}
    with triton.InferenceServerClient(address.removeprefix("http://")) as client:
        assert [i["datatype"] for i in client.get_model_metadata("tiny")["inputs"]] == [*kinds.values(), "FP64"]
        for binary in (True, False):
            given = [
                triton.InferInput(name, [2], kind).set_data_from_numpy(columns[name], binary_data=binary)
                for name, kind in kinds.items()
            ]
            wanted = [triton.InferRequestedOutput("prediction", binary_data=binary)]
            result = client.infer("tiny", given, model_version="3", outputs=wanted)
            assert result.as_numpy("prediction").tolist() == [WHOLE_ANSWER] * 2
        columns["wish"] = np.array(["raise"] * 2, object)
        given = [triton.InferInput(n, [2], k).set_data_from_numpy(columns[n]) for n, k in kinds.items()]
        with pytest.raises(InferenceServerException, match="features: ValueError: x may not be that"):
            client.infer("tiny", given)
