"""What past runs left: which of it nothing can use."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from trilho.pipeline.keeping.leftovers import finished_tasks, held_since, old_folders, useless_tasks
from trilho.pipeline.keeping.runs import RunFolder
from trilho.pipeline.workers.environment import old_environments

OLD = time.time() - 7200
HOUR_AGO = time.time() - 3600


def task(home: Path, name: str, run: str, **outputs: str) -> None:
    (home / "cache").mkdir(parents=True, exist_ok=True)
    path = home / "cache" / f"{name}.json"
    path.write_text(json.dumps({"run": run, "outputs": outputs}))
    os.utime(path, (OLD, OLD))


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


def test_tasks_whose_outputs_are_gone_are_useless(tmp_path: Path) -> None:
    task(tmp_path, "whole", "r1", table="a")
    task(tmp_path, "half", "r2", table="a", model="b")
    task(tmp_path, "check-old", "r1")
    task(tmp_path, "check-live", "r2")
    task(tmp_path, "check-young", "r1")
    os.utime(tmp_path / "cache" / "check-young.json")
    (tmp_path / "cache" / "python-1.json").write_text('{"libraries": "x"}')
    (tmp_path / "cache" / "torn.json").write_text("{")
    assert len(list(finished_tasks(tmp_path))) == 5
    assert names(useless_tasks(tmp_path, {"r2"}, {"a"}.__contains__, HOUR_AGO)) == ["check-old", "half"]


def test_folders_of_runs_that_nothing_needs_are_old(tmp_path: Path) -> None:
    for name in ("held", "kept", "young", "old", "unrecorded"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    with RunFolder.of(tmp_path, "held").lease():
        for name in ("held", "kept", "old", "unrecorded"):
            os.utime(tmp_path / "runs" / name, (OLD, OLD))
        assert names(old_folders(tmp_path, {"kept"}, HOUR_AGO)) == ["old", "unrecorded"]


def test_the_oldest_run_under_way_is_known(tmp_path: Path) -> None:
    def lease(run: str) -> Any:
        return RunFolder.of(tmp_path, run).lease()

    assert held_since(tmp_path) is None
    with lease("first"), lease("second"):
        os.utime(tmp_path / "runs" / "first" / "lease", (OLD, OLD))
        assert held_since(tmp_path) == pytest.approx(OLD)
    assert held_since(tmp_path) is None


def test_environments_that_nothing_used_for_long_are_old(tmp_path: Path) -> None:
    for name in ("unused", "used", "half"):
        (tmp_path / "environments" / name).mkdir(parents=True)
    for name in ("unused", "used"):
        (tmp_path / "environments" / name / "ready.json").write_text("{}")
    for old in ("unused/ready.json", "unused", "used", "half"):
        os.utime(tmp_path / "environments" / old, (OLD, OLD))
    assert names(old_environments(tmp_path, HOUR_AGO)) == ["half", "unused"]
