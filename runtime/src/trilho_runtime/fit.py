"""The standard steps that run the project's own functions: fit an estimator, predict with it, score a package."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.function import load_function
from trilho_runtime.step import Artifact, In, Model, Out, StepError, Table, step

Floats = NDArray[np.float64]


class Fitted(NamedTuple):
    """What an estimator was fitted to."""

    rows: int
    features: list[str]


@step
def fit(table: In[Table], model: Out[Model], features: str, train: str, target: str, task: str) -> Fitted:
    """Fit the project's estimator to a table of raw rows and keep it as a pickle."""
    rows, value = read_rows(table, target)
    labels = _labels(rows.pop(target), value, target, task)
    made = make_features(features_of(features), rows, features)
    estimator = load_function(train)(made, labels)
    if not hasattr(estimator, "predict_proba" if task == "classification" else "predict"):
        wanted = "predict_proba" if task == "classification" else "predict"
        raise StepError(f"{train} returned {type(estimator).__name__}, which has no {wanted}")
    model.path.write_bytes(pickle.dumps(estimator, protocol=5))
    return Fitted(len(labels), list(map(str, made.columns)))


@step
def predict(
    model: In[Model],
    table: In[Table],
    predictions: Out[Table],
    features: str,
    target: str,
    task: str,
    time: str = "",
) -> None:
    """Predict a table of raw rows with a fitted estimator."""
    rows, value = read_rows(table, target)
    made = make_features(features_of(features), rows.drop(columns=target), features)
    estimator = pickle.loads(model.path.read_bytes())  # noqa: S301  the artifact is ours, named by its digest
    write_predictions(predictions, answers(estimator, made, task), value, rows, time)


@step
def score(table: In[Table], predictions: Out[Table], package: str, target: str, time: str = "") -> None:
    """Predict a table of raw rows with the model package at a URI, with the code that the package carries."""
    from trilho_runtime.package import open_package

    rows, value = read_rows(table, target)
    predictor = open_package(Artifact("package", package).path).load()
    answer = predictor.predict_frame(rows.drop(columns=target))
    write_predictions(predictions, np.asarray(answer, dtype=np.float64), value, rows, time)


def read_rows(table: In[Table], target: str) -> tuple[Any, Floats]:
    """Read a table into a pandas frame, and its target as floats. No value of the target may be missing."""
    import pandas as pd

    rows = pd.read_parquet(table.path)
    if rows.empty:
        raise StepError(f"table {table.name} has no rows")
    missing = int(rows[target].isna().sum())
    if missing:
        raise StepError(f"target {target} is missing in {missing} of {len(rows)} rows")
    try:
        return rows, rows[target].to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        found = ", ".join(map(repr, rows[target].unique()[:5]))
        raise StepError(f"target {target} is not a number: it has {found}") from None


def _labels(given: Any, value: Floats, target: str, task: str) -> Any:
    if task != "classification":
        return given
    classes = np.unique(value)
    if len(classes) == 1:
        raise StepError(f"target {target} has one class in the training rows, {classes[0]:g}; two are needed")
    if classes.tolist() != [0.0, 1.0]:
        shown = ", ".join(f"{c:g}" for c in classes[:6])
        raise StepError(f"target {target} has {len(classes)} classes ({shown}); only 0 and 1 can be learnt so far")
    return given.astype("int64")


def features_of(reference: str) -> Callable[[Any], Any]:
    """Give the project's features function; without one the model is given the raw rows themselves."""
    return load_function(reference) if reference else _as_they_are


def _as_they_are(rows: Any) -> Any:
    return rows


def make_features(function: Callable[[Any], Any], rows: Any, reference: str) -> Any:
    """Call the project's features function and hold it to one row of features for each raw row."""
    import pandas as pd

    made = function(rows)
    if not isinstance(made, pd.DataFrame):
        raise StepError(f"{reference} returned {type(made).__name__}; a DataFrame is wanted")
    if len(made) != len(rows):
        raise StepError(f"{reference} made {len(made)} rows of {len(rows)}; each row has features of its own")
    return made


def answers(estimator: Any, features: Any, task: str) -> Floats:
    """Give one float a row: the predicted value, or the probability of class 1."""
    if task == "classification":
        one = list(getattr(estimator, "classes_", (0, 1))).index(1)
        found = np.asarray(estimator.predict_proba(features), dtype=np.float64)[:, one]
    else:
        found = np.asarray(estimator.predict(features), dtype=np.float64).reshape(-1)
    if len(found) != len(features):
        raise StepError(f"{type(estimator).__name__} gave {len(found)} predictions for {len(features)} rows")
    wrong = np.flatnonzero(~np.isfinite(found))
    if len(wrong):
        raise StepError(f"{type(estimator).__name__} predicted {found[wrong[0]]} for row {wrong[0]}")
    return found


def write_predictions(place: Out[Table], prediction: Floats, value: Floats, rows: Any, time: str) -> None:
    """Write predictions beside the true values, in the order of the rows."""
    import pandas as pd

    moment = rows[time].to_numpy() if time else np.full(len(rows), np.datetime64("NaT", "us"))
    columns = {"row": np.arange(len(rows), dtype=np.int64), "time": moment, "prediction": prediction, "value": value}
    pd.DataFrame(columns).to_parquet(place.path, index=False)
