"""Rows of a model of named or many classes: was it right, how likely it called what came true, how wrong that was.

A model of the classes 0 and 1 says one number, and a number tells how wrong it was. Any other classifier says a class,
mostly with a probability for each; beside the class that came true these become numbers here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.model.outputs import Outputs

Floats = NDArray[np.float64]
TOLD = ("_class", "_probabilities")
"""The columns of the log that say what such a model predicted."""


def name_of(label: Any) -> tuple[str, Any] | None:
    """Give what a label is known by: 1 and 1.0 are one class, true and "1" are others; None for no label.

    >>> name_of(1) == name_of(1.0), name_of(True) == name_of(1), name_of(float("nan"))
    (True, False, None)
    """
    if label is None or (isinstance(label, float) and label != label):
        return None
    return ("number", float(label)) if type(label) in (int, float) else (type(label).__name__, label)


def names_of(labels: Any) -> list[tuple[str, Any] | None]:
    """Give what each of a column's labels is known by."""
    return [name_of(label) for label in np.asarray(labels).tolist()]


def right(told: Any, value: Any) -> Floats:
    """Say for each row whether the class that was told came true: 1 or 0; NaN where nobody knows yet.

    >>> right(np.array(["a", "b", "a"], object), np.array(["a", "a", None], object)).tolist()
    [1.0, 0.0, nan]
    """
    pairs = zip(names_of(told), names_of(value), strict=True)
    return np.array([np.nan if came is None else float(said == came) for said, came in pairs], np.float64)


@dataclass(frozen=True)
class Classes:
    """The classes of a model, in the order of its probabilities."""

    labels: tuple[Any, ...]

    @classmethod
    def of(cls, package: Path) -> Classes | None:
        """Read them off a package; None for a model of numbers, or of the classes 0 and 1."""
        manifest = json.loads((package / "manifest.json").read_text(encoding="utf-8"))
        outputs = Outputs.from_manifest(manifest) if manifest.get("outputs") else None
        return cls(outputs.classes) if outputs is not None and outputs.kind in ("probabilities", "class") else None

    def places(self, labels: Any) -> NDArray[np.int64]:
        """Give the place of each label among the classes, -1 for one that is none of them."""
        known = {name_of(label): place for place, label in enumerate(self.labels)}
        return np.array([known.get(name, -1) for name in names_of(labels)], np.int64)

    def shares(self, told: Any, probabilities: Iterable[Any] | None = None) -> Floats:
        """Give a row of probabilities for each; all of it for the class that was told where there are none."""
        chosen, columns = self.places(told), np.arange(len(self.labels))
        found: Floats = (chosen[:, None] == columns).astype(np.float64)
        for row, given in enumerate([] if probabilities is None else probabilities):
            if given is not None and len(given) == len(self.labels):
                found[row] = np.asarray(given, np.float64)
        return found

    def chance(self, shares: Floats, value: Any) -> Floats:
        """Give the probability that each row gave to what came true; NaN where nobody knows yet.

        >>> Classes(("a", "b")).chance(np.array([[0.25, 0.75]]), np.array(["b"])).tolist()
        [0.75]
        """
        place = self.places(value)
        found = np.where(place >= 0, shares[np.arange(len(shares)), np.maximum(place, 0)], 0.0)
        return np.asarray(np.where(_known(value), found, np.nan), np.float64)

    def losses(self, shares: Floats, value: Any) -> Floats:
        """Give half the squared distance of probabilities from the truth, from 0 to 1; of two classes the Brier loss.

        >>> Classes(("a", "b")).losses(np.array([[0.25, 0.75]]), np.array(["b"])).tolist()
        [0.0625]
        """
        truth = self.places(value)[:, None] == np.arange(len(self.labels))
        unknown = (self.places(value) < 0) & _known(value)  # a class that the model has not
        found = (((shares - truth) ** 2).sum(axis=1) + unknown) / 2
        return np.asarray(np.where(_known(value), found, np.nan), np.float64)

    def measured(self, metric: str, rows: Mapping[str, Any]) -> tuple[Floats, Floats]:
        """Give rows as the prediction and value of two classes that the metric is the same of.

        For the accuracy that is whether they were right, for the log loss the probability of what came true, for the
        Brier loss a distance; another metric is of two classes only, and has no rows here.
        """
        value = rows["_value"]
        if metric == "accuracy":
            return np.ones(len(value)), right(rows["_class"], value)
        if metric not in ("log_loss", "brier"):
            return np.zeros(0), np.zeros(0)
        shares = self.shares(rows["_class"], rows.get("_probabilities"))
        if metric == "log_loss":
            return self.chance(shares, value), np.ones(len(value))
        return np.sqrt(self.losses(shares, value)), np.zeros(len(value))


def _known(value: Any) -> NDArray[np.bool_]:
    return np.array([name is not None for name in names_of(value)], bool)
