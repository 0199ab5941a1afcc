"""Bins: how a column's values become a few counts that can be compared between windows and machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

QUANTILES = 20
FREQUENT = 30
BANDS = 8
KNOWN = 20_000
SMALLEST = 10

Array = NDArray[Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Nulls = NDArray[np.bool_]
Kind = Literal["number", "category", "boolean", "timestamp", "text"]
Part = Literal["", "hour", "weekday", "length", "words"]

VOCABULARY = 1000
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PARTS_OF_TIME: dict[Part, tuple[str, ...]] = {"hour": tuple(f"{hour:02}:00" for hour in range(24)), "weekday": WEEKDAYS}
UNSEEN_WORDS = ("all words known", "to a quarter of words new", "to half of words new", "most words new", "no words")
LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ\t\n\r", "abcdefghijklmnopqrstuvwxyz   ")
HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000


def as_seconds(time: Array) -> Floats:
    """Give times as seconds since 1970, whether they are datetime64 or numbers already."""
    if np.issubdtype(time.dtype, np.datetime64):
        return time.astype("datetime64[us]").astype(np.int64) / 1e6
    return np.asarray(time, np.float64)


def as_numbers(column: Array) -> tuple[Floats, Nulls]:
    """Give a column as floats, and where it is null; what is no number is NaN, and not null.

    A masked array tells null and NaN apart. A plain array of floats cannot: there NaN is how null is written.
    """
    if np.ma.isMaskedArray(column) and column.dtype.kind in "biuf":
        filled: Floats = np.ma.filled(column.astype(np.float64), np.nan)
        return filled, np.ma.getmaskarray(column)
    if column.dtype.kind in "biuf":
        values = column.astype(np.float64)
        return values, np.isnan(values)
    items = column.tolist()
    return np.array([_number(v) for v in items], np.float64), np.array([_is_null(v) for v in items], bool)


def as_texts(column: Array) -> list[str | None]:
    """Give a column as texts with None for null, the same text however the value was stored."""
    items: list[Any] = column.tolist()  # a masked array gives None where it is masked
    return items if set(map(type, items)) <= {str, type(None)} else [_text(v) for v in items]


def as_lengths(texts: list[str | None]) -> tuple[Floats, Nulls]:
    """Give how many characters each text has, and where there is none."""
    nulls = np.array([text is None for text in texts], bool)
    return np.array([np.nan if text is None else len(text) for text in texts], np.float64), nulls


def _is_null(value: Any) -> bool:
    if isinstance(value, float):
        return value != value
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _number(value: Any) -> float:
    if _is_null(value):
        return np.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan


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
    """Say what a column is; None where no value says it, or it is a duration."""
    if column.dtype.kind != "O":
        kinds: dict[str, Kind | None] = {"M": "timestamp", "m": None, "b": "boolean"}
        return kinds.get(column.dtype.kind, "number" if column.dtype.kind in "iuf" else "category")
    items = column.tolist()
    found = set(map(type, items))
    if not found <= {str, type(None)}:
        found = {type(v) for v in items if not _is_null(v)}
    found.discard(type(None))
    if any(issubclass(k, timedelta) for k in found):
        return None
    if any(issubclass(k, np.datetime64) or hasattr(k, "isoformat") for k in found):
        return "timestamp"
    if found and all(issubclass(k, (bool, np.bool_)) for k in found):
        return "boolean"
    numeric = all(issubclass(k, (int, float, np.number, Decimal)) and not issubclass(k, bool) for k in found)
    return "number" if numeric and found else "category"


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
    """Name a number's bins: below, between the ends, above, infinite, nan, null."""
    inner = [f"{a:.6g}" if a == b else f"{a:.6g} to {b:.6g}" for a, b in pairwise(edges)]
    return (f"below {edges[0]:.6g}", *inner, f"above {edges[-1]:.6g}", "infinite", "nan", "null")


def place_numbers(values: Floats, nulls: Nulls, edges: Floats) -> Ints:
    """Give the bin of each number.

    >>> place_numbers(np.array([0.5, 1, 3, np.inf, np.nan, np.nan]), np.arange(6) == 5, np.array([1.0, 2.0])).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    place = np.searchsorted(edges[1:], values, side="left") + 1
    place[values < edges[0]] = 0
    place[np.isinf(values)] = len(edges) + 1
    place[np.isnan(values)] = len(edges) + 2
    place[nulls] = len(edges) + 3
    return place.astype(np.int64)


def count_numbers(values: Floats, nulls: Nulls, edges: Floats) -> Ints:
    """Count numbers in the bins that `place_numbers` puts them in; sorted once, the few ends are found among them.

    >>> count_numbers(np.array([0.5, 1, 3, -np.inf, np.nan]), np.arange(5) == 4, np.array([1.0, 2.0])).tolist()
    [1, 1, 1, 1, 0, 1]
    """
    ordered = np.sort(values)
    lowest = ordered.searchsorted(-np.inf, side="right")
    ends = ordered.searchsorted(edges[1:], side="right")
    highest, known = ordered.searchsorted([np.inf, np.nan])
    below = ordered.searchsorted(edges[:1]) - lowest
    inner = np.diff(ends, prepend=below + lowest)
    null = int(np.count_nonzero(nulls))
    tail = [highest - ends[-1], lowest + known - highest, len(ordered) - known - null, null]
    return np.concatenate([below, inner, tail]).astype(np.int64)


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
    known = {text: code for code, text in enumerate(sorted({text for text in texts if text is not None}))}
    codes = np.array([-1 if t is None else known[t] for t in texts], np.int64)
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


def place_calendar(column: Array, part: Part) -> Ints:
    """Give the hour of the day or the weekday of each time, in UTC; then come what is no time, and null.

    >>> place_calendar(np.array(["1970-01-01T13:30", "NaT"], "datetime64[us]"), "hour").tolist()
    [13, 25]
    >>> WEEKDAYS[int(place_calendar(np.array(["2026-11-24"], "datetime64[D]"), "weekday")[0])]
    'Tuesday'
    """
    moments = column
    if np.ma.isMaskedArray(column) and column.dtype.kind == "M":
        moments = np.ma.filled(column, np.datetime64("NaT"))
    strange = np.zeros(len(column), bool)
    if moments.dtype.kind != "M":
        found = [_moment(value) for value in column.tolist()]
        strange = np.array([moment is None for moment in found], bool)
        moments = np.array([np.datetime64("NaT") if m is None else m for m in found], "datetime64[us]")
    size = len(PARTS_OF_TIME[part])
    null = np.isnat(moments) & ~strange
    micros = moments.astype("datetime64[us]").astype(np.int64)
    place = micros // HOUR_US % 24 if part == "hour" else (micros // DAY_US + 3) % 7
    return np.where(null, size + 1, np.where(strange, size, place)).astype(np.int64)


def _moment(value: Any) -> np.datetime64 | None:
    """Give a value as a time in UTC, NaT for null; None where it is no time."""
    if _is_null(value):
        return np.datetime64("NaT")
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        if isinstance(value, datetime) and (offset := value.utcoffset()) is not None:
            value = value.replace(tzinfo=None) - offset
        return None if isinstance(value, (bool, int, float)) else np.datetime64(value, "us")
    except (ValueError, TypeError, OverflowError):
        return None


def words_of(text: str) -> list[str]:
    """Split a text at blanks, with the letters A to Z made small: the same words in every engine.

    >>> words_of("Chegou  TARDE, e\\nquebrado")
    ['chegou', 'tarde,', 'e', 'quebrado']
    """
    return [word for word in text.translate(LOWER).split(" ") if word]


def is_prose(texts: list[str | None]) -> bool:
    """Say whether texts are written by people: half of them hold several words."""
    filled = [text for text in texts if text is not None]
    return sum(" " in text.strip() for text in filled) * 2 >= max(len(filled), 1)


def vocabulary(texts: list[str | None]) -> dict[str, int]:
    """Choose the words that count as known: the most frequent, each in SMALLEST texts or more."""
    held: dict[str, int] = {}
    for text in texts:
        for word in set(words_of(text or "")):
            held[word] = held.get(word, 0) + 1
    known = sorted((word for word, count in held.items() if count >= SMALLEST), key=lambda word: (-held[word], word))
    return dict.fromkeys(known[:VOCABULARY], 0)


def place_words(texts: list[str | None], known: Mapping[str, int]) -> Ints:
    """Give each text's bin by its share of words that are not known; the last two are all of them, and null."""
    return np.array([_place_words(text, known) for text in texts], np.int64)


def _place_words(text: str | None, known: Mapping[str, int]) -> int:
    if text is None:
        return len(UNSEEN_WORDS) + 1
    words = words_of(text)
    fresh = sum(word not in known for word in words)
    if not words:
        return 4
    if fresh in (0, len(words)):
        return 5 if fresh else 0
    return 1 if 4 * fresh <= len(words) else 2 if 2 * fresh <= len(words) else 3
