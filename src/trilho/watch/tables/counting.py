"""The one SQL text that counts a table in the bins of a reference, and how its answer is read.

Numbers are counted cumulatively, "at most this edge", so that each value is compared and never placed: databases do
this column-wise, and no rounding can move a value between bins. What is no number is NaN there, at most no edge: a
column without NULL is compared twice as fast. Known texts are an ENUM in DuckDB, which looks each
one up once; the portable text, for other engines, compares with lists. Where columns lie apart (Parquet, Arrow),
texts are grouped, one column after the other, which is quicker than all their histograms in one go.
"""

# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from trilho.data.tables import name as quote
from trilho.data.tables import text as literal
from trilho_runtime.bins import LOWER, PARTS_OF_TIME
from trilho_runtime.profile import Feature, Profile

TIMES = ("TIMESTAMP", "DATE")
NUMERIC = ("DOUBLE", "FLOAT", "REAL", "DECIMAL", "INTEGER", "UINTEGER", "BIGNUM")
FLOATS = ("DOUBLE", "FLOAT", "REAL")
MONDAY = "DATE '1970-01-05'"


def number_of(column: str, kind: str) -> str:
    """Give SQL for a column as a double; NULL where its value is no number."""
    if kind == "VARCHAR":
        return f"TRY_CAST({column} AS DOUBLE)"
    if kind == "BOOLEAN":
        return f"CAST(CAST({column} AS INT) AS DOUBLE)"
    if kind.startswith(NUMERIC) or kind.endswith("INT"):
        return f"CAST({column} AS DOUBLE)"
    return "CAST(NULL AS DOUBLE)"


def text_of(column: str, kind: str) -> str:
    """Give SQL for a column as text, the same text however the value was stored."""
    if kind == "VARCHAR":
        return column
    if kind == "BOOLEAN":
        return f"CASE WHEN {column} THEN 'true' WHEN NOT {column} THEN 'false' END"
    if kind in FLOATS:
        whole = f"{column} = FLOOR({column}) AND ABS({column}) < 9e18"
        short = f"CAST(CAST({column} AS BIGINT) AS VARCHAR)"
        return f"CASE WHEN ISNAN({column}) THEN NULL WHEN {whole} THEN {short} ELSE CAST({column} AS VARCHAR) END"
    return f"CAST({column} AS VARCHAR)"


def time_of(column: str, kind: str) -> str:
    """Give SQL for a column as a timestamp in UTC; NULL where its value is no time."""
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"({column} AT TIME ZONE 'UTC')"
    if kind.startswith(TIMES):
        return column
    return f"TRY_CAST({column} AS TIMESTAMP)" if kind == "VARCHAR" else "CAST(NULL AS TIMESTAMP)"


def real(value: float) -> str:
    """Write a number as a double, digit for digit; without an exponent it would be read as a decimal.

    >>> real(0.1), real(1e-7)
    ('0.1e0', '1e-07')
    """
    return repr(value) if "e" in repr(value) else f"{value!r}e0"


@dataclass
class CountingQuery:
    """The SQL of a count: what is asked of each feature, and how the answers become counts."""

    source: str
    types: Mapping[str, str]
    portable: bool = False
    group: str = ""
    _inner: dict[str, str] = field(default_factory=dict)
    _words: dict[str, str] = field(default_factory=dict)
    _fresh: dict[str, str] = field(default_factory=dict)
    _asked: list[str] = field(default_factory=list)

    def text(self, features: Sequence[Feature]) -> str:
        """Give the SQL text; its columns are the group, the number of rows, then what each feature asks for."""
        for place, feature in enumerate(features):
            if feature.column in self.types:
                self._ask(f"{place}", feature)
        inner = {**({"g": self.group} if self.group else {}), **self._inner} or {"one": "1"}
        table = f"SELECT {_listed(inner)} FROM {self.source}"
        for more in (self._words, self._fresh):
            table = f"SELECT *, {_listed(more)} FROM ({table}) AS t" if more else table
        asked = ", ".join(["g" if self.group else "0", "COUNT(*)", *self._asked])
        return f"SELECT {asked} FROM ({table}) AS t" + (" GROUP BY g" if self.group else "")

    def _ask(self, at: str, feature: Feature) -> None:
        column, kind = quote(feature.column), self.types[feature.column]
        text = text_of(column, kind)
        if feature.part == "words":
            self._ask_words(at, feature, text)
        elif feature.part == "length":
            self._ask_number(at, feature, text, f"CAST(LENGTH({text}) AS DOUBLE)")
        elif feature.part:
            self._ask_calendar(at, feature, column, time_of(column, kind))
        elif len(feature.edges):
            self._ask_number(at, feature, column, number_of(column, kind))
        else:
            self._ask_category(at, feature, text)

    def _ask_number(self, at: str, feature: Feature, column: str, number: str) -> None:
        self._inner |= {f"x{at}": column, f"v{at}": f"COALESCE({number}, CAST('NaN' AS DOUBLE))"}
        v, (first, *ends) = f"v{at}", [float(edge) for edge in feature.edges]
        self._asked += [f"COUNT(x{at})", f"COUNT_IF(ISNAN({v}))"]
        self._asked += [f"COUNT_IF({v} = CAST('{end}' AS DOUBLE))" for end in ("-inf", "inf")]
        self._asked += [f"COUNT_IF({v} < {real(first)})", *(f"COUNT_IF({v} <= {real(end)})" for end in ends)]

    def _ask_calendar(self, at: str, feature: Feature, column: str, time: str) -> None:
        days = f"DATE_DIFF('day', {MONDAY}, CAST({time} AS DATE))"
        place = f"EXTRACT(HOUR FROM {time})" if feature.part == "hour" else f"(({days} % 7) + 7) % 7"
        if feature.part == "hour" and self.types[feature.column] == "DATE":
            place = f"EXTRACT(HOUR FROM CAST({time} AS TIMESTAMP))"
        self._inner |= {f"x{at}": column, f"h{at}": place}
        self._asked += [f"COUNT(x{at})", f"COUNT(h{at})"]
        self._asked += [f"COUNT_IF(h{at} = {k})" for k in range(len(PARTS_OF_TIME[feature.part]))]

    def _ask_category(self, at: str, feature: Feature, text: str) -> None:
        self._inner[f"t{at}"] = text
        self._asked.append(f"COUNT(t{at})")
        if not self.portable:
            self._asked.append(f"HISTOGRAM(TRY_CAST(t{at} AS {_enum(feature)}))")
            return
        held: dict[int, list[str]] = {place: [] for place in range(len(feature.labels) - 2)}
        for value, place in feature.values.items():
            held[place].append(literal(value))
        self._asked += [f"COUNT_IF(t{at} IN ({', '.join(values)}))" if values else "0" for values in held.values()]

    def _ask_words(self, at: str, feature: Feature, text: str) -> None:
        capitals, small = "".join(map(chr, LOWER)), "".join(map(chr, LOWER.values()))
        lower = f"TRANSLATE({text}, {_spelt(capitals)}, {literal(small)})"
        self._inner |= {f"x{at}": text, f"t{at}": f"STRING_SPLIT({lower}, ' ')"}
        self._words[f"w{at}"] = f"LIST_FILTER(t{at}, lambda y: y <> '')"
        fresh = f"NOT LIST_CONTAINS([{', '.join(literal(word) for word in feature.values)}], y)"
        size = f"CASE WHEN x{at} IS NOT NULL THEN ARRAY_LENGTH(w{at}) END"  # some engines split NULL into nothing
        self._fresh |= {f"n{at}": size, f"f{at}": f"ARRAY_LENGTH(LIST_FILTER(w{at}, lambda y: {fresh}))"}
        n, f = f"n{at}", f"f{at}"
        self._asked += [
            f"COUNT_IF({n} > 0 AND {f} = 0)",
            f"COUNT_IF({f} > 0 AND {f} < {n} AND 4 * {f} <= {n})",
            f"COUNT_IF({f} < {n} AND 4 * {f} > {n} AND 2 * {f} <= {n})",
            f"COUNT_IF({f} < {n} AND 2 * {f} > {n})",
            f"COUNT_IF({n} = 0)",
            f"COUNT_IF({n} > 0 AND {f} = {n})",
        ]


def is_grouped(feature: Feature) -> bool:
    """Say whether a feature's bins are lists of known texts, which can be grouped."""
    return not feature.part and not len(feature.edges)


def grouping_text(features: Sequence[Feature], source: str, types: Mapping[str, str], group: str) -> str:
    """Give SQL that groups texts: its columns are the feature's place, the group, the text, all rows, those not null.

    Texts are grouped as they lie, which dictionaries make quick; those not known come as one. Where a column of ids has
    more groups than memory holds, DuckDB keeps them on disk.
    """
    parts = []
    for place, feature in enumerate(features):
        text = text_of(quote(feature.column), types[feature.column])
        columns, by = (f"{text} AS t, {group} AS g", "g, t") if group else (f"{text} AS t", "t")
        held = f"SELECT {by}, COUNT(*) AS n FROM (SELECT {columns} FROM {source}) AS t GROUP BY {by}"
        known = f"CAST(TRY_CAST(t AS {_enum(feature)}) AS VARCHAR) AS p"
        every = f"{known}, SUM(n), COALESCE(SUM(n) FILTER (t IS NOT NULL), 0)"
        parts.append(f"SELECT {place}, {'g' if group else 'NULL'} AS g, {every} FROM ({held}) AS t GROUP BY g, p")
    return " UNION ALL ".join(parts)


def add_grouped(
    answers: Sequence[Sequence[Any]], features: Sequence[Feature], profiles: Mapping[int | None, Profile]
) -> None:
    """Add the answers of a grouping text to the counts of each group."""
    for place, group, text, rows, there in answers:
        feature = features[place]
        counts = profiles[None if group is None else int(group)][feature.name]
        counts[-1] += int(rows - there)
        counts[len(counts) - 2 if text is None else feature.values[text]] += int(there)


def read_counts(row: Sequence[Any], features: Sequence[Feature], names: Mapping[str, str]) -> tuple[Profile, int]:
    """Read one row of a count's answer: the profile and its rows."""
    rows, answers = int(row[1]), iter(row[2:])
    return {f.name: _read(f, rows, answers if f.column in names else None) for f in features}, rows


def _read(feature: Feature, rows: int, answers: Iterator[Any] | None) -> Any:
    counts = np.zeros(len(feature.labels), np.int64)
    if answers is None:
        counts[-1] = rows
    elif len(feature.edges):
        counts[:] = _read_number([next(answers) or 0 for _ in range(4 + len(feature.edges))], rows)
    elif feature.part == "words":
        counts[:-1] = [next(answers) or 0 for _ in counts[:-1]]
        counts[-1] = rows - counts.sum()
    elif feature.part:
        there, timed, *held = (next(answers) or 0 for _ in counts)
        counts[:] = [*held, there - timed, rows - there]
    else:
        _read_category(feature, counts, answers, rows)
    return counts


def _read_number(answers: Sequence[int], rows: int) -> list[int]:
    there, nan, lowest, highest, *upto = answers
    inner = [b - a for a, b in pairwise(upto)]
    above = rows - nan - highest - upto[-1]
    return [upto[0] - lowest, *inner, above, lowest + highest, nan + there - rows, rows - there]


def _read_category(feature: Feature, counts: Any, answers: Iterator[Any], rows: int) -> None:
    there, first = next(answers), next(answers)
    if first is None or isinstance(first, dict):
        for value, held in (first or {}).items():
            counts[feature.values[value]] += held
    else:
        counts[0], counts[1:-2] = first, [next(answers) for _ in counts[1:-2]]
    counts[-2:] = there - counts.sum(), rows - there


def _enum(feature: Feature) -> str:
    return f"ENUM ({', '.join(literal(value) for value in feature.values)})"


def _spelt(letters: str) -> str:
    """Write letters as SQL, the blanks among them by their numbers."""
    plain = "".join(letter for letter in letters if letter.isalpha())
    return " || ".join([literal(plain), *(f"CHR({ord(letter)})" for letter in letters if not letter.isalpha())])


def _listed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{sql} AS {alias}" for alias, sql in columns.items())
