"""What a notebook may not do, and what becomes of it: writes, requests, processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.adopt.capture_runs import ran, run, value

from trilho.adopt.trace import Trace

READY = "import pandas as pd, os, json, pathlib, shutil, pickle\ndf = pd.DataFrame({'a': [1.0, 2.0, 3.0]})"


def left(folder: Path) -> list[str]:
    """List what is in the notebook's folder afterwards."""
    return sorted(path.name for path in (folder / "work").iterdir())


def test_writes_are_redirected_and_read_back(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "log.txt").write_text("old\n")
    code = """
os.makedirs("out/deep", exist_ok=True)
df.to_csv("out/a.csv", index=False)
df.to_parquet("out/deep/a.parquet")
with open("log.txt", "a") as f: f.write("new")
pathlib.Path("out/p.json").write_text(json.dumps({"k": 1}))
back = pd.read_csv("out/a.csv"); parquet = pd.read_parquet("out/deep/a.parquet")
seen = (open("log.txt").read(), json.load(open("out/p.json")), sorted(os.listdir("out")), os.path.exists("out/a.csv"),
        [str(p) for p in sorted(pathlib.Path("out").glob("**/*.parquet"))], os.path.getsize("log.txt"))
os.rename("out/a.csv", "out/b.csv"); os.remove("out/p.json")
after = sorted(os.listdir("out"))
shutil.rmtree("out/deep")
gone = os.path.exists("out/deep")
seen, after, gone, back.equals(df), parquet.equals(df)
"""
    trace = ran(run(tmp_path, READY, code, modules=("pyarrow",)))
    expected = "(('old\\nnew', {'k': 1}, ['a.csv', 'deep', 'p.json'], True, ['out/deep/a.parquet'], 7), "
    expected += "['b.csv', 'deep'], False, True, True)"
    assert trace.statements[-1].output.strip() == expected
    assert left(tmp_path) == ["log.txt", "notebook.ipynb"]
    assert (tmp_path / "work" / "log.txt").read_text() == "old\n"
    saved = [(Path(save.path).name, save.function, save.allowed, save.names) for save in trace.saves]
    assert ("a.csv", "pandas.DataFrame.to_csv", True, ["df"]) in saved
    assert ("log.txt", "open", True, []) in saved


def test_models_are_saved_by_name_and_object(tmp_path: Path) -> None:
    code = """
from sklearn.linear_model import LinearRegression
import joblib
model = LinearRegression().fit(df[["a"]], df.a)
bundle = {"model": model, "columns": ["a"]}
joblib.dump(bundle, "bundle.joblib")
with open("m.pkl", "wb") as f:
    pickle.dump(model, f)
again = joblib.load("bundle.joblib")
"""
    trace = ran(run(tmp_path, READY, code))
    saved = {Path(save.path).name: (save.names, save.objects, save.allowed) for save in trace.saves}
    number = value(trace, "model").object
    assert saved["bundle.joblib"] == (["bundle"], [number], True)
    assert saved["m.pkl"][1:] == ([number], True)
    assert (tmp_path / "scratch" / next(s.file for s in trace.saves if s.path.endswith("m.pkl"))).stat().st_size > 100


REFUSED = [
    "os.mkfifo('direct.txt')",
    "os.remove('notebook.ipynb')",
    "import subprocess\nsubprocess.run(['touch', 'shell.txt'], check=True)",
    "os.symlink('a', 'link')",
    "class Sends(pd.DataFrame):\n    def to_gbq(self, *a, **k): raise ValueError\nSends.__module__ = 'pandas'\n"
    "Sends(df).to_gbq('d.t', project_id='p')",
    "import urllib.request\nurllib.request.urlopen(urllib.request.Request('http://127.0.0.1:9/', data=b'x'))",
]


def test_what_cannot_be_redirected_is_refused_and_the_run_goes_on(tmp_path: Path) -> None:
    trace = run(tmp_path, READY, *REFUSED, "after = 1")
    assert value(trace, "after").literal == "1"
    assert left(tmp_path) == ["notebook.ipynb"]
    states = [s.state for s in trace.statements]
    assert (states.count("refused"), states.count("failed")) == (len(REFUSED), 0)
    refused = {(save.cell, save.line) for save in trace.saves if not save.allowed}
    assert refused >= {
        (cell, len(code.splitlines())) for cell, code in enumerate(REFUSED, 1) if "subprocess" not in code
    }
    assert trace.enforcement == "landlock" or not _has_landlock()


def test_a_refused_write_inside_an_assignment_fails(tmp_path: Path) -> None:
    trace = run(tmp_path, READY, "import os\nhandle = os.mkfifo('direct.txt')\nafter = 1")
    assert trace.statements[-1].state == "failed"
    assert trace.statements[-1].error.startswith("PermissionError")


def test_processes_work_inside_the_sandbox(tmp_path: Path) -> None:
    code = """
from joblib import Parallel, delayed
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import cross_val_score
import multiprocessing, numpy as np
OFFSET = 3
def work(i):
    return np.sqrt(i) + OFFSET
X = np.arange(400.0).reshape(-1, 2); y = X[:, 0] * 2
by_loky = Parallel(n_jobs=2)(delayed(work)(i * i) for i in range(4))
scores = cross_val_score(RandomForestRegressor(n_estimators=5, random_state=0), X, y, cv=3, n_jobs=2)
with multiprocessing.get_context("fork").Pool(2) as pool:
    by_fork = pool.map(work, [1, 4])
big = Parallel(n_jobs=2, max_nbytes=1000)(delayed(np.sum)(X) for _ in range(2))
[float(v) for v in by_loky], len(scores), [float(v) for v in by_fork], [float(v) for v in big]
"""
    trace = ran(run(tmp_path, READY, code))
    assert trace.statements[-1].output.strip() == "([3.0, 4.0, 5.0, 6.0], 3, [4.0, 5.0], [79800.0, 79800.0])"
    assert left(tmp_path) == ["notebook.ipynb"]


def test_local_modules_are_frozen_and_what_they_fit_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "lib"
    folder.mkdir(parents=True)
    (folder / "helpers.py").write_text(
        "from __future__ import annotations\nfrom sklearn.linear_model import LinearRegression\n"
        "def train(X, y):\n    return LinearRegression().fit(X, y)\n"
    )
    code = "import sys\nsys.path.append('lib')\nfrom helpers import train\nmodel = train(df[['a']], df.a)"
    trace = ran(run(tmp_path, READY, code))
    module = next(read for read in trace.reads if read.kind == "module")
    assert (Path(module.source).name, module.cell) == ("helpers.py", 1)
    assert (tmp_path / "scratch" / module.file).read_text().startswith("from __future__")
    assert [(fit.cell, fit.span[0], fit.object) for fit in trace.fits] == [(1, 4, value(trace, "model").object)]
    assert left(tmp_path) == ["lib", "notebook.ipynb"]
    assert not any(path.name == "__pycache__" for path in (tmp_path / "work").rglob("*"))


def test_databases_are_copied_before_they_change(tmp_path: Path) -> None:
    code = """
import sqlite3
con = sqlite3.connect("shop.db")
df.to_sql("t", con, index=False); con.commit()
back = pd.read_sql("SELECT a FROM t WHERE a > 1", con)
"""
    trace = ran(run(tmp_path, READY, code))
    read = trace.reads[-1]
    assert (read.kind, read.source, read.value.rows) == ("sql", "SELECT a FROM t WHERE a > 1", 2)
    assert read.file
    assert left(tmp_path) == ["notebook.ipynb"]


def _has_landlock() -> bool:
    import ctypes

    return os.uname().sysname == "Linux" and ctypes.CDLL(None).syscall(444, None, 0, 1) > 0


def test_hooked_where_there_is_no_landlock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trilho.adopt.capture.run.ENFORCE", False)
    trace: Trace = run(tmp_path, READY, "os.symlink('a', 'b')", "os.mkdir('d')\nafter = 1")
    assert trace.enforcement == "hooked"
    assert [s.state for s in trace.statements if s.state != "ran"] == ["refused"]
    assert value(trace, "after").literal == "1"
    assert left(tmp_path) == ["notebook.ipynb"]
