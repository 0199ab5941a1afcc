"""Form "whole": the notebook's own code up to the model's input, run again from the file."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.adopt.capture_runs import notebook_python, ran, run

from trilho.adopt.emit.modules import write_modules
from trilho.adopt.notebook import read_notebook
from trilho.adopt.plan import Choice, Plan
from trilho.adopt.slice.choose import choose
from trilho.adopt.slice.program import Program
from trilho.adopt.slice.whole import asked_alone, plan_whole
from trilho.adopt.trace import Trace
from trilho.errors import TrilhoError

RENTS = (
    "import numpy as np\nimport pandas as pd\nfrom sklearn.ensemble import GradientBoostingRegressor\n"
    "from sklearn.metrics import mean_absolute_error\nfrom sklearn.model_selection import train_test_split\n"
    "ROOMS = 3",
    "df = pd.read_csv('rents.csv')\nMEAN = df['area'].mean()",
    "def build(t):\n    t = t.copy()\n    t['ratio'] = t['area'] / MEAN"
    "\n    t['many'] = (t['rooms'] > ROOMS).astype(int)"
    "\n    return t\ndf = build(df)",
    "X, y = df[['area', 'ratio', 'many']], np.log1p(df['rent'])\n"
    "X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=3)",
    "n = 20\nmodel = GradientBoostingRegressor(n_estimators=n, random_state=1)\nmodel.fit(X_train, y_train)",
    "p = np.expm1(model.predict(X_test))\nprint(f'MAE {mean_absolute_error(np.expm1(y_test), p):.2f}')",
)
BOOSTED = (
    "import pandas as pd, lightgbm as lgb\nfrom sklearn.metrics import roc_auc_score",
    "d = pd.read_csv('clicks.csv')\nd['site'] = d['site'].astype('category')\ncols = ['hour', 'site']",
    "a, b, c = d[:200], d[200:260], d[260:]",
    "m = lgb.LGBMClassifier(n_estimators=40, random_state=2, verbose=-1, n_jobs=1)\n"
    "m.fit(a[cols], a['click'], eval_set=[(b[cols], b['click'])], callbacks=[lgb.early_stopping(5, verbose=False)])",
    "auc = roc_auc_score(c['click'], m.predict_proba(c[cols])[:, 1])",
)
RUN = """
import json, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
data = Path(sys.argv[2])
from shop.load import load
from shop.fit import fit
from shop.predict import predict
from shop.evaluate import evaluate
table = load(data)
target = sys.argv[3]
X, y = table.drop(columns=target), table[target]
model = fit(X, y)
told = {"rows": len(table), "columns": list(table.columns), "first": [float(y.iloc[0]), float(y.iloc[-1])],
        "predictions": np.asarray(predict(model, X)).tolist(), "metrics": evaluate(data)}
print(json.dumps(told))
"""


@dataclass(frozen=True)
class Replayed:
    """A notebook, its plan, and what the plan's package gave."""

    plan: Plan
    choice: Choice
    trace: Trace
    scratch: Path
    texts: dict[str, str]
    told: dict[str, Any]


def replayed(folder: Path, cells: tuple[str, ...], data: str, rows: list[str], *modules: str) -> Replayed:
    """Run a notebook, plan it whole, and run the package."""
    work = folder / "work"
    work.mkdir(parents=True)
    (work / data).write_text("\n".join(rows) + "\n", encoding="utf-8")
    trace = ran(run(folder, *cells, modules=modules))
    notebook = read_notebook(work / "notebook.ipynb")
    choice = choose(notebook, trace, scratch=folder / "scratch")
    plan = plan_whole(Program(notebook, trace, choice), "shop")
    texts = write_modules(plan, choice, trace)
    package = folder / "src" / "shop"
    package.mkdir(parents=True)
    for name, text in texts.items():
        (package / name).write_text(text, encoding="utf-8")
    command = [notebook_python(*modules), "-c", RUN, str(folder / "src"), str(work / data), choice.target.column]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return Replayed(plan, choice, trace, folder / "scratch", texts, json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def rents(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """Give a regression whose target is transformed, with a function that reads what is computed from rows."""
    rows = [f"{30 + i % 71},{1 + i % 5},{300 + 7 * (i % 71) + 40 * (i % 5)}" for i in range(240)]
    return replayed(tmp_path_factory.mktemp("rents"), RENTS, "rents.csv", ["area,rooms,rent", *rows])


@pytest.fixture(scope="module")
def boosted(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """Give a classification with categories, stopped early by rows of its own."""
    rows = [f"{i % 24},{'abc'[i % 7 % 3]},{int((i % 24 > 11) ^ (i % 5 == 0))}" for i in range(330)]
    return replayed(
        tmp_path_factory.mktemp("boosted"), BOOSTED, "clicks.csv", ["hour,site,click", *rows], "lightgbm"
    )  # fmt: skip


def test_load_gives_the_rows_of_the_fit_with_the_target_as_it_was_read(rents: Replayed) -> None:
    assert rents.plan.form == "whole"
    assert rents.plan.prepared
    assert rents.told["rows"] == 180
    assert rents.told["columns"] == ["area", "ratio", "many", rents.choice.target.column]
    assert 300 <= rents.told["first"][0] <= 1000


def test_a_function_that_reads_a_computed_value_stands_beside_it(rents: Replayed) -> None:
    load = rents.texts["load.py"]
    assert "    def build_(t):" in load
    assert "build_(df)" in load
    assert load.index("MEAN = df") < load.index("def build_")


def test_the_fit_holds_what_makes_the_model_and_nothing_else(rents: Replayed) -> None:
    source = [part.source for part in rents.plan.fit[-1].parts]
    assert source == [
        "y = np.log1p(y)",
        "model = GradientBoostingRegressor(n_estimators=n, random_state=1)",
        "model.fit(X, y)",
    ]
    above = [part.source for parts in rents.plan.constants.values() for part in parts]
    assert above == ["ROOMS = 3", "n = 20"]  # evaluate reads it too


def test_the_answer_is_on_the_scale_of_the_target(rents: Replayed) -> None:
    golden = next(g for g in rents.trace.golden if g.event == "fit")
    expected = numbers(rents.scratch / golden.file, "np.expm1(x)")
    assert rents.told["predictions"] == pytest.approx(expected, rel=1e-9)


def test_the_metric_is_the_notebooks_from_the_file_on(rents: Replayed, boosted: Replayed) -> None:
    for one in (rents, boosted):
        metric = one.choice.metrics[0]
        assert one.told["metrics"][metric.name] == pytest.approx(metric.value, rel=1e-12)


def test_rows_that_stop_the_fit_are_the_tables_last(boosted: Replayed) -> None:
    assert boosted.told["rows"] == 260
    source = "\n".join(part.source for part in boosted.plan.fit[-1].parts)
    assert "stop = len(X) * 200 // 260" in source
    assert "eval_set=[(X_val, y_val)]" in source


def test_categories_are_learnt_again_after_they_were_texts(boosted: Replayed) -> None:
    golden = next(g for g in boosted.trace.golden if g.event == "fit" and g.method == "predict_proba")
    expected = numbers(boosted.scratch / golden.file, "x[:, 1]")
    assert boosted.told["predictions"][:200] == pytest.approx(expected, rel=1e-9)
    assert "categories: dict[str, pd.CategoricalDtype]" in boosted.texts["predict.py"]


def test_lags_are_in_the_input_already(rents: Replayed) -> None:
    assert asked_alone(rents.plan, rents.choice).lags == ()


def test_a_fit_inside_a_function_is_refused_with_its_cell(tmp_path: Path) -> None:
    cells = (
        "import pandas as pd\nfrom sklearn.linear_model import LinearRegression\ndf = pd.read_csv('a.csv')",
        "def train(t):\n    F = t[['x']] * 2\n    return LinearRegression().fit(F, t['y'])",
        "model = train(df)\np = model.predict(df[['x']] * 2)\nmae = (df['y'] - p).abs().mean()",
    )
    (tmp_path / "work").mkdir()
    rows = "\n".join(f"{i},{3 * i + i % 4}" for i in range(40))
    (tmp_path / "work" / "a.csv").write_text(f"x,y\n{rows}\n", encoding="utf-8")
    trace = ran(run(tmp_path, *cells))
    notebook = read_notebook(tmp_path / "work" / "notebook.ipynb")
    choice = choose(notebook, trace, scratch=tmp_path / "scratch")
    with pytest.raises(TrilhoError, match="cell 1 fits model, and its input is made where it is fitted"):
        plan_whole(Program(notebook, trace, choice), "shop")


def numbers(file: Path, expression: str) -> list[float]:
    """Read kept predictions by the interpreter that has numpy."""
    code = f"import numpy as np, json; x = np.load({str(file)!r}); print(json.dumps(({expression}).tolist()))"
    done = subprocess.run([notebook_python(), "-c", code], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))
