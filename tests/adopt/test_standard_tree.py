"""A project's files on the disk: all or none."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from trilho.adopt.standard.tree import write_tree
from trilho.errors import TrilhoError, UsageError

FILES = {"a.txt": "one\n", "src/b.py": "x = 1\n", "tools/run": "#!/bin/sh\n", "trilho.toml": ""}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_texts_and_data_are_written_into_a_new_folder(tmp_path: Path) -> None:
    data = tmp_path / "rows.bin"
    data.write_bytes(b"\x00\xff")
    folder = tmp_path / "deep" / "project"
    files = write_tree(folder, FILES, {"data/rows.bin": data})
    assert [str(path.relative_to(folder)) for path in files] == [*FILES, "data/rows.bin"]
    assert (folder / "src" / "b.py").read_text() == "x = 1\n"
    assert (folder / "data" / "rows.bin").read_bytes() == b"\x00\xff"
    assert stat.S_IMODE((folder / "tools" / "run").stat().st_mode) == 0o755
    assert names(folder.parent) == ["project"]


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    before = folder.stat().st_ino
    write_tree(folder, FILES)
    assert folder.stat().st_ino == before
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "src", "tools", "trilho.toml"]


@pytest.mark.parametrize("there", ["file", "filled", "link"])
def test_what_is_there_is_left_alone(tmp_path: Path, there: str) -> None:
    folder = tmp_path / "project"
    if there == "file":
        folder.write_text("mine")
    elif there == "link":
        (tmp_path / "other").mkdir()
        folder.symlink_to(tmp_path / "other")
    else:
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")
    before = names(tmp_path)
    with pytest.raises(UsageError, match="is there already"):
        write_tree(folder, FILES)
    assert names(tmp_path) == before


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out.txt"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no path within"):
        write_tree(tmp_path / "project", {"a.txt": "", name: ""})
    assert names(tmp_path) == []


def test_a_missing_data_file_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TrilhoError, match="No such file"):
        write_tree(tmp_path / "new" / "project", FILES, {"data.csv": tmp_path / "absent.csv"})
    assert names(tmp_path) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, to: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(TrilhoError, match="No space left on device"):
        write_tree(tmp_path / "project", FILES, {"data.csv": tmp_path / "x"})
    assert names(tmp_path) == []


def test_an_interrupted_move_into_an_empty_folder_leaves_it_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    rename = Path.rename

    def stop(self: Path, target: Path) -> Path:
        if Path(target) == tmp_path / "project" / "trilho.toml":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        write_tree(tmp_path / "project", FILES)
    assert names(tmp_path) == ["project"]
    assert names(tmp_path / "project") == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f".project.{gone.pid}.part").mkdir()
    (tmp_path / f".project.{os.getppid()}.part").mkdir()  # somebody's who still runs
    write_tree(tmp_path / "project", FILES)
    assert names(tmp_path) == [f".project.{os.getppid()}.part", "project"]
