"""The moving split: the newest rows judge."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from trilho.core.records import DatasetVersioned
from trilho.data.version import Dataset
from trilho.errors import NotYet
from trilho.train.split import candidates, window_start
from trilho.train.steps import Cut, split, split_twice
from trilho_runtime.step import In, Out, Table

HOLDOUT = timedelta(days=10)


def table(folder: Path, rows: int) -> Path:
    """Write a table of one row a day, from 1 January 2020 on."""
    query = f"SELECT TIMESTAMP '2020-01-01' + INTERVAL (i) DAY AS ts, i AS x FROM range({rows}) t(i)"
    duckdb.sql(f"COPY ({query}) TO '{folder / 't.parquet'}' (FORMAT parquet)")
    return folder / "t.parquet"


def cut(folder: Path, rows: int, *, days: int = 10, since: str = "", time: str = "ts") -> Cut:
    """Split such a table into all that may train, the window from `since` on, and the held-out rows."""
    found = {name: Out[Table](name, str(folder / name)) for name in ("holdout", "train_all", "train_window")}
    source = In[Table]("table", str(table(folder, rows)))
    return split_twice(source, **found, holdout_seconds=days * 86400.0, time=time, since=since)


def numbers(path: Path) -> list[int]:
    with duckdb.connect() as connection:
        return [row[0] for row in connection.execute(f"SELECT x FROM read_parquet('{path}')").fetchall()]


def test_the_newest_rows_are_held_out_and_nothing_is_in_both(tmp_path: Path) -> None:
    assert cut(tmp_path, 40) == Cut(30, 10, "2020-01-30T00:00:00")
    assert numbers(tmp_path / "holdout") == list(range(30, 40))
    assert numbers(tmp_path / "train_all") == list(range(30))


def test_the_split_moves_when_rows_come(tmp_path: Path) -> None:
    cut(tmp_path, 50)
    assert numbers(tmp_path / "train_all")[-1] == 39


def test_a_window_leaves_old_rows_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cut(tmp_path, 40, since="2020-01-21T00:00:00").train_rows == 30
    assert numbers(tmp_path / "train_window") == list(range(20, 30))
    assert numbers(tmp_path / "train_all") == list(range(30))
    said = ["all: 30 rows train, 10 are held out", "window: 10 rows train, 10 are held out"]
    assert capsys.readouterr().out.splitlines() == said


def test_a_window_that_leaves_nothing_out_is_the_same_table(tmp_path: Path) -> None:
    cut(tmp_path, 40)
    assert (tmp_path / "train_window").read_bytes() == (tmp_path / "train_all").read_bytes()


def test_a_single_history_is_cut_alike(tmp_path: Path) -> None:
    source, holdout, train = (
        table(tmp_path, 40),
        Out[Table]("h", str(tmp_path / "h")),
        Out[Table]("t", str(tmp_path / "t")),
    )
    found = split(In("table", str(source)), holdout, train, 864000.0, "ts", "2020-01-21T00:00:00")
    assert (found.train_rows, found.holdout_rows, numbers(train.path)) == (10, 10, list(range(20, 30)))


def test_without_a_time_the_last_fifth_is_held_out(tmp_path: Path) -> None:
    assert cut(tmp_path, 40, time="") == Cut(32, 8, "")
    assert numbers(tmp_path / "holdout") == list(range(32, 40))
    assert numbers(tmp_path / "train_all") == list(range(32))


@pytest.mark.parametrize(
    ("rows", "words"),
    [(8, "the newest 10 days hold all of the rows"), (0, "no rows can be held out")],
)
def test_an_empty_side_is_refused(tmp_path: Path, rows: int, words: str) -> None:
    with pytest.raises(NotYet, match=words):
        cut(tmp_path, rows)


def test_a_lonely_row_without_a_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotYet, match="nothing is left to train on"):
        cut(tmp_path, 1, time="")


def dataset(last: str, first: str = "2011-01-01T00:00:00", baseline_last: str = "2011-12-31T23:00:00") -> Dataset:
    return Dataset("d", 1, ["ts"], first, last, 0, "b.csv", first, baseline_last)


def test_auto_takes_the_window_once_there_is_more_than_it() -> None:
    assert candidates("auto", "ts") == ("all", "window")
    assert window_start("auto", HOLDOUT, dataset("2011-12-31T23:00:00"), None) == ""
    assert window_start("auto", HOLDOUT, dataset("2013-06-30T00:00:00"), None) == "2012-06-20T01:00:00"
    assert candidates("all", "ts") == ("all",)
    assert window_start("all", HOLDOUT, dataset("2013-06-30T00:00:00"), None) == ""


def test_the_window_is_as_long_as_the_first_dataset_even_when_the_files_grew() -> None:
    first = DatasetVersioned(
        model="m", dataset="d", rows=1, columns=[], source="b.csv", served_rows=0,
        first="2011-01-01T00:00:00", last="2011-01-31T00:00:00",
    )  # fmt: skip
    grown = dataset("2013-06-30T00:00:00", baseline_last="2013-06-30T00:00:00")
    assert window_start("auto", HOLDOUT, grown, first) == "2013-05-21T00:00:00"


def test_a_stated_history_is_the_only_one() -> None:
    assert candidates("latest 365 days", "ts") == ("window",)
    found = window_start("latest 365 days", HOLDOUT, dataset("2013-06-30T00:00:00"), None)
    assert found == "2012-06-20T00:00:00"


def test_without_a_time_there_is_only_all() -> None:
    timeless = Dataset("d", 1, ["x"], None, None, 0, "b.csv")
    assert candidates("auto", None) == candidates("latest 365 days", None) == ("all",)
    assert window_start("auto", HOLDOUT, timeless, None) == ""
