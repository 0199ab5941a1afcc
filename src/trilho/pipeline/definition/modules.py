"""What a module's text defines, and what its names stand for, without importing it."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from trilho_runtime.describe import module_file

DEPTH = 12  # how often a name may stand for another one
FIELD_CLASSES = {"typing.NamedTuple", "typing.TypedDict", "typing_extensions.TypedDict", "typing_extensions.NamedTuple"}
STARS = {
    "typing": {"NamedTuple", "TypedDict", "Optional", "Union", "List", "Dict", "Any", "Literal"},
    "trilho_runtime.step": {"In", "Out", "Table", "Model", "Metrics", "File", "step"},
}
Field = tuple[str, ast.expr, "Definitions"]


@dataclass(frozen=True, eq=False)
class Found:
    """A definition, and the module that it is in."""

    node: ast.AST
    definitions: Definitions


@dataclass(eq=False)
class Definitions:
    """A module's top level: what is defined there, also within if and try, and what is imported."""

    root: Path
    module: str
    file: Path
    state: tuple[int, int] = (0, 0)
    nodes: dict[str, ast.AST] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    """What each imported name stands for, dotted."""
    stars: list[str] = field(default_factory=list)
    """The modules whose names are imported, whichever these are."""

    @cached_property
    def package(self) -> list[str]:
        """The package that relative imports start from."""
        parts = self.module.split(".")
        return parts if self.file.name == "__init__.py" else parts[:-1]

    def collect(self, tree: ast.Module) -> None:
        """Take in what the statements of a module bind."""
        todo: list[ast.AST] = list(tree.body)
        while todo:
            node = todo.pop(0)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                self.nodes[node.name] = node
            elif isinstance(node, ast.Assign):
                self.nodes |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                self.nodes[node.target.id] = node.value
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                self._import(node)
            elif isinstance(node, (ast.If, ast.Try, ast.With)):
                todo += [x for x in ast.iter_child_nodes(node) if isinstance(x, (ast.stmt, ast.excepthandler))]
            elif isinstance(node, ast.ExceptHandler):
                todo += node.body

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                self.imports[alias.asname or first] = alias.name if alias.asname else first
            return
        above = self.package[: len(self.package) - node.level + 1] if node.level else []
        origin = ".".join(filter(None, (*above, node.module)))
        self.stars += [origin] if any(alias.name == "*" for alias in node.names) else []
        self.imports |= {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in node.names}

    def resolve(self, node: ast.AST) -> str:
        """Say what a name stands for, dotted; nothing for what is no name.

        A name of this module stands for itself, under the module's name.
        """
        if isinstance(node, ast.Name):
            if node.id in self.imports:
                return self.imports[node.id]
            if node.id in self.nodes:
                return f"{self.module}.{node.id}"
            return next((f"{star}.{node.id}" for star in self.stars if self._has(star, node.id)), node.id)
        if isinstance(node, ast.Attribute):
            inner = self.resolve(node.value)
            return f"{inner}.{node.attr}" if inner else ""
        return ""

    def follow(self, name: str, depth: int = DEPTH) -> Found | None:
        """Find what defines a name of this module, in another module where it is imported from there."""
        if name in self.nodes:
            return Found(self.nodes[name], self)
        if name in self.imports:
            return self._elsewhere(self.imports[name], depth) if depth else None
        found = (self._elsewhere(f"{star}.{name}", depth) for star in self.stars if depth)
        return next(filter(None, found), None)

    def _has(self, star: str, name: str) -> bool:
        """Say whether `from star import *` binds a name: a module of the project's, or one that is known here."""
        if star in STARS:
            return name in STARS[star]
        return module_file(self.root, star) is not None and self._elsewhere(f"{star}.{name}", DEPTH) is not None

    def definition(self, node: ast.AST, depth: int = DEPTH) -> Found | None:
        """Find what defines the thing that a name stands for."""
        if isinstance(node, ast.Name):
            return self.follow(node.id, depth)
        dotted = self.resolve(node)
        return self._elsewhere(dotted, depth) if dotted and depth else None

    def _elsewhere(self, dotted: str, depth: int) -> Found | None:
        module, _, name = dotted.rpartition(".")
        file = module_file(self.root, module) if module else None
        return definitions_of(self.root, module).follow(name, depth - 1) if file is not None else None

    def literal(self, node: ast.expr, depth: int = DEPTH) -> tuple[Any] | None:
        """Give the value of a literal, or of a name that stands for one, in a tuple; None for what must be run."""
        try:
            return (ast.literal_eval(node),)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            found = self.definition(node, depth) if isinstance(node, (ast.Name, ast.Attribute)) and depth else None
        if found is None or not isinstance(found.node, ast.expr):
            return None
        return found.definitions.literal(found.node, depth - 1)

    def fields(self, node: ast.expr) -> list[Field] | None:
        """Give the fields of a NamedTuple or TypedDict class that an annotation names; None for anything else."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node = parse_text(node.value) or node
        found = self.definition(node) if isinstance(node, (ast.Name, ast.Attribute)) else None
        if found is None or not isinstance(found.node, ast.ClassDef):
            return None
        return found.definitions.fields_of(found.node)

    def fields_of(self, node: ast.ClassDef, depth: int = DEPTH) -> list[Field] | None:
        """Give the fields of a class, those of its bases first; None where it is no class of fields."""
        inherited: list[Field] = []
        is_one = False
        for base in node.bases:
            found = self.definition(base) if self.resolve(base) not in FIELD_CLASSES else None
            is_one |= self.resolve(base) in FIELD_CLASSES
            if found is not None and isinstance(found.node, ast.ClassDef) and depth:
                above = found.definitions.fields_of(found.node, depth - 1)
                is_one |= above is not None
                inherited += above or []
        if not is_one:
            return None
        own = [x for x in node.body if isinstance(x, ast.AnnAssign) and isinstance(x.target, ast.Name)]
        return [*inherited, *((x.target.id, x.annotation, self) for x in own if isinstance(x.target, ast.Name))]


def definitions_of(root: Path, module: str) -> Definitions:
    """Read a module's text, once for each of its states; one that cannot be parsed defines nothing."""
    file = module_file(root, module)
    if file is None:
        return Definitions(root, module, root)
    state = file.stat()
    return _read(root, module, file, (state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=1024)
def _read(root: Path, module: str, file: Path, state: tuple[int, int]) -> Definitions:
    found = Definitions(root, module, file, state)
    try:
        found.collect(ast.parse(file.read_bytes()))
    except (SyntaxError, ValueError):
        return found
    return found


def parse_text(text: str) -> ast.expr | None:
    """Read an annotation that is written as a text."""
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return None
