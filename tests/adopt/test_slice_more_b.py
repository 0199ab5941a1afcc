"""More habits of notebooks that are sliced and replayed: no probabilities, lambdas, readers, folds, second tables."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests.adopt import slice_cases as cases
from tests.adopt import slice_replay as harness

from trilho.adopt.capture import capture, find_interpreter
from trilho.adopt.notebook import read_notebook
from trilho.adopt.slice import calls
from trilho.adopt.slice.choose import choose
from trilho.adopt.slice.lambdas import plain_name
from trilho.adopt.slice.slice import make_plan

HERE = Path(__file__).parent
PYTHON = HERE.parent / "notebooks" / ".venv" / "bin" / "python"
IMPORTS = """import pandas as pd
import numpy as np
from sklearn.model_selection import GridSearchCV, KFold, cross_validate, train_test_split
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, roc_auc_score
from sklearn.preprocessing import FunctionTransformer, LabelEncoder
from sklearn.pipeline import Pipeline
from sklearn.compose import ColumnTransformer
from sklearn.svm import LinearSVC
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
# %%
"""
READ = 'df = pd.read_csv("d.csv")\n# %%\n'
CASES = {
    "no_probabilities_and_a_lambda": READ
    + """\
def make(cols):
    log = FunctionTransformer(lambda d: np.log1p(d.fillna(30)))
    return Pipeline([("pre", ColumnTransformer([("num", log, cols)])), ("clf", LinearSVC(random_state=0))])
X_train, X_test, y_train, y_test = train_test_split(df[["age", "income"]], df["churn"], random_state=0)
svm = make(["age", "income"])
svm.fit(X_train, y_train)
print(f1_score(y_test, svm.predict(X_test)))
""",
    "a_reader_that_drops_rows": """\
def read(path="d.csv"):
    d = pd.read_csv(path)
    print(len(d))
    return d.drop_duplicates(subset="id").set_index("id")
def in_range(d):
    return d.query("value < 60000 and income > 0")
def with_log(d, column):
    return d.assign(logged=np.log(d[column]))
raw = read()
df = raw.pipe(in_range).pipe(with_log, column="income")
X, y = df[["logged", "income"]], df["value"]
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
reg = RandomForestRegressor(n_estimators=20, random_state=1).fit(X_train, y_train)
print(mean_absolute_error(y_test, reg.predict(X_test)))
""",
    "rows_drawn_by_a_generator": "rng = np.random.RandomState(5)\n"
    + READ
    + """\
df["age"] = df["age"].fillna(40)
u = rng.uniform(size=len(df))
dev, val = df[u < 0.7], df[u >= 0.7]
model = LogisticRegression(max_iter=500).fit(dev[["age", "income"]], dev["churn"])
p = model.predict_proba(val[["age", "income"]])[:, 1]
print(roc_auc_score(val["churn"], p))
""",
    "renamed_columns_and_folds": READ
    + """\
df.columns = [c.upper() for c in df.columns]
df = df.query("VALUE > 1").reset_index(drop=True)
train, test = train_test_split(df, random_state=2)
train, test = train.copy(), test.copy()
med = train.groupby("CITY")["AGE"].median()
for part in (train, test):
    miss = part["AGE"].isna()
    part.loc[miss, "AGE"] = part.loc[miss, "CITY"].map(med)
train["rate"] = np.nan
for a, b in KFold(4, shuffle=True, random_state=0).split(train):
    rates = train.iloc[a].groupby("KIND")["VALUE"].mean()
    train.iloc[b, train.columns.get_loc("rate")] = train.iloc[b]["KIND"].map(rates).values
rates = train.groupby("KIND")["VALUE"].mean()
test["rate"] = test["KIND"].map(rates)
cols = ["AGE", "INCOME", "rate"]
reg = RandomForestRegressor(n_estimators=20, random_state=1).fit(train[cols], train["VALUE"])
print(mean_absolute_error(test["VALUE"], reg.predict(test[cols])))
""",
    "a_target_made_of_what_a_rule_reads": READ
    + """\
df = df[df.value != 30]
df["high"] = (df["value"] >= 60).astype(int)
X_train, X_test, y_train, y_test = train_test_split(df[["income"]], df["high"], random_state=0)
svm = LinearSVC(random_state=0).fit(X_train, y_train)
print(accuracy_score(y_test, svm.predict(X_test)))
""",
    "a_second_table_beside": """\
train = pd.read_csv("d.csv")
test = pd.read_csv("e.csv")
both = [train, test]
for d in both:
    d["log"] = np.log(d["income"])
    d["is_sp"] = (d["city"] == "sp").astype(int)
med = train["age"].median()
for d in both:
    d["age"] = d["age"].fillna(med)
train = pd.get_dummies(train, columns=["kind"])
test = pd.get_dummies(test, columns=["kind"])
train, test = train.align(test, join="left", axis=1, fill_value=0)
gone = ["churn", "id", "city", "text", "day", "value"]
X, y = train.drop(gone, axis=1), train["churn"]
X_train, X_val, y_train, y_val = train_test_split(X, y, random_state=0)
gs = GridSearchCV(RandomForestClassifier(n_estimators=10, random_state=0), {"max_depth": [2, 4]}, cv=2)
gs.fit(X_train, y_train)
rf = gs.best_estimator_
print(accuracy_score(y_val, rf.predict(X_val)))
pd.Series(rf.predict(test.drop(gone, axis=1))).to_csv("out.csv")
""",
    "outliers_and_folds_only": READ
    + """\
df["age"] = df["age"].fillna(df["age"].median())
num = ["age", "income"]
mask = pd.Series(True, index=df.index)
for c in num:
    q1, q3 = df[c].quantile(.05), df[c].quantile(.95)
    mask &= df[c].between(q1, q3)
clean = df.loc[mask].copy()
X, y = clean[num], clean["value"]
grid = GridSearchCV(Ridge(), {"alpha": [0.1, 10.0]}, cv=3)
grid.fit(X, y)
scores = cross_validate(grid.best_estimator_, X, y, cv=3, scoring=("r2",))
cv_r2 = scores["test_r2"].mean()
print(cv_r2)
final = grid.best_estimator_.fit(X, y)
""",
    "paths_that_are_tried": """\
DEBUG = False
data = None
for path in ["nowhere.csv", "d.csv"]:
    try:
        data = pd.read_csv(path)
        break
    except Exception as error:
        print(path, error)
if DEBUG:
    data = data.sample(50)
few = [c for c in ["city", "kind", "text"] if data[c].nunique() == 3]
for c in few:
    data[c] = LabelEncoder().fit_transform(data[c])
y = data["value"].values
X = data[["income", "kind"]].values
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
reg = RandomForestRegressor(n_estimators=20, random_state=1)
reg.fit(X_train, y_train)
print(mean_absolute_error(y_test, reg.predict(X_test)))
""",
}
CODE = {
    "no_probabilities_and_a_lambda": ["FunctionTransformer(transform)", "astype(float)", "def transform(d):"],
    "a_reader_that_drops_rows": ['if state.learning else d).set_index("id")', "raw.pipe(in_range, state=state)"],
    "rows_drawn_by_a_generator": ["rng = np.random.RandomState(5)\nu = rng.uniform(size=len(df))"],
    "renamed_columns_and_folds": ["df.columns = [c.upper() for c in df.columns]", "if miss.any():"],
    "a_target_made_of_what_a_rule_reads": ["df.value != 30"],
    "a_second_table_beside": ["for d in [train]:", "rf = gs.best_estimator_"],
    "outliers_and_folds_only": ['scores["test_r2"].mean()', "grid.fit(X, y)"],
    "paths_that_are_tried": ['few = state.once("few"'],
}


@pytest.mark.skipif(not PYTHON.exists(), reason="make notebooks")
@pytest.mark.parametrize("name", list(CASES))
def test_a_plan_gives_the_notebooks_answers(tmp_path: Path, name: str) -> None:
    cases.write_case(tmp_path, "encoders_in_a_loop")  # for its table
    lines = (tmp_path / "d.csv").read_text(encoding="utf-8").splitlines()
    places = [at for at, column in enumerate(lines[0].split(",")) if column not in ("churn", "value")]
    second = [",".join(line.split(",")[at] for at in places) for line in lines[:40]]
    (tmp_path / "e.csv").write_text("\n".join(second) + "\n", encoding="utf-8")
    path = tmp_path / f"{name}.py"
    path.write_text(IMPORTS + CASES[name], encoding="utf-8")
    notebook, scratch = read_notebook(path), tmp_path / "scratch"
    trace = capture(notebook, find_interpreter(notebook, str(PYTHON)), scratch, lambda _: None)
    choice = choose(notebook, trace, scratch=scratch)
    plan = make_plan(notebook, trace, choice, name="project")
    found = harness.replay(plan, choice, trace, scratch, str(PYTHON), tmp_path / "project")
    assert "error" not in found, found
    assert plan.form in ("features", "model"), plan.fallback
    assert found["alone"] < 1e-12
    assert set(found["metrics"]) == {m.name for m in choice.metrics} != set()
    for metric, (mine, theirs) in found["metrics"].items():
        assert mine == pytest.approx(theirs, rel=1e-12), metric
    methods = {g.method for g in trace.golden if g.object == choice.shipped}
    wanted = "predict_proba" if "predict_proba" in methods else "predict"
    reads = {g.id: g.read for g in trace.golden if g.object == choice.shipped and g.event == "predict"}
    compared = [c for c in found["compared"] if c[2] == wanted and not (c[0] == "fit" and plan.unlike_fit)]
    compared = [c for c in compared if c[0] == "fit" or reads[c[1]] == choice.main_read]
    assert compared
    assert max(c[4] for c in compared) < 1e-12
    code = "\n".join(p.read_text(encoding="utf-8") for p in (tmp_path / "project").rglob("*.py"))
    code = "\n".join(line.strip() for line in code.splitlines()).replace("return ", "rf = " if "gs." in code else "")
    for text in CODE[name]:
        assert text in code


def test_texts_that_ask_a_table_name_its_columns() -> None:
    call = ast.parse("df.query('y > 0 and size < 3')", mode="eval").body
    assert isinstance(call, ast.Call)
    assert {"y", "size"} <= calls.words_asked(call)


def test_names_for_lambdas_are_plain_and_new() -> None:
    assert plain_name("tokenizer_Texto", {"x"}) == "tokenizer_texto"
    assert plain_name("transform", {"transform", "transform_2"}) == "transform_3"
