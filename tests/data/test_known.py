"""Data files that are not read again while they are what they were."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import duckdb
import pytest

from trilho.backends.local.store import LocalStore
from trilho.data import known
from trilho.data.contract import Contract
from trilho.data.known import known_version
from trilho.data.version import Dataset, version_data

LONG_AGO = 1_500_000_000


class Files:
    """A table in two files, and how often it was read."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self.store, self.reads = folder / "home", LocalStore(folder / "home" / "store"), 0
        self.paths = [folder / "a.csv", folder / "b.csv"]
        for path in self.paths:
            self.write(path, "k,y\n1,2\n")
        monkeypatch.setattr(known, "version_data", self._read)

    def write(self, path: Path, text: str, age: int = LONG_AGO) -> None:
        path.write_text(text)
        os.utime(path, (age, age))

    def _read(self, *arguments: Any, **named: Any) -> Dataset:
        self.reads += 1
        return version_data(*arguments, **named)

    def version(self, **changes: Any) -> Dataset:
        asked: dict[str, Any] = {"time": None, "key": None, "target": "y", "served": None, **changes}
        return known_version(self.paths, self.store, self.home, **asked)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    return Files(tmp_path, monkeypatch)


def test_unchanged_files_are_read_once(files: Files) -> None:
    first = files.version()
    assert files.version() == first
    assert (files.reads, first.rows) == (1, 2)


@pytest.mark.parametrize("change", ["content", "same size", "replaced", "setting", "contract", "fewer", "gone", "torn"])
def test_what_is_not_as_it_was_is_read_again(files: Files, change: str) -> None:
    first = files.version()
    asked: dict[str, Any] = {}
    path = files.paths[0]
    if change == "content":
        files.write(path, "k,y\n1,2\n3,4\n")
    elif change == "same size":
        files.write(path, "k,y\n1,3\n", LONG_AGO + 1)
    elif change == "replaced":
        path.rename(path.with_suffix(".old"))
        files.write(path, "k,y\n1,5\n")
    elif change == "setting":
        asked = {"key": "k"}
    elif change == "contract":
        asked = {"contract": Contract.model_validate({"columns": {"y": {"max": 3}}})}
    elif change == "fewer":
        files.paths.pop()
    elif change == "gone":
        files.store.gc(keep={first.digest}, dry_run=False)
    else:
        (kept,) = (files.home / "cache").glob("dataset-*.json")
        kept.write_text(kept.read_text()[:20])
    files.version(**asked)
    assert files.reads == 2


def test_a_file_that_changed_just_now_may_change_again_unseen_and_is_read_again(files: Files) -> None:
    files.paths[0].touch()
    files.version()
    files.version()
    assert files.reads == 2


def test_served_rows_are_always_read(files: Files, tmp_path: Path) -> None:
    served = tmp_path / "served.parquet"
    duckdb.sql(f"COPY (SELECT 5 AS k, 6 AS y) TO '{served}' (FORMAT parquet)")
    assert files.version(served=served).served_rows == 1
    assert files.version(served=served).served_rows == 1
    assert files.reads == 2
