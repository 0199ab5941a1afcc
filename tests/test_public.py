"""The public names are exactly those that are meant to be."""

from __future__ import annotations

import subprocess
import sys

import pytest

import trilho


def test_the_public_names_are_sorted_and_exact() -> None:
    assert trilho.__all__ == ["Platform", "Project", "TrainOutcome", "TrilhoError"]
    assert trilho.__all__ == sorted(trilho.__all__)


@pytest.mark.parametrize("name", trilho.__all__)
def test_each_public_name_is_what_it_says(name: str) -> None:
    assert getattr(trilho, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Projekt'"):
        trilho.Projekt  # noqa: B018


def test_importing_trilho_imports_nothing_heavy() -> None:
    script = "import sys, trilho; print([m for m in ('duckdb', 'numpy', 'pydantic', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
