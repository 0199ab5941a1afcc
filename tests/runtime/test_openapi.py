"""The OpenAPI document and its page: what is said of a model, and schemathesis against a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from tests.runtime.protocol_server import ANSWER, CLASSES, FIELDS, ROW, Plane
from tests.runtime.serving import Launcher, Reply, call

from trilho_runtime.protocols.docs import language_of
from trilho_runtime.protocols.openapi import Served, document_of
from trilho_runtime.protocols.schemas import example_row, field_schema

SERVER = "tests.runtime.protocol_server"
KEY = "0123456789abcdef-key"
PREDICT = [("POST", "/predict"), ("GET", "/health")]
SETTINGS = """
[checks]
negative_data_rejection.expected-statuses = [400, 401, 404, 413, 415, 422]

[[operations]]
include-path-regex = "/infer$"
checks.positive_data_acceptance.enabled = false
"""  # too many rows are refused with 413; that a tensor's values are as many as its shape says is beyond a schema
HOOKS = """
import datetime

import schemathesis
from hypothesis import strategies

times = strategies.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2026, 1, 1))
schemathesis.openapi.format("date-time", times.map(lambda time: time.isoformat() + "Z"))
"""  # a clock that is a year ahead, or before the year 1 in UTC, is refused: no schema can say so


@pytest.fixture(scope="module")
def launch_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path_factory.mktemp("openapi"), Path(sys.executable))
    yield launcher
    launcher.end()


@pytest.fixture(scope="module")
def address(launch_here: Launcher) -> str:
    return launch_here.run(Path(sys.executable), SERVER, "--hide", "kind").wait_until_ready()


def document(plane: Plane, **served: Any) -> dict[str, Any]:
    """Give a plane's document as a client reads it."""
    told = document_of(plane.model, plane.version, plane.decides, Served(**{"routes": PREDICT, **served}))
    loaded: dict[str, Any] = json.loads(json.dumps(told))
    return loaded


def validator(told: dict[str, Any], name: str) -> Any:
    """Give what checks values against a schema of the document."""
    return jsonschema.Draft202012Validator({**told, "$ref": f"#/components/schemas/{name}"})


def test_fields_have_their_types_and_what_was_seen_is_told_in_words() -> None:
    row = document(Plane())["components"]["schemas"]["Row"]
    assert row["required"] == ["x", "count", "flag"]
    assert row["additionalProperties"] is True
    properties = row["properties"]
    assert properties["x"] == {
        "type": "number",
        "minimum": -1.7976931348623157e308,
        "maximum": 1.7976931348623157e308,
        "description": "Seen at training: -2.0 to 3.5.",
    }
    assert properties["count"] == {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
    assert properties["level"]["type"] == ["number", "null"]
    assert properties["kind"] == {"type": ["string", "null"], "description": "Seen at training: new, <b>used</b>."}
    assert properties["at"] == {"type": ["string", "null"], "format": "date-time"}


@pytest.mark.parametrize(
    ("field", "limits"),
    [
        ({"type": "integer", "dtype": "int8"}, (-128, 127)),
        ({"type": "integer", "dtype": "uint16"}, (0, 65535)),
        ({"type": "number", "dtype": "float32"}, (-3.4028234663852886e38, 3.4028234663852886e38)),
    ],
)
def test_a_numpy_type_of_its_own_bounds_a_field(field: dict[str, Any], limits: tuple[float, float]) -> None:
    schema = field_schema({"name": "x", "nullable": False, **field})
    assert (schema["minimum"], schema["maximum"]) == limits


@pytest.mark.parametrize(
    ("kind", "decides", "right", "wrong"),
    [
        ("value", False, [2.5, {"id": "a.0", "score": 2.5, "version": 3}], ["2.5", {"0": 1.0}, {"score": 2.5}]),
        ("probability", False, [{"0": 0.25, "1": 0.75}], [{"0": 0.25}, {"0": 0.25, "1": 1.5}, 0.75]),
        ("probabilities", True, [dict.fromkeys(CLASSES, 1 / 3)], [{"cat": 1.0}]),
        ("class", False, ["cat"], ["cow", 1.0]),
    ],
)
def test_a_prediction_has_the_schema_of_its_kind(kind: str, decides: bool, right: list[Any], wrong: list[Any]) -> None:
    check = validator(document(Plane(kind, decides=decides)), "Prediction")
    assert [check.is_valid(value) for value in right] == [True] * len(right)
    assert [check.is_valid(value) for value in wrong] == [False] * len(wrong)


def test_instances_are_objects_arrays_and_bare_values_of_a_single_field() -> None:
    check = validator(document(Plane()), "Instance")
    assert check.is_valid(ROW)
    assert check.is_valid(list(ROW.values()))
    assert not check.is_valid(list(ROW.values())[:-1])
    assert not check.is_valid(1.5)
    single = validator(document(Plane(fields=FIELDS[:1])), "Instance")
    assert [single.is_valid(value) for value in (1.5, [1.5], {"x": 1.5}, "1.5", [])] == [True] * 3 + [False] * 2


def test_a_server_that_refuses_unknown_fields_says_so() -> None:
    assert document(Plane(), refuse_extra=True)["components"]["schemas"]["Row"]["additionalProperties"] is False


def test_the_document_holds_the_routes_that_there_are() -> None:
    told = document(Plane())
    assert list(told["paths"]) == ["/health", "/predict"]
    assert told["openapi"] == "3.1.0"
    assert told["info"]["version"] == "3"
    more = document(Plane(), routes=[*PREDICT, ("GET", "/v2"), ("POST", "/labels")])
    assert {"/labels", "/v2", "/v2/models/tiny/infer", "/v2/models/tiny/versions/3"} <= set(more["paths"])


def test_credentials_are_told_and_health_needs_none() -> None:
    told = document(Plane(), keys=True, tokens=True)
    assert told["security"] == [{"key": []}, {"token": []}]
    assert told["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert told["paths"]["/health"]["get"]["security"] == []
    assert "security" not in told["paths"]["/predict"]["post"]
    assert document(Plane())["security"] == []


def test_an_example_is_the_samples_but_for_what_is_hidden() -> None:
    assert example_row(FIELDS, [ROW], ()) == ROW
    hidden = example_row(FIELDS, [{**ROW, "kind": "Maria"}], {"kind", "x"})
    assert (hidden["kind"], hidden["x"], hidden["count"]) == ("text", 1.5, 2)
    assert example_row(FIELDS, [], ())["at"] == "2026-01-31T12:00:00"


def test_the_example_is_answered(address: str) -> None:
    told = call(address, "/openapi.json")
    assert told.headers["content-type"] == "application/json"
    predict = told.json["paths"]["/predict"]["post"]
    body = predict["requestBody"]["content"]["application/json"]["examples"]["one"]["value"]
    answer = call(address, "/predict", body)
    assert answer.json["predictions"] == [ANSWER]
    schema = predict["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator({**told.json, **schema}).validate(answer.json)
    infer = told.json["paths"]["/v2/models/tiny/infer"]["post"]["requestBody"]["content"]["application/json"]
    tensors = infer["examples"]["one"]["value"]
    assert call(address, "/v2/models/tiny/infer", tensors).json["outputs"][0]["data"] == [ANSWER]
    labels = told.json["paths"]["/labels"]["post"]["requestBody"]["content"]["application/json"]
    assert call(address, "/labels", labels["examples"]["one"]["value"]).json["accepted"] == 1


def page(address: str, query: str = "", **headers: str) -> Reply:
    return call(address, f"/docs{query}", headers={name.replace("_", "-"): text for name, text in headers.items()})


def test_the_page_shows_fields_an_example_and_a_line_to_try(address: str) -> None:
    answer = page(address)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    text = answer.body.decode()
    assert "Fields of a row" in text
    assert "<td><code>x</code></td><td>number</td><td>no</td><td>-2.0 to 3.5</td>" in text
    assert f"curl {address}/predict " in text
    assert "&quot;count&quot;: 2" in text
    assert not [word for word in ("<script", "http://cdn", "https://", "<b>used") if word in text]


def test_what_is_masked_is_in_neither_page_nor_document(address: str) -> None:
    assert b"&lt;b&gt;used" not in page(address).body
    assert b"<b>used" not in call(address, "/openapi.json").body


def test_the_page_is_in_portuguese_where_asked(address: str) -> None:
    text = page(address, "?lang=pt").body.decode()
    assert '<html lang="pt">' in text
    assert "Campos de uma linha" in text
    assert "-2.0 a 3.5" in text
    assert "Predizer linhas" in text
    liked = page(address, accept_language="pt-BR,pt;q=0.9,en;q=0.5")
    assert (liked.headers["content-language"], liked.headers["vary"]) == ("pt", "accept-language")
    assert page(address, "?lang=en", accept_language="pt").headers["content-language"] == "en"


@pytest.mark.parametrize(
    ("query", "accepted", "language"),
    [
        ("", "", "en"),
        ("", "*", "en"),
        ("", "en-GB,en;q=0.5,pt;q=0.1", "en"),
        ("", "de, pt;q=0.3", "pt"),
        ("", "pt;q=x", "en"),
        ("lang=fr", "pt", "pt"),
        ("lang=pt-BR", "", "pt"),
        ("lang=%ff&lang", "", "en"),
    ],
)
def test_a_language_is_chosen(query: str, accepted: str, language: str) -> None:
    assert language_of(query, accepted) == language


def test_a_host_that_a_caller_made_up_does_no_harm(address: str) -> None:
    text = page(address, host='"><script>alert(1)</script>').body.decode()
    assert "<script" not in text


ANY_ROW_MAY_BE_REFUSED = """
[checks]
positive_data_acceptance.enabled = false
negative_data_rejection.expected-statuses = [400, 401, 404, 413, 415, 422]
"""  # by the project's own code


def schemathesis(
    address: str, folder: Path, examples: int, *more: str, rules: str = SETTINGS
) -> subprocess.CompletedProcess[str]:
    """Run schemathesis as its users do: every check, every phase but those over several requests, a seed."""
    config = folder / "schemathesis.toml"
    config.write_text(rules)
    (folder / "times.py").write_text(HOOKS)
    options = ["--config-file", str(config), "run", f"{address}/openapi.json", "--max-examples", str(examples)]
    options += ["--seed", "7", "--phases", "examples,coverage,fuzzing", "--no-shrink", *more]
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis as run; run()", *options]
    env = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(folder), "SCHEMATHESIS_HOOKS": "times"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=env)


@pytest.mark.parametrize(
    ("examples", "options"),
    [
        (50, ("--kind", "probabilities", "--decide")),
        (15, ("--refuse", "--key-env", "TINY_KEY")),
    ],
)
def test_schemathesis_finds_nothing(
    launch_here: Launcher, tmp_path: Path, examples: int, options: tuple[str, ...]
) -> None:
    env = {**os.environ, "TINY_KEY": KEY}
    running = launch_here.run(Path(sys.executable), SERVER, *options, env=env)
    address = running.wait_until_ready()
    with_key = ("-H", f"x-api-key: {KEY}") if "--key-env" in options else ()
    done = schemathesis(address, tmp_path, examples, *with_key)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Operations:       16 selected / 16 total" in done.stdout
    assert "Traceback" not in running.errors.read_text()


def test_schemathesis_finds_nothing_on_the_prediction_server(launch: Launcher, package: Path, tmp_path: Path) -> None:
    """The whole server with a model that runs the project's own code."""
    running = launch.server(package, "--log", tmp_path / "log", "--label-dir", tmp_path / "labels", version=3)
    address = running.wait_until_ready()
    paths = call(address, "/openapi.json").json["paths"]
    assert {"/", "/predict", "/labels", "/metrics", "/profile", "/v2/models/tiny/infer"} <= set(paths)
    done = schemathesis(address, tmp_path, 10, rules=ANY_ROW_MAY_BE_REFUSED)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
