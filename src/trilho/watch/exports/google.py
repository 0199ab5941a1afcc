"""A Cloud Monitoring dashboard and alert policies for a model on Vertex AI, as Terraform files in its JSON syntax.

The endpoint's own metrics say how it answers; what its containers write to Cloud Logging is counted by metrics made
here: failed requests with the project's own labels, and predictions that were answered and not logged.
"""

from __future__ import annotations

import json
from typing import Any

from trilho.config import Settings
from trilho.watch.exports.prometheus import ERROR_SHARE, SLOW_SECONDS

ONLINE = "aiplatform.googleapis.com/prediction/online"
ENDPOINT = 'resource.type="aiplatform.googleapis.com/Endpoint" AND resource.labels.endpoint_id="${var.endpoint}"'
MINUTES = "300s"
SHED = "trilho_log_shed"


def files_of(settings: Settings) -> dict[str, str]:
    """Give the files by name."""
    name = settings.model.name
    return {
        "variables.tf.json": _json(_variables()),
        "dashboard.tf.json": _json(_resource("google_monitoring_dashboard", "trilho", _dashboard(name))),
        "logs.tf.json": _json(_resource("google_logging_metric", "shed", _shed(name))),
        "alerts.tf.json": _json({"resource": {"google_monitoring_alert_policy": _policies(settings)}}),
    }


def _variables() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "terraform": {"required_providers": {"google": {"source": "hashicorp/google", "version": ">= 5.0"}}},
        "variable": {
            "project": {**text, "description": "The Google Cloud project."},
            "endpoint": {**text, "description": "The number of the Vertex AI endpoint."},
            "channels": {
                "type": "list(string)", "default": [],
                "description": "Notification channels: projects/PROJECT/notificationChannels/NUMBER.",
            },
        },
    }  # fmt: skip


def _filter(metric: str, more: str = "") -> str:
    return f'metric.type="{metric}" AND {ENDPOINT}{more}'


def _dashboard(name: str) -> dict[str, Any]:
    tiles = [
        ("Predictions a second", f"{ONLINE}/prediction_count", "ALIGN_RATE", "REDUCE_SUM"),
        ("Errors a second", f"{ONLINE}/error_count", "ALIGN_RATE", "REDUCE_SUM"),
        ("Latency, 99th percentile", f"{ONLINE}/prediction_latencies", "ALIGN_PERCENTILE_99", "REDUCE_MAX"),
        ("CPU", f"{ONLINE}/cpu/utilization", "ALIGN_MEAN", "REDUCE_MEAN"),
        ("Memory", f"{ONLINE}/memory/bytes_used", "ALIGN_MEAN", "REDUCE_MEAN"),
        ("Replicas", f"{ONLINE}/replicas", "ALIGN_MEAN", "REDUCE_SUM"),
    ]
    shown = [
        {"xPos": 24 * (i % 2), "yPos": 16 * (i // 2), "width": 24, "height": 16, "widget": _chart(*tile)}
        for i, tile in enumerate(tiles)
    ]
    told = {"displayName": f"trilho: {name}", "mosaicLayout": {"columns": 48, "tiles": shown}}
    return {"project": "${var.project}", "dashboard_json": json.dumps(told)}


def _chart(title: str, metric: str, aligner: str, reducer: str) -> dict[str, Any]:
    aggregation = {"alignmentPeriod": "60s", "perSeriesAligner": aligner, "crossSeriesReducer": reducer}
    series = {"timeSeriesFilter": {"filter": _filter(metric), "aggregation": aggregation}}
    return {"title": title, "xyChart": {"dataSets": [{"timeSeriesQuery": series, "plotType": "LINE"}]}}


def _shed(name: str) -> dict[str, Any]:
    said = '(jsonPayload.message:"answered and not logged" OR textPayload:"answered and not logged")'
    return {
        "project": "${var.project}", "name": f"{SHED}_{name.replace('-', '_')}",
        "description": f"Notes of servers of {name} that predictions were answered and not logged.",
        "filter": f"{ENDPOINT} AND {said}",
        "metric_descriptor": {"metric_kind": "DELTA", "value_type": "INT64"},
    }  # fmt: skip


def _policies(settings: Settings) -> dict[str, Any]:
    name = settings.model.name
    failing = {
        "filter": _filter(f"{ONLINE}/error_count"), "aggregations": _aligned("ALIGN_RATE", "REDUCE_SUM"),
        "denominator_filter": _filter(f"{ONLINE}/prediction_count"),
        "denominator_aggregations": _aligned("ALIGN_RATE", "REDUCE_SUM"), "threshold_value": ERROR_SHARE,
    }  # fmt: skip
    slow = {
        "filter": _filter(f"{ONLINE}/prediction_latencies"), "threshold_value": SLOW_SECONDS * 1000,
        "aggregations": _aligned("ALIGN_PERCENTILE_99", "REDUCE_MAX"),
    }  # fmt: skip
    shed = {
        "filter": _filter("logging.googleapis.com/user/${google_logging_metric.shed.name}"), "threshold_value": 0,
        "aggregations": _aligned("ALIGN_DELTA", "REDUCE_SUM"), "duration": "0s",
    }  # fmt: skip
    return {
        "errors": _policy(settings, f"{name}: predictions fail", failing),
        "slow": _policy(settings, f"{name}: answers are slow", slow),
        "shed": _policy(settings, f"{name}: predictions are not logged", shed),
    }


def _aligned(aligner: str, reducer: str) -> dict[str, str]:
    return {"alignment_period": MINUTES, "per_series_aligner": aligner, "cross_series_reducer": reducer}


def _policy(settings: Settings, title: str, threshold: dict[str, Any]) -> dict[str, Any]:
    told = settings.watch.runbook or "Made by trilho monitoring google."
    condition = {"duration": MINUTES, "comparison": "COMPARISON_GT", **threshold}
    return {
        "project": "${var.project}", "display_name": f"trilho: {title}", "combiner": "OR",
        "notification_channels": "${var.channels}", "documentation": {"content": told, "mime_type": "text/markdown"},
        "conditions": [{"display_name": title, "condition_threshold": condition}],
    }  # fmt: skip


def _resource(kind: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"resource": {kind: {name: body}}}


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=2) + "\n"
