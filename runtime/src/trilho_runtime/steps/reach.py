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
from trilho_runtime.steps.statements import ALL, Statement, read_statements

LOOKED_UP = {"globals", "vars", "locals"}  # by them a module's names are found at run time
ANYTHING = {"eval", "exec", "__import__"}
FOUND_BY_NAME = (  # what imports code that is named when it runs
    "importlib.import_module", "importlib.reload", "importlib.util", "importlib.machinery", "runpy", "pkgutil", "imp",
    "sys.modules", "builtins.eval", "builtins.exec", "builtins.__import__",
)  # fmt: skip
UNPACKED = (  # what makes objects of classes that a file names
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads", "dill.load",
    "dill.loads", "joblib.load", "shelve.open", "pandas.read_pickle", "torch.load",
)  # fmt: skip


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
                chosen = _in_order([statements[number] for number in sorted(numbers)])
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
            if names[0] in ANYTHING:
                self.everything = True
            elif names[0] in LOOKED_UP:
                self._add(module, range(len(self._statements(module))))
            within = [item for item in statement.imports if item.bound == names[0]]  # as in a function
            for item in within:
                self._attribute(item.module, (*filter(None, [item.attribute]), *names[1:]))
            if not self._name(module, names) and not within:
                self._outside(use)

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
        if not there:
            self._outside(".".join((module, *names)))
        inner = f"{module}.{names[0]}" if names else ""
        is_module = bool(inner) and module_file(self.source, inner) is not None
        if is_module:
            self._attribute(inner, names[1:])
        if there and not (names and self._name(module, names)) and not is_module:
            self._add(module, range(len(self._statements(module))))
            if not names:
                for inner in self._modules(module):
                    self._attribute(inner, ())

    def _outside(self, name: str) -> None:
        """Reach what a library finds in the project by a name that the text does not have."""
        if _is_one(name, FOUND_BY_NAME):
            self.everything = True
        elif _is_one(name, UNPACKED):
            for module in self._modules(""):
                classes = [number for number, one in enumerate(self._statements(module)) if one.is_class]
                if classes:
                    self._import(module)
                    self._add(module, classes)

    def _modules(self, package: str) -> list[str]:
        """Give the modules of the tree that are within a package."""
        places = (file.relative_to(self.source) for file in python_files(self.source))
        found = (".".join(place.with_suffix("").parts).removesuffix(".__init__") for place in places)
        return [module for module in found if module.startswith(f"{package}." if package else "")]


def _is_one(name: str, known: tuple[str, ...]) -> bool:
    """Say whether a dotted name is one that is known, or lies within one, or one within it."""
    return any(f"{name}.".startswith(f"{one}.") or f"{one}.".startswith(f"{name}.") for one in known)


def _in_order(statements: list[Statement]) -> list[str]:
    """Give the digests of statements; where functions stand makes no difference while no name is bound twice."""
    names = [name for statement in statements for name in statement.binds]
    if len(names) > len(set(names)):
        return [statement.digest for statement in statements]
    moved = sorted(statement.digest for statement in statements if statement.movable)
    return [*(statement.digest for statement in statements if not statement.movable), *moved]


def all_digests(source: Path) -> dict[str, list[str]]:
    """Give the digests of all statements of a source tree, by file."""
    found = {}
    for file in python_files(source):
        place = file.relative_to(source)
        module = ".".join(place.with_suffix("").parts).removesuffix(".__init__")
        found[place.as_posix()] = [statement.digest for statement in read_statements(file, module)]
    return found
