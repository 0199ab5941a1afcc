"""Manifests of finished tasks: what is read back is what was written, and half of it is nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trilho.backends.local.store import LocalStore
from trilho.pipeline.keeping.artifacts import Artifact, Keeping
from trilho.pipeline.keeping.cache import Cache, Kept
from trilho.pipeline.keeping.runs import RunFolder
from trilho.pipeline.places import Places


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    places = Places(
        python=Path("p"), source=None, folder=tmp_path, platform=Path("p"),
        environment={"TRILHO_MOUNTS": json.dumps({"gs://": f"{tmp_path}/buckets/"})},
    )  # fmt: skip
    keeping = Keeping(LocalStore(tmp_path / "store"), places)
    return Cache(tmp_path, keeping, RunFolder(tmp_path / "runs" / "r1"), RunFolder(tmp_path / "runs" / "r0"))


def taken(cache: Cache, tmp_path: Path, told: dict[str, Any], *files: str) -> Artifact:
    scratch = tmp_path / "scratch"
    folder = scratch / "artifacts" / "m"
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_text(name)
    asked = Artifact("m", str(folder / "m"), {"schemaTitle": "system.Model"}, {"a": 1})
    return cache.keeping.take(asked, told, scratch)


def test_a_file_at_the_path_is_the_artifact(cache: Cache, tmp_path: Path) -> None:
    made = taken(cache, tmp_path, {"metadata": {"b": 2}}, "m")
    assert (made.stored, made.member, made.metadata) == (True, "", {"a": 1, "b": 2})
    assert Path(made.uri).read_text() == "m"


def test_files_beside_the_path_make_the_folder_the_artifact(cache: Cache, tmp_path: Path) -> None:
    made = taken(cache, tmp_path, {}, "m.pkl", "m.json")
    assert made.member == "m"
    assert Path(made.uri + ".pkl").read_text() == "m.pkl"


def test_a_step_may_name_another_place(cache: Cache, tmp_path: Path) -> None:
    other = tmp_path / "buckets" / "b"
    other.mkdir(parents=True)
    (other / "x").write_text("elsewhere")
    made = taken(cache, tmp_path, {"uri": "gs://b/x"})
    assert (made.stored, made.uri) == (False, "gs://b/x")
    assert made.digest is not None
    unknown = cache.keeping.take(Artifact("m", "/nowhere"), {"uri": "https://api/models/1"}, tmp_path / "scratch")
    assert (unknown.digest, unknown.uri) == (None, "https://api/models/1")
    assert unknown.identity != Artifact("m", "https://api/models/2").identity


def test_metadata_alone_is_an_artifact_and_counts(cache: Cache, tmp_path: Path) -> None:
    made = taken(cache, tmp_path, {"metadata": {"auc": 0.7}})
    assert (made.digest, made.is_bare) == (None, True)
    assert made.identity == Artifact("m", "/another/place", metadata={"a": 1, "auc": 0.7}).identity
    assert made.identity != Artifact("m", made.uri, metadata={"a": 1, "auc": 0.8}).identity


def test_what_is_kept_is_found_again(cache: Cache, tmp_path: Path) -> None:
    made = taken(cache, tmp_path, {}, "m.pkl", "m.json")
    bare = Artifact("n", "/nowhere", metadata={"x": 1})
    kept = Kept("r1", "fit", {"auc": 0.7}, {"m": (made,), "n": (bare, bare)})
    cache.keep("f1", kept)
    assert cache.find("f1") == kept
    assert cache.find("f2") is None
    manifest = json.loads((tmp_path / "cache" / "f1.json").read_text())
    assert manifest["outputs"] == {"m": made.digest}
    assert (manifest["run"], manifest["task"], manifest["values"]) == ("r1", "fit", {"auc": 0.7})


@pytest.mark.parametrize("broken", ["{", "[]", '{"schema": 1}', '{"schema": 2}', "null", '{"schema": 2, "run": "r"}'])
def test_a_broken_manifest_is_none(cache: Cache, tmp_path: Path, broken: str) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "f1.json").write_text(broken)
    assert cache.find("f1") is None


def test_a_manifest_of_what_is_gone_or_changed_is_none(cache: Cache, tmp_path: Path) -> None:
    made = taken(cache, tmp_path, {}, "m")
    outside = tmp_path / "outside.csv"
    outside.write_text("1")
    imported = cache.keeping.imported("d", str(outside), {}, {})
    cache.keep("f1", Kept("r1", "fit", {}, {"m": (made,), "d": (imported,)}))
    assert cache.find("f1") is not None
    outside.write_text("2")
    assert cache.find("f1") is None
    outside.write_text("1")
    assert cache.find("f1") is not None
    Path(made.uri).unlink()
    assert cache.find("f1") is None


def test_a_task_of_the_run_that_is_resumed_counts_if_it_is_the_same(cache: Cache, tmp_path: Path) -> None:
    earlier = Cache(tmp_path, cache.keeping, RunFolder(tmp_path / "runs" / "r0"))
    earlier.note("f1", Kept("r0", "for-loop-1/0/send", {"n": 1}, {}))
    assert cache.find("f1") is None
    found = cache.finished("for-loop-1/0/send", "f1")
    assert found is not None
    assert (found.run, found.values) == ("r0", {"n": 1})
    assert cache.finished("for-loop-1/0/send", "f2") is None
    assert cache.finished("for-loop-1/1/send", "f1") is None
    assert earlier.finished("for-loop-1/0/send", "f1") is None
