"""How far functions reach: which statements of a source tree can change what they do. Read, never imported.

What a function names is followed through definitions and imports; what merely stands beside it is not. Statements
that act when their module is imported count as soon as it is. Where the text cannot tell (a module passed around,
`eval`, names looked up at run time) all of it counts: a step may run once too often, never once too rarely.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from trilho_runtime.describe import module_file, python_files
from trilho_runtime.statements import ALL, Statement, read_statements

LOOKED_UP = {"globals", "vars", "locals"}  # by them a module's names are found at run time
ANYTHING = {"eval", "exec", "__import__", "runpy"}


@dataclass
class Reach:
    """The statements that some functions reach, by module."""

    source: Path
    found: dict[str, set[int]] = field(default_factory=dict)
    everything: bool = False
    _known: dict[str, tuple[Statement, ...] | None] = field(default_factory=dict)
    _todo: list[tuple[str, int]] = field(default_factory=list)
    _asked: set[tuple[str, tuple[str, ...]]] = field(default_factory=set)

    @classmethod
    def of(cls, source: Path, references: Iterable[str]) -> Reach:
        """Follow functions, given as "package.module:name"; a name that is not there stands for its whole module."""
        reach = cls(source)
        for reference in references:
            module, _, name = reference.partition(":")
            reach._attribute(module, (name,) if name else ())
        while reach._todo and not reach.everything:
            name, number = reach._todo.pop()
            reach._follow(name, reach._statements(name)[number])
        return reach

    def digests(self) -> dict[str, list[str]]:
        """Give the digests of the statements in their order, by the name of their file under the source folder."""
        if self.everything:
            return all_digests(self.source)
        found = {}
        for name, numbers in self.found.items():
            file, statements = module_file(self.source, name), self._statements(name)
            if file is not None and numbers:
                chosen = [statements[number].digest for number in sorted(numbers)]
                found[file.relative_to(self.source).as_posix()] = chosen
        return found

    def _statements(self, module: str) -> tuple[Statement, ...]:
        return self._read(module) or ()

    def _read(self, module: str) -> tuple[Statement, ...] | None:
        if module not in self._known:
            file = module_file(self.source, module)
            self._known[module] = read_statements(file, module) if file is not None else None
        return self._known[module]

    def _add(self, module: str, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number not in self.found[module]:
                self.found[module].add(number)
                self._todo.append((module, number))

    def _import(self, module: str) -> bool:
        """Import a module of the tree and the packages above it: what acts then is reached. Say whether it is there."""
        if module in self.found:
            return True
        if "." in module:
            self._import(module.rpartition(".")[0])
        statements = self._read(module)
        if statements is None:
            return False
        self.found[module] = set()
        self._add(module, (number for number, statement in enumerate(statements) if statement.acts))
        for statement in statements:
            for other in statement.at_import:
                self._import(other)
        return True

    def _follow(self, module: str, statement: Statement) -> None:
        for other in statement.modules:
            self._import(other)
        for item in statement.imports:
            if item.bound == ALL:
                self._attribute(item.module, ())
        for use in statement.uses:
            names = tuple(use.split("."))
            if names[0] in ANYTHING or "import_module" in names or names[:2] == ("sys", "modules"):
                self.everything = True
            elif names[0] in LOOKED_UP:
                self._add(module, range(len(self._statements(module))))
            for item in statement.imports:  # within the statement, as in a function
                if item.bound == names[0]:
                    self._attribute(item.module, (*filter(None, [item.attribute]), *names[1:]))
            self._name(module, names)

    def _name(self, module: str, names: tuple[str, ...]) -> bool:
        """Reach what a name is bound to in a module, through its imports too; say whether it is bound there."""
        statements = self._statements(module)
        numbers = [number for number, statement in enumerate(statements) if names[0] in statement.binds]
        self._add(module, numbers)
        for number in numbers:
            for item in statements[number].imports:
                if item.bound == names[0]:
                    self._attribute(item.module, (*filter(None, [item.attribute]), *names[1:]))
        return bool(numbers)

    def _attribute(self, module: str, names: tuple[str, ...]) -> None:
        """Reach an attribute of a module, as `module.a.b`; of a module that is passed around, or lacks it, all."""
        if (module, names) in self._asked:
            return
        self._asked.add((module, names))
        there = self._import(module)
        inner = f"{module}.{names[0]}" if names else ""
        is_module = bool(inner) and module_file(self.source, inner) is not None
        if is_module:
            self._attribute(inner, names[1:])
        if there and not (names and self._name(module, names)) and not is_module:
            self._add(module, range(len(self._statements(module))))


def all_digests(source: Path) -> dict[str, list[str]]:
    """Give the digests of all statements of a source tree, by file."""
    found = {}
    for file in python_files(source):
        place = file.relative_to(source)
        module = ".".join(place.with_suffix("").parts).removesuffix(".__init__")
        found[place.as_posix()] = [statement.digest for statement in read_statements(file, module)]
    return found
