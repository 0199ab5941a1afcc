"""What a task's result depends on beyond its own texts: the interpreter that runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trilho.backends.local.store import LocalStore
from trilho.pipeline.execution import perform
from trilho.pipeline.execution.perform import Performer
from trilho.pipeline.ir.spec import Container
from trilho.pipeline.keeping.artifacts import Keeping
from trilho.pipeline.keeping.cache import Cache
from trilho.pipeline.keeping.runs import RunFolder
from trilho.pipeline.places import Place, Places
from trilho.pipeline.workers.workers import Workers

STEP = ("python", "-m", "trilho_runtime.step", "shop.steps:fit")


def test_the_libraries_that_count_are_those_of_the_step_s_own_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def libraries_of(python: Path, _home: Path) -> str:
        asked.append(python)
        return f"of {python}"

    monkeypatch.setattr(perform, "libraries_of", libraries_of)
    places = Places(
        python=Path("own"),
        source=None,
        folder=tmp_path,
        platform=Path("ours"),
        images={"eu/": Place(Path("theirs"))},
    )
    cache = Cache(tmp_path, Keeping(LocalStore(tmp_path / "store"), places), RunFolder.of(tmp_path, "r1"))
    performer = Performer(Workers(places, tmp_path), cache, "2.1.0", None, None, cached=True)
    images = ("eu/shop", "us/shop", "eu/shop")
    assert [performer.libraries(Container(image, STEP)) for image in images] == ["of theirs", "of own", "of theirs"]
    assert performer.libraries(Container("eu/shop", ("sh", "-c", "true"))) == ""
    assert asked == [Path("theirs"), Path("own")]
