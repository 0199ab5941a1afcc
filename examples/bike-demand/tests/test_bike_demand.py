"""The project's own tests: run with pytest in the project's environment."""

import sys
from pathlib import Path

import pandas as pd
import pytest

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT / "src"))

from bike_demand import features, train  # noqa: E402


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.read_csv(PROJECT / "data" / "baseline.csv", parse_dates=["ts"])


def test_features_of_a_saturday_night() -> None:
    row = pd.DataFrame(
        {"ts": [pd.Timestamp("2011-07-02 23:00")], "temp_min_c": [20.0], "temp_max_c": [31.5], "precip_mm": [0.0]}
    )
    assert features.build(row).to_dict("records") == [
        {
            "hour": 23,
            "day_of_week": 5,
            "month": 7,
            "weekend": True,
            "temp_min_c": 20.0,
            "temp_max_c": 31.5,
            "precip_mm": 0.0,
        }
    ]


def test_a_row_has_the_same_features_alone_as_among_others(rows: pd.DataFrame) -> None:
    some = rows.sample(50, random_state=0)
    together = features.build(some)
    alone = pd.concat([features.build(some.iloc[[i]]) for i in range(len(some))])
    pd.testing.assert_frame_equal(together, alone)


def test_the_model_beats_the_mean_by_far_on_hours_it_did_not_see(rows: pd.DataFrame) -> None:
    unseen = rows.sample(frac=0.3, random_state=0)
    seen = rows.drop(unseen.index)
    model = train.fit(features.build(seen), seen["rides"])
    error = (model.predict(features.build(unseen)) - unseen["rides"]).abs().mean()
    naive = (seen["rides"].mean() - unseen["rides"]).abs().mean()
    assert error < 0.4 * naive


def test_fitting_twice_gives_the_same_model(rows: pd.DataFrame) -> None:
    some = rows.head(500)
    X = features.build(some)
    first, second = train.fit(X, some["rides"]), train.fit(X, some["rides"])
    assert (first.predict(X) == second.predict(X)).all()
