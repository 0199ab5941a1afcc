"""Tables at their edges: what is refused and how, types without an array, rows too wide for little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from trilho.errors import ConfigError, DataError
from trilho.watch.tables.bigquery import BigQueryTable
from trilho.watch.tables.opening import open_table
from trilho.watch.tables.reference import Reference

ROOT = Path(__file__).resolve().parents[2]


def test_bigquery_says_what_it_lacks() -> None:
    with pytest.raises(ConfigError, match="needs a client of BigQuery"):
        open_table("bigquery:a.b.c")
    with pytest.raises(ConfigError, match="no table of BigQuery"):
        BigQueryTable("a.b`; drop", lambda _: [])
    with pytest.raises(DataError, match="no such table"):
        BigQueryTable("a.b.c", lambda _: [])


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        ("nowhere/*.parquet", "no such file"),
        ("README.md", "not a kind of table"),
        ("src", "is a folder"),
        (7, "a int cannot be profiled"),
    ],
)
def test_what_is_no_table_is_refused_with_a_hint(data: Any, fact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises((ConfigError, DataError), match=fact) as caught:
        open_table(data)
    assert "Hint:" in str(caught.value)


def test_names_and_windows_that_are_not_there() -> None:
    with pytest.raises(DataError, match="no column when"):
        Reference.fit({"x": np.arange(100.0)}, "when")
    with pytest.raises(ConfigError, match="window is 'a moon'"):
        Reference.fit({"x": np.arange(100.0)}, window="a moon")


def test_a_broken_file_is_told_in_two_lines(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="cannot be read"):
        Reference.fit(tmp_path / "x.parquet")


def test_arrays_need_no_database() -> None:
    code = (
        "import sys, numpy as np; from trilho.watch.tables.reference import Reference; "
        "Reference.fit({'x': np.arange(50.0)}).profile({'x': [1.0]}); print('duckdb' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_types_that_arrays_do_not_have() -> None:
    query = """
    SELECT ['red', 'blue'][(i % 2 + 1)::INT]::ENUM('red', 'blue') AS shade, i::HUGEINT AS huge, i::UTINYINT AS tiny,
        i::DECIMAL(18, 3) AS exact, i::FLOAT AS single, md5((i % 3)::VARCHAR)::UUID AS part, [i] AS listed,
        {'a': i} AS inside, TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_hours((i * 7)::INT) AS zoned,
        INTERVAL 1 DAY AS span, NULL AS nothing
    FROM range(200) AS r(i)
    """
    reference = Reference.fit(duckdb.sql(query))
    kinds = {f.name: f.kind for f in reference.features}
    assert kinds == {
        "shade": "category",
        **dict.fromkeys(("huge", "tiny", "exact", "single"), "number"),
        "part": "category",
        "zoned:hour": "timestamp",
        "zoned:weekday": "timestamp",
    }
    assert reference.skipped == {"nothing": "0 values in the reference"}
    profile = reference.profile(duckdb.sql(query))
    assert {f.name: f.inside.tolist() for f in reference.features} == {k: v.tolist() for k, v in profile.items()}
    assert all(counts[-1] == 0 for counts in profile.values())


def test_rows_too_wide_for_little_memory_get_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trilho.watch.tables.duck.MEMORY", "4MB")
    columns = ", ".join(f"hash(i + {k}) / 1e9 AS x{k}" for k in range(60))
    duckdb.sql(f"COPY (SELECT {columns} FROM range(40000) AS r(i)) TO '{tmp_path / 'wide.parquet'}' (FORMAT parquet)")
    reference = Reference.fit(tmp_path / "wide.parquet")
    assert len(reference.features) == 60
    assert {int(feature.counts.sum()) for feature in reference.features} == {40000}
