"""Which Python serves a package: one that has what it needs, or a sentence that says what is missing."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from trilho.errors import ConfigError, UsageError
from trilho.serve.interpreter import interpreter_for, missing, needs_of

COMPILED = {"compiled": {"path": "compiled", "needs": []}}


def package_in(folder: Path, **manifest: Any) -> Path:
    made = folder / "package"
    made.mkdir(parents=True)
    (made / "manifest.json").write_text(json.dumps(manifest))
    return made


def linked(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return path


def test_a_compiled_package_is_served_by_this_interpreter(tmp_path: Path) -> None:
    assert interpreter_for(package_in(tmp_path, **COMPILED)) == Path(sys.executable)


def test_what_it_lacks_is_named(tmp_path: Path) -> None:
    package = package_in(tmp_path, compiled={"path": "partly", "needs": ["no_such_library", "numpy.random"]})
    with pytest.raises(
        UsageError, match=r"needs no_such_library to be served, and .* \(trilho's own\) lacks it"
    ) as caught:
        interpreter_for(package)
    assert caught.value.hint is not None
    assert "--python PATH" in caught.value.hint


def test_the_named_one_comes_first_then_the_variable_then_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trilho.toml").write_text("")
    own, named, variable = (linked(tmp_path / name / "bin" / "python") for name in (".venv", "a", "b"))
    package = package_in(tmp_path / "models", **COMPILED)
    assert interpreter_for(package) == own
    monkeypatch.setenv("TRILHO_PYTHON", str(variable))
    assert interpreter_for(package) == variable
    assert interpreter_for(package, named) == named


def test_where_this_one_lacks_something_the_active_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there" / "only_there").mkdir(parents=True)
    (tmp_path / "there" / "only_there" / "__init__.py").write_text("")
    active = linked(tmp_path / "env" / "bin" / "python")
    active.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path / "there"} exec {sys.executable} "$@"\n')
    package = package_in(tmp_path, compiled={"path": "partly", "needs": ["only_there"]})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    with pytest.raises(UsageError, match="lacks it"):
        interpreter_for(package)
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "env"))
    assert interpreter_for(package) == active
    monkeypatch.delenv("VIRTUAL_ENV")
    (tmp_path / "env").rename(tmp_path / ".venv")
    assert interpreter_for(package) == tmp_path / ".venv" / "bin" / "python"
    assert interpreter_for(package_in(tmp_path / "other", **COMPILED)) == Path(sys.executable)


def test_one_that_does_not_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not run: No such file or directory"):
        missing(tmp_path / "python", ["numpy"])
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho it is broken >&2\nexit 3\n")
    os.chmod(broken, 0o755)  # noqa: PTH101
    with pytest.raises(ConfigError, match="does not run: it is broken"):
        missing(broken, ["numpy"])


@pytest.mark.parametrize(("manifest", "needs"), [
    ({}, []),
    ({"libraries": {"pandas": "3", "scikit-learn": "1", "xgboost-cpu": "3", "numpy": "2", "python": "3.13"}},
     ["pandas", "sklearn", "xgboost"]),
    ({"compiled": {"needs": ["sklearn.base", "pandas"]}, "libraries": {"lightgbm": "4"}}, ["sklearn", "pandas"]),
    ({"compiled": None, "libraries": None}, []),
])  # fmt: skip
def test_a_manifest_says_what_is_needed(manifest: dict[str, Any], needs: list[str]) -> None:
    assert needs_of(manifest) == needs
