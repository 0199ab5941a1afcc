"""A server that pushes its live profile, and answers all the same where it cannot."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.serving import Launcher, call, notebooks_environment
from tests.watch.live.test_away import TOPIC, PubSub, pubsub

from trilho_runtime.container import serving
from trilho_runtime.serving.arguments import read_arguments

__all__ = ["pubsub"]  # the fixture


def test_a_server_pushes_its_profile_to_a_topic_and_predicts_where_it_cannot(
    launch_quick: Launcher, quick: Path, pubsub: PubSub
) -> None:
    environment = notebooks_environment(PUBSUB_EMULATOR_HOST=pubsub.address)
    how = ("--profile-topic", TOPIC, "--profile-seconds", "0.1")
    running = launch_quick.server(quick / "package", *how, env=environment, version=4)
    address = running.wait_until_ready()
    row = json.loads((quick / "told.json").read_bytes())["rows"][0]
    pubsub.failing = True
    assert call(address, "/predict", {"instances": [row]}).status == 200
    _wait(lambda: "the live profile is not pushed" in running.errors.read_text())
    assert call(address, "/predict", {"instances": [row] * 2}).status == 200
    pubsub.failing = False
    _wait(lambda: bool(pubsub.published) and _told(pubsub)["rows"] == 3)
    assert _told(pubsub)["version"] == 4


@pytest.mark.parametrize("how", [("--profiles", "s3://a/b"), ("--profile-topic", "served")])
def test_what_is_no_place_for_profiles_is_one_clear_error(
    launch_quick: Launcher, quick: Path, how: tuple[str, str]
) -> None:
    running = launch_quick.server(quick / "package", *how, env=notebooks_environment())
    assert running.process.wait(15) == 2
    fact, hint = running.errors.read_text().splitlines()
    assert "wanted" in fact
    assert hint == "Hint: --profiles DIR or gs://BUCKET/PATH, --profile-topic projects/PROJECT/topics/NAME"


def test_a_container_is_told_where_its_profile_goes_by_the_environment() -> None:
    told = {"TRILHO_LOG": "/log", "TRILHO_PROFILES": "gs://b/p", "TRILHO_PROFILE_TOPIC": TOPIC}
    given = read_arguments(["package", *serving({**told, "TRILHO_PROFILE_SECONDS": "10"})])
    assert (given.profiles, given.profile_topic, given.profile_seconds) == ("gs://b/p", TOPIC, 10.0)


def _told(pubsub: PubSub) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b64decode(pubsub.published[-1]["data"]))
    return found


def _wait(happened: Any) -> None:
    import time

    until = time.monotonic() + 15
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)
