"""What a run tells of values: bindings, changes, rows, expressions."""

from __future__ import annotations

import re
from pathlib import Path

from tests.adopt.capture_runs import ran, run, value

TABLE = """import numpy as np, pandas as pd
n = 40
days = pd.date_range("2024-01-01", periods=n)[::-1]
pd.DataFrame({"a": np.arange(n) * 1.5, "b": list("wxyz") * 10, "t": days}).to_csv("t.csv", index=False)
df = pd.read_csv("t.csv", parse_dates=["t"])"""


def test_aliases_and_views_change_together(tmp_path: Path) -> None:
    cells = ("other = df\nother['c'] = 1", "box = {'k': [1]}\ninner = box['k']\ninner.append(2)",
             "x = np.zeros(4)\nview = x[1:]\nview[0] = 7", "unrelated = [1]\nunrelated.append(2)")  # fmt: skip
    trace = ran(run(tmp_path, TABLE, *cells))
    by_source = {s.id: (s.writes, sorted(s.mutates)) for s in trace.statements}
    assert by_source[6] == ([], ["df", "other"])
    assert by_source[9] == ([], ["box", "inner"])
    assert by_source[12] == ([], ["view", "x"])
    assert by_source[14] == ([], ["unrelated"])


def test_globals_changed_inside_functions(tmp_path: Path) -> None:
    code = "SEEN = {}\ndef f(v):\n    global COUNT\n    COUNT = v\n    SEEN[v] = 1\n    return v"
    trace = ran(run(tmp_path, code, "f(3)"))
    last = trace.statements[-1]
    assert (last.writes, last.mutates, last.reads) == (["COUNT"], ["SEEN"], ["f", "SEEN"])
    assert trace.functions["f"] == ["SEEN"]


ROWS = [
    ("v = df[df.a > 9]", "some"),
    ("v = df.head(7)", "some"),
    ("v = df.sample(12, random_state=1)", "reordered"),
    ("v = df.sort_values('t')", "reordered"),
    ("v = df.sort_values('t').reset_index(drop=True)", "reordered"),
    ("v = df.sort_values('t', ignore_index=True)", "reordered"),
    ("v = df.sort_values('t').set_index('t')[['a']]", "reordered"),
    ("v = df.set_index('t').loc['2024-01-05':'2024-01-02':-1] if False else df.set_index('t').iloc[3:9]", "some"),
    ("v = df.merge(pd.DataFrame({'b': ['w', 'x', 'y', 'z'], 'k': range(4)}), on='b', how='left')", "all"),
    ("v = df.merge(pd.DataFrame({'b': ['w', 'z'], 'k': range(2)}), on='b')", "some"),
    ("v = pd.concat([df[df.a > 30], df[df.a < 9]])", "reordered"),
    ("v = pd.concat([df.iloc[:5], df.iloc[5:]], ignore_index=True)", "all"),
    ("v = df.sort_values('t')\nv.reset_index(drop=True, inplace=True)", "reordered"),
    ("v = df.a.values[:10]", "some"),
    ("v = (df[df.a > 9].a.to_numpy() > 20).astype(int)", "some"),
    ("v = np.column_stack([df.a, df.a])[:, 1]", "all"),
    ("v = df.a.fillna(df.a.median())", "all"),
    ("v = df.groupby('b').a.transform('mean')", "all"),
    ("v = df.groupby('b').a.mean()", None),
    ("v = df.groupby('b', as_index=False).a.mean()", None),
    ("v = df.groupby('b').a.mean().reset_index()", None),
    ("v = df.b.value_counts().reset_index()", None),
    ("v = pd.DataFrame({'q': df.b.unique()})", None),
    ("v = df.describe()", None),
    ("v = df.a.median()", None),
]  # fmt: skip


def test_rows_are_followed(tmp_path: Path) -> None:
    cells = [re.sub(r"\bv\b", f"v{number}", code) for number, (code, _) in enumerate(ROWS)]
    trace = ran(run(tmp_path, TABLE, *cells))
    aligned = [value(trace, f"v{number}").aligned for number in range(len(ROWS))]
    assert [(code, found and found.how) for (code, _), found in zip(ROWS, aligned, strict=True)] == ROWS


def test_expressions_have_spans_of_the_cell_also_inside_functions(tmp_path: Path) -> None:
    trace = ran(run(tmp_path, TABLE, "def f(d):\n    return d['a'].fillna(0) + 1\n\nout = f(df[df.a > 9])"))
    found = {(e.cell, e.span): e.value for e in trace.statements[-1].expressions}
    inner = found[1, (2, 11, 2, 27)]
    assert (inner.kind, inner.rows, inner.aligned and inner.aligned.how) == ("series", 33, "some")
    assert found[1, (2, 11, 2, 31)].rows == 33
    assert found[1, (4, 8, 4, 20)].columns == ["a", "b", "t"]


def test_spans_are_bytes_and_inside_f_strings_calls_are_seen(tmp_path: Path) -> None:
    trace = ran(run(tmp_path, TABLE, "ação = df.a\nprint(f'{ação.mean():.2f} {len(ação)}')"))
    spans = [e.span for e in trace.statements[-2].expressions]
    assert (1, 9, 1, 13) in spans  # the two accented letters take two bytes each
    assert trace.statements[-1].output == "29.25 40\n"


def test_semantics_are_kept(tmp_path: Path) -> None:
    code = '''
class Base:
    def __init__(self, a): self.a = a
class Child(Base):
    """Doc."""
    __secret = 3
    def __init__(self): super().__init__(self.__secret)
    @property
    def twice(self): return self.a * 2
def counter():
    for i in range(3):
        got = yield i
        if got: yield got * 10
g = counter(); first = next(g); sent = g.send(4)
def local(): x = 1; return sorted(locals()), eval("x + 1")
limit = 30
def by_query(d):
    low = 10
    return len(d.query("a > @low and a < @limit"))
total = sum(i * j for i in range(3) for j in range(i))
names = {k: v for k, v in zip("ab", [1, 2])}
if (walrus := len(names)) > 1: pass
import asyncio
async def later(): await asyncio.sleep(0); return 5
awaited = await later()
try:
    1 / 0
except (ZeroDivisionError, ValueError) as error:
    caught = type(error).__name__
x, (y, *z) = 1, (2, 3, 4)
results = (Child().twice, Child.__doc__, first, sent, local(), by_query(df), total, names, walrus, awaited, caught, z)
results
'''
    trace = ran(run(tmp_path, TABLE, code))
    shown = trace.statements[-1].output.strip()
    assert shown == "(6, 'Doc.', 0, 40, (['x'], 2), 13, 2, {'a': 1, 'b': 2}, 2, 5, 'ZeroDivisionError', [3, 4])"


def test_future_main_magic_names_and_display(tmp_path: Path) -> None:
    trace = ran(run(tmp_path, "from __future__ import annotations\nimport sys", "def f(a: Missing) -> Gone: return a",
                    "if __name__ == '__main__':\n    result = f(2)\nresult", "%matplotlib inline\nprint(_)\n_ + 1;",
                    "display(Out)\nget_ipython().run_line_magic('time', '')\nsys.argv"))  # fmt: skip
    assert [s.output for s in trace.statements if s.output] == ["2\n", "2\n", "{3: 2}\n", "['']\n"]


def test_odd_values_do_not_disturb(tmp_path: Path) -> None:
    code = """
class Odd:
    def __eq__(self, other): raise ValueError("eq")
    __hash__ = None
    def __repr__(self): raise ValueError("repr")
    def __getattr__(self, name): raise RuntimeError(name)
    def __len__(self): raise RuntimeError("len")
    @property
    def shape(self): raise RuntimeError("shape")
odd = Odd()
loop = []; loop.append(loop)
gen = (i for i in range(3))
many = list(range(300_000))
deep = []
for _ in range(500): deep = [deep]
odd
"""
    trace = ran(run(tmp_path, TABLE, code))
    assert value(trace, "odd").kind == "other"
    assert value(trace, "many").rows == 300_000
