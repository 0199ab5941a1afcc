"""`trilho config`: value, origin and meaning of each setting."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Made, Verb


def test_each_setting_has_value_origin_and_meaning(trilho: Verb, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRILHO_PYTHON", "/opt/python")
    settings = {x["key"]: x for x in trilho("config", "--json").json["settings"]}
    assert settings["model.target"] == {
        "key": "model.target",
        "value": "rides",
        "origin": "file",
        "default": None,
        "description": "The column to predict.",
    }
    assert (settings["train.holdout"]["value"], settings["train.holdout"]["origin"]) == ("60 days", "default")
    assert (settings["watch.false_alarms"]["value"], settings["watch.window"]["value"]) == ("1 per year", "1 day")
    assert (settings["python"]["value"], settings["python"]["origin"]) == ("/opt/python", "TRILHO_PYTHON")
    assert (settings["home"]["value"], settings["home"]["origin"]) == (".trilho", "default")
    assert all(x["description"] for x in settings.values())


def test_one_table_or_one_key(trilho: Verb, made: Made) -> None:
    table = trilho("config", "gate").out
    assert 'metric = "auto"  (default)' in table
    assert "[serve]" not in table
    assert [x["key"] for x in trilho("config", "gate.min", "--json").json["settings"]] == ["gate.min"]
    assert "min = not set  (default)" in trilho("config", "gate.min").out


def test_an_unknown_key(trilho: Verb, made: Made) -> None:
    said = trilho("config", "model.targt")
    assert said.code == 2
    assert said.err.splitlines()[0] == "trilho.toml has no key model.targt; did you mean model.target?"


def test_the_schema_is_for_editors(trilho: Verb, made: Made) -> None:
    schema = json.loads(trilho("config", "--schema").out)
    assert (
        schema["properties"]["timezone"]["description"]
        == "The zone in which the console shows event times; a time without a zone is taken as UTC."
    )
