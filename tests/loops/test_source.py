"""What the console reads of projects: the readings, of which only the changed ones are decoded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trilho.backends.local import watch_store
from trilho.config import Settings
from trilho.core.readings import Reading, decode_reading
from trilho.project import Project
from trilho.source import ProjectSource


def reading(day: int) -> Reading:
    start = f"2012-01-{day:02d}T00:00:00+00:00"
    return Reading(model="bike", version=1, window_start=start, window_end=start, rows=9, evidence=0.5, threshold=9.0,
                   metric="mae")  # fmt: skip


def test_readings_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.model_validate(
        {
            "model": {"name": "bike", "task": "regression", "target": "y"},
            "data": {"source": "data.csv"},
            "steps": {"features": "bike.features:build", "train": "bike.train:fit"},
        }
    )
    project, decoded = Project(tmp_path, settings), []

    def decode(data: dict[str, Any]) -> Reading:
        decoded.append(data["window_start"])
        return decode_reading(data)

    monkeypatch.setattr(watch_store, "decode_reading", decode)
    source, kept = ProjectSource([project]), [reading(day) for day in range(1, 10)]
    assert source.readings("bike") == []
    project.watch_store.save("bike", [*kept[5:], *kept[:5]], b"")
    assert source.readings("bike") == source.readings("bike") == kept
    assert len(decoded) == 9
    kept[3] = replace(kept[3], labelled=7)
    project.watch_store.save("bike", [kept[3]], b"")
    assert source.readings("bike") == kept
    assert len(decoded) == 10
