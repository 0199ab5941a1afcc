"""A run's folder and its lease."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from trilho.pipeline.keeping.runs import RunFolder


def test_the_scratch_space_goes_with_the_run_s_end(tmp_path: Path) -> None:
    folder = RunFolder.of(tmp_path, "r1")
    with folder.lease():
        folder.scratch("fit").mkdir(parents=True)
        assert folder.is_held()
    assert (folder.work.exists(), folder.is_held()) == (False, False)


def test_whoever_gives_up_waiting_leaves_the_holder_s_scratch_space_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.of(tmp_path, "r1")

    def interrupted(_descriptor: int, _operation: int) -> None:
        raise KeyboardInterrupt

    with folder.lease():
        folder.scratch("fit").mkdir(parents=True)
        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", interrupted)
            with pytest.raises(KeyboardInterrupt), folder.lease():
                pass
        assert folder.scratch("fit").is_dir()
