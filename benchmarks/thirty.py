"""Make the model that answering is timed with: 30 columns through a scikit-learn pipeline into XGBoost with 200 trees.

    PYTHONPATH=runtime/src tests/notebooks/.venv/bin/python benchmarks/thirty.py FOLDER
    PYTHONPATH=runtime/src tests/notebooks/.venv/bin/python benchmarks/thirty.py FOLDER ask SECONDS

It leaves the package, 10,000 distinct rows as JSON, and what the original model says of each. The second form asks the
pipeline itself, with a table of one row at a time, and prints how many it answers a second: the work that a server does
which keeps the fitted pipeline.
"""

import json
import pickle
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import XGBClassifier

NUMBERS = [f"n{place:02d}" for place in range(24)]
CATEGORIES = [f"c{place}" for place in range(6)]
TRAIN_ROWS, ROWS, MISSING = 5000, 10_000, 0.05


def table(rng: np.random.Generator, rows: int) -> pd.DataFrame:
    """Draw rows: one number in twenty is missing, and so is one category."""
    numbers = rng.normal(size=(rows, len(NUMBERS))).round(6)
    numbers[rng.random(numbers.shape) < MISSING] = np.nan
    data = dict(zip(NUMBERS, numbers.T, strict=True))
    for place, name in enumerate(CATEGORIES):
        texts = np.array([f"v{value}" for value in range(4 + 3 * place)], object)[rng.integers(0, 4 + 3 * place, rows)]
        texts[rng.random(rows) < MISSING] = None
        data[name] = texts
    return pd.DataFrame(data)


def fitted(rows: pd.DataFrame, rng: np.random.Generator) -> Pipeline:
    """Fit the pipeline."""
    score = rows[NUMBERS[:8]].fillna(0).sum(axis=1) + rows["c1"].map({"v0": 1.5, "v1": -1.0}).fillna(0).astype(float)
    truth = (score + rng.normal(size=len(rows)) > 0).astype(int)
    steps = ColumnTransformer([
        ("numbers", Pipeline([("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())]), NUMBERS),
        ("categories", Pipeline([
            ("impute", SimpleImputer(strategy="most_frequent")),
            ("encode", OneHotEncoder(handle_unknown="ignore", sparse_output=False)),
        ]), CATEGORIES),
    ])  # fmt: skip
    trees = XGBClassifier(n_estimators=200, max_depth=6, learning_rate=0.1, n_jobs=1, random_state=7)
    return Pipeline([("prepare", steps), ("model", trees)]).fit(rows, truth)


def make(folder: Path) -> None:
    """Write the package, the rows and their predictions."""
    from trilho_runtime.model.packing import package

    rng = np.random.default_rng(7)
    train = table(rng, TRAIN_ROWS)
    model = fitted(train, rng)
    package(model, train, name="thirty", out=folder / "package")
    rows = table(rng, ROWS)
    rows["n00"] = np.arange(ROWS) / ROWS  # every row is another one
    records = [
        {name: None if value is None or value != value else value for name, value in record.items()}
        for record in rows.to_dict("records")
    ]
    (folder / "rows.json").write_text(json.dumps(records))
    (folder / "expected.json").write_text(json.dumps(model.predict_proba(rows)[:, 1].tolist()))
    (folder / "model.pkl").write_bytes(pickle.dumps((model, rows.head(200))))
    joblib.dump(model, folder / "model.joblib")
    types = {name: str(kind) for name, kind in train.dtypes.items()}
    (folder / "types.json").write_text(json.dumps(types))


def ask(folder: Path, seconds: float) -> None:
    """Print how many one-row tables the original pipeline answers a second."""
    model, rows = pickle.loads((folder / "model.pkl").read_bytes())
    tables = [rows.iloc[[place]] for place in range(len(rows))]
    asked, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds or not asked:
        model.predict_proba(tables[asked % len(tables)])
        asked += 1
    print(asked / took)


if __name__ == "__main__":
    if sys.argv[2:3] == ["ask"]:
        ask(Path(sys.argv[1]), float(sys.argv[3]))
    else:
        make(Path(sys.argv[1]))
