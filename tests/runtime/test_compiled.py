"""Each file of tests/runtime/compiled, run by the interpreter that has pandas, scikit-learn and the boosters."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.conftest import ROOT

PYTHON = ROOT / "tests" / "notebooks" / ".venv" / "bin" / "python"
FOLDER = ROOT / "tests" / "runtime" / "compiled"


@pytest.mark.parametrize("file", sorted(FOLDER.glob("test_*.py")), ids=lambda file: file.stem)
def test_in_the_interpreter_with_the_libraries(file: Path, tmp_path: Path) -> None:
    if not PYTHON.exists():
        pytest.skip("tests/notebooks/.venv is absent: make tests/notebooks/.venv/.notebooks")
    paths = os.pathsep.join((str(ROOT / "runtime" / "src"), str(ROOT)))
    settings = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    alone = ["-c", os.devnull, f"--rootdir={FOLDER}", f"--confcutdir={FOLDER}", f"--basetemp={tmp_path / 'inner'}"]
    asked = [str(PYTHON), "-m", "pytest", "-q", "-p", "no:cacheprovider", *alone, str(file)]
    done = subprocess.run(asked, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
