"""Which Python runs what does not bring its own: found without importing anything of a pipeline's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from trilho.core.digest import digest_json
from trilho.errors import StepFailed
from trilho.pipeline.places import Places
from trilho.pipeline.workers.environment import clean

SECONDS = 60
ASK = """
import importlib.util, os, sys
top, *rest = sys.argv[1].split(".")
found = importlib.util.find_spec(top)
if found is None:
    sys.exit(1)
folders = [os.path.join(place, *rest) for place in found.submodule_search_locations or ()]
alone = not rest and not folders
sys.exit(not (alone or any(os.path.isdir(folder) or os.path.isfile(folder + ".py") for folder in folders)))
"""


class Interpreters:
    """The interpreters that a run may use for commands."""

    def __init__(self, places: Places, home: Path) -> None:
        self._places, self._home = places, home
        self._known: dict[tuple[Path, str], bool] = {}

    def candidates(self, image: str) -> list[Path]:
        """Give the interpreters that may run a component of an image, best first."""
        place = self._places.of(image)
        named = shutil.which("python3", path=self.clean().get("PATH"))
        first = [place.python] if place is not None else []
        last = [Path(named)] if named is not None else []
        return list(dict.fromkeys([*first, self._places.python, *last, self._places.platform]))

    def with_module(self, module: str, image: str) -> Path:
        """Give the first interpreter that has a module. Raises StepFailed where none has it."""
        found = self.candidates(image)
        for python in found:
            if self.has(python, module):
                return python
        tried = ", ".join(map(str, found))
        raise StepFailed(
            f"it needs {module}, which none of {tried} has",
            hint=f"install {module.partition('.')[0]} into the project's environment",
        )

    def has(self, python: Path, module: str) -> bool:
        """Say whether an interpreter has a module, which is looked for and not imported."""
        if (python, module) not in self._known:
            command = [str(python), "-c", ASK, module]
            environment = {**self.clean(), "PYTHONSAFEPATH": "1"}
            try:
                done = subprocess.run(command, capture_output=True, timeout=SECONDS, env=environment)
            except (OSError, subprocess.SubprocessError):
                return False
            self._known[python, module] = done.returncode == 0
        return self._known[python, module]

    def clean(self) -> dict[str, str]:
        """Give the environment of commands, but for what would lead a Python to another one's packages."""
        return clean(os.environ) | dict(self._places.environment)

    def search_path(self, python: Path | None, path: str) -> str:
        """Give PATH with an interpreter's folder first; `python` and `python3` are always found in it."""
        folders = [path]
        if python is not None:
            folders = [str(python.parent), path]
            missing = [name for name in ("python", "python3") if not os.access(python.parent / name, os.X_OK)]
            folders = [str(self._named(python)), *folders] if missing else folders
        elif shutil.which("python", path=path) is None and (named := shutil.which("python3", path=path)) is not None:
            folders = [path, str(self._named(Path(named)))]
        return os.pathsep.join(folders)

    def _named(self, python: Path) -> Path:
        """Give a folder in which an interpreter goes by its usual names; a link would lose its environment."""
        folder = self._home / "environments" / f"named-{digest_json(str(python))[:16]}"
        for name in ("python", "python3"):
            if not os.access(folder / name, os.X_OK):
                folder.mkdir(parents=True, exist_ok=True)
                draft = folder / f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
                draft.write_text(f'#!/bin/sh\nexec {_quoted(str(python))} "$@"\n', encoding="utf-8")
                draft.chmod(0o755)
                draft.replace(folder / name)
        return folder


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
