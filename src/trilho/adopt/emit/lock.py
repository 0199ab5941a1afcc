"""requirements.lock: the versions that the notebook really ran with, of what its live code needs and nothing more."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Mapping

from trilho.adopt.trace import Trace

TABLES = ("pandas", "pyarrow")  # trilho-runtime reads tables with them
RUNTIME = ("granian", "orjson", "numpy")
OPTIONAL = {"pandas": ("openpyxl", "xlrd", "db-dtypes", "lxml")}  # imported by a name in a string


def live_modules(files: Mapping[str, str], package: str) -> set[str]:
    """Give the top-level modules that a project's code imports, its own and the standard library apart.

    >>> sorted(live_modules({"src/a/b.py": "import os, numpy as np\\nfrom a.c import d"}, "a"))
    ['numpy']
    """
    found = set()
    for name, text in files.items():
        if name.endswith(".py") and name.startswith("src/"):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {package}


def needed(modules: Iterable[str], trace: Trace) -> list[str]:
    """Give the distributions that these modules are of, and those that every project needs."""
    found = {trace.modules[module] for module in modules if module in trace.modules}
    used = {normal(name) for name in trace.libraries}
    readers = {name for base in found for name in OPTIONAL.get(normal(base), ()) if name in used}
    return sorted({*map(normal, found), *readers, *TABLES})


def lock_text(wanted: Iterable[str], closure: Mapping[str, str]) -> str:
    """Pin distributions and all that they require; `closure` has the versions in the notebook's environment."""
    pinned = dict(closure)
    for name in RUNTIME:
        pinned |= {known: version for known, version in _here(name).items() if known not in pinned}
    lines = ["# the versions that the notebook ran with; trilho-runtime is installed beside them"]
    lines += [f"{name}=={version}" for name, version in sorted(pinned.items())]
    lines += [f"{name}  # not in the notebook's environment" for name in sorted(set(wanted) - set(pinned))]
    return "\n".join(lines) + "\n"


def _here(name: str) -> dict[str, str]:
    """Give the versions that trilho itself runs with, of what trilho-runtime needs."""
    found: dict[str, str] = {}
    queue = [name]
    while queue:
        name = normal(queue.pop())
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if name not in found:
            found[name] = distribution.version
            lines = (line.partition(";") for line in distribution.requires or [])
            queue += [re.split(r"[\s\[<>=!~(@]", text)[0] for text, _, marker in lines if "extra" not in marker]
    return found


def normal(name: str) -> str:
    """Write a distribution's name as indexes do.

    >>> normal("Scikit_Learn")
    'scikit-learn'
    """
    return re.sub(r"[-_.]+", "-", name).lower()
