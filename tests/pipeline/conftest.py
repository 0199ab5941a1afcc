"""A tiny project with steps of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from trilho.backends.local.store import LocalStore

STEPS = '''
"""Steps of a small project."""
import json, os, subprocess, sys, time
from pathlib import Path
from trilho_runtime.step import In, Out, step
from small import rules

def _ran(name):
    with open(os.environ["SMALL_RAN"], "a") as f:
        f.write(name + "\\n")

@step
def make(numbers: Out, upto: int) -> dict:
    _ran("make")
    print("making", upto)
    numbers.path.write_text(json.dumps(list(range(upto))))
    return {"upto": upto}

@step
def double(numbers: In, doubled: Out) -> dict:
    _ran("double")
    doubled.path.write_text(json.dumps([rules.times(n) for n in json.loads(numbers.path.read_text())]))
    return {}

@step
def total(left: In, right: In, total: Out) -> dict:
    _ran("total")
    found = sum(json.loads(left.path.read_text())) + sum(json.loads(right.path.read_text()))
    total.path.write_text(str(found))
    return {"total": found}

@step
def boom(numbers: In, never: Out) -> None:
    raise ValueError("no such luck")

@step
def wait(numbers: In, waited: Out, marker: str) -> None:
    """Start a grandchild, say who runs, and wait to be killed."""
    _ran("wait")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    Path(marker + ".part").write_text(json.dumps([os.getpid(), child.pid, os.getppid()]))
    os.rename(marker + ".part", marker)
    if os.environ.get("SMALL_WAIT", "yes") == "yes" and not os.path.exists(marker + ".go"):
        time.sleep(120)
    waited.path.write_text("done")

@step
def chatter(numbers: Out, kilobytes: int) -> None:
    for index in range(kilobytes):
        print(f"{index:07d}" + "x" * 1016)
    numbers.path.write_text("[]")

@step
def die(numbers: Out) -> None:
    os.kill(os.getpid(), 9)

@step
def silent(numbers: Out) -> None:
    numbers.path.write_text("[]")
    os._exit(0)
'''
RULES = "def times(n):\n    return 2 * n\n"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "project" / "src" / "small"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "steps.py").write_text(STEPS)
    (package / "rules.py").write_text(RULES)
    (package / "unrelated.py").write_text("X = 1\n")
    monkeypatch.setenv("SMALL_RAN", str(tmp_path / "ran"))
    return package.parent


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> LocalStore:
    return LocalStore(home / "store")
