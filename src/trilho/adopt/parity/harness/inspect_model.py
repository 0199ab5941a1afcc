"""A trained model's file, opened in the interpreter that has its libraries: what it is, takes, and predicts.

A pickle is code. It is opened here and nowhere else on this side, with writes outside one folder refused where the
system can.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from .opened import Unfit, opened_model, unwrapped

LARGEST = 2000  # rows whose predictions are kept
ALONE = 5
TOLERANCE = 1e-9
UNNAMED = re.compile(r"(Column_|f)\d+")


def main(path: str) -> int:
    """Open the model that a request names, ask it for the sample, and leave what was found."""
    request = json.loads(Path(path).read_text(encoding="utf-8"))
    folder = Path(request["folder"])
    try:
        found = inspect(request, _restricted(request))
    except Unfit as error:
        found = {"unfit": str(error), "hint": error.hint}
    (folder / "inspect_model.json").write_text(json.dumps(found, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    return 0


def inspect(request: Mapping[str, Any], enforced: bool) -> dict[str, Any]:
    """Give all that is known of a model and of the sample's rows."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        opened, file = opened_model(Path(request["path"]), request["kind"])
    model, accessor, listed = unwrapped(opened)
    rows = with_times(read_rows(Path(request["sample"])), request["time"])
    target = request["target"] if request["target"] in rows.columns else ""
    features, assumed = wanted_features(model, rows, listed, target)
    target = target or guessed_target(rows, features)
    categories = (
        [c for c in features if str(rows[c].dtype) in ("object", "str", "string")] if _has_categories(model) else []
    )
    classes = classes_of(model)
    kind = "classification" if classes else "regression"
    truth, positive = read_truth(rows, target, classes)
    kept = rows[features] if truth is None else rows[features].assign(**{target: truth})
    asked = rows[features].astype(dict.fromkeys(categories, "category"))
    predictions = predicted(model, asked, classes, positive)
    together = predicted(model, asked.iloc[:ALONE], classes, positive)
    alone = [predicted(model, asked.iloc[[i]], classes, positive)[0] for i in range(len(together))]
    folder = Path(request["folder"])
    kept = kept.assign(**{c: rows[c] for c in request["keep"] if c in rows.columns and c not in kept.columns})
    kept.to_parquet(folder / "sample.parquet", index=False)
    return {
        "task": kind,
        "features": features,
        "target": target if truth is not None else "",
        "rows": len(rows),
        "type": f"{type(model).__module__}.{type(model).__qualname__}",
        "accessor": accessor,
        "file": file,
        "is_booster": type(model).__name__ == "Booster",
        "classes": [repr(c) for c in classes],
        "positive": repr(positive) if classes else "",
        "categories": categories,
        "assumed": assumed,
        "parameters": parameters_of(model),
        "predictions": predictions,
        "alone": all(
            math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-12)
            for a, b in zip(alone, predictions[: len(alone)], strict=True)
        ),
        "metrics": measured(predictions, truth, kind),
        "can_refit": can_refit(model, request["kind"]),
        "columns": [described(kept[c]) for c in kept.columns],
        "enforced": enforced,
        "warnings": sorted({str(w.message).split("\n")[0][:300] for w in caught if "version" in str(w.message)}),
        "versions": versions_of(model),
        "python": ".".join(map(str, sys.version_info[:3])),
    }


def read_rows(path: Path) -> Any:
    """Read the sample: Parquet, or a CSV with commas or semicolons."""
    import pandas as pd

    if path.suffix in (".parquet", ".pq"):
        return pd.read_parquet(path)
    for encoding in ("utf-8-sig", "latin-1"):
        try:
            first = path.read_bytes()[:20_000].decode(encoding).splitlines()[0]
            separator = max(",;\t", key=first.count)
            decimal = "," if separator == ";" else "."
            rows = pd.read_csv(path, sep=separator, decimal=decimal, encoding=encoding)
        except UnicodeDecodeError:
            continue
        except (ValueError, IndexError) as error:
            raise Unfit(f"{path.name} cannot be read: {error}", "give rows as CSV or Parquet") from None
        if rows.empty:
            raise Unfit(f"{path.name} has no rows", "give some rows that the model takes")
        return rows
    raise Unfit(f"{path.name} cannot be read as text", "give rows as CSV or Parquet")


def with_times(rows: Any, time: str) -> Any:
    """Read the column of times as times, where it is one."""
    import pandas as pd

    if time not in rows.columns or rows[time].dtype.kind == "M":
        return rows
    try:
        return rows.assign(**{time: pd.to_datetime(rows[time])})
    except (ValueError, TypeError):
        raise Unfit(f"{time} is no column of times", "name another --time, or none") from None


def wanted_features(model: Any, rows: Any, listed: list[str] | None, target: str) -> tuple[list[str], bool]:
    """Give the columns that a model takes, in its order, and whether that is only assumed."""
    names = names_of(model) or listed
    if names:
        missing = [name for name in names if name not in rows.columns]
        if missing:
            shown = ", ".join(missing[:6]) + (", ..." if len(missing) > 6 else "")
            raise Unfit(
                f"the sample lacks {len(missing)} of the {len(names)} columns that the model takes: {shown}",
                "give raw rows as the model takes them; where a notebook makes them, adopt the notebook",
            )
        return names, False
    count = count_of(model)
    rest = [c for c in rows.columns if c != target]
    if count is not None and len(rest) != count:
        raise Unfit(
            f"the model takes {count} columns without names, the sample has {len(rest)} besides the target",
            "give a sample with exactly its columns, in its order, and --target COLUMN",
        )
    return rest, True


def names_of(model: Any) -> list[str]:
    """Give the names of a model's columns; nothing where it does not know them."""
    booster = model.get_booster() if hasattr(model, "get_booster") else None
    ways = [(model, name) for name in ("feature_names_in_", "feature_names", "feature_name", "feature_name_")]
    for thing, name in [*ways[:1], (booster, "feature_names"), *ways[1:], (model, "feature_names_")]:
        found = _known(thing, name)
        if found is not None:
            names = [str(name) for name in found]
            return [] if all(UNNAMED.fullmatch(name) for name in names) else names
    return []


def count_of(model: Any) -> int | None:
    """Give how many columns a model takes."""
    for name in ("n_features_in_", "num_features", "num_feature"):
        found = _known(model, name)
        if found is not None:
            return int(found)
    return None


def _known(thing: Any, name: str) -> Any:
    """Give an attribute, or what a method of that name gives; None where there is none."""
    try:
        found = getattr(thing, name, None)
        return found() if callable(found) else found
    except Exception:  # noqa: BLE001  a property of an unfitted part can raise anything
        return None


def guessed_target(rows: Any, features: list[str]) -> str:
    """Take the only column that the model does not as its target, where it is one of numbers or of two values."""
    rest = [str(c) for c in rows.columns if c not in features]
    if len(rest) != 1:
        return ""
    return rest[0] if rows[rest[0]].dtype.kind in "iufb" or rows[rest[0]].nunique() == 2 else ""


def classes_of(model: Any) -> list[Any]:
    """Give a model's two classes; none for a regression. Raises Unfit for more, or without probabilities."""
    objective = objective_of(model)
    classes = getattr(model, "classes_", None)
    found = [c.item() if hasattr(c, "item") else c for c in classes] if classes is not None else []
    if re.search(r"multi|softmax|softprob|num_class:[3-9]", objective):
        raise Unfit("the model has three or more classes; two are served", "adopt one model per class")
    if not found and re.search(r"binary|cross_entropy", objective):
        found = [0, 1]
    if len(found) > 2:
        raise Unfit(
            f"the model has {len(found)} classes ({', '.join(map(str, found[:6]))}); two are served",
            "adopt one model per class",
        )
    if found and type(model).__name__ != "Booster" and not hasattr(model, "predict_proba"):
        raise Unfit(
            f"{type(model).__name__} gives classes and no probabilities",
            "wrap it: CalibratedClassifierCV(model).fit(X, y), and save that",
        )
    if not hasattr(model, "predict"):
        raise Unfit(f"{type(model).__name__} has no predict", "save a model that predicts")
    if not found and (not hasattr(model, "predict") or _is_unsupervised(model)):
        raise Unfit(f"{type(model).__name__} predicts no target", "save a model that was fitted to a target")
    return found


def objective_of(model: Any) -> str:
    """Give what a booster minimises, "" for other models."""
    kind = type(model)
    if kind.__name__ != "Booster":
        return ""
    if kind.__module__.startswith("xgboost"):
        told = json.loads(model.save_config())["learner"]
        classes = told.get("learner_model_param", {}).get("num_class", "0")
        return f"{told['objective']['name']} num_class:{classes}"
    match = re.search(r"^objective=(.+)$", model.model_to_string(num_iteration=1), re.MULTILINE)
    return match[1] if match else ""


def read_truth(rows: Any, target: str, classes: list[Any]) -> tuple[Any, Any]:
    """Give the sample's true values as numbers, None where there are none, and the class that counts as 1."""
    positive = classes[1] if classes else None
    if not target:
        return None, positive
    column = rows[target]
    if column.isna().any():
        raise Unfit(
            f"the target {target} is missing in {int(column.isna().sum())} rows of the sample", "leave those rows out"
        )
    if not classes:
        if column.dtype.kind not in "iufb":
            raise Unfit(f"the target {target} is no number, and the model is a regression", "name another --target")
        return column, None
    values = set(column.unique().tolist())
    if values <= {0, 1} or values <= {0.0, 1.0}:
        return column.astype("int64"), positive
    if not values <= set(classes):
        shown = ", ".join(map(repr, sorted(values, key=str)[:4]))
        raise Unfit(
            f"the target {target} has {shown}; the model's classes are {', '.join(map(repr, classes))}",
            "give a sample whose target has the model's classes, or name another --target",
        )
    return (column == positive).astype("int64"), positive


def predicted(model: Any, rows: Any, classes: list[Any], positive: Any) -> list[float]:
    """Give what a model predicts: values, or probabilities of the class that counts as 1."""
    import numpy as np

    try:
        if type(model).__name__ == "Booster":
            given = rows
            if type(model).__module__.startswith("xgboost"):
                given = import_module("xgboost").DMatrix(rows, enable_categorical=True)
            found = np.asarray(model.predict(given), dtype="float64").reshape(-1)
        elif classes:
            found = np.asarray(model.predict_proba(_like_fitted(model, rows)), dtype="float64")[
                :, classes.index(positive)
            ]
        else:
            found = np.asarray(model.predict(_like_fitted(model, rows)), dtype="float64").reshape(-1)
    except Exception as error:  # noqa: BLE001  a model can raise anything
        raise Unfit(
            f"the model fails on the sample: {type(error).__name__}: {str(error).splitlines()[0][:200]}",
            "give raw rows as the model takes them; where a notebook makes them, adopt the notebook",
        ) from None
    if len(found) != len(rows) or not np.isfinite(found).all():
        raise Unfit(
            f"the model gives {len(found)} predictions for {len(rows)} rows, or some that are no numbers",
            "give rows that it predicts",
        )
    return [float(value) for value in found]


def _like_fitted(model: Any, rows: Any) -> Any:
    """Give rows as an array to a model that was fitted to arrays: it warns of names."""
    return rows if names_of(model) else rows.to_numpy()


def measured(predictions: list[float], truth: Any, task: str) -> dict[str, float]:
    """Measure predictions on the sample; nothing without true values, or with one class of them."""
    import numpy as np

    if truth is None:
        return {}
    found, true = np.asarray(predictions), truth.to_numpy(dtype="float64")
    if task == "regression":
        return {"mae": float(np.abs(found - true).mean()), "rmse": float(np.sqrt(((found - true) ** 2).mean()))}
    ones, zeros = found[true == 1], found[true == 0]
    if not len(ones) or not len(zeros):
        return {}
    order = np.sort(zeros)
    above = np.searchsorted(order, ones, "left") + np.searchsorted(order, ones, "right")
    return {"roc_auc": float(above.mean() / 2 / len(zeros)), "brier": float(((found - true) ** 2).mean())}


def can_refit(model: Any, kind: str) -> bool:
    """Say whether scikit-learn can make the same model again, unfitted."""
    sklearn = sys.modules.get("sklearn.base")
    if kind != "pickle" or sklearn is None or not isinstance(model, sklearn.BaseEstimator):
        return False
    try:
        sklearn.clone(model)
    except Exception:  # noqa: BLE001  an estimator of one's own can do anything
        return False
    return getattr(model, "early_stopping_rounds", None) is None


def parameters_of(model: Any) -> dict[str, str]:
    """Give the parameters that differ from nothing, as text, short."""
    try:
        given = model.get_params(deep=False)
    except Exception:  # noqa: BLE001  a booster has none
        return {}
    return {str(k): repr(v) for k, v in sorted(given.items()) if v is not None and len(repr(v)) <= 80}


def described(column: Any) -> dict[str, Any]:
    """Say what a column of the sample holds, as a contract needs it."""
    kind = {"i": "integer", "u": "integer", "f": "number", "b": "boolean", "M": "timestamp"}.get(
        column.dtype.kind, "string"
    )
    present = column.dropna()
    told: dict[str, Any] = {
        "name": str(column.name),
        "kind": kind,
        "nulls": bool(column.isna().any()),
        "min": None,
        "max": None,
    }
    if kind in ("integer", "number") and len(present):
        told |= {"min": float(present.min()), "max": float(present.max())}
    if kind == "timestamp" and len(present):
        told["days"] = float((present.max() - present.min()).total_seconds() / 86400)
    return told


def versions_of(model: Any) -> dict[str, str]:
    """Give the versions of the libraries that a model and its parts need, and of all that those require."""
    from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

    names = packages_distributions()
    tops = {name.partition(".")[0] for name, module in list(sys.modules.items()) if getattr(module, "__file__", None)}
    known = ("sklearn", "xgboost", "lightgbm", "catboost", "statsmodels", "imblearn", "category_encoders", "joblib")
    used = {type(model).__module__.partition(".")[0], *(top for top in tops if top in known)}
    queue = ["pandas", "pyarrow", *(name for top in sorted(used) for name in names.get(top, []))]
    found: dict[str, str] = {}
    while queue:
        name = re.sub(r"[-_.]+", "-", queue.pop()).lower()
        try:
            there = distribution(name)
        except PackageNotFoundError:
            continue
        if name not in found:
            found[name] = there.version
            lines = (line.partition(";") for line in there.requires or [])
            queue += [re.split(r"[\s\[<>=!~(@]", text.strip())[0] for text, _, marker in lines if "extra" not in marker]
    return found


def _has_categories(model: Any) -> bool:
    """Say whether a booster of lightgbm learnt from columns of categories."""
    booster = getattr(model, "booster_", model)
    return bool(getattr(booster, "pandas_categorical", None))


def _is_unsupervised(model: Any) -> bool:
    kind = getattr(type(model), "_estimator_type", "") or ""
    tags = type(model).__mro__
    return kind in ("clusterer", "outlier_detector") or any(
        c.__name__ in ("ClusterMixin", "OutlierMixin") for c in tags
    )


def _restricted(request: Mapping[str, Any]) -> bool:
    """Refuse writes outside the request's folder from here on, where the system can."""
    spec = importlib.util.spec_from_file_location("trilho_landlock", request["landlock"])
    if not sys.platform.startswith("linux") or spec is None or spec.loader is None:
        return False
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return bool(module.restrict_writes([request["folder"], "/dev/shm"], ["/dev/null"]))  # noqa: S108
