"""Three plans written by hand, with the traces that go with them: a "features", a "model" and a "whole" project."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from trilho.adopt.notebook import Notebook, read_notebook
from trilho.adopt.plan import (
    Choice,
    Dropped,
    Fallback,
    Finding,
    Function,
    Metric,
    Part,
    Plan,
    Split,
    Target,
    Threshold,
)
from trilho.adopt.trace import Argument, Fit, Golden, Object, Read, StatementTrace, Trace, Value

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "tests" / "notebooks" / ".venv" / "bin" / "python"
SHARED = ROOT / "tests" / "notebooks" / "real"
NOTEBOOKS = SHARED / "notebooks"
FRAME, SERIES = "pandas.core.frame.DataFrame", "pandas.core.series.Series"


@dataclass(frozen=True)
class Case:
    plan: Plan
    choice: Choice
    trace: Trace
    notebook: Notebook
    scratch: Path


def part(source: str, cell: int, statement: int = 0, line: int = 1) -> Part:
    return Part(source, cell, line, statement)


def _rehearse(notebook: Path, scratch: Path, frame: str, made: str, ask: str) -> dict[str, object]:
    script = Path(__file__).with_name("emit_rehearsal.py")
    command = [str(PYTHON), str(script), str(notebook), str(scratch), frame, made, ask]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return dict(json.loads(done.stdout))


def _trace(notebook: Notebook, scratch: Path, seen: dict[str, object], data: Path, parts: dict[str, object]) -> Trace:
    (scratch / "reads").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(data, scratch / "reads" / data.name)
    raw = Value("frame", FRAME, int(str(seen["rows"])), list(seen["raw"]), list(seen["dtypes"]))  # type: ignore[call-overload]
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    read = Read(0, 1, 2, (1, 0, 1, 1), "csv", "pandas.io.parsers.readers.read_csv", f"../data/{data.name}", {}, digest,
                data.stat().st_size, f"reads/{data.name}", raw)  # fmt: skip
    X = Value("frame", FRAME, columns=list(seen["columns"]), file="values/X.parquet")  # type: ignore[call-overload]
    fit = Fit(1, 9, 9, (2, 0, 2, 5), 7, "fit", "fit", Argument("X", X), Argument("y", Value("series", SERIES)), [], 9)
    golden = Golden(7, "fit", 1, str(parts["method"]), 0, "values/golden.npy", "values/positions.npy", 0)
    shipped = Object(7, str(parts["type"]), [str(parts["name"])], {})
    medians = Value("mapping", "builtins.dict", literal=str(seen["medians"]))
    return Trace(
        schema=1, notebook=notebook.digest, python=str(PYTHON), version="3.11.4",
        libraries={"pandas": "3.1.1", "numpy": "2.4.6", "scikit-learn": "1.9.1", "xgboost-cpu": "3.2.0"},
        modules={"pandas": "pandas", "numpy": "numpy", "sklearn": "scikit-learn", "xgboost": "xgboost-cpu"},
        enforcement="landlock", seconds=3.0,
        statements=[StatementTrace(4, 0.1, "ran", writes=["MEDIANS"], values={"MEDIANS": medians})],
        calls=[], reads=[read], fits=[fit], predicts=[], metrics=[], splits=[], saves=[], connections=[],
        objects=[shipped], golden=[golden],
    )  # fmt: skip


def bikes(scratch: Path) -> Case:
    """Form "features": the features of a row are its own, the model is a pipeline of scikit-learn."""
    notebook = read_notebook(NOTEBOOKS / "01_bikeshare_demand_sklearn.ipynb")
    data = SHARED / "data" / "bikeshare" / "baseline.csv"
    seen = _rehearse(notebook.path, scratch, "df", "X", "model.predict(X)")
    raw = ["event_id", "ts", "temp_min_c", "temp_max_c", "precip_mm", "rides"]
    kinds = dict(zip(list(seen["raw"]), list(seen["dtypes"]), strict=True))  # type: ignore[call-overload]
    seen |= {"raw": raw, "dtypes": [kinds[name] for name in raw]}
    trace = _trace(notebook, scratch, seen, data,
                   {"method": "predict", "type": "sklearn.pipeline.Pipeline", "name": "model"})  # fmt: skip
    build = Function(
        "build", (("df", "pd.DataFrame"),), "X", "pd.DataFrame",
        (
            part("df['hour'] = df.ts.dt.hour", 4, 3), part("df['dow'] = df.ts.dt.dayofweek", 4, 4),
            part("df['month'] = df.ts.dt.month", 4, 5),
            part("df['weekend'] = (df.dow >= 5).astype(int)", 4, 6),
            part("df['temp_mean'] = (df.temp_min_c + df.temp_max_c) / 2", 4, 7),
            part("X = df[num+cat]", 6, 10),
        ),
    )  # fmt: skip
    pre = part(
        "pre = ColumnTransformer([('num', Pipeline([('imp', SimpleImputer(strategy='median')),"
        "('sc', StandardScaler())]), num),\n                         "
        "('cat', OneHotEncoder(handle_unknown='ignore', sparse_output=False), cat)])", 6, 12)  # fmt: skip
    model = part("model = Pipeline([('pre', pre), ('m', HistGradientBoostingRegressor(max_iter=150, "
                 "learning_rate=0.1, random_state=42))])", 7, 14)  # fmt: skip
    fit = Function("fit", (("X", "pd.DataFrame"), ("y", "pd.Series")), "model", "object",
                   (pre, model, part("# final fit on everything\nmodel.fit(X, y)", 9, 18)))  # fmt: skip
    sides = "X_train, X_test, y_train, y_test"
    split = Function(
        "split", (("X", "pd.DataFrame"), ("y", "pd.Series")), sides,
        "tuple[pd.DataFrame, pd.DataFrame, pd.Series, pd.Series]",
        (part(f"{sides} = train_test_split(X, y, test_size=0.2, random_state=42)", 6, 11),),
    )  # fmt: skip
    evaluate = Function(
        "evaluate", (("rows", "pd.DataFrame"), ("target", "pd.Series")),
        "{'mae': mean_absolute_error(y_test, pred), 'r2': r2_score(y_test, pred)}", "dict[str, float]",
        (part(f"{sides} = split(build(rows), target)", 6, 11), part("model = fit(X_train, y_train)", 7, 15),
         part("pred = model.predict(X_test)", 7, 16)),
    )  # fmt: skip
    plan = Plan(
        form="features", package="bike_demand", frame="df",
        load=Function("load", (("path", "Path"),), "df", "pd.DataFrame",
                      (part("df = pd.read_csv(path, parse_dates=['ts'])", 2, 1),)),
        features=(build,), definitions={},
        constants={"features": (part("num = ['temp_min_c','temp_max_c','temp_mean','precip_mm']", 6, 8),
                                part("cat = ['hour','dow','month','weekend']", 6, 9))},
        fit=(fit,), predict=None, evaluate=(split, evaluate),
        imports=("import pandas as pd, numpy as np", "import matplotlib.pyplot as plt",
                 "from sklearn.pipeline import Pipeline", "from sklearn.compose import ColumnTransformer",
                 "from sklearn.preprocessing import OneHotEncoder, StandardScaler, FunctionTransformer",
                 "from sklearn.impute import SimpleImputer",
                 "from sklearn.ensemble import HistGradientBoostingRegressor",
                 "from sklearn.metrics import mean_absolute_error, r2_score",
                 "from sklearn.model_selection import TimeSeriesSplit, train_test_split"),
        columns=("ts", "temp_min_c", "temp_max_c", "precip_mm"),
        dropped=(Dropped(3, "exploration"), Dropped(8, "a plot")),
        findings=(Finding("random-split", 6, 3, "the split is random, the rows are ordered by ts"),),
    )  # fmt: skip
    choice = Choice(
        task="regression", shipped=7, shipped_name="model", shipped_fit=1, why="saved at the end, in cell 9",
        evaluated=7, evaluated_name="model", evaluated_fit=0, evaluated_predict=0, refitted=True,
        metrics=(_metric(notebook, "mae", "sklearn.metrics.mean_absolute_error", 7),
                 _metric(notebook, "r2", "sklearn.metrics.r2_score", 7)),
        target=Target("rides", raw=True), time="ts", key="event_id", split=Split("random", (11,), 0.2, "42"),
        main_read=0, others=("ridge",),
    )  # fmt: skip
    return Case(plan, choice, trace, notebook, scratch)


def flights(scratch: Path) -> Case:
    """Form "model": an xgboost booster, stopped early on the test rows; encoders and medians in globals."""
    notebook = read_notebook(NOTEBOOKS / "02_flight_delay_xgb.ipynb")
    data = SHARED / "data" / "nycflights" / "baseline.csv"
    seen = _rehearse(notebook.path, scratch, "raw", "Xtr", "bst.predict(dtrain)")
    trace = _trace(notebook, scratch, seen, data,
                   {"method": "predict", "type": "xgboost.core.Booster", "name": "bst"})  # fmt: skip
    make = part(
        'def make_features(d: pd.DataFrame, state: State) -> pd.DataFrame:\n    o = pd.DataFrame(index=d.index)\n'
        '    o["carrier"] = d.carrier.map(state.CARRIER_MAP).fillna(-1)\n    o["origin"] = d.origin.map(ORIGIN_MAP)\n'
        '    o["dest_rate"] = d.dest.map(state.DEST_RATE).fillna(state.GLOBAL_RATE)\n    o["hour"] = d.ts.dt.hour\n'
        '    o["dow"] = d.ts.dt.dayofweek\n    o["distance"] = np.log1p(d.distance)\n'
        '    for c in ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]:\n'
        '        if c not in state.MEDIANS:\n            state.MEDIANS[c] = d[c].median()\n'
        "        o[c] = d[c].fillna(state.MEDIANS[c])\n    return o", 3, 6)  # fmt: skip
    learn = (
        part("raw = rows.assign(late_departure=target)", 1, 1),
        part("state = State()", 2, 2),
        part("# encodings (keep these dicts!! needed for scoring)\nstate.once(\"CARRIER_MAP\", lambda: "
             "{c: i for i, c in enumerate(sorted(raw.carrier.unique()))})", 2, 2),
        part('state.once("DEST_RATE", lambda: raw.groupby("dest").late_departure.mean().to_dict())'
             "  # target encoding", 2, 3),
        part('state.once("GLOBAL_RATE", lambda: raw.late_departure.mean())', 2, 4),
        part('state.once("MEDIANS", dict)', 2, 5),
    )  # fmt: skip
    cut = (
        part("cut = raw.ts.quantile(0.8)", 4, 7),
        part("tr = raw[raw.ts < cut]; te = raw[raw.ts >= cut]", 4, 8),
    )
    fit = Function(
        "fit", (("rows", "pd.DataFrame"), ("target", "pd.Series")), "Model(bst, state.done())", "Model",
        (
            *learn, part("tr, te = split(raw)", 4, 8),
            part("Xtr = make_features(tr, state); Xte = make_features(te, state)", 4, 9),
            part("ytr = tr.late_departure; yte = te.late_departure", 4, 10),
            part("dtrain = xgb.DMatrix(Xtr, label=ytr); dtest = xgb.DMatrix(Xte, label=yte)", 4, 11),
            part('params = dict(objective="binary:logistic", eta=0.08, max_depth=5, subsample=0.8, '
                 'colsample_bytree=0.8, eval_metric="auc", seed=SEED, nthread=2)', 4, 12),
            part('bst = xgb.train(params, dtrain, num_boost_round=200, evals=[(dtest, "test")], '
                 "early_stopping_rounds=30, verbose_eval=False)", 4, 13),
        ),
    )  # fmt: skip
    predict = Function("predict", (("bst", "xgb.Booster"), ("state", "State"), ("rows", "pd.DataFrame")),
                       "bst.predict(xgb.DMatrix(build(rows, state)))", "np.ndarray", (part("", 5, 14),))  # fmt: skip
    split = Function("split", (("raw", "pd.DataFrame"),), "tr, te", "tuple[pd.DataFrame, pd.DataFrame]", cut)
    evaluate = Function(
        "evaluate", (("rows", "pd.DataFrame"), ("target", "pd.Series")), "{'roc_auc': roc_auc_score(yte, p)}",
        "dict[str, float]",
        (part("_, te = split(rows.assign(late_departure=target))", 4, 8), part("model = fit(rows, target)", 4, 13),
         part("yte = te.late_departure", 4, 10),
         part('p = model.predict_proba(te.drop(columns="late_departure"))[:, 1]', 5, 14)),
    )  # fmt: skip
    plan = Plan(
        form="model", package="flight_delay", frame="raw",
        load=Function("load", (("path", "Path"),), "raw", "pd.DataFrame",
                      (part("raw = pd.read_csv(path)", 1, 0), part('raw["ts"] = pd.to_datetime(raw["ts"])', 1, 1))),
        features=(Function("build", (("d", "pd.DataFrame"), ("state", "State")), "make_features(d, state)",
                           "pd.DataFrame", ()),),
        definitions={"features": (make,)},
        constants={"features": (part('ORIGIN_MAP = {"EWR": 0, "JFK": 1, "LGA": 2}', 2, 3),),
                   "fit": (part("SEED = 7", 0, 0),)},
        fit=(split, fit), predict=predict, evaluate=(evaluate,),
        imports=("import pandas as pd", "import numpy as np", "import xgboost as xgb",
                 "from sklearn.metrics import roc_auc_score, confusion_matrix"),
        state=("CARRIER_MAP", "DEST_RATE", "GLOBAL_RATE", "MEDIANS"),
        columns=("ts", "carrier", "origin", "dest", "distance", "temp", "dewp", "humid", "wind_speed", "precip",
                 "pressure", "visib"),
        estimator_type="xgb.Booster", probabilities=True, split_in_fit=True,
        dropped=(Dropped(6, "a plot"), Dropped(7, "all of it is commented out")),
        findings=(Finding("leakage", 2, 4, "DEST_RATE is learnt before the split, from the test rows too"),),
    )  # fmt: skip
    choice = Choice(
        task="classification", shipped=7, shipped_name="bst", shipped_fit=1, why="saved at the end, in cell 9",
        evaluated=7, evaluated_name="bst", evaluated_fit=1, evaluated_predict=0, refitted=False,
        metrics=(_metric(notebook, "roc_auc", "sklearn.metrics.roc_auc_score", 5),),
        target=Target("late_departure", raw=True), time="ts", key="event_id",
        split=Split("time", (7, 8), 0.2, cut="raw.ts.quantile(0.8)"), main_read=0,
        threshold=Threshold("THRESH", 0.3, 16, 5, 3),
    )  # fmt: skip
    return Case(plan, choice, trace, notebook, scratch)


def whole(scratch: Path) -> Case:
    """Form "whole": the rows that are served are the model's input itself."""
    case = bikes(scratch)
    plan = case.plan
    load = replace(
        plan.load,
        returns="df[num+cat].assign(rides=df['rides'])",
        parts=(*plan.load.parts, *plan.features[0].parts[:-1]),
    )
    split, evaluate = plan.evaluate
    begin = replace(evaluate.parts[0], source="X_train, X_test, y_train, y_test = split(rows, target)")
    plan = replace(
        plan, form="whole", load=load, features=(), columns=None, constants={"load": plan.constants["features"]},
        evaluate=(split, replace(evaluate, parts=(begin, *evaluate.parts[1:]))),
        fallback=(Fallback("temp_mean", 4, 5, "it is made of rows whose order is not known"),),
    )  # fmt: skip
    return replace(case, plan=plan, choice=replace(case.choice, time="", key=""))


def _metric(notebook: Notebook, name: str, function: str, cell: int) -> Metric:
    printed = "".join("".join(o.get("text", "")) for o in notebook.cells[cell].outputs)
    words = printed.replace("\n", " ").split()
    at = {"mae": "MAE", "r2": "R2", "roc_auc": "AUC"}[name]
    return Metric(name, function, float(words[words.index(at) + 1]), 17, cell, 4)
