"""Parts of the held-out rows on which a challenger may be worse, though it is better over all.

Each slice is asked whether the challenger loses more there than `gate.margin` allows. The loss is the block jackknife's
over the same blocks of days as the whole comparison, the widest counts, and all slices share what `gate.confidence`
leaves to luck (Holm): twenty slices refuse no more equal challengers than one does.

Measured on 400 planted worlds each, at 95%, 200 rows in a slice (benchmarks/gate_rates.py): an equal challenger is
refused in 5 to 7% (12 or 20 slices; mae, AUC and Brier score alike), in 1% where days share their luck, one that is
better everywhere in none. One that is better but on one slice, where it is half again as noisy as the champion, is
refused in 99% by mae, 15% by Brier score and 7% by AUC; at two and a half times the noise in 100%, 81% and 44%, and by
AUC in 100% where the slice has 1,000 rows: ranks and classes tell little of 200.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trilho.core.checks import Check, as_json, short
from trilho.core.metrics import HIGHER_IS_BETTER
from trilho.release.compare import FEWEST_BLOCKS, Floats, Predictions, blockings, metric_of, t_quantile

if TYPE_CHECKING:
    from trilho.config import Gate

MOST_VALUES = 20
OTHERS = "all others"
FEWEST_OF_A_CLASS = 10  # below this an area under the curve rests on a handful of rows
STEPS = 4096
NAMED = 5


@dataclass(frozen=True)
class Labels:
    """Which value of a column each row has: `place` is the value's place in `names`."""

    column: str
    place: NDArray[np.int64]
    names: Sequence[str]

    @classmethod
    def of(cls, column: str, values: Sequence[str]) -> Labels:
        """Number a column's values, the most frequent first; beyond twenty they are one.

        >>> found = Labels.of("origin", ["b", "a", "b"])
        >>> found.names, found.place.tolist()
        (['b', 'a'], [0, 1, 0])
        """
        found, place, counts = np.unique(np.asarray(values, dtype=str), return_inverse=True, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.minimum(np.arange(len(order)), MOST_VALUES)
        names = [str(found[at]) for at in order[:MOST_VALUES]]
        return cls(column, rank[place], names if len(order) <= MOST_VALUES else [*names, OTHERS])

    def where(self, keep: NDArray[np.bool_]) -> Labels:
        """Give the labels of the rows that a mask keeps."""
        return Labels(self.column, self.place[keep], self.names)


@dataclass(frozen=True)
class Slice:
    """One slice, and what was found there; `worse` is by how much the challenger loses more at least."""

    column: str
    value: str
    rows: int
    challenger: float | None = None
    champion: float | None = None
    difference: float | None = None
    chance: float | None = None
    """How probable so large a loss, or a larger one, is without a loss beyond the margin."""
    worse: float | None = None
    verdict: str = "not enough data"


def read_labels(table: Path | str, columns: Sequence[str], rows: NDArray[np.int64]) -> list[Labels]:
    """Read the values of some columns of the held-out table, for rows named by their place in it."""
    import duckdb

    wanted = ", ".join(f"coalesce(CAST({_quoted(name)} AS VARCHAR), 'null')" for name in columns)
    query = f"SELECT {wanted} FROM read_parquet(?, file_row_number=true) ORDER BY file_row_number"  # noqa: S608
    with duckdb.connect() as connection:
        found = connection.execute(query, [str(table)]).fetchall()
    by_column = list(zip(*found, strict=True)) or [()] * len(columns)
    return [
        Labels.of(name, [values[at] for at in rows.tolist()]) for name, values in zip(columns, by_column, strict=True)
    ]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def slice_checks(
    challenger: Predictions, champion: Predictions, labels: Sequence[Labels], metric: str, gate: Gate
) -> tuple[list[Check], list[dict[str, Any]]]:
    """Hold the challenger against the champion on each slice; give a check for each column, and all slices."""
    known = np.isfinite(challenger.value) & np.isfinite(challenger.prediction) & np.isfinite(champion.prediction)
    pair, kept = (challenger.where(known), champion.where(known)), [each.where(known) for each in labels]
    found = [_measure(each, place, name, pair, metric, gate) for each in kept for place, name in enumerate(each.names)]
    judged = _holm(found, gate.confidence)
    tested = sum(each.verdict != "not enough data" for each in judged)
    checks = [
        _check(each.column, [x for x in judged if x.column == each.column], tested, metric, gate) for each in kept
    ]
    return checks, [asdict(each.told) for each in judged]


@dataclass(frozen=True)
class _Measured:
    told: Slice
    low: float = math.nan
    error: float = math.nan
    freedom: int = 0

    @property
    def column(self) -> str:
        return self.told.column

    @property
    def verdict(self) -> str:
        return self.told.verdict


def _measure(
    labels: Labels, place: int, name: str, pair: tuple[Predictions, Predictions], metric: str, gate: Gate
) -> _Measured:
    inside = labels.place == place
    challenger, champion = (each.where(inside) for each in pair)
    empty = _Measured(Slice(labels.column, name, len(challenger.row)))
    if not _tells(challenger, metric, gate.rows):
        return empty
    sign = 1.0 if metric in HIGHER_IS_BETTER else -1.0
    worst: tuple[float, float, float, int, Floats] | None = None
    for block in blockings(challenger.time):
        gain, error, freedom, both = _jackknife(challenger, champion, block, metric, sign)
        if not math.isfinite(error) or freedom < FEWEST_BLOCKS - 1:
            continue
        chance = _upper_tail((-gain - gate.margin) / error, freedom) if error > 0 else float(-gain <= gate.margin)
        if worst is None or chance > worst[0]:
            worst = (chance, gain, error, freedom, both)
    if worst is None:
        return empty
    chance, gain, error, freedom, both = worst
    told = Slice(
        labels.column, name, len(challenger.row), as_json(both[0]), as_json(both[1]), as_json(gain), chance,
        verdict="pass",
    )  # fmt: skip
    return _Measured(told, gain, error, freedom)


def _tells(rows: Predictions, metric: str, fewest: int) -> bool:
    if len(rows.row) < fewest:
        return False
    ones = int(np.sum(rows.value == 1))
    return metric != "roc_auc" or min(ones, len(rows.value) - ones) >= FEWEST_OF_A_CLASS


def _jackknife(
    challenger: Predictions, champion: Predictions, block: NDArray[np.int64], metric: str, sign: float
) -> tuple[float, float, int, Floats]:
    """Leave out block by block; give the gain, its standard error, and how many blocks are free."""
    _, block = np.unique(block, return_inverse=True)
    count = int(block.max()) + 1
    weights = np.vstack([np.ones((1, count)), 1.0 - np.eye(count)])
    first, second = (metric_of(metric)(p.prediction, p.value, block, weights) for p in (challenger, champion))
    gain = sign * (first - second)
    spread = gain[1:] - gain[1:].mean()
    error = math.sqrt((count - 1) / count * float(spread @ spread))
    return float(gain[0]), error, count - 1, np.array([first[0], second[0]])


def _holm(found: Sequence[_Measured], confidence: float) -> list[_Measured]:
    """Refuse the slices whose loss is no chance, the surest first, each at what is left for those that remain."""
    order = sorted((x for x in range(len(found)) if found[x].told.chance is not None), key=lambda x: _chance(found[x]))
    verdicts, refusing = dict[int, str](), True
    for rank, at in enumerate(order):
        refusing = refusing and _chance(found[at]) <= (1 - confidence) / (len(order) - rank)
        verdicts[at] = "fail" if refusing else "pass"
    level = 1 - (1 - confidence) / max(len(order), 1)
    return [_told(each, verdicts.get(at), level) for at, each in enumerate(found)]


def _told(each: _Measured, verdict: str | None, level: float) -> _Measured:
    if verdict is None:
        return each
    worse = -each.low - t_quantile(level, each.freedom) * each.error
    return _Measured(Slice(**{**asdict(each.told), "verdict": verdict, "worse": as_json(worse)}))


def _chance(each: _Measured) -> float:
    return 1.0 if each.told.chance is None else each.told.chance


def _upper_tail(t: float, freedom: int) -> float:
    """Give the probability that Student's t is larger.

    >>> round(_upper_tail(1.833, 9), 3), _upper_tail(0.0, 3)
    (0.05, 0.5)
    """
    if t < 0:
        return 1 - _upper_tail(-t, freedom)
    angle = np.linspace(math.atan(t / math.sqrt(freedom)), math.pi / 2, STEPS)
    density = np.maximum(np.cos(angle), 0.0) ** (freedom - 1)
    area = float(np.sum((density[1:] + density[:-1]) / 2 * np.diff(angle)))
    whole = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2)) * math.sqrt(math.pi)
    return round(area / whole, 15)


def _check(column: str, found: Sequence[_Measured], tested: int, metric: str, gate: Gate) -> Check:
    slices = [each.told for each in found]
    few = [each for each in slices if each.verdict == "not enough data"]
    worse = sorted((x for x in slices if x.verdict == "fail"), key=lambda x: x.chance or 0.0)
    name = f"no worse by {column}"
    if worse:
        note = "; ".join(_loss(each, metric, gate, tested) for each in worse[:NAMED])
        return Check(name, "fail", note + _more(len(worse) - NAMED))
    told = [f"of {len(slices)} values of {column} none has the challenger worse by more than {short(gate.margin)}"]
    if few:
        told = told if len(few) < len(slices) else []
        named = ", ".join(f"{x.value} ({x.rows} rows)" for x in few[:NAMED]) + _more(len(few) - NAMED)
        told.append(f"not enough data for {named}")
    return Check(name, "pass" if len(few) < len(slices) else "not enough data", "; ".join(told), blocks=False)


def _loss(each: Slice, metric: str, gate: Gate, tested: int) -> str:
    challenger, champion, worse = (each.challenger or 0.0, each.champion or 0.0, each.worse)
    sure = f", at least {short(worse)} with {100 * gate.confidence:g}% confidence" if worse and worse > 0 else ""
    over = f" over {tested} slices" if tested > 1 and sure else ""
    return (
        f"{each.column} {each.value} ({each.rows} rows): {metric} {short(challenger)}, the champion {short(champion)}: "
        f"worse by {short(-(each.difference or 0.0))}{sure}{over}; allowed: up to {short(gate.margin)}"
    )


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
