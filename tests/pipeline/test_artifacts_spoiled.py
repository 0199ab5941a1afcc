"""A step that changes what it was given: noticed, and the store never hands it on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trilho.backends.local.store import LocalStore
from trilho.pipeline.keeping.artifacts import Artifact, Keeping
from trilho.pipeline.places import Places


@pytest.fixture
def keeping(tmp_path: Path) -> Keeping:
    places = Places(python=Path("python"), source=None, folder=tmp_path, platform=Path("python"))
    return Keeping(LocalStore(tmp_path / "store"), places)


def stored(keeping: Keeping, tmp_path: Path) -> tuple[Artifact, Path]:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "a").write_text("one")
    digest = keeping.store.put(folder)
    return Artifact("data", str(folder), digest=digest, stored=True), keeping.store.path(digest)


def test_a_changed_input_is_forgotten_and_its_maker_can_put_it_again(keeping: Keeping, tmp_path: Path) -> None:
    artifact, path = stored(keeping, tmp_path)
    before = keeping.look([artifact])
    (path / "a").write_text("two")
    assert keeping.spoiled(before) == [artifact.digest]
    assert not keeping.store.has(str(artifact.digest))
    keeping.store.put(tmp_path / "made")
    assert (path / "a").read_text() == "one"


def test_a_removed_input_is_noticed(keeping: Keeping, tmp_path: Path) -> None:
    artifact, path = stored(keeping, tmp_path)
    before = keeping.look([artifact])
    (path / "a").unlink()
    assert keeping.spoiled(before) == [artifact.digest]


def test_added_files_go_and_new_times_alone_are_no_change(keeping: Keeping, tmp_path: Path) -> None:
    artifact, path = stored(keeping, tmp_path)
    before = keeping.look([artifact])
    (path / "__pycache__").mkdir()
    (path / "__pycache__" / "a.pyc").write_text("")
    os.utime(path / "a", (1, 1))
    assert keeping.spoiled(before) == []
    assert not (path / "__pycache__" / "a.pyc").exists()
    assert keeping.store.has(str(artifact.digest))
