"""A folder that servers write to, and the log over it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.serve.segments.written import Served

from trilho.serve.segments import LocalPredictionLog


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path / "log")


@pytest.fixture
def log(served: Served) -> LocalPredictionLog:
    return LocalPredictionLog(served.folder, "time", "event_id")
