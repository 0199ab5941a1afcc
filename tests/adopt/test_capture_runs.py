"""How a run goes: progress, errors, time limits, kill -9 on either side, and going on from a checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.adopt.capture_runs import ROOT, notebook_python, ran, run, value, write_notebook

from trilho.adopt.capture import Interpreter, Progress, capture, find_interpreter
from trilho.adopt.notebook import Notebook, read_notebook
from trilho.errors import TrilhoError, UsageError

PLAIN = Interpreter(sys.executable, "3.11", "test")  # for notebooks that need no libraries


def plain(folder: Path, *cells: str) -> Notebook:
    return write_notebook(folder, cells)


def test_an_error_ends_the_run_with_its_cell_and_line(tmp_path: Path) -> None:
    said: list[Progress] = []
    notebook = plain(tmp_path, "x = 1", "def f(v):\n    return v / 0\ny = 2\nf(\n  y)", "z = 3")
    trace = capture(notebook, PLAIN, tmp_path / "scratch", said.append)
    last = trace.statements[-1]
    assert (last.id, last.state, last.error, last.error_line) == (3, "failed", "ZeroDivisionError: division by zero", 2)
    assert "kernel" not in last.output
    assert [(p.cell, p.of, p.what) for p in said] == [
        (0, 3, "x = 1"),
        (1, 3, "def f(v):"),
        (1, 3, "y = 2"),
        (1, 3, "f("),
    ]


@pytest.mark.parametrize(
    ("code", "fact"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL in cell 1, line 2"),
        ("import os\nos._exit(3)", "ended with exit code 3 in cell 1, line 2"),
    ],
)
def test_a_kernel_that_dies_is_an_error(tmp_path: Path, code: str, fact: str) -> None:
    with pytest.raises(TrilhoError) as error:
        capture(plain(tmp_path, "x = 1", code), PLAIN, tmp_path / "scratch")
    assert fact in error.value.fact
    assert error.value.hint


def test_a_notebook_that_exits_or_asks_fails(tmp_path: Path) -> None:
    trace = capture(plain(tmp_path, "import sys\nsys.exit(0)"), PLAIN, tmp_path / "scratch")
    assert (trace.statements[-1].state, trace.statements[-1].error) == ("failed", "SystemExit: 0")
    trace = capture(plain(tmp_path, "input('name? ')"), PLAIN, tmp_path / "scratch")
    assert trace.statements[-1].error.startswith("EOFError")


def test_time_limit(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(TrilhoError, match=r"longer than 1 s; it was in cell 0, line 2"):
        capture(plain(tmp_path, "import time\ntime.sleep(60)"), PLAIN, tmp_path / "scratch", timeout_seconds=1)
    assert time.monotonic() - started < 20


def test_kill_9_of_trilho_kills_the_kernel_and_its_children(tmp_path: Path) -> None:
    plain(tmp_path, "import subprocess, time\nchild = subprocess.Popen(['sleep', '300'])\n"
                    "import os; open('pids', 'w').write(f'{child.pid} {os.getpid()}')\ntime.sleep(300)")  # fmt: skip
    script = (
        "import sys; from pathlib import Path; from trilho.adopt.capture import *\n"
        "from trilho.adopt.notebook import read_notebook\n"
        "capture(read_notebook(Path(sys.argv[1])), Interpreter(sys.executable, '', ''), Path(sys.argv[2]))"
    )
    scratch = tmp_path / "scratch"
    platform = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "work" / "notebook.ipynb"), str(scratch)])
    pids = scratch / "writes" / str(tmp_path / "work" / "pids").lstrip("/")
    assert _until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    platform.kill()
    platform.wait()
    for pid in pids.read_text().split():
        assert _until(lambda pid=pid: not _runs(int(pid))), pid


def test_goes_on_from_its_checkpoint_with_what_names_share(tmp_path: Path) -> None:
    source = (
        "import numpy as np, pandas as pd, random\nfrom sklearn.linear_model import LinearRegression\n"
        "pd.set_option('display.precision', 2)\nnp.random.seed(3); random.seed(4)\n"
        "pd.DataFrame({'a': range(50), 'b': range(50)}).sample(frac=1, random_state=0).to_csv('t.csv', index=False)",
        "df = pd.read_csv('t.csv')\ntwin = df\nclass Box:\n    size = 2\n    def __init__(self): self.v = [1]\n"
        "box = Box(); inner = box.v\ndouble = lambda v: v * 2\n"
        "model = LinearRegression().fit(df[df.a > 9][['a']], df[df.a > 9].b)\n"
        "used = np.random.rand()\ntotal = len(inner)",
        "import os\nif not os.path.exists('/dev/shm/{key}'):\n    open('/dev/shm/{key}', 'w').close()\n"
        "    os.kill(os.getpid(), 9)",
        "twin['c'] = 1\ninner.append(2)\n"
        "after = (np.random.rand(), random.random(), double(box.size), list(df.columns), box.v)\n"
        "pred = model.predict(df[['a']])",
    )
    key = f"trilho-test-{os.getpid()}"
    cells = [cell.replace("{key}", key) for cell in source]
    whole = tmp_path / "whole"
    whole.mkdir()
    Path(f"/dev/shm/{key}").touch()
    straight = ran(run(whole, *cells))
    Path(f"/dev/shm/{key}").unlink()
    try:
        with pytest.raises(TrilhoError, match="SIGKILL in cell 2"):
            run(tmp_path, *cells, checkpoint_seconds=0)
        said: list[Progress] = []
        resumed = ran(run(tmp_path, *cells, progress=said.append))
    finally:
        Path(f"/dev/shm/{key}").unlink(missing_ok=True)
    assert said[0].what.startswith("goes on after")
    assert value(resumed, "after").literal == value(straight, "after").literal
    assert [(s.id, s.writes, s.mutates) for s in resumed.statements] == [
        (s.id, s.writes, s.mutates) for s in straight.statements
    ]
    assert sorted(resumed.statements[-3].mutates) == ["box", "inner"]
    assert [(g.event, g.rows, g.read, bool(g.positions)) for g in resumed.golden] == [
        ("fit", 40, 0, True),
        ("predict", 50, 0, True),
    ]


def test_a_changed_source_starts_again(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    table = tmp_path / "work" / "t.csv"
    cells = (
        "text = open('t.csv').read()",
        "x = 1",
        "import os, signal\nos.kill(os.getpid(), 9) if 'old' in text else 0",
    )
    table.write_text("old")
    with pytest.raises(TrilhoError):
        capture(plain(tmp_path, *cells), PLAIN, tmp_path / "scratch", checkpoint_seconds=0)
    table.write_text("new")
    trace = capture(plain(tmp_path, *cells), PLAIN, tmp_path / "scratch", checkpoint_seconds=0)
    assert (value(trace, "text").literal, trace.statements[-1].state) == ("'new'", "ran")
    assert [(read.kind, read.cell, read.span) for read in trace.reads] == [("file", 0, (1, 7, 1, 20))]


def test_find_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = notebook_python()
    notebook = write_notebook(tmp_path, ["import pandas, json"])
    found = find_interpreter(notebook, python)
    assert (found.python, found.source, found.version[:2]) == (python, "--python", "3.")
    folder = Path(python).parents[1]
    (notebook.path.parent / ".venv").symlink_to(folder)
    assert find_interpreter(notebook).source == ".venv beside the notebook"
    (notebook.path.parent / ".venv").unlink()
    monkeypatch.setenv("VIRTUAL_ENV", str(folder))
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_interpreter(notebook).source == "VIRTUAL_ENV"


def test_interpreters_that_lack_something_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = write_notebook(tmp_path, ["import pandas, not_a_module_at_all"])
    with pytest.raises(UsageError, match=r"imports not_a_module_at_all, pandas, which .* does not have") as named:
        find_interpreter(notebook, sys.executable)
    assert "pip install" in (named.value.hint or "")
    monkeypatch.setenv("VIRTUAL_ENV", str(Path(sys.prefix)))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    with pytest.raises(UsageError, match=r"no interpreter has what notebook.ipynb imports: none was found"):
        find_interpreter(notebook)
    with pytest.raises(UsageError, match="which is no program"):
        find_interpreter(notebook, "/nowhere/python")


@pytest.mark.parametrize("name", ["01_bikeshare_demand_sklearn", "02_flight_delay_xgb"])
def test_shared_notebooks(tmp_path: Path, name: str) -> None:
    path = ROOT / "tests" / "notebooks" / "real" / "notebooks" / f"{name}.ipynb"
    trace = capture(read_notebook(path), Interpreter(notebook_python("xgboost", "matplotlib"), "", ""), tmp_path)
    ran(trace)
    told = {
        "01_bikeshare_demand_sklearn": ([8760], ["model"], 26.234658977586477),
        "02_flight_delay_xgb": ([12798], ["bst"], 0.6837132281316969),
    }[name]
    last = trace.fits[-1]
    assert [last.X and last.X.value.rows] == told[0]
    assert next(thing.names for thing in trace.objects if thing.id == last.object) == told[1]
    values = [float(call.result.literal) for call in trace.metrics if call.result.literal]
    assert any(abs(found / told[2] - 1) < 1e-6 for found in values)
    assert all(golden.positions for golden in trace.golden)
    assert [save.names for save in trace.saves] == [told[1]]


def _until(condition: object, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, IndexError):
        return False
