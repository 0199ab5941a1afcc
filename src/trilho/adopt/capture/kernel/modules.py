"""Python files of the notebook's own, imported by it: frozen, and rewritten as its cells are."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import os
import sys
from typing import Any, Callable, Sequence

from .rewrite import Rewriter, Site


class LocalFinder:
    """Finds modules outside the libraries' folders first."""

    def __init__(self, libraries: Sequence[str], sites: list[Site], names: dict[str, Any],
                 found: Callable[[str, str], None]) -> None:  # fmt: skip
        self.libraries, self.sites, self.names, self.found = tuple(libraries), sites, names, found
        self.folders: dict[str, bool] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Find a local module; None for all others."""
        last = name.rsplit(".", 1)[-1]
        for folder in sys.path if path is None else path:
            full = folder or os.getcwd()
            if not self._is_local(full):
                continue
            for file in (os.path.join(full, last, "__init__.py"), os.path.join(full, last + ".py")):
                if os.path.isfile(file):
                    return self._spec(name, file)
        return None

    def _is_local(self, folder: str) -> bool:
        known = self.folders.get(folder)
        if known is None:
            full = os.path.realpath(folder) + os.sep
            known = self.folders[folder] = not full.startswith(self.libraries) and os.path.isdir(full)
        return known

    def _spec(self, name: str, file: str) -> Any:
        folder = os.path.dirname(file)
        folder = os.path.dirname(folder) if file.endswith("__init__.py") else folder
        spec = importlib.machinery.PathFinder.find_spec(name, [folder])
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            return None
        self.found(name, spec.origin)
        spec.loader = LocalLoader(name, spec.origin, self.sites, self.names)
        return spec


class LocalLoader(importlib.machinery.SourceFileLoader):
    """Loads a module's source, rewritten."""

    def __init__(self, name: str, path: str, sites: list[Site], names: dict[str, Any]) -> None:
        super().__init__(name, path)
        self.sites, self.helpers = sites, names

    def get_code(self, fullname: str) -> Any:
        """Rewrite and compile the source: what is cached was not rewritten."""
        code = importlib.util.decode_source(self.get_data(self.path))
        tree = ast.parse(code, self.path)
        rewriter = Rewriter(-1, code, self.sites)
        body = [statement if _is_future(statement) else rewriter.visit(statement) for statement in tree.body]
        tree.body = body
        return compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)

    def exec_module(self, module: Any) -> None:
        """Run the module, with the helpers in reach."""
        module.__dict__.update(self.helpers)
        super().exec_module(module)


def _is_future(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
