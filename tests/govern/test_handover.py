"""The handover: JSON and one file of HTML, from the same facts."""

from __future__ import annotations

import json
from datetime import timedelta

from tests.console.memory import NOW, MemorySource, released, settings, trained

from trilho.core.projection import ModelState
from trilho.govern.handover import ModelFacts, handover, report_data


def facts() -> list[ModelFacts]:
    source = MemorySource()
    trained(source, NOW - timedelta(days=2), "m", 1, "mae", 10.0)
    released(source, NOW - timedelta(days=1), "m", 1, actor="maria <m@example.com>")
    return [
        ModelFacts(source.state().model("m"), settings=settings("m", "regression", owner="mobility")),
        ModelFacts(ModelState("empty")),
    ]


def test_the_report_is_json_and_says_null_where_nothing_was_measured() -> None:
    data = json.loads(json.dumps(report_data(facts(), now=NOW.isoformat(), head="12:abc")))
    assert (data["schema"], data["head"]) == (1, "12:abc")
    models = {model["name"]: model for model in data["models"]}
    assert set(models) == {"m", "empty"}
    assert models["m"]["champion"]["version"] == 1
    assert models["m"]["champion"]["served"] is None
    assert models["m"]["lead_times"]["trigger_to_serving"]["median"] is None
    assert models["m"]["lead_times"]["commit_to_serving"]["median"] == 86400 + 5 * 3600 + 4
    assert models["m"]["releases"][0]["released_by"] == "maria <m@example.com>"
    assert models["m"]["releases"][0]["gate"] == "pass"
    assert models["empty"]["champion"] is None
    assert models["empty"]["failed_share"] is None


def test_the_file_needs_nothing_else_and_escapes_names() -> None:
    page = handover(report_data(facts(), now=NOW.isoformat(), head="12:abc"), {"m": "<b>escaped</b>"})
    assert "<link" not in page
    assert "src=" not in page
    assert "http" not in page
    assert "maria &lt;m@example.com&gt;" in page
    assert "&lt;b&gt;escaped" in page
    assert "not measured" in page
    assert "up to <code>12:abc</code>" in page
    assert "@media print" in page


def test_the_file_of_an_empty_platform_is_a_page_too() -> None:
    assert "No model has joined this platform." in handover(report_data([], now=NOW.isoformat(), head="0"))
