"""Files for Prometheus and Alertmanager, made for one project: what to scrape, when to alert, and a test of the rules.

The watch's own alarms keep their promise already; the rules pass them on, and add what only a scraper from outside can
see: that the watcher, or the endpoint, has stopped.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta

from trilho.config import Settings

ERROR_SHARE = 0.01
SLOW_SECONDS = 0.5  # at which the 99th percentile of answers alerts; to be edited
STALE_SECONDS = 900
WINDOWS_LATE = 7  # windows that labels may be behind


@dataclass(frozen=True)
class Rule:
    """One alert rule, and a story for promtool: series that must make it fire, and ones that must not."""

    alert: str
    expr: str
    hold: str
    severity: str
    summary: str
    fires: dict[str, str]
    calm: dict[str, str]
    at: str = "1h"
    labels: tuple[tuple[str, str], ...] = ()  # besides the rule's own, of the alert that the story expects
    value: str = "1"  # as the story's alert says it

    def expected(self, model: str) -> dict[str, str]:
        """Give the labels of the alert that the story expects."""
        return {"alertname": self.alert, "severity": self.severity, **dict(self.labels), "model": model}

    def said(self, model: str) -> str:
        """Give the summary of the alert that the story expects."""
        told = {"{{ $labels.model }}": model, "{{ $labels.metric }}": dict(self.labels).get("metric", "")}
        text = re.sub(r"\{\{ \$value[^}]*\}\}", self.value, self.summary)
        for placeholder, word in told.items():
            text = text.replace(placeholder, word)
        return text


def rules_of(settings: Settings) -> list[Rule]:
    """Give the alert rules of a project."""
    model = settings.model.name
    me = f'model="{model}"'
    own = (("model", model),)
    late = int(WINDOWS_LATE * settings.watch.window / timedelta(seconds=1))
    slow = SLOW_SECONDS
    incident = f'trilho_incidents_open{{{me},kind="%s",severity="high"}}'
    metric = f'{{{me},version="1",metric="m"}}'
    measured = (("metric", "m"), *own, ("version", "1"))
    shed, failed = f"trilho_route_unlogged_rows_total{{{me}}}", f"trilho_route_failed_total{{{me}}}"
    asked, bucket = (
        f'trilho_route_requests_total{{{me},version="1"}}',
        f'trilho_route_latency_seconds_bucket{{{me},version="1",le="%s"}}',
    )
    errors = f"sum(rate({failed}[5m])) / sum(rate(trilho_route_requests_total{{{me}}}[5m]))"
    p99 = f"histogram_quantile(0.99, sum by (le) (rate(trilho_route_latency_seconds_bucket{{{me}}}[5m])))"
    delay = f"trilho_label_delay_seconds{{{me}}}"
    passed = f"trilho_watch_last_pass_timestamp_seconds{{{me}}}"
    return [
        Rule(
            "TrilhoDrift",
            f'sum by (model) (trilho_incidents_open{{{me},kind=~"drift|prediction|quality"}}) > 0',
            "0m", "warning", "What {{ $labels.model }} is asked has moved: {{ $value }} open incidents.",
            {incident % "drift": "1x90"}, {incident % "drift": "0x90", incident % "performance": "1x90"}, labels=own,
        ),
        Rule(
            "TrilhoPerformance",
            f'sum by (model) (trilho_incidents_open{{{me},kind="performance"}}) > 0',
            "0m", "warning", "{{ $labels.model }} has become worse than it was when it was trained.",
            {incident % "performance": "1x90"}, {incident % "drift": "1x90"}, labels=own,
        ),
        Rule(
            "TrilhoMetricBelowMinimum",
            f"trilho_metric_margin{{{me}}} < 0",
            "0m", "critical", "The {{ $labels.metric }} of {{ $labels.model }} misses its minimum.",
            {f"trilho_metric_margin{metric}": "-0.02x90"}, {f"trilho_metric_margin{metric}": "0.01x90"},
            labels=measured,
        ),
        Rule(
            "TrilhoWatcherStale",
            f"time() - trilho_watch_last_pass_timestamp_seconds{{{me}}} > {STALE_SECONDS}",
            "5m", "critical", "The watcher of {{ $labels.model }} was last through {{ $value }} s ago.",
            {passed: "0x90"}, {passed: "0+60x90"}, labels=own, value="3600",
        ),
        Rule(
            "TrilhoWatcherAbsent",
            f"absent(trilho_incidents_open{{{me}}})",
            "15m", "critical", f"Nothing is heard of the watcher of {model}: is trilho up?",
            {"up": "0x90"}, {incident % "drift": "0x90"}, labels=own,
        ),
        Rule(
            "TrilhoLogShed",
            f'sum(increase({shed}[15m])) > 0',
            "0m", "critical", f"Predictions of {model} were answered and not logged: is the disk full?",
            {shed: "0+1x90"}, {shed: "5x90"},
        ),
        Rule(
            "TrilhoErrorRate",
            f"{errors} > {ERROR_SHARE}",
            "5m", "critical", f"{{{{ $value | humanizePercentage }}}} of the requests to {model} failed.",
            {failed: "0+5x90", asked: "0+100x90"}, {failed: "0x90", asked: "0+100x90"}, value="5%",
        ),
        Rule(
            "TrilhoSlow",
            f"{p99} > {slow}",
            "10m", "warning", f"1% of the answers of {model} take longer than {{{{ $value | printf \"%.3g\" }}}} s.",
            {bucket % "0.512": "0+1x90", bucket % "1.024": "0+100x90", bucket % "+Inf": "0+100x90"},
            {bucket % "0.064": "0+100x90", bucket % "+Inf": "0+100x90"}, value="1.02",
        ),
        Rule(
            "TrilhoLabelsLate",
            f"{delay} > {late}",
            "1h", "warning", "Labels of {{ $labels.model }} are {{ $value | humanizeDuration }} behind.",
            {delay: f"{late + 1}x180"}, {delay: f"{late}x180"},
            at="2h", labels=own, value=_duration(late + 1),
        ),
        Rule(
            "TrilhoAlertsGivenUp",
            f"trilho_alerts_dead{{{me}}} > 0",
            "0m", "warning", "{{ $value }} alerts of {{ $labels.model }} got through nowhere: trilho alerts --dead",
            {f"trilho_alerts_dead{{{me}}}": "1x90"}, {f"trilho_alerts_dead{{{me}}}": "0x90"}, labels=own,
        ),
    ]  # fmt: skip


def files_of(settings: Settings, console: str, endpoint: str) -> dict[str, str]:
    """Give the files by name; `console` and `endpoint` are HOST:PORT of `trilho up` and of the model's endpoint."""
    rules = rules_of(settings)
    return {
        "prometheus.yml": _scrape(settings, console, endpoint),
        "rules.yml": _rules(settings, rules),
        "rules.test.yml": _tests(settings, rules),
        "alertmanager.yml": _alertmanager(),
    }


def _scrape(settings: Settings, console: str, endpoint: str) -> str:
    name = settings.model.name
    return f"""\
global:
  scrape_interval: 15s
  evaluation_interval: 15s
rule_files: [rules.yml]
alerting:
  alertmanagers:
    - static_configs: [{{targets: ["127.0.0.1:9093"]}}]
scrape_configs:
  - job_name: trilho
    static_configs: [{{targets: [{_text(console)}]}}]
  - job_name: {_text(f"trilho-{name}")}
    static_configs: [{{targets: [{_text(endpoint)}]}}]
"""


def _rules(settings: Settings, rules: list[Rule]) -> str:
    lines = ["groups:", f"  - name: {_text(f'trilho-{settings.model.name}')}", "    rules:"]
    for rule in rules:
        labels = {"severity": rule.severity, "model": settings.model.name}
        annotations = _annotations(settings, rule.summary)
        lines += [f"      - alert: {rule.alert}", f"        expr: {_text(rule.expr)}", f"        for: {rule.hold}"]
        lines += [f"        labels: {json.dumps(labels)}", f"        annotations: {json.dumps(annotations)}"]
    return "\n".join(lines) + "\n"


def _duration(seconds: int) -> str:
    """Say a time as Prometheus' humanizeDuration does."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    first = next((i for i, (number, _) in enumerate(parts) if number), 3)
    return " ".join(f"{number}{unit}" for number, unit in parts[first:])


def _annotations(settings: Settings, summary: str) -> dict[str, str]:
    runbook = settings.watch.runbook
    return {"summary": summary, **({"runbook_url": runbook} if runbook else {})}


def _tests(settings: Settings, rules: list[Rule]) -> str:
    """Give two stories a rule: one in which it fires with the labels it should, one in which it is silent."""
    stories = []
    for rule in rules:
        for series, fires in ((rule.fires, True), (rule.calm, False)):
            told = [{"series": name, "values": values} for name, values in series.items()]
            check: dict[str, object] = {"eval_time": rule.at, "alertname": rule.alert, "exp_alerts": []}
            stories.append({"interval": "1m", "input_series": told, "alert_rule_test": [check]})
            if fires:
                model = settings.model.name
                said = _annotations(settings, rule.said(model))
                check["exp_alerts"] = [{"exp_labels": rule.expected(model), "exp_annotations": said}]
    return json.dumps({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": stories}, indent=1) + "\n"


def _alertmanager() -> str:
    return """\
route:
  receiver: team
  group_by: [model, alertname]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 12h
receivers:
  - name: team
    webhook_configs:
      - url: http://127.0.0.1:9099/alerts
        send_resolved: true
inhibit_rules:
  - source_matchers: [alertname="TrilhoWatcherAbsent"]
    target_matchers: [alertname="TrilhoWatcherStale"]
    equal: [model]
"""


def _text(text: str) -> str:
    return json.dumps(text)
