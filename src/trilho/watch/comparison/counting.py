"""Both tables of a comparison counted in the same bins, chosen without looking at which row is from which table.

Bins that follow one table make the other look different from it. So a number's bins lie between quantiles of rows of
both, chosen by their place in their files; a category's are its 30 most frequent values in both together, 8 bands of
frequency for the others, and the rest.
"""

# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trilho.data.tables import name as quote
from trilho.watch.comparison.source import Source, opened

Ints = NDArray[np.int64]
Kind = Literal["number", "category", "boolean", "timestamp", "text"]
QUANTILES, FREQUENT, BANDS = 20, 30, 8
LOOKED_AT, ROWS = 60_000, "_rows"
SMALLEST = 10
TOGETHER = 40  # columns in one query
NEARLY_ALL = 0.98  # of the values looked at are different: an identifier
HOURS_FROM, WEEKDAYS_FROM = (
    28,
    56,
)  # days: over fewer, the days at both ends decide how often an hour or weekday is there
SECONDS = 86400.0
WHOLE = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
)
REAL = ("FLOAT", "DOUBLE", "DECIMAL", "BIGNUM")
TIMES = ("TIMESTAMP", "DATE")
TEXTS = ("VARCHAR", "ENUM", "UUID")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class Pair:
    """One column, counted in both tables. `ordered` leading bins are in order."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    before: Ints
    after: Ints
    ordered: int = 0
    note: str = ""


@dataclass
class Counted:
    """What was counted: a pair for each column, why the others were skipped, and the rows of both tables."""

    rows: tuple[int, int]
    pairs: list[Pair] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Wanted:
    """A feature to be counted: SQL for its value in either table (None where the table does not have the column)."""

    name: str
    kind: Kind
    before: str | None
    after: str | None
    note: str = ""


def counts_of(reference: Any, current: Any, ignore: Collection[str] = ()) -> Counted:
    """Count every column that two tables can be compared by."""
    with opened(reference, current) as (before, after):
        counted = Counted((before.rows(), after.rows()))
        numbers, groups = _features(before, after, counted, set(ignore))
        for start in range(0, len(numbers), TOGETHER):
            _count_numbers(before, after, numbers[start : start + TOGETHER], counted)
        for one in groups:
            counted.pairs.append(_count_group(before, after, one, counted.rows))
        order = {name: place for place, name in enumerate(dict.fromkeys((*before.types, *after.types)))}
        counted.pairs.sort(key=lambda pair: order.get(pair.name, order.get(pair.name.rpartition(":")[0], -1)))
        return counted


def kind_of(type_: str) -> Kind | None:
    """Say what a column of this type is compared as; None where it is not.

    >>> kind_of("DECIMAL(18,3)"), kind_of("ENUM('a', 'b')"), kind_of("STRUCT(a INTEGER)")
    ('number', 'category', None)
    """
    if type_.endswith("]"):
        return None
    if type_.startswith((*WHOLE, *REAL)):
        return "number"
    if type_ == "BOOLEAN":
        return "boolean"
    return "timestamp" if type_.startswith(TIMES) else "category" if type_.startswith(TEXTS) else None


def _features(before: Source, after: Source, counted: Counted, ignore: set[str]) -> tuple[list[_Wanted], list[_Wanted]]:
    """Give the numbers and the others; what cannot be compared goes to `skipped`, with the reason."""
    numbers, groups, texts = list[_Wanted](), list[_Wanted](), list[_Wanted]()
    for name, type_ in before.types.items():
        kind = kind_of(type_)
        if name in ignore:
            counted.skipped[name] = "ignored"
        elif kind is None:
            counted.skipped[name] = f"a {type_.partition('(')[0].lower()} is not compared"
        else:
            wanted = _wanted(name, kind, type_, after.types.get(name))
            (numbers if wanted.kind == "number" else texts if wanted.kind == "category" else groups).append(wanted)
    counted.skipped |= {name: "only in the second table" for name in after.types if name not in before.types}
    more_numbers, categories = _sorted_texts(before, after, texts, counted)
    groups = [part for one in groups for part in _parts(before, after, one, counted)]
    kept = _without_row_numbers(before, after, numbers, counted)
    return [*kept, *more_numbers], [*groups, *categories]


def _wanted(name: str, kind: Kind, type_: str, other: str | None) -> _Wanted:
    """Choose how a column is compared whose types may differ: two kinds are compared as text, a lost one as nulls."""
    if other is None:
        return _Wanted(name, kind, _as(kind, name, type_), None, "not in the second table")
    found = kind_of(other)
    if found == kind:
        return _Wanted(name, kind, _as(kind, name, type_), _as(kind, name, other))
    note = f"{type_.partition('(')[0].lower()} in the first table, {other.partition('(')[0].lower()} in the second"
    if kind == "number" and found == "category":
        return _Wanted(name, "number", _as(kind, name, type_), f"TRY_CAST({quote(name)} AS DOUBLE)", note)
    text = f"CAST({quote(name)} AS VARCHAR)"
    return _Wanted(name, "category", text, text, note)


def _as(kind: Kind, name: str, type_: str) -> str:
    if kind == "number":
        return quote(name) if type_ in ("DOUBLE", "FLOAT") else f"CAST({quote(name)} AS DOUBLE)"
    if kind == "timestamp":
        return f"({quote(name)} AT TIME ZONE 'UTC')" if "TIME ZONE" in type_ else f"CAST({quote(name)} AS TIMESTAMP)"
    return quote(name) if type_ == "VARCHAR" else f"CAST({quote(name)} AS VARCHAR)"


def _selected(source: Source, wanted: Sequence[_Wanted], *, second: int, share: float = 1.0) -> str:
    """Give a SELECT of the features' values under the names v0, v1, ..., of all rows or a share chosen by place."""
    columns = [(one.after if second else one.before) or "NULL" for one in wanted]
    listed = ", ".join(f"{column} AS v{place}" for place, column in enumerate(columns)) or "1 AS v0"
    chosen = f" WHERE HASH({source.position}) % 1000000 < {round(share * 1e6)}" if share < 1 else ""
    return f"SELECT {listed} FROM {source.table}{chosen}"


def _looked_at(rows: tuple[int, int]) -> float:
    return min(LOOKED_AT / max(sum(rows), 1), 1.0)


def _sorted_texts(
    before: Source, after: Source, texts: list[_Wanted], counted: Counted
) -> tuple[list[_Wanted], list[_Wanted]]:
    """Tell categories, texts that people write and identifiers apart; of the latter two nearly every value is new."""
    numbers, categories = list[_Wanted](), list[_Wanted]()
    if not texts:
        return numbers, categories
    share = _looked_at(counted.rows)
    asked = ", ".join(
        f"COUNT(DISTINCT v{i}), COUNT(v{i}), COALESCE(AVG(CAST(CONTAINS(TRIM(v{i}), ' ') AS INT)), 0)"
        for i in range(len(texts))
    )
    looks = [
        s.ask(f"SELECT {asked} FROM ({_selected(s, texts, second=k, share=share)})")[0]
        for k, s in enumerate((before, after))
    ]
    for i, one in enumerate(texts):
        seen = [look[3 * i : 3 * i + 3] for look in looks]
        filled = sum(end[1] for end in seen)
        new = [end[0] / end[1] for end in seen if end[1]]
        if filled < SMALLEST and share == 1:
            counted.skipped[one.name] = f"{filled} values"
        elif new and min(new) > 0.5 and max(end[2] for end in seen) > 0.5:
            lengths = [f"CAST(LENGTH({x}) AS DOUBLE)" if x else None for x in (one.before, one.after)]
            numbers.append(_Wanted(f"{one.name}:length", "text", lengths[0], lengths[1], one.note))
        elif new and filled >= SMALLEST and min(new) >= NEARLY_ALL:
            counted.skipped[one.name] = "nearly every value is new"
        else:
            categories.append(one)
    return numbers, categories


def _without_row_numbers(before: Source, after: Source, numbers: list[_Wanted], counted: Counted) -> list[_Wanted]:
    """Leave out whole numbers that count the rows: as many values as rows, nearly without gaps."""
    whole = [one for one in numbers if before.types.get(one.name, "").startswith(WHOLE) and one.after]
    if not whole:
        return numbers
    rowish = set[str]()
    parts = ", ".join(f"MIN(v{i}), MAX(v{i}), COUNT(v{i})" for i in range(len(whole)))
    ends = [s.ask(f"SELECT {parts} FROM ({_selected(s, whole, second=k)})")[0] for k, s in enumerate((before, after))]
    likely = [
        one
        for i, one in enumerate(whole)
        if all(end[3 * i + 2] >= 100 and end[3 * i + 1] - end[3 * i] + 1 >= 0.9 * end[3 * i + 2] for end in ends)
        and all(end[3 * i + 1] - end[3 * i] + 1 <= 2 * end[3 * i + 2] for end in ends)
    ]
    if likely:
        parts = ", ".join(f"APPROX_COUNT_DISTINCT(v{i}) >= 0.9 * COUNT(v{i})" for i in range(len(likely)))
        found = [
            s.ask(f"SELECT {parts} FROM ({_selected(s, likely, second=k)})")[0] for k, s in enumerate((before, after))
        ]
        rowish = {one.name for i, one in enumerate(likely) if found[0][i] and found[1][i]}
    counted.skipped |= dict.fromkeys(rowish, "it numbers the rows")
    return [one for one in numbers if one.name not in rowish]


def _parts(before: Source, after: Source, one: _Wanted, counted: Counted) -> list[_Wanted]:
    """Compare a time by its hour and weekday, where both tables cover days enough; flags stay as they are."""
    if one.kind != "timestamp":
        return [one]
    if one.after is None:
        return [_Wanted(one.name, "timestamp", f"CAST(HOUR({one.before}) AS VARCHAR)", None, one.note)]
    ends = [
        s.ask(f"SELECT EPOCH(MAX(v0)) - EPOCH(MIN(v0)), MAX(HOUR(v0)) FROM ({_selected(s, [one], second=k)})")[0]
        for k, s in enumerate((before, after))
    ]
    days = min((end[0] or 0.0) / SECONDS for end in ends)
    parts = []
    if days >= HOURS_FROM and any(end[1] for end in ends):
        before_after = [f"LPAD(CAST(HOUR({x}) AS VARCHAR), 2, '0') || ':00'" for x in (one.before, one.after)]
        parts.append(_Wanted(f"{one.name}:hour", "timestamp", before_after[0], before_after[1]))
    if days >= WEEKDAYS_FROM:
        parts.append(_Wanted(f"{one.name}:weekday", "timestamp", f"DAYNAME({one.before})", f"DAYNAME({one.after})"))
    if not parts:
        counted.skipped[one.name] = (
            f"a time moves by itself; its hours are compared over {HOURS_FROM} days or more, its weekdays over "
            f"{WEEKDAYS_FROM}, and a table here covers {days:.0f}"
        )
    return parts


def _count_numbers(before: Source, after: Source, wanted: list[_Wanted], counted: Counted) -> None:
    share = _looked_at(counted.rows)
    looks = [s.arrays(_selected(s, wanted, second=k, share=share)) for k, s in enumerate((before, after))]
    edges = list[list[float]]()
    for place in range(len(wanted)):
        seen = np.concatenate([_floats(look[f"v{place}"]) for look in looks])
        edges.append(edges_of(seen[np.isfinite(seen)]))
    parts = ["COUNT(*)"]
    for place, ends in enumerate(edges):
        v = f"v{place}"
        parts += [
            f"COUNT({v})",
            f"COUNTIF(ISNAN({v}))",
            f"COUNTIF({v} = 'inf'::DOUBLE)",
            f"COUNTIF({v} = '-inf'::DOUBLE)",
        ]
        parts += [f"COUNTIF({v} <= {end!r}::DOUBLE)" for end in ends]
    found = [
        s.ask(f"SELECT {', '.join(parts)} FROM ({_typed(_selected(s, wanted, second=k), len(wanted))})")[0]
        for k, s in enumerate((before, after))
    ]
    at = 1
    for one, ends in zip(wanted, edges, strict=True):
        width = 4 + len(ends)
        counts = [_bins(answer[0], answer[at : at + width]) for answer in found]
        at += width
        if not sum(int(x[: len(ends) + 1].sum()) for x in counts):
            counted.skipped[one.name] = "0 values"
            continue
        labels = (*number_labels(ends), "infinite", "nan", "null")
        counted.pairs.append(Pair(one.name, one.kind, labels, counts[0], counts[1], len(ends) + 1, one.note))


def _typed(select: str, columns: int) -> str:
    return f"SELECT {', '.join(f'CAST(v{i} AS DOUBLE) AS v{i}' for i in range(columns))} FROM ({select})"


def _floats(column: Any) -> NDArray[np.float64]:
    if np.ma.isMaskedArray(column):
        return np.asarray(np.ma.filled(column.astype(np.float64), np.nan), np.float64)
    return np.asarray(column, np.float64)


def edges_of(finite: NDArray[np.float64]) -> list[float]:
    """Give the inner ends of a number's bins: its quantiles, or each value where there are few.

    >>> edges_of(np.array([0.0, 0, 1, 1, 2]))
    [0.0, 1.0]
    """
    values = np.unique(finite)
    if len(values) > QUANTILES + 4:
        values = np.unique(np.quantile(finite, np.arange(1, QUANTILES + 1) / QUANTILES, method="inverted_cdf"))
    return [float(x) for x in values[:-1]]


def number_labels(ends: Sequence[float]) -> list[str]:
    """Name the bins between ends.

    >>> number_labels([0.5, 2])
    ['to 0.5', '0.5 to 2', 'above 2']
    """
    if not ends:
        return ["all values"]
    inner = [f"{a:.6g} to {b:.6g}" for a, b in pairwise(ends)]
    return [f"to {ends[0]:.6g}", *inner, f"above {ends[-1]:.6g}"]


def _bins(rows: int, answer: Sequence[int]) -> Ints:
    filled, nan, above, below, *at_most = (int(x or 0) for x in answer)
    upto = [x - below for x in at_most] + [filled - nan - above - below]
    return np.array([*np.diff(upto, prepend=0), above + below, nan, rows - filled], np.int64)


def _count_group(before: Source, after: Source, one: _Wanted, rows: tuple[int, int]) -> Pair:
    """Count a category: its most frequent values by name, the others by how frequent they are in both tables."""
    sides = [
        f"SELECT v0 AS v, COUNT(*) AS n FROM ({_selected(s, [one], second=k)}) WHERE v0 IS NOT NULL GROUP BY 1"
        for k, s in enumerate((before, after))
    ]
    found = before.ask(
        f"WITH pooled AS (SELECT COALESCE(CAST(a.v AS VARCHAR), CAST(b.v AS VARCHAR)) AS v, COALESCE(a.n, 0) AS n, "
        f"COALESCE(b.n, 0) AS m FROM ({sides[0]}) AS a FULL JOIN ({sides[1]}) AS b ON a.v = b.v), "
        f"ranked AS (SELECT *, ROW_NUMBER() OVER (ORDER BY n + m DESC, v) AS r FROM pooled), "
        f"least AS (SELECT MIN(n + m) AS t FROM ranked WHERE r <= {FREQUENT}) "
        f"SELECT CASE WHEN r <= {FREQUENT} THEN v END AS label, CASE WHEN r <= {FREQUENT} THEN r ELSE {FREQUENT} + 1 + "
        f"LEAST({BANDS}, CAST(FLOOR(LOG2(t / (n + m))) AS INT)) END AS place, SUM(n), SUM(m), COUNT(*) "
        "FROM ranked, least GROUP BY 1, 2 ORDER BY 2"
    )
    found = _in_order(one, found)
    labels = [row[0] if row[0] is not None else f"{row[4]:,} rarer values" for row in found]
    counts = [np.array([int(row[side]) for row in found], np.int64) for side in (2, 3)]
    nulls = [total - int(x.sum()) for total, x in zip(rows, counts, strict=True)]
    pair = [np.append(x, null) for x, null in zip(counts, nulls, strict=True)]
    return Pair(one.name, one.kind, (*labels, "null"), pair[0], pair[1], note=one.note)


def _in_order(one: _Wanted, found: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    if one.kind != "timestamp":
        return found
    return sorted(found, key=lambda row: WEEKDAYS.index(row[0]) if row[0] in WEEKDAYS else str(row[0]))
