"""What an argument's type says: an artifact to read or to write and its kind, or a plain value and its type."""

from __future__ import annotations

import ast
import difflib
from dataclasses import dataclass, replace
from typing import Any, Literal

from trilho.pipeline.definition.modules import DEPTH, Definitions, parse_text
from trilho_runtime.steps.typed import KINDS, fits

ARTIFACTS = ("in", "out")
HOMES = ("trilho_runtime.step.", "trilho_runtime.steps.artifact.")
ROLES: dict[str, Literal["in", "out"]] = {"In": "in", "Out": "out"}
ARTIFACT_KINDS = {"Table": "table", "Model": "model", "Metrics": "metrics", "File": "file"}
PLAIN = {kind: python for python, kind in KINDS.items()}
OLD = {"typing.List": "list", "typing.Dict": "dict"}
OPTIONAL, UNION = ("typing.Optional",), ("typing.Union",)
ALLOWED = "str, int, float, bool, list, dict, In[KIND] and Out[KIND] are allowed"
KIND_WORDS = "a kind is Table, Model, Metrics or File"


@dataclass(frozen=True)
class Read:
    """What an annotation says."""

    written: str
    role: Literal["in", "out", "parameter"] = "parameter"
    type: str = ""
    """An artifact's kind, or a value's type."""
    element: str = ""
    """What is in a list, where it says so."""
    is_list: bool = False
    is_optional: bool = False
    problem: str = ""
    hint: str = ALLOWED
    near: str = ""

    def takes(self, value: Any) -> bool:
        """Say whether a constant is of this type."""
        return self.is_optional if value is None else fits_type(value, self.type)


def read_annotation(node: ast.expr | None, definitions: Definitions, depth: int = DEPTH) -> Read:
    """Read an argument's annotation; a name that stands for another type is followed."""
    if node is None:
        return Read("", problem="has no type")
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = parse_text(node.value) or node
    written = ast.unparse(node)
    if (options := _alternatives(node, definitions)) is not None:
        return _optional(written, options, definitions, depth)
    name = _name(node, definitions)
    inner = node.slice if isinstance(node, ast.Subscript) else None
    for home in HOMES:
        if name.startswith(home) and name.removeprefix(home) in ROLES:
            return _artifact(written, ROLES[name.removeprefix(home)], inner, definitions)
    plain = OLD.get(name, name)
    if plain == "list" and inner is not None:
        element = read_annotation(inner, definitions, depth)
        if element.role == "in" and not element.problem and not element.is_list:
            return replace(element, written=written, is_list=True)
        return Read(written, type=plain, element=element.type if not element.is_optional else "")
    if plain in PLAIN:
        return Read(written, type=plain)
    found = definitions.definition(node) if isinstance(node, (ast.Name, ast.Attribute)) else None
    if found is not None and isinstance(found.node, ast.expr) and depth:
        return replace(read_annotation(found.node, found.definitions, depth - 1), written=written)
    return _unsupported(written, name)


def _unsupported(written: str, name: str) -> Read:
    close = difflib.get_close_matches(name.rpartition(".")[2], [*PLAIN, *ROLES], n=1, cutoff=0.7)
    imported = f"; {written} is not imported from trilho_runtime.step" if name in ROLES else ""
    near = close[0] if close and close[0] != name else ""
    return Read(written, problem=f"is {written}, which no pipeline can pass on{imported}", near=near)


def _name(node: ast.expr, definitions: Definitions) -> str:
    return definitions.resolve(node.value if isinstance(node, ast.Subscript) else node)


def _alternatives(node: ast.expr, definitions: Definitions) -> list[ast.expr] | None:
    """Give what a union is of; None for what is no union."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        left = _alternatives(node.left, definitions) or [node.left]
        return [*left, *(_alternatives(node.right, definitions) or [node.right])]
    if isinstance(node, ast.Subscript):
        name = _name(node, definitions)
        if name in OPTIONAL:
            return [node.slice, ast.Constant(None)]
        if name in UNION:
            return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    return None


def _optional(written: str, options: list[ast.expr], definitions: Definitions, depth: int) -> Read:
    given = [node for node in options if not (isinstance(node, ast.Constant) and node.value is None)]
    reads = [read_annotation(node, definitions, depth) for node in given]
    if len(reads) != 1:
        return Read(written, problem=f"is {written}; a value is of one type, or of one type or None")
    if reads[0].role in ARTIFACTS:
        return Read(written, problem=f"is {written}; an artifact is always there", hint="write it without None")
    return replace(reads[0], written=written, is_optional=True)


def _artifact(written: str, role: Literal["in", "out"], inner: ast.expr | None, definitions: Definitions) -> Read:
    if inner is None:
        return Read(written, role, "file")
    many = isinstance(inner, ast.Subscript) and OLD.get(_name(inner, definitions), _name(inner, definitions)) == "list"
    kind_node = inner.slice if many and isinstance(inner, ast.Subscript) else inner
    if many and role == "out":
        return Read(written, role, problem=f"is {written}; a step leaves one artifact under each name")
    name = _kind(kind_node, definitions)
    if name in ARTIFACT_KINDS:
        return Read(written, role, ARTIFACT_KINDS[name], is_list=many)
    close = difflib.get_close_matches(ast.unparse(kind_node), ARTIFACT_KINDS, n=1)
    return Read(written, role, problem=f"is {written}; {KIND_WORDS}", hint="", near=close[0] if close else "")


def _kind(node: ast.expr, definitions: Definitions, depth: int = DEPTH) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = parse_text(node.value) or node
    name = definitions.resolve(node)
    for home in HOMES:
        if name.startswith(home):
            return name.removeprefix(home)
    found = definitions.definition(node) if isinstance(node, (ast.Name, ast.Attribute)) else None
    if found is not None and isinstance(found.node, ast.expr) and depth:
        return _kind(found.node, found.definitions, depth - 1)
    return ""


def fits_type(value: Any, type_: str) -> bool:
    """Say whether a constant can be given where a type is declared.

    >>> fits_type(1, "float"), fits_type(1.5, "int"), fits_type("1", "int")
    (True, False, False)
    """
    return type_ in PLAIN and fits(value, PLAIN[type_])


def type_of_value(value: Any) -> str:
    """Name the type of a constant; nothing for what JSON has no word for.

    >>> type_of_value(1.0), type_of_value([1]), type_of_value((1,)), type_of_value({1: 2})
    ('float', 'list', '', '')
    """
    if value is None:
        return "None"
    if isinstance(value, list):
        return "list" if all(map(type_of_value, value)) else ""
    if isinstance(value, dict):
        return "dict" if all(isinstance(key, str) and type_of_value(x) for key, x in value.items()) else ""
    if isinstance(value, float) and value - value != 0:
        return ""
    return KINDS.get(type(value), "")
