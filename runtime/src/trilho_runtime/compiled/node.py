"""The nodes that a compiled model is made of: each takes what flows, gives what flows on, and is kept as JSON.

A node is a dataclass; its fields are numbers, texts, arrays, flows and nodes. One row is the common case: a node does
for it no more calls of numpy than it must.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled.flow import Flow
from trilho_runtime.schema.field import RowError

Array = NDArray[Any]


class Refused(RowError):
    """A number that a stage refuses, by its place in what that stage is given; `name` is the field that it comes from.

    Whoever has the row itself says more of it.
    """

    def __init__(self, row: int, place: int, value: float, field: str, owner: str) -> None:
        shown = "null" if value != value else f"{value:g}"
        text = f"row {row}: {field or f'column {place} of its input'} is {shown}, which {owner} refuses"
        super().__init__(text, field or None, row)
        self.row: int = row
        self.place, self.value, self.owner = place, value, owner


class Node:
    """One step of array code."""

    kinds: ClassVar[dict[str, type[Node]]] = {}

    def __init_subclass__(cls) -> None:
        Node.kinds[cls.__name__] = cls

    def __call__(self, x: Any) -> Any:
        """Give what flows on."""
        raise NotImplementedError


def to_spec(value: Any, arrays: dict[str, Array]) -> Any:
    """Give a node, or a field of one, as JSON; its arrays are added to `arrays`."""
    if isinstance(value, Node):
        told = {f.name: to_spec(getattr(value, f.name), arrays) for f in fields(value) if f.init}  # type: ignore[arg-type]
        return {"node": type(value).__name__, **told}
    if isinstance(value, np.ndarray):
        arrays[f"a{len(arrays)}"] = value
        return {"array": f"a{len(arrays) - 1}"}
    if isinstance(value, Flow):
        return {"flow": value.to_json()}
    if isinstance(value, tuple | list):
        return [to_spec(v, arrays) for v in value]
    return value


def from_spec(spec: Any, arrays: Mapping[str, Array]) -> Any:
    """Rebuild what `to_spec` gave."""
    if isinstance(spec, list):
        return tuple(from_spec(v, arrays) for v in spec)
    if not isinstance(spec, dict):
        return spec
    if "array" in spec:
        return arrays[spec["array"]]
    if "flow" in spec:
        return Flow.from_json(spec["flow"])
    told = {name: from_spec(v, arrays) for name, v in spec.items() if name != "node"}
    return Node.kinds[spec["node"]](**told)


def nodes_of(node: Node) -> list[Node]:
    """Give a node and all the nodes in it."""
    found = [node]
    for field in fields(node):  # type: ignore[arg-type]
        value = getattr(node, field.name)
        inner = value if isinstance(value, tuple) else (value,)
        found += [n for part in inner if isinstance(part, Node) for n in nodes_of(part)]
    return found


def sequence(*nodes: Node) -> Node:
    """Give nodes that follow each other as one, without nesting."""
    flat: list[Node] = []
    for node in nodes:
        flat += node.stages if isinstance(node, Chain) else [node]
    return flat[0] if len(flat) == 1 else Chain(tuple(flat))


@dataclass(eq=False)
class Chain(Node):
    """Nodes that follow each other."""

    stages: tuple[Node, ...]

    def __call__(self, x: Any) -> Any:
        """Pass through every node."""
        for stage in self.stages:
            x = stage(x)
        return x


@dataclass(eq=False)
class Pick(Node):
    """Some of the columns of a list."""

    places: tuple[int, ...]

    def __call__(self, x: Sequence[Any]) -> list[Any]:
        """Give these columns."""
        return [x[i] for i in self.places]


@dataclass(eq=False)
class Levels(Node):
    """Columns of categories, in which a value that is none of them is a null."""

    places: tuple[int, ...]
    levels: tuple[tuple[Any, ...], ...]

    def __post_init__(self) -> None:
        self._known = [(place, frozenset(levels)) for place, levels in zip(self.places, self.levels, strict=True)]

    def __call__(self, x: list[Any]) -> list[Any]:
        """Give all columns, these with None for what is none of their levels."""
        found = list(x)
        for place, known in self._known:
            found[place] = [v if v in known else None for v in x[place].tolist()]
        return found


@dataclass(eq=False)
class Take(Node):
    """Some of the columns of a matrix."""

    places: Array

    def __call__(self, x: Array) -> Array:
        """Give these columns."""
        return x[:, self.places]


@dataclass(eq=False)
class Split(Node):
    """A matrix as a list of its columns."""

    def __call__(self, x: Array) -> list[Array]:
        """Give the columns."""
        return list(x.T)


@dataclass(eq=False)
class Gather(Node):
    """Columns as one matrix."""

    dtype: str
    alike: bool

    def __call__(self, x: Sequence[Any]) -> Array:
        """Give the matrix; of one row it lies as C would, of more as Fortran would."""
        flat = np.concatenate(x if self.alike else [np.asarray(c).astype(self.dtype) for c in x])
        count = len(x)
        return flat.reshape(1, count) if flat.size == count else flat.reshape(count, -1).T


@dataclass(eq=False)
class Cast(Node):
    """A matrix as one of another type."""

    dtype: str

    def __call__(self, x: Array) -> Array:
        """Give the matrix in that type."""
        return x.astype(self.dtype)


@dataclass(eq=False)
class Parallel(Node):
    """Branches that take the same, and give matrices that stand side by side."""

    branches: tuple[Node, ...]
    widths: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        ends = np.cumsum(self.widths).tolist()
        self._spans = [slice(end - width, end) for end, width in zip(ends, self.widths, strict=True)]
        self._width = ends[-1]

    def __call__(self, x: Any) -> Array:
        """Fill one matrix with what each branch gives."""
        parts = [branch(x) for branch in self.branches]
        found = np.empty((len(parts[0]), self._width), self.dtype)
        for span, part in zip(self._spans, parts, strict=True):
            found[:, span] = part
        return found


@dataclass(eq=False)
class Join(Node):
    """Branches that take the same, and give lists of columns that stand side by side."""

    branches: tuple[Node, ...]

    def __call__(self, x: Any) -> list[Any]:
        """Give the columns of all branches."""
        return [column for branch in self.branches for column in branch(x)]


@dataclass(eq=False)
class Check(Node):
    """What the original refuses, refused by name: NaN, or what is larger than it can hold."""

    nan: bool  # whether NaN may pass
    limit: float | None
    fields: tuple[str, ...]
    owner: str

    def __post_init__(self) -> None:
        self._limit = np.inf if self.limit is None else self.limit

    def __call__(self, x: Array) -> Array:
        """Give the matrix as it is. Raises RowError for a value that the original refuses."""
        if x.size:
            size = np.abs(x)
            top = np.fmax.reduce(size, axis=None) if self.nan else size.max()
            if not top <= self._limit and not (self.nan and top != top):
                self._refuse(x, size)
        return x

    def _refuse(self, x: Array, size: Array) -> None:
        wrong = (size > self._limit) if self.nan else ~(size <= self._limit)
        row, place = (int(i) for i in np.argwhere(wrong)[0])
        field = self.fields[place] if place < len(self.fields) else ""
        raise Refused(row, place, float(x[row, place]), field, self.owner)
