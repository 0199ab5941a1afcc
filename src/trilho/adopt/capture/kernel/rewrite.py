"""Rewrites a statement so that what its expressions are worth is seen, and its calls can be watched.

`f(a, b)` becomes `_trilho_see_((7, _trilho_call_((7, f))(a, b)))`: the call itself stays in the notebook's own frame,
so that `super()`, `locals()`, `DataFrame.query("x > @limit")` and formulas find what they look for. Both helpers take
one pair and give its second half, or a stand-in for it; in a worker process they are `operator.itemgetter(1)`.
"""

from __future__ import annotations

import ast
from typing import Any, Sequence

SEE = "_trilho_see_"
CALL = "_trilho_call_"
LEFT_ALONE = {"super", "locals", "globals", "vars", "dir", "eval", "exec", "__import__", "breakpoint"}
COMPILED = {"jit", "njit", "vectorize", "guvectorize", "cuda", "stencil", "function", "script", "pandas_udf", "udf"}
OPERATORS = (ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SCOPES = (*FUNCTIONS, ast.Lambda, ast.ClassDef)


class Site:
    """A place in the notebook whose value is seen."""

    __slots__ = ("arguments", "callee", "cell", "function", "id", "is_key", "kind", "name", "parents", "source", "span")

    def __init__(self, number: int, cell: int, node: Any, kind: str, source: str) -> None:
        self.id = number
        self.cell = cell
        self.span = (node.lineno, node.col_offset, node.end_lineno, node.end_col_offset)
        self.kind = kind
        self.is_key = False  # whether it is what a subscript takes
        self.source = source
        self.name = ""  # of a global that is read here
        self.function = ""  # the notebook function, or class, that this is in
        self.parents: list[int] = []  # sites whose values this one is made of
        self.callee = ""  # source of what is called
        self.arguments: list[tuple[str, str]] = []  # keyword or "" or "*" or "**", source


class Scope:
    """Names that are a function's own."""

    def __init__(self, names: set[str], shared: set[str]) -> None:
        self.names = names
        self.shared = shared  # declared global


class Rewriter(ast.NodeTransformer):
    """Rewrites statements of one cell, and adds what they hold to `sites`."""

    def __init__(self, cell: int, code: str, sites: list[Site]) -> None:
        self.cell = cell
        self.lines = [line.encode("utf-8", "surrogatepass") for line in code.split("\n")]
        self.sites = sites
        self.scopes: list[Scope] = []
        self.functions: list[str] = []
        self.collected: list[int] = []  # sites of the expression that is being visited
        self.static_reads: set[str] = set()

    def source(self, node: Any) -> str:
        """Give a node's source text."""
        first, last = node.lineno - 1, node.end_lineno - 1
        if first == last:
            return str(self.lines[first][node.col_offset : node.end_col_offset], "utf-8", "replace")
        parts = [self.lines[first][node.col_offset :], *self.lines[first + 1 : last]]
        parts.append(self.lines[last][: node.end_col_offset])
        return b"\n".join(parts).decode("utf-8", "replace")

    # what is wrapped

    def visit(self, node: ast.AST) -> Any:
        """Visit a node; an expression that is worth seeing comes back wrapped."""
        if isinstance(node, ast.expr) and self._is_seen(node):
            return self._wrapped(node)
        return super().visit(node)

    def _is_seen(self, node: ast.expr) -> bool:
        if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
            return isinstance(node.ctx, ast.Load) and not (isinstance(node, ast.Name) and node.id in LEFT_ALONE)
        if isinstance(node, OPERATORS):
            return not all(isinstance(part, _QUIET) for part in ast.walk(node))
        return isinstance(node, COMPREHENSIONS) or (isinstance(node, ast.Call) and not _is_left_alone(node))

    def _wrapped(self, node: Any) -> ast.expr:
        site = Site(len(self.sites), self.cell, node, type(node).__name__.lower(), self.source(node))
        site.function = self.functions[0] if self.functions else ""
        self.sites.append(site)
        outer, self.collected = self.collected, []
        if isinstance(node, ast.Name):
            site.name = node.id if self._is_global(node.id) else ""
            inner: ast.expr = node
        elif isinstance(node, ast.Call):
            inner = self._call(node, site)
        elif isinstance(node, ast.Subscript):
            inner = self._subscript(node)
        else:
            inner = self.generic_visit(node)  # type: ignore[assignment]
        site.parents = self.collected
        self.collected = [*outer, site.id]
        return _pair(SEE, site.id, inner, node)

    def _subscript(self, node: ast.Subscript) -> ast.expr:
        node.value = self.visit(node.value)
        known = len(self.collected)
        node.slice = self.visit(node.slice)
        for number in self.collected[known:]:
            self.sites[number].is_key = True
        return node

    def _call(self, node: ast.Call, site: Site) -> ast.expr:
        site.callee = self.source(node.func)
        for argument in node.args:
            starred = isinstance(argument, ast.Starred)
            value = argument.value if isinstance(argument, ast.Starred) else argument
            site.arguments.append(("*" if starred else "", self.source(value)))
        for keyword in node.keywords:
            site.arguments.append((keyword.arg or "**", self.source(keyword.value)))
        if isinstance(node.func, ast.Name):
            if self._is_global(node.func.id):
                site.name = node.func.id
        elif isinstance(node.func, ast.Attribute):
            node.func.value = self.visit(node.func.value)
        else:
            node.func = self.visit(node.func)
        node.args = [self.visit(argument) for argument in node.args]
        node.keywords = [self.visit(keyword) for keyword in node.keywords]
        node.func = _pair(CALL, site.id, node.func, node.func)
        return node

    def _is_global(self, name: str) -> bool:
        for scope in reversed(self.scopes):
            if name in scope.shared:
                return True
            if name in scope.names:
                return False
        return True

    # scopes

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        """Rewrite a function's body and defaults; decorators and annotations stay as they are."""
        self._note_names(node.decorator_list)
        if any(_compiles(decorator) for decorator in node.decorator_list):
            return node
        self._visit_defaults(node.args)
        with_scope = Scope(_parameters(node.args) | _stored(node.body), _declared(node.body))
        self._in_scope(node, node.name, with_scope)
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        """Leave a coroutine alone."""
        self._note_names([node])
        return node

    def visit_Await(self, node: ast.Await) -> Any:
        """Leave what is awaited alone."""
        self._note_names([node])
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        """Rewrite a class's body; bases and decorators stay as they are."""
        self._note_names([*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)])
        self._in_scope(node, node.name, Scope(set(), set()))
        return node

    def visit_Lambda(self, node: ast.Lambda) -> Any:
        """Rewrite a lambda's body."""
        self._visit_defaults(node.args)
        self.scopes.append(Scope(_parameters(node.args), set()))
        outer, self.collected = self.collected, []
        node.body = self.visit(node.body)
        self.collected = outer
        self.scopes.pop()
        return node

    def _in_scope(self, node: Any, name: str, scope: Scope) -> None:
        self.scopes.append(scope)
        self.functions.append(name)
        outer, self.collected = self.collected, []
        node.body = [self.visit(statement) for statement in node.body]
        self.collected = outer
        self.functions.pop()
        self.scopes.pop()

    def _visit_defaults(self, arguments: ast.arguments) -> None:
        arguments.defaults = [self.visit(default) for default in arguments.defaults]
        arguments.kw_defaults = [default and self.visit(default) for default in arguments.kw_defaults]

    def _comprehension(self, node: Any) -> Any:
        names = {
            part.id
            for generator in node.generators
            for part in ast.walk(generator.target)
            if isinstance(part, ast.Name)
        }
        first = node.generators[0]
        first.iter = self.visit(first.iter)
        self.scopes.append(Scope(names, set()))
        outer, self.collected = self.collected, []
        for number, generator in enumerate(node.generators):
            if number:
                generator.iter = self.visit(generator.iter)
            generator.ifs = [self.visit(test) for test in generator.ifs]
        for part in ("key", "value", "elt"):
            if hasattr(node, part):
                setattr(node, part, self.visit(getattr(node, part)))
        self.scopes.pop()
        self.collected = outer
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815  ast's names

    # what stays as it is

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        """Leave the annotation alone."""
        node.target = self.visit(node.target)
        node.value = node.value and self.visit(node.value)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> Any:
        """Leave the kind of exception alone."""
        self._note_names([node.type] if node.type else [])
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def visit_match_case(self, node: Any) -> Any:
        """Leave patterns alone."""
        node.guard = node.guard and self.visit(node.guard)
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def visit_TypeAlias(self, node: Any) -> Any:
        """Leave a type alone."""
        return node

    def _note_names(self, nodes: Sequence[ast.AST]) -> None:
        for node in nodes:
            self.static_reads.update(part.id for part in ast.walk(node) if isinstance(part, ast.Name))


_QUIET = (ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.Constant, *OPERATORS)


def _pair(helper: str, number: int, value: ast.expr, like: ast.expr) -> ast.expr:
    pair = ast.Tuple([ast.Constant(number, kind=None), value], ast.Load())
    call = ast.Call(ast.Name(helper, ast.Load()), [pair], [])
    for node in (call, call.func, pair, pair.elts[0]):
        ast.copy_location(node, like)
    return call


def _is_left_alone(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id in LEFT_ALONE


def _compiles(decorator: ast.expr) -> bool:
    """Say whether a decorator reads the function's source or bytecode, as numba does."""
    return any(
        (part.id if isinstance(part, ast.Name) else part.attr) in COMPILED
        for part in ast.walk(decorator)
        if isinstance(part, (ast.Name, ast.Attribute))
    )


def _parameters(arguments: ast.arguments) -> set[str]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return {argument.arg for argument in every if argument}


def _own(body: Sequence[ast.AST]) -> list[ast.AST]:
    """List the nodes of a body that are in its own scope."""
    found: list[ast.AST] = []
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        found.append(node)
        if not isinstance(node, SCOPES):
            waiting.extend(ast.iter_child_nodes(node))
    return found


def _declared(body: Sequence[ast.AST]) -> set[str]:
    return {name for node in _own(body) if isinstance(node, ast.Global) for name in node.names}


def _stored(body: Sequence[ast.AST]) -> set[str]:
    return bound_names(body) - _declared(body)


def augmented_names(node: ast.AST) -> set[str]:
    """Give the names that a statement changes and binds again, which can leave them what they were: `mask &= x`."""
    parts = [part.target for part in ast.walk(node) if isinstance(part, ast.AugAssign)]
    return {target.id for target in parts if isinstance(target, ast.Name)}


def bound_names(body: Sequence[ast.AST]) -> set[str]:
    """Give the names that statements bind in their own scope."""
    names: set[str] = set()
    for node in _own(body):
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            names.add(node.id)
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.ExceptHandler)):
            names.update(name for name in [node.name] if name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
    return names - _loop_names(body)


def _loop_names(body: Sequence[ast.AST]) -> set[str]:
    """Give the names that only comprehensions bind."""
    inner: set[int] = set()
    outer: set[str] = set()
    names: set[str] = set()
    for node in _own(body):
        for generator in getattr(node, "generators", []):
            inner.update(id(part) for part in ast.walk(generator.target))
    for node in _own(body):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            (names if id(node) in inner else outer).add(node.id)
    return names - outer
