"""Two projects as adopting makes them, each with the run of its notebook: what parity is checked on."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trilho.adopt.parity.certificate import Certificate
from trilho.adopt.parity.check import certify
from trilho.adopt.plan import Choice, Function, Metric, Plan, Split, Target
from trilho.adopt.trace import Argument, Call, Fit, Golden, Object, Predict, Read, Trace, Value

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK_PYTHON = ROOT / "tests" / "notebooks" / ".venv" / "bin" / "python"
FRAME = "pandas.core.frame.DataFrame"
EMPTY = Function("load", (), "", "", ())


@dataclass(frozen=True)
class World:
    """A project, and what the run of its notebook left."""

    project: Path
    scratch: Path
    trace: Trace
    choice: Choice
    plan: Plan

    def certify(self, python: Path, **changes: Any) -> Certificate:
        """Check it, with parts of it changed."""
        made = replace(self, **changes)
        return certify(made.project, made.trace, made.choice, made.plan, scratch=made.scratch, python=python)

    def copy(self, to: Path) -> World:
        """Copy it, to be spoiled."""
        shutil.copytree(self.project, to / "project", ignore=shutil.ignore_patterns(".venv", "__pycache__"))
        shutil.copytree(self.scratch, to / "scratch")
        return replace(self, project=to / "project", scratch=to / "scratch")

    def edit(self, file: str, old: str, new: str) -> None:
        """Change a line of the project."""
        path = self.project / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {file}"
        path.write_text(text.replace(old, new), encoding="utf-8")


def state(certificate: Certificate) -> dict[str, str]:
    """Give each stage's state."""
    return {stage.name: stage.state for stage in certificate.stages}


def rides(folder: Path) -> World:
    """Form "features", shipped on everything."""
    kept = _run("rides", folder / "scratch")
    project = _project(folder, RIDES)
    X, y, held = (Argument(name, _value(kept, name)) for name in ("X", "y", "Xb"))
    first = Argument("a", _value(kept, "Xa", rows=225))
    metric = [Argument(name, _value(kept, name)) for name in ("yb", "measured")]
    trace = _trace(
        folder / "scratch",
        reads={"arguments": {"parse_dates": "['at']", "dtype": "{'kind': 'category'}"}},
        fits=[Fit(0, 5, 3, (1, 0, 1, 9), 4, "fit", "fit", first, None, [], 1),
              Fit(1, 8, 5, (1, 0, 1, 9), 4, "fit", "fit", X, y, [], 5)],
        predicts=[Predict(0, 6, 4, (1, 0, 1, 9), 4, "predict", held, _value(kept, "p"), 2)],
        metrics=[Call(9, 7, 4, (1, 0, 1, 9), "sklearn.metrics._regression.mean_absolute_error",
                      metric, Value("scalar", "float"), 3)],
        objects=[Object(4, "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingRegressor",
                        ["model"], {})],
        golden=[Golden(4, "fit", 1, "predict", 300, kept["golden"], "", 0),
                Golden(4, "predict", 0, "predict", 75, kept["goldenb"], kept["positionsb"], 0)],
    )  # fmt: skip
    choice = Choice(
        task="regression", shipped=4, shipped_name="model", shipped_fit=1, why="saved at the end, in cell 6",
        evaluated=4, evaluated_name="model", evaluated_fit=0, evaluated_predict=0, refitted=True,
        metrics=(Metric("mae", "mean_absolute_error", kept["mae"], 7, 4, 1, call=9),
                 Metric("r2", "r2_score", kept["r2"], 7, 4, 2)),
        target=Target("rides", raw=True), time="at", key="id", split=Split("random", (4,), 0.25, "1"), main_read=0,
    )  # fmt: skip
    return World(project, folder / "scratch", trace, choice, _plan("features", "rides"))


def late(folder: Path) -> World:
    """Form "model": state, a booster, and a fit that replays the split."""
    kept = _run("late", folder / "scratch")
    project = _project(folder, LATE)
    train, test = Argument("a", _value(kept, "X", rows=240)), Argument("b", _value(kept, "Xb", rows=60))
    trace = _trace(
        folder / "scratch",
        reads={"arguments": {}},
        fits=[Fit(0, 5, 3, (1, 0, 1, 9), 4, "train", "xgboost.training.train", train,
                  Argument("y", _value(kept, "y")), [], 1)],
        predicts=[Predict(0, 6, 4, (1, 0, 1, 9), 4, "predict", test, _value(kept, "goldenb"), 2)],
        metrics=[],
        objects=[Object(4, "xgboost.core.Booster", ["bst"], {})],
        golden=[Golden(4, "fit", 0, "predict", 240, kept["golden"], kept["positions"], 0),
                Golden(4, "predict", 0, "predict", 60, kept["goldenb"], kept["positionsb"], 0)],
    )  # fmt: skip
    choice = Choice(
        task="classification", shipped=4, shipped_name="bst", shipped_fit=0, why="the last one measured",
        evaluated=4, evaluated_name="bst", evaluated_fit=0, evaluated_predict=0, refitted=False,
        metrics=(Metric("roc_auc", "roc_auc_score", kept["auc"], 7, 4, 1),),
        target=Target("late", raw=True), time="ts", key="", split=Split("time", (4,), 0.2), main_read=0,
    )  # fmt: skip
    return World(project, folder / "scratch", trace, choice, replace(_plan("model", "late"), split_in_fit=True))


def _run(name: str, scratch: Path) -> dict[str, Any]:
    script = Path(__file__).with_name("parity_notebook.py")
    done = subprocess.run(
        [str(NOTEBOOK_PYTHON), str(script), name, str(scratch)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def _project(folder: Path, files: dict[str, str]) -> Path:
    project = folder / "project"
    for name, text in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    (project / "data").mkdir()
    shutil.copyfile(folder / "scratch" / "data.csv", project / "data" / "data.csv")
    return project


def _value(kept: dict[str, Any], name: str, rows: int | None = None) -> Value:
    return Value("frame", FRAME, rows=rows, file=kept[name])


def _plan(form: Any, package: str) -> Plan:
    return Plan(form=form, package=package, frame="df", load=EMPTY, features=(), definitions={}, constants={}, fit=(),
                predict=None, evaluate=(), imports=())  # fmt: skip


def _trace(scratch: Path, reads: dict[str, Any], **parts: Any) -> Trace:
    data = scratch / "data.csv"
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    read = Read(0, 1, 1, (1, 0, 1, 9), "csv", "pandas.io.parsers.readers.read_csv", "data.csv", reads["arguments"],
                digest, data.stat().st_size, "data.csv", Value("frame", FRAME))  # fmt: skip
    return Trace(
        schema=1, notebook="ab" * 32, python=str(NOTEBOOK_PYTHON), version="3.11.7", libraries={}, modules={},
        enforcement="landlock", seconds=1.0, statements=[], calls=[], reads=[read], splits=[], saves=[],
        connections=[], **parts,
    )  # fmt: skip


RIDES = {
    "trilho.toml": """
        [model]
        name = "rides"
        task = "regression"
        target = "rides"
        time = "at"
        key = "id"
        [data]
        source = "data/data.csv"
        [steps]
        load = "rides.load:load"
        features = "rides.features:build"
        train = "rides.fit:fit"
        """,
    "src/rides/__init__.py": "",
    "src/rides/load.py": """
        from pathlib import Path

        import pandas as pd


        def load(path: Path) -> pd.DataFrame:
            return pd.read_csv(path, parse_dates=["at"], dtype={"kind": "category"})
        """,
    "src/rides/features.py": """
        import pandas as pd


        def build(df: pd.DataFrame) -> pd.DataFrame:
            return pd.DataFrame({
                "hour": df["at"].dt.hour, "temp": df["temp"].astype("float32"), "seats": df["seats"].fillna(2),
                "holiday": df["holiday"], "accented": df["place"].fillna("").str.contains("ç|Á").astype("int8"),
                "train": (df["kind"] == "trem").astype(int), "odd": df["id"] % 2,
                "rain": df["rain"].eq(True).astype(int),
            })
        """,
    "src/rides/fit.py": """
        import pandas as pd
        from sklearn.ensemble import HistGradientBoostingRegressor


        def fit(X: pd.DataFrame, y: pd.Series) -> HistGradientBoostingRegressor:
            return HistGradientBoostingRegressor(max_iter=20, random_state=0).fit(X, y)
        """,
    "src/rides/evaluate.py": """
        import pandas as pd
        from sklearn.metrics import mean_absolute_error, r2_score
        from sklearn.model_selection import train_test_split

        from rides.features import build
        from rides.fit import fit


        def evaluate(rows: pd.DataFrame, target: pd.Series) -> dict[str, float]:
            a, b, ya, yb = train_test_split(build(rows), target, test_size=0.25, random_state=1)
            p = fit(a, ya).predict(b)
            return {"mae": mean_absolute_error(yb, p), "r2": r2_score(yb, p)}
        """,
}

LATE = {
    "trilho.toml": """
        [model]
        name = "late"
        task = "classification"
        target = "late"
        time = "ts"
        [data]
        source = "data/data.csv"
        [steps]
        load = "late.load:load"
        train = "late.fit:fit"
        """,
    "src/late/__init__.py": "",
    "src/late/load.py": """
        from pathlib import Path

        import pandas as pd


        def load(path: Path) -> pd.DataFrame:
            raw = pd.read_csv(path)
            raw["ts"] = pd.to_datetime(raw["ts"])
            return raw
        """,
    "src/late/features.py": """
        import pandas as pd


        class State:
            def __init__(self) -> None:
                self.learning = True
                self.values = {}

            def once(self, name, learn):
                if self.learning and name not in self.values:
                    self.values[name] = learn()
                return self.values[name]


        def build(d: pd.DataFrame, state: State) -> pd.DataFrame:
            o = pd.DataFrame(index=d.index)
            o["carrier"] = d.carrier.map(state.values["codes"]).fillna(-1)
            o["hour"] = d.ts.dt.hour
            o["wind"] = d.wind.fillna(state.once("wind", lambda: d.wind.median()))
            return o
        """,
    "src/late/fit.py": """
        from dataclasses import dataclass

        import numpy as np
        import pandas as pd
        import xgboost as xgb

        from late.features import State, build

        PARAMS = {"objective": "binary:logistic", "max_depth": 3, "seed": 7, "nthread": 1, "subsample": 0.8}


        @dataclass
        class Model:
            booster: xgb.Booster
            state: State

            def predict_proba(self, rows: pd.DataFrame) -> np.ndarray:
                p = self.booster.predict(xgb.DMatrix(build(rows, self.state)))
                return np.column_stack([1 - p, p])


        def fit(raw: pd.DataFrame, target: pd.Series) -> Model:
            state = State()
            state.once("codes", lambda: {c: i for i, c in enumerate(sorted(raw.carrier.unique()))})
            cut = raw.ts.quantile(0.8)
            first, last = raw.ts < cut, raw.ts >= cut
            train = xgb.DMatrix(build(raw[first], state), label=target[first])
            test = xgb.DMatrix(build(raw[last], state), label=target[last])
            state.learning = False
            found = xgb.train(
                PARAMS, train, 60, evals=[(test, "test")], early_stopping_rounds=10, verbose_eval=False
            )
            return Model(found, state)
        """,
    "src/late/evaluate.py": """
        import pandas as pd
        from sklearn.metrics import roc_auc_score

        from late.fit import fit


        def evaluate(rows: pd.DataFrame, target: pd.Series) -> dict[str, float]:
            held = rows.ts >= rows.ts.quantile(0.8)
            p = fit(rows, target).predict_proba(rows[held])[:, 1]
            return {"roc_auc": roc_auc_score(target[held], p)}
        """,
}
