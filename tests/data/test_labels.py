"""Labels from a table: joined by key, each row loaded once, mistakes named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from trilho.config import Settings
from trilho.data.labels import LOADED, append_labels, key_text
from trilho.errors import ConfigError, DataError


def settings(key: str | None = "event_id", **labels: Any) -> Settings:
    return Settings.model_validate(
        {
            "model": {"name": "m", "task": "regression", "target": "cnt", "key": key},
            "data": {"source": "x.csv"},
            "steps": {"features": "a:b", "train": "a:c"},
            "labels": labels,
        }
    )


def lines(log: Path) -> list[dict[str, Any]]:
    files = sorted((log / "labels").glob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def test_new_rows_of_a_growing_table_are_loaded_once(tmp_path: Path) -> None:
    table, log = tmp_path / "truth.csv", tmp_path / "log"
    table.write_text("event_id,cnt,note\nb1,12,x\nb2,,late\nb1,99,again\n")
    mine = settings(source="truth.csv")
    assert append_labels(mine, tmp_path, log) == 1
    assert append_labels(mine, tmp_path, log) == 0
    table.write_text("event_id,cnt,note\nb1,12,x\nb2,7.5,now\nb3,1,\n")
    assert append_labels(mine, tmp_path, log) == 2
    found = lines(log)
    assert [(line["key"], line["y"]) for line in found] == [
        ({"event_id": "b1"}, 12.0),
        ({"event_id": "b2"}, 7.5),
        ({"event_id": "b3"}, 1.0),
    ]
    assert {line["v"] for line in found} == {1}


def test_parquet_keys_of_several_columns_come_as_json_values(tmp_path: Path) -> None:
    table = tmp_path / "truth.parquet"
    duckdb.execute(
        f"COPY (SELECT TIMESTAMP '2012-01-01 05:00:00' AS hour, 7 AS store, 1.5::DECIMAL(4,2) AS size, true AS late)"
        f" TO '{table}'"
    )
    mine = settings(key=None, source="*.parquet", on=["hour", "store", "size"], value="late")
    assert append_labels(mine, tmp_path, tmp_path / "log") == 1
    (line,) = lines(tmp_path / "log")
    assert (line["key"], line["y"]) == ({"hour": "2012-01-01T05:00:00", "store": 7, "size": 1.5}, 1.0)


def test_a_named_file_needs_no_settings(tmp_path: Path) -> None:
    table = tmp_path / "other.csv"
    table.write_text("event_id,cnt\nb1,1\n")
    assert append_labels(settings(), tmp_path, tmp_path / "log", table) == 1


def test_what_was_not_remembered_is_loaded_again(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("event_id,cnt\nb1,1\n")
    mine, log = settings(source="truth.csv"), tmp_path / "log"
    append_labels(mine, tmp_path, log)
    (log / LOADED).unlink()  # a crash between writing and remembering
    assert append_labels(mine, tmp_path, log) == 1


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ("event_id,count\nb1,1\n", ConfigError, "joins on 'cnt', which truth.csv lacks; it has: event_id, count"),
        ("event,cnt\nb1,1\n", ConfigError, "did you mean 'event'?"),
        ("event_id,cnt\nb1,many\n", DataError, "row 1: cnt is 'many'; allowed: a finite number"),
        ("event_id,cnt\nb1,1\nb2,inf\n", DataError, "row 2: cnt is inf"),
        ("", DataError, "truth.csv is empty"),
        (None, DataError, "truth.csv: no such label file"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, content: str | None, error: type[Exception], words: str) -> None:
    if content is not None:
        (tmp_path / "truth.csv").write_text(content)
    with pytest.raises(error) as caught:
        append_labels(settings(source="truth.csv"), tmp_path, tmp_path / "log")
    assert words in str(caught.value)
    assert lines(tmp_path / "log") == []


def test_a_broken_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "truth.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"truth\.parquet: not a readable label table"):
        append_labels(settings(source="truth.parquet"), tmp_path, tmp_path / "log")


def test_missing_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"labels\.source is not set"):
        append_labels(settings(), tmp_path, tmp_path / "log")
    with pytest.raises(ConfigError, match=r"labels\.on is empty"):
        append_labels(settings(key=None, source="truth.csv"), tmp_path, tmp_path / "log")


def test_key_texts_of_one_key_meet() -> None:
    assert key_text({"a": 7}, ["a"]) == key_text({"a": 7.0}, ["a"])
    assert key_text({"a": "7"}, ["a"]) != key_text({"a": 7}, ["a"])
    assert key_text({"a": "2012-01-01 05:00"}, ["a"]) == key_text({"a": "2012-01-01T05:00:00"}, ["a"])
    assert key_text({"a": None}, ["a"]) is None
    assert key_text({}, ["a"]) is None
    assert key_text({"a": 1}, []) is None
