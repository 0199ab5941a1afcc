"""What is chosen where it is easily mistaken: baselines, ensembles, sweeps, folds, rows that are made of others."""

from __future__ import annotations

import re

import pytest
from tests.adopt.choose_cases import PYTHON, chosen, ran

from trilho.adopt.plan import Choice

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="make notebooks")


def number(case: str, name: str) -> float:
    """Give what a variable of a case's notebook held at the end."""
    _, trace, _ = ran(case)
    literal = [s.values[name].literal for s in trace.statements if name in s.values][-1]
    found = re.search(r"\d+\.\d+(e-\d+)?", literal or "")
    assert found is not None
    return float(found[0])


def metrics(choice: Choice) -> dict[str, float]:
    return {metric.name: metric.value for metric in choice.metrics}


def test_formula_is_fitted_to_a_table_and_its_left_side() -> None:
    choice, (_, trace, _) = chosen("formula"), ran("formula")
    fit = next(fit for fit in trace.fits if fit.id == choice.shipped_fit)
    assert fit.X is not None
    assert fit.y is not None
    assert (fit.X.source, fit.y.source, fit.y.value.kind) == ("dev", "dev['left']", "series")
    assert (choice.shipped_name, choice.others, choice.target.column) == ("full", ("small",), "left")
    assert (choice.split.kind, choice.split.seed) == ("random", "7")
    assert choice.split.train == ("dev",)
    assert metrics(choice) == {"roc_auc": pytest.approx(number("formula", "c"))}


def test_average_of_two_models_that_is_written_ships_both() -> None:
    choice = chosen("ensemble")
    assert choice.shipped_name == "rf"
    assert len(choice.blend) == 1
    assert choice.others == ()
    assert choice.why == "the score of lr and rf is written in cell 3 (alerts.csv)"
    assert (choice.split.kind, choice.split.train, choice.split.test) == ("rows", ("train",), ("test",))


def test_sweep_keeps_the_value_that_was_chosen() -> None:
    choice = chosen("ensemble")
    assert choice.metrics[0].name == "average_precision"
    assert metrics(choice)["precision"] == pytest.approx(number("ensemble", "best"))
    assert choice.threshold is not None
    told = next(metric for metric in choice.metrics if metric.name == "precision")
    assert told.threshold == choice.threshold.value == pytest.approx(number("ensemble", "limit"))


def test_other_kind_of_model_between_measurements_is_no_refit() -> None:
    choice = chosen("baselines")
    assert (choice.shipped_name, set(choice.others)) == ("ridge", {"ols"})
    assert [metric.name for metric in choice.metrics] == ["r2", "rmse"]
    assert (choice.split.kind, choice.split.cut) == ("rows", "300")


def test_errors_by_functions_of_the_notebooks_own() -> None:
    choice = chosen("errors")
    found = metrics(choice)
    assert found["rmsle"] == pytest.approx(number("errors", "score"))
    assert found["rmse"] == pytest.approx(number("errors", "found"))
    assert found["mape"] == pytest.approx(number("errors", "mape"))
    assert next(iter(found)) == "rmsle"


def test_lags_through_a_pipe_and_a_loop_over_columns() -> None:
    lags = {lag.column: (lag.method, lag.entity) for lag in chosen("errors").lags}
    assert lags == {
        "lag_1": ("shift", "loja"),
        "lag_2": ("shift", "loja"),
        "preco_mm": ("rolling", "loja"),
        "vendas_mm": ("rolling", "loja"),
    }


def test_rows_that_are_groups_are_none_that_can_be_served() -> None:
    choice = chosen("customers")
    assert choice.regrouped is not None
    assert (choice.regrouped.variable, choice.regrouped.cell) == ("semanas", 0)
    assert re.match(r"its \d+ rows are groups by loja, semana of the 800 that were read", choice.regrouped.reason)
    assert chosen("helpers").regrouped is None


def test_test_rows_of_a_table_of_their_own() -> None:
    choice, (_, trace, _) = chosen("two_tables"), ran("two_tables")
    assert (choice.split.kind, choice.split.statements, choice.split.cut) == ("rows", (), "")
    assert (choice.shipped_name, choice.evaluated_name, choice.others) == ("rf", "rf", ())
    assert [metric.name for metric in choice.metrics] == ["accuracy", "roc_auc"]
    asked = next(predict for predict in trace.predicts if predict.id == choice.evaluated_predict)
    assert asked.method == "predict_proba"


def test_mean_of_the_folds_comes_before_all_folds_together() -> None:
    choice = chosen("oof")
    assert choice.shipped_name == "final"
    assert metrics(choice) == {"roc_auc": pytest.approx(number("oof", "auc_cv"))}
