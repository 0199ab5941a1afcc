"""Small files: whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from trilho.core.files import write_whole


def test_text_and_bytes_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "made" / "a.json"
    write_whole(path, "é")
    assert path.read_bytes() == "é".encode()
    write_whole(path, b"\xff")
    assert path.read_bytes() == b"\xff"
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_put_in_place_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="a"):
        write_whole(tmp_path / "a", "text")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_writers_at_once_leave_one_whole_text(tmp_path: Path) -> None:
    path, texts = tmp_path / "a", [str(n) * 20_000 for n in range(4)]

    def write(text: str) -> None:
        for _ in range(20):
            write_whole(path, text)
            assert path.read_text() in texts

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]
