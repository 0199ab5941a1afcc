"""The project's interpreter: the notebook's libraries as they are, and trilho-runtime beside them.

PROJECT/.venv is a virtual environment of the notebook's Python. A .pth file in it leads to the notebook's own
site-packages, which are read and never written; only what trilho-runtime lacks there is installed, into .venv.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trilho.errors import TrilhoError, UsageError
from trilho.pipeline.workers.environment import clean

RUNTIME = "trilho-runtime"
MODULE = "trilho_runtime"
LINKS = "notebook_environment.pth"
OLDEST = (3, 10)
KEPT = ("numpy",)  # the notebook's own version, or none
SECONDS = 60.0
INSTALL_SECONDS = 300.0
SPECIFIER = re.compile(r"(>=|<=|==|!=|~=|<|>)\s*([\w.]+)")
ASK = """
import json, os, site, sys, sysconfig
from importlib import metadata
paths = sysconfig.get_paths()
own = {os.path.realpath(paths[key]) for key in ("stdlib", "platstdlib") if key in paths}
own |= {os.path.join(folder, "lib-dynload") for folder in own}
sites = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
sites = [folder for folder in sites if os.path.isdir(folder)]
others = [folder for folder in sys.path[1:] if os.path.isdir(folder) and os.path.realpath(folder) not in own]
found = {(d.metadata["Name"] or "").lower().replace("_", "-"): d.version for d in reversed(list(metadata.distributions()))}
print(json.dumps({"version": list(sys.version_info[:3]), "sites": sites, "versions": found,
                  "others": [folder for folder in others if folder not in sites]}))
"""  # noqa: E501


@dataclass(frozen=True)
class Surroundings:
    """What an interpreter finds: its version, its folders of libraries, and the distributions in them."""

    version: tuple[int, ...]
    sites: tuple[str, ...]
    others: tuple[str, ...]  # folders that .pth files lead to
    versions: Mapping[str, str]


def make_environment(project: Path, interpreter: str, runtime: str = RUNTIME) -> Path:
    """Make PROJECT/.venv and give its interpreter.

    `runtime` is what pip is asked for to get trilho-runtime, for messages. Raises UsageError for a Python or numpy
    that is too old, TrilhoError where the environment can't be made or a library can't be installed.
    """
    theirs = look(interpreter)
    _require(theirs, interpreter)
    folder = Path(os.path.abspath(project)) / ".venv"  # noqa: PTH100  no link followed
    python = folder / "bin" / "python"
    _run([interpreter, "-m", "venv", "--without-pip", str(folder)], f"{folder} cannot be made")
    packages = _site_packages(folder)
    _link(packages / LINKS, theirs)
    _copy_runtime(packages)
    missing = _missing(look(str(python)).versions)
    if missing:
        _install(missing, interpreter, python, theirs.versions)
    _check(python, theirs, runtime)
    return python


def require_usable(interpreter: str, *, tables: bool = False) -> Surroundings:
    """Raise UsageError where no project could live in an interpreter's environment; with `tables` it needs Parquet.

    Asked before a notebook is run, which may take hours.
    """
    theirs = look(interpreter)
    _require(theirs, interpreter)
    if tables and "pyarrow" not in theirs.versions:
        raise UsageError(
            f"{interpreter} has no pyarrow; the project keeps its data as Parquet, which pandas cannot write without",
            hint=f"{interpreter} -m pip install pyarrow",
        )
    if not has_module(interpreter, "venv"):
        raise UsageError(
            f"{interpreter} has no module venv, which makes the project's environment",
            hint="install it (python3-venv on Debian), or name another interpreter with --python",
        )
    return theirs


def has_module(interpreter: str, name: str) -> bool:
    """Say whether an interpreter finds a module of this name among its libraries."""
    ask = "import importlib.util, sys; sys.path[:] = [p for p in sys.path if p]; " \
          "sys.exit(0 if importlib.util.find_spec(sys.argv[1]) else 9)"  # fmt: skip
    done = subprocess.run([interpreter, "-c", ask, name], capture_output=True, timeout=SECONDS, env=clean(os.environ))
    return done.returncode == 0


def look(interpreter: str) -> Surroundings:
    """Ask an interpreter what it finds. Raises UsageError where it does not answer."""
    environment = clean(os.environ)
    try:
        done = subprocess.run(
            [interpreter, "-c", ASK], capture_output=True, text=True, timeout=SECONDS, env=environment, check=True
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise UsageError(
            f"{interpreter} cannot be asked for its libraries: {_reason(error)}",
            hint="--python names the interpreter that the notebook runs in",
        ) from None
    return Surroundings(tuple(found["version"]), tuple(found["sites"]), tuple(found["others"]), found["versions"])


def requirements() -> dict[str, str]:
    """Give what trilho-runtime needs, as specifiers by name.

    >>> sorted(requirements())
    ['granian', 'numpy', 'orjson']
    """
    found = {}
    for line in importlib.metadata.requires(RUNTIME) or []:
        name = re.match(r"[\w.-]+", line)
        if name and "extra ==" not in line:
            found[name[0].lower()] = line[name.end() :].partition(";")[0].strip()
    return found


def satisfies(version: str, specifier: str) -> bool:
    """Say whether a version is within the bounds of a specifier; parts that are no numbers do not count.

    >>> satisfies("2.8.7", "<3,>=2.5"), satisfies("1.7", "<3,>=2.5"), satisfies("2.0rc1", ">=1.26")
    (True, False, True)
    """
    have = _numbers(version)
    for sign, text in SPECIFIER.findall(specifier):
        want = _numbers(text)
        length = max(len(have), len(want))
        a, b = ((*x, *[0] * (length - len(x))) for x in (have, want))
        if not {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, "<": a < b, ">": a > b, "~=": a >= b}[sign]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def _require(theirs: Surroundings, interpreter: str) -> None:
    version = ".".join(map(str, theirs.version))
    if theirs.version < OLDEST:
        raise UsageError(
            f"{interpreter} is Python {version}; {RUNTIME} needs {'.'.join(map(str, OLDEST))} or newer",
            hint="run the notebook with a newer Python, and name that with --python",
        )
    for name in KEPT:
        wanted, found = requirements().get(name, ""), theirs.versions.get(name)
        if found is None or not satisfies(found, wanted):
            raise UsageError(
                f"{interpreter} has {f'{name} {found}' if found else f'no {name}'}; {RUNTIME} needs {name}{wanted}",
                hint=f'{interpreter} -m pip install "{name}{wanted}", and run the notebook again',
            )


def _site_packages(folder: Path) -> Path:
    found = sorted(folder.glob("lib/python*/site-packages"))
    if not found:
        raise TrilhoError(f"{folder} has no site-packages: its Python lays environments out in another way")
    return found[0]


def _link(file: Path, theirs: Surroundings) -> None:
    """Lead to the notebook's libraries: its own .pth files count too, so that what is installed editable is found."""
    lines = [f"import site; site.addsitedir({folder!r})" for folder in theirs.sites]
    file.write_text("".join(f"{line}\n" for line in [*lines, *theirs.others]), encoding="utf-8")


def _copy_runtime(packages: Path) -> None:
    """Copy trilho-runtime from where it is here, so that the project depends on no folder of this machine's."""
    import trilho_runtime

    source = Path(trilho_runtime.__file__).parent
    shutil.rmtree(packages / MODULE, ignore_errors=True)
    shutil.copytree(source, packages / MODULE, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    told = importlib.metadata.distribution(RUNTIME)
    about = packages / f"{MODULE}-{told.version}.dist-info"
    shutil.rmtree(about, ignore_errors=True)
    about.mkdir()
    (about / "METADATA").write_text(told.read_text("METADATA") or "", encoding="utf-8")
    (about / "INSTALLER").write_text("trilho\n", encoding="utf-8")
    files = sorted(path for top in (packages / MODULE, about) for path in top.rglob("*") if path.is_file())
    listed = [*(path.relative_to(packages).as_posix() for path in files), f"{about.name}/RECORD"]
    (about / "RECORD").write_text("".join(f"{name},,\n" for name in listed), encoding="utf-8")


def _missing(versions: Mapping[str, str]) -> list[str]:
    wanted = requirements().items()
    return [f"{name}{spec}" for name, spec in wanted if not satisfies(versions.get(name, "0"), spec)]


def _install(missing: Sequence[str], interpreter: str, python: Path, theirs: Mapping[str, str]) -> None:
    """Let pip put what is missing into .venv, and nothing of the notebook's in another version."""
    names = {re.split(r"[<>=!~]", line)[0] for line in missing}
    pins = python.parents[1] / "constraints.txt"
    pins.write_text("".join(f"{n}=={v}\n" for n, v in sorted(theirs.items()) if n and n not in names), encoding="utf-8")
    words = ["--disable-pip-version-check", "--python", str(python), "install", "--quiet", "--constraint", str(pins)]
    said = "no pip was found"
    for pip in _pips(interpreter):
        try:
            _run([*pip, *words, *missing], "", INSTALL_SECONDS)
            return
        except TrilhoError as error:
            said = error.fact
    raise TrilhoError(
        f"{python.parents[1]} lacks {', '.join(missing)}, which {RUNTIME} needs, and it cannot be installed: {said}",
        hint=f"{interpreter} -m pip --python {python} install {' '.join(map(repr, missing))}",
    )


def _pips(interpreter: str) -> Iterable[list[str]]:
    for python in dict.fromkeys([interpreter, sys.executable]):
        done = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, text=True, timeout=SECONDS)
        if done.returncode == 0 and satisfies(done.stdout.split(" ")[1], ">=22.3"):  # the first that knows --python
            yield [python, "-m", "pip"]


def _check(python: Path, theirs: Surroundings, runtime: str) -> None:
    modules = ", ".join([MODULE, *requirements()])
    _run([str(python), "-c", f"import {modules}"], f"{RUNTIME} (from {runtime}) cannot be imported by {python}")
    here = look(str(python)).versions
    added = {*requirements(), RUNTIME, "click"}
    before = theirs.versions.items()
    moved = [f"{n} {v}, here {here.get(n)}" for n, v in before if n not in added and here.get(n) != v]
    if moved:
        raise TrilhoError(
            f"{python} does not find the notebook's libraries as they are: {'; '.join(moved[:3])}",
            hint=f"rm -r {python.parents[1]}, and adopt the notebook again",
        )


def _run(words: Sequence[str], fact: str, seconds: float = SECONDS) -> None:
    try:
        subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=True, env=clean(os.environ))
    except (OSError, subprocess.SubprocessError) as error:
        raise TrilhoError(f"{fact}: {_reason(error)}" if fact else _reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line.strip() for line in f"{error.stdout}\n{error.stderr}".splitlines() if line.strip()]
        return lines[-1] if lines else f"exit {error.returncode}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {error.timeout:g} seconds"
    return getattr(error, "strerror", None) or str(error)
