"""The project's own code that a package carries: which modules a model needs, and the copy of them.

A model names its functions and classes by module. Those of installed libraries stand in the lock file; the others are
the user's and are copied: whole packages, single modules, and what these import.
"""

from __future__ import annotations

import io
import pickle
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FunctionType
from typing import Any

from trilho_runtime.describe import imports_of, module_file, python_files
from trilho_runtime.model.manifest import PackageError

NOT_CODE = {"tests", "test", "node_modules", "build", "dist"}
OURS = {"trilho", "trilho_runtime"}
IN_A_NOTEBOOK = "put it in a module beside, such as model.py, import it from there, and fit again"


def copy_code(source: Path, to: Path) -> None:
    """Copy a project's importable code: modules, and packages with their data; no caches, tests or environments."""
    if not source.is_dir():
        raise PackageError(f"the project's code is not in {source}")
    to.mkdir()
    for path in sorted(source.iterdir()):
        if path.is_file() and path.suffix == ".py":
            shutil.copyfile(path, to / path.name)
        elif path.is_dir() and _is_code(path):
            _copy_package(path, to / path.name)
    if not any(to.iterdir()):
        raise PackageError(f"{source} holds no Python code")


def copy_modules(tops: Iterable[Path], to: Path) -> None:
    """Copy modules and packages, given as their files and folders, with those beside them that they import."""
    to.mkdir()
    for top in _closure(tops):
        if top.is_dir():
            _copy_package(top, to / top.name)
        else:
            shutil.copyfile(top, to / top.name)


def own_modules(*objects: Any) -> dict[str, Path]:
    """Give the user's own top-level modules that objects need: a name, and its file or folder.

    Raises PackageError for what is defined where no other process can import it.
    """
    tops: dict[str, Path] = {}
    for name in sorted({name for item in objects for name in modules_of(item)}):
        top = name.partition(".")[0]
        place = top_of(top)
        if top not in OURS and place is not None and is_own(place):
            tops[top] = place
    return tops


def reference_of(function: str | Callable[..., Any], what: str) -> str:
    """Give a function as "module:name". Raises PackageError for one that no other process can import by that."""
    if isinstance(function, str):
        return function
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not module or not name:
        raise PackageError(f"{what} is {type(function).__name__}; a function is wanted", "define it in a module")
    if module == "__main__":
        raise PackageError(f"{what} {name} is defined in __main__, which no server can import", IN_A_NOTEBOOK)
    if "<" in name or "." in name:
        fact = f"{what} {module}.{name} stands within another function; a server imports it by name"
        raise PackageError(fact, IN_A_NOTEBOOK)
    return f"{module}:{name}"


def top_of(name: str) -> Path | None:
    """Give the file or folder of an imported top-level module; None for one without."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is not None:
        path = Path(file).resolve()
        return path.parent if path.name.startswith("__init__.") else path
    places = list(getattr(module, "__path__", ()))
    return Path(places[0]).resolve() if places else None


def is_own(place: Path) -> bool:
    """Say whether a module's file or folder is the user's, and not of Python or an installed library."""
    if {"site-packages", "dist-packages"}.intersection(place.parts):
        return False
    paths = sysconfig.get_paths()
    return not any(Path(paths[key]).resolve() in place.parents for key in ("stdlib", "platstdlib"))


def modules_of(item: Any) -> set[str]:
    """Give the modules of the functions and classes that an object is made of."""
    walker = _Walker(io.BytesIO(), protocol=5)
    walker.modules = set()
    try:
        walker.dump(item)
    except PackageError:
        raise
    except Exception:  # noqa: BLE001, S110  what cannot be pickled is said where the estimator is stored
        pass
    return walker.modules


class _Walker(pickle.Pickler):
    """Looks at all that a pickle of an object names."""

    modules: set[str]

    def persistent_id(self, obj: Any) -> None:
        """Note the module of a function or a class; nothing is persistent."""
        if isinstance(obj, (type, FunctionType)):
            if obj.__module__ == "__main__":
                what = "the class" if isinstance(obj, type) else "the function"
                fact = f"{what} {obj.__qualname__} is defined in __main__, a notebook or a script"
                raise PackageError(f"{fact}, which no server can import", IN_A_NOTEBOOK)
            self.modules.add(str(obj.__module__))


def _closure(tops: Iterable[Path]) -> list[Path]:
    """Follow the imports of modules to others that stand beside them."""
    found: dict[Path, None] = {}
    todo = list(tops)
    while todo:
        top = todo.pop()
        if top in found:
            continue
        found[top] = None
        files = list(python_files(top)) if top.is_dir() else [top]
        names = {name.partition(".")[0] for file in files for name in imports_of(file)}
        for name in sorted(names - OURS):
            file = module_file(top.parent, name)
            if file is not None and is_own(file):
                todo.append(file.parent if file.name == "__init__.py" else file)
    return sorted(found)


def _copy_package(folder: Path, to: Path) -> None:
    shutil.copytree(folder, to, ignore=_uncopied, copy_function=shutil.copyfile)


def _is_code(folder: Path) -> bool:
    if folder.name in NOT_CODE or folder.name.startswith((".", "__")) or (folder / "pyvenv.cfg").exists():
        return False
    return folder.suffix != ".egg-info" and any(folder.rglob("*.py"))


def _uncopied(folder: str, names: list[str]) -> set[str]:
    dead = {n for n in names if (Path(folder) / n).is_symlink() and not (Path(folder) / n).exists()}
    return dead | {n for n in names if n == "__pycache__" or n.startswith(".") or n.endswith((".pyc", ".pyo"))}
