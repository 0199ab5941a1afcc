"""The case files, run by the interpreter that has the models' libraries, onnxruntime and MLflow."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.conftest import ROOT

PYTHON = ROOT / "tests" / "notebooks" / ".venv" / "bin" / "python"


@pytest.mark.skipif(not PYTHON.exists(), reason="tests/notebooks/.venv is absent: make tests/notebooks/.venv")
@pytest.mark.parametrize("cases", ["package_cases", "onnx_cases", "mlflow_cases"])
def test_in_the_interpreter_with_the_libraries(cases: str, tmp_path: Path) -> None:
    file = Path(__file__).with_name(f"{cases}.py")
    options = ["-q", "--noconftest", "-p", "no:cacheprovider", "-o", "addopts=", "--import-mode=importlib"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runtime" / "src"), "OMP_NUM_THREADS": "1"}
    asked = ["-p", "tests.runtime.case_fixtures", "--basetemp", str(tmp_path / "cases"), str(file)]
    command = [str(PYTHON), "-m", "pytest", *options, *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    assert " passed" in done.stdout.splitlines()[-1]
