"""What makes a step's result: its code, parameters, inputs, libraries. The same fingerprint, the same result.

Code counts by its syntax tree, so that a comment or a blank line changes nothing, and statement by statement, as far
as the step's function reaches within the project. Inputs count by content. Nothing is imported to find out.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trilho_runtime.describe import imports_of, libraries, local_builds, module_file, source_files
from trilho_runtime.steps.digest import digest_file, digest_json
from trilho_runtime.steps.reach import Reach, all_digests

SCHEMA = 3
SOURCE = "src"
EVERYTHING = "*"
OURS = ("trilho", "trilho_runtime")


def step_fingerprint(
    reference: str,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, str | Sequence[str]],
    outputs: Iterable[str],
    code: Collection[str] = (),
    uncounted: Collection[str] = (),
    source: Path | None = None,
    libraries: str = "",
    version: str = "",
) -> str:
    """Give the digest of all that a step's result depends on.

    `inputs` are content digests. `code` names what else of the project's functions the step runs ("*" is all of the
    project). A step of the platform's own counts by its `version` instead of its source and libraries.
    """
    counted = {name: value for name, value in parameters.items() if name not in uncounted}
    made_of: dict[str, Any] = {"schema": SCHEMA, "step": reference, "parameters": counted}
    made_of["inputs"] = {name: [x] if isinstance(x, str) else list(x) for name, x in inputs.items()}
    made_of["outputs"] = sorted(outputs)
    if reference.partition(".")[0] == "trilho":
        return digest_json({**made_of, "version": version})
    ours = reference.partition(".")[0] in OURS
    references = sorted({*code} if ours else {reference, *code})
    made_of["runtime"] = runtime_digest() if ours else ""
    made_of["code"] = code_digest(source, references) if source is not None and references else ""
    return digest_json({**made_of, "libraries": libraries})


def code_digest(source: Path, references: Iterable[str]) -> str:
    """Give the digest of the code that functions reach within a source tree, and of the data files beside it."""
    references = tuple(references)
    everything = EVERYTHING in references
    parts: dict[str, Any] = all_digests(source) if everything else Reach.of(source, references).digests()
    data = package_data(source, parts)
    return digest_json(parts | {file.relative_to(source).as_posix(): _file_digest(file) for file in data})


def runtime_digest() -> str:
    """Give the digest of this library: what its own steps are made of."""
    ours = Path(__file__).parents[1]
    return digest_json({file.relative_to(ours).as_posix(): _file_digest(file) for file in sorted(ours.rglob("*.py"))})


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


def package_data(source: Path, code: Iterable[str] = ()) -> list[Path]:
    """Give the files beside the code of packages that are not code: code may read them.

    A package is a folder with an __init__.py, or one that holds some of `code`; a folder named src is all code.
    """
    packages = {file.partition("/")[0] for file in code if "/" in file}
    found = []
    for file in source_files(source):
        first = file.relative_to(source).parts[0]
        beside = source.name == SOURCE if first == file.name else (source / first / "__init__.py").exists()
        if file.suffix != ".py" and (beside or first in packages):
            found.append(file)
    return found


def libraries_digest() -> str:
    """Give the digest of what this interpreter has installed."""
    return digest_json([libraries(), local_builds()])


def _file_digest(file: Path) -> str:
    state = file.stat()
    return _digest(file, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4096)
def _digest(file: Path, _modified: int, _size: int) -> str:
    return digest_file(file)


@functools.lru_cache(maxsize=4096)
def _imports(file: Path, package: str, _modified: int) -> tuple[str, ...]:
    return tuple(sorted(imports_of(file, package)))
