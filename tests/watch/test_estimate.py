"""Estimates before labels: near the truth under covariate shift, within their bands, honest where they are blind."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trilho.watch.calibrating import Calibrator, isotonic
from trilho.watch.estimate import BLIND, Estimate, Estimator, estimate
from trilho.watch.expected import ManyClasses, TwoClasses, drawn
from trilho.watch.held import Held, Kept, Served, losses_of, place
from trilho.watch.performance import measure, measure_shares
from trilho_runtime.model.outputs import Outputs
from trilho_runtime.model.validation import bins_of, validation
from trilho_runtime.profile import Reference

Floats = NDArray[np.float64]
Rng = np.random.Generator
METRICS = ("accuracy", "roc_auc", "brier", "log_loss", "f1", "precision", "recall")


def sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


def columns(x: Floats) -> dict[str, NDArray[Any]]:
    return {"a": x[:, 0], "b": x[:, 1]}


class World:
    """Two inputs, of which the first may be shifted; scores that are not calibrated, errors that grow with it."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.reference = Reference.fit(columns(self.rng.standard_normal((4000, 2))), None, 3600)
        self.names = tuple(f.name for f in self.reference.features)

    def scored(self, rows: int, shift: float = 0.0, turned: float = 1.0) -> Served:
        x = self.rng.standard_normal((rows, 2)) + np.array([shift, 0.0])
        logit = 1.2 * x[:, 0] + np.where(x[:, 1] > 0, 0.5, -0.5)
        value = (self.rng.random(rows) < sigmoid(turned * logit)).astype(np.float64)
        return Served(sigmoid(2 * x[:, 0] + 0.3), self.bins(x), None, value)

    def counted(self, rows: int, shift: float = 0.0) -> Served:
        x = self.rng.standard_normal((rows, 2)) + np.array([shift, 0.0])
        error = (1 + 0.5 * np.tanh(x[:, 0])) * self.rng.standard_normal(rows)
        return Served(x[:, 0], self.bins(x), None, x[:, 0] + error)

    def bins(self, x: Floats) -> NDArray[np.uint8]:
        return place(self.reference.features, self.names, columns(x))

    def held(self, served: Served) -> Held:
        assert served.value is not None
        return Held(served.prediction, served.value, served.bins, self.names, (True, True))


def truth(metric: str, served: Served) -> float:
    assert served.value is not None
    found = TwoClasses(metric, served.prediction).of(served.value) if metric in METRICS else (
        measure(metric, served.prediction, served.value).value
    )  # fmt: skip
    assert found is not None
    return found


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "brier", "log_loss", "f1"])
def test_scores_that_are_not_calibrated_are_seen_through_under_covariate_shift(metric: str) -> None:
    inside, errors = 0, []
    for k in range(12):
        if k % 2 == 0:
            world = World(k)
            estimator = Estimator(metric, world.held(world.scored(4000)))
        window = world.scored(2000, shift=0.5 if k % 2 else 0.0)
        found = estimator.estimate(window)
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= truth(metric, window) <= found.high
        errors.append(abs(found.value - truth(metric, window)))
    assert inside >= 10
    assert np.mean(errors) < {"accuracy": 0.015, "roc_auc": 0.015, "brier": 0.01, "log_loss": 0.04, "f1": 0.02}[metric]
    naive = Estimator(metric, Held(*(getattr(world.held(world.scored(6000)), x) for x in ("prediction", "value"))))
    assert naive.estimate(Served(window.prediction, np.zeros((2000, 0), np.uint8))).observable


@pytest.mark.parametrize("metric", ["mae", "rmse"])
def test_the_error_of_a_regression_is_known_by_its_rows(metric: str) -> None:
    world = World(2)
    held = world.held(world.counted(6000))
    estimator = Estimator(metric, held)
    inside, before = 0, truth(metric, world.counted(100_000))
    for _ in range(8):
        window = world.counted(2000, shift=0.6)
        found = estimator.estimate(window)
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= truth(metric, window) <= found.high
        assert abs(found.value - truth(metric, window)) < 0.08
        assert found.value > before + 0.1
    assert inside >= 7


def test_concept_drift_is_not_seen_and_the_words_say_so() -> None:
    """The labels turn round and the rows stay: the estimate stays too, and never says that all is well."""
    world = World(3)
    estimator = Estimator("roc_auc", world.held(world.scored(4000)))
    window = world.scored(4000, turned=-1.0)
    found = estimator.estimate(window)
    assert found.value is not None
    assert found.value > 0.7 > 0.3 > truth("roc_auc", window)
    assert found.words.endswith(BLIND)
    assert "ok" not in found.words.split()


def said(held: Held, window: Served, metric: str = "roc_auc") -> Estimate:
    return Estimator(metric, held).estimate(window)


def test_plain_arrays_with_their_columns_will_do() -> None:
    """The trees find what the scores miss: with the columns the estimate is nearer."""
    rng = np.random.default_rng(20)

    def table(rows: int, share: float) -> tuple[Floats, Floats, dict[str, NDArray[Any]]]:
        group, scores = rng.random(rows) < share, rng.uniform(0.2, 0.8, rows)
        value = (rng.random(rows) < np.where(group, scores, 0.9 - 0.8 * scores)).astype(np.float64)
        return scores, value, {"group": group}

    prediction, value, columns = table(6000, 0.8)
    served, real, others = table(4000, 0.3)
    true = measure("accuracy", served, real).value
    near = estimate("accuracy", prediction, value, served, columns=columns, served_columns=others)
    far = estimate("accuracy", prediction, value, served)
    assert near.value == pytest.approx(true, abs=0.03)
    assert far.value is not None
    assert true is not None
    assert far.value > true + 0.08
    assert near.observable


def test_what_cannot_be_known_is_not_observable() -> None:
    world = World(4)
    held, window = world.held(world.scored(3000)), world.scored(500)
    few = said(held.take(np.arange(120)), window)
    assert (few.observable, few.value, few.why) == (False, None, "120 held-out rows, 200 are needed")
    assert few.words == "roc_auc before labels: not observable (120 held-out rows, 200 are needed)"
    far = said(held, world.scored(500, shift=4.0))
    assert far.why.endswith("of rows have values of a that hardly a held-out row had")
    sure = Served((window.prediction > 0.5).astype(np.float64), window.bins)
    assert said(held, sure).why == "100% of scores are 0 or 1, which says nothing of how sure they are"
    assert said(held, window.take(np.arange(10))).why == "10 rows, 30 are needed"
    one = Held(held.prediction, np.zeros(held.rows), held.bins, held.features, held.ordered)
    assert said(one, window).why == "0 held-out rows are of the rarer class, 20 are needed"
    numbers = world.held(world.counted(1000))
    beyond = Served(np.full(100, 99.0), world.counted(100).bins)
    assert said(numbers, beyond, "mae").why == "100% of predictions are beyond those of the held-out rows"
    with pytest.raises(ValueError, match="known: accuracy"):
        Estimator("f7", held)


def three(rng: Rng, rows: int, shift: float = 0.0) -> tuple[Floats, NDArray[np.int64]]:
    x = rng.standard_normal((rows, 3)) + np.array([shift, 0.0, 0.0])
    given = np.exp(2 * x) / np.exp(2 * x).sum(axis=1, keepdims=True)
    real = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    return given, drawn(real, rng).argmax(axis=1)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "brier", "roc_auc"])
def test_several_classes(metric: str) -> None:
    """Probabilities that are twice as sure as they should be, on rows of other kinds."""
    rng = np.random.default_rng(5)

    def rows(count: int, shift: float = 0.0) -> tuple[Served, float]:
        shares, known = three(rng, count, shift)
        right = (shares.argmax(axis=1) == known).astype(np.float64)
        value = measure_shares(metric, shares, known).value
        assert value is not None
        return Served(shares.max(axis=1), np.zeros((count, 0), np.uint8), shares, right, known, True), value

    served, _ = rows(5000)
    assert served.value is not None
    held = Held(served.prediction, served.value, shares=served.shares, known=served.known, named=True)
    estimator = Estimator(metric, held)
    for shift in (0.0, 0.5):
        window, real = rows(3000, shift)
        found = estimator.estimate(window)
        assert found.value == pytest.approx(real, abs={"log_loss": 0.08}.get(metric, 0.025))
        if metric in ("log_loss", "brier"):
            lost = losses_of(metric, window)
            assert lost is not None
            assert lost.mean() == pytest.approx(real)


@pytest.mark.parametrize("metric", METRICS)
def test_expected_metrics_are_the_means_of_drawn_ones(metric: str) -> None:
    rng = np.random.default_rng(16)
    chance = rng.beta(2, 3, 4000)
    asked = TwoClasses(metric, np.round(chance, 1))
    real = [asked.of(drawn(chance, rng)) for _ in range(300)]
    assert asked.of(chance) == pytest.approx(np.mean(np.array(real, np.float64)), abs=0.003)
    if metric in ("accuracy", "roc_auc", "brier", "log_loss"):
        labels = drawn(chance, rng)
        assert asked.of(labels) == pytest.approx(measure(metric, np.round(chance, 1), labels).value)
        twice = np.repeat(labels, 2), np.repeat(np.round(chance, 1), 2)
        assert asked.of(labels, np.full(4000, 2.0)) == pytest.approx(TwoClasses(metric, twice[1]).of(twice[0]))


def test_a_metric_of_nothing_is_none() -> None:
    assert TwoClasses("f1", np.zeros(3)).of(np.zeros(3)) is None
    assert TwoClasses("roc_auc", np.zeros(3)).of(np.ones(3)) is None
    assert ManyClasses("accuracy", np.zeros((0, 3))).of(np.zeros((0, 3))) is None


def test_curves_are_chosen_and_rise() -> None:
    rng = np.random.default_rng(7)
    scores = rng.random(8000)
    calibrator = Calibrator(scores, (rng.random(8000) < np.where(scores < 0.5, 0.1, 0.9)).astype(np.float64))
    assert calibrator.choose() == "isotonic"
    curve = calibrator.fit("isotonic", *calibrator.counts(np.ones(8000)))
    assert curve(np.array([0.2, 0.8])) == pytest.approx([0.1, 0.9], abs=0.05)
    assert (np.diff(isotonic(np.full(50, 9.0), rng.integers(0, 9, 50).astype(np.float64))) >= 0).all()


def test_rows_that_come_in_pieces_are_kept_alike() -> None:
    rows = Served(np.arange(1000.0), np.zeros((1000, 1), np.uint8))
    whole, pieces = Kept(100), Kept(100)
    whole.add(rows)
    for at in range(0, 1000, 7):
        pieces.add(rows.take(np.arange(at, min(at + 7, 1000))))
    assert whole.rows().prediction.tolist() == pieces.rows().prediction.tolist() == list(range(0, 1000, 16))
    assert (whole.seen, pieces.seen) == (1000, 1000)


def test_a_package_says_in_which_bins_its_held_out_rows_lie() -> None:
    rng = np.random.default_rng(8)
    table = {"x": rng.standard_normal(400), "c": rng.choice(["u", "v"], 400).astype(object)}
    reference = Reference.fit(table, None, 3600)
    outputs = Outputs("probabilities", ("p", "q", "r"))
    shares, known = three(rng, 400)
    content = validation(outputs, shares, known.astype(np.float64), bins=bins_of(reference, table))
    assert content == validation(outputs, shares, known.astype(np.float64), bins=bins_of(reference, table))
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        stored = {name: archive[name] for name in archive.files}
    assert int(stored["schema"]) == 2
    held = Held.of(stored, reference.features, {"c"})
    assert held.features == ("x",)
    assert held.ordered == (True,)
    assert np.bincount(held.bins[:, 0], minlength=len(reference.features[0].labels)).tolist() == (
        reference.features[0].inside.tolist()
    )
    assert held.named
    assert held.shares == pytest.approx(shares, abs=1e-6)
    old = Held.of({"time": known, "prediction": shares[:, 0], "value": known * 1.0}, reference.features)
    assert old.bins.shape == (400, 0)
