"""The page's worked example, run as it stands there against a `trilho emulate` of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("google.cloud.aiplatform_v1")
pytest.importorskip("kfp")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "emulate.md"
IMPATIENT = """
import runpy, time
sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.05))  # the SDKs wait seconds between two looks at a job
runpy.run_path("example.py", run_name="__main__")
"""
PRINTED = """\
40 3.169
b'xoxb-1'
[('announce', 'SUCCEEDED'), ('fit', 'SUCCEEDED')]
True
{35.0}
['1', '2']"""


def test_the_worked_example_works(tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))
    (tmp_path / "example.py").write_text(code)
    words = [
        sys.executable,
        "-m",
        "trilho",
        "emulate",
        "--json",
        "--no-install",
        "--image",
        f"python:3.11={sys.executable}",
    ]
    emulator = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert emulator.stdout is not None
    try:
        environment = {**os.environ, **json.loads(emulator.stdout.readline())["env"]}
        done = subprocess.run(
            [sys.executable, "-c", IMPATIENT],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        emulator.terminate()
        emulator.wait(30)
        emulator.stdout.close()
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line in PRINTED.splitlines()]
    assert said == PRINTED.splitlines(), done.stdout
