"""What a statement reads, binds and changes, by its text alone.

Names are those of the notebook's own namespace: a function's parameters, a comprehension's variables and whatever else
is local are not seen from outside. A change of what a name stands for, `df["x"] = 1` or `model.fit(X, y)`, is a
mutation of the name; so is what a notebook function does to a global or to its argument, once `closure` is given.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trilho.adopt.scopes import IN_PLACE, QUERIES, annotated, bound, declared, holder, parameters, queried, root

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
Names = frozenset[str]
NONE: Names = frozenset()

ON_FIRST = frozenset({
    "copyto", "delattr", "fill_diagonal", "heapify", "heappop", "heappush", "place", "put", "putmask",
    "setattr", "shuffle",
})  # fmt: skip
"""Functions that change their first argument."""


@dataclass(frozen=True)
class Flow:
    """What one statement does to the names of the notebook."""

    reads: Names  # of values that it had from before
    writes: Names  # bound, anywhere in it
    mutates: Names  # whose object it changes in place; they are read as well
    deletes: Names = NONE
    deferred: Names = NONE  # read only when a function that is defined here is called
    open: bool = False  # it may bind names that cannot be told: a star import, exec, globals()[...]


@dataclass(frozen=True)
class Effects:
    """What calling a notebook function, or using a notebook class, does outside of it."""

    reads: Names
    writes: Names  # declared global and bound
    mutates: Names
    parameters: Names = NONE  # its own parameters whose objects it changes
    order: tuple[str, ...] = ()  # all its parameters, as they are given by position
    methods: Names = NONE  # a class's methods that change the instance


def flow(node: ast.stmt, functions: Mapping[str, Effects] | None = None) -> Flow:
    """Read one top-level statement; with the effects of notebook functions, what it does through them too.

    >>> f = flow(ast.parse("y = [a * k for a in rows]").body[0])
    >>> sorted(f.reads), sorted(f.writes)
    (['k', 'rows'], ['y'])
    >>> sorted(flow(ast.parse("df.loc[m, 'x'] = 0").body[0]).mutates)
    ['df']
    """
    walk = _Walk(functions=functions or {})
    walk.statement(node)
    own = walk.functions
    for name in sorted(walk.used & own.keys()):
        walk.reads |= own[name].reads - walk.writes
        walk.mutates |= own[name].mutates
        walk.writes |= own[name].writes
    return Flow(frozenset(walk.reads), frozenset(walk.writes), frozenset(walk.mutates), frozenset(walk.deletes),
                frozenset(walk.deferred), walk.open)  # fmt: skip


def effects(node: Definition, functions: Mapping[str, Effects] | None = None) -> Effects:
    """Read one function or class by itself: what its body reads and changes of the names outside."""
    if isinstance(node, ast.ClassDef):
        return _class_effects(node)
    inner = _Walk(local=set(parameters(node)), functions=functions or {})
    body = [ast.Expr(node.body)] if isinstance(node, ast.Lambda) else node.body
    outer = declared(body)
    inner.local |= set(bound(body)) - outer
    inner.body(body)
    for note in annotated(node):  # not when it is defined: often text only, or of what comes later
        inner.expression(note)
    given = tuple(parameters(node))
    return Effects(frozenset(inner.reads | inner.deferred), frozenset(inner.writes & outer),
                   frozenset(inner.mutates - inner.local), frozenset(inner.mutates & set(given)), given)  # fmt: skip


def closure(functions: Mapping[str, Definition]) -> dict[str, Effects]:
    """Give each function's effects with those of the notebook functions that it uses, however deep.

    >>> tree = ast.parse("def f(d): return d * K\\ndef g(d): SEEN.append(1); return f(d)")
    >>> both = closure({node.name: node for node in tree.body})
    >>> sorted(both["g"].reads), sorted(both["g"].mutates)
    (['K', 'SEEN', 'f'], ['SEEN'])
    """
    found = {name: effects(node) for name, node in functions.items()}
    for _ in found:
        merged = {name: _with_used(effects(node, found), found) for name, node in functions.items()}
        if merged == found:
            break
        found = merged
    return found


def definitions(nodes: Iterable[ast.stmt]) -> dict[str, Definition]:
    """Give the functions and classes that statements define at the top level, the last of a name; lambdas too."""
    found: dict[str, Definition] = {}
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            found |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
    return found


def _with_used(one: Effects, all_: Mapping[str, Effects]) -> Effects:
    used = [all_[name] for name in one.reads if name in all_]
    return Effects(one.reads.union(*(u.reads for u in used)), one.writes.union(*(u.writes for u in used)),
                   one.mutates.union(*(u.mutates for u in used)), one.parameters, one.order, one.methods)  # fmt: skip


def _class_effects(node: ast.ClassDef) -> Effects:
    walk = _Walk()
    for outer in [*node.bases, *(word.value for word in node.keywords), *node.decorator_list]:
        walk.expression(outer)
    walk.local = set(bound(node.body))
    walk.body([part for part in node.body if not isinstance(part, ast.FunctionDef)])
    own = {part.name: effects(part) for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)}
    changing = {name for name, one in own.items() if one.order and one.order[0] in one.parameters} - {"__init__"}
    created = own.get("__init__")
    reads = frozenset(walk.reads).union(*(one.reads for one in own.values()))
    return Effects(reads, NONE.union(*(one.writes for one in own.values())),
                   NONE.union(*(one.mutates for one in own.values())),
                   created.parameters - set(created.order[:1]) if created else NONE,
                   created.order[1:] if created else (), frozenset(changing))  # fmt: skip


@dataclass
class _Walk:
    """Follows one statement in the order of its execution; `local` names are nobody's business outside."""

    local: set[str] = field(default_factory=set)
    functions: Mapping[str, Effects] = field(default_factory=dict)
    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    mutates: set[str] = field(default_factory=set)
    deletes: set[str] = field(default_factory=set)
    deferred: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)  # every name that was looked at
    sure: set[str] = field(default_factory=set)  # bound on every way to where we are
    open: bool = False

    def body(self, nodes: Iterable[ast.stmt]) -> None:
        for node in nodes:
            self.statement(node)

    def statement(self, node: ast.stmt) -> None:
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is not None:
            method(node)
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self.expression(child)

    def _assign(self, node: ast.Assign) -> None:
        if isinstance(node.value, ast.Lambda):
            self._lambda(node.value)
        else:
            self.expression(node.value)
        for target in node.targets:
            self.bind(target)

    def _lambda(self, node: ast.Lambda) -> None:
        for default in [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]:
            self.expression(default)
        self.deferred |= effects(node).reads - self.local

    def _annassign(self, node: ast.AnnAssign) -> None:
        self.expression(node.annotation)
        if node.value is not None:
            self.expression(node.value)
            self.bind(node.target)

    def _augassign(self, node: ast.AugAssign) -> None:
        self.expression(node.value)
        if isinstance(node.target, ast.Name):
            self.read(node.target.id)
            self.mutate(node.target)
        self.bind(node.target)

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.read(target.id)
                self.deletes |= {target.id} - self.local
            else:
                self.bind(target)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.open = True
            else:
                self.name(alias.asname or alias.name.partition(".")[0])

    _importfrom = _import

    def _functiondef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        given = node.args
        for outer in [*node.decorator_list, *given.defaults, *given.kw_defaults]:
            if outer is not None:
                self.expression(outer)
        self.deferred |= effects(node).reads - self.local - {node.name}
        self.name(node.name)

    _asyncfunctiondef = _functiondef

    def _classdef(self, node: ast.ClassDef) -> None:
        now = _Walk()
        for outer in [*node.bases, *(word.value for word in node.keywords), *node.decorator_list]:
            now.expression(outer)
        now.local = set(bound(node.body))
        for part in node.body:
            now.statement(part)
        for name in now.reads:
            self.read(name)
        self.deferred |= now.deferred - self.local - {node.name}
        self.name(node.name)

    def _if(self, node: ast.If) -> None:
        self.expression(node.test)
        self.branches([node.body, node.orelse])

    def _while(self, node: ast.While) -> None:
        self.expression(node.test)
        self.branches([node.body, []])
        self.branches([node.orelse, []])

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        self.expression(node.iter)
        before = set(self.sure)
        self.bind(node.target)
        self.body(node.body)
        self.sure = before
        self.branches([node.orelse, []])

    _asyncfor = _for

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self.expression(item.context_expr)
            if item.optional_vars is not None:
                self.bind(item.optional_vars)
        self.body(node.body)

    _asyncwith = _with

    def _try(self, node: ast.Try) -> None:
        before = set(self.sure)
        self.body([*node.body, *node.orelse])
        ends = [self.sure]
        for handler in node.handlers:
            self.sure = set(before)
            if handler.type is not None:
                self.expression(handler.type)
            named = {handler.name} - self.local if handler.name else set()
            self.local |= named  # gone when the handler ends
            self.body(handler.body)
            self.local -= named
            ends.append(self.sure)
        self.sure = set.intersection(*ends)
        self.body(node.finalbody)

    _trystar = _try

    def _match(self, node: ast.Match) -> None:
        self.expression(node.subject)
        before, ends = set(self.sure), [set(self.sure)]
        for case in node.cases:
            self.sure = set(before)
            for part in ast.walk(case.pattern):
                if isinstance(part, ast.expr):
                    self.expression(part)
            for name in bound([case.pattern]):  # type: ignore[list-item]
                self.name(name)
            if case.guard is not None:
                self.expression(case.guard)
            self.body(case.body)
            ends.append(self.sure)
        self.sure = set.intersection(*ends)

    def branches(self, bodies: list[list[ast.stmt]]) -> None:
        """Follow bodies of which one is run: sure is only what every one of them binds."""
        before, ends = set(self.sure), []
        for body in bodies:
            self.sure = set(before)
            self.body(body)
            ends.append(self.sure)
        self.sure = set.intersection(*ends)

    def read(self, name: str) -> None:
        if name not in self.local:
            self.used.add(name)
            if name not in self.sure:
                self.reads.add(name)

    def name(self, name: str) -> None:
        if name not in self.local:
            self.writes.add(name)
            self.sure.add(name)

    def mutate(self, node: ast.expr) -> None:
        name = holder(node)
        if name is not None:
            self.mutates.add(name)

    def bind(self, target: ast.expr) -> None:
        """Bind an assignment's target: a name, or a part of what a name stands for, which changes it."""
        match target:
            case ast.Name(id=name):
                self.name(name)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    self.bind(part)
            case ast.Starred(value=inner):
                self.bind(inner)
            case _:
                self.expression(target)
                self.mutate(target)
                self.open |= root(target) in ("globals", "locals")

    def expression(self, node: ast.expr) -> None:
        match node:
            case ast.Name(id=name):
                self.read(name)
            case ast.NamedExpr(target=target, value=value):
                self.expression(value)
                self.bind(target)
            case ast.Lambda():
                self.inside(node, set(parameters(node)))
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                self.inside(node, {n for g in node.generators for n in bound([g.target])})  # type: ignore[list-item]
            case _:
                if isinstance(node, ast.Call):
                    self.call(node)
                for child in ast.iter_child_nodes(node):
                    self.child(child)

    def child(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr):
            self.expression(node)
        else:
            for child in ast.iter_child_nodes(node):
                self.child(child)

    def inside(self, node: ast.expr, names: set[str]) -> None:
        """Go into an expression with names of its own."""
        if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
            self.expression(node.generators[0].iter)  # evaluated outside
        own = names - self.local
        mutated = set(self.mutates)
        self.local |= own
        for child in ast.iter_child_nodes(node):
            self.child(child)
        self.local -= own
        self.mutates -= (self.mutates - mutated) & own

    def call(self, node: ast.Call) -> None:
        """Note what a call changes: the object that it is a method of, or its arguments."""
        function = node.func
        word = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        in_place = any(k.arg == "inplace" and getattr(k.value, "value", True) is not False for k in node.keywords)
        changing = word in IN_PLACE or any(word in one.methods for one in self.functions.values())
        if isinstance(function, ast.Attribute) and (in_place or changing):
            self.mutate(function.value)
        if word in ON_FIRST and node.args:
            self.mutate(node.args[0])
        if word in QUERIES:
            for name in sorted(queried(ast.Call(node.func, node.args[:1], []))):
                self.read(name)
        if word in ("exec", "run_line_magic") and isinstance(function, ast.Name | ast.Attribute):
            self.open |= word == "exec"
        if (
            isinstance(function, ast.Attribute)
            and root(function.value) == "globals"
            and word in ("update", "setdefault")
        ):
            self.open = True
        if isinstance(function, ast.Name) and function.id in self.functions:
            self.arguments(node, self.functions[function.id])

    def arguments(self, node: ast.Call, one: Effects) -> None:
        given = [*zip(one.order, node.args, strict=False), *((k.arg, k.value) for k in node.keywords)]
        for name, value in given:
            if name in one.parameters:
                self.mutate(value)
