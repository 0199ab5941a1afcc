"""What Prometheus reads: the exposition, the rules with their stories, and a real scrape that ends in an alert."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.console.memory import NOW, MemorySource, settings

from trilho.config import Settings
from trilho.core import records as r
from trilho.core.readings import FeatureReading, LabelStatus, Reading
from trilho.watch.exports.metrics import MOST_FEATURES, Watching, expose
from trilho.watch.exports.openmetrics import CONTENT_TYPE
from trilho.watch.exports.prometheus import files_of, rules_of
from trilho_runtime.routing import edge


class Watched(MemorySource):
    """A source that knows how its watcher fares."""

    def watching(self, model: str) -> Watching:
        return Watching(waiting=2, dead=1, passed=NOW.timestamp() - 30)


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is not installed")


def reading(**more: Any) -> Reading:
    end = NOW - timedelta(hours=1)
    start = end - timedelta(days=1)
    features = [
        FeatureReading(feature='temp "c"', distance=0.09, tolerance=0.03, share=0.9),
        FeatureReading(feature="hour", distance=0.01, tolerance=0.02, share=0.1),
        FeatureReading(feature="exact", distance=0.01, tolerance=0.0, share=0.0),
    ]
    given: dict[str, Any] = {
        "model": "bike", "version": 3, "window_start": start.isoformat(), "window_end": end.isoformat(), "rows": 240,
        "evidence": 7.5, "threshold": 12.0, "metric": "mae", "features": features,
    }  # fmt: skip
    return Reading(**{**given, **more})


@pytest.fixture
def source() -> Watched:
    source = Watched()
    known = settings("bike", "regression")
    watch = known.watch.model_copy(update={"minimum": 40.0})
    source.known["bike"] = known.model_copy(update={"watch": watch})
    measured = reading(value=50.0, low=45.0, high=55.0, expected=38.0, evidence=1.0)
    source.measured["bike"] = [measured, reading()]
    until = (NOW - timedelta(hours=4)).isoformat()
    source.progress["bike"] = LabelStatus(served=200, labelled=184, unknown=0, repeated=0, until=until)
    alarm = r.AlarmRaised(
        model="bike", alarm="a1", kind="drift", version=3, window_start="2026-03-03", window_end="2026-03-04",
        evidence=13.0, threshold=12.0, causes=[], summary="moved",
    )  # fmt: skip
    opened = r.IncidentOpened(
        model="bike", incident="i1", kind="drift", alarm="a1", version=3, severity="high", title="moved"
    )
    source.write(NOW, alarm, opened)
    return source


def samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_every_metric_says_what_the_newest_readings_say(source: Watched) -> None:
    found = samples(expose(source, NOW))
    of, metric = 'model="bike",version="3"', 'model="bike",version="3",metric="mae"'
    expected = {
        f"trilho_drift_evidence{{{of}}}": 7.5,
        f"trilho_drift_threshold{{{of}}}": 12.0,
        f'trilho_feature_distance_ratio{{{of},feature="temp \\"c\\""}}': 3.0,
        f'trilho_feature_distance_ratio{{{of},feature="hour"}}': 0.5,
        f"trilho_metric_value{{{metric}}}": 50.0,
        f"trilho_metric_low{{{metric}}}": 45.0,
        f"trilho_metric_high{{{metric}}}": 55.0,
        f"trilho_metric_expected{{{metric}}}": 38.0,
        f"trilho_metric_minimum{{{metric}}}": 40.0,
        f"trilho_metric_margin{{{metric}}}": -5.0,  # of an error the lower end is the better one
        'trilho_labelled_ratio{model="bike"}': 0.92,
        'trilho_label_delay_seconds{model="bike"}': 3 * 3600.0,
        'trilho_reading_age_seconds{model="bike"}': 3600.0,
        f"trilho_reading_rows{{{of}}}": 240.0,
        'trilho_incidents_open{model="bike",kind="drift",severity="high"}': 1.0,
        'trilho_incidents_open{model="bike",kind="drift",severity="low"}': 0.0,
        'trilho_alarms_total{model="bike",kind="drift"}': 1.0,
        'trilho_alarms_total{model="bike",kind="performance"}': 0.0,
        'trilho_alerts_waiting{model="bike"}': 2.0,
        'trilho_alerts_dead{model="bike"}': 1.0,
        'trilho_watch_last_pass_timestamp_seconds{model="bike"}': NOW.timestamp() - 30,
    }
    assert {name: found.get(name) for name in expected} == pytest.approx(expected)
    assert not [name for name in found if 'feature="exact"' in name]


def test_a_wide_model_has_a_bounded_number_of_series(source: Watched) -> None:
    many = [FeatureReading(feature=f"f{i}", distance=i / 1000, tolerance=0.1, share=0.0) for i in range(900)]
    source.measured["bike"] = [reading(features=many)]
    names = [name for name in samples(expose(source, NOW)) if name.startswith("trilho_feature")]
    assert len(names) == MOST_FEATURES
    assert 'feature="f899"' in names[0]


def test_a_model_without_readings_has_zeros_and_no_guesses() -> None:
    source = MemorySource(known={"new": settings("new", "regression")})
    text = expose(source, NOW)
    assert text.endswith("# EOF\n")
    assert set(samples(text).values()) == {0.0}
    assert "trilho_drift_evidence" not in text
    assert "trilho_alerts_waiting" not in text


@needs("promtool")
def test_prometheus_finds_nothing_to_say_of_the_names(source: Watched) -> None:
    text = expose(source, NOW).replace(" trilho_alarms ", " trilho_alarms_total ")  # promtool reads the older format
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def write(folder: Path, known: Settings, console: str = "127.0.0.1:1", endpoint: str = "127.0.0.1:2") -> None:
    for name, text in files_of(known, console, endpoint).items():
        (folder / name).write_text(text)


@needs("promtool", "amtool")
@pytest.mark.parametrize(
    ("runbook", "window"), [(None, timedelta(days=7)), ("https://wiki.example/bike", timedelta(minutes=10))]
)
def test_the_files_are_valid_and_each_rule_fires_only_when_it_should(
    tmp_path: Path, runbook: str | None, window: timedelta
) -> None:
    known = settings("bike-demand", "regression")
    known = known.model_copy(update={"watch": known.watch.model_copy(update={"runbook": runbook, "window": window})})
    write(tmp_path, known)
    for command in (
        ["promtool", "check", "config", "prometheus.yml"],
        ["promtool", "check", "rules", "rules.yml"],
        ["promtool", "test", "rules", "rules.test.yml"],
        ["amtool", "check-config", "alertmanager.yml"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    rules = (tmp_path / "rules.yml").read_text()
    (tmp_path / "rules.yml").write_text(rules.replace("> 0.01", "> 0.9"))
    spoilt = subprocess.run(
        ["promtool", "test", "rules", "rules.test.yml"], cwd=tmp_path, capture_output=True, check=False
    )
    assert spoilt.returncode != 0


def test_each_rule_has_both_stories() -> None:
    rules = rules_of(settings("bike", "regression"))
    assert all(rule.fires and rule.calm for rule in rules)
    assert {"TrilhoDrift", "TrilhoMetricBelowMinimum", "TrilhoWatcherStale", "TrilhoLogShed", "TrilhoErrorRate",
            "TrilhoSlow", "TrilhoLabelsLate"} <= {rule.alert for rule in rules}  # fmt: skip


@contextmanager
def http_server(answer: Callable[[bytes], tuple[str, str]]) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, text = answer(self.rfile.read(int(self.headers.get("content-length") or 0)))
            self.send_response(200)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def process(folder: Path, *command: str) -> Iterator[None]:
    with (folder / f"{command[0]}.log").open("wb") as log:
        running = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env={**os.environ, "GOMAXPROCS": "1"})
        try:
            yield
        finally:
            running.terminate()
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


@needs("prometheus", "prometheus-alertmanager")
def test_an_open_incident_goes_through_a_real_prometheus_and_alertmanager(source: Watched, tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    def exposed(_: bytes) -> tuple[str, str]:
        return CONTENT_TYPE, expose(source, NOW)

    def hook(body: bytes) -> tuple[str, str]:
        heard.append(json.loads(body))
        return "text/plain", "ok"

    port, manager = free_port(), free_port()
    with http_server(exposed) as console, http_server(hook) as receiver:
        write(tmp_path, source.known["bike"], f"127.0.0.1:{console}", "127.0.0.1:9")
        config = (tmp_path / "prometheus.yml").read_text()
        config = config.replace("127.0.0.1:9093", f"127.0.0.1:{manager}").replace(": 15s", ": 1s")
        (tmp_path / "prometheus.yml").write_text(config)
        told = (tmp_path / "alertmanager.yml").read_text().replace("127.0.0.1:9099", f"127.0.0.1:{receiver}")
        (tmp_path / "alertmanager.yml").write_text(told.replace("group_wait: 30s", "group_wait: 0s"))
        with (
            process(
                tmp_path, "prometheus-alertmanager", "--config.file=alertmanager.yml", "--storage.path=am",
                "--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{manager}",
            ),
            process(
                tmp_path, "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb",
                f"--web.listen-address=127.0.0.1:{port}",
            ),
        ):  # fmt: skip
            until = time.monotonic() + 45
            names: set[str] = set()
            while "TrilhoDrift" not in names and time.monotonic() < until:
                threading.Event().wait(0.1)
                names = {alert["labels"]["alertname"] for body in heard for alert in body["alerts"]}
            assert "TrilhoDrift" in names, (tmp_path / "prometheus.log").read_text()[-2000:]
            query = f"http://127.0.0.1:{port}/api/v1/query?query=trilho_drift_evidence"
            with urllib.request.urlopen(query, timeout=10) as answer:
                [series] = [x for x in json.load(answer)["data"]["result"] if x["metric"]["job"] == "trilho"]
    assert series["value"][1] == "7.5"
    drift = next(a for body in heard for a in body["alerts"] if a["labels"]["alertname"] == "TrilhoDrift")
    assert drift["labels"] == {"alertname": "TrilhoDrift", "model": "bike", "severity": "warning"}
    assert "open incidents" in drift["annotations"]["summary"]


def test_the_rules_read_only_what_console_and_endpoint_expose(source: Watched) -> None:
    exposed = expose(source, NOW) + Path(edge.__file__).read_text()
    named = {name for rule in rules_of(source.known["bike"]) for name in re.findall(r"trilho_\w+", rule.expr)}
    assert {name for name in named if name.removesuffix("_bucket") not in exposed} == set()
