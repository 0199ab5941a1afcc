"""Notebooks of lags: adopted row by row after past rows where that gives the notebook's answers, else in batches."""

from __future__ import annotations

import ast
import json
import random
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.notebooks.corpus import PYTHON

from trilho.adopt.adoption import Adoption, Wish, adopt_notebook
from trilho.adopt.capture import capture, find_interpreter
from trilho.adopt.emit.describing import described, documented
from trilho.adopt.emit.hints import with_hints
from trilho.adopt.emit.naming import changed_parameter
from trilho.adopt.notebook import read_notebook
from trilho.adopt.parity.certificate import Certificate, read_certificate
from trilho.adopt.parity.check import certify
from trilho.adopt.parity.harness.values import placed
from trilho.adopt.parity.page import page
from trilho.adopt.parity.request import numbers_of
from trilho.adopt.plan import Choice, Lag, Lookback, Plan
from trilho.adopt.slice.choose import choose
from trilho.adopt.slice.lookback import look_back
from trilho.adopt.slice.program import Program
from trilho.adopt.slice.shared import Unsliceable
from trilho.adopt.slice.slice import make_plan
from trilho.adopt.trace import Trace, Value

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="make notebooks")
SHOPS = """# %%
import pandas as pd
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import mean_absolute_error
# %%
vendas = pd.read_csv('lojas.csv', sep=';')
vendas.columns = [c.lower() for c in vendas.columns]
vendas['dia'] = pd.to_datetime(vendas['dia'], format='%d/%m/%Y')
vendas = vendas.sort_values(['loja', 'dia']).reset_index(drop=True)
# %%
W = 5
g = vendas.groupby('loja')['qtd']
for k in [1, 3]:
    vendas[f'lag_{k}'] = g.shift(k)
vendas['preco_dif'] = vendas.groupby('loja')['preco'].diff(2)
vendas['media'] = vendas.groupby('loja')['qtd'].transform(lambda s: s.shift(1).rolling(W).mean())
vendas = vendas.dropna()
# %%
cols = ['preco', 'lag_1', 'lag_3', 'preco_dif', 'media']
corte = pd.Timestamp('2024-02-20')
treino, teste = vendas[vendas['dia'] < corte], vendas[vendas['dia'] >= corte]
modelo = RandomForestRegressor(n_estimators=8, random_state=1)
modelo.fit(treino[cols], treino['qtd'])
print('MAE', mean_absolute_error(teste['qtd'], modelo.predict(teste[cols])))
"""
HOURS = """# %%
import pandas as pd
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error
# %%
df = pd.read_csv('carga.csv', parse_dates=['hora'])
def make_features(d):
    d = d.copy()
    d['h'] = d['hora'].dt.hour
    # carga passada
    d['lag'] = d['carga'].shift(24)
    d['total'] = d['carga'].shift(1).{how}
    return d
df = make_features(df).dropna()
# %%
cols = ['temp', 'h', 'lag', 'total']
train, test = df.iloc[:-60], df.iloc[-60:]
m = LinearRegression().fit(train[cols], train['carga'])
print(mean_absolute_error(test['carga'], m.predict(test[cols])))
"""


@pytest.fixture(scope="module", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def write_shops(folder: Path) -> Path:
    chance = random.Random(3)
    lines = ["Dia;Loja;Preco;Qtd"]
    for day in range(60):
        for shop in ("São José", "Avaré", "Itu"):
            price = chance.choice([9.9, 10.9, 11.5])
            sold = round(50 + 10 * (day % 7) - 3 * price + len(shop) + chance.gauss(0, 4))
            lines.append(f"{date(2024, 1, 1) + timedelta(days=day):%d/%m/%Y};{shop};{price};{sold}")
    body = lines[1:]
    chance.shuffle(body)
    (folder / "lojas.csv").write_text("\n".join([lines[0], *body]) + "\n", encoding="utf-8")
    (folder / "lojas.py").write_text(SHOPS, encoding="utf-8")
    return folder / "lojas.py"


def write_hours(folder: Path, how: str) -> Path:
    chance, load = random.Random(5), 100.0
    lines = ["hora,temp,carga"]
    for hour in range(300):
        temp = 20 + hour % 24 / 3 + chance.gauss(0, 1)
        load = 0.7 * load + 30 + temp + chance.gauss(0, 3)
        moment = f"{date(2024, 1, 1) + timedelta(days=hour // 24)} {hour % 24:02}:00:00"
        lines.append(f"{moment},{temp:.2f},{load:.2f}")
    (folder / "carga.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "carga.py").write_text(HOURS.replace("{how}", how), encoding="utf-8")
    return folder / "carga.py"


def adopt(notebook: Path, into: Path) -> Adoption:
    return adopt_notebook(Wish(notebook, into, python=str(PYTHON)), lambda *_lines: None)


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Adoption]:
    folder = tmp_path_factory.mktemp("lojas")
    return folder, adopt(write_shops(folder), folder / "vendas")


def settings_of(project: Path) -> str:
    return (project / "trilho.toml").read_text(encoding="utf-8")


def stages(certificate: Certificate) -> dict[str, tuple[str, int]]:
    return {stage.name: (stage.state, stage.rows) for stage in certificate.stages}


def test_a_model_per_shop_is_certified_row_by_row(shops: tuple[Path, Adoption]) -> None:
    folder, made = shops
    certificate = read_certificate(folder / "vendas")
    assert made.certified, made.verdict
    assert made.form == "model"
    assert '[history]\nentity = ["loja"]\nrows = 5' in settings_of(folder / "vendas")
    assert "batch_only" not in settings_of(folder / "vendas")
    assert certificate.past == {"entity": ["loja"], "rows": 5, "time": "dia"}
    assert not certificate.batch_only
    known = 3 * (60 - 5)  # rows that the notebook has features of
    assert stages(certificate) == {
        "load": ("equal", 180), "features": ("equal", known), "fit": ("equal", known), "evaluate": ("equal", 180),
        "pipeline": ("equal", 50), "package": ("equal", 50), "http": ("equal", known),
    }  # fmt: skip
    assert not [finding for finding in made.findings if "score in batches" in finding["fix"]]


def test_the_page_says_whose_past_is_looked_up(shops: tuple[Path, Adoption]) -> None:
    certificate = read_certificate(shops[0] / "vendas")
    assert "looks up the newest 5 rows of its loja before it" in page(certificate)
    assert "as 5 linhas mais recentes de loja antes dela" in page(certificate, "pt")
    alone = replace(certificate, past={"entity": [], "rows": 9, "time": "dia"})
    assert "the newest 9 rows of the series before it" in page(alone)


def test_the_projects_own_tests_pass(shops: tuple[Path, Adoption]) -> None:
    project = shops[0] / "vendas"
    done = subprocess.run(
        [str(PYTHON), "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=project, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    if "No module named pytest" in done.stderr:
        pytest.skip("no pytest in the notebooks' environment")
    assert done.returncode == 0, done.stdout[-2000:]


def test_too_few_past_rows_are_refused(shops: tuple[Path, Adoption], tmp_path: Path) -> None:
    folder, _ = shops
    project, scratch = folder / "vendas", tmp_path / "scratch"
    toml, written = settings_of(project), project / "trilho.toml"
    trace, choice, plan = planned(folder / "lojas.py", scratch)
    written.write_text(toml.replace("rows = 5", "rows = 3"), encoding="utf-8")
    try:
        python = project / ".venv" / "bin" / "python"
        certificate = certify(project, trace, choice, plan, scratch=scratch, python=python)
    finally:
        written.write_text(toml, encoding="utf-8")
    assert not certificate.certified
    assert stages(certificate)["pipeline"][0] == "not compared"
    assert "predicted nan" in " ".join(certificate.reasons())


def planned(notebook: Path, scratch: Path) -> tuple[Trace, Choice, Plan]:
    scratch.mkdir()
    read = read_notebook(notebook)
    trace = capture(read, find_interpreter(read, str(PYTHON)), scratch, progress=lambda _told: None)
    choice = choose(read, trace, scratch=scratch)
    return trace, choice, make_plan(read, trace, choice, name="vendas", past=True)


def test_load_names_the_columns_and_parses_the_time(shops: tuple[Path, Adoption]) -> None:
    load = (shops[0] / "vendas" / "src" / "vendas" / "load.py").read_text(encoding="utf-8")
    assert "c.lower() for c in vendas.columns" in load
    assert 'pd.to_datetime(vendas["dia"], format="%d/%m/%Y")' in load
    assert "sort_values" not in load  # the order of the rows is that of the file


def test_running_sums_stay_in_batches_and_the_certificate_says_why(tmp_path: Path) -> None:
    made = adopt(write_hours(tmp_path, "cumsum()"), tmp_path / "carga")
    certificate = read_certificate(tmp_path / "carga")
    assert made.certified, made.verdict
    assert certificate.batch_only
    assert certificate.past is None
    assert "batch_only = true" in settings_of(tmp_path / "carga")
    assert "no number of past rows is enough for cumsum" in json.dumps(certificate.fallback)


def test_a_series_without_an_entity(tmp_path: Path) -> None:
    trace, choice, plan = planned(write_hours(tmp_path, "rolling(6).mean()"), tmp_path / "scratch")
    assert plan.past == Lookback((), 24)
    assert plan.form == "model"
    assert trace.reads[choice.main_read].value.rows == 300


@pytest.mark.parametrize(
    ("source", "rows"),
    [("s.shift(7)", 7), ("s.shift(1).rolling(5).mean()", 5), ("s.rolling(4).sum()", 3), ("s.diff(3)", 3),
     ("s.pct_change()", 1), ("s.shift(W).rolling(window=2).max()", 6), ("s.rolling('7D').sum()", 0)],
)  # fmt: skip
def test_how_far_a_lag_looks_back(shop_program: Program, source: str, rows: int) -> None:
    assert look_back(with_lag(shop_program, source)).rows == rows


@pytest.mark.parametrize(
    ("source", "why"),
    [("s.shift(-1)", "rows that come later"), ("s.expanding().mean()", "enough for expanding"),
     ("s.rolling(3, center=True).mean()", "enough for rolling"), ("s.ewm(3).mean()", "enough for ewm"),
     ("s.bfill()", "enough for bfill"), ("s.rank()", "enough for rank")],
)  # fmt: skip
def test_what_no_number_of_past_rows_is_enough_for(shop_program: Program, source: str, why: str) -> None:
    with pytest.raises(Unsliceable, match=why):
        look_back(with_lag(shop_program, source))


@pytest.fixture(scope="module")
def shop_program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    folder = tmp_path_factory.mktemp("program")
    notebook = write_shops(folder)
    trace, choice, _ = planned(notebook, folder / "scratch")
    return Program(read_notebook(notebook), trace, choice)


def with_lag(program: Program, source: str) -> Program:
    lag = Lag(2, 1, 0, source, source.partition("(")[0].rpartition(".")[2])
    return Program(program.notebook, program.trace, replace(program.choice, lags=(lag,)))


def test_a_table_of_counts_is_no_metric_to_be_compared(shop_program: Program) -> None:
    trace, choice = shop_program.trace, shop_program.choice
    call = replace(trace.metrics[0], id=999, result=Value("array", "numpy.ndarray"))
    more = replace(choice, metrics=(*choice.metrics, replace(choice.metrics[0], name="confusion_matrix", call=999)))
    assert numbers_of(more, replace(trace, metrics=[*trace.metrics, call])) == list(choice.metrics)


def test_rows_that_load_left_out_keep_their_places() -> None:
    labels, named = np.array([0, 2, 5]), np.array([5, 0])
    assert list(map(int, placed(named, labels, None))) == [2, 0]  # type: ignore[arg-type]
    assert placed(np.array([1]), labels, None) is None  # left out
    assert placed(named, np.arange(3), named) is named  # nothing left out


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [("make_features", ["d"], "Make features"), ("limpa", ["texto"], "Limpa `texto`"), ("rmse", [], "Compute the RMSE"),
     ("addLags", ["d"], "Add lags"), ("has_promo", ["row"], "Say whether it has promo"),
     ("_", [], "Give what `_` gives"),
     ("encode", ["state"], "Encode what is needed")],
)  # fmt: skip
def test_what_a_function_does_is_told_by_its_name(name: str, given: list[str], said: str) -> None:
    assert described(name, given) == said


@pytest.mark.parametrize(
    ("source", "doc"),
    [("# x = y + 1\ndef make_it(d):\n    return d", "Make it. From cell 4."),
     ("# ------\ndef make_it(d): return d", "Make it. From cell 4."),
     ("# faixas de idade\ndef f(d,\n      k=2):  # two\n    return d", "Faixas de idade. From cell 4."),
     ('def f(d):\n    """Keep me."""\n    return d', "Keep me."),
     ("class Gap:\n    def fit(self, X):\n        return self", "The notebook's gap. From cell 4.")],
)  # fmt: skip
def test_every_function_is_documented_once(source: str, doc: str) -> None:
    found = ast.parse(documented(source, 4))
    assert ast.get_docstring(found.body[-1]) == doc  # type: ignore[arg-type]
    assert ast.unparse(strip(found)) == ast.unparse(strip(ast.parse(source)))
    assert "x = y + 1" in documented(source, 4) or "x = y" not in source


def strip(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree


def test_every_function_is_annotated_with_what_was_seen() -> None:
    seen: dict[str, Any] = {"f": {"d": {"pd.DataFrame"}, "return": {"int", "float"}, "x": {""}}}
    head = "def f(d: pd.DataFrame, x: Any, k: Any=None) -> float:"
    assert with_hints("def f(d, x, k=None):\n    return d.x.sum()", seen).splitlines()[0] == head
    assert with_hints("def g(\n    a,\n):  # nothing\n    print(a)", {}) == (
        "def g(\n    a: Any,\n) -> None:  # nothing\n    print(a)"
    )


def test_a_table_is_copied_where_a_function_that_is_called_changes_it() -> None:
    assert changed_parameter("df", "df = fe(df)\nreturn df", {"fe"}) is True
    assert changed_parameter("df", "df = fe(df)\nreturn df") is False
