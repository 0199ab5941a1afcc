"""What is installed is all that is here: templates, styles and scripts too, whatever .gitignore says."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("project", "package"), [(".", "src/trilho"), ("runtime", "runtime/src/trilho_runtime")])
def test_a_wheel_holds_every_file_of_its_package(project: str, package: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT / project, check=True, capture_output=True, timeout=120)
    folder = ROOT / package
    files = {p.relative_to(folder.parent) for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = {Path(name) for name in wheel.namelist()}
    assert len(files) > 20
    assert files - held == set()
