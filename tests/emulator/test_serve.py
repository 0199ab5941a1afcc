"""The emulator in this process: what it wires together, logs, Pub/Sub's absence."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.cloud.aiplatform_v1")

from trilho.backends.local.store import LocalStore
from trilho.cli import emulate
from trilho.errors import Unreachable
from trilho.pipeline.places import Places
from trilho.pipeline.workers.workers import Workers
from trilho.testing.emulator import pubsub
from trilho.testing.emulator.rules import Rules
from trilho.testing.emulator.serve import Emulator


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    python = Path(sys.executable)
    places = Places(python=python, source=None, folder=tmp_path, platform=python, environment={"MINE": "1"})
    store = LocalStore(tmp_path / "store")
    with Emulator(tmp_path / "root", places=places, store=store, rules=Rules(), pubsub=False) as started:
        yield started


def ask(emulator: Emulator, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(emulator.environment["STORAGE_EMULATOR_HOST"] + path, data) as answer:
        return json.load(answer)


def test_what_cannot_be_stopped_does_not_keep_the_rest_going(tmp_path: Path) -> None:
    python = Path(sys.executable)
    places = Places(python=python, source=None, folder=tmp_path, platform=python)

    def made() -> Emulator:
        return Emulator(tmp_path / "root", places=places, store=LocalStore(tmp_path / "store"), pubsub=False)

    def stuck() -> None:
        raise OSError("it does not stop")

    first = made()
    address = first.start()["STORAGE_EMULATOR_HOST"]
    first._closing.callback(stuck)
    with pytest.raises(OSError, match="it does not stop"):
        first.stop()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address)
    with made():  # the folder's lock is free as well
        pass


def test_steps_find_the_emulator_and_its_buckets(emulator: Emulator, tmp_path: Path) -> None:
    environment = emulator.places.environment
    assert environment["MINE"] == "1"
    assert environment["STORAGE_EMULATOR_HOST"] == emulator.environment["STORAGE_EMULATOR_HOST"]
    assert json.loads(environment["TRILHO_MOUNTS"]) == {"gs://": f"{tmp_path / 'root' / 'buckets'}/"}
    assert emulator.places.local("gs://data/x") == tmp_path / "root" / "buckets" / "data" / "x"
    assert "PUBSUB_EMULATOR_HOST" not in environment


def test_what_components_install_is_shared_by_all_projects(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert emulator.places.environments == tmp_path / "root"
    with Workers(emulator.places, tmp_path / "home") as workers:
        assert workers._environments._root == tmp_path / "root" / "environments"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert emulate._cache() == tmp_path / "cache" / "trilho"
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    assert emulate._cache() is None


def test_two_buckets_are_there(emulator: Emulator) -> None:
    names = [bucket["name"] for bucket in ask(emulator, "/storage/v1/b?project=trilho-emulated")["items"]]
    assert names == ["trilho-emulated-trilho", "trilho-emulated-vertex-staging-southamerica-east1"]


def test_an_unknown_method_is_named(emulator: Emulator) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(emulator, "/storage/v1/b/x/lifecycle")
    assert json.load(caught.value)["error"]["message"] == "trilho emulate has no method GET /storage/v1/b/x/lifecycle."


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example:80"}]
)
def test_no_web_page_is_answered(emulator: Emulator, headers: dict[str, str]) -> None:
    address = emulator.environment["STORAGE_EMULATOR_HOST"]
    asked = urllib.request.Request(f"{address}/apis/v2beta1/healthz", headers=headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(asked)
    assert caught.value.code == 403
    assert ask(emulator, "/apis/v2beta1/healthz") == {}


class TestLogs:
    def entries(self, emulator: Emulator, chosen: str, **more: Any) -> list[str]:
        asked = {"resourceNames": ["projects/trilho-emulated"], "filter": chosen, **more}
        return [entry["jsonPayload"]["message"] for entry in ask(emulator, "/v2/entries:list", asked)["entries"]]

    def test_a_tasks_lines_are_found(self, emulator: Emulator) -> None:
        for job, task, line in (("1", "fit", "one"), ("2", "fit", "two"), ("1", "fit", "three words")):
            emulator.logs.append(job, task, line)
        job = 'resource.type="ml_job" AND resource.labels.job_id="1"'
        assert self.entries(emulator, job) == ["one", "three words"]
        assert self.entries(emulator, f"{job} words") == ["three words"]
        assert self.entries(emulator, f"NOT ({job}) severity>=INFO") == ["two"]
        assert self.entries(emulator, 'labels.task_name="fit" -jsonPayload.message=~"^t"') == ["one"]
        assert self.entries(emulator, 'resource.labels.job_id:"2" OR jsonPayload.message="one"') == ["one", "two"]
        assert self.entries(emulator, "", orderBy="timestamp desc", pageSize=1) == ["three words"]

    def test_pages(self, emulator: Emulator) -> None:
        for number in range(5):
            emulator.logs.append("1", "fit", str(number))
        asked: dict[str, Any] = {"resourceNames": ["projects/trilho-emulated"], "pageSize": 2}
        found, token = [], ""
        for _ in range(3):
            page = ask(emulator, "/v2/entries:list", {**asked, "pageToken": token})
            found += [entry["jsonPayload"]["message"] for entry in page["entries"]]
            token = page.get("nextPageToken", "")
        assert (found, token) == (["0", "1", "2", "3", "4"], "")

    @pytest.mark.parametrize("chosen", ['resource.type="ml_job', "(a=1", "a=", "AND AND ="])
    def test_a_broken_filter_is_refused(self, emulator: Emulator, chosen: str) -> None:
        with pytest.raises(urllib.error.HTTPError) as caught:
            self.entries(emulator, chosen)
        assert (caught.value.code, "Unparseable filter" in json.load(caught.value)["error"]["message"]) == (400, True)


class TestPubSub:
    def test_it_is_found_in_the_cloud_sdk(self, tmp_path: Path) -> None:
        folder = tmp_path / "platform" / "pubsub-emulator" / "lib"
        folder.mkdir(parents=True)
        assert pubsub.find_jar([tmp_path]) is None
        jar = folder / "cloud-pubsub-emulator-0.8.20-all.jar"
        jar.touch()
        assert pubsub.find_jar([tmp_path / "none", tmp_path]) == jar

    def test_one_that_does_not_start_is_told_and_ended(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        broken = tmp_path / "java"
        broken.write_text('#!/bin/sh\necho "Exception in thread main: no memory"\n')
        broken.chmod(0o755)
        monkeypatch.setattr("shutil.which", lambda name: str(broken))
        child = pubsub.PubSub(tmp_path / "x.jar", tmp_path)
        child.start()
        with pytest.raises(Unreachable, match="Exception in thread main: no memory"):
            child.wait()
        child.stop()

    def test_its_absence_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pubsub, "find_jar", lambda: None)
        said: list[str] = []
        places = Places(python=Path(sys.executable), source=None, folder=tmp_path, platform=Path(sys.executable))
        with Emulator(tmp_path / "root", places=places, store=LocalStore(tmp_path), say=said.append) as started:
            assert "PUBSUB_EMULATOR_HOST" not in started.environment
        assert said == [
            "Pub/Sub is not emulated: Google's own emulator is not installed "
            "(gcloud components install pubsub-emulator)."
        ]
