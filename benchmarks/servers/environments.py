"""An environment for each product, with the very libraries that the model was fitted with.

They are made from the package registry when they are first needed, by uv where it is there (or the program in `UV`) and
by venv and pip otherwise, and are kept in the folder given: a second run installs nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.answering import PYTHON
from benchmarks.measure import environment
from benchmarks.servers.products import Product

MODEL_LIBRARIES = ("joblib", "numpy", "pandas", "scikit-learn", "scipy", "xgboost-cpu")
INSTALL_SECONDS = 600


class NotInstalled(Exception):
    """A product's environment cannot be made; the text says why."""


def versions(python: Path, names: Sequence[str]) -> dict[str, str]:
    """Ask an interpreter which versions it has."""
    code = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    done = subprocess.run([str(python), "-c", code, *names], capture_output=True, check=True, timeout=60)
    return {str(name): str(version) for name, version in json.loads(done.stdout).items()}


def pins(found: Mapping[str, str]) -> list[str]:
    """Name libraries with exactly these versions.

    >>> pins({"numpy": "2.4.6", "pandas": "3.1.1"})
    ['numpy==2.4.6', 'pandas==3.1.1']
    """
    return [f"{name}=={version}" for name, version in found.items()]


def programs(product: Product, cache: Path) -> Path:
    """Give the folder of the product's programs, made first if need be. Raises NotInstalled."""
    place = cache / product.package
    bin_folder, done = place / "bin", place / "installed.txt"
    wanted = [*pins(versions(PYTHON, MODEL_LIBRARIES)), *product.needs]
    if done.exists() and done.read_text().splitlines() == wanted:
        return bin_folder
    shutil.rmtree(place, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    for command in _commands(place, wanted):
        _run(command)
    done.write_text("\n".join(wanted))
    return bin_folder


def _commands(place: Path, wanted: Sequence[str]) -> list[list[str]]:
    uv = os.environ.get("UV") or shutil.which("uv")
    python = str(place / "bin" / "python")
    if uv:
        return [
            [uv, "venv", "--quiet", "--python", str(PYTHON.resolve()), str(place)],
            [uv, "pip", "install", "--quiet", "--python", python, *wanted],
        ]
    return [
        [str(PYTHON.resolve()), "-m", "venv", str(place)],
        [python, "-m", "pip", "install", "--quiet", *wanted],
    ]


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=INSTALL_SECONDS,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(str(error)) from None
    if done.returncode:
        raise NotInstalled(last_line(done.stderr))


def last_line(text: str) -> str:
    """Give the last line that has something on it.

    >>> last_line("a warning\\nno solution found\\n\\n"), last_line("")
    ('no solution found', 'it said nothing')
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
