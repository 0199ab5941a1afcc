"""Generated code: what is linked, formatted, folded and left alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.adopt.emit_cases import NOTEBOOKS, PYTHON, Case, bikes, flights, part, whole

from trilho.adopt.emit.code import body_text, function_text
from trilho.adopt.emit.hints import with_hints
from trilho.adopt.emit.modules import imports_by_name, write_modules
from trilho.adopt.emit.naming import docstring, indent, renamed
from trilho.adopt.emit.polish import complaints, polish
from trilho.adopt.emit.project import write_code
from trilho.adopt.emit.typing import hint_of
from trilho.adopt.plan import Function, Lookup
from trilho.errors import TrilhoError

pytestmark = pytest.mark.skipif(not (PYTHON.exists() and NOTEBOOKS.exists()), reason="make notebooks")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def bike_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return bikes(tmp_path_factory.mktemp("bikes"))


@pytest.fixture(scope="module")
def flight_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return flights(tmp_path_factory.mktemp("flights"))


def code_of(case: Case) -> dict[str, str]:
    return write_code(case.plan, case.choice, case.trace, case.notebook)


def test_modules_import_what_they_use_and_nothing_else(bike_case: Case) -> None:
    code = code_of(bike_case)
    imports = [line for line in code["src/bike_demand/fit.py"].splitlines() if line.startswith(("import", "from"))]
    assert imports == [
        "import pandas as pd",
        "from sklearn.compose import ColumnTransformer",
        "from sklearn.ensemble import HistGradientBoostingRegressor",
        "from sklearn.impute import SimpleImputer",
        "from sklearn.pipeline import Pipeline",
        "from sklearn.preprocessing import OneHotEncoder, StandardScaler",
        "from bike_demand.features import cat, num",
    ]
    assert not any("matplotlib" in text or "numpy" in text for name, text in code.items() if "predict" not in name)


def test_the_estimators_class_is_the_hint(bike_case: Case) -> None:
    assert "def fit(X: pd.DataFrame, y: pd.Series) -> Pipeline:" in code_of(bike_case)["src/bike_demand/fit.py"]


def test_a_table_that_is_changed_is_copied_and_the_last_value_returned(bike_case: Case) -> None:
    build = code_of(bike_case)["src/bike_demand/features.py"]
    assert '    df = df.copy()\n    df["hour"] = df.ts.dt.hour\n' in build
    assert build.endswith("    return df[num + cat]\n")


def test_comments_of_the_notebook_stay_above_their_statements(bike_case: Case) -> None:
    assert "    # final fit on everything\n    model.fit(X, y)\n" in code_of(bike_case)["src/bike_demand/fit.py"]


def test_columns_that_no_feature_needs_are_not_loaded(flight_case: Case) -> None:
    load = code_of(flight_case)["src/flight_delay/load.py"]
    assert "tailnum" not in load
    assert '"event_id",' in load
    assert load.endswith("    return raw.filter(items=COLUMNS)\n")


def test_a_model_holds_its_state_and_answers_raw_rows(flight_case: Case) -> None:
    code = code_of(flight_case)
    predict = code["src/flight_delay/predict.py"]
    assert "    bst: xgb.Booster\n    state: State\n" in predict
    assert "return self.bst.predict(xgb.DMatrix(build(rows, self.state)))" in predict
    assert "class State:" in code["src/flight_delay/state.py"]
    assert "from flight_delay.predict import Model" in code["src/flight_delay/fit.py"]


def test_a_state_in_a_model_learns_no_more(flight_case: Case) -> None:
    fit = replace(flight_case.plan.fit[-1], returns="Model(bst, state)")
    plan = replace(flight_case.plan, fit=(flight_case.plan.fit[0], fit))
    assert "return Model(bst, state.done())" in write_modules(plan, flight_case.choice, flight_case.trace)["fit.py"]


def test_the_threshold_becomes_a_decision(flight_case: Case) -> None:
    assert "\nTHRESH = 0.3\n" in code_of(flight_case)["src/flight_delay/decide.py"]
    assert "    return score > THRESH\n" in code_of(flight_case)["src/flight_delay/decide.py"]


def test_a_whole_project_has_no_features(tmp_path: Path) -> None:
    code = code_of(whole(tmp_path))
    assert "src/bike_demand/features.py" not in code
    assert "return model.predict(rows)" in code["src/bike_demand/predict.py"]


def test_a_lookup_is_a_function_that_reads_once(flight_case: Case) -> None:
    lookup = Lookup("load_carriers", 0, 'pd.read_csv(PATH, sep=";", encoding=DATA_PATH)')
    plan = replace(flight_case.plan, lookups=(lookup,))
    load = write_modules(plan, flight_case.choice, flight_case.trace)["load.py"]
    assert "@cache\ndef load_carriers() -> pd.DataFrame:" in load
    assert 'return pd.read_csv(TABLES / "load_carriers.csv", sep=";", encoding=DATA_PATH)' in load


def test_the_standards_rules_find_nothing(bike_case: Case, flight_case: Case, tmp_path: Path) -> None:
    for name, text in {**code_of(bike_case), **code_of(flight_case)}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert complaints(tmp_path) == []
    done = subprocess.run([sys.executable, "-m", "compileall", "-q", str(tmp_path)], check=False)
    assert done.returncode == 0


def test_what_the_rules_forbid_and_no_safe_change_mends_is_marked() -> None:
    text = polish({"src/p/a.py": "def f(df):\n    return df[df.flag == True]\n"})["src/p/a.py"]
    assert "df[df.flag == True]  # noqa: E712" in text


def test_a_lambda_with_a_name_becomes_a_function() -> None:
    text = polish({"src/p/a.py": "hyp = lambda a, b: (a * a + b * b) ** 0.5\n"})["src/p/a.py"]
    assert text == "def hyp(a, b):\n    return (a * a + b * b) ** 0.5\n"


def test_a_name_that_nothing_binds_is_refused() -> None:
    with pytest.raises(TrilhoError, match=r"generated src/p/a.py is wrong at line 2: .*encoder"):
        polish({"src/p/a.py": "def f(x):\n    return encoder.transform(x)\n"})


def test_texts_over_several_lines_keep_their_content() -> None:
    function = Function("f", (), "q", "str", (part('q = """select a\nfrom t\n"""', 1),))
    space: dict[str, object] = {}
    exec(function_text(function), space)
    assert space["f"]() == "select a\nfrom t\n"  # type: ignore[operator]


def test_no_gap_between_single_lines_of_different_cells() -> None:
    function = Function("f", (), "c", "int", (part("a = 1", 1), part("b = 2", 2), part("c = a + b", 3)))
    assert body_text(function) == "a = 1\nb = 2\nreturn a + b"


def test_a_comment_above_the_last_value_stays() -> None:
    function = Function("f", (), "c", "int", (part("# all of it\nc = 1", 1),))
    assert body_text(function) == "# all of it\nreturn 1"


@pytest.mark.parametrize(
    ("kind", "text", "line"),
    [
        ("lightgbm.basic.Booster", "lgb.Booster", "import lightgbm as lgb"),
        ("sklearn.linear_model._logistic.LogisticRegression", "LogisticRegression",
         "from sklearn.linear_model import LogisticRegression"),
        ("sklearn.pipeline.Pipeline", "Pipeline", "from sklearn.pipeline import Pipeline"),
        ("__main__.Media", "Media", ""),
    ],
)  # fmt: skip
def test_hints_name_public_classes(kind: str, text: str, line: str) -> None:
    hint = hint_of(kind, {})
    assert (hint.text, hint.line) == (text, line)


def test_what_nothing_reads_is_left_out_and_the_rest_is_where_it_is_needed_first(bike_case: Case) -> None:
    num, cat = bike_case.plan.constants["features"]
    plan = replace(bike_case.plan, constants={"fit": (num, cat, part("RAW = 'data/'", 1))})
    modules = write_modules(plan, bike_case.choice, bike_case.trace)
    assert "RAW" not in "".join(modules.values())
    assert "num = [" in modules["features.py"]
    assert "from bike_demand.features import num" in modules["fit.py"]


def test_functions_get_hints_where_their_calls_agree() -> None:
    source = "def f(d, k=3):\n    return d"
    seen = {"f": {"d": {"pd.DataFrame"}, "k": {"int", "float"}, "return": {"pd.DataFrame"}}}
    assert with_hints(source, seen) == "def f(d: pd.DataFrame, k: float=3) -> pd.DataFrame:\n    return d"
    assert with_hints("def f(d: list) -> list:\n    return d", seen).startswith("def f(d: list)")


def test_imports_of_one_name_from_several_modules_are_kept() -> None:
    assert imports_by_name(["import scipy.stats", "import scipy.special"])["scipy"].splitlines() == [
        "import scipy.stats",
        "import scipy.special",
    ]


def test_docstrings_fit_and_say_what_first() -> None:
    assert docstring("Fit it", "From cell 1.") == '"""Fit it. From cell 1."""'
    long = docstring("Give " + "very " * 30 + "long things", "From cell 1.")
    assert all(len(line) <= 100 for line in long.splitlines())


def test_renaming_leaves_attributes_and_texts_alone() -> None:
    assert renamed("a.b = f('b', b)", {"b": "self.b"}) == "a.b = f('b', self.b)"


def test_indentation_leaves_empty_lines_empty() -> None:
    assert indent("a\n\nb") == "    a\n\n    b"
