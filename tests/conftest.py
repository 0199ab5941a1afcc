"""What every test may use: the two interpreters, a copy of an example project, a clean environment."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
collect_ignore = [  # scripts for other interpreters
    "adopt/parity_notebook.py",
    "adopt/slice_replay_run.py",
    "runtime/history_equality.py",
    "runtime/package_cases.py",
    "watch/frames_run.py",
]


EMULATOR = {
    "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "GRPC_PROXY",
    "grpc_proxy", "no_grpc_proxy",
}  # fmt: skip


def pytest_configure() -> None:
    """Leave the emulator of the shell that the tests are started from, and its files, alone."""
    if "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH" in os.environ:  # `trilho emulate` sets it with the authority of its own
        os.environ.pop("REQUESTS_CA_BUNDLE", None)
    for name in list(os.environ):
        if name in EMULATOR or name.startswith("TRILHO_") or name.endswith("_EMULATOR_HOST"):
            del os.environ[name]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("TRILHO_", "AIP_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def project_python() -> Path:
    """The example projects' own interpreter, with their libraries and trilho-runtime, without trilho."""
    python = EXAMPLES / ".venv" / "bin" / "python"
    if not python.exists():
        pytest.skip("examples/.venv is absent: make examples/.venv/.project")
    return python


def copy_example(name: str, to: Path) -> Path:
    """Copy an example project, without what earlier runs left in it."""
    ignore = shutil.ignore_patterns(".trilho", "__pycache__", ".pytest_cache")
    return Path(shutil.copytree(EXAMPLES / name, to / name, ignore=ignore))


@pytest.fixture
def bike_project(tmp_path: Path, project_python: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the bike-demand example with a home of its own."""
    monkeypatch.setenv("TRILHO_PYTHON", str(project_python))
    monkeypatch.setenv("TRILHO_HOME", str(tmp_path / "home"))
    return copy_example("bike-demand", tmp_path)


@pytest.fixture
def flight_project(tmp_path: Path, project_python: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the flight-delay example with a home of its own."""
    monkeypatch.setenv("TRILHO_PYTHON", str(project_python))
    monkeypatch.setenv("TRILHO_HOME", str(tmp_path / "home"))
    return copy_example("flight-delay", tmp_path)
