"""Dataset versions: identity, union, order, repeats, and what bad files get."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from trilho.backends.local.store import LocalStore
from trilho.data.contract import Contract
from trilho.data.tables import columns_of, database, scan
from trilho.data.version import Dataset, load_table, read_manifest, version_data
from trilho.errors import ConfigError, DataError

ROWS = "id,ts,x,y\na,2020-01-02 00:00:00,1,10\nb,2020-01-01 00:00:00,2,20\nc,2020-01-03 00:00:00,,30\n"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    file = tmp_path / "base.csv"
    file.write_text(ROWS)
    return file


def version(store: LocalStore, *sources: Path, served: Path | None = None, key: str | None = "id") -> Dataset:
    return version_data(list(sources), store, time="ts", key=key, target="y", served=served)


def table(store: LocalStore, dataset: Dataset, tmp_path: Path) -> list[tuple[object, ...]]:
    out = tmp_path / "out.parquet"
    assert load_table(dataset.digest, store, out) == dataset.rows
    with duckdb.connect() as connection:
        return connection.execute(f"SELECT * REPLACE (strftime(ts, '%d') AS ts) FROM '{out}'").fetchall()


def parquet(path: Path, query: str) -> Path:
    duckdb.sql(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return path


def test_a_version_is_named_by_content(store: LocalStore, csv: Path, tmp_path: Path) -> None:
    first = version(store, csv)
    assert first == Dataset(
        digest=first.digest,
        rows=3,
        columns=["id", "ts", "x", "y"],
        first="2020-01-01T00:00:00",
        last="2020-01-03T00:00:00",
        served_rows=0,
        source="base.csv",
        baseline_first="2020-01-01T00:00:00",
        baseline_last="2020-01-03T00:00:00",
    )
    elsewhere = tmp_path / "elsewhere" / "base.csv"
    elsewhere.parent.mkdir()
    elsewhere.write_text(ROWS)
    assert version(LocalStore(tmp_path / "other"), elsewhere).digest == first.digest
    csv.write_text(ROWS.replace("30", "31"))
    assert version(store, csv).digest != first.digest
    types = {column["name"]: column["type"] for column in read_manifest(first.digest, store)["columns"]}
    assert types == {"id": "VARCHAR", "ts": "TIMESTAMP", "x": "BIGINT", "y": "BIGINT"}


def test_a_version_outlives_its_files(store: LocalStore, csv: Path, tmp_path: Path) -> None:
    dataset = version(store, csv)
    csv.unlink()
    assert table(store, dataset, tmp_path) == [("b", "01", 2, 20), ("a", "02", 1, 10), ("c", "03", None, 30)]


def test_served_rows_join_as_the_baselines_types_and_never_replace_its_rows(
    store: LocalStore, csv: Path, tmp_path: Path
) -> None:
    served = parquet(
        tmp_path / "served.parquet",
        "SELECT * FROM (VALUES ('d', '2020-01-04T00:00:00', 4.0, 40.0, true), ('a', '2020-01-09', 9.0, 90.0, true), "
        "('e', '2020-01-05', NULL, 50.0, false)) t(id, ts, x, y, extra)",
    )
    dataset = version(store, csv, served=served)
    assert (dataset.rows, dataset.served_rows, dataset.source) == (5, 2, "base.csv and 2 served rows")
    assert (dataset.last, dataset.baseline_last) == ("2020-01-05T00:00:00", "2020-01-03T00:00:00")
    assert table(store, dataset, tmp_path)[3:] == [("d", "04", 4, 40), ("e", "05", None, 50)]


def test_a_served_value_of_another_type_counts_as_missing(store: LocalStore, csv: Path, tmp_path: Path) -> None:
    query = "SELECT 'd' AS id, '2020-01-04' AS ts, 'many' AS x, 4 AS y"
    dataset = version(store, csv, served=parquet(tmp_path / "served.parquet", query))
    assert table(store, dataset, tmp_path)[-1] == ("d", "04", None, 4)


def test_served_rows_that_break_the_contract_are_left_out_and_counted(
    store: LocalStore, csv: Path, tmp_path: Path
) -> None:
    served = parquet(
        tmp_path / "served.parquet",
        "SELECT * FROM (VALUES ('d', '2020-01-04', 4.0, 40.0), ('e', 'soon', 5.0, 50.0), (NULL, '2020-01-05', 5.0, 0), "
        "('f', '2020-01-06', 99.0, 60.0), ('g', '2020-01-07', 'nan'::DOUBLE, 70.0), ('h', '2020-01-08', NULL, 80.0), "
        "('i', '2020-01-09', 3.0, NULL), ('j', '2020-01-10', 2.0, 1e300)) t(id, ts, x, y)",
    )
    rules = {"x": {"type": "integer", "max": 9}, "id": {"nullable": False}, "y": {"min": 0, "max": float("inf")}}
    contract = Contract.model_validate({"columns": rules})
    dataset = version_data([csv], store, time="ts", key="id", target="y", served=served, contract=contract)
    assert (dataset.served_rows, dataset.served_left_out, dataset.last) == (3, 5, "2020-01-08T00:00:00")
    assert dataset.source == "base.csv and 3 served rows, 5 more left out: they break the contract"
    assert [row[0] for row in table(store, dataset, tmp_path)[3:]] == ["d", "g", "h"]
    assert read_manifest(dataset.digest, store)["served_left_out"] == 5


def test_a_served_row_repeats_nothing_that_must_be_unique(store: LocalStore, csv: Path, tmp_path: Path) -> None:
    query = "SELECT * FROM (VALUES ('a', '2020-01-04', 1, 1), ('d', '2020-01-05', 2, 2), ('d', '2020-01-06', 3, 3))"
    served = parquet(tmp_path / "served.parquet", f"{query} t(id, ts, x, y)")
    contract = Contract.model_validate({"table": {"unique": ["id"]}})
    dataset = version_data([csv], store, time="ts", key=None, target="y", served=served, contract=contract)
    assert (dataset.rows, dataset.served_rows) == (4, 1)
    assert table(store, dataset, tmp_path)[3:] == [("d", "05", 2, 2)]


def test_a_key_repeated_in_a_source_file_stays_for_the_contract_to_find(store: LocalStore, tmp_path: Path) -> None:
    file = tmp_path / "twice.csv"
    file.write_text("id,ts,x,y\na,2020-01-01,1,1\na,2020-01-02,2,9\n")
    contract = Contract.model_validate({"table": {"unique": ["id"]}})
    forbidden = version_data([file], store, time="ts", key="id", target="y", served=None, contract=contract)
    assert forbidden.rows == 2
    assert version_data([file], store, time="ts", key="id", target="y", served=None, contract=Contract()).rows == 1


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_zone_of_a_time_that_is_a_text_counts(store: LocalStore, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"z.{suffix}"
    duckdb.sql(f"COPY (SELECT 'a' AS id, '2020-01-01T08:00:00+02:00' AS ts, 1 AS y) TO '{file}'")
    query = "SELECT 'b' AS id, '2020-01-01T09:00:00+02:00' AS ts, 1 AS y"
    dataset = version(store, file, served=parquet(tmp_path / "served.parquet", query))
    assert (dataset.first, dataset.last) == ("2020-01-01T06:00:00", "2020-01-01T07:00:00")


def test_an_empty_served_file_adds_nothing(store: LocalStore, csv: Path, tmp_path: Path) -> None:
    query = "SELECT 'd' AS id, '2020-01-04' AS ts, 1 AS x, 4 AS y LIMIT 0"
    assert version(store, csv, served=parquet(tmp_path / "served.parquet", query)).rows == 3


def test_files_are_joined_by_the_names_of_their_columns(store: LocalStore, csv: Path, tmp_path: Path) -> None:
    query = "SELECT 7.5 AS y, TIMESTAMP '2020-02-01' AS ts, 'z' AS id, 1 AS new"
    more = parquet(tmp_path / "more.parquet", query)
    dataset = version(store, csv, more)
    assert dataset.columns == ["id", "ts", "x", "y", "new"]
    assert table(store, dataset, tmp_path)[-1] == ("z", "01", None, 7.5, 1)


def test_without_a_key_repeats_stay_and_rows_without_one_are_no_repeats(store: LocalStore, tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    file.write_text("id,ts,y\na,2020-01-01,1\na,2020-01-01,1\n,2020-01-01,2\n,2020-01-01,3\n")
    assert version(store, file, key=None).rows == 4
    assert version(store, file).rows == 3


def test_times_with_a_zone_are_read_as_utc(store: LocalStore, tmp_path: Path) -> None:
    query = "SELECT 'a' AS id, TIMESTAMPTZ '2020-01-01 00:00:00-03:00' AS ts, 1 AS y"
    assert version(store, parquet(tmp_path / "z.parquet", query)).first == "2020-01-01T03:00:00"


def test_semicolons_and_names_with_spaces_are_read(store: LocalStore, tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text('id;ts;"a, ""b""";y\na;2020-01-01;1,5;3\n')
    assert version(store, file).columns == ["id", "ts", 'a, "b"', "y"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.csv", None, "none.csv: no such file"),
        ("empty.csv", b"", "empty.csv is empty: 0 bytes"),
        ("header.csv", b"id,ts,y\n", "header.csv has a header and no rows"),
        ("cut.csv", ROWS.encode() + b"d,2020", "cut.csv: line 5 has 2 fields, the header 4"),
        ("noise.csv", bytes(range(128, 256)) * 20, "noise.csv: it is not UTF-8 text"),
        ("noise.parquet", b"PAR1" + bytes(500), "noise.parquet: is not a whole Parquet file: its end is missing"),
        ("table.xlsx", b"PK", r"table.xlsx: \.xlsx is not a kind of table"),
        ("times.csv", b"id,ts,y\na,yesterday,1\n", "times.csv: .*yesterday"),
        ("holes.csv", b"id,ts,y\na,2020-01-01,1\nb,,2\n", "time column ts is empty in 1 of 2 rows"),
        ("words.csv", b"id,ts,y\na,2020-01-01,maybe\n", "target y is VARCHAR; a number is wanted"),
    ],
)
def test_bad_files_are_told(store: LocalStore, tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        version(store, tmp_path / name)
    assert caught.value.hint


def test_a_truncated_parquet_file_is_told(store: LocalStore, tmp_path: Path) -> None:
    query = "SELECT i::VARCHAR AS id, now()::TIMESTAMP AS ts, random() AS y FROM range(9999) t(i)"
    file = parquet(tmp_path / "whole.parquet", query)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"whole.parquet: is not a whole Parquet file"):
        version(store, file)


def test_a_served_file_that_is_cut_is_told(store: LocalStore, csv: Path, tmp_path: Path) -> None:
    (tmp_path / "served.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"served.parquet: is not a whole Parquet file"):
        version(store, csv, served=tmp_path / "served.parquet")


def test_only_true_and_false_are_booleans(store: LocalStore, tmp_path: Path) -> None:
    file = tmp_path / "b.csv"
    file.write_text("id,ts,answer,flag,y\nt,2020-01-01,yes,true,0\nf,2020-01-02,no,False,1\n")
    columns = read_manifest(version(store, file).digest, store)["columns"]
    assert {column["name"]: column["type"] for column in columns} == {
        "id": "VARCHAR",
        "ts": "TIMESTAMP",
        "answer": "VARCHAR",
        "flag": "BOOLEAN",
        "y": "BIGINT",
    }


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"target": "yy"}, r"model\.target is 'yy'.*it has: id, ts, x, y\nHint: did you mean 'y'\?"),
        ({"time": "tss"}, r"model\.time is 'tss'.*\nHint: did you mean 'ts'\?"),
        ({"key": "row"}, r"model\.key is 'row'.*\nHint: change model\.key"),
        ({"time": "x"}, r"model\.time is 'x', a column of BIGINT; a time is wanted"),
    ],
)
def test_columns_that_are_not_there_are_told(store: LocalStore, csv: Path, named: dict[str, str], words: str) -> None:
    wanted = {"time": "ts", "key": "id", "target": "y", **named}
    with pytest.raises(ConfigError, match=words):
        version_data([csv], store, served=None, time=wanted["time"], key=wanted["key"], target=wanted["target"])


def test_a_column_of_two_types_is_told(store: LocalStore, csv: Path, tmp_path: Path) -> None:
    more = parquet(tmp_path / "m.parquet", "SELECT 'a' AS id, TIMESTAMP '2020-01-01' AS ts, 'many' AS x, 1 AS y")
    with pytest.raises(DataError, match=r"m.parquet: column x is VARCHAR, and BIGINT in a file before it"):
        version(store, csv, more)


def test_nested_columns_are_told(store: LocalStore, tmp_path: Path) -> None:
    file = parquet(tmp_path / "n.parquet", "SELECT 'a' AS id, TIMESTAMP '2020-01-01' AS ts, [1] AS x, 1 AS y")
    with pytest.raises(DataError, match=r"column x is INTEGER\[\]; numbers, texts, booleans and times"):
        version(store, file)


def test_lines_that_end_in_two_ways_are_told(tmp_path: Path) -> None:
    file = tmp_path / "mixed.csv"
    file.write_bytes(b"k,y\n1,2\n" + b"3,4\r\n" + b"5,6\n" * 3000)
    with pytest.raises(DataError) as caught, database() as connection:
        columns_of(connection, scan(file, "csv"), file)
    assert caught.value.fact == f"{file}: its lines end in two ways, LF and CRLF; write them in one"
