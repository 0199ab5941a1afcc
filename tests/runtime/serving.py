"""What the serving tests share: a tiny project to pack, server processes, a caller."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "tests" / "notebooks" / ".venv" / "bin" / "python"
FEATURES = '''
import os
import time


def build(frame):
    """Double x; misbehave where a row asks for it."""
    wish = set(frame["wish"].dropna())
    if "raise" in wish:
        raise ValueError("x may not be that")
    if "exit" in wish:
        raise SystemExit(3)
    if "short" in wish:
        return frame[["x"]].iloc[1:]
    if "sleep" in wish:
        time.sleep(0.5)
    if "die" in wish:
        os._exit(9)
    if "nan" in wish:
        return frame[["x"]] * float("nan")
    made = frame[["x"]] * 2
    made["count"] = frame["count"]
    made["hour"] = frame["at"].dt.hour
    return made
'''
TRAIN = '''
import numpy as np


class Sum:
    """Add the features up."""

    def predict(self, X):
        return X.to_numpy(dtype=float).sum(axis=1)


class Squash(Sum):
    """The same as a probability."""

    classes_ = np.array([0, 1])

    def predict_proba(self, X):
        one = 1 / (1 + np.exp(-self.predict(X)))
        return np.column_stack([1 - one, one])


def fit(X, y):
    return Sum()


def fit_class(X, y):
    return Squash()
'''
MAKE = """
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from trilho_runtime import fit, pack
from trilho_runtime.step import In, Out

folder, source, options = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
sys.path.insert(0, source)
if "code" in options:
    (Path(source) / "tiny" / "features.py").write_text(options.pop("code"))
rng = np.random.default_rng(7)
n = 200
rows = pd.DataFrame({
    "id": [f"r{i}" for i in range(n)],
    "at": pd.date_range("2024-01-01", periods=n, freq="h").astype("datetime64[us]"),
    "x": rng.normal(size=n),
    "count": rng.integers(0, 9, n),
    "wish": [None if i % 3 else "none" for i in range(n)],
    "flag": rng.random(n) < 0.5,
    "level": np.where(np.arange(n) % 5 == 0, np.nan, rng.normal(size=n)),
    "y": rng.integers(0, 2, n),
})
task = options.get("task", "regression")
rows.iloc[:150].to_parquet(folder / "train.parquet", index=False)
rows.iloc[150:].to_parquet(folder / "holdout.parquet", index=False)
train, holdout = In("train", str(folder / "train.parquet")), In("holdout", str(folder / "holdout.parquet"))
model, told = str(folder / "model.pkl"), str(folder / "predictions.parquet")
functions = {"features": "tiny.features:build", "task": task, "target": "y"}
fit.fit(train, Out("model", model), train="tiny.train:" + ("fit" if task == "regression" else "fit_class"), **functions)
fit.predict(In("model", model), holdout, Out("predictions", told), time="at", **functions)
for name in [m for m in sys.modules if m.split(".")[0] == "tiny"]:
    del sys.modules[name]
for name in options.get("folders", ["package"]):
    pack.pack(
        In("model", model), train, holdout, In("predictions", told), Out("package", str(folder / name)),
        name="tiny", time="at", key="id", source=source, window_seconds=86400.0, ignore=[],
        metrics={"mae": 1.5}, run="run-1", **functions)
    for name in [m for m in sys.modules if m.split(".")[0] == "tiny"]:
        del sys.modules[name]
"""
ROW: dict[str, Any] = {
    "id": "a",
    "at": "2024-03-01T05:00:00",
    "x": 1.5,
    "count": 2,
    "wish": None,
    "flag": True,
    "level": None,
}
ANSWER = 10.0  # 2 * 1.5 + 2 + 5


QUICK = """
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from trilho_runtime.model.packing import package

folder = Path(sys.argv[1])
rng = np.random.default_rng(5)
rows = pd.DataFrame({
    "x": rng.normal(size=300), "z": rng.normal(size=300), "color": rng.choice(["red", "green", "blue"], 300),
})
kind = np.where(rows["x"] > 0.5, "high", np.where(rows["x"] < -0.5, "low", "middle"))
prepare = make_column_transformer(
    (StandardScaler(), ["x", "z"]), (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["color"]))
model = make_pipeline(prepare, LogisticRegression()).fit(rows, kind)
package(model, rows, name="quick", out=folder / "package")
asked = rows.head(40)
told = {"rows": asked.to_dict("records"), "classes": model.classes_.tolist()}
told["told"] = model.predict_proba(asked).tolist()
(folder / "told.json").write_text(json.dumps(told))
"""


def make_quick(folder: Path) -> None:
    """Package a compiled model of three classes in `folder`, with rows and what the original says of them."""
    command = [str(NOTEBOOKS), "-c", QUICK, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=notebooks_environment())
    assert done.returncode == 0, done.stderr


def notebooks_environment(**more: str) -> dict[str, str]:
    """Give the environment of a data scientist's interpreter, which finds trilho-runtime's source."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "runtime" / "src"), "OMP_NUM_THREADS": "1", **more}


def make_package(python: Path, folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Fit, predict and pack the tiny project in `folder`; the package lies in folder/package."""
    source = folder / "src"
    (source / "tiny").mkdir(parents=True, exist_ok=True)
    (source / "tiny" / "__init__.py").write_text("")
    (source / "tiny" / "features.py").write_text(FEATURES)
    (source / "tiny" / "train.py").write_text(TRAIN)
    command = [str(python), "-c", MAKE, str(folder), str(source), json.dumps(options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@dataclass
class Reply:
    """An answer over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(
    address: str, path: str, body: object = None, headers: Mapping[str, str] | None = None, seconds: float = 20
) -> Reply:
    """Send one request: POST when there is a body (bytes as they are, else JSON), GET otherwise."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=seconds)
    try:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request("GET" if data is None else "POST", path, data, dict(headers or {}))
        answer = connection.getresponse()
        return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def until(happens: Callable[[], Any], seconds: float = 15, what: str = "") -> Any:
    """Wait for something to be true and give it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = happens()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what or happens}")


def alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended and waits to be collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return not state.strip().startswith("Z") and bool(state.strip())


@dataclass
class Running:
    """A server process of ours."""

    process: subprocess.Popen[bytes]
    ready_file: Path
    errors: Path

    @property
    def address(self) -> str:
        data: dict[str, Any] = json.loads(self.ready_file.read_bytes())
        assert data["pid"] == self.process.pid
        return str(data["address"])

    def wait_until_bound(self) -> str:
        def bound() -> bool:
            assert self.process.poll() is None, self.errors.read_text()
            return self.ready_file.exists()

        until(bound, what="bound")
        return self.address

    def wait_until_ready(self) -> str:
        address = self.wait_until_bound()
        until(lambda: call(address, "/health").status == 200, what="ready")
        return address

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(15)


@dataclass
class Launcher:
    """Starts servers and leaves none behind."""

    folder: Path
    python: Path
    started: list[Running] = field(default_factory=list)

    def run(self, python: Path, module: str, *arguments: object, **options: Any) -> Running:
        number = len(self.started)
        ready, errors = self.folder / f"ready-{number}.json", self.folder / f"errors-{number}.txt"
        command = [str(python), "-m", module, *map(str, arguments), "--ready-file", str(ready)]
        with errors.open("wb") as err:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=err, stderr=err, **options)
        self.started.append(Running(process, ready, errors))
        return self.started[-1]

    def server(self, package: Path, *arguments: object, version: int = 1, **options: Any) -> Running:
        named = ("--version", version, *arguments)
        return self.run(self.python, "trilho_runtime.server", package, *named, **options)

    def router(self, routes: Path, *arguments: object, **options: Any) -> Running:
        labels = () if "--label-dir" in arguments else ("--label-dir", self.folder / "labels")
        python = Path(sys.executable)
        return self.run(python, "trilho_runtime.route", "--routes", routes, *labels, *arguments, **options)

    def end(self) -> None:
        for running in self.started:
            if running.process.poll() is None:
                running.process.kill()
                running.process.wait(10)


def write_routes(path: Path, generation: int, *versions: tuple[int, str, float]) -> Path:
    """Write a routes file as a supervisor does."""
    shares = [{"version": v, "address": a, "share": s} for v, a, s in versions]
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps({"schema": 1, "model": "tiny", "generation": generation, "versions": shares}))
    temporary.replace(path)
    return path
