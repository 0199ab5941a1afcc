"""The project's interpreter: the notebook's libraries as they are, trilho-runtime, and no trilho."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.adopt.parity_world import NOTEBOOK_PYTHON

from trilho.adopt.environment import look, make_environment, requirements, satisfies
from trilho.errors import TrilhoError, UsageError

ASK = """
import importlib.util, json, sys, numpy, pandas, trilho_runtime
from importlib.metadata import version
print(json.dumps({"numpy": numpy.__file__, "runtime": trilho_runtime.__file__, "prefix": sys.prefix,
                  "trilho": importlib.util.find_spec("trilho") is not None, "version": version("trilho-runtime")}))
"""


@pytest.fixture(scope="module")
def notebook() -> Path:
    if not NOTEBOOK_PYTHON.exists():
        pytest.skip("tests/notebooks/.venv is absent: make notebooks")
    return NOTEBOOK_PYTHON


def listing(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.iterdir()}


def fake_numpy(base: Path) -> Path:
    """Make an environment with a numpy of the name only, and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(base)], check=True, timeout=60)
    packages = next(base.glob("lib/python*/site-packages"))
    (packages / "numpy.py").write_text("__version__ = '2.0.0'\n")
    about = packages / "numpy-2.0.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 2.0.0\n")
    return base / "bin" / "python"


def write_wheel(folder: Path, name: str, version: str) -> None:
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"__version__ = {version!r}\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{about}/RECORD", f"{record}{about}/RECORD,,\n")


def test_the_notebooks_libraries_and_the_runtime_are_found(notebook: Path, tmp_path: Path) -> None:
    packages = next(notebook.parents[1].glob("lib/python*/site-packages"))
    before = listing(packages)
    python = make_environment(tmp_path, str(notebook))
    assert python == tmp_path / ".venv" / "bin" / "python"
    found = json.loads(subprocess.run([str(python), "-c", ASK], capture_output=True, text=True, check=True).stdout)
    assert found["numpy"].startswith(str(packages))
    assert found["runtime"].startswith(str(tmp_path))
    assert found["prefix"] == str(tmp_path / ".venv")
    assert found["trilho"] is False
    assert found["version"] == "0.1.0"
    assert listing(packages) == before
    assert make_environment(tmp_path, str(notebook)) == python  # again: nothing in the way


def test_what_is_installed_editable_is_found_too(notebook: Path, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "ours.py").write_text("answer = 42\n")
    python = fake_numpy(tmp_path / "base")
    next((tmp_path / "base").glob("lib/python*/site-packages")).joinpath("ours.pth").write_text(f"{source}\n")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name, version in (("granian", "2.9.0"), ("orjson", "3.11.0")):
        write_wheel(wheels, name, version)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(wheels))
        made = make_environment(tmp_path / "project", str(python))
    told = subprocess.run(
        [str(made), "-c", "import ours, granian, numpy; print(ours.answer, granian.__version__, numpy.__version__)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.split() == ["42", "2.9.0", "2.0.0"]
    assert "granian" not in look(str(python)).versions


def test_without_an_index_two_lines_say_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = fake_numpy(tmp_path / "base")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(TrilhoError) as error:
        make_environment(tmp_path / "project", str(python))
    fact, hint = str(error.value).splitlines()
    assert "lacks granian<3,>=2.5, orjson>=3.10, which trilho-runtime needs, and it cannot be installed" in fact
    assert hint.startswith(f"Hint: {python} -m pip --python ")


@pytest.mark.parametrize("numpy", ["1.24.4", ""])
def test_a_numpy_that_is_too_old_or_absent_is_never_replaced(tmp_path: Path, numpy: str) -> None:
    python = fake_numpy(tmp_path / "base")
    packages = next((tmp_path / "base").glob("lib/python*/site-packages"))
    about = packages / "numpy-2.0.0.dist-info" / "METADATA"
    about.write_text(about.read_text().replace("2.0.0", numpy) if numpy else "Name: other\nVersion: 1\n")
    with pytest.raises(
        UsageError, match=f"has {f'numpy {numpy}' if numpy else 'no numpy'}; trilho-runtime needs numpy>=1.26"
    ):
        make_environment(tmp_path / "project", str(python))
    assert not (tmp_path / "project").exists()


def test_what_is_no_interpreter_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path}/none cannot be asked for its libraries: No such file"):
        make_environment(tmp_path, str(tmp_path / "none"))


def test_an_old_python_is_refused(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho \'{"version": [3, 8, 1], "sites": [], "others": [], "versions": {}}\'\n')
    os.chmod(python, 0o755)  # noqa: PTH101
    with pytest.raises(UsageError, match=r"is Python 3\.8\.1; trilho-runtime needs 3\.10 or newer"):
        make_environment(tmp_path / "project", str(python))


@pytest.mark.parametrize(
    ("version", "specifier", "fits"),
    [("2.8.7", "<3,>=2.5", True), ("3.0", "<3,>=2.5", False), ("2.4", "<3,>=2.5", False), ("0", "", True),
     ("1.26", ">=1.26.0", True), ("2!1.0", ">=1.26", True)],
)  # fmt: skip
def test_versions_are_held_against_bounds(version: str, specifier: str, fits: bool) -> None:
    assert satisfies(version, specifier) is fits
    assert set(requirements()) == {"granian", "numpy", "orjson"}


def test_what_is_lacking_is_said_before_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from trilho.adopt import environment

    def has(**versions: str) -> None:
        there = environment.Surroundings((3, 11, 7), (), (), versions)
        monkeypatch.setattr(environment, "look", lambda interpreter: there)

    has(numpy="2.1.0")
    assert environment.require_usable(sys.executable).version == (3, 11, 7)
    with pytest.raises(UsageError, match="has no pyarrow"):
        environment.require_usable(sys.executable, tables=True)
    has(numpy="1.20.0", pyarrow="19.0")
    with pytest.raises(UsageError, match=r"has numpy 1\.20\.0"):
        environment.require_usable(sys.executable, tables=True)
    has(numpy="2.1.0", pyarrow="19.0")
    monkeypatch.setattr(environment, "has_module", lambda interpreter, name: name != "venv")
    with pytest.raises(UsageError, match="no module venv"):
        environment.require_usable(sys.executable, tables=True)


def test_modules_of_an_interpreter_are_found() -> None:
    from trilho.adopt.environment import has_module

    assert has_module(sys.executable, "numbers")
    assert not has_module(sys.executable, "no_such_module_here")
