"""What `trilho --help` lists, and how soon."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trilho.cli.app import ORDER

if TYPE_CHECKING:
    from tests.cli.conftest import Verb


def test_help_lists_every_verb_in_the_order_of_a_models_life(trilho: Verb) -> None:
    said = trilho("--help")
    listed = [line.split()[0] for line in said.out.partition("Commands:")[2].splitlines() if line.strip()]
    assert (said.code, listed) == (0, list(ORDER))
    assert "..." not in said.out.partition("Commands:")[2]  # every sentence fits


@pytest.mark.parametrize("verb", ORDER)
def test_every_verb_explains_itself(trilho: Verb, verb: str) -> None:
    said = trilho(verb, "--help")
    assert said.code == 0
    assert "-C DIR" in said.out
    assert "--json" in said.out


@pytest.mark.parametrize("verb", [["train"], ["release"], ["models", "show"], ["journal", "verify"], ["up"]])
def test_verbs_give_examples_that_can_be_copied(trilho: Verb, verb: list[str]) -> None:
    said = trilho(*verb, "--help")
    examples = said.out.partition("Examples:")[2]
    assert f"trilho {' '.join(verb)}" in examples


def test_help_is_there_within_a_quarter_of_a_second(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # bytecode compiled, as it is once installed
    took = []
    for _ in range(4):
        before = _seconds_of_children()
        subprocess.run([sys.executable, "-m", "trilho", "--help"], env=environment, check=True, capture_output=True)
        took.append(_seconds_of_children() - before)
    assert min(took) <= 0.25


def _seconds_of_children() -> float:
    """Give their processor time: unlike the clock it does not count what else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, trilho.cli.app; print(sorted(set(sys.modules) & {'duckdb', 'numpy', 'pydantic', 'rich'}))"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "[]"
