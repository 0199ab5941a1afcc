"""Whatever is sent to a real server: an answer of the caller's kind, in JSON, and never a 500."""

from __future__ import annotations

import gzip
import http.client
import json
import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from tests.runtime.protocol_server import ANSWER, ROW
from tests.runtime.serving import Launcher, Running, call

SERVER = "tests.runtime.protocol_server"
INFER = "/v2/models/tiny/infer"
POSTS = ["/predict", INFER, "/labels"]
REFUSALS = {400, 413, 422}
TENSORS: dict[str, Any] = {
    "inputs": [
        {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.5]},
        {"name": "count", "shape": [1], "datatype": "INT64", "data": [2]},
        {"name": "flag", "shape": [1], "datatype": "BOOL", "data": [True]},
    ]
}
BODIES = {
    "/predict": {"instances": [ROW], "parameters": {"entries": "full"}},
    INFER: {**TENSORS, "outputs": [{"name": "prediction", "parameters": {"binary_data": True}}]},
    "/labels": {"labels": [{"id": "a.0", "value": 1.5}, {"key": {"s": "a"}, "value": 2}]},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    launcher = Launcher(tmp_path_factory.mktemp("fuzz"), Path(sys.executable))
    running = launcher.run(Path(sys.executable), SERVER, "--decide")
    running.wait_until_ready()
    yield running
    launcher.end()
    assert "Traceback" not in running.errors.read_text()


@pytest.fixture(scope="module")
def caller(server: Running) -> Iterator[Caller]:
    caller = Caller(server.address)
    yield caller
    caller.connection.close()


class Caller:
    """One connection that is kept."""

    def __init__(self, address: str) -> None:
        self.connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)

    def post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> int:
        """Send a body; check that the answer is JSON, that an error says what it is, and give the status."""
        self.connection.request("POST", path, body, headers or {})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status == 200 and answer.getheader("content-type") == "application/octet-stream":
            text = text[: int(answer.getheader("inference-header-content-length") or 0)]
        payload = json.loads(text)
        if answer.status != 200:
            assert isinstance(payload["error"], str)
            assert payload["error"]
            assert len(payload["error"]) < 2000
        return answer.status


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"\x00",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b"NaN",
        b"-",
        b'"\\ud800"',
        b'{"instances": [NaN]}',
        b'{"instances": [{"x": Infinity}], "inputs": [{"data": [-Infinity]}], "labels": [Infinity]}',
        b'{"instances": [{"x": 1e999}]}',
        b'{"instances": [{"x": "\xc3\x28"}]}',
        b'{"instances": [{"x": "\\ud800"}], "labels": [{"id": "\\udc00", "value": 1}]}',
        b'{"instances": 1, "instances": []}',
        b"[" * 1_000_00,
        b"[" * 50_000 + b"]" * 50_000,
        b'{"a":' * 33 + b"1" + b"}" * 33,
        b'{"instances": [' + b"{}," * 5_000 + b"{}]}",
        b'{"instances": [{' + b",".join(b'"k%d":1' % n for n in range(5_000)) + b"}]}",
        b'{"inputs": [' + b",".join([b"{}"] * 5_000) + b"]}",
        b'{"labels": [' + b"0," * 50_000 + b"0]}",
        b"1" * 100_000,
        b'"' + b"\\" * 99_999 + b'"',
        b"x" * 200_001,
    ],
)
def test_a_body_that_is_wrong_is_refused(caller: Caller, path: str, body: bytes) -> None:
    assert caller.post(path, body) in REFUSALS


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (b"123456789012345678901234567890", 422),
        (b"-9223372036854775808", 200),
        (b"9223372036854775808", 422),
        (b"1.0", 200),
        (b"1e2", 200),
        (b"1.5", 422),
        (b"true", 422),
        (b'"1"', 422),
        (b"[1]", 422),
        (b"null", 422),
    ],
)
def test_an_integer_is_one_however_large_or_written(caller: Caller, value: bytes, status: int) -> None:
    body = json.dumps({"instances": [ROW]}).encode().replace(b'"count": 2', b'"count": ' + value)
    assert caller.post("/predict", body) == status


def test_of_keys_that_come_twice_the_last_one_counts(server: Running) -> None:
    body = b'{"instances": [], "instances": [{"x": 0, "x": 1.5, "count": 2, "flag": true, "flag": false}]}'
    answer = call(server.address, "/predict", body)
    assert answer.json["predictions"][0]["score"] == ANSWER


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["instances", "x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@seed(5)
@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(POSTS), data=st.data())
def test_any_value_in_any_place_is_answered(caller: Caller, path: str, data: st.DataObject) -> None:
    body = json.loads(json.dumps(BODIES[path]))
    places = list(walk(body))
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(places))
        if isinstance(holder, dict) or key < len(holder):
            holder[key] = data.draw(JSON)
    status = caller.post(path, json.dumps(body, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass"))
    assert status in {200, *REFUSALS}


def walk(value: Any) -> Iterator[tuple[Any, Any]]:
    """Give every place of a JSON value, as holder and key."""
    keys: Any = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from walk(value[key])


def test_bytes_that_are_changed_are_answered(caller: Caller) -> None:
    rng = random.Random(17)
    seen = set()
    for _ in range(600):
        path = rng.choice(POSTS)
        body = bytearray(json.dumps(BODIES[path]).encode())
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(body))
            body[place : place + rng.randrange(2)] = rng.choice([bytes([rng.randrange(256)]), b"", b"NaN", b"[[", b"}"])
        headers = {"inference-header-content-length": str(rng.randrange(len(body) + 9))} if rng.random() < 0.2 else {}
        seen.add(caller.post(path, bytes(body), headers))
    assert seen <= {200, *REFUSALS}
    assert {200, 400} <= seen


def test_binary_tensors_of_any_bytes_are_answered(caller: Caller) -> None:
    rng = random.Random(23)
    seen = set()
    datatypes = ["FP64", "FP32", "FP16", "INT8", "UINT64", "BOOL", "BYTES"]
    for _ in range(400):
        rows, inputs, data = rng.randrange(1, 4), [], b""
        for name in ("x", "count", "flag", "level"):
            datatype, size = rng.choice(datatypes), rng.choice([0, 1, 4, 8, 16, 24])
            parameters = {"binary_data_size": rng.choice([size, size, size + 1])}
            inputs.append({"name": name, "shape": [rows], "datatype": datatype, "parameters": parameters})
            data += rng.randbytes(size)
        head = json.dumps({"inputs": inputs}).encode()
        seen.add(caller.post(INFER, head + data, {"inference-header-content-length": str(len(head))}))
    assert seen <= {200, *REFUSALS}


def test_a_compressed_body_is_415_and_says_what_is_taken(server: Running) -> None:
    body = gzip.compress(json.dumps({"instances": [ROW]}).encode())
    for encoding in ("gzip", "deflate", "br", "GZIP", "gzip, gzip"):
        answer = call(server.address, "/predict", body, {"content-encoding": encoding})
        assert (answer.status, answer.headers["accept-encoding"]) == (415, "identity")


def raw(address: str, *parts: bytes, end: bool = False) -> bytes:
    """Send bytes as they are and give the first line of the answer, b"" where there is none."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        if end:
            connection.shutdown(socket.SHUT_WR)
        try:
            return connection.recv(65536).split(b"\r\n")[0]
        except ConnectionResetError:
            return b""


HEAD = b"POST /predict HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        (b"\x00" * 100 + b"\r\n\r\n",),
        (HEAD + b"content-length: abc\r\n\r\n",),
        (HEAD + b"content-length: 99999999999999999999999\r\n\r\n",),
        (HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}XX",),
        (HEAD + b"a: " + b"b" * 100_000 + b"\r\n\r\n",),
        (HEAD + b"".join(b"h%d: x\r\n" % n for n in range(5_000)) + b"\r\n",),
        (b"POST /" + b"p" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",),
        (b"POST /predict HTTP/9.9\r\nhost: x\r\n\r\n",),
    ],
)
def test_what_is_no_request_is_the_callers_error(server: Running, parts: tuple[bytes, ...]) -> None:
    line = raw(server.address, *parts)
    assert line == b"" or line.split(b" ")[1][:1] == b"4", line
    assert call(server.address, "/health").status == 200


def test_a_body_in_chunks_of_a_byte_is_read(server: Running) -> None:
    body = json.dumps({"instances": [ROW]}).encode()
    chunks = [b"1\r\n%c\r\n" % byte for byte in body]
    assert raw(server.address, HEAD + b"transfer-encoding: chunked\r\n\r\n", *chunks, b"0\r\n\r\n").endswith(b"200 OK")


def test_a_caller_that_hangs_up_in_its_body_harms_nobody(server: Running) -> None:
    for _ in range(5):
        raw(server.address, HEAD + b"content-length: 1000\r\n\r\n{", end=True)
    assert call(server.address, "/predict", {"instances": [ROW]}).status == 200


@pytest.mark.parametrize(
    "path", ["/%00", "/%ff", "/predict/../x", "//predict", "/predict;x", "/v2/models/%2e%2e/infer"]
)
def test_odd_paths_are_404(server: Running, path: str) -> None:
    assert call(server.address, path).status == 404
    assert call(server.address, f"{path}?{'q' * 5000}").status == 404


def test_odd_headers_are_taken_as_if_they_were_not_there(server: Running) -> None:
    odd = {
        "x-request-id": "a b\tc",
        "x-trilho-identity": "z" * 24,
        "traceparent": "00-00-00-00",
        "accept-language": ",;q=,;;q=é".encode().decode("latin-1"),
        "content-type": "text/plain; charset=utf-7",
    }
    assert call(server.address, "/predict", {"instances": [ROW]}, odd).status == 200
    assert call(server.address, "/docs", headers=odd).status == 200
