"""Packages as MLflow opens them: `mlflow_cases.py`, run where mlflow is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "tests" / "notebooks" / ".venv" / "bin" / "python"


@pytest.mark.skipif(not PYTHON.exists(), reason="tests/notebooks/.venv is absent: make tests/notebooks/.venv")
def test_packages_open_in_mlflow(tmp_path: Path) -> None:
    cases = Path(__file__).with_name("mlflow_cases.py")
    options = ["-q", "--noconftest", "-p", "no:cacheprovider", "-o", "addopts=", "--import-mode=importlib"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runtime" / "src"), "OMP_NUM_THREADS": "1"}
    command = [str(PYTHON), "-m", "pytest", *options, "--basetemp", str(tmp_path / "cases"), str(cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    assert " passed" in done.stdout.splitlines()[-1]
