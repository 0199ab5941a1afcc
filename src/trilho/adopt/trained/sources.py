"""The project of a model that was handed over: little code, and all of it honest about what it does not know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from trilho.adopt.emit.contract import key_text, text
from trilho.adopt.trained.handed import Handed

LEAST = 500  # rows of a sample with true values from which on the same estimator may be fitted again
PLAIN = {"integer": "integer", "number": "number", "boolean": "boolean", "timestamp": "timestamp", "string": "string"}


def sources(handed: Handed, package: str) -> dict[str, str]:
    """Give the project's code and tests by their paths; `polish` formats them."""
    folder = f"src/{package}"
    return {
        f"{folder}/__init__.py": f'"""{handed.class_name}, adopted as a trained model: {handed.path.name}."""\n',
        f"{folder}/model.py": _model(handed),
        f"{folder}/features.py": _features(handed),
        f"{folder}/fit.py": _fit(handed, package),
        f"{folder}/predict.py": PREDICT.format(package=package, ask=_ask(handed)),
        "tests/test_model.py": TESTS.format(package=package, ask=_ask(handed)),
        "tests/golden/predictions.json": json.dumps(handed.predictions) + "\n",
    }


def copies(handed: Handed, package: str) -> dict[str, Path]:
    """Give where the model's file and the sample are copied from."""
    return {f"src/{package}/model/{model_file(handed)}": Path(handed.file), "data/sample.parquet": handed.sample}


def model_file(handed: Handed) -> str:
    """Give the name of the model's file in the project."""
    return f"model{Path(handed.file).suffix or '.bin'}"


def can_retrain(handed: Handed) -> bool:
    """Say whether the project can fit the same estimator to new rows."""
    return handed.can_refit and bool(handed.target) and handed.rows >= LEAST


def settings_text(handed: Handed, name: str, package: str, *, target: str, time: str = "", key: str = "") -> str:
    """Write trilho.toml."""
    lines = [
        "# What differs from the defaults: `trilho config` shows every setting, and what it means.",
        "",
        "[model]",
        f"name = {text(name)}",
        f"task = {text(handed.task)}",
    ]
    known = "" if handed.target else "  # not in the sample: it comes with the first labelled rows"
    lines.append(f"target = {text(target)}{known}")
    lines += [f"time = {text(time)}"] if time else []
    lines += [f"key = {text(key)}"] if key else []
    lines += [
        "",
        "[data]",
        'source = "data/*.parquet"',
        "",
        "[steps]",
        f"features = {text(f'{package}.features:build')}",
        f"train = {text(f'{package}.fit:fit')}",
    ]
    days = next((c.get("days", 0) for c in handed.columns if c["name"] == time), 0) if time else 0
    lines += (
        ["", "[train]", f'holdout = "last {max(1, round(days / 5))} days"  # a fifth of the sample'] if days else []
    )
    lines += [] if handed.alone else ["", "[serve]", "batch_only = true  # a row is predicted differently alone"]
    return "\n".join(lines) + "\n"


def contract_text(handed: Handed) -> str:
    """Write what the data must satisfy: the columns of the sample, and their types; ranges are not known."""
    lines = [
        "# The columns that the adopted model takes, with the types that the sample had.",
        "",
        "[table]",
        "min_rows = 1",
    ]
    for column in handed.columns:
        lines += ["", f"[columns.{key_text(column['name'])}]", f'type = "{PLAIN[column["kind"]]}"']
        lines += [] if column["nulls"] else ["nullable = false"]
    return "\n".join(lines) + "\n"


def _model(handed: Handed) -> str:
    opened = _opening(handed)
    parts = [
        MODEL_HEAD.format(
            name=handed.path.name, type=handed.type, imports=opened[0], file=model_file(handed), digest=handed.digest
        )
    ]
    wrapped = _is_wrapped(handed)
    if wrapped:
        one = "self.model.predict({})" if handed.is_booster else "self.model.predict_proba({})"
        flip = not handed.is_booster
        given = "xgb.DMatrix(X, enable_categorical=True)" if handed.type.startswith("xgboost") else "X"
        score = one.format(given if handed.is_booster else "X")
        at = handed.classes.index(handed.positive) if flip else 0
        body = REGRESSOR if handed.task == "regression" else CLASSIFIER
        parts.append(body.format(score=f"{score}[:, {at}]" if flip else score))
    found = f"Adopted({opened[1]})" if wrapped else opened[1]
    returns = "Adopted" if wrapped else handed.class_name
    parts.append(ADOPTED.format(returns=returns, found=found, steps=opened[2]))
    return "\n\n".join(parts)


def _opening(handed: Handed) -> tuple[str, str, str]:
    """Give imports, the expression that is the model, and statements before it."""
    kind = Path(handed.file).suffix.lower()
    library = handed.type.partition(".")[0]
    if kind in (".joblib", ".pkl", ".pickle", ".sav"):
        annotation = "" if _is_wrapped(handed) else _import_of(handed)
        annotation += "import xgboost as xgb\n" if handed.is_booster and library == "xgboost" else ""
        if "joblib" not in handed.versions:
            return f"import pickle\n{annotation}", f"pickle.loads(content){handed.accessor}", ""
        return f"import io\n\nimport joblib\n{annotation}", f"joblib.load(io.BytesIO(content)){handed.accessor}", ""
    if library == "xgboost":
        alias = "import xgboost as xgb"
        steps = f"model = xgb.{handed.class_name}()\n    model.load_model(bytearray(content))\n    "
        annotation = "" if _is_wrapped(handed) else f"\nfrom xgboost import {handed.class_name}"
        return f"{alias}{annotation}\n", "model", steps
    return "import lightgbm as lgb\n", 'lgb.Booster(model_str=content.decode("utf-8"))', ""


def _import_of(handed: Handed) -> str:
    """Import the model's class from where people import it, not from the module that it was written in."""
    module = ".".join(part for part in handed.type.split(".")[:-1] if not part.startswith("_"))
    module = {"xgboost.sklearn": "xgboost", "lightgbm.sklearn": "lightgbm"}.get(module, module)
    return f"from {module} import {handed.class_name}\n"


def _is_wrapped(handed: Handed) -> bool:
    """Say whether the model needs the interface of an estimator whose classes are 0 and 1."""
    return handed.is_booster or (
        handed.task == "classification" and handed.classes not in (["0", "1"], ["False", "True"])
    )


def _features(handed: Handed) -> str:
    names = ",\n    ".join(json.dumps(name, ensure_ascii=False) for name in handed.features)
    cast = '.astype(dict.fromkeys(CATEGORIES, "category"))' if handed.categories else ""
    more = f"CATEGORIES = {json.dumps(handed.categories, ensure_ascii=False)}\n" if handed.categories else ""
    how = "\n# The model knows no names: the order is the sample's." if handed.assumed else ""
    return FEATURES.format(how=how, names=names, more=more, given=f"rows[COLUMNS]{cast}")


def _fit(handed: Handed, package: str) -> str:
    if can_retrain(handed):
        own = "adopted().model" if _is_wrapped(handed) else "adopted()"
        return REFIT.format(package=package, rows=handed.rows, name=handed.class_name, own=own)
    return NO_REFIT.format(package=package, rows=handed.rows, why=_why_not(handed))


def _why_not(handed: Handed) -> str:
    if not handed.can_refit:
        return f"how the {handed.class_name} was trained is not in its file"
    return "the sample has no true values" if not handed.target else f"the sample's {handed.rows} rows are too few"


def _ask(handed: Handed) -> str:
    if handed.task == "regression":
        return "np.asarray(model.predict(build(rows)), dtype=float).reshape(-1)"
    return "np.asarray(model.predict_proba(build(rows)), dtype=float)[:, 1]"


def literal(values: Mapping[str, float]) -> str:
    """Write metrics for the README.

    >>> literal({"mae": 1.23456789})
    'mae 1.23457'
    """
    return ", ".join(f"{name} {value:.6g}" for name, value in values.items())


MODEL_HEAD = '''"""The model as it was handed over: {name}, a {type}.

How it was trained, on which rows, and how well it does on new ones is not known.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
{imports}
FILE = Path(__file__).parent / "model" / "{file}"
SHA256 = "{digest}"
'''
REGRESSOR = '''class Adopted:
    """The model, with the interface of an estimator."""

    def __init__(self, model: object) -> None:
        self.model = model

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Give a value for each row."""
        return np.asarray({score}, dtype=float)
'''
CLASSIFIER = '''class Adopted:
    """The model, with the interface of an estimator whose classes are 0 and 1."""

    classes_ = (0, 1)

    def __init__(self, model: object) -> None:
        self.model = model

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Give the probabilities of both classes for each row."""
        one = np.asarray({score}, dtype=float)
        return np.column_stack([1 - one, one])

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Give the likelier class for each row."""
        return (self.predict_proba(X)[:, 1] > 0.5).astype(int)
'''
ADOPTED = '''def adopted() -> {returns}:
    """Load the model, after its bytes are found to be those that were adopted."""
    content = FILE.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ValueError(f"{{FILE}} is not the model that was adopted: its digest is another")
    {steps}return {found}
'''
FEATURES = '''"""Raw rows to what the adopted model takes: its columns, as they are."""

from __future__ import annotations

import pandas as pd
{how}
COLUMNS = [
    {names},
]
{more}

def build(rows: pd.DataFrame) -> pd.DataFrame:
    """Give the columns that the model takes, in its order."""
    return {given}
'''
REFIT = '''"""The adopted model as version 1; then the same estimator, fitted again."""

from __future__ import annotations

import pandas as pd
from sklearn.base import clone

from {package}.model import adopted

ROWS = {rows}  # of the sample that the model was adopted with


def fit(X: pd.DataFrame, y: pd.Series) -> object:
    """Give the adopted model for the rows it came with, and for more a new one with its parameters.

    How the adopted one was trained is not known: this is the nearest there is.
    """
    if len(X) <= ROWS:
        return adopted()
    return clone({own}).fit(X, y)
'''
NO_REFIT = '''"""The adopted model as version 1. Its training is not known: written here, it can be repeated."""

from __future__ import annotations

import pandas as pd

from {package}.model import adopted

ROWS = {rows}  # of the sample that the model was adopted with


def fit(X: pd.DataFrame, y: pd.Series) -> object:
    """Give the adopted model for the rows it came with; a retraining is refused."""
    if len(X) > ROWS:
        raise NotImplementedError(
            "this model was adopted as a file and cannot be retrained: "
            "{why}. "
            "Write its training into fit() in src/{package}/fit.py"
        )
    return adopted()
'''
PREDICT = '''"""Predict a file of raw rows: `python -m {package}.predict ROWS OUT`."""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from {package}.features import build
from {package}.model import adopted


def predict(model: object, rows: pd.DataFrame) -> np.ndarray:
    """Give the model's answer for each raw row."""
    return {ask}


def main() -> None:
    """Read rows, predict, write."""
    parser = argparse.ArgumentParser(prog="python -m {package}.predict", description=main.__doc__)
    parser.add_argument("rows", help="a CSV or Parquet file")
    parser.add_argument("out", help="the CSV to write")
    given = parser.parse_args()
    parquet = given.rows.endswith(".parquet")
    rows = pd.read_parquet(given.rows) if parquet else pd.read_csv(given.rows)
    rows.assign(prediction=predict(adopted(), rows)).to_csv(given.out, index=False)


if __name__ == "__main__":
    main()
'''
TESTS = '''"""The project gives the answers that the adopted model gave when it was adopted."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from {package}.features import build
from {package}.model import adopted

ROOT = Path(__file__).parents[1]
ROWS = pd.read_parquet(ROOT / "data" / "sample.parquet")
EXPECTED = json.loads((ROOT / "tests" / "golden" / "predictions.json").read_text())


def predicted(rows: pd.DataFrame) -> np.ndarray:
    model = adopted()
    return {ask}


def test_the_sample_is_predicted_as_it_was():
    np.testing.assert_allclose(predicted(ROWS), EXPECTED, rtol=1e-9)


def test_the_target_is_not_needed():
    rows = ROWS[build(ROWS).columns]
    np.testing.assert_allclose(predicted(rows.head(5)), EXPECTED[:5], rtol=1e-9)
'''
