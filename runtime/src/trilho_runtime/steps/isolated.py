"""Code that is imported apart: modules of a folder that never meet modules of the same name elsewhere.

A decision is released without its model. Both come from one project, so that both have, say, a package `flight_delay`,
of two different days; imported the usual way the first one would answer for both, silently. Here a folder's modules
live in a dictionary of their own and find each other there, in functions that import later as well. Everything else
is imported as always.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from trilho_runtime.steps.function import StepError


class Isolated:
    """The modules of one folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "json.py").write_text("def loads(text): return 'mine'")
    ...     Isolated(Path(folder)).function("json:loads")("{}")
    'mine'
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._modules: dict[str, ModuleType] = {}
        self._builtins = {**vars(builtins), "__import__": self._import}

    def function(self, reference: str) -> Callable[..., Any]:
        """Give a function, named as "package.module:name". Raises StepError when there is none."""
        module, _, name = reference.partition(":")
        if self._place(module) is None:
            raise StepError(f"{reference}: there is no module {module} in {self.folder}")
        found = getattr(self._load(module), name, None)
        if not callable(found):
            raise StepError(f"{reference}: {module} has no function {name}")
        return found  # type: ignore[no-any-return]

    def _place(self, module: str) -> Path | None:
        place = self.folder.joinpath(*module.split("."))
        files = (place / "__init__.py", place.with_name(f"{place.name}.py"))
        return next((file for file in files if file.is_file()), place if place.is_dir() else None)

    def _load(self, name: str) -> ModuleType:
        """Import a module and the packages above it, each once."""
        above, _, last = name.rpartition(".")
        parent = self._load(above) if above else None
        module = self._modules.get(name)
        if module is None:
            module = self._run(name)
            if parent is not None:
                setattr(parent, last, module)
        return module

    def _run(self, name: str) -> ModuleType:
        place = self._place(name)
        if place is None:
            raise ModuleNotFoundError(f"No module named {name!r} in {self.folder}", name=name)
        package = place.is_dir() or place.name == "__init__.py"
        module = ModuleType(f"{name}@{id(self):x}")  # no name that anything else could be found by
        told: dict[str, Any] = {"__builtins__": self._builtins, "__file__": str(place)}
        told["__package__"] = name if package else name.rpartition(".")[0]
        if package:
            told["__path__"] = [str(place if place.is_dir() else place.parent)]
        vars(module).update(told)
        self._modules[name] = sys.modules[module.__name__] = module  # dataclasses look their module up there
        if place.is_file():
            try:
                exec(compile(place.read_bytes(), str(place), "exec"), vars(module))  # noqa: S102  importing is this
            except BaseException:
                del self._modules[name], sys.modules[module.__name__]
                raise
        return module

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002  so Python names them
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        """Do what an import statement does, with this folder's modules first."""
        whole = _absolute(name, globals or {}, level)
        if self._place(whole.partition(".")[0]) is None:
            if level:
                raise ImportError(f"{'.' * level}{name} is not in {self.folder}")
            return builtins.__import__(name, globals, locals, tuple(fromlist or ()), 0)
        module = self._load(whole)
        if not fromlist:
            return self._load(whole.partition(".")[0])
        for item in fromlist:
            if item != "*" and not hasattr(module, item) and self._place(f"{whole}.{item}") is not None:
                self._load(f"{whole}.{item}")
        return module


def _absolute(name: str, told: Mapping[str, Any], level: int) -> str:
    if not level:
        return name
    parts = str(told.get("__package__") or "").split(".")
    base = parts[: len(parts) - level + 1]
    if not base or base == [""]:
        raise ImportError("a relative import goes beyond the top package")
    return ".".join([*base, name] if name else base)
