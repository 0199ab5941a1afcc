"""The moving split: the newest rows judge."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from trilho.core.records import DatasetVersioned
from trilho.data.version import Dataset
from trilho.errors import NotYet
from trilho.pipeline.graph import Work
from trilho.train.split import Candidate, candidates, split

HOLDOUT = timedelta(days=10)


def work(tmp_path: Path, rows: int, *, days: int = 10, since: str | None = None, time: str | None = "ts") -> Work:
    """Give the work of splitting a table of one row a day, from 1 January 2020 on."""
    table = tmp_path / "t.parquet"
    query = f"SELECT TIMESTAMP '2020-01-01' + INTERVAL (i) DAY AS ts, i AS x FROM range({rows}) t(i)"
    duckdb.sql(f"COPY ({query}) TO '{table}' (FORMAT parquet)")
    chosen = {"all": None, "window": since} if since else {"all": None}
    outputs = {name: tmp_path / name for name in ("holdout", *(f"train-{name}" for name in chosen))}
    parameters = {"time": time, "holdout_seconds": days * 86400.0, "candidates": chosen}
    return Work({"table": table}, outputs, parameters, say=lambda _: None)


def numbers(path: Path) -> list[int]:
    with duckdb.connect() as connection:
        return [row[0] for row in connection.execute(f"SELECT x FROM read_parquet('{path}')").fetchall()]


def test_the_newest_rows_are_held_out_and_nothing_is_in_both(tmp_path: Path) -> None:
    done = work(tmp_path, 40)
    split(done)
    assert numbers(done.outputs["holdout"]) == list(range(30, 40))
    assert numbers(done.outputs["train-all"]) == list(range(30))
    assert done.values == {"rows-all": 30, "holdout_rows": 10, "train_until": "2020-01-30T00:00:00"}


def test_the_split_moves_when_rows_come(tmp_path: Path) -> None:
    later = work(tmp_path, 50)
    split(later)
    assert numbers(later.outputs["train-all"])[-1] == 39


def test_a_window_leaves_old_rows_out(tmp_path: Path) -> None:
    done = work(tmp_path, 40, since="2020-01-21T00:00:00")
    split(done)
    assert numbers(done.outputs["train-window"]) == list(range(20, 30))
    assert numbers(done.outputs["train-all"]) == list(range(30))
    assert (done.values["rows-all"], done.values["rows-window"]) == (30, 10)


def test_without_a_time_the_last_fifth_is_held_out(tmp_path: Path) -> None:
    done = work(tmp_path, 40, time=None)
    split(done)
    assert numbers(done.outputs["holdout"]) == list(range(32, 40))
    assert numbers(done.outputs["train-all"]) == list(range(32))
    assert done.values["train_until"] is None


@pytest.mark.parametrize(
    ("rows", "words"),
    [(8, "the newest 10 days hold all of the rows"), (0, "no rows can be held out")],
)
def test_an_empty_side_is_refused(tmp_path: Path, rows: int, words: str) -> None:
    with pytest.raises(NotYet, match=words):
        split(work(tmp_path, rows))


def test_a_lonely_row_without_a_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotYet, match="nothing is left to train on"):
        split(work(tmp_path, 1, time=None))


def dataset(last: str, first: str = "2011-01-01T00:00:00", baseline_last: str = "2011-12-31T23:00:00") -> Dataset:
    return Dataset("d", 1, ["ts"], first, last, 0, "b.csv", first, baseline_last)


def test_auto_tries_the_window_once_there_is_more_than_it() -> None:
    everything = [Candidate("all", None)]
    assert candidates("auto", HOLDOUT, dataset("2011-12-31T23:00:00"), None) == everything
    assert candidates("all", HOLDOUT, dataset("2013-06-30T00:00:00"), None) == everything
    assert candidates("auto", HOLDOUT, dataset("2013-06-30T00:00:00"), None) == [
        *everything,
        Candidate("window", "2012-06-20T01:00:00"),
    ]


def test_the_window_is_as_long_as_the_first_dataset_even_when_the_files_grew() -> None:
    first = DatasetVersioned(
        model="m", dataset="d", rows=1, columns=[], source="b.csv", served_rows=0,
        first="2011-01-01T00:00:00", last="2011-01-31T00:00:00",
    )  # fmt: skip
    grown = dataset("2013-06-30T00:00:00", baseline_last="2013-06-30T00:00:00")
    assert candidates("auto", HOLDOUT, grown, first)[1].since == "2013-05-21T00:00:00"


def test_a_stated_history_is_the_only_one() -> None:
    found = candidates("latest 365 days", HOLDOUT, dataset("2013-06-30T00:00:00"), None)
    assert found == [Candidate("window", "2012-06-20T00:00:00")]


def test_without_a_time_there_is_only_all() -> None:
    timeless = Dataset("d", 1, ["x"], None, None, 0, "b.csv")
    assert candidates("auto", HOLDOUT, timeless, None) == [Candidate("all", None)]
