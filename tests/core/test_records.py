"""The wire format of journal records: what was written once is readable for ever, unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trilho.core.records import PAYLOADS, UPCASTS, decode, encode

GOLDEN: list[dict[str, Any]] = [
    record
    for file in ("records_v1.json", "records_v2.json")
    for record in json.loads((Path(__file__).parent / file).read_text())
]
ADDED: dict[tuple[str, int], dict[str, Any]] = {
    ("run.started", 1): {"runner": "local", "place": None},
    ("rollout.started", 1): {"shadow": 0, "sticky": None, "hold": None},
    ("rollout.paused", 1): {"cause": "a person"},
    ("rollout.ended", 1): {"evidence": {}},
    ("alarm.raised", 1): {"effect": None, "slices": [], "data_time": None},
    ("incident.updated", 1): {"count": 1, "severity": None, "lead": None},
    ("incident.closed", 1): {"end": "outlived", "data_time": None},
}
"""What a record of an older version has since: what was true when there was no choice."""


@pytest.mark.parametrize("stored", GOLDEN, ids=lambda stored: f"{stored['type']}.v{stored['version']}")
def test_a_stored_record_decodes_and_encodes_to_itself(stored: dict[str, Any]) -> None:
    payload = decode(stored["type"], stored["version"], stored["data"])
    assert type(payload) is PAYLOADS[stored["type"]]
    assert encode(payload) == {**ADDED.get((stored["type"], stored["version"]), {}), **stored["data"]}


def test_every_version_of_a_kind_has_a_golden_record() -> None:
    known = {(name, version) for name, cls in PAYLOADS.items() for version in range(1, cls.version_of_schema + 1)}
    assert {(stored["type"], stored["version"]) for stored in GOLDEN} == known


def test_every_kind_has_a_golden_record() -> None:
    assert {stored["type"] for stored in GOLDEN} == set(PAYLOADS)


def test_an_older_record_is_brought_up(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = PAYLOADS["alert.sent"]
    monkeypatch.setattr(cls, "version_of_schema", 2)
    monkeypatch.setitem(UPCASTS, ("alert.sent", 1), lambda data: {"attempts": data.pop("tries"), **data})
    old = {"model": "m", "alert": "l", "incident": "i", "channel": "slack", "tries": 3}
    assert encode(decode("alert.sent", 1, old))["attempts"] == 3


def test_an_unknown_kind_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        decode("model.teleported", 1, {})
