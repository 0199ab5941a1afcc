"""Values that are longer than the system lets an argument be."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trilho.errors import StepFailed
from trilho.pipeline.places import Places
from trilho.pipeline.workers.command import ephemeral
from trilho.pipeline.workers.workers import LONGEST, Leaf, Workers

SCRIPT = """program_path=$(mktemp -d)

printf "%s" "$0" > "$program_path/ephemeral_component.py"
_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main                         --component_module_path                         "$program_path/ephemeral_component.py"                         "$@"
"""  # noqa: E501
SOURCE = "def size(text: str) -> int:\n    return len(text)\n"
TEXT = 'é"x' * LONGEST


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    python = Path(sys.executable)
    with Workers(Places(python=python, source=None, folder=tmp_path, platform=python, install=False), tmp_path) as made:
        yield made


def leaf(tmp_path: Path, command: list[str]) -> Leaf:
    return Leaf(name="t", image="x", command=command, request={}, log=tmp_path / "t.log", scratch=tmp_path)


def test_a_component_is_given_a_value_of_any_length(workers: Workers, tmp_path: Path) -> None:
    request = {
        "inputs": {"parameterValues": {"text": TEXT}},
        "outputs": {"outputFile": str(tmp_path / "out.json"), "parameters": {"Output": {"outputFile": "unused"}}},
    }
    words = ["sh", "-ec", SCRIPT, SOURCE, "--executor_input", json.dumps(request), "--function_to_execute", "size"]
    ended = workers.run(leaf(tmp_path, words))
    assert ended.code == 0, ended.said
    assert json.loads((tmp_path / "out.json").read_text())["parameterValues"] == {"Output": len(TEXT)}


def test_any_other_command_is_told_what_the_system_allows(workers: Workers, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=f"a word of its command has {LONGEST + 1} bytes, and the system allows"):
        workers.run(leaf(tmp_path, ["echo", "x" * (LONGEST + 1)]))


def test_only_the_sdk_s_own_script_is_run_in_another_way() -> None:
    assert ephemeral(["sh", "-ec", SCRIPT, "source", "--a"]) == ("kfp.dsl.executor_main", "source", ("--a",))
    assert ephemeral(["sh", "-ec", SCRIPT + "; true", "source", "--a"]) is None
