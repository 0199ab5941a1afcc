"""Say what a project has, by reading its files and never by importing them.

`python -m trilho_runtime.describe PROJECT [package.module:function ...]` prints JSON: for each function whether it is
there, what is wrong and what is near, and which libraries this interpreter has.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Found:
    """What became of a look for one function."""

    found: bool
    problem: str = ""
    near: str = ""


def source_folder(project: Path) -> Path:
    """Give the folder that a project's code is imported from: PROJECT/src, else PROJECT."""
    return project / "src" if (project / "src").is_dir() else project


def source_files(source: Path) -> Iterator[Path]:
    """Give the files of a source tree in a fixed order: no hidden folders, caches or environments."""
    for folder, names, files in os.walk(source, followlinks=True):
        here = Path(folder)
        names[:] = sorted(n for n in names if not _is_left_out(here / n) and not _leads_back(here / n))
        yield from (here / name for name in sorted(files) if not name.startswith(".") and not name.endswith(".pyc"))


def _is_left_out(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name == "__pycache__" or (folder / "pyvenv.cfg").exists()


def _leads_back(folder: Path) -> bool:
    """Say whether a link leads to a folder around it, so that there is no end to it."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def python_files(source: Path) -> Iterator[Path]:
    """Give the Python files of a source tree."""
    return (file for file in source_files(source) if file.suffix == ".py")


def module_file(source: Path, module: str) -> Path | None:
    """Find a module's file under a source folder.

    >>> module_file(Path(__file__).parents[1], "trilho_runtime.describe").name
    'describe.py'
    """
    place = source.joinpath(*module.split("."))
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if file.is_file():
            return file
    return None


def imports_of(file: Path, package: str = "") -> set[str]:
    """List the modules that a file names in its imports, relative ones resolved against `package`.

    `from a import b` names both a and a.b, since b may be a module. A file that cannot be parsed names none.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            origin = ".".join(filter(None, (base, node.module)))
            names |= {origin, *(f"{origin}.{alias.name}" for alias in node.names if origin)}
    return names - {"", "__future__"}


def look_for(source: Path, reference: str, arguments: int | None = None) -> Found:
    """Look for "package.module:function" under a source folder, and whether it takes so many arguments."""
    module, _, name = reference.partition(":")
    file = module_file(source, module)
    if file is None:
        near = difflib.get_close_matches(module, modules(source), n=1)
        return Found(False, f"no module {module} in {source.name}/", f"{near[0]}:{name}" if near else "")
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError as error:
        place = f"{file.relative_to(source.parent)}:{error.lineno}"
        return Found(False, f"{module} is not valid Python: {place}: {error.msg}")
    except ValueError as error:
        return Found(False, f"{module} is not valid Python: {error}")
    defined = _names(tree)
    if name not in defined:
        near = difflib.get_close_matches(name, defined, n=1)
        return Found(False, f"no function {name} in {module}", f"{module}:{near[0]}" if near else "")
    node = defined[name]
    if arguments is not None and isinstance(node, ast.FunctionDef) and not _takes(node.args, arguments):
        return Found(False, f"{reference} must take {arguments} argument{'s' if arguments > 1 else ''}")
    return Found(True)


def modules(source: Path) -> list[str]:
    """List the modules under a source folder by their dotted names."""
    names = (".".join(file.relative_to(source).with_suffix("").parts) for file in python_files(source))
    return [name.removesuffix(".__init__") for name in names]


def _names(tree: ast.Module) -> dict[str, ast.AST]:
    """Map what a module defines at its top level, also within if and try, to where it does."""
    found: dict[str, ast.AST] = {}
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name: node for alias in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            todo.extend(
                child for child in ast.iter_child_nodes(node) if isinstance(child, (ast.stmt, ast.excepthandler))
            )
        elif isinstance(node, ast.ExceptHandler):
            todo.extend(node.body)
    return found


def _takes(arguments: ast.arguments, count: int) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args)
    needed = positional - len(arguments.defaults)
    named = sum(default is None for default in arguments.kw_defaults)
    return needed <= count and named == 0 and (count <= positional or arguments.vararg is not None)


def libraries() -> dict[str, str]:
    """Give name and version of every installed distribution, Python's own first."""
    from importlib.metadata import distributions  # here: it takes longer to import than all else of this module

    found = {d.metadata["Name"].lower(): d.version for d in distributions() if d.metadata["Name"]}
    return {"python": sys.version.split()[0], **dict(sorted(found.items()))}


def local_builds() -> dict[str, str]:
    """Give of every distribution that was not installed from an index what was installed: its version may not tell."""
    from importlib.metadata import distributions

    built = (d for d in distributions() if d.metadata["Name"] and d.read_text("direct_url.json") is not None)
    return {d.metadata["Name"].lower(): d.read_text("RECORD") or "" for d in built}


def main(arguments: list[str] | None = None) -> int:
    """Print what a project and this interpreter have, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.describe", description=main.__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("functions", nargs="*", help="package.module:name")
    given = parser.parse_args(arguments)
    source = source_folder(given.project)
    steps = {reference: asdict(look_for(source, reference)) for reference in given.functions}
    print(json.dumps({"schema": 1, "steps": steps, "libraries": libraries()}))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
