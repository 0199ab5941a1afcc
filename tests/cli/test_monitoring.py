"""`trilho monitoring`: files where they were asked for, and what the console serves to a scraper."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.console.memory import NOW, MemorySource, settings
from tests.console.test_app import call

from trilho.cli.monitoring import write
from trilho.config.telemetry import Telemetry
from trilho.console.app import create_app
from trilho.errors import UsageError


def test_the_console_answers_a_scraper() -> None:
    source = MemorySource(known={"bike": settings("bike", "regression")})
    answer = call(create_app(source, clock=NOW.isoformat), "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert 'trilho_incidents_open{model="bike",kind="drift",severity="high"} 0.0\n' in answer.text
    assert answer.text.endswith("# EOF\n")


def test_files_are_written_over_those_of_before_and_a_wrong_folder_is_said(tmp_path: Path) -> None:
    assert write(tmp_path / "a" / "b", {"x": "1"}) == [str(tmp_path / "a" / "b" / "x")]
    write(tmp_path / "a" / "b", {"x": "2"})
    assert (tmp_path / "a" / "b" / "x").read_text() == "2"
    with pytest.raises(UsageError, match="cannot be written"):
        write(tmp_path / "a" / "b" / "x", {"y": "1"})


def test_without_an_endpoint_nothing_is_handed_to_servers() -> None:
    assert Telemetry().environment() == {}
