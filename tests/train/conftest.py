"""The line project at one place for all trainings here, so that one warm interpreter does for all of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.line_project import rows, write_project
from tests.train.trainer import SETTINGS, Trainer, workers_of

from trilho.pipeline.workers.workers import Workers


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all projects here, one after the other, so that one warm interpreter does for all."""
    return tmp_path_factory.mktemp("line") / "project"


@pytest.fixture(scope="package")
def workers(project_python: Path, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with workers_of(place, project_python, tmp_path_factory.mktemp("warm")) as found:
        yield found


@pytest.fixture
def project(place: Path) -> Iterator[Path]:
    yield write_project(place, SETTINGS, rows(0, 400, 2.0))
    for left in place.iterdir():  # the folder itself stays: the warm interpreter is in it
        shutil.rmtree(left) if left.is_dir() else left.unlink()


@pytest.fixture
def trainer(project: Path, tmp_path: Path, project_python: Path, workers: Workers) -> Trainer:
    return Trainer(project, tmp_path / "home", project_python, workers)
