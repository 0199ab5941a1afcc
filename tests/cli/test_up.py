"""`trilho up`: everything answers, and everything ends with it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Verb

ROW = {"id": "x1", "time": "2025-05-31T08:00:00", "temp_c": 20.0, "rain_mm": 0.0, "place": "park"}


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "trilho", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def ask(address: str) -> Any:
    body = json.dumps({"instances": [ROW]}).encode()
    request = urllib.request.Request(f"{address}/predict", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_up_answers_and_ends_with_all_that_it_started(trilho: Verb, tmp_path: Path, project_python: Path) -> None:
    folder = tmp_path / "rides"
    trilho("-C", str(tmp_path), "init", "rides", "--python", str(project_python))
    assert trilho("-C", str(folder), "train").code == 0
    assert trilho("-C", str(folder), "release", "1").code == 0
    again = trilho("-C", str(folder), "retrain", "--json")
    assert (again.code, again.json["result"]) == (0, "unchanged")
    assert again.json["note"] == (
        "nothing changed: this version serves already; set [data] served = true, so that rows served and labelled are "
        "learnt from, or bring new data"
    )
    process = started("up", str(tmp_path), "--json")  # a folder of projects
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        address = told["endpoints"]["rides"]
        assert (ask(address)["model"], told["next"]) == ("rides", f"trilho -C {folder}")
        with urllib.request.urlopen(told["console"], timeout=30) as page:
            assert "rides" in page.read().decode()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    with pytest.raises(urllib.error.URLError):
        ask(address)
    assert trilho("-C", str(folder), "labels", "--json").json["served"] == 1


def test_a_port_in_use_is_told(trilho: Verb, tmp_path: Path) -> None:
    trilho("-C", str(tmp_path), "init", "rides")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = started("-C", str(tmp_path / "rides"), "up", "--port", port)
        _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert port in err.splitlines()[0]
    assert err.splitlines()[1].startswith("Hint: ")
    assert len(err.splitlines()) == 2


def test_a_second_platform_leaves_the_first_as_it_is(trilho: Verb, tmp_path: Path) -> None:
    trilho("-C", str(tmp_path), "init", "rides")
    folder = str(tmp_path / "rides")
    process = started("-C", folder, "up", "--json")
    try:
        assert process.stdout is not None
        process.stdout.readline()
        announced = tmp_path / "rides" / ".trilho" / "platform.json"
        before = json.loads(announced.read_text())
        assert (before["pid"], before["models"]) == (process.pid, ["rides"])
        second = trilho("-C", folder, "up")
        assert (second.code, str(process.pid) in second.err) == (5, True)
        assert json.loads(announced.read_text()) == before
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert not announced.exists()


def test_two_projects_with_one_name_are_refused(trilho: Verb, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        trilho("-C", str(tmp_path / folder), "init", "rides")
    said = trilho("up", str(tmp_path / "a" / "rides"), str(tmp_path / "b" / "rides"))
    assert (said.code, said.err.splitlines()[0]) == (2, "two projects have the model name rides")
