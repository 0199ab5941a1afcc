"""How many models a call fits: one, the size of a grid times its folds, or the folds of a cross-validation."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass
from typing import Any

from trilho.adopt.folding import UNKNOWN, Constants

PREPARES = re.compile(r"(Scaler|Encoder|Imputer|Vectorizer|Binarizer|Transformer|Discretizer|PCA|Features|Select\w+)$")
"""Classes that prepare data: fitting them is not counted."""
CROSS = frozenset({"cross_val_predict", "cross_val_score", "cross_validate", "learning_curve", "validation_curve"})
SPLITTERS = re.compile(r"\.(\w*(KFold|ShuffleSplit|Split))$")
FOLDS = 5
"""What scikit-learn takes where nothing is said."""


@dataclass(frozen=True)
class Fits:
    """Models fitted in a whole notebook; `unknown` where a loop's length can't be told."""

    number: int = 0
    most: int = 0  # in one cell
    most_cell: int = 0
    unknown: bool = False
    cells: tuple[tuple[int, int], ...] = ()  # (cell, fits)

    def plus(self, cell: int, number: int, unknown: bool) -> Fits:
        """Add fits of one cell."""
        if not number:
            return self
        cells = dict(self.cells)
        cells[cell] = cells.get(cell, 0) + number
        most = max(cells, key=lambda one: cells[one])
        return Fits(self.number + number, cells[most], most, self.unknown or unknown, tuple(cells.items()))


@dataclass(frozen=True)
class Made:
    """An object of which only the call that made it is known."""

    name: str  # the function's full name
    node: ast.Call

    def folds(self, known: Constants) -> int | None:
        """Give a cross-validator's number of parts, or None if it is none."""
        if not SPLITTERS.search(self.name):
            return None
        default = 10 if "Shuffle" in self.name else FOLDS
        value = known.fold(_word(self.node, "n_splits") or (self.node.args[0] if self.node.args else None))
        times = known.fold(_word(self.node, "n_repeats")) if "Repeated" in self.name else 1
        number = value if isinstance(value, int) else default
        return number * (times if isinstance(times, int) else 10)


def made(node: ast.expr, known: Constants) -> Made | None:
    """Say what made an object: the call itself, or the one that its name was bound to."""
    value = known.fold(node)
    if isinstance(value, Made):
        return value
    while isinstance(node, ast.Call):
        name = known.dotted(node.func)
        if name:
            return Made(name, node)
        if not isinstance(node.func, ast.Attribute):
            return None
        node = node.func.value
    return None


def fits_of(node: ast.Call, name: str, known: Constants) -> int:
    """Count the models that one call fits.

    >>> known = Constants(folder=None, modules={"GridSearchCV": "sklearn.model_selection.GridSearchCV"})
    >>> call = ast.parse("GridSearchCV(m, {'a': [1, 2], 'b': [3, 4, 5]}, cv=3).fit(X, y)", mode="eval").body
    >>> fits_of(call, "", known)
    19
    """
    last = name.rpartition(".")[2]
    if name in ("xgboost.train", "lightgbm.train"):
        return 1
    if name in ("xgboost.cv", "lightgbm.cv"):
        value = known.fold(_word(node, "nfold"))
        return value if isinstance(value, int) else 3 if name.startswith("xgb") else 5
    if last in CROSS and name.startswith("sklearn."):
        return _folds(node, known)
    if not (isinstance(node.func, ast.Attribute) and node.func.attr in ("fit", "fit_predict", "partial_fit")):
        return 0
    maker = made(node.func.value, known)
    if maker is None:
        return 1
    return 0 if PREPARES.search(maker.name) else _search(maker, known)


def _search(maker: Made, known: Constants) -> int:
    kind = maker.name.rpartition(".")[2]
    if not kind.endswith("SearchCV"):
        return 1
    if "Random" in kind or "Bayes" in kind:
        value = known.fold(_word(maker.node, "n_iter"))
        number = value if isinstance(value, int) else 10
    else:
        grid = _word(maker.node, "param_grid") or (maker.node.args[1] if len(maker.node.args) > 1 else None)
        number = _size(known.fold(grid)) if grid is not None else 1
    return number * _folds(maker.node, known) + 1  # fitted again with the best


def _size(grid: Any) -> int:
    """Give the number of points in a grid, taking what is not known as one."""
    if isinstance(grid, list | tuple):
        return sum(_size(part) for part in grid)
    if not isinstance(grid, dict):
        return 1
    return math.prod(len(values) if isinstance(values, list | tuple | range) else 1 for values in grid.values())


def _folds(node: ast.Call, known: Constants) -> int:
    given = _word(node, "cv")
    if given is None:
        return FOLDS
    value = known.fold(given)
    if isinstance(value, int) and value is not True:
        return value
    maker = value if isinstance(value, Made) else made(given, known) if value is UNKNOWN else None
    return (maker.folds(known) if maker else None) or FOLDS


def _word(node: ast.Call, name: str) -> ast.expr | None:
    return next((word.value for word in node.keywords if word.arg == name), None)
