"""Which Python serves a package: one that has what the package will import.

A package whose compiled form is whole needs numpy and, for a booster, its library. One that is not needs what it was
trained with, which is seldom where the command line lives.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trilho.errors import ConfigError, UsageError
from trilho.serve.endpoint import read_json

BASE = ("trilho_runtime", "numpy", "orjson", "granian")
MODULES = {"scikit-learn": "sklearn", "xgboost-cpu": "xgboost", "python": ""}
LOOK_SECONDS = 60.0
OWN = "trilho's own"
LOOK = "import importlib.util as u, json, sys; print(json.dumps([m for m in sys.argv[1:] if u.find_spec(m) is None]))"


def needs_of(manifest: Mapping[str, Any]) -> list[str]:
    """Give the modules that serving a package imports, by what its manifest says.

    >>> needs_of({"compiled": {"path": "compiled", "needs": ["xgboost"]}, "libraries": {"pandas": "3.0"}})
    ['xgboost']
    >>> needs_of({"libraries": {"pandas": "3.0", "scikit-learn": "1.9", "python": "3.13"}})
    ['pandas', 'sklearn']
    """
    compiled = manifest.get("compiled")
    if isinstance(compiled, Mapping) and isinstance(compiled.get("needs"), Sequence):
        return [str(name).partition(".")[0] for name in compiled["needs"]]
    libraries = manifest.get("libraries")
    names = [MODULES.get(name, name.replace("-", "_")) for name in libraries] if isinstance(libraries, Mapping) else []
    return [name for name in names if name and name not in BASE]


def interpreter_for(package: Path, given: Path | None = None) -> Path:
    """Give the interpreter that can serve a package: the one named, its project's, this one, or the one in use here.

    The last is that of the environment that is active, or else of a .venv in the present folder: looked at only where
    nobody named one and this one lacks something. Raises UsageError naming what an interpreter lacks, ConfigError for
    one that does not run.
    """
    needs = [*BASE, *needs_of(read_json(package / "manifest.json") or {})]
    python, why = _choice(package, given)
    lacking = missing(python, needs)
    if not lacking:
        return python
    if why == OWN and (found := next((near for near in _near() if not missing(near, needs)), None)) is not None:
        return found
    listed = ", ".join(lacking)
    fact = f"{package} needs {listed} to be served, and {python} ({why}) lacks {'it' if len(lacking) == 1 else 'them'}"
    raise UsageError(fact, hint="--python PATH names an interpreter that has, such as the project's .venv/bin/python")


def _choice(package: Path, given: Path | None) -> tuple[Path, str]:
    if given is not None:
        return given, "--python"
    named = os.environ.get("TRILHO_PYTHON")
    if named:
        return Path(named), "TRILHO_PYTHON"
    for folder in package.resolve().parents:
        own = folder / ".venv" / "bin" / "python"
        if (folder / "trilho.toml").is_file() and own.exists():
            return own, "the project's"
    return Path(sys.executable), OWN


def _near() -> list[Path]:
    """Give the interpreters that a person standing here would take: of the active environment, of a .venv."""
    active = [folder for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if (folder := os.environ.get(name))]
    found = [*(Path(folder) / "bin" / "python" for folder in active), Path.cwd() / ".venv" / "bin" / "python"]
    return [python for python in found if python.exists()]


def missing(python: Path, modules: Sequence[str]) -> list[str]:
    """Give the modules that an interpreter does not have. Raises ConfigError when it does not run."""
    hint = "--python PATH of an interpreter, such as .venv/bin/python"
    try:
        done = subprocess.run(
            [str(python), "-c", LOOK, *modules], capture_output=True, text=True, timeout=LOOK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{python} does not run: {getattr(error, 'strerror', None) or error}", hint=hint) from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise ConfigError(f"{python} does not run: {said[-1]}", hint=hint)
    return [str(name) for name in json.loads(done.stdout)]
