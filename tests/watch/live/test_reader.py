"""Profile files as they grow, are replaced, broken or gone: each row counts once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.watch.live.hourly import FIRST, HOUR, text, write

from trilho.watch.live import ledger as ledger_module
from trilho.watch.live.folder import LiveReader
from trilho.watch.live.ledger import Ledger, NotAProfile, Profile


def file(*counts: int, hour: float = FIRST, **about: Any) -> Profile:
    return Profile("shop", 1, hour, False, sum(counts), {"x": np.array(counts)}, **about)


def told(parts: list[Profile]) -> list[list[int]]:
    return [part.counts["x"].tolist() for part in parts]


def test_what_is_new_in_a_file_counts_and_the_rest_does_not(tmp_path: Path) -> None:
    reader = LiveReader(tmp_path)
    assert reader.read() == []
    write(tmp_path, "a.json", file(1, 2))
    assert told(reader.read()) == [[1, 2]]
    assert reader.read() == []
    write(tmp_path, "a.json", file(4, 2))
    write(tmp_path, "b.json", file(0, 5))
    assert sorted(told(reader.read())) == [[0, 5], [3, 0]]


def test_what_a_server_writes_is_read_with_its_hour() -> None:
    assert Profile.parse(text(file(1, 2, hour=FIRST + HOUR))).hour == FIRST + HOUR


def test_a_file_that_goes_and_comes_again_counts_only_what_is_new(tmp_path: Path) -> None:
    reader = LiveReader(tmp_path)
    write(tmp_path, "a.json", file(1, 2))
    reader.read()
    (tmp_path / "a.json").unlink()
    assert reader.read() == []
    write(tmp_path, "a.json", file(1, 7))
    assert told(reader.read()) == [[0, 5]]


def test_an_older_copy_of_a_file_counts_nothing_and_takes_nothing_back(tmp_path: Path) -> None:
    reader = LiveReader(tmp_path)
    write(tmp_path, "a.json", file(5, 5))
    reader.read()
    write(tmp_path, "a.json", file(2, 1))
    assert reader.read() == []
    write(tmp_path, "a.json", file(6, 5))
    assert told(reader.read()) == [[1, 0]]


@pytest.mark.parametrize("broken", [b"", b'{"schema": 1, "mod', b"[]", b'{"schema": 1}', b"\xff\xfe"])
def test_half_a_file_is_passed_over_until_it_changes(tmp_path: Path, broken: bytes) -> None:
    reader = LiveReader(tmp_path)
    (tmp_path / "a.json").write_bytes(broken)
    (tmp_path / ".b.json.part").write_bytes(b"{")
    write(tmp_path, "b.json", file(1, 1))
    assert told(reader.read()) == [[1, 1]]
    assert (reader.read(), reader.broken) == ([], 1)
    write(tmp_path, "a.json", file(3, 0))
    assert told(reader.read()) == [[3, 0]]


def test_a_file_of_another_schema_is_none_of_ours() -> None:
    data = {**json.loads(text(file(1))), "schema": 9}
    with pytest.raises(NotAProfile, match="schema 9, this trilho reads 1"):
        Profile.parse(json.dumps(data).encode())


def test_a_restarted_reader_neither_forgets_nor_repeats(tmp_path: Path) -> None:
    first = LiveReader(tmp_path)
    write(tmp_path, "a.json", file(1, 2))
    first.read()
    state = json.loads(json.dumps(first.state()))
    write(tmp_path, "a.json", file(1, 4))
    assert told(first.read()) == [[0, 2]]
    second = LiveReader(tmp_path)
    second.restore(state)
    assert told(second.read()) == [[0, 2]]
    assert second.read() == []


def test_old_files_are_passed_over_and_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "KEPT", 3)
    monkeypatch.setattr(ledger_module, "CLOSED", 5)
    reader = LiveReader(tmp_path)
    write(tmp_path, "old.json", file(9, 9))
    write(tmp_path, "new.json", file(1, 1))
    os.utime(tmp_path / "old.json", (FIRST, FIRST))
    assert (told(reader.read()), reader.passed_over) == ([[1, 1]], 18)
    for number in range(12):
        write(tmp_path, f"{number}.json", file(1, number))
    assert len(reader.read()) == 12
    assert (len(reader.state()["held"]), len(reader.state()["closed"])) == (3, 5)
    write(tmp_path, "8.json", file(2, 8))  # it is closed by now
    assert reader.read() == []


def test_one_look_reads_only_so_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trilho.watch.live.folder.AT_ONCE", 4)
    for number in range(10):
        write(tmp_path, f"{number}.json", file(1, number))
    reader = LiveReader(tmp_path)
    assert [len(reader.read()) for _ in range(4)] == [4, 4, 2, 0]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.booleans()), max_size=30), st.randoms())
def test_however_messages_come_the_sum_is_each_files_last_state(steps: Any, random: Any) -> None:
    states: dict[str, list[Profile]] = {}
    for name, more, _ in steps:
        before = states.setdefault(name, [file(0, 0)])[-1].counts["x"]
        states[name].append(file(int(before[0]) + more, int(before[1]) + 1))
    sent = [(name, state) for name, each in states.items() for state in each]
    sent += random.sample(sent, len(sent) // 2)  # twice
    random.shuffle(sent)
    ledger, total = Ledger(), 0
    for k, (name, state) in enumerate(sent):
        new = ledger.take(name, state, float(k))
        total += new.rows if new is not None else 0
    assert total == sum(each[-1].rows for each in states.values())
