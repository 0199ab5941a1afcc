"""An adopted churn model lives on: rows without an answer, answers in the company's words, a change that is meant."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import pytest
from tests.adopt.test_adopt import Adopted, adopt, call
from tests.notebooks.corpus import PYTHON

from trilho.config import load_settings
from trilho.data.labels import new_labels

pytestmark = [
    pytest.mark.skipif(not PYTHON.exists(), reason="the notebooks' environment is not there: make notebooks"),
    pytest.mark.timeout(400),
]
HEAD = "id_cliente,data_referencia,uf,meses,valor,churn"
CELLS = [
    "import pandas as pd\nfrom sklearn.compose import ColumnTransformer\nfrom sklearn.metrics import roc_auc_score\n"
    "from sklearn.model_selection import train_test_split\nfrom sklearn.pipeline import Pipeline\n"
    "from sklearn.preprocessing import OneHotEncoder\nfrom sklearn.tree import DecisionTreeClassifier",
    'df = pd.read_csv("clientes.csv", parse_dates=["data_referencia"])',
    'df = df.drop_duplicates(subset="id_cliente")\ndf["target"] = (df["churn"] == "sim").astype(int)\n'
    'df["valor_por_mes"] = df["valor"] / (df["meses"] + 1)',
    'num = ["meses", "valor", "valor_por_mes"]\nX = df[num + ["uf"]]\ny = df["target"]\n'
    "X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)",
    'prep = ColumnTransformer([("num", "passthrough", num), ("cat", OneHotEncoder(handle_unknown="ignore"), ["uf"])])\n'
    'modelo = Pipeline([("prep", prep), ("tree", DecisionTreeClassifier(max_depth=3, random_state=0))])\n'
    "modelo.fit(X_train, y_train)",
    'proba = modelo.predict_proba(X_test)[:, 1]\nprint("AUC", roc_auc_score(y_test, proba))\nlimiar = 0.35\n'
    "pred = proba >= limiar",
]


def rows(count: int, days: int) -> list[str]:
    made, chance = [], random.Random(7)
    for at in range(count):
        months, value = chance.randrange(60), round(chance.uniform(20, 200), 1)
        left = "sim" if chance.random() < (0.6 if months < 12 else 0.15) else "não"
        day = at * days // count
        made.append(
            f"C{at:05},2025-{1 + day // 28:02}-{1 + day % 28:02},{chance.choice(['RJ', 'SP'])},{months},{value},{left}"
        )
    return made


@pytest.fixture(scope="module")
def churn(tmp_path_factory: pytest.TempPathFactory) -> Adopted:
    place = tmp_path_factory.mktemp("churn")
    table = rows(1200, 140)
    (place / "clientes.csv").write_text("\n".join([HEAD, *table]) + "\n")
    code: dict[str, object] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [{**code, "source": source} for source in CELLS]
    notebook = place / "churn.ipynb"
    notebook.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    adopted = adopt(notebook, place / "churn")
    assert adopted.code == 0, adopted.err
    return adopted


def run(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": "src", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(folder / ".venv" / "bin" / "python"), *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def write(path: Path, lines: list[str], *, answers: bool) -> Path:
    path.write_text("\n".join(line if answers else line.rpartition(",")[0] for line in [HEAD, *lines]) + "\n")
    return path


def test_load_maps_the_answers_where_there_are_any(churn: Adopted, tmp_path: Path) -> None:
    load = (churn.folder / "src" / "churn" / "load.py").read_text()
    assert '    if "churn" in df.columns:' in load
    assert '        df["target"] = (df.pop("churn") == "sim").astype(int)\n' in load
    asked = "import sys; from churn.load import load; t = load(sys.argv[1]); print(list(t.columns), t.shape[0])"
    with_them = run(churn.folder, "-c", asked, write(tmp_path / "with.csv", rows(9, 9), answers=True))
    without = run(churn.folder, "-c", asked, write(tmp_path / "without.csv", rows(9, 9), answers=False))
    columns = "'id_cliente', 'data_referencia', 'uf', 'meses', 'valor'"
    assert with_them.stdout == f"[{columns}, 'target'] 9\n"
    assert without.stdout == f"[{columns}] 9\n"


def test_the_settings_say_what_was_seen(churn: Adopted) -> None:
    settings = load_settings(churn.folder)
    assert settings.data.served
    assert settings.labels.value == "churn"
    assert settings.labels.classes == {"não": 0, "sim": 1}
    assert settings.watch.window.days == 14  # 8 rows a day: 62 days would leave two windows
    said = " ".join(churn.told["notes"])
    assert "form 'model': `df = df.drop_duplicates(subset=\"id_cliente\")` is for training only" in said
    assert "nothing of it is compiled" in said
    assert "[data] served = false turns that off" in said
    assert "a window of the watch is 14 days" in said


def test_labels_come_as_the_data_has_them(churn: Adopted, tmp_path: Path) -> None:
    table = write(tmp_path / "later.csv", ["D1,2025-09-01,RJ,3,50,sim", "D2,2025-09-01,RJ,3,50,não"], answers=True)
    fresh = new_labels(load_settings(churn.folder), churn.folder, tmp_path / "log", table, classes=(0, 1))
    assert [(label.key, label.value) for label in fresh] == [({"id_cliente": "D1"}, 1.0), ({"id_cliente": "D2"}, 0.0)]


def test_a_file_is_predicted_and_scored_without_answers(churn: Adopted, tmp_path: Path) -> None:
    new = write(tmp_path / "new.csv", rows(20, 20), answers=False)
    table = churn.folder / "data" / "clientes.csv"
    fit = ("import pickle, sys; from churn.load import load; from churn.fit import fit; t = load(sys.argv[1]); "
           "pickle.dump(fit(t.drop(columns='target'), t['target']), open(sys.argv[2], 'wb'))")  # fmt: skip
    assert run(churn.folder, "-c", fit, table, tmp_path / "model.pkl").returncode == 0
    done = run(churn.folder, "-m", "churn.predict", tmp_path / "model.pkl", new, tmp_path / "out.csv")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 21


def test_a_change_of_the_model_that_is_meant_is_kept_with_its_reason(churn: Adopted) -> None:
    fit, golden = churn.folder / "src" / "churn" / "fit.py", churn.folder / "tests" / "golden" / "golden.json"
    decide = churn.folder / "src" / "churn" / "decide.py"
    kept = {path: path.read_bytes() for path in (fit, decide, *golden.parent.iterdir())}
    before = json.loads(golden.read_text())
    try:
        fit.write_text(fit.read_text().replace("max_depth=3", "max_depth=2"))
        decide.write_text(decide.read_text().replace("0.35", "0.4"))
        red = run(churn.folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
        assert red.returncode == 1
        assert 'Was the model meant to change? make golden WHY="..."' in red.stdout
        refused = run(churn.folder, "tests/keep_golden.py", "")
        assert (refused.returncode, refused.stderr[:29]) == (1, "why do the answers change? ma")
        assert json.loads(golden.read_text()) == before
        done = run(churn.folder, "tests/keep_golden.py", "a shallower tree")
        assert done.returncode == 0, done.stderr
        after = json.loads(golden.read_text())
        assert (after["kept"]["why"], after["kept"]["metrics_before"]) == ("a shallower tree", before["metrics"])
        assert (before["limit"], after["limit"]) == (0.35, 0.4)
        assert after["predictions"] != before["predictions"]
        assert after["digest"] == before["digest"]
        green = run(churn.folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
        assert green.returncode == 0, green.stdout
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    assert "make golden WHY=" in (churn.folder / "README.md").read_text()
    assert "$$WHY" in (churn.folder / "Makefile").read_text()


def test_what_is_next_keeps_what_was_said(churn: Adopted, tmp_path: Path) -> None:
    done = call("adopt", churn.notebook, "--into", tmp_path / "x", "--python", PYTHON, "--target", "a b", "--dry-run")
    assert done.stdout.splitlines()[-1].endswith(f"--into {tmp_path}/x --python {PYTHON} --target 'a b'")
    assert "cannot be adopted" not in done.stdout


def test_an_interpreter_without_pyarrow_is_told_before_anything_runs(
    tmp_path: Path, churn: Adopted, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trilho.adopt import beforehand, environment
    from trilho.adopt.notebook import read_notebook

    theirs = environment.look(str(PYTHON))
    versions = {name: version for name, version in theirs.versions.items() if name != "pyarrow"}
    monkeypatch.setattr(
        environment, "look", lambda _: environment.Surroundings(theirs.version, theirs.sites, theirs.others, versions)
    )
    told = beforehand.unusable(read_notebook(churn.notebook), str(PYTHON))
    assert told[0].startswith(f"It cannot be adopted so: {PYTHON} has no pyarrow")
    assert told[1] == f"  {PYTHON} -m pip install pyarrow"
