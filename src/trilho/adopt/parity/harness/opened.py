"""Opens a trained model's file: a pickle, a model of xgboost or lightgbm, or an MLflow folder with one of them."""

from __future__ import annotations

import importlib.util
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any


class Unfit(Exception):
    """The model cannot become a project; a fact and a way out."""

    def __init__(self, fact: str, hint: str) -> None:
        super().__init__(fact)
        self.hint = hint


def opened_model(path: Path, kind: str) -> tuple[Any, str]:
    """Read a model's file, and say which one it was: of an MLflow folder, the one that its MLmodel names."""
    if kind == "mlflow":
        path, kind = mlflow_file(path)
    try:
        if kind == "xgboost":
            return xgboost_model(path), str(path)
        if kind == "lightgbm":
            return import_module("lightgbm").Booster(model_file=str(path)), str(path)
        return unpickled(path), str(path)
    except ImportError as error:
        raise Unfit(
            f"{path.name} cannot be opened: {error}", "name the interpreter that made it: --python PATH"
        ) from None


def unpickled(path: Path) -> Any:
    """Unpickle a file, with joblib where that is installed: it reads plain pickles too."""
    try:
        if importlib.util.find_spec("joblib") is not None:
            return import_module("joblib").load(path)
        import pickle

        return pickle.loads(path.read_bytes())  # noqa: S301  the user asks for it
    except AttributeError as error:
        missing = re.search(r"attribute '(\w+)' on <module '(\w+)'", str(error)) or re.search(
            r"module '(\w+)' has no attribute '(\w+)'", str(error)
        )
        names = set(missing.groups()) if missing else set()
        if "__main__" in str(error):
            name = next(iter(names - {"__main__"}), "a class")
            raise Unfit(
                f"{path.name} needs the class {name}, which was defined in a notebook or script (__main__) and is "
                "not in the file",
                "put the class into a module, save the model again with it imported from there; "
                "or adopt the notebook itself",
            ) from None
        raise Unfit(
            f"{path.name} cannot be opened here: {error}", "open it with the versions that made it: --python PATH"
        ) from None
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001  unpickling runs anybody's code
        raise Unfit(
            f"{path.name} cannot be opened here: {type(error).__name__}: {error}",
            "open it with the versions that made it: --python PATH",
        ) from None


def xgboost_model(path: Path) -> Any:
    """Load a booster; one that was saved by xgboost's estimators comes back as such."""
    xgboost = import_module("xgboost")
    booster = xgboost.Booster()
    try:
        booster.load_model(str(path))
    except xgboost.core.XGBoostError as error:
        said = str(error).strip().splitlines()
        raise Unfit(
            f"{path.name} is no model of xgboost: {said[-1][:200] if said else 'unreadable'}",
            "give a file that save_model wrote",
        ) from None
    told = json.loads(booster.attributes().get("scikit_learn") or "{}")
    kind = told.get("_estimator_type")
    if kind not in ("classifier", "regressor"):
        return booster
    estimator = xgboost.XGBClassifier() if kind == "classifier" else xgboost.XGBRegressor()
    estimator.load_model(str(path))
    return estimator


def mlflow_file(path: Path) -> tuple[Path, str]:
    """Find the file in an MLflow model's folder, by its flavours."""
    folder = path if path.is_dir() else path.parent
    text = (folder / "MLmodel").read_text(encoding="utf-8")
    flavors = re.findall(r"^  (\w+):\s*$", text, re.MULTILINE)
    named = dict(re.findall(r"^    (pickled_model|data|model_path):\s*(\S+)\s*$", text, re.MULTILINE))
    file = folder / (named.get("pickled_model") or named.get("data") or named.get("model_path") or "")
    if not file.is_file() or not {"sklearn", "xgboost", "lightgbm"} & set(flavors):
        shown = ", ".join(flavors) or "none"
        raise Unfit(
            f"{folder.name}/MLmodel has the flavours {shown}; sklearn, xgboost and lightgbm are read",
            "log the model with mlflow.sklearn, mlflow.xgboost or mlflow.lightgbm",
        )
    if file.suffix in (".pkl", ".pickle", ".joblib", ".skops"):
        return file, "pickle"
    return file, "xgboost" if "xgboost" in flavors else "lightgbm"


def unwrapped(opened: Any) -> tuple[Any, str, list[str] | None]:
    """Give the model in what was opened, the code that takes it out, and a list of columns that lies beside it."""
    if hasattr(opened, "predict") and not isinstance(opened, type):
        return opened, "", None
    items = (
        list(opened.items())
        if isinstance(opened, dict)
        else list(enumerate(opened))
        if isinstance(opened, (list, tuple))
        else []
    )
    models = [(key, value) for key, value in items if hasattr(value, "predict")]
    beside = [key for key, value in items if hasattr(value, "transform") and not hasattr(value, "predict")]
    name = f"{type(opened).__module__}.{type(opened).__qualname__}".removeprefix("builtins.")
    if beside:
        raise Unfit(
            f"the file holds a {name} with {', '.join(map(repr, beside))} beside the model: in which order they are "
            "applied is not in it",
            "save one Pipeline of all of them, or adopt the notebook",
        )
    if len(models) != 1:
        what = f"{len(models)} models" if models else "nothing that predicts"
        raise Unfit(f"the file holds a {name} with {what}; one model is wanted", "save the model by itself")
    lists = [v for _, v in items if isinstance(v, (list, tuple)) and v and all(isinstance(x, str) for x in v)]
    key, model = models[0]
    return model, f"[{key!r}]", list(lists[0]) if len(lists) == 1 else None
