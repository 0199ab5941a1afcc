"""Whether a metric is an honest one: leakage, splits, choices made on the test rows; and what is none of that."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.adopt.doctor_cells import FIT, HEAD, SPLIT, examined, places


def rules(folder: Path, *cells: str) -> list[str]:
    return [one.rule for one in examined(folder, *cells)]


CLEAN = {
    "a pipeline": [
        HEAD,
        SPLIT,
        "model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X_train, "
        "y_train)\nprint(roc_auc_score(y_test, model.predict_proba(X_test)[:, 1]))",
    ],
    "a scaler of the train side": [
        HEAD,
        SPLIT,
        "s = StandardScaler()\nX_train = s.fit_transform(X_train)\nX_test = s.transform(X_test)",
        FIT,
    ],
    "a vocabulary": [
        HEAD,
        "df['c'] = LabelEncoder().fit_transform(df['c'])\ndf = pd.get_dummies(df, columns=['d'])",
        SPLIT,
        FIT,
    ],
    "a statistic that is only shown": [HEAD, "df.describe()", "print(df.a.mean(), df.corr())", SPLIT, FIT],
    "a filter": [HEAD, "df = df[df.a < df.a.quantile(0.99)]", SPLIT, FIT],
    "sums over a row's columns": [HEAD, "df['b'] = df[['a', 'c']].mean(axis=1)", SPLIT, FIT],
    "a table of sums is the data": [
        HEAD,
        "df = df.groupby('day').agg({'a': 'sum', 'b': 'mean', 'y': 'max'}).reset_index()",
        SPLIT,
        FIT,
    ],
    "lags of the target": [
        HEAD,
        "df['b'] = df.groupby('shop')['y'].shift(7)\ndf['a'] = df['y'].shift(1).rolling(7).mean()",
        SPLIT,
        FIT,
    ],
    "the cut itself": [
        HEAD,
        "cut = df.t.quantile(0.8)\ntrain = df[df.t < cut]\ntest = df[df.t >= cut]",
        "m = LogisticRegression().fit(train[['a']], train['y'])\nprint(accuracy_score(test['y'], "
        "m.predict(test[['a']])))",
    ],
    "rates of the train side": [
        HEAD,
        "train, test = df.iloc[:800].copy(), df.iloc[800:].copy()\nrate = train.groupby('shop').y.mean()\ntrain['a'] "
        "= train.shop.map(rate)\ntest['a'] = test.shop.map(rate)",
        "m = LogisticRegression().fit(train[['a']], train['y'])\nprint(accuracy_score(test['y'], "
        "m.predict(test[['a']])))",
    ],
    "refitted at the end": [HEAD, SPLIT, FIT, "final = LogisticRegression().fit(X, y)"],
    "a validation part": [
        HEAD,
        SPLIT,
        "X_tr, X_val, y_tr, y_val = train_test_split(X_train, y_train, random_state=2)\nmodel = "
        "LogisticRegression().fit(X_tr, y_tr)\nts = np.arange(0.1, 0.9, 0.1)\nfs = [f1_score(y_val, "
        "model.predict_proba(X_val)[:, 1] > t) for t in ts]\nbest = ts[np.argmax(fs)]\nprint(f1_score(y_test, "
        "model.predict_proba(X_test)[:, 1] > best))",
    ],
    "the best of the folds": [
        HEAD,
        "X, y = df[['a', 'b']].values, df['y'].values\nscores = []\nfor tr, va in KFold(5).split(X):\n"
        "    s = StandardScaler().fit(X[tr])\n    m = LogisticRegression().fit(s.transform(X[tr]), y[tr])\n"
        "    scores.append(accuracy_score(y[va], m.predict(s.transform(X[va]))))\nprint(np.mean(scores), max(scores))",
    ],
    "a search in the training rows": [
        HEAD,
        SPLIT,
        "gs = GridSearchCV(LogisticRegression(), {'C': [1, 2]}, cv=3)\ngs.fit(X_train, "
        "y_train)\nprint(accuracy_score(y_test, gs.predict(X_test)))",
    ],
    "folds": [
        HEAD,
        SPLIT,
        "for tr, va in KFold(5).split(X_train):\n    m = LogisticRegression().fit(X_train.iloc[tr], "
        "y_train.iloc[tr])\n    print(accuracy_score(y_train.iloc[va], m.predict(X_train.iloc[va])))",
        FIT,
    ],
    "train and test scores": [HEAD, SPLIT, FIT, "print(model.score(X_train, y_train), model.score(X_test, y_test))"],
    "dropped by a list": [
        HEAD,
        "drop = ['y', 'y2']\ndf['y2'] = df['y'] * 2\nX = df.drop(columns=drop)\ny = df['y']\nX_train, X_test, "
        "y_train, y_test = train_test_split(X, y, random_state=1)",
        FIT,
    ],
    "a log of the target": [
        HEAD,
        "df['y'] = np.log1p(df['y'])\nX = df.drop(columns=['y'])\ny = df['y']\nX_train, X_test, y_train, y_test = "
        "train_test_split(X, y, random_state=1)",
        FIT,
    ],
}


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_said_of_what_is_right(tmp_path: Path, name: str) -> None:
    assert places(examined(tmp_path, *CLEAN[name])) == []


LEAKS = {
    "a scaler": ("df[['a', 'b']] = StandardScaler().fit_transform(df[['a', 'b']])", "warning"),
    "a scaler in two steps": (
        "s = StandardScaler()\ns.fit(df[['a', 'b']])\ndf[['a', 'b']] = s.transform(df[['a', 'b']])",
        "warning",
    ),
    "a median": ("df['a'] = df['a'].fillna(df['a'].median())", "warning"),
    "a whole table": ("df = df.fillna(df.mean())", "warning"),
    "a loop": ("for c in ['a', 'b']:\n    df[c] = (df[c] - df[c].mean()) / df[c].std()", "warning"),
    "groups": ("df['a'] = df.groupby('g')['b'].transform('mean')", "warning"),
    "a rate of the target": ("df['a'] = df['g'].map(df.groupby('g')['y'].mean())", "error"),
    "a table that is merged": (
        "rate = df.groupby('g')['y'].mean().reset_index(name='a')\ndf = df.merge(rate, on='g', how='left')",
        "error",
    ),
    "a function": (
        "def prep(d):\n    d = d.copy()\n    d['a'] = d['a'].fillna(d['a'].median())\n    return d\ndf = prep(df)",
        "warning",
    ),
    "quantile bins": ("df['a'] = pd.qcut(df['a'], 10, labels=False)", "warning"),
    "numpy": ("df['a'] = np.where(df['a'].isna(), np.nanmedian(df['a']), df['a'])", "warning"),
}


@pytest.mark.parametrize("name", LEAKS)
def test_statistics_before_the_split_are_found(tmp_path: Path, name: str) -> None:
    source, severity = LEAKS[name]
    found = examined(tmp_path, HEAD, source, SPLIT, FIT)
    assert {(one.rule, one.cell, one.severity) for one in found} == {("leakage", 1, severity)}
    assert all(one.fix and one.line for one in found)


def test_a_model_that_is_cross_validated_on_scaled_rows_leaks(tmp_path: Path) -> None:
    cells = [
        HEAD,
        "X = StandardScaler().fit_transform(df[['a', 'b']])\nprint(cross_val_score(LogisticRegression(), X, df['y'], "
        "cv=5).mean())",
    ]
    assert rules(tmp_path, *cells) == ["leakage"]


def test_rows_that_are_made_before_the_split_are_an_error(tmp_path: Path) -> None:
    cells = [
        HEAD,
        "from imblearn.over_sampling import SMOTE\nX, y = SMOTE(random_state=1).fit_resample(df[['a']], "
        "df['y'])\nX_train, X_test, y_train, y_test = train_test_split(X, y, random_state=1)",
        FIT,
    ]
    found = examined(tmp_path, *cells)
    assert [(one.rule, one.severity) for one in found] == [("leakage", "error"), ("resampled-classes", "warning")]


def test_a_transformer_that_is_fitted_to_the_test_rows(tmp_path: Path) -> None:
    cells = [
        HEAD,
        SPLIT,
        "s = StandardScaler()\nX_train = s.fit_transform(X_train)\nX_test = s.fit_transform(X_test)",
        FIT,
    ]
    assert places(examined(tmp_path, *cells)) == [("test-fitted", 2, 3)]


TELLING = {
    "computed from the target": ("df['a'] = df['y'] / df['b']", "a"),
    "through another column": ("df['share'] = df['y'] / df['b']\ndf['a'] = np.log(df['share'])", "a"),
    "a window that ends with the row itself": ("df['a'] = df['y'].rolling(3).mean()", "a"),
    "a future value": ("df['a'] = df['y'].shift(-1)", "a"),
    "what the target is made of": ("df['y'] = (df['b'] > 15).astype(int)", "b"),
}


@pytest.mark.parametrize("name", TELLING)
def test_features_that_know_the_answer(tmp_path: Path, name: str) -> None:
    source, column = TELLING[name]
    found = [one for one in examined(tmp_path, HEAD, source, SPLIT, FIT) if one.rule == "target-leakage"]
    assert len(found) == 1
    assert f"`{column}`" in found[0].message
    assert found[0].severity == "error"


def test_the_target_among_the_features(tmp_path: Path) -> None:
    cells = [
        HEAD,
        "X = df.drop(columns=['id'])\ny = df['y']\nX_train, X_test, y_train, y_test = train_test_split(X, y, "
        "random_state=1)",
        FIT,
    ]
    assert rules(tmp_path, *cells) == ["target-leakage"]


def test_a_random_split_of_rows_in_time(tmp_path: Path) -> None:
    read = HEAD.replace('"data.csv")', '"data.csv", parse_dates=["ordered_at"])')
    assert places(examined(tmp_path, read, SPLIT, FIT)) == [("random-time-split", 1, 3)]
    assert rules(tmp_path, read, SPLIT.replace("random_state=1", "shuffle=False"), FIT) == []
    assert rules(tmp_path, read.replace("ordered_at", "birth_date"), SPLIT, FIT) == []


TUNED = {
    "threshold-tuned-on-test": [
        "best, limit = 0, 0\nfor t in np.arange(0.1, 0.9, 0.05):\n    f = f1_score(y_test, p > t)\n    if f > "
        "best:\n        best, limit = f, t\nprint(f1_score(y_test, p > limit))",
        "precision, recall, limits = precision_recall_curve(y_test, p)\nlimit = limits[np.argmax(2 * precision * "
        "recall / (precision + recall))]\nprint(f1_score(y_test, p > limit))",
        "ts = np.linspace(0, 1, 50)\nfs = []\nfor t in ts:\n    fs.append(f1_score(y_test, p > t))\nlimit = "
        "ts[np.argmax(fs)]",
        "results = {t: accuracy_score(y_test, (p > t).astype(int)) for t in [0.3, 0.5]}\nlimit = max(results, "
        "key=results.get)",
    ],
    "selection-on-test": [
        "best = 0\nfor c in [0.1, 1, 10]:\n    m = LogisticRegression(C=c).fit(X_train, y_train)\n    s = "
        "accuracy_score(y_test, m.predict(X_test))\n    if s > best:\n        best, winner = s, m",
        "models = {'a': LogisticRegression(), 'b': RandomForestClassifier(random_state=1)}\nscores = {}\nfor name, m "
        "in models.items():\n    m.fit(X_train, y_train)\n    scores[name] = m.score(X_test, y_test)\nwinner = "
        "max(scores, key=scores.get)",
        "gs = GridSearchCV(LogisticRegression(), {'C': [1, 2]}, cv=3)\ngs.fit(X, y)\nprint(accuracy_score(y_test, "
        "gs.predict(X_test)))",
        "import optuna\ndef objective(trial):\n"
        "    m = LogisticRegression(C=trial.suggest_float('C', 0.1, 9)).fit(X_train, y_train)\n"
        "    return accuracy_score(y_test, m.predict(X_test))\n"
        "study = optuna.create_study()\nstudy.optimize(objective, n_trials=9)",
    ],
    "early-stopping-on-test": [
        "import xgboost as xgb\nm = xgb.XGBClassifier(n_estimators=500, early_stopping_rounds=20)\nm.fit(X_train, "
        "y_train, eval_set=[(X_test, y_test)])\nprint(roc_auc_score(y_test, m.predict_proba(X_test)[:, 1]))",
        "import lightgbm as lgb\ntr = lgb.Dataset(X_train, label=y_train)\nva = lgb.Dataset(X_test, label=y_test)\nm "
        "= lgb.train({}, tr, valid_sets=[va], callbacks=[lgb.early_stopping(20)])\nprint(roc_auc_score(y_test, "
        "m.predict(X_test)))",
    ],
}


@pytest.mark.parametrize(("rule", "source"), [(rule, source) for rule, sources in TUNED.items() for source in sources])
def test_what_is_chosen_by_the_test_rows(tmp_path: Path, rule: str, source: str) -> None:
    found = set(rules(tmp_path, HEAD, SPLIT, FIT, source))
    assert rule in found
    assert found <= {rule, "seen-rows"}


def test_early_stopping_on_a_validation_part_is_right(tmp_path: Path) -> None:
    source = (
        "import xgboost as xgb\nX_tr, X_val, y_tr, y_val = train_test_split(X_train, y_train, random_state=2)\nm = "
        "xgb.XGBClassifier(early_stopping_rounds=20)\nm.fit(X_tr, y_tr, eval_set=[(X_val, "
        "y_val)])\nprint(roc_auc_score(y_test, m.predict_proba(X_test)[:, 1]))"
    )
    assert rules(tmp_path, HEAD, SPLIT, source) == []


def test_what_is_picked_by_eye_is_a_note(tmp_path: Path) -> None:
    source = (
        "for d in [3, 5]:\n    m = RandomForestClassifier(max_depth=d, random_state=1).fit(X_train, y_train)\n    "
        "print(d, accuracy_score(y_test, m.predict(X_test)))"
    )
    found = examined(tmp_path, HEAD, SPLIT, source)
    assert [(one.rule, one.severity) for one in found] == [("selection-on-test", "note")]


def test_metrics_of_rows_that_were_learnt(tmp_path: Path) -> None:
    alone = ["X, y = df[['a']], df['y']\nm = LogisticRegression().fit(X, y)\nprint(accuracy_score(y, m.predict(X)))"]
    assert rules(tmp_path, HEAD, *alone) == ["seen-rows"]
    after = ["model.fit(X, y)\nprint(accuracy_score(y_test, model.predict(X_test)))"]
    assert places(examined(tmp_path, HEAD, SPLIT, FIT, *after)) == [("seen-rows", 3, 2)]
