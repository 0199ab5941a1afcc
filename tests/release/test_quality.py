"""Losses of a rollout's versions, counted as labels come."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho.core.classes import Classes
from trilho.core.ports import Columns, Labelled
from trilho.core.projection import ModelState, Rollout, Version
from trilho.core.readings import ShadowStats, VersionStats
from trilho.release.quality import Quality, scale_of

ROLLOUT = Rollout("o2", 2, 1, [50, 100], "t", "ana", "", share=50, share_since="t1", model="m")


class Log:
    """A log that holds what it is told: row, version, prediction, value, and what a shadow said."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, int, float, float, float]] = []

    def add(self, row: int, version: int, prediction: float, value: float, shadow: float = math.nan) -> None:
        self.lines.append((row, version, prediction, value, shadow))

    def newest(self) -> int:
        return max((line[0] for line in self.lines), default=0)

    def gather(self, start: datetime, end: datetime, begin: Any, *, after: int = 0, fields: Any = None) -> Any:
        return begin()

    def labelled(self, after: int) -> Labelled:
        table = self.table(after)
        row, version, prediction, value, _ = table[np.isfinite(table[:, 3])].T
        return Labelled(
            cursor=len(self.lines),
            time=row,
            version=version.astype(np.int64),
            prediction=prediction,
            value=value,
            row=row.astype(np.int64),
        )

    def table(self, after: int = 0) -> NDArray[np.float64]:
        return np.array(self.lines[after:], dtype=np.float64).reshape(-1, 5)

    def shadow_rows(self, start: datetime, end: datetime) -> Columns:
        table = self.table()
        _, version, prediction, value, shadow = table[np.isfinite(table[:, 4])].T
        told = {"_prediction": shadow, "_champion": prediction, "_champion_version": version, "_value": value}
        return {"_version": np.full(len(version), 2), **told}


def state_of(rollout: Rollout | None = ROLLOUT, **metrics: float) -> ModelState:
    champion = Version(1, "p", "r", "d", "mae", metrics or {"mae": 2.5}, "t", None, None, None)
    return ModelState("m", champion=1, versions={1: champion}, rollouts={rollout.id: rollout} if rollout else {})


def quality(log: Log, folder: Path, classify: bool = False) -> Quality:
    return Quality(log, folder / "quality.json", classify)


def places(counts: list[int]) -> dict[int, int]:
    return {at: n for at, n in enumerate(counts) if n}


def counted(found: Quality) -> dict[int, dict[int, int]]:
    return {number: places(stats.losses) for number, stats in found.add_to({}).items()}


def test_losses_count_once_from_the_present_share_on(tmp_path: Path) -> None:
    log = Log()
    log.add(1, 1, 9.0, 0.0)
    found = quality(log, tmp_path)
    found.update(state_of())
    assert counted(found) == {1: {}, 2: {}}
    log.add(2, 1, 1.0, 2.0)  # a tenth of four times the champion's own error
    log.add(3, 2, 50.0, 2.0)
    log.add(4, 3, 50.0, 2.0)
    for _ in range(2):
        found.update(state_of())
        assert counted(found) == {1: {5: 1}, 2: {49: 1}}
    later = replace(ROLLOUT, share=100, share_since="t2")
    found.update(state_of(later))
    assert counted(found) == {1: {}, 2: {}}


def test_another_process_counts_the_same_again(tmp_path: Path) -> None:
    log = Log()
    log.add(1, 2, 9.0, 0.0)
    quality(log, tmp_path).update(state_of())
    log.add(2, 2, 5.0, 0.0)
    again = quality(log, tmp_path)
    again.update(state_of())
    assert counted(again)[2] == {25: 1}


def test_probabilities_lose_their_squared_error(tmp_path: Path) -> None:
    log = Log()
    found = quality(log, tmp_path, classify=True)
    found.update(state_of())
    log.add(1, 2, 0.5, 1.0)
    found.update(state_of())
    assert counted(found)[2] == {12: 1}
    assert scale_of(state_of(), ROLLOUT, True) == 1.0


def test_what_was_asked_unseen_is_compared_row_by_row(tmp_path: Path) -> None:
    log = Log()
    rollout = replace(ROLLOUT, share=0, shadow=20)
    found = quality(log, tmp_path)
    found.update(state_of(rollout))
    log.add(1, 1, 4.0, 4.0, shadow=9.0)
    log.add(2, 1, 4.0, 4.0)
    found.update(state_of(rollout))
    assert places(found.add_to_shadow(ShadowStats()).losses) == {75: 1}
    log.add(3, 1, 4.0, math.nan, shadow=9.0)  # not labelled yet
    log.add(4, 3, 4.0, 4.0, shadow=9.0)  # beside another champion
    found.update(state_of(rollout))
    assert places(found.add_to_shadow(ShadowStats()).losses) == {75: 1}


def test_a_model_of_many_classes_is_not_measured_by_one_number(tmp_path: Path) -> None:
    log = Log()
    found = Quality(log, tmp_path / "quality.json", True, lambda version: version == 1)
    log.add(1, 1, 0.5, 1.0)
    found.update(state_of())
    assert found.add_to({}) == {}


class NamedLog(Log):
    """A log of versions that name classes: version, class, probabilities, label; and what a shadow said."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[dict[str, Any]] = []
        self.unseen: list[dict[str, Any]] = []

    def tell(self, version: int, p: list[float], value: str | None) -> None:
        self.told.append({"_version": version, "_class": "ab"[p.index(max(p))], "_probabilities": p, "_value": value})
        self.add(len(self.told), version, max(p), math.nan if value is None else 1.0)

    def gather(self, start: datetime, end: datetime, begin: Any, *, after: int = 0, fields: Any = None) -> Any:
        gathered = begin()
        for row in self.told[after:]:
            gathered.add(columns_of([row]))
        return gathered

    def shadow_rows(self, start: datetime, end: datetime) -> Columns:
        return columns_of(self.unseen)


def columns_of(rows: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    columns = {}
    for name in rows[0] if rows else ():
        columns[name] = np.empty(len(rows), object)
        columns[name][:] = [row[name] for row in rows]
    return columns


def named_quality(log: Log, folder: Path) -> Quality:
    return Quality(log, folder / "quality.json", True, classes=lambda version: Classes(("a", "b")))


def test_versions_that_name_classes_lose_the_distance_of_their_probabilities(tmp_path: Path) -> None:
    log = NamedLog()
    log.tell(1, [0.9, 0.1], "b")  # before the rollout's present part
    found = named_quality(log, tmp_path)
    found.update(state_of())
    assert counted(found) == {1: {}, 2: {}}
    log.tell(1, [0.9, 0.1], "a")
    log.tell(2, [0.4, 0.6], "a")
    log.tell(2, [0.4, 0.6], None)
    log.tell(3, [0.4, 0.6], "a")
    for _ in range(2):
        found.update(state_of())
        assert counted(found) == {1: {0: 1}, 2: {18: 1}}  # 0.01 and 0.36
    log.tell(2, [1.0, 0.0], "b")
    found.update(state_of())
    assert counted(found) == {1: {0: 1}, 2: {18: 1, 49: 1}}


def test_classes_that_were_told_unseen_are_compared_row_by_row(tmp_path: Path) -> None:
    log, rollout = NamedLog(), replace(ROLLOUT, share=0, shadow=20)
    found = named_quality(log, tmp_path)
    found.update(state_of(rollout))
    row = {"_version": 2, "_class": "b", "_probabilities": [0.25, 0.75], "_value": "a", "_champion_version": 1.0}
    log.unseen = [
        {**row, "_champion_class": "a", "_champion_probabilities": [0.75, 0.25]},
        {**row, "_champion_class": "a", "_champion_probabilities": [0.75, 0.25], "_value": None},
        {**row, "_champion_class": None, "_champion_probabilities": None, "_champion_version": math.nan},
    ]
    log.tell(1, [0.75, 0.25], "a")
    found.update(state_of(rollout))
    assert places(found.add_to_shadow(ShadowStats()).losses) == {75: 1}  # 0.5625 - 0.0625


def test_without_labels_scale_or_rollout_nothing_is_counted(tmp_path: Path) -> None:
    found = quality(Log(), tmp_path)
    found.update(state_of(None))
    found.update(state_of(accuracy=0.9))
    stats = {1: VersionStats(requests=4)}
    assert found.add_to(stats) == stats
    assert not (tmp_path / "quality.json").exists()
    unnumbered: Any = Log()
    unnumbered.labelled = lambda after: replace(Log().labelled(0), row=None)
    found = quality(unnumbered, tmp_path)
    found.update(state_of())
    assert found.add_to({}) == {}
