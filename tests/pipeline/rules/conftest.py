"""The project whose steps the pipelines are made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.pipeline.rules.nightly import STEPS


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("src")
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").write_text("")
    (folder / "shop" / "steps.py").write_text(STEPS)
    return folder
