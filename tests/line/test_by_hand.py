"""The loop by hand, verb by verb, on a copy of the bikes: what each says, its exit code, and what to type next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import EXAMPLES, copy_example
from tests.line.rig import Up, Verbs, change, label, later_rows, marked, post, predict, query, until, up

from trilho.project import Project

TASKS = ["extract", "check", "split", "fit-all", "predict-all", "evaluate", "pack"]
CHANGES = """
[labels]
source = "returned*.csv"
"""


def test_the_loop_by_hand(tmp_path: Path, project_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRILHO_PYTHON", str(project_python))
    monkeypatch.setenv("TRILHO_HOME", str(tmp_path / "home"))
    folder = copy_example("bike-demand", tmp_path)
    toml = folder / "trilho.toml"  # retrained by hand only, and labels from a table as well
    change(toml, 'cooldown = "12 weeks"', "performance = false\ndrift = false")
    toml.write_text(toml.read_text() + CHANGES)
    trilho = Verbs(folder)
    before_anything(trilho)
    trained(trilho)
    released(trilho)
    with up(folder, "by-hand") as platform:
        labelled(trilho, platform, folder, served(trilho, platform))
        watched(trilho)
        retrained(trilho, platform)
        rolled_back(trilho, platform)
        reported(trilho, tmp_path / "handover.html")
        assert platform.end() == 0
    assert marked("by-hand") == {}
    every_list_ends_with_what_to_type_next(trilho)


def before_anything(trilho: Verbs) -> None:
    assert said(trilho("labels")) == (0, "trilho up")
    assert said(trilho("models")) == (0, "trilho train")
    assert said(trilho("runs")) == (0, "trilho train")
    assert said(trilho()) == (0, "trilho train")
    refused = trilho("serve")
    assert (refused.code, refused.out) == (4, "")
    assert refused.err.splitlines()[0].startswith("no version of bike-demand is released")


def trained(trilho: Verbs) -> None:
    first = trilho("train")
    assert said(first) == (0, "trilho release 1")
    assert [line.split()[:2] for line in first.out.splitlines()[:-2]] == [[task, "ran"] for task in TASKS]
    assert first.out.splitlines()[-2].startswith("Version 1: pass. mae ")
    again = trilho("train", "--json")
    assert again.code == 0
    assert [(x["name"], x["state"]) for x in again.json["tasks"]] == [(task, "cached") for task in TASKS]
    assert (again.json["state"], again.json["version"], again.json["verdict"]) == ("succeeded", 1, "pass")
    assert 20 < again.json["metrics"]["mae"] < 60


def released(trilho: Verbs) -> None:
    plan = trilho("release", "1", "--dry-run")
    assert said(plan) == (0, "trilho release 1")
    assert "Nothing was done (--dry-run)." in plan.out
    assert trilho("models", "--json").json["champion"] is None
    assert said(trilho("release", "1", "--why", "the first")) == (0, "trilho up")
    assert trilho("models", "--json").json["champion"] == 1
    assert trilho("release", "1").code == 2  # it serves already
    assert trilho("rollback").code == 3  # nothing was before it


Answers = dict[str, list[tuple[str, float, int]]]
MONTHS = {"january": ("2012-01-01", "2012-02-01"), "february": ("2012-02-01", "2012-03-01"),
          "march": ("2012-03-01", "2012-04-16")}  # fmt: skip


def month(name: str) -> tuple[list[dict[str, Any]], list[float]]:
    return later_rows(EXAMPLES / "bike-demand" / "later" / "2012.parquet", "rides", *MONTHS[name])


def served(trilho: Verbs, platform: Up) -> Answers:
    """Ask about three months and a half; a request that is wrong is told which field is, and why."""
    assert platform.told["next"].endswith("bike-demand")
    rows, _ = month("january")
    status, answer = post(platform.endpoint, "/predict", {"instances": [{**rows[0], "colour": "red"}]})
    assert (status, answer["model"], answer["version"], len(answer["predictions"])) == (200, "bike-demand", 1, 1)
    answers = {"twice": [(answer["ids"][0], answer["predictions"][0], 1)]}
    wrong = {**rows[0], "temp_min_c": "cold"}
    status, answer = post(platform.endpoint, "/predict", {"instances": [rows[0], wrong]})
    assert (status, answer["field"], answer["row"]) == (422, "temp_min_c", 1)
    status, answer = post(platform.endpoint, "/predict", {"instances": [{k: v for k, v in wrong.items() if k != "ts"}]})
    assert (status, answer["field"]) == (422, "ts")
    for name in MONTHS:
        answers[name] = predict(platform.endpoint, month(name)[0])
        assert {version for _, _, version in answers[name]} == {1}
    found = trilho("labels")
    assert said(found) == (0, "trilho watch")
    assert "0 of 2,545 served rows have a label (0%)" in found.out
    readings = until(lambda: readings_of(trilho, 14), "the watcher has read the windows that are complete")
    assert [(x["labelled"], x["value"]) for x in readings] == [(0, None)] * len(readings)
    return answers


def labelled(trilho: Verbs, platform: Up, folder: Path, answers: Answers) -> None:
    """January over HTTP, by prediction id; February by key, from the table that [labels] names; the rest later."""
    pairs = list(zip((id_ for id_, _, _ in answers["january"]), month("january")[1], strict=True))
    pairs.append((answers["twice"][0][0], pairs[0][1]))
    for start in range(0, len(pairs), 200):
        label(platform.endpoint, pairs[start : start + 200])
    assert post(platform.endpoint, "/labels", {"labels": [{"id": pairs[0][0]}]})[0] == 422
    january = until(lambda: labels_of(trilho, len(pairs)), "January's labels have arrived")
    assert january["until"].startswith("2012-01-31T23:00:00")
    late = until(lambda: [x for x in readings_of(trilho, 14) if x["labelled"]], "readings know of late labels")
    assert late[0]["window_start"].startswith("2011-12-29")  # weeks are counted from the epoch
    assert (late[0]["labelled"], late[0]["rows"]) == (97, 97)
    assert (late[1]["labelled"], late[1]["rows"]) == (168, 168)
    assert late[1]["value"] > 0

    table(folder / "returned-february.csv", "february")
    until(lambda: labels_of(trilho, len(pairs) + 29 * 24), "the watcher has loaded the table")
    again = trilho("labels", "load")
    assert said(again) == (0, "trilho watch")
    assert "Loaded 0 new labels." in again.out  # it was, and nothing is loaded twice
    march = folder.parent / "march.csv"
    table(march, "march")
    loaded = trilho("labels", "load", str(march))
    assert said(loaded) == (0, "trilho watch")
    assert f"Loaded {46 * 24:,} new labels." in loaded.out
    found = trilho("labels", "--json").json
    assert (found["served"], found["labelled"], found["unknown"], found["repeated"]) == (2545, 2545, 0, 0)
    missing = trilho("labels", "load", str(folder / "nowhere.csv"))
    assert (missing.code, missing.out) == (1, "")


def watched(trilho: Verbs) -> None:
    """The quality fell in February: an incident is open, and nothing has started a retraining."""
    until(lambda: trilho("incidents", "--json").json["incidents"], "an incident is opened")
    assert said(trilho("watch")) == (0, "trilho incidents")
    incidents = trilho("incidents", "--json")
    assert incidents.code == 0
    assert [x["kind"] for x in incidents.json["incidents"]] == ["performance"]
    assert trilho("retrain", "list", "--json").json["retrainings"] == []


def retrained(trilho: Verbs, platform: Up) -> None:
    assert said(trilho("retrain")) == (0, "trilho retrain list")  # the platform that is up carries it out
    ended = until(lambda: ended_of(trilho), "the retraining ends", 90)
    assert (ended["result"], ended["cause"], ended["version"]) == ("promoted", "a person", 2), ended["note"]
    assert said(trilho("retrain", "list")) == (0, "trilho models")
    under_way = trilho("rollout")
    assert said(under_way) == (0, "trilho rollout")
    assert under_way.out.startswith("Version 2 is on its way to users, at 25% of traffic. It goes on by itself")
    assert trilho("retrain").code == 4  # one thing at a time
    rows, _ = month("march")
    answered: set[int] = set()

    def full() -> bool:
        answered.update(version for _, _, version in predict(platform.endpoint, rows[-4:], at_once=1))
        return bool(trilho("rollout", "--json").json["rollout"]["outcome"])

    until(full, "version 2 has answered enough at each share")
    assert answered == {1, 2}  # a canary: both had a share
    ended_rollout = trilho("rollout")
    assert said(ended_rollout) == (0, "trilho")
    assert ended_rollout.out.startswith("Version 2: full.")
    until(lambda: versions_of(platform, rows) == {2}, "version 2 has all traffic")
    assert trilho("models", "--json").json["champion"] == 2
    until(lambda: all(x["closed"] for x in all_incidents(trilho)), "the incident is closed by the takeover")


def rolled_back(trilho: Verbs, platform: Up) -> None:
    plan = trilho("rollback", "--dry-run")
    assert said(plan) == (0, "trilho rollback")
    assert "  version 1 of bike-demand serves again instead of version 2, once its server is ready" in plan.out
    done = trilho("rollback", "--yes", "--why", "a test of the way back")
    assert said(done) == (0, "trilho")
    assert "Now version 1 has 100% of the traffic of bike-demand." in done.out
    rows, _ = month("march")
    until(lambda: versions_of(platform, rows) == {1}, "version 1 has all traffic again")
    assert trilho("rollback").code == 3
    shown = {x["number"]: x["is"] for x in trilho("models", "--json").json["versions"]}
    assert shown == {1: "champion", 2: "rolled back"}


def reported(trilho: Verbs, out: Path) -> None:
    assert said(trilho("report", "--out", str(out))) == (0, "trilho journal verify")
    page = out.read_text()
    for text in ("bike-demand", "mobility squad", "the first", "for a person: mae", "performance"):
        assert text in page
    (data,) = trilho("report", "--out", str(out), "--json").json["models"]
    assert (data["name"], data["champion"]["version"]) == ("bike-demand", 1)
    assert [x["version"] for x in data["releases"]] == [2, 1]
    failures = data["lead_times"]["failures"]
    assert (failures["ended"], failures["restored"], data["retrainings"]["promoted"]) == (2, 1, 1)
    assert 0 < data["lead_times"]["trigger_to_serving"]["latest"] < 120
    assert [x["reason"] for x in data["incidents"]] == ["version 2 took over"]
    verified = trilho("journal", "verify")
    assert verified.code == 0
    head = verified.next.removeprefix("trilho journal verify --anchor ")
    assert trilho("journal", "verify", "--anchor", head, "--json").json["tail_proven"] is True


def every_list_ends_with_what_to_type_next(trilho: Verbs) -> None:
    verbs = [[], ["models"], ["models", "show", "2"], ["runs"], ["runs", "show"], ["runs", "logs"], ["rollout"],
             ["labels"], ["watch"], ["retrain", "list"], ["incidents"], ["alerts"], ["data"], ["journal"],
             ["journal", "show", "1"], ["config"], ["gc", "--dry-run"]]  # fmt: skip
    for verb in verbs:
        found = trilho(*verb)
        assert found.code == 0, (verb, found.err)
        assert found.next.startswith("trilho"), verb
        as_json = trilho(*verb, "--json")
        assert json.loads(as_json.out)["schema"] == 1, verb


# ---- what the verbs say ----------------------------------------------------------------------------------------


def said(found: Any) -> tuple[int, str]:
    assert found.out, found.err
    return found.code, found.next


def readings_of(trilho: Verbs, at_least: int) -> list[Any]:
    found: list[Any] = trilho("watch", "-n", "60", "--json").json["readings"]
    return found if len(found) >= at_least else []


def labels_of(trilho: Verbs, at_least: int) -> Any:
    found = trilho("labels", "--json").json
    return found if found["labelled"] >= at_least else None


def ended_of(trilho: Verbs) -> Any:
    (found,) = trilho("retrain", "list", "--json").json["retrainings"]
    return found if found["result"] else None


def all_incidents(trilho: Verbs) -> list[Any]:
    state = Project.open(trilho.folder).state()
    return [{"closed": x.closed} for x in state.incidents.values()]


def versions_of(platform: Up, rows: list[dict[str, Any]]) -> set[int]:
    return {version for _, _, version in predict(platform.endpoint, rows[-4:], at_once=1)}


def table(to: Path, name: str) -> None:
    source = EXAMPLES / "bike-demand" / "later" / "2012.parquet"
    since, before = MONTHS[name]
    query(
        f"COPY (SELECT event_id, rides FROM '{source}' WHERE ts >= TIMESTAMP '{since}' AND ts < TIMESTAMP '{before}') "
        f"TO '{to}' (HEADER)"
    )
