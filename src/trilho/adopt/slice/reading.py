"""The main table's read as `load`, and the other tables as look-ups that are kept with the code."""

from __future__ import annotations

import ast

from trilho.adopt.plan import Function, Lookup, Part
from trilho.adopt.scopes import root
from trilho.adopt.slice.program import Program, Step
from trilho.adopt.slice.shared import Unsliceable
from trilho.adopt.slice.text import Edit, comments_above, inside, span_of
from trilho.adopt.trace import Read, Span

REMOTE = ("bigquery", "sql", "dataset", "http")
PATHS = ("filepath_or_buffer", "path", "io", "fname", "file", "path_or_buf", "filepath", "source")


def read_of(program: Program, id_: int) -> Read:
    """Give a read by its id."""
    return program.read if id_ == program.main else next(read for read in program.trace.reads if read.id == id_)


def read_call(program: Program, read: Read) -> ast.Call:
    """Give the call that a read was."""
    node = program.node_at(read.statement, read.cell, read.span)
    assert isinstance(node, ast.Call), f"read {read.id} is at {read.span} of cell {read.cell}"
    return node


def with_path(program: Program, read: Read, path: str) -> str:
    """Write a read's call with another path in it, constants in other arguments included as they are."""
    call = read_call(program, read)
    given = next((k.value for k in call.keywords if k.arg in PATHS), None) or (call.args[0] if call.args else None)
    edits = [Edit(span_of(given), path)] if given is not None else []
    return program.code[read.cell].edited(span_of(call), edits)


def load_call(program: Program) -> str:
    """Write the main table's read for any path; what came of a query is read from its extract."""
    read = program.read
    return extract_read(read, "path") if is_extract(read) else with_path(program, read, "path")


def is_extract(read: Read) -> bool:
    """Say whether what is kept of a read is the table that came of it: there was no file here, but a query or a URL."""
    return read.kind in REMOTE or ("://" in read.source and read.file.endswith(".parquet"))


def extract_read(read: Read, path: str) -> str:
    """Write the read of a query's extract: as a table, or row by row where the notebook took BigQuery's rows so."""
    rows = '.to_dict("records")' if read.function.endswith("RowIterator") else ""
    return f"pd.read_parquet({path}){rows}"


def load_function(program: Program, frame: str, more: list[Part] | None = None) -> Function:
    """Write `load`: the notebook's own read, of any file."""
    read = program.read
    step, call = program.steps[read.statement], load_call(program)
    first = Part(f"{comments_above(step.statement.source)}{frame} = {call}", read.cell, step.node.lineno, step.id)
    parts = (first, *(more or []))
    return Function(
        "load", (("path", "Path"),), frame, "pd.DataFrame", parts, "Read raw rows as the notebook reads them."
    )


def rest_of_read(program: Program, frame: str) -> bool:
    """Say whether the statement that reads the main table also does something to it."""
    read = read_of(program, program.main)
    node = program.steps[read.statement].node
    if program.is_own(read.statement, read.cell, read.span):
        return not (isinstance(node, ast.Assign) and span_of(node.value) == read.span) and not _only_reads(node, frame)
    found = after_read(program)
    rest = found is not None and does_more(found[2], found[3])
    return not (isinstance(node, ast.Assign) and span_of(node.value) == place_of_read(program)) or rest


def does_more(name: str, body: list[ast.stmt]) -> bool:
    """Say whether the rest of a function that has read a table does more than to show it, and to give it back."""
    return not all(
        isinstance(n, ast.Expr) or (isinstance(n, ast.Return) and isinstance(n.value, ast.Name) and n.value.id == name)
        for n in body
    )


def _only_reads(node: ast.stmt, frame: str) -> bool:
    """Say whether a block does nothing but read a table, of the one place or of another: `try`, `if`, `with`."""
    if isinstance(node, ast.Assign):
        named = [t.id for t in node.targets if isinstance(t, ast.Name)]
        return named == [frame] and isinstance(node.value, ast.Call) and called_word(node.value).startswith("read_")
    if isinstance(node, ast.Try | ast.If | ast.With | ast.For):
        inner = [*node.body, *getattr(node, "orelse", []), *getattr(node, "finalbody", [])]
        inner += [n for h in getattr(node, "handlers", []) for n in h.body]
        return bool(inner) and all(_only_reads(n, frame) or _says_only(n) for n in inner)
    return False


def _says_only(node: ast.stmt) -> bool:
    printed = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and called_word(node.value) == "print"
    return isinstance(node, ast.Pass | ast.Break | ast.Continue) or printed


def called_word(call: ast.Call) -> str:
    """Give the last word of what is called: `read_csv` of `pd.read_csv(...)`."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def place_of_read(program: Program) -> Span | None:
    """Give where in its statement the main table comes from: the read, or the call of the function that reads it."""
    read = read_of(program, program.main)
    step = program.steps[read.statement]
    if program.is_own(step.id, read.cell, read.span):
        return read.span
    name, node = function_of(program, read)
    found = [
        n for n in ast.walk(step.node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == name
    ]
    return span_of(found[0]) if len(found) == 1 and node is not None else None


def function_of(program: Program, read: Read) -> tuple[str, ast.FunctionDef | None]:
    """Give the notebook function that a read is made in."""
    for name, node in program.definitions.items():
        if (
            isinstance(node, ast.FunctionDef)
            and program.cell_of_function[name] == read.cell
            and inside(read.span, span_of(node))
        ):
            return name, node
    return "", None


def after_read(program: Program) -> tuple[str, ast.FunctionDef, str, list[ast.stmt]] | None:
    """Give the function that reads the main table, the name that it has there, and what it does to it then."""
    read = read_of(program, program.main)
    name, node = function_of(program, read)
    if node is None:
        return None
    for place, part in enumerate(node.body):
        if isinstance(part, ast.Return) and part.value is not None and span_of(part.value) == read.span:
            return name, node, "", []
        if isinstance(part, ast.Assign) and span_of(part.value) == read.span and isinstance(part.targets[0], ast.Name):
            return name, node, part.targets[0].id, node.body[place + 1 :]
    return None


def lookup_of(program: Program, step: Step) -> list[Lookup]:
    """Give the tables that a statement reads beside the main one."""
    found = []
    for read in program.trace.reads:
        if read.statement != step.id or read.id == program.main:
            continue
        names = sorted(n for n in step.writes if step.did.values.get(n) is not None)
        node = step.node
        name = names[0] if names and isinstance(node, ast.Assign) else root(read_call(program, read)) or "table"
        call = extract_read(read, "PATH") if is_extract(read) else with_path(program, read, "PATH")
        found.append(Lookup(f"load_{name}".lower(), read.id, call))
    return found


def derive_target(program: Program, frame: str) -> list[Part]:
    """Write how the target comes of the raw columns, as a column of 0 and 1 or of numbers."""
    target, column = program.choice.target, program.choice.target.column
    if target.positive and target.raw:
        return numbered_target(program, frame)
    parts: list[Part] = []
    raw = set(read_of(program, program.main).value.columns or [])
    for id_ in target.statements:
        step = program.steps[id_]
        if not isinstance(step.node, ast.Assign):
            raise Unsliceable(column, step.cell, step.node.lineno, "the target is derived by more than assignments")
        value = step.node.value
        place = step.node.targets[0]
        if isinstance(place, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = [(t, v) for t, v in zip(place.elts, value.elts, strict=False)]
            value = pairs[-1][1]
        tables = {
            n.value.id
            for n in ast.walk(value)
            if isinstance(n, ast.Subscript | ast.Attribute)
            and isinstance(n.value, ast.Name)
            and _is_table(step, n.value.id)
        }
        used = {
            str(n.slice.value)
            for n in ast.walk(value)
            if isinstance(n, ast.Subscript) and isinstance(n.slice, ast.Constant)
        }
        strange = {u for u in used if u not in raw and u not in {p.source for p in parts}}
        if strange and len(target.statements) == 1:
            raise Unsliceable(
                column,
                step.cell,
                step.node.lineno,
                f"the target is derived from {', '.join(sorted(strange))}, "
                "which is no column of the table that was read",
            )
        code = program.code[step.cell]
        edits = [Edit(span_of(n), frame) for n in ast.walk(value) if isinstance(n, ast.Name) and n.id in tables]
        parts.append(
            Part(
                f"{comments_above(step.statement.source)}{frame}[{column!r}] = {code.edited(span_of(value), edits)}",
                step.cell,
                step.node.lineno,
                id_,
            )
        )
    return parts


def numbered_target(program: Program, frame: str) -> list[Part]:
    """Write the target's classes as 1 and 0, where they are words."""
    target, read = program.choice.target, read_of(program, program.main)
    text = f"{frame}[{target.column!r}] = ({frame}[{target.column!r}] == {target.positive}).astype(int)"
    return [Part(text, program.steps[read.statement].cell, 1, program.main)]


def _is_table(step: Step, name: str) -> bool:
    return name in step.reads
