"""The parts of the harness that need no library of the project's."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from trilho.adopt.parity.equality import compare_numbers
from trilho.adopt.parity.harness.interception import find_inside, full_name, recorded
from trilho.adopt.parity.harness.values import hashed_sample, positions_of


class Forest:
    """An estimator."""

    def predict(self, rows: list[float]) -> list[float]:
        return [row * 2 for row in rows]


class Model_:  # noqa: N801  as a project renames a notebook's class
    def __init__(self, inner: Any) -> None:
        self.parts = {"steps": [("forest", inner)]}


class Model:
    """A project's model around a notebook's."""

    def __init__(self, inner: Any) -> None:
        self.estimator = inner
        self.itself = self


def test_an_estimator_is_found_inside_a_model_by_its_class() -> None:
    forest = Forest()
    own = Model_(forest)
    model = Model(own)
    assert find_inside(model, full_name(Forest)) is forest
    assert find_inside(forest, full_name(Forest)) is forest
    assert find_inside(model, "__main__.Model") is own  # not the project's own class of that name
    assert find_inside(model, "xgboost.core.Booster") is None


def test_what_an_estimator_is_asked_is_seen_and_nothing_stays() -> None:
    forest = Forest()
    with recorded(forest, "predict") as calls:
        assert forest.predict([1, 2]) == [2, 4]
    assert calls == [([1, 2], [2, 4])]
    assert "predict" not in vars(forest)
    with pytest.raises(TypeError), recorded(forest, "predict"):
        forest.predict(3)  # type: ignore[arg-type]
    assert "predict" not in vars(forest)


def test_the_sample_is_of_the_smallest_digests() -> None:
    chosen = hashed_sample(range(50), "ab", 7)
    order = sorted(range(50), key=lambda row: hashlib.sha256(f"ab:{row}".encode()).hexdigest())
    assert chosen.tolist() == sorted(order[:7])
    assert hashed_sample(range(50), "cd", 7).tolist() != chosen.tolist()


def test_labels_stand_for_positions_only_where_they_can() -> None:
    shuffled = np.array([3, 0, 2])
    assert positions_of("", 3, shuffled, 9).tolist() == [3, 0, 2]  # type: ignore[union-attr]
    assert positions_of("", 3, np.array([3, 0, 9]), 9) is None
    assert positions_of("", 3, np.array([1, 1, 2]), 9) is None
    assert positions_of("", 3, np.array(list("abc")), 3).tolist() == [0, 1, 2]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("project", "notebook", "alike"),
    [(1.0, 1.0 + 9e-10, True), (1.0, 1.0 + 2e-9, False), (np.nan, np.nan, True), (np.nan, 0.0, False),
     (np.inf, np.inf, True), (np.inf, 1e300, False), (-np.inf, np.inf, False), (0.0, 1e-13, True)],
)  # fmt: skip
def test_numbers_are_compared_by_their_size(project: float, notebook: float, alike: bool) -> None:
    assert (compare_numbers([project], [notebook], 1e-9, np.array([5])).different == 0) is alike
