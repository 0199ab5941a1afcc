"""Verbs that show: status, models, runs, incidents, data, journal, labels, watch, alerts, report."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trilho.core import records as r

if TYPE_CHECKING:
    from tests.cli.conftest import Made, Verb


def test_alone_it_says_how_things_are(trilho: Verb, made: Made) -> None:
    assert trilho("--json").json["next"] == "trilho train"
    made.version(1)
    assert trilho("--json").json["next"] == "trilho release 1"
    trilho("release", "1")
    found = trilho("--json").json
    assert (found["model"], found["champion"], found["next"]) == ("bikes", 1, "trilho up")
    assert found["health"] != "ok"  # nothing answers
    said = trilho()
    assert said.out.splitlines()[-1] == "Next: trilho up"
    assert "endpoint  not running" in said.out


def test_models(trilho: Verb, made: Made) -> None:
    assert trilho("models", "--json").json["next"] == "trilho train"
    package = made.version(1)
    made.version(2, verdict="fail")
    listed = trilho("models").out.splitlines()
    assert listed[0].split() == ["version", "held", "out", "gate", "data", "until", "created", "is"]
    assert listed[1].startswith("2        mae 42.0  fail  2012-06-01")
    shown = trilho("models", "show", "1", "--json").json
    assert (shown["package"], shown["run"]["actor"], shown["gate"]["verdict"]) == (package, "ana", "pass")
    assert "held out  MAE 41.0 on 1,440 rows" in trilho("models", "show", "1").out


def test_runs_and_what_they_printed(trilho: Verb, made: Made) -> None:
    assert trilho("runs", "show").code == 2
    made.version(1)
    assert trilho("runs").out.splitlines()[1].split()[:3] == ["run-1", "train", "succeeded"]
    shown = trilho("runs", "show", "--json").json
    assert shown["tasks"][0] == {"name": "fit", "state": "ran", "seconds": 1.25, "needs": ["split"], "reason": ""}
    log = made.home / "runs" / "run-1" / "fit.log"
    log.parent.mkdir(parents=True)
    log.write_text("ValueError: no rows\n")
    assert trilho("runs", "logs", "run-1", "fit").out.splitlines()[0] == "ValueError: no rows"
    assert trilho("runs", "logs", "--json").json["logs"] == {"fit": "ValueError: no rows\n"}
    assert trilho("runs", "logs", "run-1", "split").code == 2
    assert trilho("runs", "show", "nothing").code == 2


def test_what_a_run_elsewhere_printed_is_asked_for_by_task(trilho: Verb, made: Made) -> None:
    made.journal.append(
        r.RunStarted(model="bikes", run="run-9", pipeline="nightly", trigger="a person", dataset=None, commit=None,
                     commit_time=None, runner="vertex", place="jobs/run-9"),
        r.RunEnded(model="bikes", run="run-9", state="succeeded", error=None, seconds=1.0, tasks=[
            r.TaskResult(name="load", state="ran", seconds=1.0, needs=[], reason="")]),
    )  # fmt: skip
    assert trilho("journal", "--type", "run.started").out.splitlines()[1].endswith("run-9 nightly on vertex")
    said = trilho("runs", "logs", "run-9")
    assert said.code == 2
    assert said.err.splitlines() == [
        "what run run-9 printed is kept on vertex, a log for each task",
        "Hint: trilho runs logs run-9 load",
    ]


def opened(made: Made) -> None:
    made.version(1)
    made.journal.append(
        r.AlarmRaised(model="bikes", alarm="a1", kind="performance", version=1, window_start="2012-06-18T00:00:00",
                      window_end="2012-06-25T00:00:00", evidence=1e5, threshold=1e4, causes=[], summary="MAE 94.8"),
        r.IncidentOpened(model="bikes", incident="inc-1", kind="performance", alarm="a1", version=1, severity="high",
                         title="MAE 94.8 over 18-24 Jun 2012, 41.0 expected"),
        r.AlertSent(model="bikes", alert="x", incident="inc-1", channel="slack", attempts=1),
    )  # fmt: skip


def test_incidents(trilho: Verb, made: Made) -> None:
    assert trilho("incidents", "--json").json["incidents"] == []
    opened(made)
    assert trilho("incidents", "--json").json["next"] == "trilho incidents show inc-1"
    shown = trilho("incidents", "show", "inc")
    assert "alarm: MAE 94.8" in shown.out
    assert "alert sent to slack" in shown.out
    assert shown.out.splitlines()[-1] == "Next: trilho incidents acknowledge inc-1"
    acknowledged = trilho("incidents", "ack", "inc-1", "--why", "on it", "--json").json
    assert acknowledged["acknowledged_by"] == "rui"
    assert "acknowledged by rui" in trilho("incidents").out
    assert trilho("incidents", "show", "other").code == 2
    made.journal.append(r.IncidentClosed(model="bikes", incident="inc-1", reason="version 2 took over"))
    assert "No incident of bikes is open." in trilho("incidents").out
    assert "closed: version 2 took over" in trilho("incidents", "--all").out


def test_the_journal_is_listed_and_filtered(trilho: Verb, made: Made) -> None:
    opened(made)
    kinds = [x["type"] for x in trilho("journal", "--json").json["records"]]
    assert kinds[-3:] == ["dev.trilho.alarm.raised.v2", "dev.trilho.incident.opened.v1", "dev.trilho.alert.sent.v1"]
    assert [x["seq"] for x in trilho("journal", "--type", "incident", "--json").json["records"]] == [6]
    assert len(trilho("journal", "--actor", "ana", "-n", "2", "--json").json["records"]) == 2
    assert trilho("journal", "--since", "2999-01-01").out.splitlines()[0] == "No such record."
    assert trilho("journal", "show", "6", "--json").json["record"]["data"]["incident"] == "inc-1"
    assert trilho("journal", "show", "99").code == 2


def test_the_journal_is_verified(trilho: Verb, made: Made) -> None:
    opened(made)
    said = trilho("journal", "verify")
    assert "The tail is unproven" in said.out
    anchor = trilho("journal", "verify", "--json").json["head"]
    assert trilho("journal", "verify", "--anchor", anchor, "--json").json["tail_proven"] is True
    assert trilho("journal", "verify", "--anchor", "7").code == 2
    older = f"4:{next(iter(made.journal.read_from(4))).hash}"
    said = trilho("journal", "verify", "--anchor", older)
    assert "Proven up to record 4" in said.out
    assert said.out.splitlines()[-1] == f"Next: trilho journal verify --anchor {anchor}"
    assert trilho("journal", "verify", "--anchor", older, "--json").json["tail_proven"] is False
    with sqlite3.connect(made.home / "journal.sqlite") as connection:
        connection.execute("DELETE FROM records WHERE seq = 7")
    assert trilho("journal", "verify").code == 0
    cut = trilho("journal", "verify", "--anchor", anchor)
    assert (cut.code, cut.err.splitlines()[0]) == (
        1,
        "the journal is broken: the tail was cut: 6 records, anchored at 7",
    )
    with sqlite3.connect(made.home / "journal.sqlite") as connection:
        connection.execute("UPDATE records SET text = replace(text, 'ana', 'eva') WHERE seq = 2")
    assert "record 2 was changed" in trilho("journal", "verify").err


def test_the_journal_is_backed_up_and_restored(trilho: Verb, made: Made, tmp_path: Path) -> None:
    made.version(1)
    backup = tmp_path / "backup.sqlite"
    head = trilho("journal", "backup", str(backup), "--json").json["head"]
    made.version(2)
    assert trilho("journal", "restore", str(backup)).code == 2  # nobody to ask, and no --yes
    restored = trilho("journal", "restore", str(backup), "--yes", "--json").json
    assert (restored["done"], restored["head"], restored["records"]) == (True, head, 4)
    assert list(made.home.glob("journal.sqlite.before-restore-*"))
    assert trilho("journal", "restore", str(tmp_path / "none")).code == 2


def test_before_anything_was_served(trilho: Verb, made: Made) -> None:
    made.version(1)
    assert trilho("labels", "--json").json["next"] == "trilho up"
    assert trilho("watch", "--json").json["readings"] == []
    assert trilho("data", "--json").json["datasets"] == []
    assert trilho("retrain", "list", "--json").json["retrainings"] == []
    assert trilho("serve").code == 4


def test_alerts(trilho: Verb, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(made)
    assert trilho("alerts", "--json").json["sent"][0]["incident"] == "inc-1"
    failed = trilho("alerts", "test")
    assert failed.code == 5
    assert failed.err.splitlines()[1] == "Hint: set TRILHO_SLACK_WEBHOOK"
    monkeypatch.setenv("TRILHO_SLACK_WEBHOOK", "http://127.0.0.1:9/hook")
    monkeypatch.setattr("trilho.watch.alerts.slack.post", lambda *_: None)
    assert trilho("alerts", "test", "--json").json["channels"] == {"slack": None}


def test_the_report_is_written(trilho: Verb, made: Made, tmp_path: Path) -> None:
    opened(made)
    trilho("release", "1")
    out = tmp_path / "handover.html"
    found = trilho("report", "--out", str(out), "--json").json
    assert found["models"][0]["name"] == "bikes"
    assert found["head"].startswith("10:")
    assert "bikes" in out.read_text()


def test_records_of_a_newer_trilho_break_no_verb(trilho: Verb, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(made)
    assert trilho("journal", "verify", "--json").json["unknown"] == 0
    for kind in ("run.started", "version.packaged"):  # as if this trilho had never heard of them
        monkeypatch.delitem(r.PAYLOADS, kind)
    said = trilho("journal", "verify")
    assert "4 records are passed over" in said.out
    for verb in ("models", "runs", "incidents", "retrain"):
        assert trilho(verb, "--dry-run" if verb == "retrain" else "--json").code in (0, 2)
