"""Folders with links in them: followed by digests and by the store, unless they lead back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trilho.backends.local.store import LocalStore
from trilho.core.digest import digest_path, files_of
from trilho.errors import DataError


def test_a_linked_folder_counts_and_is_stored_as_the_files_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b").write_text("b")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("a")
    before = digest_path(folder)
    (folder / "link").symlink_to(tmp_path / "other")
    (folder / "same").symlink_to("a")
    (folder / "nowhere").symlink_to(tmp_path / "none")
    assert [file.relative_to(folder).as_posix() for file in files_of(folder)] == ["a", "link/b", "same"]
    assert digest_path(folder) != before
    store = LocalStore(tmp_path / "store")
    kept = store.path(store.put(folder))
    assert (kept / "link" / "b").read_text() == "b"
    assert (kept / "same").read_text() == "a"
    assert not (kept / "link").is_symlink()


@pytest.mark.parametrize("to", [".", ".."])
def test_a_link_that_leads_back_is_an_error_and_not_endless(tmp_path: Path, to: str) -> None:
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "below" / "up").symlink_to(to)
    with pytest.raises(OSError, match="a link leads back to a folder that it is in"):
        digest_path(tmp_path / "folder")


def test_what_is_no_file_is_named_when_it_cannot_be_stored(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "pipe")
    with pytest.raises(DataError, match="pipe` is a named pipe"):
        LocalStore(tmp_path / "store").put(tmp_path / "folder")
