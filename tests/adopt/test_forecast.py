from __future__ import annotations

from pathlib import Path

import pytest

from trilho.adopt.fits import Fits
from trilho.adopt.forecast import Forecast, forecast, price, size
from trilho.adopt.notebook import read_notebook
from trilho.adopt.survey import Access

HEAD = """import os, glob, requests, sqlite3, subprocess, joblib, pickle
import numpy as np
import pandas as pd
from pathlib import Path
from google.cloud import bigquery
"""


def of(folder: Path, *cells: str) -> Forecast:
    path = folder / "n.py"
    path.write_text("\n# %%\n".join([HEAD, *cells]), encoding="utf-8")
    return forecast(read_notebook(path))


def targets(accesses: tuple[Access, ...]) -> list[tuple[str, str | None]]:
    return [(access.kind, access.target) for access in accesses]


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("pd.read_csv('a.csv')", [("csv", "a.csv")]),
        ("D = 'd/'\npd.read_csv(D + 'a.csv', sep=';')", [("csv", "d/a.csv")]),
        ("pd.read_csv(filepath_or_buffer='a.csv')", [("csv", "a.csv")]),
        ("pd.read_parquet(os.path.join('d', 'a.parquet'))", [("parquet", "d/a.parquet")]),
        ("pd.read_csv(Path('d') / 'e' / 'a.csv')", [("csv", "d/e/a.csv")]),
        ("for y in [2023, 2024]:\n    pd.read_csv(f'v_{y}.csv')", [("csv", "v_2023.csv"), ("csv", "v_2024.csv")]),
        ("x = [pd.read_csv(f) for f in ('a.csv', 'b.csv')]", [("csv", "a.csv"), ("csv", "b.csv")]),
        ("def load(n, ext='csv'):\n    return pd.read_csv('%s.%s' % (n, ext))\nload('a')", [("csv", "a.csv")]),
        ("def load(n):\n    return pd.read_csv(n)\n", []),
        (
            "P = '/home/ana/x/'\nif not os.path.exists(P):\n    P = 'here/'\npd.read_csv(P + 'a.csv')",
            [("csv", "here/a.csv")],
        ),
        ("pd.read_csv(name_of())", [("csv", None)]),
        ("pd.read_csv('a.csv') if True else pd.read_csv('b.csv')", [("csv", "a.csv"), ("csv", "b.csv")]),
        ("pd.read_csv('https://x.org/a.csv')", [("csv", "https://x.org/a.csv")]),
        ("np.load('a.npy')\njoblib.load('m.joblib')", [("numpy", "a.npy"), ("model", "m.joblib")]),
        ("with open('a.txt') as h:\n    h.read()", [("file", "a.txt")]),
        ("con = sqlite3.connect('a.db')\npd.read_sql('select * from d.t', con)", [("sql", "a.db"), ("sql", "d.t")]),
        ("from sklearn.datasets import load_iris\nload_iris()", [("dataset", "load_iris")]),
        ("x = (Path('d') / 'a.txt').read_text()", [("file", "d/a.txt")]),
        ("class L:\n    def load(self, p):\n        return pd.read_csv('in.csv')", [("csv", "in.csv")]),
    ],
)
def test_reads(tmp_path: Path, source: str, reads: list[tuple[str, str | None]]) -> None:
    assert targets(of(tmp_path, source).reads) == reads


def test_files_that_are_there_are_weighed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.csv").write_text("12345")
    (tmp_path / "d" / "b.csv").write_text("123")
    found = of(
        tmp_path, "for f in glob.glob('d/*.csv'):\n    pd.read_csv(f)\npd.read_csv('d/a.csv')\npd.read_csv('no.csv')"
    )
    assert [(a.target, a.exists, a.bytes) for a in found.reads] == [
        ("d/a.csv", True, 5), ("d/b.csv", True, 3), ("d/a.csv", True, 5), ("no.csv", False, None),
    ]  # fmt: skip
    assert found.cost.bytes == 8
    assert found.reads[0].cell == 1
    assert found.reads[0].line == 2
    text = "\n".join(found.lines())
    assert "cell 1, line 2: csv  d/b.csv, 3 B" in text
    assert "no.csv, not there" in text
    assert "Local data: 8 B" in text


@pytest.mark.parametrize(
    ("source", "writes"),
    [
        ("df.to_csv('o.csv')\ndf.to_csv()", [("csv", "o.csv")]),
        ("df.to_gbq('d.t', project_id='p')", [("bigquery", "d.t")]),
        ("joblib.dump(m, 'm.joblib')", [("model", "m.joblib")]),
        ("with open('m.pkl', 'wb') as h:\n    pickle.dump(m, h)", [("file", "m.pkl")]),
        ("open(file='a', mode='a')", [("file", "a")]),
        ("Path('a').open('w')", [("file", "a")]),
        ("bst.save_model(os.path.join('o', 'm.json'))", [("model", "o/m.json")]),
        ("plt.savefig('f.png')", [("figure", "f.png")]),
        ("os.makedirs('out', exist_ok=True)\nos.remove('x')", [("folder", "out"), ("deletion", "x")]),
        ("c = bigquery.Client()\nc.load_table_from_dataframe(df, 'd.t')", [("bigquery", "d.t")]),
        ("c.query('DELETE FROM d.t WHERE a')", [("bigquery", "d.t")]),
    ],
)
def test_writes(tmp_path: Path, source: str, writes: list[tuple[str, str | None]]) -> None:
    found = of(tmp_path, source)
    assert targets(found.writes) == writes
    assert found.reads == ()


def test_bigquery_is_counted_and_a_frames_query_is_not(tmp_path: Path) -> None:
    cell = (
        'c = bigquery.Client()\nsql = """SELECT a\nFROM `p.d.t` JOIN d.u USING (k)"""\nx = c.query(sql).to_dataframe()'
    )
    found = of(tmp_path, cell, "y = x.query('a > 3')", "q = make()\nc.query(q)")
    assert targets(found.reads) == [("bigquery", "p.d.t, d.u"), ("bigquery", None)]
    assert found.cost.queries == 2
    assert {access.target for access in found.sends} == {"bigquery.googleapis.com"}
    assert "BigQuery: 2 queries; a dry run tells the bytes of each before it is run, at 6.25 USD per TiB" in "\n".join(
        found.lines()
    )


def test_what_is_sent_and_started(tmp_path: Path) -> None:
    cell = "requests.post('https://hooks.example.com/x', json={})\nsubprocess.run(['rm', '-r', 'a'])\nos.system('ls')"
    found = of(tmp_path, cell, "!gsutil cp a gs://b", "%%bash\nls")
    assert targets(found.sends) == [("http", "https://hooks.example.com/x")]
    assert targets(found.runs) == [
        ("process", "rm -r a"), ("process", "ls"), ("shell", "gsutil cp a gs://b"), ("shell", "ls"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "number", "unknown"),
    [
        ("m.fit(X, y)", 1, False),
        ("from sklearn.preprocessing import StandardScaler\nStandardScaler().fit(X)", 0, False),
        ("from sklearn.preprocessing import StandardScaler\ns = StandardScaler()\ns.fit(X)", 0, False),
        ("from sklearn.model_selection import cross_val_score\ncross_val_score(m, X, y, cv=3)", 3, False),
        ("from sklearn.model_selection import GridSearchCV\ng = {'a': [1, 2], 'b': [3, 4, z]}\n"
         "s = GridSearchCV(m, g)\ns.fit(X, y)", 31, False),
        ("from sklearn.model_selection import RandomizedSearchCV as R\nR(m, {}, n_iter=8, cv=2).fit(X, y)", 17, False),
        ("from sklearn.model_selection import KFold, cross_validate\nk = KFold(n_splits=7)\n"
         "cross_validate(m, X, y, cv=k)", 7, False),
        ("from sklearn.model_selection import KFold\nk = KFold(4)\nfor i, (a, b) in enumerate(k.split(X)):\n"
         "    m.fit(X[a], y[a])", 4, False),
        ("for d in [2, 3, 4]:\n    for e in range(5):\n        m.fit(X, y)", 15, False),
        ("for d in range(100000):\n    m.fit(X, y)", 100000, False),
        ("for d in things:\n    m.fit(X, y)", 1, True),
        ("import xgboost as xgb, lightgbm as lgb\nxgb.train(p, d)\nlgb.cv(p, d, nfold=4)", 5, False),
        ("ms = {'a': A(), 'b': B()}\nfor n, m in ms.items():\n    m.fit(X, y)", 2, False),
        ("l = [1]\nfor i in range(3):\n    l.append(i)\nfor i in l:\n    m.fit(X, y)", 1, True),
        ("class M:\n    def fit(self, X):\n        self.r.fit(X)\nM().fit(X)", 1, False),
    ],
)  # fmt: skip
def test_fits_are_counted(tmp_path: Path, source: str, number: int, unknown: bool) -> None:
    fits = of(tmp_path, source).cost.fits
    assert (fits.number, fits.unknown) == (number, unknown)


def test_the_cell_that_fits_most_is_named(tmp_path: Path) -> None:
    found = of(tmp_path, "m.fit(X)", "for i in range(6):\n    m.fit(X)")
    assert found.cost.fits == Fits(7, 6, 2, False, ((1, 1), (2, 6)))
    assert found.lines()[-1] == "Models fitted: 7, 6 of them in cell 2"


def test_long_loops_take_no_time(tmp_path: Path) -> None:
    loops = "for a in range(200):\n  for b in range(200):\n    for c in range(200):\n      m.fit(X)"
    assert of(tmp_path, loops).cost.fits.number == 8_000_000
    assert of(tmp_path, "for i in range(10 ** 12): pass\nx = list(range(10000000000))").cost.fits.number == 0


def test_a_notebook_that_does_nothing(tmp_path: Path) -> None:
    assert of(tmp_path, "x = 1").lines() == ["It reads and writes nothing that its text tells"]


def test_money_and_sizes() -> None:
    assert price(2**39) == 3.125
    assert [size(n) for n in (0, 999, 1000, 2_500_000, 7_000_000_000)] == ["0 B", "999 B", "1.0 kB", "2.5 MB", "7.0 GB"]
