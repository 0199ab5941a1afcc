"""Slices: parts of the rows, such as one country's, that are watched beside the whole and within the same promise.

Each slice has a reference of its own, with bins of its own, so that what moves in a tenth of the rows is not lost among
the others. Slices are no further detectors with promises of their own: their features stand beside the whole's in one
mixture, of which they are half.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.bins import Array, as_texts
from trilho_runtime.profile import Feature, Profile, Reference

MOST = 20
FEWEST_ROWS = 500


@dataclass(frozen=True)
class Slice:
    """The rows in which a column has one value, and what the reference knows of them."""

    column: str
    value: str
    reference: Reference

    @property
    def name(self) -> str:
        """Name the slice."""
        return f"{self.column}={self.value}"

    @property
    def features(self) -> tuple[Feature, ...]:
        """Give its features under names of their own."""
        return tuple(replace(f, name=f"{f.name}[{self.name}]", source=f.column) for f in self.reference.features)

    def profile(self, columns: Mapping[str, Array], picked: NDArray[np.bool_]) -> Profile:
        """Count the picked rows under the slice's names."""
        own = self.reference.profile({name: column[picked] for name, column in columns.items()})
        return {f"{name}[{self.name}]": counts for name, counts in own.items()}


@dataclass(frozen=True)
class Slices:
    """The most frequent values of the columns that rows are sliced by; a column of 10,000 values costs no more."""

    slices: tuple[Slice, ...]

    @classmethod
    def fit(
        cls,
        columns: Mapping[str, Array],
        by: Iterable[str],
        time: Array | None,
        window_seconds: float,
        *,
        most: int = MOST,
        fewest_rows: int = FEWEST_ROWS,
    ) -> Slices:
        """Choose at most so many slices by their rows, each of at least `fewest_rows`, and fit their references.

        >>> columns = {"x": np.arange(2000.0), "c": np.array(["a", "b"] * 1000)}
        >>> [part.name for part in Slices.fit(columns, ["c"], None, 3600.0).slices]
        ['c=a', 'c=b']
        """
        found: list[tuple[int, str, str]] = []
        held = {name: _texts(columns[name]) for name in by if name in columns}
        for name, texts in held.items():
            values, counts = np.unique(texts, return_counts=True)
            found += [(-int(n), name, str(v)) for v, n in zip(values, counts, strict=True) if v and n >= fewest_rows]
        made = []
        for _, name, value in sorted(found)[:most]:
            picked = held[name] == value
            own = {other: column[picked] for other, column in columns.items() if other != name}
            reference = Reference.fit(own, None if time is None else time[picked], window_seconds)
            made.append(Slice(name, value, reference))
        return cls(tuple(made))

    @property
    def features(self) -> tuple[Feature, ...]:
        """Give the features of all slices."""
        return tuple(feature for part in self.slices for feature in part.features)

    def profile(self, columns: Mapping[str, Array]) -> Profile:
        """Count a table's slices; add the result to the whole's profile (`profile | slices.profile(columns)`)."""
        rows = len(next(iter(columns.values()))) if columns else 0
        held = {part.column: _texts(columns.get(part.column, np.full(rows, None, object))) for part in self.slices}
        out: Profile = {}
        for part in self.slices:
            out |= part.profile(columns, held[part.column] == part.value)
        return out

    def without(self, names: Iterable[str]) -> Slices:
        """Give the slices without some columns."""
        drop = set(names)
        return Slices(tuple(replace(part, reference=part.reference.without(drop)) for part in self.slices))

    def beside(self, reference: Reference) -> Reference:
        """Give a reference with the slices' features after its own."""
        return replace(reference, features=(*reference.features, *self.features))

    def to_json(self) -> str:
        """Give the slices as JSON."""
        parts = [[part.column, part.value, json.loads(part.reference.to_json())] for part in self.slices]
        return json.dumps({"schema": 1, "slices": parts}, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Slices:
        """Read slices back."""
        data = json.loads(text)
        if data.get("schema") != 1:
            raise ValueError(f"slices of schema {data.get('schema')}, this trilho reads 1")
        return cls(tuple(Slice(c, v, Reference.from_json(json.dumps(r))) for c, v, r in data["slices"]))


def _texts(column: Array) -> NDArray[np.str_]:
    return np.array([text or "" for text in as_texts(column)], np.str_)
