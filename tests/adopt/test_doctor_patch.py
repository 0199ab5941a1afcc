"""The patch that takes leakage out: it applies, it changes nothing else, and the metric's change is a measured one."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest
from tests.adopt.doctor_cells import FIT, HEAD, SPLIT, notebook, write
from tests.notebooks.corpus import PYTHON

from trilho.adopt.capture import capture, find_interpreter
from trilho.adopt.doctor.checkup import Run, check_notebook
from trilho.adopt.doctor.patch import Patch, patch_notebook
from trilho.adopt.doctor.project_patch import patch_project
from trilho.adopt.doctor.subject import of_notebook, of_project
from trilho.adopt.notebook import Notebook, read_notebook
from trilho.adopt.trace import Trace
from trilho.config import load_settings

RATE = "df['a'] = df['g'].map(df.groupby('g')['y'].mean())"


def patched(folder: Path, *cells: str) -> Patch:
    return patch_notebook(of_notebook(notebook(folder, *cells)))


def applied(folder: Path, file: str, diff: str) -> None:
    (folder / "fix.diff").write_text(diff)
    subprocess.run(["git", "init", "-q", "."], cwd=folder, check=True)
    subprocess.run(["git", "apply", "fix.diff"], cwd=folder, check=True)
    assert (folder / file).exists()


CHANGES = {
    "a rate": (RATE, "df['a'] = df['g'].map(df.iloc[train_rows].groupby('g')['y'].mean())"),
    "a median": (
        "df['a'] = df['a'].fillna(df['a'].median())  # gaps",
        "df['a'] = df['a'].fillna(df.iloc[train_rows]['a'].median())  # gaps",
    ),
    "a scaler": (
        "df[['a']] = StandardScaler().fit_transform(df[['a']])",
        "df[['a']] = StandardScaler().fit(df.iloc[train_rows][['a']]).transform(df[['a']])",
    ),
    "a scaler in two steps": (
        "s = StandardScaler()\ns.fit(df[['a']])\ndf[['a']] = s.transform(df[['a']])",
        "s.fit(df.iloc[train_rows][['a']])",
    ),
    "groups": (
        "df['a'] = df.groupby('g')['b'].transform('mean')",
        "df['a'] = df['g'].map(df.iloc[train_rows].groupby('g')['b'].mean())",
    ),
    "gaps by group": (
        "df['b'] = df.groupby('g')['b'].transform(lambda x: x.fillna(x.median()))",
        "df['b'] = df['b'].fillna(df['g'].map(df.iloc[train_rows].groupby('g')['b'].median()))",
    ),
}
ROWS = "train_rows = train_test_split(range(len(df)), test_size=0.2, random_state=1)[0]"


@pytest.mark.parametrize("name", CHANGES)
def test_a_statistic_is_narrowed_where_it_stands(tmp_path: Path, name: str) -> None:
    source, wanted = CHANGES[name]
    patch = patched(tmp_path, HEAD, source, SPLIT, FIT)
    assert list(patch.sources) == [1]
    lines = patch.sources[1].splitlines()
    assert ROWS in lines
    assert wanted in lines
    assert len(lines) == len(source.splitlines()) + 1
    assert patch.left == ()
    applied(tmp_path, "poc.ipynb", patch.diff)
    again = read_notebook(tmp_path / "poc.ipynb")
    assert again.cells[1].source == patch.sources[1]
    assert [cell.source for cell in again.cells if cell.index != 1] == [HEAD, SPLIT, FIT]


def test_a_cut_in_time_is_brought_forward(tmp_path: Path) -> None:
    cells = [
        HEAD,
        RATE,
        "cut = df.t.quantile(0.8)\ntrain, test = df[df.t < cut], df[df.t >= cut]",
        "m = LogisticRegression().fit(train[['a']], train['y'])\nprint(m.score(test[['a']], test['y']))",
    ]
    patch = patched(tmp_path, *cells)
    assert patch.sources[1].splitlines() == [
        "train_rows = df.t < df.t.quantile(0.8)",
        "df['a'] = df['g'].map(df.loc[train_rows].groupby('g')['y'].mean())",
    ]


UNABLE = {
    "rows are dropped or reordered": [HEAD, RATE, "df = df.dropna()", SPLIT, FIT],
    "no seed": [HEAD, RATE, SPLIT.replace(", random_state=1", ""), FIT],
    "cross validation only": [
        HEAD,
        RATE,
        "print(cross_val_score(LogisticRegression(), df[['a']], df['y'], cv=3).mean())",
    ],
    "split first": [
        HEAD,
        "from imblearn.over_sampling import SMOTE\nX, y = SMOTE(random_state=1).fit_resample(df[['a']], df['y'])",
        "X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=1)",
        FIT,
    ],
}


@pytest.mark.parametrize("reason", UNABLE)
def test_what_cannot_be_done_in_place_is_told(tmp_path: Path, reason: str) -> None:
    patch = patched(tmp_path, *UNABLE[reason])
    assert (patch.diff, patch.fixed) == ("", ())
    assert any(reason in told for told in patch.left)


def test_features_that_know_the_answer_are_dropped(tmp_path: Path) -> None:
    patch = patched(tmp_path, HEAD, "df['a'] = df['y'] / df['b']", SPLIT, FIT)
    assert "X = X.drop(columns=['a'])" in patch.sources[2].splitlines()


def test_a_notebook_without_leakage_has_no_patch(tmp_path: Path) -> None:
    assert patched(tmp_path, HEAD, SPLIT, FIT) == Patch()


@pytest.mark.parametrize("indent", [None, 1, 2, 4])
def test_the_file_keeps_its_form(tmp_path: Path, indent: int | None) -> None:
    path = write(tmp_path, HEAD, RATE, SPLIT, FIT)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=indent))
    patch = patch_notebook(of_notebook(read_notebook(path)))
    changed = [line for line in patch.diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert len(changed) <= 3
    applied(tmp_path, "poc.ipynb", patch.diff)
    assert "train_rows" in read_notebook(path).cells[1].source


def test_a_script_is_patched_too(tmp_path: Path) -> None:
    path = tmp_path / "poc.py"
    path.write_text("\n\n".join(f"# %%\n{cell}" for cell in (HEAD, RATE, SPLIT, FIT)) + "\n")
    patch = patch_notebook(of_notebook(read_notebook(path)))
    applied(tmp_path, "poc.py", patch.diff)
    assert f"# %%\n{ROWS}\ndf['a'] = df['g'].map(df.iloc" in path.read_text()


@pytest.mark.skipif(not PYTHON.exists(), reason="make notebooks")
def test_the_honest_change_is_measured(tmp_path: Path) -> None:
    """The target is a coin: what a rate over many groups says of it is leakage alone."""
    rng = random.Random(5)
    rows = [(rng.randrange(150), rng.random(), rng.randrange(2)) for _ in range(600)]
    (tmp_path / "data.csv").write_text("g,b,y\n" + "".join(f"{g},{b:.3f},{y}\n" for g, b, y in rows))
    path = write(tmp_path, HEAD, f"{RATE}.fillna(0.5)", SPLIT, FIT)
    interpreter = find_interpreter(read_notebook(path), str(PYTHON))

    def run(one: Notebook, scratch: Path) -> Trace:
        return capture(one, interpreter, scratch)

    runs: Run = run
    report = check_notebook(path, str(tmp_path / "fix.diff"), runs, tmp_path / "scratch")
    assert report.fix is not None
    (change,) = report.fix.changes
    assert (change.metric, report.fix.measured) == ("roc_auc_score", True)
    assert change.before > 0.6
    assert abs(change.after - 0.5) < 0.08
    assert "train_rows" in (tmp_path / "fix.diff").read_text()


FIT_PY = '''"""How the model is fitted."""

import pandas as pd
from sklearn.linear_model import LogisticRegression

from shop.state import State


def split(raw: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Part the rows."""
    cut = raw.t.quantile(0.8)
    return raw[raw.t < cut], raw[raw.t >= cut]


def build(d: pd.DataFrame, state: State) -> pd.DataFrame:
    """Give the features."""
    o = pd.DataFrame(index=d.index)
    o["rate"] = d.g.map(state.RATE)
    return o


def fit(rows: pd.DataFrame, target: pd.Series) -> LogisticRegression:
    """Fit the model."""
    raw = rows.assign(y=target)
    state = State()
    state.once("RATE", lambda: raw.groupby("g").y.mean().to_dict())
    train, test = split(raw)
    return LogisticRegression().fit(build(train, state), train.y)
'''
TOML = """
[model]
name = "shop"
task = "classification"
target = "y"
[data]
source = "data.csv"
[steps]
features = "shop.fit:build"
train = "shop.fit:fit"
"""


def test_a_project_learns_its_state_from_the_train_side(tmp_path: Path) -> None:
    (tmp_path / "trilho.toml").write_text(TOML)
    source = tmp_path / "src" / "shop" / "fit.py"
    source.parent.mkdir(parents=True)
    source.write_text(FIT_PY)
    patch = patch_project(of_project(tmp_path, load_settings(tmp_path)))
    applied(tmp_path, "src/shop/fit.py", patch.diff)
    lines = [line.strip() for line in source.read_text().splitlines()]
    at = lines.index("train_rows = split(raw)[0]")
    assert lines[at + 1] == 'state.once("RATE", lambda: train_rows.groupby("g").y.mean().to_dict())'
    assert len(patch.fixed) == 1
