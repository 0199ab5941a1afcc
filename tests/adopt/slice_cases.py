"""Notebooks as scripts, each with a habit that is hard to take apart, and the table that they read."""

from __future__ import annotations

import math
import random
from pathlib import Path

HEAD = """import pandas as pd
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.metrics import roc_auc_score, mean_absolute_error, accuracy_score
from sklearn.preprocessing import *
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
df = pd.read_csv("d.csv")
# %%
"""
CASES = {
    "encoders_in_a_loop": """\
encoders = {}
for c in ["city", "kind"]:
    le = LabelEncoder()
    df[c] = le.fit_transform(df[c])
    encoders[c] = le
df["age"].fillna(df["age"].mean(), inplace=False)
df["age"] = df["age"].fillna(df["age"].mean())
df["band"] = pd.qcut(df["income"], 4, labels=False)
df["ageb"] = pd.cut(df["age"], 5, labels=False)
df["codes"], u = pd.factorize(df["text"])
df["freq"] = df["city"].map(df["city"].value_counts()) / len(df)
df["m"] = df.groupby("city")["income"].transform("mean")
df["z"] = (df["income"] - df["income"].mean()) / df["income"].std()
X = df.drop(["churn", "value", "id", "text", "day"], axis=1)
y = df["churn"]
# %%
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
clf = RandomForestClassifier(n_estimators=30, random_state=0)
clf.fit(X_train, y_train)
print(roc_auc_score(y_test, clf.predict_proba(X_test)[:, 1]))
""",
    "encoded_columns_joined": """\
df["age"] = df["age"].fillna(30)
train, test = train_test_split(df, test_size=0.25, random_state=3)
train = train.reset_index(drop=True)
test = test.reset_index(drop=True)
ohe = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
enc = pd.DataFrame(ohe.fit_transform(train[["city", "kind"]]), columns=ohe.get_feature_names_out())
X_train = pd.concat([train[["age", "income"]], enc], axis=1)
enc_test = pd.DataFrame(ohe.transform(test[["city", "kind"]]), columns=ohe.get_feature_names_out())
X_test = pd.concat([test[["age", "income"]], enc_test], axis=1)
scaler = StandardScaler()
num = ["age", "income"]
X_train[num] = scaler.fit_transform(X_train[num])
X_test[num] = scaler.transform(X_test[num])
model = LogisticRegression(max_iter=1000)
model.fit(X_train, train["churn"])
p = model.predict_proba(X_test)[:, 1]
print("auc", roc_auc_score(test["churn"], p))
""",
    "statistics_per_call": """\
def prep(d):
    d = d.copy()
    d["age"] = d["age"].fillna(d["age"].median())
    d["rich"] = (d["income"] > d["income"].quantile(0.9)).astype(int)
    for c in ["city", "kind"]:
        d = pd.concat([d, pd.get_dummies(d[c], prefix=c, dtype=int)], axis=1)
    return d.drop(columns=["id", "city", "kind", "text", "day", "value"])
train, test = train_test_split(df, test_size=0.25, random_state=3)
a = prep(train); b = prep(test)
b = b.reindex(columns=a.columns, fill_value=0)
clf = RandomForestClassifier(n_estimators=30, random_state=0).fit(a.drop(columns="churn"), a["churn"])
print(accuracy_score(b["churn"], clf.predict(b.drop(columns="churn"))))
""",
    "arrays_and_logs": """\
df = df.dropna()
df = df[df["income"] < df["income"].quantile(0.99)]
df["day"] = pd.to_datetime(df["day"])
df["hour"] = df["day"].dt.hour
df = pd.get_dummies(df, columns=["city", "kind"])
features = [c for c in df.columns if c not in ("id", "churn", "value", "text", "day")]
X = df[features].values
y = np.log1p(df["value"])
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=1)
reg = RandomForestRegressor(n_estimators=20, random_state=1)
reg.fit(X_train, y_train)
pred = np.expm1(reg.predict(X_test))
print("MAE", mean_absolute_error(np.expm1(y_test), pred))
""",
    "categories_and_early_stopping": """\
import lightgbm as lgb
for c in ["city", "kind"]:
    df[c] = df[c].astype("category")
y = df.pop("churn")
X = df.drop(columns=["id", "text", "day", "value"])
X_tr, X_va, y_tr, y_va = train_test_split(X, y, test_size=0.2, random_state=1, stratify=y)
m = lgb.LGBMClassifier(n_estimators=40, random_state=0, verbose=-1, n_jobs=1)
m.fit(X_tr, y_tr, eval_set=[(X_va, y_va)], callbacks=[lgb.early_stopping(5, verbose=False)])
print(roc_auc_score(y_va, m.predict_proba(X_va)[:, 1]))
""",
    "loop_over_both_sides": """\
train, test = train_test_split(df, test_size=0.25, random_state=3)
train, test = train.copy(), test.copy()
med = train["age"].median()
for d in [train, test]:
    d["age"] = d["age"].fillna(med)
    d["logi"] = np.log(d["income"])
cols = ["age", "logi"]
rates = train.groupby("city")["churn"].mean()
train["rate"] = train["city"].map(rates)
test["rate"] = test["city"].map(rates).fillna(train["churn"].mean())
cols += ["rate"]
clf = RandomForestClassifier(n_estimators=30, random_state=0)
clf.fit(train[cols], train["churn"])
print(roc_auc_score(test["churn"], clf.predict_proba(test[cols])[:, 1]))
""",
    "everything_in_functions": """\
from sklearn.pipeline import Pipeline
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
def build_features(df):
    out = df.copy()
    out["weekday"] = pd.to_datetime(out["day"]).dt.dayofweek
    return out
def split_data(df, target="churn"):
    X = df.drop(columns=[target, "id", "value", "text", "day"])
    y = df[target]
    return train_test_split(X, y, test_size=0.2, random_state=0)
def train_model(X, y):
    cats = OneHotEncoder(handle_unknown="ignore")
    pre = ColumnTransformer([("n", SimpleImputer(), ["age", "income", "weekday"]), ("c", cats, ["city", "kind"])])
    model = Pipeline([("pre", pre), ("clf", LogisticRegression(max_iter=500))])
    model.fit(X, y)
    return model
def evaluate(model, X, y):
    return {"auc": roc_auc_score(y, model.predict_proba(X)[:, 1])}
# %%
df = build_features(df)
X_train, X_test, y_train, y_test = split_data(df)
model = train_model(X_train, y_train)
print(evaluate(model, X_test, y_test))
""",
    "models_in_a_dict": """\
df["age"] = df["age"].fillna(df["age"].median())
X = df[["age", "income"]]; y = df["churn"]
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
models = {"lr": LogisticRegression(max_iter=500), "rf": RandomForestClassifier(n_estimators=20, random_state=0)}
results = {}
for name, m in models.items():
    m.fit(X_train, y_train)
    results[name] = roc_auc_score(y_test, m.predict_proba(X_test)[:, 1])
print(results)
best_name = max(results, key=results.get)
best = models[best_name]
import joblib
joblib.dump(best, "best.joblib")
""",
}


def write_case(folder: Path, name: str) -> Path:
    """Write a notebook and its table into a folder, and give the notebook's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "d.csv").write_text("\n".join(_rows()) + "\n", encoding="utf-8")
    path = folder / f"{name}.py"
    path.write_text(HEAD + CASES[name], encoding="utf-8")
    return path


def _rows() -> list[str]:
    rng = random.Random(0)
    lines = ["id,city,kind,age,income,text,day,churn,value"]
    texts = ["good product", "bad service", "late delivery again", "nice and fast"]
    for row in range(600):
        city, kind = rng.choice(["sp", "rio", "bh", "poa"]), rng.choice("abc")
        age = "" if rng.random() < 0.1 else str(rng.randint(18, 80))
        income = round(rng.lognormvariate(8, 0.5), 2)
        score = (city == "sp") + float(age or 40) / 40 + math.log(income) / 4 + (kind == "a") * 0.5 + rng.gauss(0, 0.5)
        day = f"2023-01-{1 + row // 24:02d} {row % 24:02d}:00:00"
        value = round(math.exp(score), 3)
        lines.append(f"{row},{city},{kind},{age},{income},{rng.choice(texts)},{day},{int(score > 4.1)},{value}")
    return lines
