"""Profiles: counts of a table against bins that were fixed at training time. They are small and they add up.

A number has bins between quantiles of the reference, one below and one above all of it, and one for null. A category
has a bin for each of its 30 most frequent values, bands by frequency for the others (raw, 10,000 bins would never show
a small move), one for values the reference never saw, and one for null. What drift needs of a table is in these counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from trilho_runtime.bins import (
    PARTS_OF_TIME,
    SMALLEST,
    UNSEEN_WORDS,
    Array,
    Floats,
    Ints,
    Kind,
    Nulls,
    Part,
    as_lengths,
    as_numbers,
    as_seconds,
    as_texts,
    categories,
    count_numbers,
    edges_of,
    is_prose,
    kind_of,
    leave_out,
    number_labels,
    place_calendar,
    place_numbers,
    place_words,
    vocabulary,
)

SCHEMA = 2
PREDICTION = "_prediction"
"""The name under which a reference may hold the model's own predictions, beside the raw columns."""
BLOCKS = 260
APART = 0.5
_NONE: Ints = np.zeros(0, np.int64)

Profile = dict[str, Ints]
R = TypeVar("R", bound="Reference")


@dataclass(frozen=True)
class Feature:
    """One column's bins and what the reference counted in them.

    `counts` place a row by what the *other* reference windows held, as a new window will be placed; `inside` place it
    as if it was served again. `blocks` are the counts of single reference windows in order. A column that is watched
    by its parts (a time's hour, a text's length) has a feature for each; `part` says which, `source` of what column.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    counts: Ints
    inside: Ints
    blocks: Ints
    edges: Floats = field(default_factory=lambda: np.zeros(0))
    values: Mapping[str, int] = field(default_factory=dict)
    source: str = ""
    part: Part = ""

    @property
    def column(self) -> str:
        """Give the name of the column that is counted."""
        return self.source or self.name

    @property
    def ordered(self) -> int:
        """Give how many leading bins are in order: of a number from below to above, else none."""
        return len(self.edges) + 1 if len(self.edges) else 0

    @property
    def special(self) -> tuple[int, ...]:
        """Give the positions of the bins for what hardly occurred, in the order of `special_names`."""
        last = len(self.labels) - 1
        return (0, last - 3, last - 2, last - 1, last) if len(self.edges) else (last - 1, last)

    @property
    def special_names(self) -> tuple[str, ...]:
        """Say what each special bin holds."""
        return ("below", "above", "infinite", "nan", "null") if len(self.edges) else ("unseen", "null")

    def place(self, column: Array) -> Ints:
        """Give the bin of each value."""
        if self.part in ("hour", "weekday"):
            return place_calendar(column, self.part)
        if self.part == "words":
            return place_words(as_texts(column), self.values)
        if len(self.edges):
            return place_numbers(*self.numbers(column), self.edges)
        unseen = len(self.labels) - 2
        get = self.values.get
        return np.array([unseen + 1 if v is None else get(v, unseen) for v in as_texts(column)], np.int64)

    def numbers(self, column: Array) -> tuple[Floats, Nulls]:
        """Give what a feature with edges counts: the numbers, or how long the texts are; and where there is none."""
        return as_lengths(as_texts(column)) if self.part == "length" else as_numbers(column)

    def count(self, column: Array) -> Ints:
        """Count a column's values in this feature's bins."""
        if len(self.edges):
            return count_numbers(*self.numbers(column), self.edges)
        if not self.part:
            return self._count_texts(as_texts(column))
        return np.bincount(self.place(column), minlength=len(self.labels)).astype(np.int64)

    def _count_texts(self, texts: list[str | None]) -> Ints:
        counts = np.zeros(len(self.labels), np.int64)
        unseen = len(self.labels) - 2
        for text, held in Counter(texts).items():
            counts[unseen + 1 if text is None else self.values.get(text, unseen)] += held
        return counts


@dataclass(frozen=True)
class Reference:
    """What the model was trained on, as counts: bins for each feature, the whole, and the reference's own windows."""

    features: tuple[Feature, ...]
    rows: int
    window_seconds: float
    windows: int  # how many the reference had; at most BLOCKS of them are kept as blocks
    skipped: Mapping[str, str]  # column -> why it is not watched
    block_windows: tuple[int, ...] = ()  # of each block the number of its window: time // window_seconds
    time: str = ""  # the column of a row's time, where it has a name
    key: str = ""  # the column that says which rows belong together
    cluster: float = 1.0  # the most rows that one key had in one window of the reference

    @classmethod
    def fit(
        cls, columns: Mapping[str, Array], time: Array | None, window_seconds: float, *, calendar: bool | None = None
    ) -> Reference:
        """Fix the bins on a table and count it.

        `time` is the rows' time in seconds (or datetime64); without it the reference has no windows, and nothing can
        be learnt about how far windows differ by nature. Near-unique values are skipped: they move by themselves. So
        do times; what is watched is their hour and weekday, where windows show how those move (or `calendar` is true).

        >>> reference = Reference.fit({"x": np.arange(100.0), "c": np.array(["a", "b"] * 50)}, None, 3600)
        >>> int(reference.profile({"x": np.array([5.0, 500.0, None]), "c": np.array(["a", "z", None])})["c"].sum())
        3
        """
        rows = len(next(iter(columns.values()))) if columns else 0
        window = None
        if time is not None and rows:
            seconds = np.nan_to_num(as_seconds(time), nan=0.0, posinf=0.0, neginf=0.0)
            window = np.floor(seconds / window_seconds).astype(np.int64)
        groups, kept, numbers = _windows(window, rows)
        calendar = time is not None if calendar is None else calendar
        features, skipped = list[Feature](), {}
        for name, column in columns.items():
            made, why = _fit_column(name, column, groups, kept, calendar)
            features += made
            if not made:
                skipped[name] = why
        windows = 0 if window is None else int(groups.max()) + 1
        return cls(tuple(features), rows, float(window_seconds), windows, skipped, tuple(numbers.tolist()))

    def profile(self, columns: Mapping[str, Array]) -> Profile:
        """Count a table in the reference's bins; a column that is not there counts as null in every row."""
        rows = len(next(iter(columns.values()))) if columns else 0
        missing = np.full(rows, None, object)
        return {f.name: f.count(columns.get(f.column, missing)) for f in self.features}

    def without(self: R, names: Iterable[str]) -> R:
        """Give the reference without some columns or features."""
        drop = set(names)
        return replace(self, features=tuple(f for f in self.features if not {f.name, f.column} & drop))

    def to_json(self) -> str:
        """Give the reference as JSON, the same text for the same reference."""
        data = {
            "schema": SCHEMA,
            "rows": self.rows,
            "window_seconds": self.window_seconds,
            "windows": self.windows,
            "skipped": dict(sorted(self.skipped.items())),
            "block_windows": list(self.block_windows),
            "time": self.time,
            "key": self.key,
            "cluster": self.cluster,
            "features": [_feature_to_json(f) for f in self.features],
        }
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls: type[R], text: str | bytes) -> R:
        """Read a reference back, also one that an older trilho wrote."""
        data = json.loads(text)
        if data.get("schema") not in (1, SCHEMA):
            raise ValueError(f"reference of schema {data.get('schema')}, this trilho-runtime reads 1 and {SCHEMA}")
        made = _feature_of_schema_1 if data["schema"] == 1 else _feature_from_json
        features = tuple(made(item) for item in data["features"])
        about = {name: data[name] for name in ("time", "key", "cluster") if name in data}
        numbers = tuple(data.get("block_windows", ()))
        return cls(features, data["rows"], data["window_seconds"], data["windows"], data["skipped"], numbers, **about)


def add(*profiles: Mapping[str, Array]) -> Profile:
    """Add profiles of the same reference: of replicas, of minutes, of machines.

    >>> {k: v.tolist() for k, v in add({"x": np.array([1, 2])}, {"x": np.array([3, 4])}).items()}
    {'x': [4, 6]}
    """
    names = profiles[0].keys() if profiles else ()
    return {name: np.sum([p[name] for p in profiles], axis=0).astype(np.int64) for name in names}


def encode_profile(profile: Mapping[str, Array], rows: int) -> bytes:
    """Write a profile of so many rows, in the same bytes wherever it was counted.

    >>> decode_profile(encode_profile({"x": np.array([1, 2])}, 3))
    ({'x': array([1, 2])}, 3)
    """
    counts = {name: np.asarray(profile[name]).tolist() for name in sorted(profile)}
    about = {"schema": SCHEMA, "rows": rows, "counts": counts}
    return json.dumps(about, separators=(",", ":"), ensure_ascii=False).encode()


def decode_profile(text: str | bytes) -> tuple[Profile, int]:
    """Read a profile and its number of rows back."""
    data = json.loads(text)
    if data.get("schema") != SCHEMA:
        raise ValueError(f"profile of schema {data.get('schema')}, this trilho-runtime reads {SCHEMA}")
    return {name: np.array(counts, np.int64) for name, counts in data["counts"].items()}, int(data["rows"])


def _windows(window: Ints | None, rows: int) -> tuple[Ints, Ints, Ints]:
    """Give each row's group (its window, or itself without time), which are kept as blocks, and their numbers."""
    if window is None:
        return np.arange(rows), np.zeros(0, np.int64), np.zeros(0, np.int64)
    numbers, groups, sizes = np.unique(window, return_inverse=True, return_counts=True)
    kept = kept_windows(sizes)
    return groups.astype(np.int64), kept, numbers[kept]


def kept_windows(sizes: Ints) -> Ints:
    """Choose the windows that are kept as blocks, by their numbers of rows in order of time."""
    full = np.flatnonzero(sizes >= np.median(sizes) / 4)  # a first or last window that is cut off says little
    if len(full) > BLOCKS:  # neighbours stay together, since their difference shows how rows depend on each other
        starts = np.unique(np.linspace(0, len(full) - 2, BLOCKS // 2).astype(np.int64) // 2 * 2)
        full = full[np.sort(np.concatenate([starts, starts + 1]))]
    return full


def _fit_column(name: str, column: Array, groups: Ints, kept: Ints, calendar: bool) -> tuple[list[Feature], str]:
    """Give a column's features; where there is none, say why."""
    kind = kind_of(column)
    if kind is None or (kind == "timestamp" and not calendar):
        return [], "a timestamp moves by itself" if kind else "a duration is not watched"
    if kind == "timestamp":
        return _fit_calendar(name, column, groups, kept)
    if kind == "number":
        values, nulls = as_numbers(column)
        return _fit_numbers(Feature(name, kind, (), _NONE, _NONE, _NONE), values, nulls, groups, kept)
    texts = as_texts(column)
    filled = sum(text is not None for text in texts)
    if filled < SMALLEST:
        return [], f"{filled} values in the reference"
    if kind == "boolean":
        return [_fit_fixed(name, kind, ("false", "true"), column, groups, kept)], ""
    found = categories(texts, groups)
    if found is None and is_prose(texts):
        return _fit_prose(name, texts, groups, kept)
    if found is None:
        return [], "nearly every value is new"
    placed = Feature(name, "category", found.labels, found.place, found.inside, found.place, values=found.values)
    return [_counted(placed, groups, kept)], ""


def _fit_numbers(about: Feature, values: Floats, nulls: Nulls, groups: Ints, kept: Ints) -> tuple[list[Feature], str]:
    finite = values[np.isfinite(values)]
    if len(finite) < SMALLEST:
        return [], f"{len(finite)} values in the reference"
    edges = edges_of(finite)
    inside = place_numbers(values, nulls, edges)
    place = leave_out(inside, values, groups, len(edges))
    made = replace(about, labels=number_labels(edges), counts=place, inside=inside, edges=edges)
    return [_counted(made, groups, kept)], ""


def _fit_fixed(
    name: str, kind: Kind, values: tuple[str, ...], column: Array, groups: Ints, kept: Ints, part: Part = ""
) -> Feature:
    """Count a column whose bins are known without looking: both values of a flag, the hours of a day."""
    about = Feature(name, kind, (*values, "unseen", "null"), _NONE, _NONE, _NONE)
    if part:
        about = replace(about, name=f"{name}:{part}", source=name, part=part)
    else:
        about = replace(about, values={value: place for place, value in enumerate(values)})
    place = about.place(column)
    return _counted(replace(about, counts=place, inside=place), groups, kept)


def _fit_calendar(name: str, column: Array, groups: Ints, kept: Ints) -> tuple[list[Feature], str]:
    """Watch a time by its hour and weekday, but for what a window's place in time decides."""
    found = [
        _fit_fixed(name, "timestamp", labels, column, groups, kept, part) for part, labels in PARTS_OF_TIME.items()
    ]
    found = [f for f in found if f.counts[:-2].sum() >= SMALLEST]
    if not found:
        return [], "no times in the reference"
    found = [f for f in found if not _follows_windows(f) and not (f.part == "hour" and not f.counts[1:-2].any())]
    return found, "its hour and weekday are those of the window"


def _follows_windows(feature: Feature) -> bool:
    """Say whether windows hardly overlap, as days do in their weekdays."""
    shares = feature.blocks / np.maximum(feature.blocks.sum(1, keepdims=True), 1)
    apart = 0.5 * np.abs(shares - feature.counts / feature.counts.sum()).sum(1)
    return bool(len(shares) and np.mean(apart) > APART)


def _fit_prose(name: str, texts: list[str | None], groups: Ints, kept: Ints) -> tuple[list[Feature], str]:
    """Watch a text by its length, and by how many of its words the reference did not hold."""
    length = Feature(f"{name}:length", "text", (), _NONE, _NONE, _NONE, source=name, part="length")
    made, why = _fit_numbers(length, *as_lengths(texts), groups, kept)
    known = vocabulary(texts)
    if known:
        place = place_words(texts, known)
        about = replace(length, name=f"{name}:words", part="words", labels=(*UNSEEN_WORDS, "unseen", "null"))
        made.append(_counted(replace(about, values=known, counts=place, inside=place), groups, kept))
    return made, why


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
        **({"source": feature.source, "part": feature.part} if feature.part else {}),
    }


def _feature_from_json(data: Mapping[str, Any]) -> Feature:
    labels = tuple(data["labels"])
    values = {value: place for place, group in data["values"] for value in group}
    blocks = np.array(data["blocks"], np.int64).reshape(-1, len(labels))
    counts, inside = np.array(data["counts"], np.int64), np.array(data.get("inside", data["counts"]), np.int64)
    edges, part = np.array(data["edges"], np.float64), (data.get("source", ""), data.get("part", ""))
    return Feature(data["name"], data["kind"], labels, counts, inside, blocks, edges, values, *part)


def _feature_of_schema_1(data: Mapping[str, Any]) -> Feature:
    """Read a feature whose numbers had no bins of their own for infinities and NaN."""
    feature = _feature_from_json(data)
    if feature.kind != "number":
        return feature
    counts, inside, blocks = (
        np.insert(counted, [counted.shape[-1] - 1] * 2, 0, axis=-1)
        for counted in (feature.counts, feature.inside, feature.blocks)
    )
    labels = number_labels(feature.edges)
    return replace(feature, labels=labels, counts=counts, inside=inside, blocks=blocks)
