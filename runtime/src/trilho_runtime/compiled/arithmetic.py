"""Array code of the stages that compute with numbers: imputers, scalers, bins, powers, products, projections.

The operations, their order and their types are the original's, so that what is elementwise is bit-equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trilho_runtime.compiled.node import Array, Node
from trilho_runtime.schema.field import RowError

OPERATIONS: dict[str, Callable[..., Any]] = {
    "subtract": np.subtract, "divide": np.divide, "multiply": np.multiply, "add": np.add,
}  # fmt: skip
ELEMENTWISE: dict[str, Callable[..., Any]] = {
    **{f.__name__: f for f in (np.sqrt, np.square, np.absolute, np.sign, np.negative, np.positive, np.reciprocal)},
    **{f.__name__: f for f in (np.floor, np.ceil, np.rint, np.trunc, np.fabs)},
}  # fmt: skip
TRANSCENDENTAL: dict[str, Callable[..., Any]] = {
    **{f.__name__: f for f in (np.log1p, np.log, np.log2, np.log10, np.exp, np.exp2, np.expm1, np.cbrt)},
    **{f.__name__: f for f in (np.sin, np.cos, np.tan, np.tanh, np.sinh, np.cosh, np.arctan, np.arcsinh)},
}
SHAPES: dict[str, Callable[..., Any]] = {"clip": np.clip, "round": np.round, "nan_to_num": np.nan_to_num}
NEAR = 1e-7  # this close to the ends of the training rows, a normal share is the end's
FUNCTIONS = {**ELEMENTWISE, **TRANSCENDENTAL}


@dataclass(eq=False)
class Arithmetic(Node):
    """One operation with a number for each column."""

    operation: str
    by: Array

    def __post_init__(self) -> None:
        self._apply = OPERATIONS[self.operation]

    def __call__(self, x: Array) -> Array:
        """Compute, and give the matrix in the type that it had."""
        found: Array = self._apply(x, self.by)
        return found if found.dtype == x.dtype else found.astype(x.dtype)


@dataclass(eq=False)
class Clip(Node):
    """Numbers held within limits."""

    low: float
    high: float

    def __call__(self, x: Array) -> Array:
        """Give the numbers within the limits."""
        return np.clip(x, x.dtype.type(self.low), x.dtype.type(self.high))


@dataclass(eq=False)
class Function(Node):
    """A function of numpy."""

    name: str

    def __post_init__(self) -> None:
        self._apply = FUNCTIONS[self.name]

    def __call__(self, x: Array) -> Array:
        """Apply it to every number; what it is not defined for is NaN or infinite, as with the original."""
        with np.errstate(all="ignore"):
            found: Array = self._apply(x)
        return found


@dataclass(eq=False)
class FunctionOfEach(Node):
    """A function of numpy of columns of several types, each of which keeps its own."""

    name: str

    def __post_init__(self) -> None:
        self._apply = FUNCTIONS[self.name]

    def __call__(self, x: Sequence[Array]) -> list[Array]:
        """Apply it to every column."""
        with np.errstate(all="ignore"):
            return [self._apply(column) for column in x]


@dataclass(eq=False)
class Shape(Node):
    """A function of numpy that is given numbers beside the matrix: clip, round or nan_to_num."""

    name: str
    given: tuple[tuple[str, float | int | None], ...]

    def __post_init__(self) -> None:
        self._apply, self._given = SHAPES[self.name], dict(self.given)

    def __call__(self, x: Array) -> Array:
        """Apply it to every number."""
        with np.errstate(all="ignore"):
            found: Array = self._apply(x, **self._given)
        return found


@dataclass(eq=False)
class ShapeOfEach(Shape):
    """Such a function of columns of several types, each of which keeps its own."""

    def __call__(self, x: Any) -> Any:
        """Apply it to every column."""
        with np.errstate(all="ignore"):
            return [self._apply(column, **self._given) for column in x]


@dataclass(eq=False)
class Impute(Node):
    """Missing numbers replaced, columns without any number left out, and indicators of what was missing."""

    fill: Array  # one for each column kept, in the matrix' type
    missing: float | int | None  # None: NaN
    kept: Array | None
    indicated: Array | None

    def __call__(self, x: Array) -> Array:
        """Replace what is missing."""
        mask = np.isnan(x) if self.missing is None else x == self.missing
        if self.kept is None:
            found = np.where(mask, self.fill, x)
        else:
            found = np.where(mask[:, self.kept], self.fill, x[:, self.kept])
        return found if self.indicated is None else np.hstack((found, mask[:, self.indicated]))


@dataclass(eq=False)
class Missing(Node):
    """Which numbers are missing."""

    missing: float | int | None
    features: Array
    refused: Array  # columns in which none was missing when the original was fitted
    fields: tuple[str, ...]

    def __call__(self, x: Array) -> Array:
        """Give true where a number is missing. Raises RowError where none may be."""
        mask = np.isnan(x) if self.missing is None else x == self.missing
        if self.refused.size and mask[:, self.refused].any():
            row, place = (int(i) for i in np.argwhere(mask[:, self.refused])[0])
            field = self.fields[int(self.refused[place])] or None
            fact = f"row {row}: {field or f'column {self.refused[place]}'} is null"
            raise RowError(f"{fact}, which MissingIndicator refuses: it never was in training", field, row)
        return np.asarray(mask[:, self.features])


@dataclass(eq=False)
class Norm(Node):
    """Rows divided by their norm."""

    norm: str

    def __call__(self, x: Array) -> Array:
        """Divide every row by its norm; one that is all but zero stays."""
        if self.norm == "l1":
            norms = np.sum(np.abs(x), axis=1)
        elif self.norm == "l2":
            norms = np.sqrt(np.einsum("ij,ij->i", x, x))
        else:
            norms = np.max(np.abs(x), axis=1)
        norms[norms < 10 * np.finfo(norms.dtype).eps] = 1.0
        return np.asarray(x / norms[:, None])


@dataclass(eq=False)
class Threshold(Node):
    """One where a number is larger than a threshold, else zero."""

    threshold: float

    def __call__(self, x: Array) -> Array:
        """Compare every number, in the matrix' type."""
        floats = x if x.dtype.kind == "f" else x.astype(np.float64)
        return (floats > self.threshold).astype(x.dtype)


@dataclass(eq=False)
class Bins(Node):
    """The bin that each number falls in."""

    edges: tuple[Array, ...]
    dtype: str

    def __call__(self, x: Array) -> Array:
        """Find the bins of every column."""
        found = np.empty(x.shape, self.dtype)
        for place, edges in enumerate(self.edges):
            found[:, place] = edges.searchsorted(x[:, place], side="right")
        return found


@dataclass(eq=False)
class Power(Node):
    """Box-Cox or Yeo-Johnson, with a power for each column."""

    powers: Array
    positive: bool  # Box-Cox
    fields: tuple[str, ...]

    def __call__(self, x: Array) -> Array:
        """Transform every column. Raises RowError where Box-Cox is given what is not positive."""
        if self.positive and x.size and (x <= 0).any():
            row, place = (int(i) for i in np.argwhere(x <= 0)[0])
            field = self.fields[place] or None
            fact = f"row {row}: {field or f'column {place}'} is {x[row, place]:g}"
            raise RowError(f"{fact}; Box-Cox takes positive numbers only", field, row)
        one = box_cox if self.positive else yeo_johnson
        with np.errstate(all="ignore"):
            if len(x) == 1:
                return self._row(x)
            columns = [one(x[:, i], power) for i, power in enumerate(self.powers)]
        return np.stack(columns, axis=1).astype(x.dtype)

    def _row(self, x: Array) -> Array:
        """Transform one row, all columns at once but for those of the powers that are limits."""
        powers, values = self.powers, x[0]
        if self.positive:
            logs = np.log(values)
            found = np.where(np.abs(powers) < 1e-19, logs, np.expm1(powers * logs) / powers)
            return np.asarray(found.reshape(1, -1).astype(x.dtype))
        up = values >= 0
        near = np.finfo(np.result_type(values, powers)).eps
        limits = np.where(up, np.abs(powers) < near, np.abs(powers - 2) <= near)
        logs, by = np.log1p(np.abs(values)), np.where(up, powers, 2 - powers)
        sizes = np.where(limits, logs, np.expm1(by * logs) / by)
        return np.asarray(np.where(up, sizes, -sizes).reshape(1, -1).astype(x.dtype))


def box_cox(x: Array, power: float) -> Array:
    """Transform positive numbers.

    >>> box_cox(np.array([1.0, 3.0]), 2.0)
    array([0., 4.])
    """
    found: Array = np.log(x) if abs(power) < 1e-19 else np.expm1(power * np.log(x)) / power
    return found


def yeo_johnson(x: Array, power: float) -> Array:
    """Transform numbers of either sign.

    >>> yeo_johnson(np.array([3.0, -3.0]), 1.0)
    array([ 3., -3.])
    """
    dtype = np.result_type(x, power)
    tiny = np.finfo(dtype).eps
    positive = x >= 0
    found = np.empty(x.shape, dtype)
    up, down = np.log1p(x[positive]), np.log1p(-x[~positive])
    found[positive] = up if abs(power) < tiny else np.expm1(power * up) / power
    found[~positive] = -down if abs(power - 2) <= tiny else -np.expm1((2 - power) * down) / (2 - power)
    return found


@dataclass(eq=False)
class Quantiles(Node):
    """The share of the training rows that lie below, as the mean of the two ways to interpolate it; or its normal."""

    quantiles: Array
    references: Array
    normal: bool

    def __post_init__(self) -> None:
        if self.normal:
            from statistics import NormalDist

            self._normal = NormalDist().inv_cdf
            self._ends = [self._normal(p) for p in (NEAR - np.spacing(1), 1 - (NEAR - np.spacing(1)))]
        self._down = np.ascontiguousarray(-self.quantiles[::-1]), -self.references[::-1]
        self._columns = np.arange(self.quantiles.shape[1])

    def __call__(self, x: Array) -> Array:
        """Find the shares of every column."""
        if len(x) == 1 and len(self.references) > 1:
            return self._row(x)
        found = np.array(x)
        for place in range(x.shape[1]):
            column = self._shares(x[:, place], self.quantiles[:, place])
            found[:, place] = self._spread(column) if self.normal else column
        return found

    def _row(self, x: Array) -> Array:
        """Find the shares of one row, all columns at once."""
        given, near = x[0], NEAR if self.normal else 0
        values = given.astype(np.float64)
        with np.errstate(all="ignore"):
            up = self._between(values, self.quantiles, self.references)
            shares = 0.5 * (up - self._between(-values, *self._down))
        shares[np.isnan(values)] = np.nan
        first, last = self.quantiles[0], self.quantiles[-1]
        shares[given + near > last if near else given == last] = 1
        shares[given - near < first if near else given == first] = 0
        shares = shares.astype(x.dtype)
        return np.asarray((self._spread(shares) if self.normal else shares).reshape(1, -1).astype(x.dtype))

    def _between(self, values: Array, quantiles: Array, references: Array) -> Array:
        """Interpolate one value of each column, as numpy does in one column."""
        last = len(references) - 1
        place = (quantiles <= values).sum(axis=0) - 1
        low = np.clip(place, 0, last - 1)
        start, end = quantiles[low, self._columns], quantiles[low + 1, self._columns]
        slope = (references[low + 1] - references[low]) / (end - start)
        found = slope * (values - start) + references[low]
        found = np.where(np.isnan(found), slope * (values - end) + references[low + 1], found)
        found = np.where(values == start, references[low], found)
        found = np.where(place < 0, references[0], found)
        return np.asarray(np.where(place >= last, references[last], found))

    def _shares(self, column: Array, quantiles: Array) -> Array:
        shares = np.array(column)
        known = ~np.isnan(column)
        given = column[known]
        up = np.interp(given, quantiles, self.references)
        down = np.interp(-given, -quantiles[::-1], -self.references[::-1])
        shares[known] = 0.5 * (up - down)
        near = NEAR if self.normal else 0
        shares[column + near > quantiles[-1] if near else column == quantiles[-1]] = 1
        shares[column - near < quantiles[0] if near else column == quantiles[0]] = 0
        return shares

    def _spread(self, shares: Array) -> Array:
        low, high = self._ends
        return np.array(
            [low if p <= 0 else high if p >= 1 else p if p != p else self._within(p) for p in shares.tolist()]
        )

    def _within(self, share: float) -> float:
        low, high = self._ends
        return min(max(self._normal(share), low), high)


@dataclass(eq=False)
class Products(Node):
    """Products of columns: each is an earlier product times a column."""

    earlier: Array  # for each product its place among one, the columns and the products before it
    factors: Array
    levels: tuple[int, ...]  # how many products there are after each degree
    kept: Array
    sparse: bool = False  # whether a product with a zero is none, whatever the other factor

    def __call__(self, x: Array) -> Array:
        """Multiply, degree by degree."""
        rows, count = x.shape
        found = np.empty((rows, 1 + count + len(self.earlier)), x.dtype)
        found[:, 0] = 1
        found[:, 1 : count + 1] = x
        with np.errstate(over="ignore", invalid="ignore"):
            for low, high in zip((0, *self.levels), self.levels, strict=False):
                one, other = found[:, self.earlier[low:high]], x[:, self.factors[low:high]]
                part = one * other
                if self.sparse:
                    part[(one == 0) | (other == 0)] = 0
                found[:, 1 + count + low : 1 + count + high] = part
        return found[:, self.kept]


@dataclass(eq=False)
class Project(Node):
    """Columns multiplied by a matrix, then shifted and scaled."""

    components: Array
    offset: Array | None
    scale: Array | None

    def __call__(self, x: Array) -> Array:
        """Project every row."""
        found: Array = x @ self.components
        if self.offset is not None:
            found = found - self.offset
        return found if self.scale is None else found / self.scale
