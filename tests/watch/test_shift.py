"""A drop is split into what other rows explain and what turned out otherwise; features are ranked by their harm."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from trilho.watch.effect import effects
from trilho.watch.held import Held, Served, place
from trilho.watch.performance import measure
from trilho.watch.shift import split
from trilho_runtime.profile import Profile, Reference

Floats = NDArray[np.float64]


class World:
    """Errors grow with `a` (regression), or labels do (classification); `b` does nothing."""

    def __init__(self, seed: int, regression: bool) -> None:
        self.rng, self.regression = np.random.default_rng(seed), regression
        self.reference = Reference.fit(self.columns(self.rng.standard_normal((4000, 2))), None, 3600)

    @staticmethod
    def columns(x: Floats) -> dict[str, Floats]:
        return {"a": x[:, 0], "b": x[:, 1]}

    def rows(self, count: int, shift: float = 0.0, concept: float = 0.0, other: float = 0.0) -> tuple[Served, Profile]:
        x = self.rng.standard_normal((count, 2)) + np.array([shift, other])
        if self.regression:
            prediction = x[:, 1]
            value = prediction + (1 + concept) * (1.5 + np.tanh(x[:, 0])) * self.rng.standard_normal(count)
        else:
            chance = 1 / (1 + np.exp(-2 * (1 - concept) * x[:, 0]))
            prediction = 1 / (1 + np.exp(-2 * x[:, 0]))
            value = (self.rng.random(count) < chance).astype(np.float64)
        names = [f.name for f in self.reference.features]
        bins = place(self.reference.features, names, self.columns(x))
        return Served(prediction, bins, None, value), self.reference.profile(self.columns(x))

    def held(self, count: int = 5000) -> Held:
        served, _ = self.rows(count)
        assert served.value is not None
        return Held(served.prediction, served.value, served.bins, ("a", "b"), (True, True))

    def value(self, metric: str, shift: float = 0.0, concept: float = 0.0) -> float:
        served, _ = self.rows(200_000, shift, concept)
        assert served.value is not None
        found = measure(metric, served.prediction, served.value).value
        assert found is not None
        return found


@pytest.mark.parametrize(
    ("metric", "shift", "concept", "near"),
    [
        ("mae", 0.6, 0.0, 0.08),
        ("mae", 0.0, 0.3, 0.08),
        ("rmse", 0.6, 0.3, 0.12),
        ("brier", 0.5, 0.5, 0.012),
        ("accuracy", 0.5, 0.5, 0.02),
        ("roc_auc", 0.5, 0.5, 0.025),
    ],
)
def test_both_parts_are_found(metric: str, shift: float, concept: float, near: float) -> None:
    world = World(1, metric in ("mae", "rmse"))
    base, moved, all_of_it = (world.value(metric, *x) for x in ((0.0, 0.0), (shift, 0.0), (shift, concept)))
    found = split(metric, world.held(), world.rows(4000, shift, concept)[0])
    assert found.covariate is not None
    assert found.concept is not None
    assert found.total is not None
    assert found.covariate.value == pytest.approx(moved - base, abs=near)
    assert found.concept.value == pytest.approx(all_of_it - moved, abs=near)
    assert found.covariate.value + found.concept.value == pytest.approx(found.total.value)
    if concept:
        assert not found.concept.low <= 0 <= found.concept.high
    if not shift:
        assert found.covariate.low <= 0 <= found.covariate.high
    assert "concept drift" in found.words


def test_intervals_hold() -> None:
    inside = 0
    for seed in range(20):
        world = World(seed + 10, regression=True)
        found = split("mae", world.held(2000), world.rows(1500, 0.5)[0])
        assert found.concept is not None
        inside += found.concept.low <= 0 <= found.concept.high
    assert inside >= 17


def test_both_together_are_no_worse_than_either() -> None:
    errors: dict[str, list[float]] = {"both": [], "weights": [], "model": []}
    for seed in range(8):
        world = World(seed + 40, regression=True)
        real = world.value("mae", 0.8) - world.value("mae")
        held, window = world.held(3000), world.rows(2000, 0.8)[0]
        for way, missed in errors.items():
            part = split("mae", held, window, way=way).covariate  # type: ignore[arg-type]
            assert part is not None
            missed.append(abs(part.value - real))
    assert np.mean(errors["both"]) <= min(np.mean(errors["weights"]), np.mean(errors["model"])) + 0.01


def test_what_cannot_be_split_is_not() -> None:
    world = World(2, regression=True)
    held, window = world.held(1000), world.rows(500)[0]
    bare = Held(held.prediction, held.value)
    assert split("mae", bare, window).why == "the package keeps no bins of its held-out rows"
    far = split("mae", held, world.rows(500, 6.0)[0])
    assert (far.observable, far.covariate) == (False, None)
    assert far.words.startswith("the change of mae could not be split (")
    assert split("mae", held, window.take(np.arange(5))).why.startswith("1000 held-out and 5 labelled rows")


@pytest.mark.parametrize("metric", ["mae", "rmse", "brier", "log_loss", "accuracy", "roc_auc"])
def test_features_rank_by_their_harm(metric: str) -> None:
    world = World(3, metric in ("mae", "rmse"))
    _, profile = world.rows(5000, shift=0.6, other=0.6)
    first, second = effects(metric, world.held(), profile)
    by_name = {one.feature: one for one in (first, second)}
    idle = by_name["b"]
    assert abs(idle.value) < 3 * (idle.high - idle.value) / 1.96
    moved = world.value(metric, 0.6) - world.value(metric)
    assert by_name["a"].value == pytest.approx(moved, abs=0.1 if metric in ("mae", "rmse") else 0.03)
    assert by_name["a"].low <= by_name["a"].value <= by_name["a"].high
    if metric in ("mae", "rmse"):
        assert (first.feature, first.harm > 0.2) == ("a", True)
    assert first.harm >= second.harm


def test_new_values_are_said_and_not_guessed() -> None:
    world = World(4, regression=True)
    _, profile = world.rows(2000, shift=9.0)
    found = {one.feature: one for one in effects("mae", world.held(), profile)}
    assert "a" not in found or found["a"].outside > 0.9
    assert found["b"].outside < 0.1
    assert effects("mae", world.held(50), profile) == []
    assert [one.feature for one in effects("mae", world.held(), profile, ["b"])] == ["b"]
