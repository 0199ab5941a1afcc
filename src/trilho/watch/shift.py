"""Why a metric changed: what the rows' being of other kinds explains (covariate shift), and the rest, concept drift.

Trees tell held-out rows from a window's, and so how much more often a row's like is served today. The held-out losses,
weighted by that, say how good the model would be today had nothing but the inputs changed. A second set of trees says
what loss a row usually has, and only what these get wrong is weighted: the answer is right when either of both is.

Robins, Rotnitzky and Zhao: Estimation of regression coefficients (1994), for weights and model together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from trilho.watch.boosting import Rows, cross_fit
from trilho.watch.estimate import LEAST_HELD, LEAST_IN_BIN, LEAST_SERVED, MOST_OUTSIDE
from trilho.watch.expected import TwoClasses
from trilho.watch.held import Held, Served, losses_of
from trilho.watch.ratio import ScoreBins, density_ratio

Floats = NDArray[np.float64]
Bins = NDArray[np.uint8]
Way = Literal["both", "weights", "model"]
Some = TypeVar("Some", Held, Served)
Z = 1.959964
MOST_ROWS = 20_000
LEAST_EFFECTIVE = 40.0
REPLICATES = 60


@dataclass(frozen=True)
class Part:
    """A part of a change, with its 95% interval, in the metric's own unit and direction."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Split:
    """A metric's change since it was validated: `covariate` and `concept` add up to `total`; `why` where it can not be
    told. `effective` is how many held-out rows the window's kinds of rows are known by."""

    metric: str
    total: Part | None
    covariate: Part | None
    concept: Part | None
    observable: bool
    why: str = ""
    effective: float = 0.0

    @property
    def words(self) -> str:
        """Say it in a sentence."""
        if self.total is None or self.covariate is None or self.concept is None:
            return f"the change of {self.metric} could not be split ({self.why})"
        told = f"{self.metric} changed by {_told(self.total)}: {_told(self.covariate)} since other rows are served"
        return f"{told}, {_told(self.concept)} since the same rows turn out otherwise (concept drift)"


def split(metric: str, held: Held, served: Served, *, way: Way = "both") -> Split:
    """Split the change of a metric between held-out rows and a window's labelled ones.

    Of both at most 20,000 rows are looked at, evenly. `way` leaves out the weights or the model, to compare.
    """
    assert served.value is not None
    fine = np.isfinite(served.value) & np.isfinite(served.prediction)
    held, served = _thinned(held), _thinned(served.take(np.flatnonzero(fine)))
    why = _why_not(metric, held, served)
    if why:
        return Split(metric, None, None, None, False, why)
    ends = ScoreBins(held.prediction)
    bins = ends.beside(held.prediction, held.bins), ends.beside(served.prediction, served.bins)
    ordered = (True, *held.ordered)
    ratio = density_ratio(*bins, ordered) if way != "model" else np.ones(held.rows)
    effective = float(ratio.sum() ** 2 / (ratio**2).sum())
    if effective < LEAST_EFFECTIVE:
        return Split(metric, None, None, None, False, "hardly a held-out row is like those of the window", effective)
    losses = losses_of(metric, held), losses_of(metric, served)
    if losses[0] is None or losses[1] is None:
        found = _of_ranks(metric, held, served, ratio)
    else:
        found = _of_means(metric, losses[0], losses[1], bins, ordered, ratio, way)
    if found is None:
        return Split(metric, None, None, None, False, "it is not defined on these rows", effective)
    return Split(metric, *found, True, "", effective)


def _of_means(
    metric: str,
    before: Floats,
    after: Floats,
    bins: tuple[Bins, Bins],
    ordered: tuple[bool, ...],
    ratio: Floats,
    way: Way,
) -> tuple[Part, Part, Part]:
    """Split the change of a mean of losses, with the intervals of what each row adds to it.

    How far weights and model alone are from both together says how sure these are: the interval is widened by it.
    """
    usual, today = np.zeros(len(before)), np.zeros(len(after))
    if way != "weights":
        trees = cross_fit("squared", Rows(bins[0], before, np.zeros(len(before)), np.ones(len(before))), ordered)
        usual = trees.unseen
        today = np.mean([part(bins[1]) for part in trees.parts], axis=0)
    left = ratio * (before - usual)
    expected = float(today.mean() + left.mean())
    alone = float((ratio * before).mean()), float(today.mean())
    doubt = max(abs(expected - x) for x in alone) if way == "both" else 0.0
    means = float(before.mean()), expected, float(after.mean())
    root = metric == "rmse"
    means = tuple(max(x, 0.0) ** 0.5 for x in means) if root else means
    steep = tuple(1 / max(2 * x, 1e-300) for x in means) if root else (1.0, 1.0, 1.0)
    per_row = (steep[2] * after, -steep[0] * before), (steep[1] * today, steep[1] * left - steep[0] * before)
    rest = steep[2] * after - steep[1] * today, -steep[1] * left
    luck = [sum(float(x.var()) / len(x) for x in pair) for pair in (*per_row, rest)]
    errors = [luck[0] ** 0.5, *((x + (steep[1] * doubt / Z) ** 2) ** 0.5 for x in luck[1:])]
    values = means[2] - means[0], means[1] - means[0], means[2] - means[1]
    total, covariate, concept = (Part(x, x - Z * e, x + Z * e) for x, e in zip(values, errors, strict=True))
    return total, covariate, concept


def _of_ranks(metric: str, held: Held, served: Served, ratio: Floats) -> tuple[Part, Part, Part] | None:
    """Split the change of a metric that is no mean, such as the AUC: weighted, with intervals by the bootstrap."""
    assert served.value is not None
    before, after, rng = TwoClasses(metric, held.prediction), TwoClasses(metric, served.prediction), _rng()
    found = []
    for k in range(REPLICATES + 1):
        luck = [rng.poisson(1.0, rows).astype(np.float64) if k else np.ones(rows) for rows in (held.rows, served.rows)]
        three = (
            before.of(held.value, luck[0]),
            before.of(held.value, luck[0] * ratio),
            after.of(served.value, luck[1]),
        )
        if any(x is None for x in three):
            return None
        found.append([float(x) for x in three if x is not None])
    at = np.array(found)
    changes = at[:, 2] - at[:, 0], at[:, 1] - at[:, 0], at[:, 2] - at[:, 1]
    total, covariate, concept = (Part(x[0], x[0] - Z * x[1:].std(), x[0] + Z * x[1:].std()) for x in changes)
    return total, covariate, concept


def _why_not(metric: str, held: Held, served: Served) -> str:
    if not held.bins.shape[1]:
        return "the package keeps no bins of its held-out rows"
    if held.rows < LEAST_HELD or served.rows < LEAST_SERVED:
        return f"{held.rows} held-out and {served.rows} labelled rows, {LEAST_HELD} and {LEAST_SERVED} are needed"
    if metric not in ("roc_auc", "f1", "precision", "recall") and losses_of(metric, held) is None:
        return "the held-out rows keep no probability of each class"
    for name, before, after in zip(held.features, held.bins.T, served.bins.T, strict=True):
        share = float(np.mean(np.bincount(before, minlength=256)[after] < LEAST_IN_BIN))
        if share > MOST_OUTSIDE:
            return f"{share:.0%} of rows have values of {name} that hardly a held-out row had"
    return ""


def _thinned(rows: Some) -> Some:
    return rows.take(np.arange(0, rows.rows, -(-rows.rows // MOST_ROWS))) if rows.rows > MOST_ROWS else rows


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _told(part: Part) -> str:
    return f"{part.value:+.3g} ({part.low:+.3g} to {part.high:+.3g})"
