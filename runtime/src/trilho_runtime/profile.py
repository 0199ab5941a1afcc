"""Profiles: counts of a table against bins that were fixed at training time. They are small and they add up.

A number has bins between quantiles of the reference, one below and one above all of it, and one for null. A category
has a bin for each of its 30 most frequent values, bands by frequency for the others (raw, 10,000 bins would never show
a small move), one for values the reference never saw, and one for null. What drift needs of a table is in these counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from trilho_runtime.bins import (
    SMALLEST,
    Array,
    Floats,
    Ints,
    Kind,
    as_numbers,
    as_seconds,
    as_texts,
    categories,
    edges_of,
    kind_of,
    leave_out,
    number_labels,
    place_numbers,
)

SCHEMA = 1
PREDICTION = "_prediction"
"""The name under which a reference may hold the model's own predictions, beside the raw columns."""
BLOCKS = 260

Profile = dict[str, Ints]


@dataclass(frozen=True)
class Feature:
    """One column's bins and what the reference counted in them.

    `counts` place a row by what the *other* reference windows held, as a new window will be placed; `inside` place it
    as if it was served again. `blocks` are the counts of single reference windows in order. The bins of a number are
    in order, but for the last one, null.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    counts: Ints
    inside: Ints
    blocks: Ints
    edges: Floats = field(default_factory=lambda: np.zeros(0))
    values: Mapping[str, int] = field(default_factory=dict)

    @property
    def special(self) -> tuple[int, ...]:
        """Give the positions of the bins for what hardly occurred: below, above, unseen, null."""
        last = len(self.labels) - 1
        return (0, last - 1, last) if self.kind == "number" else (last - 1, last)

    def place(self, column: Array) -> Ints:
        """Give the bin of each value."""
        if self.kind == "number":
            return place_numbers(as_numbers(column), self.edges)
        unseen = len(self.labels) - 2
        get = self.values.get
        return np.array([unseen + 1 if v is None else get(v, unseen) for v in as_texts(column)], np.int64)

    def count(self, column: Array) -> Ints:
        """Count a column's values in this feature's bins."""
        return np.bincount(self.place(column), minlength=len(self.labels)).astype(np.int64)


@dataclass(frozen=True)
class Reference:
    """What the model was trained on, as counts: bins for each feature, the whole, and the reference's own windows."""

    features: tuple[Feature, ...]
    rows: int
    window_seconds: float
    windows: int  # how many the reference had; at most BLOCKS of them are kept as blocks
    skipped: Mapping[str, str]  # column -> why it is not watched

    @classmethod
    def fit(cls, columns: Mapping[str, Array], time: Array | None, window_seconds: float) -> Reference:
        """Fix the bins on a table and count it.

        `time` is the rows' time in seconds (or datetime64); without it the reference has no windows, and nothing can
        be learnt about how far windows differ by nature. Columns of timestamps and near-unique values are skipped:
        they move by themselves.

        >>> reference = Reference.fit({"x": np.arange(100.0), "c": np.array(["a", "b"] * 50)}, None, 3600)
        >>> int(reference.profile({"x": np.array([5.0, 500.0, None]), "c": np.array(["a", "z", None])})["c"].sum())
        3
        """
        rows = len(next(iter(columns.values()))) if columns else 0
        window = None
        if time is not None and rows:
            seconds = np.nan_to_num(as_seconds(time), nan=0.0, posinf=0.0, neginf=0.0)
            window = np.floor(seconds / window_seconds).astype(np.int64)
        groups, kept = _windows(window, rows)
        features, skipped = [], {}
        for name, column in columns.items():
            made = _fit_feature(name, column, groups, kept)
            if isinstance(made, Feature):
                features.append(made)
            else:
                skipped[name] = made
        windows = 0 if window is None else int(groups.max()) + 1
        return cls(tuple(features), rows, float(window_seconds), windows, skipped)

    def profile(self, columns: Mapping[str, Array]) -> Profile:
        """Count a table in the reference's bins; a column that is not there counts as null in every row."""
        rows = len(next(iter(columns.values()))) if columns else 0
        missing = np.full(rows, None, object)
        return {f.name: f.count(columns.get(f.name, missing)) for f in self.features}

    def without(self, names: Iterable[str]) -> Reference:
        """Give the reference without some features."""
        drop = set(names)
        kept = tuple(f for f in self.features if f.name not in drop)
        return Reference(kept, self.rows, self.window_seconds, self.windows, self.skipped)

    def to_json(self) -> str:
        """Give the reference as JSON, the same text for the same reference."""
        data = {
            "schema": SCHEMA,
            "rows": self.rows,
            "window_seconds": self.window_seconds,
            "windows": self.windows,
            "skipped": dict(sorted(self.skipped.items())),
            "features": [_feature_to_json(f) for f in self.features],
        }
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Reference:
        """Read a reference back."""
        data = json.loads(text)
        if data.get("schema") != SCHEMA:
            raise ValueError(f"reference of schema {data.get('schema')}, this trilho-runtime reads {SCHEMA}")
        features = tuple(_feature_from_json(item) for item in data["features"])
        return cls(features, data["rows"], data["window_seconds"], data["windows"], data["skipped"])


def add(*profiles: Mapping[str, Array]) -> Profile:
    """Add profiles of the same reference: of replicas, of minutes, of machines.

    >>> {k: v.tolist() for k, v in add({"x": np.array([1, 2])}, {"x": np.array([3, 4])}).items()}
    {'x': [4, 6]}
    """
    names = profiles[0].keys() if profiles else ()
    return {name: np.sum([p[name] for p in profiles], axis=0).astype(np.int64) for name in names}


def _windows(window: Ints | None, rows: int) -> tuple[Ints, Ints]:
    """Give each row's group (its window, or itself without time) and which groups are kept as blocks."""
    if window is None:
        return np.arange(rows), np.zeros(0, np.int64)
    _, groups, sizes = np.unique(window, return_inverse=True, return_counts=True)
    full = np.flatnonzero(sizes >= np.median(sizes) / 4)  # a first or last window that is cut off says little
    if len(full) > BLOCKS:  # neighbours stay together, since their difference shows how rows depend on each other
        starts = np.unique(np.linspace(0, len(full) - 2, BLOCKS // 2).astype(np.int64) // 2 * 2)
        full = full[np.sort(np.concatenate([starts, starts + 1]))]
    return groups.astype(np.int64), full


def _fit_feature(name: str, column: Array, groups: Ints, kept: Ints) -> Feature | str:
    kind = kind_of(column)
    if kind is None:
        return "a timestamp moves by itself"
    if kind == "number":
        values = as_numbers(column)
        finite = values[np.isfinite(values)]
        if len(finite) < SMALLEST:
            return f"{len(finite)} values in the reference"
        edges = edges_of(finite)
        inside = place_numbers(values, edges)
        place = leave_out(inside, values, groups, len(edges))
        return _counted(Feature(name, "number", number_labels(edges), place, inside, place, edges), groups, kept)
    texts = as_texts(column)
    filled = sum(t is not None for t in texts)
    if filled < SMALLEST:
        return f"{filled} values in the reference"
    found = categories(texts, groups)
    if found is None:
        return "nearly every value is new"
    placed = Feature(name, "category", found.labels, found.place, found.inside, found.place, values=found.values)
    return _counted(placed, groups, kept)


def _counted(placed: Feature, groups: Ints, kept: Ints) -> Feature:
    """Turn the places of the reference's rows into counts of the whole and of the kept windows."""
    size, place = len(placed.labels), placed.counts
    counts, inside = (np.bincount(x, minlength=size).astype(np.int64) for x in (place, placed.inside))
    row_of = np.full(int(groups.max()) + 1, -1)
    row_of[kept] = np.arange(len(kept))
    row = row_of[groups]
    flat = np.bincount(row[row >= 0] * size + place[row >= 0], minlength=len(kept) * size)
    return replace(placed, counts=counts, inside=inside, blocks=flat.reshape(len(kept), size).astype(np.int64))


def _feature_to_json(feature: Feature) -> dict[str, Any]:
    groups: dict[int, list[str]] = {}
    for value, place in feature.values.items():
        groups.setdefault(place, []).append(value)
    return {
        "name": feature.name,
        "kind": feature.kind,
        "labels": list(feature.labels),
        "edges": feature.edges.tolist(),
        "values": [[place, values] for place, values in sorted(groups.items())],
        "counts": feature.counts.tolist(),
        "inside": feature.inside.tolist(),
        "blocks": feature.blocks.tolist(),
    }


def _feature_from_json(data: Mapping[str, Any]) -> Feature:
    labels = tuple(data["labels"])
    values = {value: place for place, group in data["values"] for value in group}
    blocks = np.array(data["blocks"], np.int64).reshape(-1, len(labels))
    counts, inside = np.array(data["counts"], np.int64), np.array(data.get("inside", data["counts"]), np.int64)
    return Feature(data["name"], data["kind"], labels, counts, inside, blocks, np.array(data["edges"], float), values)
