"""The rules that look at one place at a time: paths, network, seeds, classes, imports, state, pickles, tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.adopt.doctor_cells import FIT, HEAD, SPLIT, examined, notebook, places

from trilho.adopt.doctor import examine_notebook

FOUND = {
    "pd.read_csv('/home/ana/sales.csv')": "data-location",
    "pd.read_csv(r'C:\\Users\\ana\\sales.csv')": "data-location",
    "pd.read_csv('C:/dados/vendas.csv')": "data-location",
    "pd.read_parquet('/content/drive/MyDrive/x.parquet')": "data-location",
    "pd.read_excel('~/Downloads/x.xlsx')": "data-location",
    "pd.read_csv('../input/train.csv')": "data-location",
    "base = '/Users/ana/work'\npd.read_csv(base + '/x.csv')": "data-location",
    "pd.read_clipboard()": "data-location",
    "OUT = '/srv/models/churn'": "absolute-path",
    "import requests\nrequests.get('https://api.example.org/x').json()": "network-call",
    "import requests\nrequests.post('https://hooks.example.org/x', json={})": "network-call",
    "pd.read_csv('https://example.org/x.csv')": "network-call",
    "from google.cloud import bigquery\nbigquery.Client()": "network-call",
    "!wget https://example.org/x.zip": "network-call",
    "train_test_split([1, 2], [1, 2])": "unseeded-randomness",
    "RandomForestClassifier(n_estimators=10)": "unseeded-randomness",
    "KFold(5, shuffle=True)": "unseeded-randomness",
    "noise = np.random.normal(size=5)": "unseeded-randomness",
    "rng = np.random.default_rng()": "unseeded-randomness",
    "small = df.sample(frac=0.1)": "unseeded-randomness",
    "LogisticRegression(class_weight='balanced')": "weighted-classes",
    "params = {'objective': 'binary', 'is_unbalance': True}": "weighted-classes",
    "SEEN = {}\ndef f(d):\n    SEEN['a'] = d.a.median()\n    return d": "mutable-global",
    "N = 0\ndef f():\n    global N\n    N += 1": "mutable-global",
    "def f(d, cache={}):\n    cache['x'] = d\n    return cache": "mutable-global",
    "%run ../common/setup.ipynb": "hidden-state",
    "%store -r features": "hidden-state",
    "missing + 1": "undefined-name",
}


@pytest.mark.parametrize("source", FOUND)
def test_one_rule_finds_it(tmp_path: Path, source: str) -> None:
    found = examined(tmp_path, HEAD, source)
    rules = {one.rule for one in found if one.cell == 1} - {"magic", "shell-command"}
    assert rules == {FOUND[source]}
    assert all(one.message and one.fix for one in found)


RIGHT = [
    "pd.read_csv('data/x.csv')",
    "pd.read_csv('../data/x.csv')",
    "df.plot(title='/home made/')",
    "URL = 'https://example.org/docs'",
    "np.random.seed(1)\nRandomForestClassifier()",
    "import xgboost\nxgboost.XGBClassifier()",
    "params = dict(random_state=1)\nRandomForestClassifier(**params)",
    "df.sample(5)",
    "KFold(5)",
    "rng = np.random.default_rng(1)",
    "LogisticRegression(class_weight=None)",
    "from sklearn.calibration import "
    "CalibratedClassifierCV\nCalibratedClassifierCV(LogisticRegression(class_weight='balanced'))",
    "COLS = ['a']\ndef f(d):\n    cols = list(COLS)\n    cols.append('b')\n    return d[cols]",
    "def f(d):\n    out = {}\n    out['a'] = 1\n    return out",
    "df['date'].dt.strftime('%d/%m/%Y')",
    "df['x'] = df['x'].str.replace('/', '')",
]


@pytest.mark.parametrize("source", RIGHT)
def test_nothing_is_found_in_what_is_right(tmp_path: Path, source: str) -> None:
    assert places(examined(tmp_path, HEAD, source)) == []


def test_what_is_pickled_as_main(tmp_path: Path) -> None:
    cells = [
        HEAD,
        "import joblib\nclass Ratio:\n    def fit(self, X, y=None):\n        return self\n    def transform(self, "
        "X):\n        return X",
        SPLIT,
        "model = make_pipeline(Ratio(), LogisticRegression())\nmodel.fit(X_train, "
        "y_train)\nprint(model.score(X_test, y_test))",
        "joblib.dump(model, 'model.joblib')",
    ]
    found = examined(tmp_path, *cells)
    assert places(found) == [("pickled-main-class", 4, 1)]
    assert "`Ratio`" in found[0].message
    assert places(examined(tmp_path, HEAD, SPLIT, FIT, "import joblib\njoblib.dump(model, 'model.joblib')")) == []


def test_imports(tmp_path: Path) -> None:
    cells = ["import os, json\nimport pandas as pd\nfrom math import *", "pd.DataFrame()\n%timeit json.dumps({})"]
    found = {one.rule: one for one in examine_notebook(notebook(tmp_path, *cells))}
    assert "`os`" in found["unused-import"].message
    assert "json" not in found["unused-import"].message
    assert found["unpinned-import"].severity == "note"
    (tmp_path / "requirements.txt").write_text("pandas==2.2.0\n")
    assert "unpinned-import" not in {one.rule for one in examine_notebook(notebook(tmp_path, *cells))}
    (tmp_path / "requirements.txt").write_text("pandas>=2\n")
    loose = {one.rule: one for one in examine_notebook(notebook(tmp_path, *cells))}["unpinned-import"]
    assert (loose.severity, "requirements.txt" in loose.fix) == ("warning", True)


def test_an_install_without_a_version_is_told_once(tmp_path: Path) -> None:
    found = examine_notebook(notebook(tmp_path, "!pip install -q lightgbm xgboost==2.1.0", "x = 1"))
    assert [(one.rule, one.cell) for one in found] == [("unpinned-import", 0)]
    assert "`lightgbm`" in found[0].message
    assert "xgboost" not in found[0].message


def test_functions_that_nothing_checks(tmp_path: Path) -> None:
    cells = ["def double(x):\n    return 2 * x", "double(2)"]
    assert [one.rule for one in examine_notebook(notebook(tmp_path, *cells))] == ["tests-missing"]
    assert examine_notebook(notebook(tmp_path, *cells, "assert double(2) == 4")) == []


def test_a_cell_that_was_saved_with_an_error(tmp_path: Path) -> None:
    error = {"output_type": "error", "ename": "KeyError", "evalue": "'x'", "traceback": []}
    found = examined(tmp_path, "x = 1", "x + 1", outputs={1: [error]})
    assert places(found) == [("failed-cell", 1, 1)]
    assert "KeyError" in found[0].message


def test_a_clean_notebook_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("pandas==2.2.0\nscikit-learn==1.5.0\n")
    cells = [
        "## Churn\nWho leaves next month.",
        "import pandas as pd\nfrom sklearn.linear_model import LogisticRegression\nfrom sklearn.metrics import "
        "roc_auc_score\nfrom sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import StandardScaler",
        'customers = pd.read_csv("data/customers.csv", parse_dates=["month"])\n'
        'customers["per_call"] = customers["fee"] / customers["calls"].clip(lower=1)',
        'train = customers[customers["month"] < "2024-06-01"]\ntest = customers[customers["month"] >= "2024-06-01"]\n'
        'FEATURES = ["fee", "calls", "per_call"]',
        'model = make_pipeline(StandardScaler(), LogisticRegression())\nmodel.fit(train[FEATURES], train["left"])\n'
        'print(roc_auc_score(test["left"], model.predict_proba(test[FEATURES])[:, 1]))',
    ]
    assert examine_notebook(notebook(tmp_path, *cells)) == []
