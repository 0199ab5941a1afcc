"""kill -9 of the watcher at random points: no alert lost, a double only after a crash in flight, with the same id."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.watch.alerts.servers import Act, FakeSlack, Faulty
from tests.watch.alerts.watcher import INCIDENTS, settings

from trilho.project import Project

pytest.importorskip("slack_sdk")
ROOT = Path(__file__).resolve().parents[3]
KILLS = 5
ACTS: list[Act] = [200, 200, 200, 200, 503, "lose", "close"]


def start(folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a watcher; give it once it has begun."""
    command = [sys.executable, "-m", "tests.watch.alerts.watcher", str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    return process


@pytest.mark.parametrize("seed", [1, 2])
def test_no_alert_is_lost_and_none_doubled_without_a_crash_in_flight(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    script = [chance.choice(ACTS) for _ in range(30)]
    lost_answers = script.count("lose") + script.count("close")
    with FakeSlack() as slack, Faulty(*script) as hook:
        (tmp_path / "hook").write_text(hook.address)
        environment = {
            **os.environ, "TRILHO_SECRETS": str(tmp_path), "TRILHO_SLACK_API": slack.address,
            "TRILHO_SLACK_TOKEN": slack.TOKEN, "TRILHO_SLACK_CHANNEL": "C1", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        slack.faults["chat.postMessage"] = ["lose", 503, "lose"]
        kills = 0
        for _ in range(KILLS):
            process = start(tmp_path, environment)
            time.sleep(chance.uniform(0.0, 0.25))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
            process.wait(30)
        process = start(tmp_path, environment)
        assert process.wait(60) == 0

    stages = ("opened", "confirmed", "closed")
    expected = {f"drift-{k}:{stage}" for k in range(INCIDENTS) for stage in stages}
    recorded = Counter(alert.alert for _, alert in Project(tmp_path, settings()).state().alerts)
    assert recorded == Counter({f"{alert}:{channel}": 1 for alert in expected for channel in ("slack", "hook")})

    seen: Counter[str] = Counter()
    for got in hook.taken:
        alert = got.json["id"].removesuffix(":hook")
        assert got.headers["x-trilho-incident"] == alert.partition(":")[0]
        assert got.json["data"]["repeat"] or not seen[alert]  # what comes again says so
        seen[alert] += 1
    assert set(seen) == expected
    assert seen.total() - len(seen) <= kills + lost_answers

    posted = Counter(m["metadata"]["event_payload"]["alert"] for m in slack.messages if "thread_ts" in m)
    openings = Counter(m["metadata"]["event_payload"]["incident"] for m in slack.messages if "thread_ts" not in m)
    assert openings == Counter({f"drift-{k}": 1 for k in range(INCIDENTS)})  # it looks before it repeats
    assert posted == Counter({f"drift-{k}:{stage}:slack": 1 for k in range(INCIDENTS) for stage in stages[1:]})
