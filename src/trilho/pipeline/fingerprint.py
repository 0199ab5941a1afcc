"""What makes a task's result: code, parameters, inputs, libraries. The same fingerprint, the same result.

Code counts by its syntax tree, so that a comment or a blank line changes nothing, and only as far as imports reach
within the project. Inputs count by content. Nothing of the project's is imported to find out.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import trilho_runtime
from trilho.core.digest import digest_file, digest_json
from trilho.core.files import write_whole
from trilho.errors import ConfigError
from trilho.pipeline.graph import Task, version_of
from trilho_runtime.describe import imports_of, module_file, source_files

SCHEMA = 1
RUNTIME = Path(trilho_runtime.__file__).parents[1]
ASK = "import json,sys,site,trilho_runtime.describe as d;print(json.dumps([d.libraries(),[p for p in sys.path if p]]))"


def fingerprint(
    task: Task, parameters: Mapping[str, Any], inputs: Mapping[str, str], source: Path, libraries: str
) -> str:
    """Give the digest of all that a task's result depends on."""
    counted = {name: value for name, value in parameters.items() if name not in task.uncounted}
    made_of: dict[str, Any] = {"schema": SCHEMA, "parameters": counted, "inputs": dict(inputs), "outputs": task.outputs}
    if callable(task.call):
        made_of["code"] = version_of(task.call)
    else:
        made_of |= {"call": task.call, "runtime": code_digest(RUNTIME, (task.call,)), "libraries": libraries}
        made_of["code"] = code_digest(source, task.code) if task.code else ""
    return digest_json(made_of)


def code_digest(source: Path, references: Iterable[str]) -> str:
    """Give the digest of the code that functions reach within a source tree, and of the data files beside it."""
    references = tuple(references)
    if "*" in references:
        reached = {file for file in source_files(source) if file.suffix == ".py"}
    else:
        reached = closure(source, [reference.partition(":")[0] for reference in references])
    parts = {file.relative_to(source).as_posix(): _tree_digest(file, file.stat().st_mtime_ns) for file in reached}
    parts |= {file.relative_to(source).as_posix(): digest_file(file) for file in package_data(source)}
    return digest_json(parts)


def closure(source: Path, modules: Iterable[str]) -> set[Path]:
    """Give the files under a source folder that modules reach by imports, the packages above them included."""
    reached: set[Path] = set()
    todo = list(modules)
    while todo:
        module = todo.pop()
        file = module_file(source, module)
        if "." in module:
            todo.append(module.rpartition(".")[0])
        if file is None or file in reached:
            continue
        reached.add(file)
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        todo += _imports(file, package, file.stat().st_mtime_ns)
    return reached


def package_data(source: Path) -> list[Path]:
    """Give the files beside the code of packages that are not code: code may read them."""
    found = [file for file in source_files(source) if file.suffix != ".py"]
    return [file for file in found if (source / file.relative_to(source).parts[0] / "__init__.py").exists()]


@functools.lru_cache(maxsize=4096)
def _imports(file: Path, package: str, _modified: int) -> tuple[str, ...]:
    return tuple(sorted(imports_of(file, package)))


@functools.lru_cache(maxsize=4096)
def _tree_digest(file: Path, _modified: int) -> str:
    data = file.read_bytes()
    try:
        return digest_json(ast.dump(ast.parse(data)))
    except (SyntaxError, ValueError):
        return digest_file(file)


def libraries_of(python: Path, home: Path) -> str:
    """Give the digest of what an interpreter has installed, asked of it only when its folders have changed."""
    kept = home / "cache" / f"python-{digest_json(str(python))[:16]}.json"
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
        if known["schema"] == SCHEMA and known["folders"] == _modified(known["folders"]):
            return str(known["libraries"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found, folders = _ask(python)
    known = {"schema": SCHEMA, "libraries": digest_json(found), "folders": _modified(folders), "found": found}
    write_whole(kept, json.dumps(known))
    return str(known["libraries"])


def _modified(folders: Iterable[str]) -> dict[str, int]:
    return {folder: os.stat(folder).st_mtime_ns for folder in folders if os.path.isdir(folder)}  # noqa: PTH112, PTH116


def _ask(python: Path) -> tuple[dict[str, str], list[str]]:
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    try:
        done = subprocess.run(
            [str(python), "-c", ASK], capture_output=True, text=True, timeout=120, check=True, env=environment
        )
    except (OSError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or str(error)
        raise ConfigError(
            f"{python} cannot run trilho-runtime: {told.strip().splitlines()[-1]}",
            hint=f"{python} -m pip install trilho-runtime, or set python in trilho.toml",
        ) from None
    found, folders = json.loads(done.stdout)
    return found, folders
