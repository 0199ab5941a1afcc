"""Bins: how a column's values become a few counts that can be compared between windows and machines."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

QUANTILES = 20
FREQUENT = 30
BANDS = 8
KNOWN = 5000
SMALLEST = 10

Array = NDArray[Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Kind = Literal["number", "category"]


def as_seconds(time: Array) -> Floats:
    """Give times as seconds since 1970, whether they are datetime64 or numbers already."""
    if np.issubdtype(time.dtype, np.datetime64):
        return time.astype("datetime64[us]").astype(np.int64) / 1e6
    return np.asarray(time, np.float64)


def as_numbers(column: Array) -> Floats:
    """Give a column as floats with NaN for null; what is no number counts as out of range (infinity)."""
    if np.ma.isMaskedArray(column):
        filled: Floats = np.ma.filled(column.astype(np.float64), np.nan)
        return filled
    if column.dtype.kind in "biuf":
        return column.astype(np.float64)
    return np.array([_number(v) for v in column], np.float64)


def as_texts(column: Array) -> list[str | None]:
    """Give a column as texts with None for null, the same text however the value was stored."""
    return [_text(v) for v in column.tolist()]  # a masked array gives None where it is masked


def _is_null(value: Any) -> bool:
    if isinstance(value, float):
        return value != value
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _number(value: Any) -> float:
    if _is_null(value):
        return np.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.inf


def _text(value: Any) -> str | None:
    if type(value) is str:
        return value
    if _is_null(value):
        return None
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def kind_of(column: Array) -> Kind | None:
    """Say what a column is; None for timestamps."""
    if column.dtype.kind in "mM":
        return None
    if column.dtype.kind in "iuf":
        return "number"
    if column.dtype.kind != "O":
        return "category"
    kinds = {type(v) for v in column.tolist() if not _is_null(v)}
    if any(issubclass(k, np.datetime64) or hasattr(k, "isoformat") for k in kinds):
        return None
    numeric = bool(kinds) and all(issubclass(k, (int, float, np.number)) and not issubclass(k, bool) for k in kinds)
    return "number" if numeric else "category"


def edges_of(finite: Floats) -> Floats:
    """Give the bins' ends, the smallest and largest value included; every bin holds at least SMALLEST values."""
    steps = max(1, min(QUANTILES, len(finite) // SMALLEST))
    uppers = np.unique(np.quantile(finite, np.arange(1, steps + 1) / steps, method="inverted_cdf"))
    while len(uppers) > 1:
        held = np.bincount(np.searchsorted(uppers, finite), minlength=len(uppers))
        thin = int(np.argmin(held))
        if held[thin] >= SMALLEST:
            break
        uppers = np.delete(uppers, thin if thin < len(uppers) - 1 else thin - 1)
    return np.concatenate([[finite.min()], uppers])


def number_labels(edges: Floats) -> tuple[str, ...]:
    """Name a number's bins: below, between the ends, above, null."""
    inner = [f"{a:.6g}" if a == b else f"{a:.6g} to {b:.6g}" for a, b in pairwise(edges)]
    return (f"below {edges[0]:.6g}", *inner, f"above {edges[-1]:.6g}", "null")


def place_numbers(values: Floats, edges: Floats) -> Ints:
    """Give the bin of each number."""
    place = np.searchsorted(edges[1:], values, side="left") + 1
    place[values < edges[0]] = 0
    place[np.isnan(values)] = len(edges) + 1
    return place.astype(np.int64)


def leave_out(place: Ints, values: Floats, groups: Ints, above: int) -> Ints:
    """Count as out of range what only one window reached: that is how often a new window goes beyond all others."""
    for sign, outside in ((1.0, above), (-1.0, 0)):
        reach = np.full(int(groups.max()) + 1, -np.inf)
        np.fmax.at(reach, groups, np.where(np.isfinite(values), sign * values, -np.inf))
        far = np.argsort(reach)[-2:]
        if len(far) == 2 and np.isfinite(reach[far[0]]):
            place = np.where((groups == far[1]) & (sign * values > reach[far[0]]), outside, place)
    return place


@dataclass(frozen=True)
class Categories:
    """A category's bins: their labels, the bin of each known value, and the bin of each reference row."""

    labels: tuple[str, ...]
    values: dict[str, int]
    place: Ints  # by how often the other windows had the value
    inside: Ints  # as a served row with the same value would be placed


def categories(texts: list[str | None], groups: Ints) -> Categories | None:
    """Choose a category's bins; None when nearly every value is new, as with an identifier."""
    known: dict[str, int] = {}
    codes = np.array([-1 if t is None else known.setdefault(t, len(known)) for t in texts], np.int64)
    totals = np.bincount(codes[codes >= 0], minlength=len(known))
    order = np.argsort(-totals, kind="stable")
    top = [int(c) for c in order[:FREQUENT] if totals[c] >= SMALLEST]
    band = _bands(codes, groups, totals, order)
    frequent = np.isin(codes, top)
    if np.mean(((band < 0) & ~frequent)[codes >= 0]) > 0.5:
        return None
    bin_of_band, names = _pool(band[~frequent], len(top))
    lookup = np.full(len(known) + 1, len(top) + len(names))  # unseen; the last entry is null
    lookup[-1] += 1
    place = np.where(band >= 0, bin_of_band[np.maximum(band, 0)], lookup[0])
    place = np.where(codes < 0, lookup[-1], place)
    lookup[order[:KNOWN]] = bin_of_band[_band(totals[order[:KNOWN]])]
    lookup[top] = np.arange(len(top))
    place = np.where(frequent, lookup[codes], place)
    texts_of = list(known)
    labels = (*(texts_of[c] for c in top), *names, "unseen", "null")
    values = {texts_of[c]: int(lookup[c]) for c in order[:KNOWN]}
    return Categories(labels, values, place.astype(np.int64), lookup[codes].astype(np.int64))


def _band(frequency: Array) -> Ints:
    """Give the band of a frequency: 1, 2, 3 to 4, 5 to 8, ... , 65 and more; -1 for none."""
    with np.errstate(divide="ignore"):
        band = np.ceil(np.log2(np.maximum(frequency, 0)))
    return np.where(frequency > 0, np.clip(band, 0, BANDS - 1), -1).astype(np.int64)


def _bands(codes: Ints, groups: Ints, totals: Ints, order: Ints) -> Ints:
    """Give each row's band by how often the *other* windows had its value.

    Counting the row's own window would make every value a known one, and the first new value an alarm.
    """
    pair = codes * (int(groups.max()) + 1) + groups
    _, inverse, own = np.unique(pair, return_inverse=True, return_counts=True)
    count = int(groups.max()) + 1
    elsewhere = np.rint((totals[codes] - own[inverse]) * (count / max(count - 1, 1)))
    stored = np.zeros(len(totals), bool)
    stored[order[:KNOWN]] = True
    return np.where((codes >= 0) & stored[codes], _band(elsewhere), -1)


def _pool(band: Ints, first: int) -> tuple[Ints, list[str]]:
    """Join bands that hold too little to the next one up; give each band's bin and the bins' names."""
    held = np.bincount(band[band >= 0], minlength=BANDS)
    bins, names, open_bands, weight = np.zeros(BANDS, np.int64), list[str](), list[int](), 0
    for b in range(BANDS):
        open_bands.append(b)
        weight += int(held[b])
        bins[open_bands] = first + len(names)
        if weight >= SMALLEST:
            names.append(_band_label(open_bands))
            open_bands, weight = [], 0
    if open_bands and not names:
        names.append("other")
    elif open_bands:
        bins[open_bands] = first + len(names) - 1
        names[-1] = _band_label([*np.flatnonzero(bins == first + len(names) - 1).tolist()])
    return bins, names


def _band_label(bands: list[int]) -> str:
    low = 1 if bands[0] == 0 else 2 ** (bands[0] - 1) + 1
    high = 2 ** bands[-1]
    if bands[-1] == BANDS - 1:
        return f"others seen {low} times or more"
    return f"others seen {low} times" if low == high else f"others seen {low} to {high} times"
