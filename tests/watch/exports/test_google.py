"""The files for Cloud Monitoring: what they name exists, and nothing is left to fill in by hand but variables."""

from __future__ import annotations

import json
import re

import pytest
from tests.console.memory import settings

from trilho.watch.exports.google import files_of

KNOWN = {"prediction_count", "error_count", "prediction_latencies", "cpu/utilization", "memory/bytes_used", "replicas"}


@pytest.fixture
def files() -> dict[str, str]:
    return files_of(settings("bike-demand", "regression"))


def test_only_metrics_that_vertex_endpoints_have_are_read(files: dict[str, str]) -> None:
    named = set(re.findall(r"prediction/online/([a-z_/]+)", "".join(files.values())))
    assert named == KNOWN


def test_the_dashboard_has_a_chart_of_each_in_a_grid_without_overlaps(files: dict[str, str]) -> None:
    body = json.loads(files["dashboard.tf.json"])["resource"]["google_monitoring_dashboard"]["trilho"]
    layout = json.loads(body["dashboard_json"])["mosaicLayout"]
    places = [(tile["xPos"], tile["yPos"]) for tile in layout["tiles"]]
    assert len(places) == len(set(places)) == len(KNOWN)
    assert all(tile["xPos"] + tile["width"] <= layout["columns"] for tile in layout["tiles"])


def test_each_policy_tells_the_channels_and_reads_one_endpoint(files: dict[str, str]) -> None:
    policies = json.loads(files["alerts.tf.json"])["resource"]["google_monitoring_alert_policy"]
    assert set(policies) == {"errors", "slow", "shed"}
    for policy in policies.values():
        assert policy["notification_channels"] == "${var.channels}"
        [condition] = policy["conditions"]
        assert 'endpoint_id="${var.endpoint}"' in condition["condition_threshold"]["filter"]
    assert "google_logging_metric.shed.name" in files["alerts.tf.json"]
    assert policies["slow"]["conditions"][0]["condition_threshold"]["threshold_value"] == 500.0
