"""What a project has is read from its files, never by importing them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trilho_runtime.describe import imports_of, libraries, local_builds, look_for, modules, source_files, source_folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    package = tmp_path / "src" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "features.py").write_text(
        "try:\n    from shop.fast import build\nexcept ImportError:\n    def build(frame): ...\n"
        "def two(X, y, *, seed=0): ...\ndef named(X, *, y): ...\nalias = two\n"
    )
    (package / "broken.py").write_text("def (:\n")
    return tmp_path / "src"


@pytest.mark.parametrize(
    ("reference", "arguments"),
    [("shop.features:build", 1), ("shop.features:two", 2), ("shop.features:alias", 2), ("shop.features:two", None)],
)
def test_functions_are_found_however_they_are_defined(source: Path, reference: str, arguments: int | None) -> None:
    assert look_for(source, reference, arguments).found


@pytest.mark.parametrize(
    ("reference", "arguments", "problem", "near"),
    [
        ("shop.features:buid", 1, "no function buid in shop.features", "shop.features:build"),
        ("shop.feature:build", 1, "no module shop.feature in src/", "shop.features:build"),
        ("xyz:build", 1, "no module xyz in src/", ""),
        ("shop.features:two", 1, "shop.features:two must take 1 argument", ""),
        ("shop.features:named", 1, "shop.features:named must take 1 argument", ""),
    ],
)
def test_what_is_wrong_and_what_is_near(source: Path, reference: str, arguments: int, problem: str, near: str) -> None:
    found = look_for(source, reference, arguments)
    assert (found.found, found.problem, found.near) == (False, problem, near)


def test_a_module_that_is_no_python_is_told(source: Path) -> None:
    assert "shop.broken is not valid Python" in look_for(source, "shop.broken:x").problem


def test_environments_caches_and_hidden_folders_are_left_out(source: Path) -> None:
    for name in (".hidden", "__pycache__", "env"):
        (source / name).mkdir()
        (source / name / "x.py").write_text("")
    (source / "env" / "pyvenv.cfg").write_text("")
    assert [file.name for file in source_files(source)] == ["__init__.py", "broken.py", "features.py"]
    assert modules(source) == ["shop", "shop.broken", "shop.features"]


def test_relative_imports_are_resolved(tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text("import numpy.linalg\nfrom . import near\nfrom ..up import thing\n")
    assert imports_of(file, "a.b") == {"numpy.linalg", "a.b", "a.b.near", "a.up", "a.up.thing"}


def test_the_command_prints_json_without_importing(source: Path) -> None:
    words = [sys.executable, "-m", "trilho_runtime.describe", str(source.parent), "shop.features:build", "shop:x"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    said = json.loads(done.stdout)
    assert said["steps"]["shop.features:build"] == {"found": True, "problem": "", "near": ""}
    assert said["steps"]["shop:x"]["found"] is False
    assert said["libraries"]["python"] == sys.version.split()[0]
    assert "numpy" in said["libraries"]


def test_a_project_without_src_is_its_own_source(tmp_path: Path) -> None:
    assert source_folder(tmp_path) == tmp_path


def test_what_was_built_here_counts_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = []
    for name, record in (
        ("index", "a.py,sha256=1,1\n"),
        ("local", "a.py,sha256=1,1\n"),
        ("local", "a.py,sha256=2,1\n"),
    ):
        info = tmp_path / name / "ours-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Ours\nVersion: 1.0\n")
        (info / "RECORD").write_text(record)
        if name == "local":
            (info / "direct_url.json").write_text('{"url": "file:///ours", "dir_info": {}}')
        with monkeypatch.context() as here:
            here.setattr(sys, "path", [str(tmp_path / name)])
            marks.append((libraries()["ours"], local_builds()))
    assert marks == [("1.0", {}), ("1.0", {"ours": "a.py,sha256=1,1\n"}), ("1.0", {"ours": "a.py,sha256=2,1\n"})]
