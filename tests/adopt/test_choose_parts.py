"""The parts of choosing, on code alone and on traces that are written by hand."""

from __future__ import annotations

import ast
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from trilho.adopt.notebook import Notebook, read_notebook
from trilho.adopt.plan import Split
from trilho.adopt.slice.choose import choose
from trilho.adopt.slice.history import History, Place, names_in
from trilho.adopt.slice.holdout import moving
from trilho.adopt.slice.origin import constant, path, reach
from trilho.adopt.slice.scores import better, formula, metric_name, number, scorer_name
from trilho.adopt.slice.tables import column_values, is_key, times_of
from trilho.adopt.slice.target import classes_of, positive_of
from trilho.adopt.trace import SCHEMA, Argument, Call, Fit, Read, StatementTrace, Trace, Value
from trilho.errors import DataError, Refused

NOTHING = Value("none", "NoneType")


def notebook_of(folder: Path, code: str) -> Notebook:
    file = folder / "notebook.py"
    file.write_text(code, encoding="utf-8")
    return read_notebook(file)


def trace_of(notebook: Notebook) -> Trace:
    statements = [StatementTrace(s.id, 0.0, "ran") for s in notebook.statements]
    return Trace(SCHEMA, notebook.digest, "python", "3.11", {}, {}, "landlock", 0.0, statements, [], [], [], [], [], [],
                 [], [], [], [])  # fmt: skip


def history_of(folder: Path, code: str) -> History:
    notebook = notebook_of(folder, code)
    return History(notebook, trace_of(notebook))


def fit_of(function: str, y: Argument | None = None, cell: int = 1) -> Fit:
    table = Argument("df", Value("frame", "DataFrame", rows=9, columns=["a"]))
    return Fit(0, 1, cell, (1, 0, 1, 1), 0, "fit", function, table, y, [], 1)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("np.mean(np.abs(y - p))", "mae"),
        ("abs(p - y).mean()", "mae"),
        ("(y - p).abs().mean()", "mae"),
        ("np.sqrt(np.mean((y - p) ** 2))", "rmse"),
        ("((y - p) ** 2).mean() ** 0.5", "rmse"),
        ("np.mean(np.square(y - p))", "mse"),
        ("np.mean(np.abs((y - p) / y))", "mape"),
        ("(np.abs(y - p) / y).mean()", "mape"),
        ("(p == y).mean()", "accuracy"),
        ("(p == y).sum() / len(y)", "accuracy"),
        ("np.mean(p == y)", "accuracy"),
    ],
)
def test_metrics_that_are_written_out(code: str, name: str) -> None:
    found = formula(ast.parse(code, mode="eval").body)
    assert found is not None
    assert found[0] == name
    assert names_in(found[1]) | names_in(found[2]) == {"y", "p"}


@pytest.mark.parametrize("code", ["df.a.mean()", "np.mean(x)", "x ** 2", "np.sqrt(x)", "(y - p).sum()", "y == p"])
def test_what_is_no_metric(code: str) -> None:
    assert formula(ast.parse(code, mode="eval").body) is None


def test_names_of_metrics() -> None:
    assert metric_name("sklearn.metrics._regression.mean_squared_error", {"squared": "False"}) == "rmse"
    assert metric_name("__main__.lift_score") == "lift"
    assert scorer_name("neg_root_mean_squared_error") == ("rmse", -1)
    assert better("mae", 1.0, 2.0)
    assert better("roc_auc", 0.9, 0.8)
    assert number("np.float64(1.5e-3)") == 0.0015
    assert number("'text'") is None


def test_value_is_followed_through_functions_and_unpacking(tmp_path: Path) -> None:
    code = """
import pandas as pd
def halves(d):
    return d[:5], d[5:]
def features(d):
    x = d[["a"]]
    return x, d["b"]
df = pd.read_csv("t.csv")
one, two = halves(df)
X, y = features(two)
"""
    history = history_of(tmp_path, code)
    last = history.notebook.statements[-1]
    place = Place(last.id + 1, last.cell)
    told = [ast.unparse(source.node) for source in path(history, ast.parse("y", mode="eval").body, place)]
    assert [text for text in told if not text.startswith("(")][:3] == ["y", "features(two)", "d['b']"]
    assert "d[5:]" in told
    assert "pd.read_csv('t.csv')" in told
    assert "d[:5]" not in [ast.unparse(s.node) for s in reach(history, ast.parse("X", mode="eval").body, place)]


def test_constants_go_through_names(tmp_path: Path) -> None:
    history = history_of(tmp_path, 'CUT = "2024-01-01"\nlimit = CUT\nuse(limit)\n')
    assert constant(history, ast.parse("limit", mode="eval").body, Place(2, 0)) == "2024-01-01"


def test_holdout_of_a_share_is_the_time_of_the_newest_rows(tmp_path: Path) -> None:
    history = history_of(tmp_path, "x = 1\n")
    times = [datetime(2024, 1, 1) + timedelta(days=day) for day in range(100)]
    assert moving(Split("random", share=0.2), None, times, history) == "last 19 days"
    assert moving(Split("random", share=0.2), None, [], history) == ""
    hours = [datetime(2024, 1, 1) + timedelta(hours=hour) for hour in range(48)]
    assert moving(Split("random", share=0.25), None, hours, history) == "last 11 hours"


def test_classes_and_the_one_that_counts() -> None:
    assert classes_of(["np.int64(0)", "np.int64(1)"]) == [0, 1]
    assert positive_of([False, True]) == ("True", "False")
    assert positive_of([-1, 1]) == ("1", "-1")
    assert positive_of(["bad", "good"], "bad") == ("'bad'", "'good'")
    assert positive_of([0, 1]) == ("", "")


def test_columns_of_frozen_reads(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id;día\n1;31/01/2024\n2;01/02/2024\n", encoding="latin-1")
    value = Value("frame", "DataFrame", rows=2, columns=["id", "día"])
    told = {"sep": "';'", "encoding": "'latin-1'"}
    read = Read(0, 0, 0, (1, 0, 1, 1), "csv", "pandas.read_csv", "t.csv", told, "", 1, "t.csv", value)
    assert column_values(tmp_path, read, "id") == ["1", "2"]
    assert is_key(column_values(tmp_path, read, "id"))
    assert times_of(column_values(tmp_path, read, "día")) == [datetime(2024, 1, 31), datetime(2024, 2, 1)]
    assert column_values(tmp_path, read, "nothing") == []
    assert column_values(tmp_path, replace(read, file="gone.csv"), "id") == []


def test_times_with_the_day_first() -> None:
    assert times_of(["01/02/2024"], day_first=True) == [datetime(2024, 2, 1)]
    assert times_of(["01/02/2024"]) == [datetime(2024, 1, 2)]
    assert times_of(["soon"]) == []


def refused(folder: Path, fits: list[Fit], code: str = "import pandas as pd\nx = 1\n") -> tuple[str, int]:
    notebook = notebook_of(folder, code)
    with pytest.raises((Refused, DataError)) as caught:
        choose(notebook, replace(trace_of(notebook), fits=fits))
    assert caught.value.hint
    assert "\n" not in caught.value.fact
    return caught.value.fact, caught.value.exit_code


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("sklearn.cluster._kmeans.KMeans.fit", "cell 1 fits KMeans: clusters have no target"),
        ("sklearn.ensemble._iforest.IsolationForest.fit", "which is unsupervised"),
        ("prophet.forecaster.Prophet.fit", "cell 1 fits Prophet, which forecasts a series as a whole"),
        ("statsmodels.tsa.arima.model.ARIMA.fit", "cell 1 fits ARIMA, which forecasts a series as a whole"),
        ("keras.src.models.sequential.Sequential.fit", "cell 1 trains Sequential with Keras"),
    ],
)
def test_kinds_of_models_that_no_project_holds(tmp_path: Path, function: str, said: str) -> None:
    fact, code = refused(tmp_path, [fit_of(function)])
    assert said in fact
    assert code == 3


def test_networks_are_known_by_their_import(tmp_path: Path) -> None:
    fact, code = refused(tmp_path, [], "import pandas as pd\nimport torch.nn as nn\nx = 1\n")
    assert fact == "notebook.py: cell 0 imports PyTorch, and nothing else fits a model; deep learning is not adopted"
    assert code == 3


def test_nothing_is_trained(tmp_path: Path) -> None:
    assert refused(tmp_path, []) == ("notebook.py trains nothing: no cell up to 0 fits a model", 1)
    scaler = fit_of("sklearn.preprocessing._data.StandardScaler.fit")
    assert refused(tmp_path, [scaler])[0].endswith("cell 1 fits StandardScaler, which predicts no target")


def test_rules_are_kindly_sent_away(tmp_path: Path) -> None:
    notebook = notebook_of(tmp_path, "x = 1\n")
    call = Call(0, 0, 0, (1, 0, 1, 1), "sklearn.metrics._classification.accuracy_score", [], NOTHING, 1)
    with pytest.raises(DataError, match="cell 0 measures rules that are written by hand") as caught:
        choose(notebook, replace(trace_of(notebook), metrics=[call]))
    assert "need no trilho" in (caught.value.hint or "")


def test_notebook_that_fails(tmp_path: Path) -> None:
    notebook = notebook_of(tmp_path, "x = 1\ny = z\n")
    trace = trace_of(notebook)
    trace.statements[1] = StatementTrace(1, 0.0, "failed", error="NameError: name 'z' is not defined", error_line=2)
    with pytest.raises(DataError, match=r"fails in cell 0, line 2: NameError: name 'z' is not defined"):
        choose(notebook, trace)
