"""Names and phrases of generated files: which names code reads, and how cells are listed in prose."""

from __future__ import annotations

import ast
import builtins
import io
import re
import symtable
import textwrap
import tokenize
from collections.abc import Collection, Iterable, Sequence

from trilho.adopt.scopes import queried

BUILTINS = {*dir(builtins), "__name__", "__file__", "__doc__"}
LITERALS = (tokenize.STRING, *(getattr(tokenize, name) for name in ("FSTRING_START",) if hasattr(tokenize, name)))


def free_names(source: str) -> set[str]:
    """Give the names that a module's text reads and does not bind itself, built-in ones apart.

    >>> sorted(free_names("def f(x):\\n    y = x + K\\n    return [np.log(v) for v in y]"))
    ['K', 'np']
    """
    table = symtable.symtable(source, "module", "exec")
    bound = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    return (_read_globally(table) | queried(ast.parse(source))) - bound - BUILTINS


def bound_names(source: str) -> set[str]:
    """Give the names that a module's text binds.

    >>> sorted(bound_names("import os.path\\nA, b = 1, 2\\ndef f(): pass"))
    ['A', 'b', 'f', 'os']
    """
    table = symtable.symtable(source, "module", "exec")
    return {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}


def _read_globally(table: symtable.SymbolTable) -> set[str]:
    top = table.get_type() == "module"
    found = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global())}
    return found.union(*(_read_globally(child) for child in table.get_children()))


def changed_parameter(name: str, source: str, changing: Collection[str] = ()) -> bool:
    """Say whether a body changes the object that a parameter holds before it binds the name anew.

    `changing` names functions that change what they are given.

    >>> changed_parameter("df", "df['x'] = 1"), changed_parameter("df", "df = df.copy()\\ndf['x'] = 1")
    (True, False)
    """
    for statement in ast.parse(source).body:
        for node in ast.walk(statement):
            if isinstance(node, ast.For) and _holds(node.iter, name):
                body = "\n".join(map(ast.unparse, node.body))
                if isinstance(node.target, ast.Name) and changed_parameter(node.target.id, body, changing):
                    return True
            if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
                if _root(node) == name:
                    return True
            elif isinstance(node, ast.Call):
                given = _root(node.func) in changing and name in map(_root, node.args)
                if given or (_in_place(node) and _root(node.func) == name):
                    return True
        if isinstance(statement, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name
            for target in statement.targets
            for t in (target.elts if isinstance(target, ast.Tuple | ast.List) else [target])
        ):
            return False
    return False


def _holds(node: ast.expr, name: str) -> bool:
    """Say whether a list that is written out has a name in it."""
    return isinstance(node, ast.List | ast.Tuple) and any(isinstance(e, ast.Name) and e.id == name for e in node.elts)


def _in_place(call: ast.Call) -> bool:
    told = any(
        k.arg == "inplace" and isinstance(k.value, ast.Constant) and k.value.value is True for k in call.keywords
    )
    return told or (isinstance(call.func, ast.Attribute) and call.func.attr in ("insert", "pop", "update"))


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def indent(source: str, by: str = "    ") -> str:
    """Indent code, and leave the inside of texts over several lines as it is.

    >>> print(indent('x = \"\"\"a\\nb\"\"\"\\ny = 1'))
        x = \"\"\"a
    b\"\"\"
        y = 1
    """
    inside: set[int] = set()
    start: list[int] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.STRING:
            inside.update(range(token.start[0] + 1, token.end[0] + 1))
        elif tokenize.tok_name[token.type] == "FSTRING_START":
            start.append(token.start[0])
        elif tokenize.tok_name[token.type] == "FSTRING_END":
            inside.update(range(start.pop() + 1, token.end[0] + 1))
    lines = source.splitlines()
    return "\n".join(
        line if number in inside or not line.strip() else by + line for number, line in enumerate(lines, start=1)
    )


def renamed(source: str, names: dict[str, str]) -> str:
    """Put expressions in place of names that code reads, and leave all else as it is written.

    >>> renamed("p = bst.predict(d)  # bst", {"bst": "self.bst"})
    'p = self.bst.predict(d)  # bst'
    """
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name) and node.id in names]
    lines = [line.encode() for line in source.splitlines()]
    for node in sorted(found, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        line = lines[node.lineno - 1]
        end = node.col_offset + len(node.id.encode())
        lines[node.lineno - 1] = line[: node.col_offset] + names[node.id].encode() + line[end:]
    return "\n".join(line.decode() for line in lines)


def listed(words: Iterable[object], last: str = "and") -> str:
    """Join words as prose does.

    >>> listed([3, 4, 6]), listed(["x"])
    ('3, 4 and 6', 'x')
    """
    texts = [str(word) for word in words]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} {last} {texts[-1]}" if texts else ""


def cells_phrase(cells: Sequence[int]) -> str:
    """Say which cells code comes from.

    >>> cells_phrase([3, 4]), cells_phrase([3]), cells_phrase([])
    ('From cells 3 and 4.', 'From cell 3.', '')
    """
    return f"From cell{'s' if len(cells) > 1 else ''} {listed(cells)}." if cells else ""


def docstring(text: str, more: str = "", by: str = "") -> str:
    """Write a docstring, on one line where it fits.

    >>> docstring("Fit the model.", "From cell 3.")
    '\"\"\"Fit the model. From cell 3.\"\"\"'
    """
    text = " ".join(text.split()).replace("\\", "\\\\").replace('"""', "'''")
    text = text if not text or text.endswith((".", "!", "?", ":")) else f"{text}."
    text = re.sub(r'"$', "'", text)
    whole = f"{text} {more}".strip()
    if len(whole) + len(by) <= 90:
        return f'"""{whole}"""'
    parts = [textwrap.fill(part, 96 - len(by)) for part in (text, more) if part]
    if len(parts[0].splitlines()) > 1:  # the first line says what, the rest goes below
        first, _, rest = text.partition(". ")
        short = first if len(first) <= 90 else textwrap.shorten(first, 90, placeholder=" ...")
        parts = [short if short.endswith((".", "...")) else f"{short}.", textwrap.fill(f"{rest} {more}".strip(), 96)]
    body = "\n\n".join(part for part in parts if part)
    return f'"""{body}\n"""' if "\n" in body else f'"""{body}"""'


def cut(text: str, length: int = 80) -> str:
    """Shorten a text to a line.

    >>> cut("a  long\\ntext", 8)
    'a lon...'
    """
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 3] + "..."
