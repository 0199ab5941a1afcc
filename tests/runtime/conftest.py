"""A tiny model package, made by the real steps, and the real servers as processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime.serving import NOTEBOOKS, Launcher, make_package, make_quick


@pytest.fixture(scope="session")
def made(project_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny project packed twice, in package and package2."""
    folder = tmp_path_factory.mktemp("tiny")
    done = make_package(project_python, folder, folders=["package", "package2"])
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def package(made: Path) -> Path:
    """The tiny model's package; not to be changed."""
    return made / "package"


@pytest.fixture
def own_package(package: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model's package that a test may change."""
    return Path(shutil.copytree(package, tmp_path / "package"))


@pytest.fixture
def launch(tmp_path: Path, project_python: Path) -> Iterator[Launcher]:
    """Start servers for one test."""
    launcher = Launcher(tmp_path, project_python)
    yield launcher
    launcher.end()


@pytest.fixture(scope="module")
def launch_many(tmp_path_factory: pytest.TempPathFactory, project_python: Path) -> Iterator[Launcher]:
    """Start servers for a module's tests."""
    launcher = Launcher(tmp_path_factory.mktemp("servers"), project_python)
    yield launcher
    launcher.end()


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a compiled model's package, rows for it, and what the original model says of them."""
    if not NOTEBOOKS.exists():
        pytest.skip("tests/notebooks/.venv is absent: make tests/notebooks/.venv/.notebooks")
    folder = tmp_path_factory.mktemp("quick")
    make_quick(folder)
    return folder


@pytest.fixture
def launch_quick(tmp_path: Path) -> Iterator[Launcher]:
    """Start servers of a data scientist's interpreter for one test."""
    launcher = Launcher(tmp_path, NOTEBOOKS)
    yield launcher
    launcher.end()
