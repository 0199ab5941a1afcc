"""What a metric's name means, in one place."""

from __future__ import annotations

from typing import get_args

import pytest

from trilho.config import Gate
from trilho.core.metrics import BY_TASK, HIGHER_IS_BETTER, resolve
from trilho.train.evaluate import METRICS


@pytest.mark.parametrize(("task", "metric"), [("regression", "mae"), ("classification", "roc_auc")])
def test_auto_is_the_tasks_own_metric(task: str, metric: str) -> None:
    assert resolve("auto", task) == metric
    assert resolve("rmse", task) == "rmse"


def test_every_metric_that_settings_allow_can_be_measured() -> None:
    measured = {name for metrics in METRICS.values() for name in metrics}
    assert measured == set(get_args(Gate.model_fields["metric"].annotation)) - {"auto"}
    assert measured > HIGHER_IS_BETTER
    assert all(metric in METRICS[task] for task, metric in BY_TASK.items())
