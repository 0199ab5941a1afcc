"""A package comes to its place whole or not at all, whatever disk it meets and whoever was killed before."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.runtime.serving import NOTEBOOKS, notebooks_environment

from trilho_runtime.model.packing import PackagePath
from trilho_runtime.model.placing import clear, new_place, not_written, put_in_place

PACK = """
import json, os, resource, sys
import numpy as np, pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
import trilho_runtime
from trilho_runtime.package import PackageError, open_package

out, most, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
X = pd.DataFrame({"x": np.arange(40.0), "n": np.arange(40), "z": [None, *np.arange(39.0)]})
fitted = make_pipeline(SimpleImputer(), LogisticRegression()).fit(X, X.x > 20)
if most:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
try:
    made = trilho_runtime.package(fitted, X, name="m", out=out, **options)
except PackageError as error:
    print(json.dumps(str(error)))
else:
    loaded = open_package(made, ()).load()
    nulls = [] if "x" in made.never_null else loaded.predict([{"x": None, "n": 1, "z": None}])
    print(json.dumps([repr(made), list(made.never_null), nulls]))
"""


@pytest.fixture
def gone() -> int:
    """Give the number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def pack(folder: Path, most: int = 0, **options: object) -> object:
    """Package a small model in an interpreter that may write files of so many bytes, and give what it says."""
    command = [str(NOTEBOOKS), "-c", PACK, str(folder / "out" / "m"), str(most), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=notebooks_environment())
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path, gone: int) -> None:
    kept = [f".m.{os.getppid()}.part", f".other.{gone}.part", f".m.{gone}.partial", f".m.x.{gone}.part", "m"]
    for name in [*kept, f".m.{gone}.part", f".m.{gone}.old"]:
        (tmp_path / name / "code").mkdir(parents=True)
    (tmp_path / f".m.{gone}9.part").write_text("a file is nobody's folder")
    beside = new_place(tmp_path / "m")
    assert beside == tmp_path / f".m.{os.getpid()}.part"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, f".m.{gone}9.part"])


def test_a_package_that_a_killed_process_was_exchanging_is_put_back(tmp_path: Path, gone: int) -> None:
    (tmp_path / f".m.{gone}.old").mkdir()
    (tmp_path / f".m.{gone}.old" / "manifest.json").write_text("{}")
    (tmp_path / f".m.{gone}.part").mkdir()
    clear(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert (tmp_path / "m" / "manifest.json").read_text() == "{}"
    clear(tmp_path / "nowhere" / "m")


def test_an_older_package_stays_until_the_new_one_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "old").write_text("old")
    new = tmp_path / "new"
    new.mkdir()
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self == new:
            raise OSError(errno.EIO, "broken")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="broken"):
        put_in_place(new, tmp_path / "m")
    assert (tmp_path / "m" / "old").read_text() == "old"
    monkeypatch.undo()
    put_in_place(new, tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert list((tmp_path / "m").iterdir()) == []


def test_a_full_disk_is_said_in_two_lines(tmp_path: Path) -> None:
    fact, hint = str(not_written(tmp_path / "m", OSError(errno.ENOSPC, "No space left on device"))).split("\n")
    assert fact == f"{tmp_path / 'm'} cannot be written: No space left on device; nothing of it was left"
    assert hint == "Hint: make room on that disk, or name another folder: out=..."
    other = str(not_written(tmp_path / "m", PermissionError(errno.EACCES, "Permission denied", "/x")))
    assert other.endswith(
        "Permission denied (/x); nothing of it was left\nHint: name a folder that can be written: out=..."
    )


notebooks = pytest.mark.skipif(not NOTEBOOKS.exists(), reason="tests/notebooks/.venv is absent")


@notebooks
def test_a_package_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    told = pack(tmp_path, 300)
    assert isinstance(told, str)
    assert told.splitlines()[0].startswith(f"{tmp_path / 'out' / 'm'} cannot be written: File too large")
    assert told.splitlines()[1].startswith("Hint: ")
    assert len(told.splitlines()) == 2
    assert list((tmp_path / "out").iterdir()) == []


@notebooks
def test_fields_refuse_null_unless_told_otherwise_and_that_is_said(tmp_path: Path) -> None:
    again = pack(tmp_path, nullable=["x"])
    assert isinstance(again, list)
    assert "this field refuses null, since the sample has none: n " in again[0]
    assert again[1] == ["n"]
    assert len(again[2]) == 1
    more = PackagePath(tmp_path)
    more.never_null = tuple(f"c{n}" for n in range(15))
    assert more.nulls.startswith("these 15 fields refuse null, since the sample has none: c0, c1, ")
    assert more.nulls.endswith("c10, c11 and 3 more (pass nullable=[...] to let it in)")
    strange = pack(tmp_path, nullable=["y"])
    assert strange == "nullable names 'y', which is no column of the sample\nHint: it has x, n, z"
