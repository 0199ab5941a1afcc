"""More habits of notebooks that are hard to take apart, each planned, replayed, and held to what its run left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.adopt import slice_cases as cases
from tests.adopt import slice_replay as harness

from trilho.adopt.capture import capture, find_interpreter
from trilho.adopt.notebook import read_notebook
from trilho.adopt.slice.choose import choose
from trilho.adopt.slice.slice import make_plan

HERE = Path(__file__).parent
PYTHON = HERE.parent / "notebooks" / ".venv" / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="make notebooks")


MORE = {
    "stops_by_a_part": """\
fit_rows, test = train_test_split(df, test_size=0.2, random_state=0)
fit_rows, valid = train_test_split(fit_rows, test_size=0.2, random_state=0)
FILL = fit_rows["age"].median()
def prep(d):
    return d[["age", "income"]].fillna({"age": FILL})
X_fit, X_valid, X_test = prep(fit_rows), prep(valid), prep(test)
y_fit, y_valid, y_test = fit_rows["value"], valid["value"], test["value"]
import lightgbm as lgb
m = lgb.LGBMRegressor(n_estimators=60, random_state=0, verbose=-1, n_jobs=1)
m.fit(X_fit, y_fit, eval_set=[(X_valid, y_valid)], callbacks=[lgb.early_stopping(5, verbose=False)])
print(mean_absolute_error(y_test, m.predict(X_test)))
""",
    "fits_and_judges_in_a_function": """\
X = df[["age", "income"]].fillna(0); y = df["churn"]
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
def run(model, a, b, c, d):
    model.fit(a, b)
    p = model.predict_proba(c)[:, 1]
    auc = roc_auc_score(d, p)
    print(auc)
    return model, auc
best, score = run(RandomForestClassifier(n_estimators=20, random_state=0), X_train, y_train, X_test, y_test)
""",
    "target_renamed_and_parsed": """\
df = df.rename(columns={"value": "price", "city": "town"})
for c in ["income", "price"]:
    df[c] = df[c].apply(lambda v: float(v) * 2)
X = df[["income", "age"]].fillna(df[["income", "age"]].median())
X_train, X_test, y_train, y_test = train_test_split(X, df["price"], test_size=0.2, random_state=0)
reg = RandomForestRegressor(n_estimators=20, random_state=0)
reg.fit(X_train, y_train)
print(mean_absolute_error(y_test, reg.predict(X_test)))
""",
    "edges_beside_codes": """\
df["band"], edges = pd.qcut(df["income"], 5, labels=False, retbins=True)
cols = [c for c in df.columns if c in ("band", "income")]
X_train, X_test, y_train, y_test = train_test_split(df[cols], df["churn"], test_size=0.2, random_state=0)
clf = RandomForestClassifier(n_estimators=20, random_state=0).fit(X_train, y_train)
print(roc_auc_score(y_test, clf.predict_proba(X_test)[:, 1]))
""",
    "resampled_and_averaged": """\
from sklearn.utils import resample
d = df[["age", "income", "churn"]].fillna(0)
train, test = d.iloc[:450], d.iloc[450:]
more = resample(train[train.churn == 1], n_samples=400, random_state=1)
up = pd.concat([train[train.churn == 0], more]).sample(frac=1, random_state=1)
cols = ["age", "income"]
scaler = StandardScaler().fit(up[cols])
lr = LogisticRegression().fit(scaler.transform(up[cols]), up.churn)
rf = RandomForestClassifier(n_estimators=20, random_state=1).fit(up[cols], up.churn)
p = 0.5 * lr.predict_proba(scaler.transform(test[cols]))[:, 1] + 0.5 * rf.predict_proba(test[cols])[:, 1]
print(roc_auc_score(test.churn, p))
""",
    "stacked_with_the_unlabelled": """\
other = pd.read_csv("other.csv")
train = df.copy()
y = train["churn"].values
both = pd.concat([train.assign(mine=1), other.assign(mine=0)], ignore_index=True)
both["often"] = both["city"].map(both["city"].value_counts())
train = both[both["mine"] == 1].drop(columns="mine")
X = train[["often", "income"]]
from sklearn.model_selection import cross_val_score
print(cross_val_score(RandomForestClassifier(n_estimators=10, random_state=0), X, y, scoring="roc_auc").mean())
clf = RandomForestClassifier(n_estimators=10, random_state=0)
clf.fit(X, y)
""",
}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("stops_by_a_part", ["X_valid = prep(valid", "m = train_model("]),
        ("fits_and_judges_in_a_function", ["best.fit(", "score = roc_auc_score(y_test"]),
        ("target_renamed_and_parsed", ['df["price"] = df.pop("value").apply(', 'for c in ["income"]:']),
        ("edges_beside_codes", ['edges = state.once("edges"', 'pd.cut(df["income"], edges']),
        ("resampled_and_averaged", ["0.5 * self.lr", "state.scaler = scaler"]),
        ("stacked_with_the_unlabelled", ["if state.learning else train.assign(mine=1))"]),
    ],
)
def test_a_plan_gives_the_notebooks_answers(tmp_path: Path, name: str, code: list[str]) -> None:
    path = cases.write_case(tmp_path, next(iter(cases.CASES))).with_name(f"{name}.py")
    path.write_text(cases.HEAD + MORE[name], encoding="utf-8")
    rows = [line.split(",") for line in (tmp_path / "d.csv").read_text().splitlines()]
    (tmp_path / "other.csv").write_text("\n".join(",".join(r[:7]) for r in [rows[0], *rows[1:200:3]]) + "\n")
    notebook, scratch = read_notebook(path), tmp_path / "scratch"
    trace = capture(notebook, find_interpreter(notebook, str(PYTHON)), scratch, lambda _: None)
    choice = choose(notebook, trace, scratch=scratch)
    plan = make_plan(notebook, trace, choice, name="project")
    found = harness.replay(plan, choice, trace, scratch, str(PYTHON), tmp_path / "project")
    assert "error" not in found, found["error"]
    assert plan.form in ("features", "model"), plan.fallback
    text = "\n".join(p.read_text() for p in sorted((tmp_path / "project").rglob("*.py")))
    assert [part for part in code if part.replace('"', "'") not in text.replace('"', "'")] == []
    assert found["metrics"], json.dumps(found)
    for metric, (mine, theirs) in found["metrics"].items():
        assert mine == pytest.approx(theirs, rel=1e-12), metric
    wanted = "predict_proba" if choice.task == "classification" else "predict"
    same = [c[4] for c in found["compared"] if c[2] == wanted]
    assert same
    assert choice.blend or max(same) < 1e-9
    assert found["alone"] < 1e-9
