"""Categories that an estimator itself knows: the numbers that it makes of a column's texts, or of its categories.

XGBoost, LightGBM and scikit-learn's histogram gradient boosting take such columns as they are. A value that the
training table did not hold is a null to them, as it is in a pandas column of the training table's categories.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trilho_runtime.compiled import NotCompiled
from trilho_runtime.compiled.flow import Column, Flow, values_of
from trilho_runtime.compiled.node import Node

PLAIN = (str, bool, int, float)
Keys = tuple[Any, ...]


@dataclass(eq=False)
class Coded(Node):
    """Columns of categories as the numbers of their places among the known ones; NaN for a null and for any other."""

    places: tuple[int, ...]
    keys: tuple[Keys, ...]

    def __post_init__(self) -> None:
        tables = ({key: float(number) for number, key in enumerate(keys)} for keys in self.keys)
        self._finds = [(place, table.get) for place, table in zip(self.places, tables, strict=True)]

    def __call__(self, x: Any) -> list[Any]:
        """Give all columns, these as numbers."""
        found = list(x)
        for place, find in self._finds:
            column = x[place]
            if len(column) == 1:
                found[place] = np.array((find(column[0], np.nan),))
                continue
            values = values_of(column)
            found[place] = np.fromiter((find(v, np.nan) for v in values), np.float64, len(values))
        return found


def coding_of(estimator: Any, flow: Flow) -> tuple[tuple[Node, ...], Flow]:
    """Give the node that codes the categories of an estimator's own, and what flows on; nothing where it has none.

    Raises NotCompiled where the estimator's categories are not those of the table's columns.
    """
    if flow.matrix or flow.container != "frame":
        return (), flow
    known = _known(estimator, flow)
    if not any(not flow.columns[place].numeric for place in known):
        return (), flow
    keys = tuple(_plain(known[place]) for place in known)
    columns = [
        Column("float64", c.name, "nan", c.field) if place in known else c for place, c in enumerate(flow.columns)
    ]
    return (Coded(tuple(known), keys),), replace(flow, columns=tuple(columns))


def _known(estimator: Any, flow: Flow) -> dict[int, Any]:
    """Give the categories of each column that the estimator takes as categories, by the column's place."""
    root = type(estimator).__module__.partition(".")[0]
    if hasattr(estimator, "booster_"):
        return _of_lightgbm(estimator.booster_, flow)
    if hasattr(estimator, "get_booster"):
        return _of_xgboost(estimator.get_booster(), flow)
    if root == "sklearn" and type(estimator).__name__.startswith("HistGradientBoosting"):
        return _of_histogram(estimator)
    return {}


def category_places(flow: Flow) -> list[int]:
    """Give the places of the columns that are of pandas' category type in the table."""
    return [i for i, c in enumerate(flow.columns) if c.source is not None and c.source.levels is not None]


def _of_lightgbm(booster: Any, flow: Flow) -> dict[int, Any]:
    places, lists = category_places(flow), booster.pandas_categorical or []
    if len(places) != len(lists):
        fact = f"{len(places)} columns of the table are of the category dtype"
        raise NotCompiled(f"{fact}, and the LightGBM model was fitted to {len(lists)}")
    return dict(zip(places, lists, strict=True))


def _of_xgboost(booster: Any, flow: Flow) -> dict[int, Any]:
    places = category_places(flow)
    types = list(booster.feature_types or ())
    coded = [place for place, kind in enumerate(types) if kind == "c"]
    if places != coded:
        fact = f"{len(places)} columns of the table are of the category dtype"
        raise NotCompiled(f"{fact}, and the XGBoost model was fitted to {len(coded)}")
    sources = {place: flow.columns[place].source for place in places}
    levels = {place: source.levels or () for place, source in sources.items() if source is not None}
    kept = _kept_by_xgboost(booster, places)
    return {place: kept[place] if set(own) <= set(kept.get(place, ())) else own for place, own in levels.items()}


def _kept_by_xgboost(booster: Any, places: list[int]) -> dict[int, Any]:
    """Give the categories that the model itself keeps, since XGBoost 3.1; before, it took the table's own order.

    What it tells of texts beyond ASCII is cut at the wrong places, and then is not among what is asked for.
    """
    try:
        kept = booster.get_categories(export_to_arrow=True).to_arrow()
        return {place: kept[place][1].to_pylist() for place in places if kept[place][1] is not None}
    except Exception:  # noqa: BLE001  an older XGBoost, or no pyarrow: the proof decides
        return {}


def _of_histogram(estimator: Any) -> dict[int, Any]:
    preprocessor = getattr(estimator, "_preprocessor", None)
    asked = getattr(estimator, "is_categorical_", None)
    if preprocessor is None or asked is None:
        return {}
    lists = [list_without_null(one) for one in preprocessor.transformers_[0][1].categories_]
    return dict(zip(np.flatnonzero(asked).tolist(), lists, strict=True))


def list_without_null(values: Any) -> list[Any]:
    """Give categories without the one that stands for a null.

    >>> list_without_null(np.array([2.0, np.nan]))
    [2.0]
    """
    return [v for v in np.asarray(values).tolist() if v is not None and v == v]


def _plain(values: Any) -> Keys:
    found = tuple(v.item() if isinstance(v, np.generic) else v for v in values)
    odd = next((v for v in found if not isinstance(v, PLAIN)), None)
    if odd is not None:
        raise NotCompiled(f"a category of the model is {odd!r}, of {type(odd).__name__}")
    return found
