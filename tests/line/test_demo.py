"""The whole line on the two examples, on the first of their later periods: what it prints, and what it leaves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.line.played import MODELS, Answered, Played, cut, empty_examples, play

from trilho.core import records as r

PERIODS = {
    "bike-demand": [("2012", "2012-01-01", "2013-01-01"), ("2013", "2013-01-01", "2013-09-01")],
    "flight-delay": [("2013-03", "2013-03-01", "2013-03-15"), ("2013-04", "2013-04-01", "2013-04-15")],
}
PERIOD = {"period": str, "rows": int, "metric": str, "static": float, "managed": float, "alarm": bool,
          "retrained": int, "champion": int}  # fmt: skip
COUNTS = ("requests", "failed_requests", "retrainings", "promotions", "rejected")


def test_the_demo(tmp_path: Path, project_python: Path, subtests: pytest.Subtests) -> None:
    """One run, since it is the most expensive one; each claim about it fails by itself."""
    examples = empty_examples(tmp_path / "examples")
    for model, periods in PERIODS.items():
        for period in periods:
            cut(examples, model, *period)
    run = play(examples, tmp_path / "home", project_python)
    assert run.code == 0, run.err
    claims: list[Callable[[Played], None]] = [
        it_prints_one_object_as_agreed,
        no_request_failed_and_none_was_too_large,
        metrics_are_those_of_what_the_servers_answered,
        bikes_were_retrained_and_are_better_for_it,
        counts_and_champions_are_those_of_the_journal,
        promoted_versions_went_through_a_canary,
        alerts_reached_slack_and_teams,
        the_journal_verifies,
        nothing_is_left_running,
    ]
    for claim in claims:
        with subtests.test(msg=claim.__name__):
            claim(run)


def models(run: Played) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.out)["models"]
    return found


def it_prints_one_object_as_agreed(run: Played) -> None:
    found = json.loads(run.out)  # fails on anything before or after it
    assert len(run.out.splitlines()) == 1
    assert type(found["seconds"]) is float
    assert 0 < found["seconds"] < 400
    assert set(found["models"]) == set(PERIODS)
    for name, model in found["models"].items():
        assert {key: type(model[key]) for key in COUNTS} == dict.fromkeys(COUNTS, int)
        assert [x["period"] for x in model["periods"]] == [period for period, _, _ in PERIODS[name]]
        for period in model["periods"]:
            assert {key: type(period[key]) for key in PERIOD} == PERIOD, period
            assert period["metric"] == {"bike-demand": "mae", "flight-delay": "roc_auc"}[name]
            assert np.isfinite([period["static"], period["managed"]]).all()
    assert [x["rows"] for x in found["models"]["bike-demand"]["periods"]] == [366 * 24, 243 * 24]


def no_request_failed_and_none_was_too_large(run: Played) -> None:
    """Requests are counted from the ids in the log, `<request>.<row>`, which the client has no hand in."""
    for name, model in models(run).items():
        answered = run.answered(name, "2011-01-01", "2030-01-01")
        sizes = Counter(row.id.rpartition(".")[0] for row in answered)
        alone = sum(size == 1 for size in sizes.values())
        rows = sum(period["rows"] for period in model["periods"])
        assert model["failed_requests"] == 0
        assert len(answered) == rows
        assert len(sizes) == model["requests"]
        assert alone == model["single_row_requests"] >= rows / 20
        assert len(sizes) - alone == model["batch_requests"] > 0
        assert 100 < max(sizes.values()) <= 200


def metrics_are_those_of_what_the_servers_answered(run: Played) -> None:
    for name, model in models(run).items():
        score = mae if name == "bike-demand" else auc
        for period, (_, since, before) in zip(model["periods"], PERIODS[name], strict=True):
            answered = run.answered(name, since, before)
            assert len(answered) == period["rows"]
            assert period["managed"] == pytest.approx(score(answered), rel=1e-9)
            if {row.version for row in answered} == {1}:
                assert period["managed"] == pytest.approx(period["static"], rel=1e-9)


def bikes_were_retrained_and_are_better_for_it(run: Played) -> None:
    bikes = models(run)["bike-demand"]
    first, last = bikes["periods"]
    assert first["alarm"]
    assert first["retrained"] >= 1
    assert bikes["retrainings"] == sum(x["retrained"] for x in bikes["periods"])
    assert bikes["promotions"] >= 1
    assert last["champion"] > 1
    assert last["managed"] < 0.9 * last["static"]


def counts_and_champions_are_those_of_the_journal(run: Played) -> None:
    for name, model in models(run).items():
        project = run.project(name)
        state = project.state()
        results = Counter(x.result for x in state.retrainings.values())
        assert model["retrainings"] == len(state.retrainings)
        assert (model["promotions"], model["rejected"]) == (
            results["promoted"],
            results["rejected"] + results["not enough data"],
        )
        assert set(state.versions) == {1} | {x.version for x in state.retrainings.values() if x.version is not None}
        assert any(x["alarm"] for x in model["periods"]) == bool(state.alarms)
        released = {x.version for x in state.rollouts.values()}
        for period, (_, since, before) in zip(model["periods"], PERIODS[name], strict=True):
            answered = run.answered(name, since, before)
            assert {row.version for row in answered} <= released
            window = project.settings.watch.window.total_seconds()
            assert period["champion"] in {row.version for row in answered if row.time >= answered[-1].time - window}
        for trigger in state.retrainings.values():  # by an alarm that was raised before it, not by a schedule
            assert trigger.cause in ("performance", "drift")
            assert any(
                state.alarms[alarm].kind == trigger.cause and time <= trigger.started
                for alarm, time in state.alarm_times.items()
            )
        champions = [version for _, version in state.champions]
        assert champions == sorted(champions), "a version was rolled back"
        assert state.champion == champions[-1]


def promoted_versions_went_through_a_canary(run: Played) -> None:
    for name, model in models(run).items():
        project = run.project(name)
        payloads = [record.payload for record in project.journal.read_from(1) if record.subject == name]
        moves = [x for x in payloads if isinstance(x, r.RolloutStepped)]
        begun = [x for x in payloads if isinstance(x, r.RolloutStarted) and x.champion is not None]
        assert len(begun) == model["promotions"]
        for rollout in begun:
            shares = {x.share: x.evidence for x in moves if x.rollout == rollout.rollout}
            assert list(shares) in ([25], [25, 100])  # the last may still be under way
            if 100 in shares:
                assert shares[100]["share"] == 25
                assert shares[100]["requests"] >= 10
                assert (shares[100]["errors"], shares[100]["refused"]) == (0, 0)


def alerts_reached_slack_and_teams(run: Played) -> None:
    received = {
        channel: [json.loads(path.read_text()) for path in sorted((run.home / "received" / channel).glob("*.json"))]
        for channel in ("slack", "teams")
    }
    for name in MODELS:
        state = run.project(name).state()
        sent = {(x.incident, x.channel) for _, x in state.alerts}
        for incident, channel in sent:
            assert any(incident in json.dumps(message) for message in received[channel]), (channel, incident)
        if state.incidents:  # the newest may still wait in the outbox
            assert {(next(iter(state.incidents)), channel) for channel in received} <= sent
    assert run.project("bike-demand").state().alerts
    assert received["slack"][0]["blocks"][0]["type"] == "header"
    card = received["teams"][0]["attachments"][0]
    assert card["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert card["content"]["type"] == "AdaptiveCard"


def the_journal_verifies(run: Played) -> None:
    proof = run.project("bike-demand").journal.verify(None)
    assert proof.problem is None
    types = Counter(record.type for record in run.project("bike-demand").journal.read_from(1))
    assert sum(types.values()) == proof.records
    assert types[r.RetrainingEnded.type] == types[r.TriggerFired.type] > 0


def nothing_is_left_running(run: Played) -> None:
    commands = " ".join(run.seen.values())
    for part in ("trilho up", "trilho_runtime.server", "trilho_runtime.route", "trilho_runtime.fork"):
        assert part in commands, f"the watch for processes did not see {part}"
    assert run.left == {}
    assert not (run.home / "platform.json").exists()


def mae(rows: list[Answered]) -> float:
    return float(np.mean([abs(row.prediction - value) for row in rows if (value := row.value) is not None]))


def auc(rows: list[Answered]) -> float:
    """Give the share of pairs of a late and a punctual flight that are in the right order."""
    scores = np.array([row.prediction for row in rows])
    late = np.array([row.value == 1 for row in rows])
    punctual = np.sort(scores[~late])
    below = np.searchsorted(punctual, scores[late], "left") + np.searchsorted(punctual, scores[late], "right")
    return float(below.mean() / 2 / len(punctual))
