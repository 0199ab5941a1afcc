"""`trilho serve` as a user types it: a package, a project, or a mistake."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Made, Verb
from tests.runtime.serving import ANSWER, ROW, call, make_package, until
from tests.runtime.test_workers import Callers


@pytest.fixture(scope="module")
def package(project_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    done = make_package(project_python, folder)
    assert done.returncode == 0, done.stderr
    return folder / "package"


class Served:
    """A `trilho serve` that runs, and the object that it printed."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.log = (folder / "said.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trilho", "serve", *map(str, arguments), "--json"],
            stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=folder,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (folder / "said.txt").read_text()
        self.told: dict[str, Any] = json.loads(line)

    @property
    def address(self) -> str:
        return str(self.told["address"])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[list[Served]]:
    started: list[Served] = []
    yield started
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(10)
        one.log.close()


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_bytes().splitlines()]


def test_a_package_is_served_and_says_how_to_ask(
    served: list[Served], package: Path, project_python: Path, tmp_path: Path
) -> None:
    served.append(Served(tmp_path, package, "--python", project_python, "--version", 3, "--workers", 2))
    one = served[-1]
    words = shlex.split(one.told["next"])
    assert words[:3] == ["curl", "-s", f"{one.address}/predict"]
    answer = call(one.address, "/predict", words[4].encode())
    assert answer.status == 200
    assert (answer.json["version"], one.told["version"], one.told["model"], one.told["workers"]) == (3, 3, "tiny", 2)
    assert one.told["protocols"] == {
        "vertex": "POST /predict", "open inference v2": "POST /v2/models/tiny/infer",
    }  # fmt: skip
    assert call(one.address, "/labels", {"labels": [{"id": answer.json["ids"][0], "value": 1}]}).status == 200
    callers = Callers(one.address)
    until(lambda: len(callers.ids) > 50)
    assert one.stop() == 0
    callers.end()
    assert callers.failures == []
    log = tmp_path / ".trilho" / "log" / "tiny"
    assert sorted(line["id"] for line in lines(log / "predictions")) == sorted([*callers.ids, *answer.json["ids"]])
    assert [line["id"] for line in lines(log / "labels")] == answer.json["ids"]


def test_entries_and_no_log(served: list[Served], package: Path, project_python: Path, tmp_path: Path) -> None:
    served.append(Served(tmp_path, package, "--python", project_python, "--entries", "full", "--log", "none"))
    entry = call(served[-1].address, "/predict", {"instances": [ROW]}).json["predictions"][0]
    assert (entry["score"], entry["version"]) == (ANSWER, 1)
    assert served[-1].told["log"] is None
    assert not (tmp_path / ".trilho").exists()


def test_a_server_that_ends_is_said(served: list[Served], package: Path, project_python: Path, tmp_path: Path) -> None:
    served.append(Served(tmp_path, package, "--python", project_python))
    os.kill(served[-1].told["pid"], signal.SIGKILL)
    assert served[-1].process.wait(20) == 1


def test_what_this_interpreter_lacks_is_named(trilho: Verb, package: Path) -> None:
    said = trilho("serve", str(package))
    assert said.code == 2
    fact, hint = said.err.splitlines()
    assert "needs pandas" in fact
    assert hint.startswith("Hint: --python PATH")


@pytest.mark.parametrize(("arguments", "said"), [
    (("no/such/folder",), "is no folder"),
    ((".",), "is neither a model package (no manifest.json) nor a project (no trilho.toml)"),
    (("--entries", "whole"), "--entries is 'whole'; allowed: plain, full"),
])  # fmt: skip
def test_mistakes_are_said_in_two_lines(
    trilho: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = trilho("serve", *arguments)
    assert found.code == 2
    assert len(found.err.splitlines()) == 2
    assert said in found.err


def test_a_package_that_was_changed_is_refused(trilho: Verb, package: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes((package / "manifest.json").read_bytes())
    said = trilho("serve", str(tmp_path))
    assert said.code == 1
    assert "but the manifest lists it" in said.err


def test_a_storage_that_is_away_may_be_asked_again(trilho: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trilho_runtime.processes.download.ATTEMPTS", 1)
    said = trilho("serve", "http://127.0.0.1:1/model")
    assert said.code == 5
    assert len(said.err.splitlines()) == 2


def test_an_open_address_needs_a_word(trilho: Verb, package: Path) -> None:
    said = trilho("serve", str(package), "--host", "0.0.0.0")
    assert said.code == 2
    assert "no caller would be asked who it is" in said.err


class TestProjects:
    def test_without_a_version_it_has_to_be_trained(self, trilho: Verb, made: Made) -> None:
        said = trilho("serve")
        assert (said.code, said.err) == (
            4, "no version of bikes is released, and none was trained\nHint: trilho train\n",
        )  # fmt: skip

    def test_a_trained_version_can_be_released(self, trilho: Verb, made: Made, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
        made.version(1)
        made.version(2)
        monkeypatch.chdir(tmp_path)
        said = trilho("serve", "bikes")
        assert said.code == 4
        assert said.err.splitlines() == [
            "no version of bikes is released; trained: 1, 2", "Hint: trilho -C bikes release 2",
        ]  # fmt: skip

    def test_what_a_project_keeps_itself_is_not_asked(self, trilho: Verb, made: Made) -> None:
        said = trilho("serve", "--log", "here")
        assert said.code == 2
        assert "--log is for a package" in said.err

    def test_an_open_address_needs_keys(self, trilho: Verb, made: Made) -> None:
        said = trilho("serve", "--host", "0.0.0.0")
        assert said.code == 2
        assert "serve.api_keys" in said.err
