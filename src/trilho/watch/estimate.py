"""What a metric probably is before labels come: from calibrated scores, or from a model of the loss.

For a classifier each held-out row's score becomes a chance of class 1 (a curve, see `trilho.watch.calibrating`), and
small trees on the row's bins correct what the score alone gets wrong; with chances the metric can be expected. For a
regression the trees say how large the error of such a row usually is.

What is learnt holds while rows of one kind keep turning out as they did. When that itself changes (concept drift), the
estimate cannot see it: no word here says that all is well, and where the rows are of a kind that was not held out, or
the scores say nothing, it is "not observable", with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho.watch.boosting import Boosted, CrossFitted, Rows, chance_of, cross_fit, logit_of
from trilho.watch.calibrating import Calibrated, Calibrator
from trilho.watch.expected import OF_CHANCES, THRESHOLD, ManyClasses, TwoClasses, drawn
from trilho.watch.held import Held, Served, place
from trilho.watch.ratio import ScoreBins, density_ratio
from trilho_runtime.profile import Reference

Floats = NDArray[np.float64]
Bins = NDArray[np.uint8]
OF_NUMBERS = ("mae", "rmse")
LEAST_HELD = 200
LEAST_OF_CLASS = 20
LEAST_SERVED = 30
LEAST_IN_BIN = 5
MOST_OUTSIDE = 0.1
MOST_EXTREME = 0.5
EXTREME = 1e-6
AT_ONCE = 50_000
REPLICATES = 100
CHUNK_ROWS = 300
CHUNKS = 10
RATIO_ROWS = 6_000
Z, SURE = 1.959964, 1.645
BLIND = "a change in what follows from the inputs (concept drift) is not observable without labels"


@dataclass(frozen=True)
class Estimate:
    """A metric without labels, and a 95% band that the measured one should lie in; `why` says why there is none."""

    metric: str
    value: float | None
    low: float | None
    high: float | None
    observable: bool
    why: str = ""
    rows: int = 0

    @property
    def words(self) -> str:
        """Say it in a sentence, with what it cannot say.

        >>> Estimate("mae", None, None, None, False, "60 held-out rows, 200 are needed").words
        'mae before labels: not observable (60 held-out rows, 200 are needed)'
        """
        if not self.observable:
            return f"{self.metric} before labels: not observable ({self.why})"
        told = f"{self.metric} before labels: about {self.value:.4g} ({self.low:.4g} to {self.high:.4g})"
        return f"{told}; {BLIND}"


class Estimator:
    """Learns from held-out rows, and estimates the metric of rows that have no labels yet."""

    def __init__(self, metric: str, held: Held, *, seed: int = 0) -> None:
        if metric not in (*OF_CHANCES, *OF_NUMBERS):
            raise ValueError(f"metric {metric!r}; known: {', '.join((*OF_CHANCES, *OF_NUMBERS))}")
        self.metric, self.features, self._seed = metric, held.features, seed
        self.why = _why_not(metric, held)
        self._model: _Chances | _ManyChances | _Losses | None = None
        if self.why:
            return
        self._counts = [np.bincount(column, minlength=256) for column in held.bins.T]
        if metric in OF_NUMBERS:
            self._model = _Losses(metric, held)
        elif held.shares is not None and held.named and metric != "accuracy":
            self._model = _ManyChances(metric, held, seed)
        else:
            self._model = _Chances(metric, held, seed)

    def estimate(self, served: Served) -> Estimate:
        """Estimate the metric of rows; of more than 50,000 it looks at an even part."""
        why = self.why or self._strange(served)
        if why or self._model is None:
            return Estimate(self.metric, None, None, None, False, why, served.rows)
        step = -(-served.rows // AT_ONCE)
        looked = served.take(np.arange(0, served.rows, step)) if step > 1 else served
        value, spread = self._model.estimate(looked)
        if value is None or not np.isfinite([value, spread]).all():
            return Estimate(self.metric, None, None, None, False, "it is not defined on these rows", served.rows)
        most = np.inf if self.metric in (*OF_NUMBERS, "log_loss") else 1.0
        low, high = max(value - Z * spread, 0.0), min(value + Z * spread, most)
        return Estimate(self.metric, value, low, high, True, "", served.rows)

    def _strange(self, served: Served) -> str:
        """Say why these rows are none that could be known about; nothing where they are."""
        if served.rows < LEAST_SERVED:
            return f"{served.rows} rows, {LEAST_SERVED} are needed"
        if served.bins.shape[1] != len(self.features):
            raise ValueError(f"bins of {served.bins.shape[1]} features, {len(self.features)} were held out")
        if not np.isfinite(served.prediction).all():
            return "some predictions are no numbers"
        if isinstance(self._model, _ManyChances) and served.shares is None:
            return "the rows say no probability of each class"
        for name, column, counts in zip(self.features, served.bins.T, self._counts, strict=True):
            share = float(np.mean(counts[column] < LEAST_IN_BIN))
            if share > MOST_OUTSIDE:
                return f"{share:.0%} of rows have values of {name} that hardly a held-out row had"
        if self.metric in OF_CHANCES:
            return _extreme(served.prediction)
        assert isinstance(self._model, _Losses)
        share = self._model.outside(served.prediction)
        return f"{share:.0%} of predictions are beyond those of the held-out rows" if share > MOST_OUTSIDE else ""


def estimate(
    metric: str,
    prediction: Any,
    value: Any,
    served: Any,
    *,
    columns: Mapping[str, NDArray[Any]] | None = None,
    served_columns: Mapping[str, NDArray[Any]] | None = None,
) -> Estimate:
    """Estimate the metric of served predictions, from held-out ones and what came true of these.

    Predictions are probabilities of class 1, or numbers, and values 0 or 1, or numbers. With the raw `columns` of both
    tables it also sees what the scores get wrong, and when rows are of a kind that was not held out.

    >>> rng = np.random.default_rng(0)
    >>> scores = rng.random(2000)
    >>> found = estimate("accuracy", scores, rng.random(2000) < scores, rng.random(500))
    >>> found.observable, found.low < 0.75 < found.high
    (True, True)
    """
    held = Held(np.asarray(prediction, np.float64), np.asarray(value, np.float64))
    fine = np.flatnonzero(np.isfinite(held.prediction) & np.isfinite(held.value))
    later = np.asarray(served, np.float64)
    bins = np.zeros((len(later), 0), np.uint8)
    if columns is not None and served_columns is not None:
        features = Reference.fit({name: np.asarray(x) for name, x in columns.items()}, None, 1.0).features
        names = tuple(f.name for f in features)
        placed, bins = place(features, names, columns), place(features, names, served_columns)
        held = Held(held.prediction, held.value, placed, names, tuple(f.ordered > 0 for f in features))
    return Estimator(metric, held.take(fine)).estimate(Served(later, bins))


def _why_not(metric: str, held: Held) -> str:
    """Say why nothing can be learnt from held-out rows."""
    if held.rows < LEAST_HELD:
        return f"{held.rows} held-out rows, {LEAST_HELD} are needed"
    if metric in OF_NUMBERS:
        return "" if np.any(held.prediction != held.value) else "no held-out row had an error"
    if held.named and held.shares is None and metric != "accuracy":
        return "the held-out rows keep no probability of each class"
    ones = float(held.value.sum())
    few = min(ones, held.rows - ones)
    if few < LEAST_OF_CLASS:
        what = "were told wrong or right, whichever is rarer" if held.named else "are of the rarer class"
        return f"{few:.0f} held-out rows {what}, {LEAST_OF_CLASS} are needed"
    if held.prediction.min() == held.prediction.max():
        return "all held-out rows have the same score"
    return _extreme(held.prediction)


def _extreme(scores: Floats) -> str:
    if scores.min() < 0 or scores.max() > 1:
        return "the scores are no probabilities"
    share = float(np.mean((scores <= EXTREME) | (scores >= 1 - EXTREME)))
    return f"{share:.0%} of scores are 0 or 1, which says nothing of how sure they are" if share > MOST_EXTREME else ""


class _Chances:
    """A score and bins become a chance of class 1; of a model that names classes, the chance that it is right."""

    def __init__(self, metric: str, held: Held, seed: int) -> None:
        self._metric, self._seed = metric, seed
        self._threshold = 0.0 if held.named else THRESHOLD
        calibrator = Calibrator(held.prediction, held.value)
        curve = calibrator.choose()
        self._curve = calibrator.fit(curve, *calibrator.counts(np.ones(held.rows)))
        self._trees: CrossFitted | None = None
        unseen = logit_of(self._curve(held.prediction))
        if held.bins.shape[1]:
            self._ends = ScoreBins(held.prediction)
            bins = self._ends.beside(held.prediction, held.bins)
            rows = Rows(bins, held.value, unseen, np.ones(held.rows))
            self._trees = cross_fit("logistic", rows, (True, *held.ordered))
            unseen = unseen + self._trees.unseen
        rng = np.random.default_rng(seed)
        weights = (rng.poisson(1.0, held.rows).astype(np.float64) for _ in range(REPLICATES))
        self._curves = [calibrator.fit(curve, *calibrator.counts(weight)) for weight in weights]
        self._wobble = self._between(held, chance_of(unseen))

    def estimate(self, served: Served) -> tuple[float | None, float]:
        """Give the metric, and how far from it the measured one is likely to lie."""
        asked = TwoClasses(self._metric, served.prediction, self._threshold)
        trees, parts = self._corrections(served)
        value = asked.of(self._chance(self._curve, served, trees))
        rng = np.random.default_rng(self._seed)
        found = [
            asked.of(drawn(self._chance(curve, served, parts[k % len(parts)]), rng))
            for k, curve in enumerate(self._curves)
        ]
        return value, float(np.hypot(np.std([x for x in found if x is not None]), self._wobble))

    def _chance(self, curve: Calibrated, served: Served, trees: Floats | float) -> Floats:
        return chance_of(logit_of(curve(served.prediction)) + trees)

    def _corrections(self, served: Served) -> tuple[Floats | float, list[Floats | float]]:
        if self._trees is None:
            return 0.0, [0.0]
        bins = self._ends.beside(served.prediction, served.bins)
        whole, parts = self._trees.whole(bins), [part(bins) for part in self._trees.parts]
        middle = np.mean(parts, axis=0)
        return whole, [whole + (len(parts) - 1) ** 0.5 * (part - middle) for part in parts]

    def _between(self, held: Held, chance: Floats) -> float:
        """Give how far estimates of stretches of held-out rows are off beyond what their labels' luck explains."""
        rng, apart, luck = np.random.default_rng(self._seed), list[float](), list[float]()
        for part in _stretches(held.rows):
            asked = TwoClasses(self._metric, held.prediction[part], self._threshold)
            value, real = asked.of(chance[part]), asked.of(held.value[part])
            drawings = [asked.of(drawn(chance[part], rng)) for _ in range(20)]
            if value is not None and real is not None and None not in drawings:
                apart.append((real - value) ** 2)
                luck.append(float(np.var(np.array(drawings, np.float64))))
        return _excess(apart, luck)


class _ManyChances:
    """Shares of several classes become chances, each class calibrated against the others."""

    def __init__(self, metric: str, held: Held, seed: int) -> None:
        assert held.shares is not None
        assert held.known is not None
        self._metric, self._seed = metric, seed
        rng = np.random.default_rng(seed)
        weights = [np.ones(held.rows), *(rng.poisson(1.0, held.rows).astype(np.float64) for _ in range(REPLICATES))]
        self._curves: list[list[Calibrated]] = [[] for _ in weights]
        for k, scores in enumerate(held.shares.T):
            calibrator = Calibrator(scores, (held.known == k) * 1.0)
            curve = calibrator.choose()
            for curves, weight in zip(self._curves, weights, strict=True):
                curves.append(calibrator.fit(curve, *calibrator.counts(weight)))

    def estimate(self, served: Served) -> tuple[float | None, float]:
        """Give the metric, and how far from it the measured one is likely to lie."""
        assert served.shares is not None
        asked, rng = ManyClasses(self._metric, served.shares), np.random.default_rng(self._seed)
        value = asked.of(self._chances(self._curves[0], served.shares))
        few = self._curves[1 : 1 + max(REPLICATES // served.shares.shape[1], 20)]
        found = [asked.of(drawn(self._chances(curves, served.shares), rng)) for curves in few]
        return value, float(np.std([x for x in found if x is not None]))

    def _chances(self, curves: list[Calibrated], shares: Floats) -> Floats:
        found = np.stack([curve(column) for curve, column in zip(curves, shares.T, strict=True)], axis=1)
        total = found.sum(axis=1, keepdims=True)
        return np.where(total > 0, found / np.where(total > 0, total, 1.0), shares)


class _Losses:
    """A prediction and bins become the loss that such rows had; what that gets wrong of rows like these is added."""

    def __init__(self, metric: str, held: Held) -> None:
        self._metric = metric
        self._range = float(held.prediction.min()), float(held.prediction.max())
        self._ends = ScoreBins(held.prediction)
        error = np.abs(held.value - held.prediction)
        lost = error if metric == "mae" else error**2
        self._bins, self._ordered = self._ends.beside(held.prediction, held.bins), (True, *held.ordered)
        rows = Rows(self._bins, lost, np.zeros(held.rows), np.ones(held.rows))
        self._trees = cross_fit("squared", rows, self._ordered)
        self._left = lost - self._trees.unseen
        self._noise = float(np.mean(self._left**2) / np.mean(self._trees.unseen**2))
        parts = [self._left[part] for part in _stretches(held.rows)]
        self._wobble = _excess([float(x.mean()) ** 2 for x in parts], [float(x.var()) / len(x) for x in parts])

    def outside(self, prediction: Floats) -> float:
        """Give the share of predictions that are beyond those of the held-out rows."""
        low, high = self._range
        return float(np.mean((prediction < low) | (prediction > high)))

    def estimate(self, served: Served) -> tuple[float | None, float]:
        """Give the metric, and how far from it the measured one is likely to lie."""
        bins = self._ends.beside(served.prediction, served.bins)
        loss = np.maximum(self._trees.whole(bins), 0.0)
        means = np.array([_mean(part, bins) for part in self._trees.parts])
        learnt = (len(means) - 1) / len(means) * float(((means - means.mean()) ** 2).sum())
        luck = self._noise * float(np.mean(loss**2)) / served.rows
        missed, unsure = self._missed(bins)
        mean = max(float(loss.mean()) + missed, 0.0)
        spread = float((luck + learnt + unsure + (missed / Z) ** 2 + self._wobble**2) ** 0.5)
        return (mean, spread) if self._metric == "mae" else (mean**0.5, spread / max(2 * mean**0.5, 1e-300))

    def _missed(self, bins: Bins) -> tuple[float, float]:
        """Give by how much the trees are wrong about rows like these, and the variance of that."""
        some = slice(None, None, -(-len(self._left) // RATIO_ROWS))
        ratio = density_ratio(self._bins[some], bins[:: -(-len(bins) // RATIO_ROWS)], self._ordered)
        left = ratio * self._left[some]
        return float(left.mean()), float(left.var()) / len(left)


def _mean(trees: Boosted, bins: Bins) -> float:
    return float(np.maximum(trees(bins), 0.0).mean())


def _stretches(rows: int) -> Iterator[slice]:
    """Cut rows in order into a few stretches, none where they are too few."""
    count = min(CHUNKS, rows // CHUNK_ROWS)
    ends = np.linspace(0, rows, count + 1).astype(int) if count >= 3 else np.zeros(1, int)
    return (slice(first, last) for first, last in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))


def _excess(squares: list[float], luck: list[float]) -> float:
    """Give the spread that luck does not explain; none where luck may well explain it all."""
    if not squares or np.mean(squares) < np.mean(luck) * (1 + SURE * (2 / len(squares)) ** 0.5):
        return 0.0
    return float((np.mean(squares) - np.mean(luck)) ** 0.5)
