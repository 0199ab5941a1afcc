"""A module taken apart into its top-level statements: what each binds, names and imports. Read, never imported."""

from __future__ import annotations

import ast
import functools
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ALL = "*"
HARMLESS = set(  # calls that change nothing but what they give back
    re.findall(
        r"\w+",
        """
        step dataclass property staticmethod classmethod abstractmethod cached_property cache lru_cache wraps
        contextmanager overload override final field Field compile getLogger namedtuple TypeVar ParamSpec NewType
        Path resolve timedelta datetime date bool int float str bytes list tuple dict set frozenset range len min max
        sum sorted abs round
        """,
    )
)
PLAIN_BASES = {"object", "NamedTuple", "TypedDict", "Protocol", "Generic", "ABC", "Exception", "ValueError"}
SCRIPT = ("__name__ == '__main__'", "'__main__' == __name__")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Import:
    """A name that an import binds: to a module, or to what `attribute` is in it."""

    bound: str
    module: str
    attribute: str = ""


@dataclass(frozen=True)
class Statement:
    """One top-level statement; `acts` says that it does more than bind its names when its module is imported."""

    binds: frozenset[str]
    uses: frozenset[str]  # dotted, as "rules.times"; names that are local to a function are left out
    imports: tuple[Import, ...]
    modules: frozenset[str]  # that it imports wherever in it, when it runs
    at_import: frozenset[str]  # that it imports when its own module is imported
    acts: bool
    digest: str
    is_class: bool = False
    movable: bool = False
    """Whether it makes no difference where in its module it stands: a function that takes nothing in when defined."""


def read_statements(file: Path, module: str) -> tuple[Statement, ...]:
    """Take a file apart, once for each of its states; one that cannot be parsed is a single statement."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    state = file.stat()
    return _read(file, package, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4096)
def _read(file: Path, package: str, _modified: int, _size: int) -> tuple[Statement, ...]:
    data = file.read_bytes()
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):
        none: frozenset[str] = frozenset()
        return (Statement(none, none, (), none, none, True, hashlib.sha256(data).hexdigest()),)
    own = _own_names(tree, package, file.parents[len(package.split(".")) if package else 0])
    return tuple(_statement(node, package, own) for node in tree.body if not _is_idle(node))


def _own_names(tree: ast.Module, package: str, source: Path) -> frozenset[str]:
    """Give the names that stand for code of the project's: what they do when called, only their code tells."""
    found = _bound(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {item.bound for item in _imports(node, package) if _is_own(source, item.module)}
    return frozenset(found)


def _is_own(source: Path, module: str) -> bool:
    top = source / module.partition(".")[0]
    return top.is_dir() or top.with_suffix(".py").is_file()


def _statement(node: ast.stmt, package: str, own: frozenset[str]) -> Statement:
    anywhere = [found for found in ast.walk(node) if isinstance(found, (ast.Import, ast.ImportFrom))]
    outside = [found for found in _walk(node, FUNCTIONS) if isinstance(found, (ast.Import, ast.ImportFrom))]
    imports = tuple(item for found in anywhere for item in _imports(found, package))
    members = {item.bound for found in outside for item in _imports(found, package)} - {ALL}
    acts = _acts(node, own)
    return Statement(
        binds=frozenset(_bound([node])) | {item.bound for found in outside for item in _imports(found, package)},
        uses=frozenset(_uses(node)) | (members if isinstance(node, ast.ClassDef) else set()),
        imports=imports,
        modules=frozenset(name for found in anywhere for name in _modules(found, package)),
        at_import=frozenset(name for found in outside for name in _modules(found, package)),
        acts=acts,
        digest=hashlib.sha256(plain(node).encode()).hexdigest(),
        is_class=isinstance(node, ast.ClassDef),
        movable=isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not acts and not _takes_in(node.args),
    )


def plain(node: ast.AST) -> str:
    """Write a syntax tree as text, the same in every version of Python: no positions, nothing that is empty.

    >>> plain(ast.parse("f( 1 )  # one").body[0]) == plain(ast.parse("f(1)").body[0])
    True
    """
    parts = []
    for name, value in ast.iter_fields(node):
        if name in ("ctx", "kind", "type_comment") or value == [] or (value is None and name != "value"):
            continue
        if isinstance(value, ast.AST):
            parts.append(f"{name}={plain(value)}")
        elif isinstance(value, list):
            parts.append(f"{name}=[{','.join(plain(x) if isinstance(x, ast.AST) else repr(x) for x in value)}]")
        else:
            parts.append(f"{name}={value!r}")
    return f"{type(node).__name__}({','.join(parts)})"


def _is_idle(node: ast.stmt) -> bool:
    """Say whether a statement does nothing when its module is imported: a docstring, a part for scripts or checkers."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.ImportFrom):
        return node.module == "__future__"
    if not isinstance(node, ast.If) or node.orelse:
        return False
    return _last(node.test) == "TYPE_CHECKING" or ast.unparse(node.test) in SCRIPT


def _takes_in(arguments: ast.arguments) -> bool:
    given = (*arguments.defaults, *filter(None, arguments.kw_defaults))
    return not all(isinstance(one, ast.Constant) for one in given)


def _walk(node: ast.AST, stop: tuple[type[ast.AST], ...]) -> Iterator[ast.AST]:
    """Give a node and what is in it, but nothing from within nodes of the kinds `stop`."""
    yield node
    if not isinstance(node, stop):
        for child in ast.iter_child_nodes(node):
            yield from _walk(child, stop)


def _bound(body: list[ast.stmt]) -> set[str]:
    """Give the names that statements bind in their own scope, imports aside."""
    found = set()
    for statement in body:
        for node in _walk(statement, (*FUNCTIONS, ast.ClassDef, *COMPREHENSIONS)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.ExceptHandler) and node.name:
                found.add(node.name)
    return found


def _uses(node: ast.AST) -> set[str]:
    """Give the names that a node takes from the module around it, as far as attributes follow them."""
    if isinstance(node, FUNCTIONS):
        return _uses_of_function(node)
    if isinstance(node, COMPREHENSIONS):
        local = {x.id for g in node.generators for x in ast.walk(g.target) if isinstance(x, ast.Name)}
        return _without(_uses_in(node), local) | _uses(node.generators[0].iter)
    if isinstance(node, ast.Attribute):
        chain = _chain(node)
        return {chain} if chain else _uses(node.value)
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Load) else set()
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        return {node.target.id} | _uses(node.value)
    return _uses_in(node)


def _uses_in(node: ast.AST) -> set[str]:
    found: set[str] = set()
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                found |= _in_annotation(child) if name in ("annotation", "returns") else _uses(child)
    return found


def _in_annotation(node: ast.AST) -> set[str]:
    """Read the names of an annotation, those in quotes too."""
    found = _uses(node)
    for quoted in ast.walk(node):
        if isinstance(quoted, ast.Constant) and isinstance(quoted.value, str):
            try:
                found |= _uses(ast.parse(quoted.value, mode="eval"))
            except (SyntaxError, ValueError):
                continue
    return found


def _uses_of_function(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> set[str]:
    body: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else list(node.body)
    inner = set().union(*map(_uses, body))
    arguments = [x.arg for x in ast.walk(node.args) if isinstance(x, ast.arg)]
    local = set(arguments)
    if not isinstance(node, ast.Lambda):
        foreign = {x for found in ast.walk(node) if isinstance(found, (ast.Global, ast.Nonlocal)) for x in found.names}
        local |= _bound(node.body) - foreign
    outer = _uses_in(node.args)
    if not isinstance(node, ast.Lambda):
        outer |= set().union(*map(_uses, node.decorator_list))
        outer |= _in_annotation(node.returns) if node.returns is not None else set()
    return _without(inner, local) | outer


def _without(uses: set[str], local: set[str]) -> set[str]:
    return {use for use in uses if use.partition(".")[0] not in local}


def _chain(node: ast.AST) -> str:
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""


def _imports(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[Import]:
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield Import(alias.asname or alias.name, _base(node, package), "" if alias.name == ALL else alias.name)
        elif alias.asname:
            yield Import(alias.asname, alias.name)
        else:
            first = alias.name.partition(".")[0]
            yield Import(first, first)


def _modules(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
    for alias in node.names:
        if isinstance(node, ast.Import):
            yield alias.name
        else:
            yield from (_base(node, package), f"{_base(node, package)}.{alias.name}")


def _base(node: ast.ImportFrom, package: str) -> str:
    above = package.split(".")
    start = ".".join(above[: len(above) - node.level + 1]) if node.level else ""
    return ".".join(filter(None, (start, node.module)))


def _acts(node: ast.stmt, own: frozenset[str]) -> bool:
    """Say whether a statement does more than bind names when it runs, or may: a call, a decorator, a base class."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return any(alias.name == ALL for alias in node.names)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return _calls(node.args, own) or not all(_is_harmless(x, own) for x in node.decorator_list)
    if isinstance(node, ast.ClassDef):
        bases = [_last(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases]
        strange = set(bases) - PLAIN_BASES or any(keyword.arg != "total" for keyword in node.keywords)
        harmless = all(_is_harmless(x, own) for x in node.decorator_list)
        return bool(strange) or not harmless or any(_acts_in_class(x, own) for x in node.body)
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        plain_ = all(isinstance(x, (ast.Name, ast.Tuple, ast.List, ast.Starred, ast.Store, ast.Load))
                     for target in targets for x in ast.walk(target))  # fmt: skip
        return not plain_ or _calls(node, own)
    return not isinstance(node, (ast.Pass, ast.Global)) and type(node).__name__ != "TypeAlias"


def _acts_in_class(node: ast.stmt, own: frozenset[str]) -> bool:
    return not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) and _acts(node, own)


def _calls(node: ast.AST, own: frozenset[str]) -> bool:
    calls = (x for x in _walk(node, FUNCTIONS) if isinstance(x, (ast.Call, ast.Await, ast.Yield)))
    return any(not (isinstance(call, ast.Call) and _is_harmless(call, own)) for call in calls)


def _is_harmless(node: ast.AST, own: frozenset[str]) -> bool:
    called = node.func if isinstance(node, ast.Call) else node
    return _last(called) in HARMLESS and _chain(called).partition(".")[0] not in own


def _last(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
