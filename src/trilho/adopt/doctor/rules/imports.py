"""Imports that nothing uses, and packages whose version nobody wrote down."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator

from trilho.adopt.doctor.flow.values import Place
from trilho.adopt.doctor.requirements import Requirements, read_requirements
from trilho.adopt.doctor.subject import Subject, finding
from trilho.adopt.plan import Finding

EFFECT = re.compile(
    r"(sklearn\.experimental|mpl_toolkits|__future__|IPython|google\.colab|tqdm\.auto|swifter|"
    r"pandarallel|janitor|sklearnex)\b"
)
INSTALL = re.compile(
    r"^\s*[!%]\s*(?:\{?sys\.executable\}?\s+-m\s+)?(?:pip3?|conda|mamba|uv pip)\s+install\s+(.+)$", re.MULTILINE
)
PINNED = re.compile(r"===?\s*\d|@\s*\S+@|@[0-9a-f]{7,}")


def unused_imports(subject: Subject) -> Iterator[Finding]:
    """Find imported names that no code reads; one finding a statement."""
    used = (
        {node.id for _, node in subject.nodes() if isinstance(node, ast.Name)} if subject.kind == "notebook" else set()
    )
    lines = [line for text in subject.texts if text.kind == "source" for line in text.text.splitlines()]
    words = "\n".join(line for line in lines if re.match(r"\s*[%!]", line))
    for chunk in subject.chunks:
        own = used or {node.id for node in ast.walk(chunk.tree) if isinstance(node, ast.Name)}
        exported = {n.value for n in ast.walk(chunk.tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        for node in ast.walk(chunk.tree):
            idle = [
                name for name in _names(node) if name not in own and not re.search(rf"\b{re.escape(name)}\b", words)
            ]
            if subject.kind == "project":
                idle = [name for name in idle if name not in exported and not chunk.file.endswith("__init__.py")]
            if idle:
                listed = ", ".join(f"`{name}`" for name in idle)
                yield finding(
                    "unused-import",
                    chunk.place(node),
                    f"{listed} is imported and not used: an image has to carry it, and a reader wonders what for",
                    "note",
                    "delete it",
                )


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom) and EFFECT.match(node.module or ""):
        return
    for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
        if alias.name != "*" and not EFFECT.match(alias.name):
            yield alias.asname or alias.name.partition(".")[0]


def unpinned_installs(subject: Subject) -> Iterator[Finding]:
    """Find `!pip install NAME` without a version."""
    for text in subject.texts if subject.kind == "notebook" else ():
        for match in INSTALL.finditer(text.text) if text.kind == "source" else ():
            words = [word for word in match[1].split("#")[0].split() if not word.startswith("-")]
            loose = [word for word in words if not PINNED.search(word) and not word.endswith((".txt", ".lock", ".whl"))]
            if loose:
                line = text.text.count("\n", 0, match.start(1)) + 1
                listed = ", ".join(f"`{word}`" for word in loose[:4])
                yield finding(
                    "unpinned-import",
                    Place(text.cell, line),
                    f"{listed} is installed in whatever version is the newest that day: the same notebook gives "
                    "another model later, or none",
                    "warning",
                    "write the version: NAME==1.2.3, best in a lock file",
                )


def unpinned_imports(subject: Subject) -> Iterator[Finding]:
    """Find imported packages of which no requirements or lock file gives the version; one finding in all."""
    if subject.trace is not None:
        return
    declared = read_requirements(subject.folder)
    loose = loose_packages(subject, declared)
    if not loose:
        return
    listed = ", ".join(sorted(loose)[:6]) + (" and others" if len(loose) > 6 else "")
    place = _first_import(subject, loose)
    if declared.files:
        fix = f"lock what {declared.files[0]} names: a requirements.lock with versions, best with hashes"
        message = f"no file gives a version of {listed}: an install next month is another environment"
    else:
        fix = "write requirements.txt with versions (pip freeze is a start); `trilho adopt` locks what was imported"
        message = f"{listed}: imported, and no requirements or lock file beside it says in which version"
    yield finding("unpinned-import", place, message, "warning" if declared.files else "note", fix)


def loose_packages(subject: Subject, declared: Requirements) -> set[str]:
    """Give the imported modules of other people whose version is written nowhere."""
    own = {chunk.file.split("/")[-2] for chunk in subject.chunks if "/" in chunk.file}
    own |= {path.stem for path in subject.folder.glob("*.py")} | {
        p.name for p in subject.folder.iterdir() if p.is_dir()
    }
    return {name for name in modules_of(subject) if name not in own and not declared.pins(name)}


def modules_of(subject: Subject) -> set[str]:
    """Give the top-level modules that are imported, without Python's own."""
    found = set()
    for _, node in subject.nodes():
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"__future__", "google", "IPython", "trilho_runtime"}


def _first_import(subject: Subject, modules: set[str]) -> Place:
    for chunk, node in subject.nodes():
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        )
        if any(name.partition(".")[0] in modules for name in names):
            return chunk.place(node)
    return Place(None, 1)
