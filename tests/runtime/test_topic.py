"""A server whose predictions are published to a topic before they are answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.serving import Launcher, call, notebooks_environment
from tests.runtime.test_publish import TOPIC, Topic, topic

from trilho_runtime.container import serving
from trilho_runtime.serving.arguments import read_arguments

__all__ = ["topic"]  # the fixture


def messages(topic: Topic) -> list[dict[str, Any]]:
    return [json.loads(message) for _, told, _ in topic.calls for message in told]


def test_a_request_is_published_before_it_is_answered_and_shed_where_the_topic_fails(
    launch_quick: Launcher, quick: Path, topic: Topic
) -> None:
    environment = notebooks_environment(PUBSUB_EMULATOR_HOST=topic.address)
    mask = ("--mask", '{"color": "drop"}')
    running = launch_quick.server(quick / "package", "--topic", TOPIC, *mask, env=environment, version=4)
    address = running.wait_until_ready()
    row = json.loads((quick / "told.json").read_bytes())["rows"][0]
    reply = call(address, "/predict", {"instances": [{**row, "unknown": 1}, row]})
    assert "x-trilho-logged" not in reply.headers
    (message,) = messages(topic)
    assert message["deployed_model_id"] == "4"
    kept = {"x": row["x"], "z": row["z"]}
    assert json.loads(message["request_payload"][0]) == {"instances": [kept, kept]}
    told = json.loads(message["response_payload"][0])["predictions"]
    assert [entry["id"] for entry in told] == reply.json["ids"]
    assert [entry["probabilities"] for entry in told] == reply.json["predictions"]

    topic.status = 503
    shed = call(address, "/predict", {"instances": [row]})
    assert (shed.status, shed.headers["x-trilho-logged"]) == (200, "0")
    state = call(address, "/").json["topic"]
    assert (state["topic"], state["published"], state["shed"]) == (TOPIC, 1, 1)
    assert state["why"].startswith("503")
    assert "requests are answered and not published" in running.errors.read_text()


def test_an_answer_that_no_caller_sees_is_not_published(launch_quick: Launcher, quick: Path, topic: Topic) -> None:
    environment = notebooks_environment(PUBSUB_EMULATOR_HOST=topic.address)
    address = launch_quick.server(quick / "package", "--topic", TOPIC, env=environment).wait_until_ready()
    row = json.loads((quick / "told.json").read_bytes())["rows"][0]
    reply = call(address, "/predict", {"instances": [row]}, headers={"x-trilho-shadow": "1"})
    assert (reply.status, topic.calls) == (200, [])


@pytest.mark.parametrize("name", ["served", "projects/p/topics"])
def test_what_names_no_topic_is_one_clear_error(launch_quick: Launcher, quick: Path, name: str) -> None:
    running = launch_quick.server(quick / "package", "--topic", name, env=notebooks_environment())
    assert running.process.wait(15) == 2
    fact, hint = running.errors.read_text().splitlines()
    assert fact == f"the topic is {name!r}; wanted projects/PROJECT/topics/NAME"
    assert hint == "Hint: --topic projects/PROJECT/topics/NAME"


def test_a_container_is_told_its_topic_by_the_environment() -> None:
    assert read_arguments(["package", *serving({"TRILHO_TOPIC": TOPIC})]).topic == TOPIC
