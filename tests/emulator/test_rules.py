"""Rules: what is denied, failures that are used up, latency, and how they are written."""

from __future__ import annotations

import time

import pytest

from trilho.errors import UsageError
from trilho.testing.emulator.rules import Refusal, Rules


def refusal(rules: Rules, permission: str, method: str = "") -> Refusal | None:
    try:
        rules.enter(permission, "projects/p/locations/l", method)
    except Refusal as found:
        return found
    return None


def test_a_permission_is_denied_in_googles_words() -> None:
    found = refusal(Rules(["aiplatform.pipelineJobs.create"]), "aiplatform.pipelineJobs.create")
    assert found is not None
    assert (found.status, found.code) == ("PERMISSION_DENIED", 7)
    assert found.message == (
        "Permission 'aiplatform.pipelineJobs.create' denied on resource "
        "'//aiplatform.googleapis.com/projects/p/locations/l' (or it may not exist)."
    )
    assert found.reason == "IAM_PERMISSION_DENIED"
    assert found.metadata["permission"] == "aiplatform.pipelineJobs.create"


@pytest.mark.parametrize(
    ("rule", "denied"),
    [
        ("aiplatform.pipelineJobs.*", True),
        ("aiplatform.*.create", True),
        ("CreatePipelineJob", True),
        ("aiplatform.pipelineJobs", False),
        ("aiplatform.models.create", False),
        ("Aiplatform.*", False),
    ],
)
def test_what_a_rule_denies(rule: str, denied: bool) -> None:
    assert (refusal(Rules([rule]), "aiplatform.pipelineJobs.create", "CreatePipelineJob") is not None) == denied


def test_a_failure_is_met_as_often_as_it_says() -> None:
    rules = Rules.parse(fail=["CreatePipelineJob=UNAVAILABLE:2"])
    met = [refusal(rules, "aiplatform.pipelineJobs.create", "CreatePipelineJob") for _ in range(3)]
    assert [found.status if found else None for found in met] == ["UNAVAILABLE", "UNAVAILABLE", None]


def test_a_failure_without_a_count_is_met_always_and_only_by_its_method() -> None:
    rules = Rules.parse(fail=["storage.objects.get=INTERNAL"])
    assert [refusal(rules, "storage.objects.get") is not None for _ in range(3)] == [True] * 3
    assert refusal(rules, "storage.objects.list") is None


def test_the_most_particular_latency_counts() -> None:
    rules = Rules.parse(latency=["0.01", "Predict=0.06"])
    spans = []
    for method in ("Predict", "GetModel"):
        begun = time.monotonic()
        rules.enter("x.y.z", "", method)
        spans.append(time.monotonic() - begun)
    assert spans[0] >= 0.06
    assert spans[1] >= 0.01


@pytest.mark.parametrize(
    "text", ["CreateModel", "=UNAVAILABLE", "CreateModel=NOPE", "CreateModel=INTERNAL:", "A=INTERNAL:x"]
)
def test_a_failure_that_cannot_be_read_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="METHOD=STATUS:COUNT"):
        Rules.parse(fail=[text])


@pytest.mark.parametrize("text", ["", "fast", "-1", "nan", "inf", "=1"])
def test_a_latency_that_cannot_be_read_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="SECONDS"):
        Rules.parse(latency=[text])
