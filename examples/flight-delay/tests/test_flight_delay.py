"""The project's own tests: run with pytest in the project's environment."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT / "src"))

from flight_delay import features, train  # noqa: E402


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.read_csv(PROJECT / "data" / "baseline.csv", parse_dates=["ts"])


def test_features_of_a_sunday_evening(rows: pd.DataFrame) -> None:
    row = rows.head(1).assign(ts=pd.Timestamp("2013-01-06 18:30"))
    made = features.build(row).iloc[0]
    assert (made["hour"], made["day_of_week"], made["carrier"]) == (18.5, 6, "B6")


def test_a_row_has_the_same_features_alone_as_among_others(rows: pd.DataFrame) -> None:
    some = rows.sample(50, random_state=0)
    together = features.build(some)
    alone = pd.concat([features.build(some.iloc[[i]]) for i in range(len(some))])
    pd.testing.assert_frame_equal(together, alone)


def test_the_model_ranks_unseen_flights_better_than_chance(rows: pd.DataFrame) -> None:
    seen, unseen = rows.iloc[:13_000], rows.iloc[13_000:]
    model = train.fit(features.build(seen), seen["late_departure"])
    chance = model.predict_proba(features.build(unseen))[:, 1]
    assert roc_auc_score(unseen["late_departure"], chance) > 0.65


def test_an_airport_never_seen_before_gets_an_answer(rows: pd.DataFrame) -> None:
    some = rows.head(2_000)
    model = train.fit(features.build(some), some["late_departure"])
    chance = model.predict_proba(features.build(some.head(1).assign(dest="XXX", temp=None)))[0, 1]
    assert 0 < chance < 1
