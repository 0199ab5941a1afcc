"""A split at a literal date or row number moves with the data, and gives the notebook's own split on its data."""

from __future__ import annotations

import ast
import csv
import json
import math
import random
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.adopt import slice_replay as harness

from trilho.adopt.capture import capture, find_interpreter
from trilho.adopt.notebook import read_notebook
from trilho.adopt.plan import Plan
from trilho.adopt.slice.choose import choose
from trilho.adopt.slice.cuts import column_of, literal_of, moment_of, shape_of, uses
from trilho.adopt.slice.slice import make_plan
from trilho.cli.app import run

HERE = Path(__file__).parent
PYTHON = HERE.parent / "notebooks" / ".venv" / "bin" / "python"
needs_notebooks = pytest.mark.skipif(not PYTHON.exists(), reason="make notebooks")
HEAD = """# %%
import pandas as pd
from datetime import datetime
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error
df = pd.read_csv("d.csv"{parse})
df["a"] = df["a"].fillna(df["a"].median())
# %%
"""
TAIL = """
m = Ridge().fit(train[["a", "b"]], train["y"])
print(mean_absolute_error(test["y"], m.predict(test[["a", "b"]])))
"""


@dataclass(frozen=True)
class Moved:
    plan: Plan
    found: dict[str, Any]

    @property
    def split(self) -> str:
        functions = [*self.plan.fit, *self.plan.evaluate]
        return "\n".join(p.source for f in functions if f.name == "split" for p in f.parts)

    @property
    def stays(self) -> list[str]:
        return [f.message for f in self.plan.findings if f.rule == "fixed-split"]


def moved(folder: Path, source: str, *, text: bool = False) -> Moved:
    rng, rows = random.Random(3), ["day,a,b,y"]
    for i in range(400):
        day = datetime(2023, 8, 20) + timedelta(hours=14 * i)
        a, b = ("" if rng.random() < 0.1 and i < 395 else f"{rng.random():.4f}"), rng.random()
        rows.append(f"{day:%Y-%m-%d} {a} {b:.4f} {3 * b + math.sin(i):.4f}".replace(" ", ",") if text
                    else f"{day.isoformat(sep=' ')},{a},{b:.4f},{3 * b + math.sin(i):.4f}")  # fmt: skip
    (folder / "d.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    path = folder / "nb.py"
    path.write_text(HEAD.format(parse="" if text else ', parse_dates=["day"]') + source + TAIL, encoding="utf-8")
    notebook, scratch = read_notebook(path), folder / "scratch"
    trace = capture(notebook, find_interpreter(notebook, str(PYTHON)), scratch, lambda _: None)
    choice = choose(notebook, trace, scratch=scratch)
    plan = make_plan(notebook, trace, choice, name="project", scratch=scratch)
    found = harness.replay(plan, choice, trace, scratch, str(PYTHON), folder / "project")
    return Moved(plan, found)


def expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def test_limits_and_what_they_are_compared_with_are_found() -> None:
    found = list(uses(ast.parse("a = df[(df['t'] >= '2024-01-01') & (c > df.u)]\nb = df.iloc[:n, 1:]\nx[:-3]")))
    assert [(u.how, ast.unparse(u.limit), ast.unparse(u.anchor), u.low) for u in found] == [
        ("value", "'2024-01-01'", "df['t']", True), ("value", "c", "df.u", False), ("rows", "n", "df", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("'2024-10-01'", "2024-10-01"),
        ("pd.to_datetime('2024-10')", datetime(2024, 10, 1)),
        ("datetime(2024, 10, 1)", datetime(2024, 10, 1)),
        ("pd.to_datetime('01/10/2024', dayfirst=True)", None),
        ("pd.Timestamp(cut)", None),
        ("True", None),
    ],
)
def test_literals(text: str, wanted: object) -> None:
    assert literal_of(expression(text)) == wanted


def test_only_texts_that_sort_as_times_have_a_shape() -> None:
    assert shape_of("20241001") == "%Y%m%d"
    assert shape_of("1/10/2024") is None
    assert moment_of("2024-10-01T06:00") == datetime(2024, 10, 1, 6)
    assert column_of(expression("df['t'].dt.month")) is None


DAY = 'df["day"]'
BACK = '.max() - pd.Timedelta("38 days 18:00:00")'
CASES = {
    "constant": (
        'corte = "2024-03-01"  # spring\ntrain = df[df["day"] < corte]\ntest = df[df["day"] >= corte]',
        ["corte = df['day']" + BACK + "  # spring; the notebook cut at 2024-03-01", 'df[df["day"] < corte]'],
    ),
    "inline": (
        'train = df[df.day < pd.Timestamp("2024-03-01")]\ntest = df[df.day >= pd.Timestamp("2024-03-01")]',
        ["cut = df.day" + BACK, "df[df.day < cut]", "df[df.day >= cut]"],
    ),
    "mask": ("cut = datetime(2024, 3, 1)\nm = df.day < cut\ntrain = df[m]\ntest = df[~m]", ["cut = df.day" + BACK]),
    "tuple": (
        'CUTS = ("2024-02-15", "2024-03-01")\ntrain = df[df["day"] < CUTS[0]]\ntest = df[df["day"] >= CUTS[1]]',
        ['("53 days 18:00:00"), ' + "df['day']" + BACK, "cut at 2024-02-15 and 2024-03-01"],
    ),
    "labels": (
        'df = df.set_index("day").sort_index()\ntrain = df.loc[:"2024-02-29"]\ntest = df.loc["2024-03-01":]',
        ['cut = (df.index.max() - pd.Timedelta("39 days")).strftime("%Y-%m-%d")', "df.loc[:cut]", "df.loc[cut_2:]"],
    ),
    "query": (
        "train = df.query(\"day < '2024-03-01'\")\ntest = df.query(\"day >= '2024-03-01'\")",
        ['df.query("day < @cut")', "cut = df['day']" + BACK],
    ),
    "window": (
        'train = df[(df["day"] >= "2023-09-01") & (df["day"] < "2024-03-01")]\ntest = df[df["day"] >= "2024-03-01"]',
        ['(df["day"] >= "2023-09-01") & (df["day"] < cut)'],
    ),
    "rows": ("n = 300\ntrain = df.iloc[:n]\ntest = df.iloc[n:]", ["n = len(df) - 100  # the notebook cut at row 300"]),
    "rows_inline": ("train, test = df[:300], df[300:]", ["cut = len(df) - 100", "df[:cut], df[cut:]"]),
    "share": ("n = int(len(df) * .8)\ntrain = df[:n]\ntest = df[n:]", ["n = int(len(df) * .8)"]),
    "year": (
        "train = df[df.day.dt.year < 2024]\ntest = df[df.day.dt.year >= 2024]",
        ["cut = df.day.dt.year.max()  # the notebook cut at 2024"],
    ),
}


@needs_notebooks
@pytest.mark.parametrize("name", CASES)
def test_a_literal_moves_and_the_split_stays_the_same(tmp_path: Path, name: str) -> None:
    source, texts = CASES[name]
    done = moved(tmp_path, source)
    assert done.plan.form == "model"
    assert done.plan.split_in_fit
    for text in texts:
        assert text in done.split
    assert done.stays == []
    assert "error" not in done.found, done.found
    for mine, theirs in done.found["metrics"].values():
        assert mine == pytest.approx(theirs, rel=1e-12)
    assert max(one[4] for one in done.found["compared"]) < 1e-12


@needs_notebooks
def test_dates_that_are_texts_stay_texts(tmp_path: Path) -> None:
    done = moved(tmp_path, 'c = "2024-03-01"\ntrain = df[df["day"] < c]\ntest = df[df["day"] >= c]', text=True)
    wanted = 'c = (pd.to_datetime(df[\'day\']).max() - pd.Timedelta("38 days")).strftime("%Y-%m-%d")'
    assert wanted in done.split
    assert "error" not in done.found, done.found
    assert max(one[4] for one in done.found["compared"]) < 1e-12


@needs_notebooks
def test_what_cannot_move_stays_and_is_told(tmp_path: Path) -> None:
    source = ('c = "2024-03-01"\nprint(c.upper())\ntrain = df[df["day"] < c]\ntest = df[df["day"] >= c]\n'
              'train = train[train["day"] < "2024-02-15"]')  # fmt: skip
    done = moved(tmp_path, source)
    assert any("2024-02-15" in message for message in done.stays)
    assert "error" not in done.found, done.found


@needs_notebooks
def test_an_adopted_model_learns_from_next_years_rows(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, str(HERE.parent / "notebooks" / "corpus.py"), str(tmp_path / "corpus"), "vendas"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    into = tmp_path / "vendas"
    code = run(["adopt", str(tmp_path / "corpus" / "vendas" / "vendas.ipynb"), "--into", str(into),
                 "--python", str(PYTHON)])  # fmt: skip
    assert code == 0
    assert json.loads((into / "parity.json").read_text(encoding="utf-8"))["certified"] is True
    written = (into / "src" / "vendas" / "fit.py").read_text(encoding="utf-8")
    assert 'corte = df["data"].max() - pd.Timedelta("91 days")  # the notebook cut at 2024-10-01' in written
    [table] = (into / "data").glob("vendas*.csv")
    later = tmp_path / "later.csv"
    _shift(table, later, 366)
    told = subprocess.run(
        [str(PYTHON), "-c", LEARNS, str(into / "src"), str(table), str(later)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    now, next_year = json.loads(told.stdout.splitlines()[-1])
    assert now["newest"] == "2024-09-30"
    assert next_year["newest"] == "2025-10-01"
    assert next_year["rows"] == now["rows"] > 0


LEARNS = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from vendas import fit
from vendas.load import load
train_model, found = fit.train_model, []
def watched(treino, *rest):
    found.append({"rows": len(treino), "newest": str(treino["data"].max().date())})
    return train_model(treino, *rest)
fit.train_model = watched
for name in sys.argv[2:]:
    table = load(Path(name))
    fit.fit(table.drop(columns="vendas"), table["vendas"])
print()
print(json.dumps(found))
"""


def _shift(source: Path, into: Path, days: int) -> None:
    """Write a table with all its days moved."""
    with source.open(encoding="latin-1", newline="") as handle:
        head, *rows = csv.reader(handle, delimiter=";")
    at = next(i for i, name in enumerate(head) if name.strip().lower() == "data")
    for row in rows:
        row[at] = (datetime.strptime(row[at], "%d/%m/%Y") + timedelta(days=days)).strftime("%d/%m/%Y")
    with into.open("w", encoding="latin-1", newline="") as handle:
        csv.writer(handle, delimiter=";").writerows([head, *rows])
