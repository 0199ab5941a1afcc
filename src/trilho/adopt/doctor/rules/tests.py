"""Code that nothing tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from trilho.adopt.doctor.flow.values import Place
from trilho.adopt.doctor.subject import Subject, finding
from trilho.adopt.plan import Finding


def tests_missing(subject: Subject) -> Iterator[Finding]:
    """Find a project without tests or with a module that no test names; a notebook whose functions nothing checks."""
    if subject.kind == "project":
        yield from _of_project(subject)
        return
    asserted = any(isinstance(node, ast.Assert) for _, node in subject.nodes())
    functions = list(subject.functions.values())
    if functions and not asserted and not list(subject.folder.glob("test*")):
        chunk, first = functions[0]
        names = ", ".join(f"`{node.name}`" for _, node in functions[:3]) + (" and others" if len(functions) > 3 else "")
        yield finding(
            "tests-missing",
            chunk.place(first),
            f"nothing checks {names}: a change that breaks it shows in production first",
            "note",
            "assert what it gives for a few rows; `trilho adopt` writes tests",
        )


def _of_project(subject: Subject) -> Iterator[Finding]:
    cases = [
        node
        for chunk in subject.tests
        for node in ast.walk(chunk.tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test")
    ]
    if not cases:
        yield finding(
            "tests-missing",
            Place(None, 1, "tests"),
            "the project has no tests: a change that breaks it shows in production first",
            "warning",
            "write tests/test_*.py; one for each step is a start",
        )
        return
    tested = "\n".join(chunk.source for chunk in subject.tests)
    for chunk in subject.chunks:
        module = chunk.file.rpartition("/")[2].removesuffix(".py")
        public = [node.name for node in chunk.tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
        if public and module != "__init__" and module not in tested and not any(name in tested for name in public):
            yield finding(
                "tests-missing",
                Place(None, 1, chunk.file),
                f"no test names {chunk.file} or any of its functions",
                "note",
                f"add tests/test_{module}.py",
            )
