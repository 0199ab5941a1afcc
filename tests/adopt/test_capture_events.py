"""What a run tells of models: fits, questions, splits, golden predictions; and of BigQuery."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.adopt.capture_runs import notebook_python, ran, run, value

from trilho.adopt.trace import Golden, Trace

READY = """import numpy as np, pandas as pd
rng = np.random.default_rng(0)
raw = pd.DataFrame({"a": rng.normal(size=200), "b": rng.normal(size=200)})
raw["y"] = (raw.a + raw.b > 0).astype(int)
raw.to_csv("t.csv", index=False)
df = pd.read_csv("t.csv")
from sklearn.model_selection import train_test_split, GridSearchCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score"""


def golden_equals(folder: Path, trace: Trace, golden: Golden, code: str) -> None:
    """Check golden predictions against what `code` makes of the table, its rows and the object."""
    thing = next(thing for thing in trace.objects if thing.id == golden.object)
    scratch = folder / "scratch"
    script = f"""
import numpy as np, pandas as pd, pickle
df = pd.read_csv({str(scratch / trace.reads[0].file)!r})
thing = pickle.load(open({str(scratch / thing.file)!r}, "rb"))
rows = df.iloc[np.load({str(scratch / golden.positions)!r})]
np.testing.assert_allclose(np.load({str(scratch / golden.file)!r}), {code}, rtol=1e-12)
"""
    done = subprocess.run([notebook_python(), "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_arrays_from_a_split_keep_their_rows(tmp_path: Path) -> None:
    code = """X = df[["a", "b"]].values; y = df.y.values
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=1)
model = LogisticRegression().fit(X_train, y_train)
p = model.predict_proba(X_test)[:, 1]
print(f"{roc_auc_score(y_test, p):.3f}")"""
    trace = ran(run(tmp_path, READY, code))
    fit, ask, metric = trace.fits[0], trace.predicts[0], trace.metrics[0]
    assert (fit.how, fit.X and fit.X.source, fit.y and fit.y.source) == ("fit", "X_train", "y_train")
    assert (ask.method, ask.object, ask.result.rows) == ("predict_proba", fit.object, 50)
    assert metric.arguments[0].value.aligned == metric.arguments[1].value.aligned is not None
    assert metric.arguments[1].value.digest == value(trace, "p").digest
    assert [len(trace.splits), trace.splits[0].arguments[3].source] == [1, "1"]
    told = {(g.event, g.method): g for g in trace.golden}
    assert sorted(told) == [
        ("fit", "predict"),
        ("fit", "predict_proba"),
        ("predict", "predict"),
        ("predict", "predict_proba"),
    ]
    golden_equals(tmp_path, trace, told["predict", "predict_proba"], "thing.predict_proba(rows[['a', 'b']].values)")


def test_searches_pipelines_and_what_is_inside(tmp_path: Path) -> None:
    code = """from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
search = GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": [0.1, 1]}, cv=3)
search.fit(df[["a", "b"]], df.y)
best = search.best_estimator_
for name, m in {"one": LogisticRegression(), "two": LogisticRegression(C=9)}.items():
    m.fit(df[["a"]], df.y)
labels = search.predict(df[["a", "b"]])"""
    trace = ran(run(tmp_path, READY, code))
    by_name = {name: thing for thing in trace.objects for name in thing.names}
    assert by_name["best"].id in by_name["search"].parts
    assert by_name["search"].classes == ["0", "1"]
    assert by_name["search"].features == ["a", "b"]
    assert [fit.cell for fit in trace.fits] == [1, 1, 1]
    assert len({fit.object for fit in trace.fits}) == 3
    assert by_name["m"].id == trace.fits[-1].object


def test_boosters_know_what_their_data_was_made_of(tmp_path: Path) -> None:
    code = """import xgboost as xgb, lightgbm as lgb
train, test = df.iloc[:150], df.iloc[150:]
dtrain, dtest = xgb.DMatrix(train[["a", "b"]], label=train.y), xgb.DMatrix(test[["a", "b"]], label=test.y)
bst = xgb.train({"objective": "binary:logistic", "nthread": 1}, dtrain, 10, evals=[(dtest, "test")], verbose_eval=False)
p = bst.predict(dtest)
gbm = lgb.train({"verbose": -1, "num_threads": 1}, lgb.Dataset(train[["a", "b"]], label=train.y), 10)
q = gbm.predict(test[["a", "b"]])
gbm.save_model("gbm.txt"); bst.save_model("bst.json")"""
    trace = ran(run(tmp_path, READY, code, modules=("xgboost", "lightgbm")))
    fits = [(fit.how, fit.X and (fit.X.source, fit.X.value.rows), fit.y and fit.y.source) for fit in trace.fits]
    assert fits == [("train", ('train[["a", "b"]]', 150), "train.y")] * 2
    assert [ask.X and ask.X.value.rows for ask in trace.predicts] == [50, 50]
    assert [(g.event, g.rows, bool(g.positions)) for g in trace.golden] == [("fit", 150, True)] * 2 + [
        ("predict", 50, True)
    ] * 2
    assert sorted(Path(save.file).name for save in trace.saves if save.allowed) == ["bst.json", "gbm.txt", "t.csv"]
    xgb_golden = next(g for g in trace.golden if g.object == trace.fits[0].object and g.event == "predict")
    golden_equals(tmp_path, trace, xgb_golden, "thing.predict(__import__('xgboost').DMatrix(rows[['a', 'b']]))")


def test_golden_is_of_the_end_state(tmp_path: Path) -> None:
    code = """first = df.iloc[:100]
model = LogisticRegression().fit(first[["a", "b"]], first.y)
p = model.predict_proba(df[["a", "b"]].iloc[100:])
model.fit(df[["a", "b"]], df.y)"""
    trace = ran(run(tmp_path, READY, code))
    assert [(g.event, g.id, g.rows) for g in trace.golden if g.method == "predict_proba"] == [
        ("fit", 1, 200),
        ("predict", 0, 100),
    ]
    for golden in trace.golden:
        golden_equals(tmp_path, trace, golden, f"thing.{golden.method}(rows[['a', 'b']])")


BIGQUERY = """
class Job:
    total_bytes_processed = 2_500_000
    job_id = "job-1"
    def to_dataframe(self): return pd.DataFrame({"a": range(5), "n": range(5)})
    def result(self): return self
class Client:
    asked = []
    def query(self, sql, job_config=None):
        if job_config is None: self.asked.append(sql)
        return Job()
class QueryJobConfig:
    def __init__(self, **given): self.__dict__.update(given)
for kind in (Job, Client, QueryJobConfig): kind.__module__ = "google.cloud.bigquery"
import sys, types
sys.modules["google.cloud.bigquery"] = types.SimpleNamespace(QueryJobConfig=QueryJobConfig)
client = Client()"""


def test_bigquery_answers_are_frozen_and_replayed(tmp_path: Path) -> None:
    said: list[str] = []
    code = """sql = "-- rides\\nWITH t AS (SELECT 1) SELECT * FROM t"
one = client.query(sql).to_dataframe()
one["b"] = 1
two = client.query(sql).result().to_dataframe()
asked = (len(client.asked), list(two.columns))"""
    cells = (READY, BIGQUERY, code, 'client.query("DELETE FROM t WHERE TRUE")', "after = 1")
    trace = run(tmp_path, *cells, progress=lambda told: said.append(told.what))
    assert value(trace, "asked").literal == "(1, ['a', 'n'])"
    read = next(read for read in trace.reads if read.kind == "bigquery")
    assert (read.job, read.bytes, read.value.rows, read.query[:8]) == ("job-1", 2_500_000, 5, "-- rides")
    assert (tmp_path / "scratch" / read.file).exists()
    assert "BigQuery will read 2.5 MB" in said
    assert [s.state for s in trace.statements if s.state != "ran"] == ["refused"]
    assert [(save.path, save.cell) for save in trace.saves if not save.allowed] == [("DELETE FROM t WHERE TRUE", 3)]


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("SELECT 1", True),
        ("  /* c */ with a as (select 1) select * from a;", True),
        ("(SELECT 1) UNION ALL (SELECT 2)", True),
        ("SELECT 'x; DROP TABLE t'", True),
        ("SELECT 1; DROP TABLE t", False),
        ("INSERT INTO t SELECT 1", False),
        ("CREATE OR REPLACE TABLE t AS SELECT 1", False),
        ("DECLARE x INT64; DELETE FROM t WHERE TRUE", False),
        ("EXPORT DATA OPTIONS() AS SELECT 1", False),
    ],
)
def test_questions(text: str, reads: bool) -> None:
    from trilho.adopt.capture.kernel.bigquery import is_question

    assert is_question(text) is reads
