"""Two tables compared: files of all sorts, columns of all sorts, and what the command prints and writes."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from trilho.console.comparison import comparison_page
from trilho.console.comparison_words import BINS, ENGLISH, PORTUGUESE, REASONS
from trilho.errors import DataError, NotYet, UsageError
from trilho.watch.comparison.compare import Comparison, compare
from trilho.watch.comparison.counting import counts_of

ROWS = 20_000
NORMAL = "sqrt(-2 * ln(random() + 1e-12)) * cos(2 * pi() * random())"


def write(path: Path, columns: str, rows: int = ROWS, seed: float = 0.1) -> Path:
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.execute(f"SELECT setseed({seed})")
        connection.execute(f"COPY (SELECT {columns} FROM range({rows}) t(i)) TO '{path}'")
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two tables of which the second has a shifted number, more nulls, another mix, and has lost a column."""
    folder = tmp_path_factory.mktemp("pair")
    made = []
    for k, name in enumerate(("before", "after")):
        columns = f"""
            i AS row, {NORMAL} + {0.3 * k} AS shifted, {NORMAL} AS steady,
            CASE WHEN random() < {0.02 + 0.06 * k} THEN NULL ELSE random() END AS nulls,
            random() < {0.3 + 0.1 * k} AS flag, 'c' || CAST(FLOOR(random() * random() * 3000) AS INT) AS many,
            CASE WHEN random() < {0.3 + 0.05 * k} THEN 'São Paulo' ELSE 'city ' || CAST(i % 7 AS INT) END AS city,
            uuid()::VARCHAR AS customer, TIMESTAMP '2024-01-01' + to_seconds(i * 300) AS at,
            CASE WHEN random() < 0.01 THEN 'NaN'::DOUBLE WHEN random() < {0.01 + 0.05 * k} THEN 'inf'::DOUBLE
                 ELSE random() END AS strange, [1, 2] AS list, 3 AS constant,
            'came late ' || repeat('very ', CAST(random() * {3 + 3 * k} AS INT)) || i AS remark
            {", random() AS lost" if k == 0 else ", 1 AS new"}
        """
        made.append(write(folder / f"{name}.parquet", columns, seed=0.1 + 0.3 * k))
    return made[0], made[1]


@pytest.fixture(scope="module")
def found(pair: tuple[Path, Path]) -> Comparison:
    return compare(*map(str, pair))


def test_what_changed_is_flagged_and_nothing_else(found: Comparison) -> None:
    assert set(found.drifted) == {"shifted", "nulls", "flag", "city", "strange", "remark:length", "lost"}
    assert found.drifted[0] == "lost"
    assert found.skipped == {
        "row": "it numbers the rows",
        "customer": "nearly every value is new",
        "list": "a integer[] is not compared",
        "new": "only in the second table",
    }
    assert list(found.columns) == [
        "shifted", "steady", "nulls", "flag", "many", "city", "at:hour", "at:weekday", "strange", "constant",
        "remark:length", "lost",
    ]  # fmt: skip


def test_each_column_has_what_the_contract_says(found: Comparison) -> None:
    said = found.to_json()
    assert said["rows"] == [ROWS, ROWS]
    assert said["seconds"] >= 0
    kinds = {name: one["kind"] for name, one in said["columns"].items()}
    assert kinds == {
        "shifted": "number", "steady": "number", "nulls": "number", "flag": "boolean", "many": "category",
        "city": "category", "at:hour": "timestamp", "at:weekday": "timestamp", "strange": "number",
        "constant": "number", "remark:length": "text", "lost": "number",
    }  # fmt: skip
    for name, one in said["columns"].items():
        low, high = one["interval"]
        assert 0 <= low <= one["distance"] <= high <= 1, name
        assert one["drifted"] is (name in said["drifted"])
    flag = said["columns"]["flag"]
    assert flag["distance"] == pytest.approx(0.1, abs=0.02)
    assert said["columns"]["shifted"]["distance"] == pytest.approx(0.119, abs=0.02)  # 2 Phi(.15) - 1
    assert said["columns"]["nulls"]["moved"]["bin"] == "null"
    assert said["columns"]["strange"]["moved"]["bin"] == "infinite"
    assert said["columns"]["lost"]["note"] == "not in the second table"


def test_every_row_is_counted_once(pair: tuple[Path, Path]) -> None:
    counted = counts_of(*map(str, pair))
    for one in counted.pairs:
        assert (int(one.before.sum()), int(one.after.sum())) == (ROWS, ROWS), one.name
        assert len(one.labels) == len(one.before) == len(one.after)
        assert one.before.min() >= 0


def test_the_counts_are_those_of_numpy(pair: tuple[Path, Path]) -> None:
    counted = {one.name: one for one in counts_of(*map(str, pair)).pairs}["nulls"]
    values = [
        np.array([np.nan if x is None else x for (x,) in duckdb.execute(f"SELECT nulls FROM '{path}'").fetchall()])
        for path in pair
    ]
    ends = [float(label.split(" ")[-1]) for label in counted.labels[: counted.ordered - 1]]
    for column, counts in zip(values, (counted.before, counted.after), strict=True):
        assert counts[-1] == int(np.isnan(column).sum())
        mine = [int((column <= end).sum()) for end in ends]
        assert np.cumsum(counts[: counted.ordered - 1]).tolist() == pytest.approx(mine, abs=3)  # ends of six figures


def test_turned_round_the_flags_are_the_same(pair: tuple[Path, Path], found: Comparison) -> None:
    turned = compare(str(pair[1]), str(pair[0]))
    assert set(turned.drifted) - {"new"} == set(found.drifted) - {"lost"}


def test_the_same_answer_twice(pair: tuple[Path, Path], found: Comparison) -> None:
    again = compare(*map(str, pair)).to_json()
    assert {**again, "seconds": 0} == {**found.to_json(), "seconds": 0}


def test_csv_patterns_and_folders_say_what_parquet_says(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    names = "shifted, city, flag"
    for name, path in zip(("before", "after"), pair, strict=True):
        folder = tmp_path / name
        folder.mkdir()
        duckdb.sql(f"COPY (SELECT {names} FROM '{path}' WHERE row < 9000) TO '{folder}/1.csv'")
        duckdb.sql(f"COPY (SELECT {names} FROM '{path}' WHERE row >= 9000) TO '{folder}/2.csv'")
    whole = compare(tmp_path / "before", tmp_path / "after")
    by_pattern = compare(f"{tmp_path}/before/*.csv", f"{tmp_path}/after/*.csv")
    assert whole.rows == by_pattern.rows == (ROWS, ROWS)
    assert whole.drifted == by_pattern.drifted
    assert set(whole.drifted) == {"shifted", "city", "flag"}


def test_types_that_differ_are_compared_as_they_can_be(tmp_path: Path) -> None:
    before = write(tmp_path / "a.parquet", "i % 5 AS code, CAST(i % 3 AS VARCHAR) AS text, i % 4 AS also", 3000)
    after = write(
        tmp_path / "b.parquet",
        "CAST(i % 5 AS VARCHAR) AS code, i % 3 AS text, CASE WHEN i % 2 = 0 THEN 'x' ELSE CAST(i % 4 AS VARCHAR) END "
        "AS also",
        3000,
    )
    found = compare(before, after)
    assert found.drifted == ["also"]
    assert found.columns["code"].pair.kind == "number"
    assert found.columns["text"].pair.kind == "category"
    assert found.columns["also"].to_json()["moved"]["bin"] == "null"
    assert found.columns["also"].pair.note == "bigint in the first table, varchar in the second"


def test_small_and_odd_tables(tmp_path: Path) -> None:
    few = write(tmp_path / "few.parquet", "i AS n, 'a' AS c, NULL::DOUBLE AS nothing", 3)
    more = write(tmp_path / "more.parquet", "i AS n, 'a' AS c, NULL::DOUBLE AS nothing", 50)
    found = compare(few, more)
    assert found.drifted == []
    assert found.skipped == {"nothing": "0 values"}
    none = write(tmp_path / "none.parquet", "i AS n", 0)
    with pytest.raises(NotYet, match="the second table has no rows"):
        compare(few, none)


def test_a_thousand_values_in_a_thousand_rows_are_compared_at_the_level(tmp_path: Path) -> None:
    listed = ", ".join(f"'v' || CAST(FLOOR(random() * {1000 if i % 2 else 10}) AS INT) AS c{i}" for i in range(40))
    p = list[float]()
    for seed in (0.1, 0.3, 0.5):
        tables = [write(tmp_path / f"{seed}{k}.parquet", listed, 1000, seed + k / 10) for k in range(2)]
        found = compare(*tables)
        assert (len(found.columns), found.skipped, found.drifted) == (40, {}, [])
        p += [one.decision.p for one in found.columns.values()]
    assert 1 <= sum(x <= 0.05 for x in p) <= 13  # 6 of 120 are expected


def test_a_quoted_name_is_a_name(tmp_path: Path) -> None:
    path = write(tmp_path / "its.parquet", """random() AS "a ""b"" 'c'", 'x' AS "select" """, 500)
    path = path.rename(tmp_path / "it's [1].parquet")
    assert list(compare(path, path).columns) == ["a \"b\" 'c'", "select"]


def test_what_is_in_memory_is_compared_too() -> None:
    draw = np.random.default_rng(2)
    before = {"x": draw.normal(size=4000), "c": draw.choice(["a", "b"], 4000).astype(object)}
    after = {"x": draw.normal(0.5, 1, 4000), "c": draw.choice(["a", "b"], 4000).astype(object)}
    found = compare(before, after)
    assert (found.rows, found.drifted) == ((4000, 4000), ["x"])
    relation = duckdb.sql("SELECT CAST(range AS DOUBLE) AS x, 'a' AS c FROM range(4000)")
    assert compare(before, relation).drifted == ["x", "c"]


def test_troubles_are_told_in_two_lines(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("no table")
    (tmp_path / "broken.parquet").write_text("no parquet")
    for place, said in (
        ("none.parquet", "no such file, and no file matches it"),
        ("notes.md", "is neither Parquet nor CSV"),
        ("broken.parquet", "the table cannot be read"),
    ):
        with pytest.raises(DataError, match=said) as raised:
            compare(tmp_path / place, tmp_path / place)
        assert raised.value.hint
    with pytest.raises(UsageError, match="allowed: a rate above 0"):
        compare("a.csv", "b.csv", rate=0)


class Checked(HTMLParser):
    """Counts what a page refers to outside of itself, and tags that are not closed."""

    VOID = ("meta", "circle", "line", "rect", "path", "br", "link", "img", "i")

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outside += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href")]
        self.outside += [tag] if tag in ("script", "link", "img") else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("language", ["en", "pt-BR"])
def test_the_page_needs_nothing_else_and_says_what_was_found(found: Comparison, language: Any) -> None:
    page = comparison_page(found, "before.parquet", "<after>.parquet", language=language)
    checked = Checked()
    checked.feed(page)
    assert (checked.outside, checked.open) == ([], [])
    assert "<after>.parquet" in checked.text
    assert "<after>" not in page
    assert "prefers-color-scheme: dark" in page
    assert f'lang="{language}"' in page
    count = {"en": "7 columns have drifted", "pt-BR": "7 colunas mudaram"}[language]
    assert count in checked.text
    for name in (*found.columns, *found.skipped):
        assert name in checked.text
    english = ("not in the second table", "rarer values", "Monday", "nearly every value is new")
    assert [word for word in english if word in page and language == "pt-BR"] == []


def test_names_and_values_of_others_are_never_markup(tmp_path: Path) -> None:
    before = write(tmp_path / "a.parquet", """CASE WHEN random() < 0.5 THEN '<script>' ELSE '"b' END AS "<script>x" """)
    after = write(tmp_path / "b.parquet", """'<script>' AS "<script>x" """)
    page = comparison_page(compare(before, after), "<script>", '"><script>')
    assert "<script" not in page
    assert "&lt;script&gt;x" in page


def test_a_page_of_nothing_is_calm(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", "random() AS x", 500)
    page = comparison_page(compare(path, path), "a", "a")
    assert "No column has drifted" in page


def test_both_languages_say_the_same_things() -> None:
    assert ENGLISH.keys() == PORTUGUESE.keys()
    for key, text in ENGLISH.items():
        blanks = {part.split("}")[0] for part in text.split("{")[1:]}
        assert blanks == {part.split("}")[0] for part in PORTUGUESE[key].split("{")[1:]}, key
    assert BINS["pt-BR"]
    assert REASONS["pt-BR"]


def test_comparing_imports_no_library_of_the_users(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,c\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(40)))
    code = (
        "import sys, trilho.watch; trilho.watch.compare(sys.argv[1], sys.argv[1]);"
        "print(sorted({'pandas', 'pyarrow', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
