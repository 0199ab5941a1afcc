"""The public names are exactly those that are meant to be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import trilho
from trilho_runtime import pipeline, step


def test_the_public_names_are_sorted_and_exact() -> None:
    assert trilho.__all__ == ["Platform", "Project", "TrainOutcome", "TrilhoError", "package"]
    assert trilho.__all__ == sorted(trilho.__all__)


def test_the_public_names_of_the_runtime_are_what_a_project_needs() -> None:
    steps = ["Artifact", "File", "In", "Metrics", "Model", "Out", "StepError", "Table", "step"]
    assert step.__all__ == steps
    blocks = ["Collected", "FirstOf", "Item", "Param", "Pipeline", "PipelineError", "Status", "Value"]
    assert pipeline.__all__ == blocks
    assert all(hasattr(step, name) for name in steps)
    assert all(hasattr(pipeline, name) for name in blocks)


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


def test_the_emulator_of_the_shell_is_not_inherited_by_tests(tmp_path: Path) -> None:
    kept = {"PATH": os.environ["PATH"], "REQUESTS_CA_BUNDLE": "own.pem"}
    emulated = {name: str(tmp_path) for name in ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST",
                "TRILHO_AIPLATFORM", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "grpc_proxy", "no_grpc_proxy")}  # fmt: skip
    script = (
        "import os, runpy, sys\nrunpy.run_path(sys.argv[1])['pytest_configure']()\n"
        "print(sorted(name for name in os.environ if name in sys.argv[2:]))"
    )
    words = [sys.executable, "-c", script, str(Path(__file__).with_name("conftest.py")), *kept, *emulated]

    def left(environment: dict[str, str]) -> str:
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout

    assert left({**kept, **emulated}) == "['PATH']\n"
    assert left(kept) == "['PATH', 'REQUESTS_CA_BUNDLE']\n"
