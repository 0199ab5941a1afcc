"""Contracts: what is found, what is not, and a first contract from data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from trilho.data.contract import Contract, check, infer, load_contract
from trilho.errors import ConfigError

GOOD = """
[table]
min_rows = 3
unique = ["id"]

[columns.x]
type = "number"
nullable = false
min = 0
max = 10

[columns.kind]
type = "string"
values = ["a", "b"]

[columns.y]
type = "integer"
values = [0, 1]
"""


def contract(tmp_path: Path, text: str = GOOD) -> Contract:
    (tmp_path / "contract.toml").write_text(text)
    return load_contract(tmp_path / "contract.toml")


def table(tmp_path: Path, rows: str) -> Path:
    path = tmp_path / "t.parquet"
    columns = "id, x, kind, y, flag, ts"
    casts = "id, x::VARCHAR::DOUBLE AS x, kind, y::BIGINT AS y, flag, ts::TIMESTAMP AS ts"
    duckdb.sql(f"COPY (SELECT {casts} FROM (VALUES {rows}) t({columns})) TO '{path}' (FORMAT parquet)")
    return path


FINE = "('1', 0, 'a', 0, true, '2020-01-01'), ('2', 10, 'b', 1, NULL, NULL), ('3', 5.5, NULL, NULL, false, NULL)"


def test_a_table_that_keeps_its_contract(tmp_path: Path) -> None:
    assert check(table(tmp_path, FINE), contract(tmp_path)) == []


@pytest.mark.parametrize(
    ("rows", "facts"),
    [
        ("('1', 1, 'a', 0, true, NULL)", ["1 rows; at least 3 are wanted"]),
        (FINE + ", ('1', 1, 'a', 0, true, NULL)", ["id: must be unique, and 1 values come again"]),
        (FINE + ", ('4', NULL, 'a', 0, true, NULL)", ["x: is empty in 1 of 4 rows"]),
        (FINE + ", ('4', -0.5, 'a', 0, true, NULL)", ["x: goes down to -0.5; at least 0 is allowed"]),
        (FINE + ", ('4', 10.5, 'a', 0, true, NULL)", ["x: goes up to 10.5; at most 10 is allowed"]),
        (FINE + ", ('4', 'nan'::DOUBLE, 'a', 0, true, NULL)", ["x: is infinite or not a number in 1 rows"]),
        (FINE + ", ('4', 'inf'::DOUBLE, 'a', 0, true, NULL)", ["x: is infinite or not a number in 1 rows"]),
        (FINE + ", ('4', 1, 'c''s', 2, true, NULL)", [
            'kind: 1 rows hold values not listed, such as "c\'s"',
            "y: 1 rows hold values not listed, such as 2",
        ]),
    ],
)  # fmt: skip
def test_what_breaks_it_is_found(tmp_path: Path, rows: str, facts: list[str]) -> None:
    assert [str(finding) for finding in check(table(tmp_path, rows), contract(tmp_path))] == facts


def test_types_and_missing_columns_are_found(tmp_path: Path) -> None:
    rules = '[columns.flag]\ntype = "number"\n[columns.kinds]\nnullable = false\n[columns.y]\ntype = "number"\n'
    found = check(table(tmp_path, FINE), contract(tmp_path, rules))
    assert [str(finding) for finding in found] == [
        "flag: is boolean; the contract says number",
        "kinds: the data has no such column; did you mean 'kind'?",
    ]


def test_a_boolean_may_be_listed(tmp_path: Path) -> None:
    found = check(table(tmp_path, FINE), contract(tmp_path, "[columns.flag]\nvalues = [true]\n"))
    assert [str(finding) for finding in found] == ["flag: 1 rows hold values not listed, such as False"]


def test_freshness_is_by_the_clock(tmp_path: Path) -> None:
    rules = contract(tmp_path, '[table]\nfreshness = "2 days"\n')
    old = (datetime.now(UTC) - timedelta(days=3)).strftime("%Y-%m-%d %H:%M:%S")
    new = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%d %H:%M:%S")
    row = "('1', 1, 'a', 0, true, '{}')"
    (found,) = check(table(tmp_path, row.format(old)), rules, time="ts")
    assert "3 days ago; 2 days, 0:00:00 is allowed" in str(found)
    assert check(table(tmp_path, row.format(new)), rules, time="ts") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[columns.x]\nmini = 3\n", r"unknown key columns\.x\.mini; allowed: .*\nHint: did you mean 'min'\?"),
        ("[tables]\nmin_rows = 3\n", r"unknown key tables; allowed: columns, table\nHint: did you mean 'table'\?"),
        ("[table]\nmin_rows = -3\n", r"table\.min_rows is -3; allowed: .*greater than or equal to 0"),
        ('[columns.x]\ntype = "float"\n', r"columns\.x\.type is 'float'; allowed: 'number', 'integer'"),
        ('[table]\nfreshness = "soon"\n', r"table\.freshness is 'soon'; allowed: a duration such as"),
        ("[table\n", "contract.toml: not TOML"),
    ],
)
def test_a_wrong_contract_is_told(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        contract(tmp_path, text)


def test_no_contract_is_an_empty_one(tmp_path: Path) -> None:
    assert load_contract(tmp_path / "none.toml") == Contract()


def test_an_inferred_contract_holds_and_has_room(tmp_path: Path) -> None:
    data = table(tmp_path, FINE.replace("NULL, NULL, false", "NULL, 1, false"))
    text = infer(data, key="id", target="y")
    assert check(data, contract(tmp_path, text)) == []
    found = contract(tmp_path, text)
    assert found.table.unique == ["id"]
    assert found.columns["x"].min == 0
    assert found.columns["x"].max == 20
    assert found.columns["x"].nullable is False
    assert found.columns["kind"].nullable is True
    assert found.columns["y"].values == [0, 1]


def test_names_that_toml_must_quote(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    columns = '1 AS "a b", 2 AS "say ""x"""'
    duckdb.sql(f"COPY (SELECT {columns}) TO '{path}' (FORMAT parquet)")
    assert set(contract(tmp_path, infer(path)).columns) == {"a b", 'say "x"'}
