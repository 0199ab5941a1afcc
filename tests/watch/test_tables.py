"""Tables: the same rows give the same profile, wherever they lie and however they are split."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import sqlglot
from numpy.typing import NDArray
from tests.watch.world import MemoryLog

from trilho.errors import DataError
from trilho.watch.tables import fitting
from trilho.watch.tables.duck import DuckTable
from trilho.watch.tables.opening import open_table
from trilho.watch.tables.reference import Reference
from trilho_runtime.profile import Profile, add, decode_profile, encode_profile

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "tests" / "notebooks" / ".venv" / "bin" / "python"
DAY = 86400.0
ROWS = """
SELECT i,
    CASE WHEN i % 11 = 0 THEN NULL WHEN i % 13 = 0 THEN 'nan'::DOUBLE WHEN i % 17 = 0 THEN 'inf'::DOUBLE
         WHEN i % 19 = 0 THEN '-inf'::DOUBLE ELSE (hash(i) % 10007) / 97 - 20 END AS amount,
    CASE WHEN i % 7 = 0 THEN NULL ELSE (hash(i + 1) % 6)::INT END AS stars,
    (hash(i + 2) % 9999)::DECIMAL(12, 2) / 100 AS price,
    CASE WHEN i % 9 = 0 THEN NULL ELSE 'it''s ' || (hash(i + 3) % 40) END AS color,
    'p' || least(hash(i + 4) % 900, hash(i + 5) % 900) AS product,
    CASE WHEN i % 10 = 0 THEN NULL ELSE hash(i + 6) % 3 = 0 END AS member,
    CASE WHEN i % 12 = 0 THEN NULL
         ELSE TIMESTAMP '2026-01-01' + to_microseconds((hash(i + 7) % 100000000)::BIGINT * 100000) END AS at,
    DATE '2026-01-01' + (hash(i + 8) % 90)::INT AS due,
    CASE WHEN i % 8 = 0 THEN NULL ELSE ['Late', 'box', 'CAME', 'good'][(hash(i + 9) % 4 + 1)::INT] || ' '
         || ['never', 'again', ''][(hash(i + 10) % 3 + 1)::INT] || ' number ' || i END AS note,
    'id' || i AS id,
    TIMESTAMP '2026-03-01' + to_hours((i // 25)::INT) AS ts,
    'k' || (i // 5) AS customer
FROM range({first}, {last}) AS r(i)
"""
SERVED = """
SELECT * REPLACE (
    CASE WHEN i % 5 = 0 THEN amount * 3 ELSE amount END AS amount,
    CASE WHEN i % 6 = 0 THEN 'new ' || i ELSE color END AS color,
    CASE WHEN i % 4 = 0 THEN 'chegou quebrado' WHEN i % 9 = 0 THEN '  ' ELSE note END AS note)
FROM rows
"""


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    made = duckdb.connect()
    made.execute(f"CREATE TABLE rows AS {ROWS.format(first=0, last=3000)}")
    made.execute(f"CREATE TABLE served AS {SERVED}")
    return made


@pytest.fixture(scope="module")
def reference(connection: duckdb.DuckDBPyConnection) -> Reference:
    return Reference.fit(connection.table("rows"), ignore=["i", "ts", "customer"])


@pytest.fixture(scope="module")
def expected(connection: duckdb.DuckDBPyConnection, reference: Reference) -> Profile:
    """What the runtime counts in arrays, value by value."""
    columns = arrays(connection, "served")
    return {f.name: np.bincount(f.place(columns[f.column]), minlength=len(f.labels)) for f in reference.features}


def arrays(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, NDArray[Any]]:
    return dict(connection.execute(f"SELECT * FROM {table}").fetchnumpy())


def same(found: Profile, wanted: Profile) -> bool:
    return {k: v.tolist() for k, v in found.items()} == {k: v.tolist() for k, v in wanted.items()}


def test_every_kind_of_column_is_watched(reference: Reference, expected: Profile) -> None:
    assert [(f.name, f.kind) for f in reference.features] == [
        ("amount", "number"),
        ("stars", "number"),
        ("price", "number"),
        ("color", "category"),
        ("product", "category"),
        ("member", "boolean"),
        ("at:hour", "timestamp"),
        ("at:weekday", "timestamp"),
        ("due:weekday", "timestamp"),
        ("note:length", "text"),
        ("note:words", "text"),
    ]
    assert reference.skipped == {"id": "nearly every value is new"}
    special = {f.name: dict(zip(f.special_names, f.special, strict=True)) for f in reference.features}
    told = {name: int(expected["amount"][place]) for name, place in special["amount"].items()}
    assert all(count > 0 for count in told.values())
    assert told["null"] == len(range(0, 3000, 11))
    assert expected["color"][special["color"]["unseen"]] == 500
    words = dict(zip(reference.features[-1].labels, expected["note:words"].tolist(), strict=True))
    assert [label for label, count in words.items() if count] == [
        "to a quarter of words new", "to half of words new", "no words", "unseen"
    ]  # fmt: skip


def test_duckdb_arrays_files_and_globs_give_the_same_profile(
    connection: duckdb.DuckDBPyConnection, reference: Reference, expected: Profile, tmp_path: Path
) -> None:
    connection.execute(f"COPY served TO '{tmp_path / 'all.parquet'}' (FORMAT parquet)")
    connection.execute(f"COPY served TO '{tmp_path / 'all.csv'}' (HEADER)")
    for k in range(3):
        part = f"(SELECT * FROM served WHERE i % 3 = {k} ORDER BY hash(i))"
        connection.execute(f"COPY {part} TO '{tmp_path / f'part-{k}.parquet'}' (FORMAT parquet)")
    profiles = {
        "relation": reference.profile(connection.table("served")),
        "query": reference.profile(connection.sql("SELECT * FROM served ORDER BY hash(i)")),
        "arrays": reference.profile(arrays(connection, "served")),
        "parquet": reference.profile(tmp_path / "all.parquet"),
        "csv": reference.profile(str(tmp_path / "all.csv")),
        "glob": reference.profile(str(tmp_path / "part-*.parquet")),
        "paths": reference.profile([tmp_path / f"part-{k}.parquet" for k in (2, 0, 1)]),
    }
    assert {name: same(profile, expected) for name, profile in profiles.items()} == dict.fromkeys(profiles, True)
    parts = [reference.profile(tmp_path / f"part-{k}.parquet") for k in range(3)]
    assert same(add(*parts), expected)


def test_every_source_gives_the_same_reference(
    connection: duckdb.DuckDBPyConnection, reference: Reference, tmp_path: Path
) -> None:
    connection.execute(f"COPY (SELECT * FROM rows ORDER BY hash(i)) TO '{tmp_path / 'x.parquet'}' (FORMAT parquet)")
    connection.execute(f"COPY rows TO '{tmp_path / 'x.csv'}' (HEADER)")
    for data in (tmp_path / "x.parquet", tmp_path / "x.csv", arrays(connection, "rows")):
        assert Reference.fit(data, ignore=["i", "ts", "customer"]).to_json() == reference.to_json()
    assert reference.to_json() == Reference.from_json(reference.to_json()).to_json()
    assert isinstance(Reference.from_json(reference.to_json()), Reference)


def test_a_delta_table_is_what_its_log_says(
    connection: duckdb.DuckDBPyConnection, reference: Reference, expected: Profile, tmp_path: Path
) -> None:
    deltalake = pytest.importorskip("deltalake")
    folder = tmp_path / "table"
    folder.mkdir()
    for k in range(2):
        part = f"(SELECT * FROM served WHERE i % 2 = {k})"
        connection.execute(f"COPY {part} TO '{folder / f'{k}.parquet'}' (FORMAT parquet)")
    deltalake.convert_to_deltalake(str(folder))
    connection.execute(f"COPY served TO '{folder / 'not-in-the-log.parquet'}' (FORMAT parquet)")
    for data in (deltalake.DeltaTable(str(folder)), f"delta:{folder}", folder):
        assert same(reference.profile(data), expected)
    with pytest.raises(DataError, match="not a Delta table"):
        open_table(f"delta:{tmp_path}")


def test_a_deltas_partition_is_a_column(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    folder = tmp_path / "parted"
    connection.execute(
        f"COPY (SELECT amount, product[2:2] AS color FROM rows) TO '{folder}' (FORMAT parquet, PARTITION_BY (color))"
    )
    schema = deltalake.Schema([deltalake.Field("color", "string")])
    deltalake.convert_to_deltalake(str(folder), partition_by=schema, partition_strategy="hive")
    plain = connection.sql("SELECT amount, product[2:2] AS color FROM rows")
    reference = Reference.fit(plain)
    assert same(reference.profile(f"delta:{folder}"), reference.profile(plain))


class Warehouse:
    """BigQuery as far as its SQL goes: what is sent is said in DuckDB's words and run there."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, table: str) -> None:
        self.connection, self.table, self.sent = connection, table, list[str]()

    def __call__(self, sql: str) -> list[tuple[Any, ...]]:
        self.sent.append(sql)
        if "INFORMATION_SCHEMA" in sql:
            names = {"VARCHAR": "STRING", "BIGINT": "INT64", "INTEGER": "INT64", "DOUBLE": "FLOAT64", "BOOLEAN": "BOOL"}
            told = self.connection.execute(f"DESCRIBE {self.table}").fetchall()
            return [(row[0], names.get(row[1], "NUMERIC(12, 2)" if "DECIMAL" in row[1] else row[1])) for row in told]
        back = sqlglot.transpile(sql.replace("`shop.sales.served`", self.table), read="bigquery", write="duckdb")[0]
        return self.connection.execute(back).fetchall()


def test_the_text_for_bigquery_run_back_on_duckdb_counts_the_same(
    connection: duckdb.DuckDBPyConnection, reference: Reference, expected: Profile
) -> None:
    warehouse = Warehouse(connection, "served")
    assert same(reference.profile("bigquery:shop.sales.served", client=warehouse), expected)
    sent = warehouse.sent[-1]
    assert len(warehouse.sent) == 2
    assert "COUNTIF(" in sent
    assert "FROM `shop.sales.served`" in sent
    for foreign in ("COUNT_IF", "HISTOGRAM", "TRY_CAST", "LIST_", "STRING_SPLIT", "ENUM"):
        assert foreign not in sent
    assert sqlglot.parse_one(sent, read="bigquery").sql(dialect="bigquery") == sent


def test_a_reference_from_bigquery_is_that_of_its_rows(
    connection: duckdb.DuckDBPyConnection, reference: Reference
) -> None:
    fitted = Reference.fit(
        "bigquery:shop.sales.served", ignore=["i", "ts", "customer"], client=Warehouse(connection, "rows")
    )
    assert fitted.to_json() == reference.to_json()


def test_merging_is_exact_associative_and_needs_no_order(
    connection: duckdb.DuckDBPyConnection, reference: Reference, expected: Profile
) -> None:
    columns = arrays(connection, "served")
    for seed in range(12):
        rng = np.random.default_rng(seed)
        order = rng.permutation(3000)
        cuts = np.sort(rng.integers(0, 3001, rng.integers(1, 6)))
        parts = [
            reference.profile({name: values[rows] for name, values in columns.items()})
            for rows in np.split(order, cuts)
        ]
        assert same(add(*parts), expected)
        assert same(add(parts[0], add(*parts[1:])), add(add(*parts[:-1]), parts[-1]))
        assert same(add(*reversed(parts)), expected)
        sent = [decode_profile(encode_profile(part, 1))[0] for part in parts]
        assert same(add(*sent), expected)


def test_a_part_and_the_rest_are_the_whole_in_sql_too(
    connection: duckdb.DuckDBPyConnection, reference: Reference, expected: Profile
) -> None:
    for modulus in (2, 5, 1000):
        part, rest = (connection.sql(f"SELECT * FROM served WHERE i % {modulus} {sign} 0") for sign in ("=", "<>"))
        assert same(add(reference.profile(part), reference.profile(rest)), expected)


def test_grouped_histogram_and_portable_counts_agree(
    connection: duckdb.DuckDBPyConnection, reference: Reference, expected: Profile
) -> None:
    for columnar in (False, True):
        table = DuckTable(connection.execute, "served", columnar=columnar)
        assert same(table.count(reference.features).profiles[None], expected)


def test_what_the_reference_has_and_the_data_lacks_is_null(
    connection: duckdb.DuckDBPyConnection, reference: Reference
) -> None:
    for data in (connection.sql("SELECT i FROM served LIMIT 7"), {"i": np.arange(7)}):
        profile = reference.profile(data)
        assert {name: (int(counts.sum()), int(counts[-1])) for name, counts in profile.items()} == dict.fromkeys(
            profile, (7, 7)
        )
    nothing = reference.profile(connection.sql("SELECT * FROM served LIMIT 0"))
    assert {int(counts.sum()) for counts in nothing.values()} == {0}
    assert {int(counts.sum()) for counts in reference.profile({}).values()} == {0}


def test_a_column_of_another_type_is_counted_and_not_refused(
    connection: duckdb.DuckDBPyConnection, reference: Reference
) -> None:
    swapped = "SELECT 'red' AS amount, 7.0 AS color, 'soon' AS at, TIMESTAMP '2026-01-01' AS stars, 'yes' AS member"
    profile = reference.profile(connection.sql(swapped))
    labels = {f.name: f.labels for f in reference.features}
    told = {name: labels[name][int(np.argmax(profile[name]))] for name in ("amount", "color", "stars", "member")}
    assert told == {"amount": "nan", "color": "unseen", "stars": "nan", "member": "unseen"}
    assert profile["at:hour"][-2] == 1


def test_above_the_sample_every_row_is_counted(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fitting, "SAMPLE", 1500)
    connection.execute(f"COPY rows TO '{tmp_path / 'x.parquet'}' (FORMAT parquet)")
    for data in (tmp_path / "x.parquet", connection.table("rows"), arrays(connection, "rows")):
        reference = Reference.fit(data, "ts", "1 day", key="customer", ignore=["i"])
        again = Reference.fit(data, "ts", "1 day", key="customer", ignore=["i"])
        assert again.to_json() == reference.to_json()
        assert (reference.rows, reference.windows, reference.cluster) == (3000, 5, 5.0)
        assert reference.block_windows == tuple(range(20513, 20518))
        whole = reference.profile(data)
        for feature in reference.features:
            assert feature.inside.tolist() == whole[feature.name].tolist()
            assert feature.counts.sum() == 3000
            assert feature.blocks.sum(1).tolist() == [600] * 5
        color = next(f for f in reference.features if f.name == "color")
        assert color.counts.tolist() == color.inside.tolist() == color.blocks.sum(0).tolist()
        product = next(f for f in reference.features if f.name == "product")
        unseen = product.counts[-2] / 3000
        assert product.counts[-2] > product.inside[-2]  # as in another window, where more is new
        assert unseen == pytest.approx(product.blocks[:, -2].sum() / 3000, abs=0.05)


def test_windows_and_keys_of_arrays_and_of_sql_agree(connection: duckdb.DuckDBPyConnection) -> None:
    by_arrays = Reference.fit(arrays(connection, "rows"), "ts", 3600.0, key="customer", columns=["amount", "color"])
    by_sql = Reference.fit(connection.table("rows"), "ts", 3600.0, key="customer", columns=["amount", "color"])
    assert by_arrays.to_json() == by_sql.to_json()
    assert (by_sql.windows, by_sql.cluster, by_sql.time, by_sql.key) == (120, 5.0, "ts", "customer")
    times = arrays(connection, "rows")
    beside = Reference.fit({"amount": times["amount"]}, time=times["ts"], window="1 hour")
    assert beside.features[0].blocks.tolist() == by_sql.features[0].blocks.tolist()


def test_the_prediction_log_is_a_table() -> None:
    rng = np.random.default_rng(3)
    log = MemoryLog()
    x, color = rng.normal(size=400), rng.choice(["a", "b"], 400).astype(object)
    time, prediction = np.sort(rng.random(400)) * 20 * DAY, rng.random(400)
    log.serve(time, prediction, x=x, color=color)
    reference = Reference.fit(log)
    rows: dict[str, NDArray[Any]] = {"x": x, "color": color, "_prediction": prediction}
    beside = Reference.fit(rows, time)
    assert {f.name: f.blocks.tolist() for f in reference.features} == {
        f.name: f.blocks.tolist() for f in beside.features
    }
    assert {f.name for f in reference.features} == {"x", "color", "_prediction"}
    assert same(reference.profile(log), {name: beside.profile(rows)[name] for name in reference.profile(log)})


def test_the_log_above_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "SAMPLE", 300)
    rng = np.random.default_rng(4)
    log = MemoryLog()
    log.serve(np.sort(rng.random(1000)) * 20 * DAY, rng.random(1000), x=rng.normal(size=1000))
    reference = Reference.fit(log)
    assert (reference.rows, reference.windows, len(reference.block_windows)) == (1000, 20, 20)
    for feature in reference.features:
        assert feature.counts.sum() == feature.blocks.sum() == 1000
        assert feature.inside.tolist() == reference.profile(log)[feature.name].tolist()


def test_frames_of_pandas_and_arrow() -> None:
    if not NOTEBOOKS.exists():
        pytest.skip("tests/notebooks/.venv is absent")
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'runtime' / 'src'}", "OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("frames_run.py")
    ran = subprocess.run([NOTEBOOKS, script], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["pandas", "arrow", "batch", "relation", "parquet", "polars-like"]
