"""What is examined: the code of a notebook or a project, its texts, and what is known of it from elsewhere."""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trilho.adopt.doctor.constants import Constants
from trilho.adopt.doctor.flow.events import Events
from trilho.adopt.doctor.flow.interpreter import Located, interpret
from trilho.adopt.doctor.flow.names import aliases, full_name
from trilho.adopt.doctor.flow.values import Place
from trilho.adopt.plan import Choice, Finding, Severity
from trilho.adopt.trace import Trace

if TYPE_CHECKING:
    from trilho.adopt.notebook import Notebook
    from trilho.config import Settings

TAG = re.compile(r"<[^>]{0,300}>")
MOST_TEXT = 2_000_000  # of one file or output: what is longer is data


@dataclass(frozen=True)
class Chunk:
    """Code that was parsed as one: a cell, or a module."""

    source: str
    tree: ast.Module
    cell: int | None = None
    file: str = ""

    def place(self, node: ast.AST) -> Place:
        """Give where a node stands."""
        return Place(self.cell, getattr(node, "lineno", 1), self.file)


@dataclass(frozen=True)
class Text:
    """Text as people read it: a cell's source, what it printed, a file."""

    kind: Literal["source", "output", "prose", "file"]
    text: str
    cell: int | None = None
    file: str = ""


@dataclass(frozen=True)
class Subject:
    """A notebook or a project under examination."""

    kind: Literal["notebook", "project"]
    folder: Path  # where relative paths in the code start
    chunks: tuple[Chunk, ...]
    texts: tuple[Text, ...] = ()
    notebook: Notebook | None = None
    trace: Trace | None = None
    choice: Choice | None = None
    scratch: Path | None = None  # the folder of the trace
    settings: Settings | None = None
    tests: tuple[Chunk, ...] = field(default=())

    @cached_property
    def statements(self) -> list[Located]:
        """Every top-level statement, in the order of execution."""
        if self.notebook is not None:
            return [Located(one.node, one.cell) for one in self.notebook.statements]
        return [Located(node, chunk.cell, chunk.file) for chunk in self.chunks for node in chunk.tree.body]

    @cached_property
    def known(self) -> dict[str, str]:
        """What imported names stand for."""
        return aliases(node for _, node in self.nodes())

    @cached_property
    def functions(self) -> dict[str, tuple[Chunk, ast.FunctionDef]]:
        """The functions at the top level, by name."""
        return {node.name: (chunk, node) for chunk in self.chunks for node in chunk.tree.body
                if isinstance(node, ast.FunctionDef)}  # fmt: skip

    @cached_property
    def classes(self) -> dict[str, tuple[Chunk, ast.ClassDef]]:
        """The classes at the top level, by name."""
        return {node.name: (chunk, node) for chunk in self.chunks for node in chunk.tree.body
                if isinstance(node, ast.ClassDef)}  # fmt: skip

    @cached_property
    def constants(self) -> Constants:
        """Names of constant texts."""
        return Constants([node for chunk in self.chunks for node in chunk.tree.body], self.known)

    @cached_property
    def events(self) -> Events:
        """What was seen on following the rows."""
        told, split = [], None
        if self.choice is not None:
            told = [self.choice.target.column] if self.choice.target.column else []
            split = self.choice.split
        elif self.settings is not None:
            told = [self.settings.model.target]
        return interpret(self.statements, self.known, target=told, train=split.train if split else (),
                         test=split.test if split else (),
                         tables=("rows", "frame", "df", "data") if self.kind == "project" else ())  # fmt: skip

    def nodes(self) -> Iterator[tuple[Chunk, ast.AST]]:
        """Walk all code, statement by statement."""
        for chunk in self.chunks:
            for node in ast.walk(chunk.tree):
                yield chunk, node

    def calls(self) -> Iterator[tuple[Chunk, ast.Call, str]]:
        """Give every call, with the full name of what is called."""
        for chunk, node in self.nodes():
            if isinstance(node, ast.Call):
                yield chunk, node, full_name(node.func, self.known)

    @property
    def name(self) -> str:
        """Say what it is."""
        return self.kind


def finding(rule: str, place: Place, message: str, severity: Severity = "warning", fix: str = "") -> Finding:
    """Make a finding at a place."""
    return Finding(rule, place.cell, place.line, message, severity, fix, place.file)


def of_notebook(notebook: Notebook, trace: Trace | None = None, choice: Choice | None = None,
                scratch: Path | None = None) -> Subject:  # fmt: skip
    """Make a subject of a notebook that was read."""
    chunks, texts = [], []
    for cell in notebook.cells:
        kind: Literal["source", "prose"] = "source" if cell.kind == "code" else "prose"
        texts.append(Text(kind, cell.source, cell.index))
        texts += [Text("output", text, cell.index) for output in cell.outputs for text in output_texts(output)]
        try:
            if cell.code.strip():
                chunks.append(Chunk(cell.source, ast.parse(cell.code), cell.index))
        except SyntaxError:
            continue
    folder = notebook.path.resolve().parent
    return Subject("notebook", folder, tuple(chunks), tuple(texts), notebook, trace, choice, scratch)


def output_texts(output: dict[str, Any]) -> Iterator[str]:
    """Give what an output of nbformat shows as text: printed, as a table, as HTML without its tags."""
    data = output.get("data") or {}
    shown = [output.get("text"), data.get("text/plain"), data.get("text/html") if "text/plain" not in data else None,
             "\n".join(output.get("traceback") or ())]  # fmt: skip
    for part in shown:
        text = "".join(part) if isinstance(part, list) else str(part or "")
        if text.strip():
            yield html.unescape(TAG.sub(" ", text)) if part is shown[2] else text[:MOST_TEXT]


def of_project(folder: Path, settings: Settings | None) -> Subject:
    """Make a subject of a project's folder: its modules, its tests, and the files that may hold secrets."""
    source = folder / "src" if (folder / "src").is_dir() else folder
    inside = [path for path in sorted(source.rglob("*.py")) if not _apart(path.relative_to(folder))]
    tests = sorted((folder / "tests").rglob("*.py")) if (folder / "tests").is_dir() else []
    modules = [path for path in inside if path not in tests]
    texts = [*_files(folder), *_notebook_texts(folder)]
    return Subject("project", folder, tuple(_parsed(folder, modules)), tuple(texts), settings=settings,
                   tests=tuple(_parsed(folder, tests)))  # fmt: skip


APART = frozenset({".venv", "venv", ".git", ".trilho", "node_modules", "build", "dist", "__pycache__", "site-packages",
                   ".tox", ".mypy_cache", ".ruff_cache", ".pytest_cache"})  # fmt: skip
READABLE = frozenset({".py", ".toml", ".yaml", ".yml", ".json", ".cfg", ".ini", ".env", ".sh", ".md", ".sql", ".txt",
                      ".tf", ".tfvars", ".pem", ".key", ".properties", ".example"})  # fmt: skip
PLAIN = ("Dockerfile", "Makefile", ".env", ".netrc", ".pgpass", "credentials")


def _apart(relative: Path) -> bool:
    return any(part in APART or part.endswith(".egg-info") for part in relative.parts)


def _parsed(folder: Path, files: list[Path]) -> Iterator[Chunk]:
    for path in files:
        source = path.read_text(encoding="utf-8", errors="replace")
        try:
            yield Chunk(source, ast.parse(source), None, path.relative_to(folder).as_posix())
        except SyntaxError:
            continue


def _files(folder: Path) -> Iterator[Text]:
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if _apart(relative) or not path.is_file() or path.is_symlink() or relative.parts[0] == "data":
            continue
        if (path.suffix in READABLE or path.name.startswith(PLAIN)) and path.stat().st_size < MOST_TEXT:
            yield Text("file", path.read_text(encoding="utf-8", errors="replace"), None, relative.as_posix())


def _notebook_texts(folder: Path) -> Iterator[Text]:
    """Give the cells and outputs of notebooks in a project: what they show is in the repository too."""
    for path in sorted(folder.rglob("*.ipynb")):
        if _apart(path.relative_to(folder)) or path.stat().st_size > 20 * MOST_TEXT:
            continue
        file = path.relative_to(folder).as_posix()
        try:
            cells = json.loads(path.read_bytes()).get("cells", [])
        except (ValueError, AttributeError):
            continue
        for at, cell in enumerate(cells):
            source = cell.get("source", "")
            yield Text("prose", "".join(source), at, file)
            for output in cell.get("outputs") or []:
                yield from (Text("output", text, at, file) for text in output_texts(output))
