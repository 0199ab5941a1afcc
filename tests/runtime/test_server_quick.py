"""A compiled model served by a real process: its answers, what it does not import, and what survives its end."""

from __future__ import annotations

import http.client
import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.serving import Launcher, Reply, Running, call, notebooks_environment, until

from trilho_runtime.prediction.mask import Mask


def start(launch: Launcher, quick: Path, *arguments: object, **environment: str) -> Running:
    return launch.server(quick / "package", *arguments, env=notebooks_environment(**environment), version=4)


def told(quick: Path) -> Any:
    return json.loads((quick / "told.json").read_bytes())


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines()]


def ask(address: str, rows: list[Any], **parameters: Any) -> Reply:
    return call(address, "/predict", {"instances": rows, **({"parameters": parameters} if parameters else {})})


def imported(pid: int) -> set[str]:
    """Which large libraries have their compiled parts in a process."""
    maps = Path(f"/proc/{pid}/maps")
    if not maps.exists():
        pytest.skip("what a process has loaded can be seen on Linux only")
    return {name for name in ("pandas", "sklearn", "scipy", "pyarrow") if f"/site-packages/{name}/" in maps.read_text()}


def test_it_answers_as_the_original_does_and_imports_neither_pandas_nor_scikit_learn(
    launch_quick: Launcher, quick: Path
) -> None:
    log = launch_quick.folder / "log"
    running = start(launch_quick, quick, "--log", log)
    address = running.wait_until_ready()
    given = told(quick)
    reply = ask(address, given["rows"])
    alone = [ask(address, [row]).json["predictions"][0] for row in given["rows"][:5]]
    expected = [dict(zip(given["classes"], row, strict=True)) for row in given["told"]]
    for found, wanted in zip([*reply.json["predictions"], *alone], [*expected, *expected[:5]], strict=True):
        assert found == pytest.approx(wanted, rel=1e-12, abs=1e-12)
    info = call(address, "/").json
    assert (info["path"], info["outputs"]["kind"]) == ("compiled", "probabilities")
    assert all(stage["path"] == "compiled" for stage in info["stages"])
    assert info["inline_rows"] > 0
    assert imported(running.process.pid) == set()
    for line, wanted in zip(lines_of(log), expected, strict=False):
        assert (line["v"], line["n"], line["p"]) == (2, 4, pytest.approx(list(wanted.values())))
        assert (line["c"], line["y"]) == (max(wanted, key=wanted.__getitem__), max(line["p"]))
    assert len(lines_of(log)) == 45


def test_rows_of_other_callers_at_the_same_time_are_not_mixed_up(launch_quick: Launcher, quick: Path) -> None:
    address = start(launch_quick, quick).wait_until_ready()
    given = told(quick)
    found: dict[int, Reply] = {}

    def some(first: int) -> None:
        for place in range(first, 40, 8):
            found[place] = ask(address, [given["rows"][place] if place % 7 else {"x": "wrong"}])

    threads = [threading.Thread(target=some, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, reply in found.items():
        if place % 7 == 0:
            assert (reply.status, reply.json["field"], reply.json["row"]) == (422, "x", 0)
        else:
            assert list(reply.json["predictions"][0].values()) == pytest.approx(given["told"][place])
    assert len({reply.json["ids"][0] for reply in found.values() if reply.status == 200}) == 40 - 6


def test_the_profile_is_given_at_once_and_published_at_the_end(launch_quick: Launcher, quick: Path) -> None:
    profiles = launch_quick.folder / "profiles"
    running = start(launch_quick, quick, "--profiles", profiles, "--profile-seconds", 3600)
    address = running.wait_until_ready()
    rows = told(quick)["rows"]
    ask(address, rows[:3])
    for row in rows[3:8]:
        ask(address, [row])
    shadow = call(address, "/predict", {"instances": rows[:2]}, {"x-trilho-shadow": "1"})
    assert shadow.status == 200
    profile = call(address, "/profile").json
    assert (profile["schema"], profile["model"], profile["version"], profile["rows"]) == (1, "quick", 4, 8)
    assert {sum(counts) for counts in profile["counts"].values()} == {8}
    assert {"x", "z", "color"} <= profile["counts"].keys()
    assert list(profiles.iterdir()) == []
    assert running.stop() == 0
    files = [json.loads(path.read_bytes()) for path in profiles.iterdir()]
    assert sum(file["rows"] for file in files) == 8
    assert all(path.name.endswith(".json") and str(running.process.pid) in path.name for path in profiles.iterdir())


def test_the_profile_is_published_every_few_seconds(launch_quick: Launcher, quick: Path) -> None:
    profiles = launch_quick.folder / "profiles"
    address = start(launch_quick, quick, "--profiles", profiles, "--profile-seconds", 0.05).wait_until_ready()
    ask(address, told(quick)["rows"][:3])
    until(lambda: [json.loads(p.read_bytes())["rows"] for p in profiles.glob("*.json")] == [3], what="a profile")
    ask(address, told(quick)["rows"][:3])
    until(lambda: sum(json.loads(p.read_bytes())["rows"] for p in profiles.glob("*.json")) == 6, what="the next")


def test_entries_name_limits_and_masks_are_as_the_command_line_says(launch_quick: Launcher, quick: Path) -> None:
    log = launch_quick.folder / "log"
    options = ("--entries", "full", "--name", "other", "--max-rows", 2, "--max-body", 400, "--fsync", "--log", log)
    mask = ("--mask", '{"color": "hash", "z": "drop"}')
    address = start(launch_quick, quick, *options, *mask, TRILHO_MASK_KEY="k").wait_until_ready()
    row, probabilities = told(quick)["rows"][0], told(quick)["told"][0]
    reply = ask(address, [row])
    (entry,) = reply.json["predictions"]
    assert (reply.json["model"], entry["id"], entry["version"]) == ("other", reply.json["ids"][0], 4)
    assert entry["score"] == pytest.approx(max(probabilities))
    assert list(entry["probabilities"].values()) == pytest.approx(probabilities)
    assert (ask(address, [row] * 3).status, call(address, "/predict", b" " * 401).status) == (413, 413)
    (line,) = lines_of(log)
    assert line["x"] == {"x": row["x"], "color": Mask.parse({"color": "hash"}, "k").hash(row["color"])}


def test_a_mask_without_its_key_is_one_clear_error(launch_quick: Launcher, quick: Path) -> None:
    running = start(launch_quick, quick, "--mask", '{"color": "hash"}')
    assert running.process.wait(15) == 2
    fact, hint = running.errors.read_text().splitlines()
    assert "there is no key to do it with" in fact
    assert "TRILHO_MASK_KEY" in hint


def killed_under_load(launch: Launcher, quick: Path, log: Path, answers: int) -> tuple[list[str], list[str]]:
    """Kill a server while four callers ask it; give the ids that were acknowledged, and those that were logged."""
    rows = told(quick)["rows"]
    running = start(launch, quick, "--log", log)
    address = running.wait_until_ready()
    acknowledged: list[str] = []

    def some() -> None:
        while True:
            try:
                reply = ask(address, rows[:3])
            except (OSError, http.client.HTTPException):
                return
            acknowledged.extend(reply.json["ids"])

    threads = [threading.Thread(target=some) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(acknowledged) > answers, what="answers")
    running.process.send_signal(signal.SIGKILL)
    running.process.wait(10)
    for thread in threads:
        thread.join()
    whole = b"".join(path.read_bytes() for path in log.glob("*.jsonl"))
    return acknowledged, [json.loads(line)["id"] for line in whole[: whole.rfind(b"\n") + 1].splitlines()]


@pytest.mark.parametrize("answers", [1, 60, 200])
def test_nothing_that_was_answered_is_lost_when_the_server_is_killed(
    launch_quick: Launcher, quick: Path, answers: int
) -> None:
    acknowledged, logged = killed_under_load(launch_quick, quick, launch_quick.folder / "log", answers)
    assert set(acknowledged) <= set(logged)
    assert len(logged) == len(set(logged))


def test_labels_are_of_the_models_classes_and_keep_their_type(launch_quick: Launcher, quick: Path) -> None:
    labels = launch_quick.folder / "own-labels"
    address = start(launch_quick, quick, "--label-dir", labels).wait_until_ready()
    given = [{"id": "a.0", "value": "high"}, {"id": "b.0", "value": "maybe"}, {"id": "c.0", "value": 1}]
    refused = call(address, "/labels", {"labels": [*given, {"id": "d.0", "label": "low"}]})
    assert (refused.status, refused.json["row"], refused.json["accepted"], refused.json["refused"]) == (422, 1, 0, 3)
    assert [(error["row"], error["error"]) for error in refused.json["errors"]] == [
        (1, 'value is "maybe"; wanted one of "high", "low", "middle"'),
        (2, 'value is 1; wanted one of "high", "low", "middle"'),
        (3, 'it has "id", "label"; wanted an object with a value and either an id or a key'),
    ]
    assert lines_of(labels) == []
    partly = call(address, "/labels", {"labels": given, "partial": True})
    assert (partly.status, partly.json["accepted"], partly.json["refused"]) == (200, 1, 2)
    assert [(line["v"], line["id"], line["y"]) for line in lines_of(labels)] == [(2, "a.0", "high")]
    schema = call(address, "/openapi.json").json["components"]["schemas"]["Label"]
    assert [one["properties"]["value"] for one in schema["oneOf"]] == [{"enum": ["high", "low", "middle"]}] * 2
