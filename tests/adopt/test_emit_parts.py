"""Small parts: personal data, contracts, holdouts, locks and the story."""

from __future__ import annotations

import re
from typing import Any

import pytest

from trilho.adopt.emit.contract import contract_text, is_personal_name, personal_columns
from trilho.adopt.emit.golden import HARNESS
from trilho.adopt.emit.harness.columns import PERSONAL
from trilho.adopt.emit.lock import live_modules, lock_text
from trilho.adopt.emit.settings import holdout, settings_text
from trilho.adopt.plan import Choice, Function, Lag, Metric, Plan, Split, Target

CHOICE = Choice(
    task="regression", shipped=1, shipped_name="m", shipped_fit=1, why="", evaluated=1, evaluated_name="m",
    evaluated_fit=1, evaluated_predict=1, refitted=False, metrics=(), target=Target("valor (R$)", raw=True), time="",
    key="", split=Split("random", share=0.25), main_read=0,
)  # fmt: skip
PLAN = Plan("features", "p", "df", Function("load", (), "df", "", ()), (), {}, {}, (), None, (), ())


def column(name: str, kind: str, **facts: Any) -> dict[str, Any]:
    plain = {"dtype": "", "nulls": 0, "personal": "", "unique": False, "values": None, "min": None, "max": None}
    return {"name": name, "kind": kind, "distinct": 5, **plain, **facts}


@pytest.mark.parametrize(
    "name", ["cpf", "CPF_cliente", "email", "E-mail", "telefone", "nome", "customer_name", "cnpj", "fullName"]
)
def test_personal_names(name: str) -> None:
    assert is_personal_name(name)


@pytest.mark.parametrize("name", ["nome_loja", "phone_count", "temp", "email_tipo", "nominal", "address_id", "ts"])
def test_names_of_other_things(name: str) -> None:
    assert not is_personal_name(name)


def test_personal_columns_are_told_by_name_or_content() -> None:
    columns = [column("documento", "string", personal="cpf"), column("nome", "string"), column("nome_loja", "string"),
               column("cpf", "integer"), column("phone", "number")]  # fmt: skip
    assert personal_columns(columns) == ["documento", "nome", "cpf"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [("529.982.247-25", "cpf"), ("ana@exemplo.com.br", "e-mail"), ("(11) 98765-4321", "phone"), ("JFK", ""),
     ("12.345.678/0001-95", "cnpj"), ("2024-01-05", "")],
)  # fmt: skip
def test_personal_values_are_recognised(value: str, kind: str) -> None:
    found = [name for name, pattern in PERSONAL.items() if pattern.fullmatch(value)]
    assert found[:1] == ([kind] if kind else [])


def test_a_contract_quotes_names_and_leaves_room() -> None:
    facts = {"rows": 500, "columns": [column("valor (R$)", "number", min=-10.0, max=99.0, nulls=3),
                                      column("dia", "timestamp"), column("x", "other")]}  # fmt: skip
    text = contract_text(facts, CHOICE)
    assert text.startswith("# What the data must satisfy")
    assert '[columns."valor (R$)"]\ntype = "number"\nnullable = false\nmin = -120\nmax = 210\n' in text
    assert "[columns.x]" not in text
    assert "min_rows = 250" in text


def test_a_holdout_is_as_long_as_the_notebooks_share() -> None:
    time = {"min": "2024-01-01T00:00:00", "max": "2024-04-10T00:00:00"}
    assert holdout(CHOICE, time) == "last 25 days"
    assert holdout(CHOICE, {"min": "2024-01-01T00:00:00", "max": "2024-01-02T00:00:00"}) == "last 6 hours"


def test_batch_only_personal_and_unknown_metrics_in_settings() -> None:
    from dataclasses import replace

    lag = Lag(4, 2, 9, "df.groupby('loja').vendas.shift(7)", "shift")
    choice = replace(CHOICE, lags=(lag,), metrics=(Metric("mape", "", 0.1, 1, 5, 1),))
    facts = {"rows": 10, "columns": [column("valor (R$)", "number"), column("cpf", "string")]}
    text = settings_text("m", PLAN, choice, "data/a.csv", facts, ["cpf"])
    assert "batch_only = true  # shift looks at past rows, in cell 4" in text
    assert 'personal = ["cpf"]' in text
    assert 'target = "valor (R$)"' in text
    assert "[gate]" not in text
    assert "time =" not in text


def test_live_modules_are_those_of_the_sources() -> None:
    files = {"src/p/a.py": "import numpy as np\nfrom sklearn.svm import SVC\nfrom p.b import c\nimport os",
             "tests/test_a.py": "import pytest"}  # fmt: skip
    assert live_modules(files, "p") == {"numpy", "sklearn"}


def test_a_lock_says_what_no_version_is_known_of() -> None:
    text = lock_text(["pandas", "pyarrow"], {"pandas": "2.2.3"})
    assert "pandas==2.2.3\n" in text
    assert "pyarrow  # not in the notebook's environment\n" in text
    assert "orjson==" in text


def test_the_harness_stands_alone() -> None:
    for path in HARNESS.glob("*.py"):
        assert not re.search(r"^\s*(from|import) trilho", path.read_text(), re.MULTILINE)
