"""The standard steps that run the project's own functions: fit an estimator, predict with it, score a package.

Where the features look at past rows ([history]), the project's functions get the target too, as the last column and a
float: past rows have theirs, of the row that is asked it is unknown. The held-out rows are then predicted in one table
with the rows before them, which is what an up-to-date history gives each of them alone.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.model.outputs import of_task
from trilho_runtime.step import Artifact, In, Model, Out, StepError, Table, step
from trilho_runtime.steps.function import load_function

Floats = NDArray[np.float64]


class Fitted(NamedTuple):
    """What an estimator was fitted to."""

    rows: int
    features: list[str]


@step
def fit(
    table: In[Table],
    model: Out[Model],
    features: str,
    train: str,
    target: str,
    task: str,
    past_rows: int = 0,
    entity: list[str] = [],  # noqa: B006  a default that is read from the text, and never changed
) -> Fitted:
    """Fit the project's estimator to a table of raw rows and keep it as a pickle.

    With `past_rows` the features look at past rows of an entity, and may leave out rows whose past is too short.
    """
    rows, value = read_rows(table, target)
    labels = _labels(rows.pop(target), value, target, task)
    if past_rows:
        check_entity(entity, rows)
        made = make_features_of_past(features_of(features), rows.assign(**{target: value}), features, target)
        labels = labels.loc[made.index]
    else:
        made = make_features(features_of(features), rows, features)
    estimator = load_function(train)(made, labels)
    if not hasattr(estimator, "predict_proba" if task == "classification" else "predict"):
        wanted = "predict_proba" if task == "classification" else "predict"
        raise StepError(f"{train} returned {type(estimator).__name__}, which has no {wanted}")
    model.path.write_bytes(pickle.dumps(estimator, protocol=5))
    return Fitted(len(labels), [str(name) for name in made.columns if name != target])


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
def predict_after(
    model: In[Model],
    past: In[Table],
    table: In[Table],
    predictions: Out[Table],
    features: str,
    target: str,
    task: str,
    time: str = "",
) -> None:
    """Predict a table of raw rows with a fitted estimator whose features look at past rows: those of `past`."""
    (rows, value), (before, known) = read_rows(table, target), read_rows(past, target)
    function = features_of(features)
    estimator = pickle.loads(model.path.read_bytes())  # noqa: S301  the artifact is ours, named by its digest
    whole = joined(before.assign(**{target: known}), rows.assign(**{target: value}), target)
    given = last_features(function, whole, features, target, len(rows))
    write_predictions(predictions, answers(estimator, given, task, len(rows)), value, rows, time)


@step
def score(table: In[Table], predictions: Out[Table], package: str, target: str, time: str = "") -> None:
    """Predict a table of raw rows with the model package at a URI, with the code that the package carries."""
    from trilho_runtime.package import open_package

    rows, value = read_rows(table, target)
    predictor = open_package(Artifact("package", package).path).load()
    answer = predictor.predict_frame(rows.drop(columns=target))
    write_predictions(predictions, np.asarray(answer, dtype=np.float64), value, rows, time)


@step
def score_after(
    past: In[Table], table: In[Table], predictions: Out[Table], package: str, target: str, time: str = ""
) -> None:
    """Predict a table of raw rows with the model package at a URI, and with the past that the challenger is given too.

    The history that the package carries ends where its own training did; what is compared is the models.
    """
    from trilho_runtime.package import open_package

    (rows, value), (before, known) = read_rows(table, target), read_rows(past, target)
    predictor = open_package(Artifact("package", package).path).load()
    if predictor.history is None:
        answer = predictor.predict_frame(rows.drop(columns=target))
    else:
        answer = predictor.predict_after(before.assign(**{target: known}), rows.assign(**{target: value}))
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


def make_features_of_past(function: Callable[[Any], Any], rows: Any, reference: str, target: str) -> Any:
    """Call a features function that looks at past rows, and give its result in the order of the rows.

    It may sort, and leave out rows whose past is too short, as long as the index says which rows are which.
    """
    import pandas as pd

    made = function(rows)
    if not reference:
        return made
    if not isinstance(made, pd.DataFrame):
        raise StepError(f"{reference} returned {type(made).__name__}; a DataFrame is wanted")
    if not made.index.is_unique or not made.index.isin(rows.index).all():
        raise StepError(f"{reference} changed the rows' index, so that nobody knows which of {len(rows)} rows is which")
    if target in made.columns:
        raise StepError(f"{reference} gives the target {target} back as a feature; only past targets are known")
    return made if made.index.equals(rows.index) else made.loc[rows.index[rows.index.isin(made.index)]]


def last_features(function: Callable[[Any], Any], rows: Any, reference: str, target: str, count: int) -> Any:
    """Give what the estimator is asked for the last so many rows: their features, or all the raw rows."""
    made = make_features_of_past(function, rows, reference, target)
    if not reference:
        return made
    asked = rows.index[-count:]
    absent = asked[~asked.isin(made.index)]
    if len(absent):
        before = len(rows) - count
        raise StepError(f"{reference} left out {len(absent)} of the {count} rows asked, with {before} past rows given")
    return made.loc[asked]


def joined(past: Any, rows: Any, target: str) -> Any:
    """Give rows after their past as one table, the target last and a float."""
    import pandas as pd

    whole = pd.concat([past, rows], ignore_index=True)
    return whole[[*(name for name in whole.columns if name != target), target]]


def check_entity(entity: list[str], rows: Any) -> None:
    """Raise StepError for a column of [history] that the table does not have."""
    absent = [name for name in entity if name not in rows.columns]
    if absent:
        raise StepError(f"history.entity names {', '.join(absent)}; the table has {', '.join(map(str, rows.columns))}")


def answers(estimator: Any, features: Any, task: str, last: int | None = None) -> Floats:
    """Give one float a row: the predicted value, or the probability of class 1; of all rows, or of the last so many."""
    return of_task(task).scores(estimator, features, last)


def write_predictions(place: Out[Table], prediction: Floats, value: Floats, rows: Any, time: str) -> None:
    """Write predictions beside the true values, in the order of the rows."""
    import pandas as pd

    moment = rows[time].to_numpy() if time else np.full(len(rows), np.datetime64("NaT", "us"))
    columns = {"row": np.arange(len(rows), dtype=np.int64), "time": moment, "prediction": prediction, "value": value}
    pd.DataFrame(columns).to_parquet(place.path, index=False)
