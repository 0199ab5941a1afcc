"""What is chosen of notebooks that fit, measure and keep models in the many ways that people do."""

from __future__ import annotations

import pytest
from tests.adopt.choose_cases import PYTHON, chosen, ran

from trilho.errors import Refused, UsageError

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="make notebooks")


def test_helper_functions_that_fit_and_evaluate() -> None:
    choice = chosen("helpers")
    assert (choice.task, choice.shipped_name, choice.others) == ("classification", "rf", ("lr",))
    assert choice.why == "cell 6 saves it (model.joblib)"
    assert [metric.name for metric in choice.metrics] == ["roc_auc", "accuracy"]
    assert choice.target.column == "target"
    assert not choice.target.raw
    assert len(choice.target.statements) == 1
    assert (choice.split.kind, choice.split.share, choice.split.seed) == ("random", 0.25, "1")
    assert (choice.split.train, choice.split.test) == (("X_train", "y_train"), ("X_test", "y_test"))
    assert choice.key == "customer_id"


def test_metric_is_of_the_test_rows_where_both_are_measured() -> None:
    choice, (_, trace, _) = chosen("helpers"), ran("helpers")
    predicts = {predict.id: predict for predict in trace.predicts}
    asked = predicts[choice.evaluated_predict or -1].X
    assert asked is not None
    assert asked.value.rows == 100


def test_model_that_is_refitted_after_a_loop_of_models() -> None:
    choice = chosen("loop_refit")
    assert choice.shipped_name == "best_model"
    assert choice.refitted
    assert choice.shipped_fit == 3
    assert choice.evaluated_fit == 1
    assert [metric.name for metric in choice.metrics] == ["mae", "rmse"]
    assert "shipped-not-evaluated" in [finding.rule for finding in choice.findings]


def test_another_model_can_be_asked_for() -> None:
    choice = chosen("helpers", model="lr")
    assert choice.shipped_name == "lr"
    assert choice.why == "named by --model lr"
    with pytest.raises(UsageError, match=r"--model is 'svm'; the notebook's models are lr, rf"):
        chosen("helpers", model="svm")


@pytest.mark.parametrize("option", ["target", "time"])
def test_column_that_no_table_has_is_refused(option: str) -> None:
    with pytest.raises(UsageError, match=f"--{option} is 'nothing'; the table has customer_id, signup"):
        chosen("helpers", **{option: "nothing"})


def test_cross_validation_alone_gives_its_mean() -> None:
    choice, (_, trace, _) = chosen("crossed"), ran("crossed")
    said = next(s.output for s in trace.statements if "AUC" in s.output)
    assert f"{choice.metrics[0].value:.3f}" in said
    assert choice.metrics[0].name == "roc_auc"
    assert choice.split.kind == "none"
    assert (choice.evaluated_fit, choice.evaluated_predict) == (None, None)
    assert (choice.target.positive, choice.target.negative) == ("'Yes'", "'No'")


def test_score_of_a_search_and_its_best_estimator() -> None:
    choice = chosen("search")
    assert (choice.shipped_name, choice.evaluated_name) == ("model", "gs")
    assert choice.shipped != choice.evaluated
    assert choice.shipped_fit == choice.evaluated_fit
    assert [metric.name for metric in choice.metrics] == ["accuracy"]
    assert choice.metrics[0].argument_sources == ("Xte",)
    assert choice.target.column == "Churn"


def test_lags_by_entity_and_a_cut_at_a_date() -> None:
    choice = chosen("lags")
    lags = {lag.column: (lag.method, lag.entity) for lag in choice.lags}
    assert lags == {"lag_7": ("shift", "loja"), "mm7": ("rolling", "loja")}
    assert (choice.split.kind, choice.split.cut) == ("time", "2022-12-01")
    assert choice.holdout == "last 65 days"
    assert (choice.time, choice.time_name) == ("data", "dt")
    assert (choice.target.column, choice.target.transform) == ("vendas", "np.log1p")
    assert [metric.name for metric in choice.metrics] == ["mape", "rmse", "mae"]
    assert all(metric.function == "" for metric in choice.metrics)


def test_threshold_and_rounds_that_are_chosen_on_the_test_rows() -> None:
    choice = chosen("threshold")
    assert choice.threshold is not None
    assert (choice.threshold.source, choice.threshold.operator, choice.threshold.tuned_on) == ("best_t", ">=", "test")
    assert 0.1 < choice.threshold.value < 0.9
    rules = {finding.rule for finding in choice.findings}
    assert {"early-stopping-on-test", "threshold-tuned-on-test"} <= rules
    assert [metric.name for metric in choice.metrics] == ["roc_auc", "f1"]


def test_class_of_the_notebooks_own() -> None:
    choice = chosen("wrapper")
    assert choice.shipped_name == "cm"
    assert [metric.name for metric in choice.metrics] == ["accuracy"]
    assert (choice.split.kind, choice.split.cut) == ("rows", "320")
    assert (choice.target.column, choice.target.raw, choice.target.positive) == ("Churn", False, "True")


def test_folds_by_hand_are_no_other_models() -> None:
    choice = chosen("folds")
    assert (choice.shipped_name, choice.others, choice.split.kind) == ("final", (), "none")
    assert choice.metrics[0].name == "roc_auc"
    assert choice.evaluated_fit is None


def test_formula_free_statsmodels_and_a_sampled_test() -> None:
    choice = chosen("ols")
    assert (choice.task, choice.shipped_name, choice.target.column) == ("regression", "res", "usage")
    assert (choice.split.kind, choice.split.seed) == ("random", "0")
    assert [metric.name for metric in choice.metrics] == ["mae"]


def test_dataset_of_sklearn_and_several_returned() -> None:
    choice = chosen("dataset")
    assert (choice.shipped_name, choice.target.column, choice.task) == ("clf", "target", "classification")
    assert [metric.name for metric in choice.metrics] == ["accuracy"]


def test_predictions_that_are_written_tell_the_model() -> None:
    choice = chosen("contest")
    assert choice.shipped_name == "modelo"
    assert choice.why == "its predictions are written in cell 2 (submission.csv)"
    assert choice.refitted
    assert choice.metrics[0].name == "accuracy"
    assert choice.evaluated_name == "LogisticRegression"


def test_everything_in_one_function() -> None:
    choice, (_, trace, _) = chosen("main_function"), ran("main_function")
    said = next(s.output for s in trace.statements if "test {" in s.output)
    assert f"'auc': {round(choice.metrics[0].value, 4)}" in said.splitlines()[0]
    assert choice.split.kind == "rows"
    assert choice.split.share == pytest.approx(0.3)
    assert (choice.target.column, choice.time) == ("Churn", "signup")


def test_best_of_a_dict_by_its_metric() -> None:
    choice = chosen("picked")
    assert choice.shipped_name == "final"
    assert choice.why == "cell 2 saves it (modelo.joblib)"
    assert [metric.name for metric in choice.metrics] == ["mae", "r2"]
    assert len(choice.others) == 2


def test_blend_names_both_models() -> None:
    choice = chosen("blend")
    assert choice.shipped_name == "b"
    assert len(choice.blend) == 1
    assert choice.others == ()


def test_slices_by_label_and_a_root_that_is_taken_later() -> None:
    choice = chosen("labels")
    assert (choice.split.kind, choice.split.cut, choice.time) == ("time", "2023-01-01", "data")
    assert [metric.name for metric in choice.metrics] == ["rmse"]
    assert "early-stopping-on-test" in [finding.rule for finding in choice.findings]


def test_report_gives_the_exact_accuracy() -> None:
    choice = chosen("report")
    accuracy = choice.metrics[0]
    assert accuracy.name == "accuracy"
    assert accuracy.value * 120 == pytest.approx(round(accuracy.value * 120))


def test_arrays_without_names_and_errors_in_a_variable() -> None:
    choice = chosen("array")
    assert choice.target.column == "target"
    assert choice.split.kind == "random"
    assert [metric.name for metric in choice.metrics] == ["mae", "rmse"]


def test_three_classes_are_refused_with_their_cell() -> None:
    with pytest.raises(Refused) as caught:
        chosen("classes")
    assert caught.value.fact == "classes.py: cell 1 fits m to 3 classes (A, B, C); two are served"
    assert caught.value.exit_code == 3


def test_choice_needs_no_scratch_folder() -> None:
    from trilho.adopt.slice.choose import choose

    notebook, trace, _ = ran("lags")
    choice = choose(notebook, trace)
    assert (choice.time, choice.holdout, choice.key) == ("data", "", "")
