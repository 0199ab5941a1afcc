"""A notebook as it lies in its file: cells, and the statements in them in the order in which they will be run.

Nothing is run here and nothing is ever written. Cells are numbered from 0 as in the file, markdown included; lines are
1-based in their cell.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from trilho.adopt.beside import name_imports, words_in
from trilho.adopt.magics import Magic, clean
from trilho.adopt.order import Placed, put_in_order
from trilho.adopt.plan import Finding
from trilho.errors import UsageError

MARKER = re.compile(r"#\s*%%(.*)")
LANGUAGES = {"ir": "R", "r": "R", "julia": "Julia", "scala": "Scala", "javascript": "JavaScript", "bash": "Bash"}


@dataclass(frozen=True)
class Cell:
    """One cell; `code` is its Python, with the line numbers of `source`."""

    index: int
    kind: Literal["code", "markdown", "raw"]
    source: str
    code: str = ""
    magics: tuple[Magic, ...] = ()
    execution_count: int | None = None
    outputs: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Statement:
    """One top-level statement; `id` is its position in the order of execution."""

    id: int
    cell: int
    line: int
    source: str  # with the comment lines directly above it
    node: ast.stmt


@dataclass(frozen=True)
class Notebook:
    """A notebook that was read."""

    path: Path
    cells: tuple[Cell, ...]
    kernel: str | None
    language: str
    digest: str  # sha256 of the file
    statements: tuple[Statement, ...]
    order: Literal["document", "counts"] = "document"
    findings: tuple[Finding, ...] = ()

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """The top-level modules that it imports, anywhere, by name."""
        names = set()
        for statement in self.statements:
            for node in ast.walk(statement.node):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module.partition(".")[0])
        return tuple(sorted(names))

    def of_cell(self, index: int) -> list[Statement]:
        """Give a cell's statements."""
        return [statement for statement in self.statements if statement.cell == index]


def read_notebook(path: Path) -> Notebook:
    """Read an .ipynb file, or a .py script whose cells begin with `# %%`. Raises UsageError in two lines."""
    content = _content(path)
    text = _decoded(content)
    raw, kernel, language = _script(text) if path.suffix == ".py" else _ipynb(path, text)
    if language.lower() not in ("python", "python3", "ipython", "ipython3", "pyspark"):
        name = LANGUAGES.get(language.lower(), language)
        raise UsageError(f"{path.name} is a notebook in {name}; what can be adopted is Python",
                         hint="adopt the model that it saves: trilho adopt MODEL --sample ROWS.csv")  # fmt: skip
    read = [_cell(index, cell) for index, cell in enumerate(raw)]
    words = words_in(cell.code for cell in read)
    cells = tuple(replace(cell, code=name_imports(path.resolve().parent, cell.code, words)) for cell in read)
    if not any(cell.kind == "code" and cell.source.strip() for cell in cells):
        raise UsageError(f"{path.name} has no cell with code", hint="name the notebook that trains the model")
    placed, findings = _placed(path, cells)
    order, arranged, why = put_in_order(placed, {cell.index: cell.execution_count for cell in cells})
    statements = tuple(
        Statement(at, item.cell, item.node.lineno, item.source, item.node) for at, item in enumerate(arranged)
    )
    if not statements:
        raise UsageError(f"{path.name} has no cell with Python in it", hint="name the notebook that trains the model")
    findings += [*_magic_findings(cells), *_repeated(cells), *why]
    digest = hashlib.sha256(content).hexdigest()
    return Notebook(path, cells, kernel, "python", digest, statements, order, tuple(findings))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}", hint="trilho adopt NOTEBOOK.ipynb --into DIR") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint="name a notebook, an .ipynb file") from None


def _decoded(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _ipynb(path: Path, text: str) -> tuple[list[dict[str, Any]], str | None, str]:
    """Give a notebook's cells in the shape of nbformat 4, its kernel's name, and its language."""
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or not ("cells" in data or "worksheets" in data):
            raise ValueError("it has no cells")
        cells = data["cells"] if "cells" in data else [_upgraded(c) for s in data["worksheets"] for c in s["cells"]]
        if not all(isinstance(cell, dict) for cell in cells):
            raise TypeError("a cell is no object")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        said = f"not JSON: {error}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise UsageError(f"{path.name} is no notebook: {said}", hint="name an .ipynb file, or a .py with # %% cells"
                         ) from None  # fmt: skip
    metadata = data.get("metadata") or {}
    spec = metadata.get("kernelspec") or {}
    language = (metadata.get("language_info") or {}).get("name") or spec.get("language") or "python"
    return cells, spec.get("name") or None, str(language)


def _upgraded(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a cell of nbformat 3 to the shape of 4."""
    kind = {"code": "code", "raw": "raw"}.get(cell["cell_type"], "markdown")
    outputs = [_upgraded_output(output) for output in cell.get("outputs", [])]
    return {"cell_type": kind, "source": cell.get("input", cell.get("source", "")), "outputs": outputs,
            "execution_count": cell.get("prompt_number")}  # fmt: skip


def _upgraded_output(output: Mapping[str, Any]) -> dict[str, Any]:
    kind = {"pyout": "execute_result", "pyerr": "error"}.get(output["output_type"], output["output_type"])
    if kind in ("stream", "error"):
        return {**output, "output_type": kind}
    types = {"text": "text/plain", "html": "text/html", "png": "image/png", "latex": "text/latex"}
    return {"output_type": kind, "data": {types[name]: output[name] for name in types if name in output}}


def _script(text: str) -> tuple[list[dict[str, Any]], str | None, str]:
    """Cut a script into cells at its `# %%` lines; without any it is one cell."""
    cells: list[dict[str, Any]] = [{"cell_type": "code", "lines": []}]
    for line in text.splitlines():
        marker = MARKER.match(line)
        if marker:
            markdown = "[markdown]" in marker[1] or "[md]" in marker[1]
            cells.append({"cell_type": "markdown" if markdown else "code", "lines": []})
        else:
            cells[-1]["lines"].append(line)
    for cell in cells:
        cell["source"] = "\n".join(cell.pop("lines")).rstrip()
    return [cell for cell in cells if cell["source"].strip() or cell is not cells[0]], None, "python"


def _cell(index: int, raw: Mapping[str, Any]) -> Cell:
    source = raw.get("source", "")
    source = "".join(source) if isinstance(source, list) else str(source)
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    kind = raw.get("cell_type")
    if kind != "code":
        return Cell(index, "raw" if kind == "raw" else "markdown", source)
    code, magics = clean(source)
    count = raw.get("execution_count")
    outputs = tuple(output for output in raw.get("outputs") or [] if isinstance(output, dict))
    return Cell(index, "code", source, code, magics, count if isinstance(count, int) else None, outputs)


def _placed(path: Path, cells: tuple[Cell, ...]) -> tuple[list[Placed], list[Finding]]:
    """Parse every cell. One that is not Python and was never run is left out, with a finding."""
    placed: list[Placed] = []
    findings = []
    counted = any(cell.execution_count is not None for cell in cells)
    for cell in cells:
        try:
            nodes = ast.parse(cell.code).body
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            said = getattr(error, "msg", None) or str(error)
            if not counted or cell.execution_count is not None:
                raise _not_python(path, cell, line, said) from None
            findings.append(Finding("not-python", cell.index, line, f"this cell is not Python ({said}) and was never "
                                    "run: it is left out", "warning", "delete the cell, or correct it"))  # fmt: skip
            continue
        placed += [Placed(cell.index, source, node) for source, node in _sources(cell.code, nodes)]
    return placed, findings


def _not_python(path: Path, cell: Cell, line: int, said: str) -> UsageError:
    two = re.search(r"^\s*print\s+[^\s(=]", cell.code, re.MULTILINE)
    hint = "convert it to Python 3 first: 2to3 -w FILE" if two else "correct the cell, and run the notebook once"
    return UsageError(f"{path.name}: cell {cell.index}, line {line} is not Python: {said}", hint=hint)


def _sources(code: str, nodes: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Give each statement's text: its lines, those of comments directly above, and a comment at its end."""
    lines = code.split("\n")
    for at, node in enumerate(nodes):
        start = min([node.lineno, *(mark.lineno for mark in getattr(node, "decorator_list", []))])
        end = node.end_lineno or node.lineno
        before = (nodes[at - 1].end_lineno or 0) if at else 0
        alone = at + 1 == len(nodes) or nodes[at + 1].lineno > end
        text = _between(lines, (start, node.col_offset if before == start else 0), (end, node.end_col_offset or 0))
        text += _end_comment(lines[end - 1], node) if alone else ""
        first = start
        while first - 1 > before and lines[first - 2].startswith("#"):
            first -= 1
        yield "\n".join([*lines[first - 1 : start - 1], text]), node


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """Give the text from one (line, column in bytes) to another."""
    kept = lines[start[0] - 1 : end[0]]
    kept[-1] = kept[-1].encode()[: end[1]].decode()
    kept[0] = kept[0].encode()[start[1] :].decode()
    return "\n".join(kept)


def _end_comment(line: str, node: ast.stmt) -> str:
    rest = line.encode()[node.end_col_offset or 0 :].decode().strip().lstrip("; ")
    return f"  {rest}" if rest.startswith("#") else ""


def _magic_findings(cells: tuple[Cell, ...]) -> Iterator[Finding]:
    for cell in cells:
        for magic in cell.magics:
            if magic.effect == "refused":
                yield _refused(cell.index, magic)


def _refused(cell: int, magic: Magic) -> Finding:
    first = magic.text.splitlines()[0]
    if re.match(r"[!%]?\s*(pip3?|conda|mamba|uv)\b", first):
        return Finding("install-in-notebook", cell, magic.line, f"`{first}` changes the environment while the notebook "
                       "runs; it was not run, and who runs the model later gets other versions", "note",
                       "name the package and its version in a requirements file")  # fmt: skip
    assigned = re.match(r"\s*([\w, ]+?)\s*=\s*[!%]", first)
    what = f"`{assigned[1]}` is not defined by it" if assigned else "what it would have left is not there"
    rule = "shell-command" if magic.kind == "shell" or magic.text.startswith(("%%bash", "%%sh", "%%!")) else "magic"
    return Finding(rule, cell, magic.line, f"`{first}` runs outside Python and was not run: {what}", "warning",
                   "write it in Python, or do it before the notebook runs")  # fmt: skip


def _repeated(cells: tuple[Cell, ...]) -> Iterator[Finding]:
    """Note the cells whose code stands in an earlier cell already."""
    seen: dict[str, int] = {}
    for cell in cells:
        try:
            tree = ast.parse(cell.code)
        except (SyntaxError, ValueError):
            continue
        if not tree.body:
            continue
        first = seen.setdefault(ast.dump(tree), cell.index)
        if first != cell.index:
            defines = all(isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
                          for node in tree.body)  # fmt: skip
            effect = "it defines the same again" if defines else "what it does is done twice"
            yield Finding("duplicate-cell", cell.index, 1, f"this cell has the code of cell {first}: {effect}",
                          "note" if defines else "warning", f"delete cell {first} or this one")  # fmt: skip
