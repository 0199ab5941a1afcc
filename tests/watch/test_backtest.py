"""History replayed: alarms a month, delays and misses that are known because the history was made."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest
from tests.watch.world import MemoryLog

from trilho.config.values import UNITS
from trilho.errors import NotYet, UsageError
from trilho.watch.backtest import Backtest, Opened, Outcome, keeps, opened_of
from trilho.watch.comparison.source import opened
from trilho.watch.planting import Plant
from trilho.watch.replay import LogHistory, TableHistory
from trilho.watch.setting import Setting, rate_words, read_rate
from trilho_runtime.profile import PREDICTION, Reference

DAY = 86400.0
YEAR = 1 / UNITS["year"]
NORMAL = "sqrt(-2 * ln(random() + 1e-12)) * cos(2 * pi() * random())"


def history(path: Path, *, days: int = 160, rows: int = 200, drift_from: int | None = None) -> Path:
    after = f"CASE WHEN i // {rows} >= {drift_from} THEN 1.0 ELSE 0.0 END" if drift_from is not None else "0.0"
    columns = (
        f"TIMESTAMP '2024-01-01' + to_seconds(i * {86400 // rows}) AS at, {NORMAL} + {after} AS price, "
        f"random() AS quiet, ['a', 'b', 'c'][1 + CAST(FLOOR(random() * 3) AS INT)] AS city, "
        f"0.1 + 0.2 * random() AS score, "
        f"CAST(random() < (CASE WHEN {after} > 0 THEN 0.95 ELSE 0.2 END) AS INT) AS paid"
    )
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.execute("SELECT setseed(0.2)")
        connection.execute(f"COPY (SELECT {columns} FROM range({days * rows}) t(i)) TO '{path}'")
    return path


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return history(tmp_path_factory.mktemp("quiet") / "quiet.parquet")


@pytest.fixture(scope="module")
def drifting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return history(tmp_path_factory.mktemp("drifting") / "drifting.parquet", drift_from=120)


def test_a_quiet_history_has_no_alarm_and_a_planted_change_is_found(quiet: Path) -> None:
    plants = [Plant.parse(text) for text in ("price:1sd@2024-05-01", "city:30%unseen", "quiet:0.001sd@2024-05-01")]
    with opened(str(quiet)) as (source,):
        found = Backtest(TableHistory(source, "at"), plants).run(Setting(YEAR))
    assert (found.windows, found.reference_windows) == (80, 80)
    assert found.opened == []
    assert found.months == pytest.approx(80 * DAY / UNITS["month"])
    assert found.per_month[:2] == (0.0, 0.0)
    assert found.per_month[2] == pytest.approx(3.689 / found.months, rel=1e-3)  # exact, of a count of none
    by = {(one.change, one.at): one.delay for one in found.found}
    assert len(by) == 5  # the one without a date is planted three times
    assert by["price:1sd@2024-05-01", 1714521600.0] == 1
    assert by["quiet:0.001sd@2024-05-01", 1714521600.0] is None
    assert found.missed == 1
    assert all(delay in (1, 2) for (change, _), delay in by.items() if change.startswith("city"))


def test_a_known_change_is_no_false_alarm(drifting: Path) -> None:
    change = 1704067200.0 + 120 * DAY
    with opened(str(drifting)) as (source,):
        table = TableHistory(source, "at", ignore=("score", "paid"))
        named = Backtest(table, changes=[change]).run(Setting(YEAR))
        unnamed = Backtest(table).alarms(Setting(YEAR))
    assert named.opened[0].column == "price"
    assert named.false == 0
    assert unnamed.false == len(named.opened) >= 1
    known = next(one for one in named.found if one.change.startswith("known"))
    assert known.delay in (1, 2)


def test_losses_alarm_too(drifting: Path) -> None:
    with opened(str(drifting)) as (source,):
        table = TableHistory(source, "at", prediction="score", label="paid", ignore=("price", "city"))
        assert table.loss_bound == 1.0
        found = Backtest(table, [Plant("quiet", 1.0, "sd", at=1710000000.0)]).alarms(Setting(YEAR))
    performance = [one for one in found.opened if one.kind == "performance"]
    assert performance
    assert performance[0].time >= 1704067200.0 + 120 * DAY


def test_the_proposal_keeps_to_the_wanted_number(quiet: Path) -> None:
    plants = [Plant.parse("price:0.5sd")]
    with opened(str(quiet)) as (source,):
        test = Backtest(TableHistory(source, "at"), plants)
        best, tried = test.propose(4 * YEAR, Setting(YEAR), windows=(DAY,))
    assert best is tried[0]
    assert all(keeps(one, 4 * YEAR) for one in tried)
    assert best.missed == min(one.missed for one in tried)
    assert best.setting.false_alarms <= 4 * YEAR  # 80 days without an alarm do not yet show that more is harmless


def test_where_nothing_keeps_to_it_the_calmest_is_given(drifting: Path) -> None:
    with opened(str(drifting)) as (source,):
        test = Backtest(TableHistory(source, "at"), [Plant.parse("quiet:1sd")])
        best, tried = test.propose(0.01 * YEAR, Setting(YEAR), windows=(DAY,))
    assert len(tried) == 1
    assert not keeps(best, 0.01 * YEAR)


def test_keeping_to_a_rate_asks_for_a_promise_or_for_evidence() -> None:
    def outcome(rate: float, months: float, alarms: int) -> Outcome:
        fired = [Opened(0.0, "inputs", "x", True)] * alarms
        return Outcome(Setting(rate), 100, 100, months, fired, [])

    month = 1 / UNITS["month"]
    assert keeps(outcome(month, 2, 2), month)
    assert not keeps(outcome(month, 2, 3), month)
    assert not keeps(outcome(2 * month, 2, 0), month)  # too short to know better than the promise
    assert keeps(outcome(2 * month, 5, 0), month)


def test_a_short_history_says_so(tmp_path: Path) -> None:
    short = history(tmp_path / "short.parquet", days=30)
    with opened(str(short)) as (source,), pytest.raises(NotYet, match="15 windows of 1 day"):
        Backtest(TableHistory(source, "at")).run(Setting(YEAR))


def test_what_a_project_served(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    time = np.sort(draw.uniform(0, 60 * DAY, 12_000))
    columns = {"price": draw.normal(10, 2, 12_000), "city": draw.choice(["a", "b"], 12_000).astype(object)}
    reference = Reference.fit({**columns, PREDICTION: draw.random(12_000)}, time, DAY)
    log = MemoryLog()
    served = np.sort(draw.uniform(100 * DAY, 150 * DAY, 10_000))
    log.serve(served, draw.random(10_000), price=draw.normal(10, 2, 10_000),
              city=draw.choice(["a", "b"], 10_000).astype(object))  # fmt: skip
    past = LogHistory(log, reference, "mae")
    assert past._spread("price") == pytest.approx(2, rel=0.1)
    found = Backtest(past, [Plant("price", 1.0, "sd"), Plant("city", 0.5, "value", "a")]).run(Setting(YEAR))
    assert found.windows == 50
    assert found.opened == []
    assert found.missed == 0
    assert found.delay is not None
    assert 1 <= found.delay <= 4


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("x:1sd", [2.0, 3.0, 4.0, None]),
        ("x:100%null", [None, None, None, None]),
        ("x:100%=7@1970-01-01T00:00:02", [1.0, 2.0, 7.0, 7.0]),
    ],
)
def test_a_change_is_planted_into_numbers(text: str, changed: list[float | None]) -> None:
    column = np.ma.array([1.0, 2.0, 3.0, 0.0], mask=[False, False, False, True])
    made = Plant.parse(text).into(column, np.arange(4.0), 1.0)
    assert made.tolist() == changed


def test_a_change_is_planted_into_texts() -> None:
    column = np.array(["a", "b", None], object)
    assert Plant.parse("x:100%unseen").into(column, np.zeros(3), 1.0).tolist() == ["planted: never seen"] * 3
    assert Plant.parse("x:100%=b").into(column, np.zeros(3), 1.0).tolist() == ["b"] * 3
    with pytest.raises(UsageError, match="x is no number"):
        Plant.parse("x:1sd").into(column, np.zeros(3), 1.0)


def test_an_alarm_that_goes_on_is_one() -> None:
    fired = [(w, "inputs", "x") for w in range(0, 40, 5)] + [(60, "inputs", "x")]
    assert opened_of(fired) == [(0, "inputs", "x"), (60, "inputs", "x")]


def test_rates_as_they_are_typed() -> None:
    assert rate_words(read_rate("1 per quarter")) == "4 per year"
    assert rate_words(read_rate("3 per day")) == "3 per day"
    with pytest.raises(UsageError, match="a rate '1 a year'"):
        read_rate("1 a year")
