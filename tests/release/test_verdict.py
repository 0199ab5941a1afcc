"""A verdict is reached once for the same rows and rules."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from trilho.config import Gate
from trilho.core.records import Verdict
from trilho.release import verdict as module
from trilho.release.verdict import verdict_of


class Judging:
    """Two tables of predictions, as the store has them, and how often they were judged."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self.times, judge = folder / "home", 0, module._judge
        self.challenger, self.champion = (self.table(folder / name, noise) for name, noise in (("a", 1), ("b", 4)))

        def counted(*arguments: Any) -> tuple[Verdict, dict[str, Any]]:
            self.times += 1
            return judge(*arguments)

        monkeypatch.setattr(module, "_judge", counted)

    def table(self, path: Path, noise: int) -> Path:
        columns = (
            f"i AS row, TIMESTAMP '2020-01-01' + INTERVAL (i) HOUR AS time, i % 24 + sin(i) * {noise} AS prediction"
        )
        query = f"SELECT {columns}, (i % 24)::DOUBLE AS value FROM range(400) t(i)"
        duckdb.sql(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
        return path

    def __call__(
        self, gate: Gate | None = None, champion: bool = True, **changes: Any
    ) -> tuple[Verdict, dict[str, Any]]:
        given = {"challenger": self.challenger, "task": "regression", "candidates": 1, **changes}
        against = self.champion if champion else None
        return verdict_of(champion=against, gate=gate or Gate(), home=self.home, **given)


@pytest.fixture
def judging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judging:
    return Judging(tmp_path, monkeypatch)


def test_the_same_rows_are_judged_once(judging: Judging) -> None:
    first = judging()
    assert first[0] == "pass"
    assert judging() == first
    assert judging.times == 1


def test_other_rows_rules_or_candidates_are_judged_anew(judging: Judging, tmp_path: Path) -> None:
    other = judging.table(tmp_path / "c", 5)
    found = [judging(), judging(Gate(min=0.1)), judging(champion=False), judging(candidates=2)]
    found.append(judging(challenger=other))
    assert judging.times == 5
    assert [verdict for verdict, _ in found] == ["pass", "fail", "pass", "pass", "fail"]


def test_what_was_kept_and_cannot_be_read_is_judged_again(judging: Judging) -> None:
    first = judging()
    (kept,) = (judging.home / "cache").iterdir()
    kept.write_text(kept.read_text()[:10])
    assert judging() == first
    shutil.rmtree(judging.home)
    assert judging() == first
    assert judging.times == 3
