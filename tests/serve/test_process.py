"""When a process that ended is started again."""

from __future__ import annotations

from pathlib import Path

import pytest

from trilho.serve.process import Child


@pytest.fixture
def child(tmp_path: Path) -> Child:
    made = Child("v1", tmp_path, lambda _: ["absent"], check="/health", pipe=0, env={})
    made._started, made._failures = 100.0, 9
    return made


@pytest.fixture
def starts(child: Child, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(child, "_start", found.append)
    return found


def test_one_that_was_ready_is_back_at_once_however_often_it_was_killed(child: Child, starts: list[float]) -> None:
    child._postpone(101.5, was_ready=True)
    assert starts == [101.5]


def test_one_that_dies_as_soon_as_it_is_ready_is_started_once_a_second(child: Child, starts: list[float]) -> None:
    child._postpone(100.25, was_ready=True)
    assert (starts, child._next_start) == ([], 101.0)


def test_one_that_does_not_become_ready_is_started_ever_more_rarely(child: Child, starts: list[float]) -> None:
    child._postpone(130.0)
    assert (starts, child._next_start) == ([], 140.0)
    child._failures = 0
    child._postpone(130.0)
    assert child._next_start == 130.5
