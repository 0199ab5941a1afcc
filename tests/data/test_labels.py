"""Labels from a table: joined by key, each row loaded once, mistakes named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from trilho.config import Settings
from trilho.data.labels import LOADED, append_labels, key_text, new_labels, source_files
from trilho.errors import ConfigError, DataError
from trilho_runtime.prediction.mask import Mask


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


def test_texts_of_a_csv_stay_what_they_are_and_other_columns_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text(
        "seen,event_id,cnt\n2012-01-01 05:00:00+02:00,0012,1\n2012-01-01 05:00:00+00,007,2.5\n,7.0,3\n"
    )
    assert append_labels(settings(source="truth.csv"), tmp_path, tmp_path / "log") == 3
    found = [(key_text(line["key"], ["event_id"]), line["y"]) for line in lines(tmp_path / "log")]
    assert found == [('["0012"]', 1.0), ('["007"]', 2.5), ('["7"]', 3.0)]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_times_with_a_zone_are_keys(tmp_path: Path, suffix: str) -> None:
    table = tmp_path / f"truth.{suffix}"
    duckdb.execute(f"COPY (SELECT TIMESTAMPTZ '2012-01-01 05:00:00-03:00' AS event_id, 1 AS cnt) TO '{table}'")
    assert append_labels(settings(source=table.name), tmp_path, tmp_path / "log") == 1
    (line,) = lines(tmp_path / "log")
    assert key_text(line["key"], ["event_id"]) == '["2012-01-01T08:00:00"]'


def test_the_files_of_labels_may_lie_anywhere(tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (project, elsewhere):
        folder.mkdir()
        (folder / "a.csv").write_text("event_id,cnt\nb1,1\n")
        (folder / "b.csv").write_text("event_id,cnt\nb2,1\n")
        (folder / "c.csv").mkdir()
    for source, files in [
        ("a.csv", [project / "a.csv"]),
        ("*.csv", [project / "a.csv", project / "b.csv"]),
        (f"{elsewhere}/*.csv", [elsewhere / "a.csv", elsewhere / "b.csv"]),
        (f"{elsewhere}/b.csv", [elsewhere / "b.csv"]),
        ("absent.csv", []),
        (f"{elsewhere}/absent*.csv", []),
        (None, []),
    ]:
        assert source_files(settings(source=source), project) == files
    assert append_labels(settings(source=f"{elsewhere}/*.csv"), project, tmp_path / "log") == 2


def test_key_texts_of_one_key_meet() -> None:
    def text(value: object) -> str | None:
        return key_text({"a": value}, ["a"])

    assert {text(value) for value in (7, 7.0, "7", "7.0")} == {'["7"]'}
    assert {text(value) for value in ("007", "7.10", 7.5, True, "20120101", "2012-01-99")} == {
        *('["007"]', '["7.10"]', '["7.5"]', '["true"]', '["20120101"]', '["2012-01-99"]')
    }
    moments = ["2012-01-01 08:00", "2012-01-01T08:00:00Z", "2012-01-01T05:00:00-03:00", "20120101T08", "2011-W52-7T08"]
    assert {text(moment) for moment in moments} == {'["2012-01-01T08:00:00"]'}
    assert key_text({"a": None}, ["a"]) is None
    assert key_text({}, ["a"]) is None
    assert key_text({"a": 1}, []) is None


def test_keys_are_masked_as_the_servers_mask_them(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("event_id,cnt\n101,5\n")
    mine, log, mask = settings(source="truth.csv"), tmp_path / "log", Mask.parse({"event_id": "hash"}, "a secret")
    assert append_labels(mine, tmp_path, log, mask=mask) == 1
    assert append_labels(mine, tmp_path, log, mask=mask) == 0
    (line,) = lines(log)
    assert line["key"] == {"event_id": mask.hash(101)}
    assert "101" not in (log / LOADED).read_text()
    with pytest.raises(ConfigError, match=r"joined on event_id, which serve\.mask drops from the log"):
        append_labels(mine, tmp_path, log, mask=Mask.parse({"event_id": "drop"}))


WORDS = {"value": "churn", "classes": {"sim": 1, "não": 0}}


def words(**labels: object) -> Settings:
    return Settings.model_validate(
        {
            "model": {"name": "churn", "task": "classification", "target": "target", "key": "id"},
            "data": {"source": "data.csv"},
            "steps": {"load": "churn.load:load", "train": "churn.fit:fit"},
            "labels": {**WORDS, **labels},
        }
    )


def test_the_companys_own_words_are_the_models_classes(tmp_path: Path) -> None:
    table = tmp_path / "clientes.csv"
    table.write_text("id,uf,churn\nC1,RJ,sim\nC2,SP,não\nC3,SP,\nC4,RJ,1\n")
    assert append_labels(words(), tmp_path, tmp_path / "log", table, classes=(0, 1)) == 3
    found = [(line["key"]["id"], line["y"]) for line in lines(tmp_path / "log")]
    assert found == [("C1", 1.0), ("C2", 0.0), ("C4", 1.0)]  # C3 has no truth yet: that is no "não"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_of_the_target_itself_needs_no_words(tmp_path: Path, suffix: str) -> None:
    table = tmp_path / f"truth.{suffix}"
    duckdb.execute(f"COPY (SELECT 'C1' AS id, 1 AS target UNION ALL SELECT 'C2', 2) TO '{table}'")
    swapped = words(classes={"1": 0, "2": 1})  # the words of the other column
    fresh = new_labels(swapped, tmp_path, tmp_path / "log", table, classes=())
    assert {label.key["id"]: label.value for label in fresh} == {"C1": 1.0, "C2": 2.0}


def test_a_word_that_stands_for_nothing_is_named_with_those_that_do(tmp_path: Path) -> None:
    table = tmp_path / "clientes.csv"
    table.write_text("id,churn\nC1,talvez\n")
    with pytest.raises(DataError) as caught:
        append_labels(words(), tmp_path, tmp_path / "log", table, classes=(0, 1))
    assert "row 1: churn is 'talvez'; allowed: one of 'sim', 'não', 0, 1" in str(caught.value)


@pytest.mark.parametrize(
    ("select", "classes", "found"),
    [
        ("true AS churn", {"true": 1, "false": 0}, 1.0),
        ("2 AS churn", {"1": 0, "2": 1}, 1.0),
        ("2.0::DOUBLE AS churn", {"1": 0, "2": 1}, 1.0),
        ("2.0::DECIMAL(4, 1) AS churn", {"1": 0, "2": 1}, 1.0),
        ("'t' AS churn", {"t": 0, "f": 1}, 0.0),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_words_are_codes_and_truths_too(
    tmp_path: Path, select: str, classes: dict[str, float], found: float, suffix: str
) -> None:
    table = tmp_path / f"truth.{suffix}"
    duckdb.execute(f"COPY (SELECT 'C1' AS id, {select}) TO '{table}'")
    fresh = new_labels(words(classes=classes), tmp_path, tmp_path / "log", table, classes=(0, 1))
    assert [label.value for label in fresh] == [found]
