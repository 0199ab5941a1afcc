"""Format generated code, and remove what it imports or binds for nothing: ruff, as a process of its own.

What the notebook's own lines break of the rules and no safe change mends is marked where it stands, so that the
project's linter is quiet from the first day and loud for what comes after.
"""

from __future__ import annotations

import ast
import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ruff import find_ruff_bin

from trilho.adopt.scopes import queried
from trilho.errors import TrilhoError

RULES = "E,F,I,UP,B,W"
COMMON = (
    "--isolated",
    "--no-cache",
    "--line-length",
    "100",
    "--target-version",
    "py310",
)  # as the standard's pyproject
FIXES = "F401,F841,E703,E713,E714,E731,I,UP,W,B007,B009,B010,B905,F541"  # that never change what the code computes


def polish(files: Mapping[str, str]) -> dict[str, str]:
    """Give the files of Python formatted, sorted and without unused imports; others as they are.

    Raises TrilhoError where code does not parse, or reads a name that nothing binds.
    """
    code = {name: text for name, text in files.items() if name.endswith(".py")}
    with tempfile.TemporaryDirectory(prefix="trilho-polish-") as place:
        folder = Path(place)
        for name, text in code.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        _refuse_broken(_ruff(folder, "check", "--select", "F821,F822,F823", "--output-format", "json"), folder)
        _ruff(folder, "format")
        _ruff(folder, "check", "--select", FIXES, *_spared(code), "--fix", "--unsafe-fixes", "--quiet")
        _ruff(folder, "format")
        _ruff(folder, "check", "--select", RULES, "--add-noqa", "--quiet")
        _ruff(folder, "format")
        return {**files, **{name: (folder / name).read_text(encoding="utf-8") for name in code}}


def _spared(code: Mapping[str, str]) -> tuple[str, ...]:
    """Keep the variables that only the texts of pandas' queries name: the linter takes them for unused."""
    names = sorted(set().union(*(queried(ast.parse(text)) | _local(text) for text in code.values())))
    return ("--config", f"lint.dummy-variable-rgx = '^({'|'.join(['_+', *names])})$'") if names else ()


def _local(text: str) -> set[str]:
    bodies = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    return set().union(*(queried(ast.Module(node.body, [])) for node in bodies))


def complaints(folder: Path) -> list[str]:
    """Give what the standard's rules find in a project's code, a line each."""
    return _ruff(folder, "check", "--select", RULES, "--output-format", "concise", "--quiet").splitlines()


def _ruff(folder: Path, verb: str, *options: str) -> str:
    settings = ("--config", "src = ['src', 'tests']") if verb == "check" else ()
    command = [find_ruff_bin(), verb, *COMMON, *settings, *options, "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode > 1:
        said = done.stderr.strip() or done.stdout
        raise TrilhoError(f"the generated code could not be formatted: {said[:400]}")
    return done.stdout


def _refuse_broken(found: str, folder: Path) -> None:
    for problem in json.loads(found):
        name = Path(problem["filename"]).resolve().relative_to(folder.resolve())
        line = problem["location"]["row"]
        text = (folder / name).read_text(encoding="utf-8").splitlines()[line - 1].strip()
        raise TrilhoError(
            f"the generated {name} is wrong at line {line}: {problem['message']}: {text[:120]}",
            hint="the notebook has code that could not be taken apart; name its model with --model",
        )
