"""A notebook's file with other sources in some cells, everything else byte for byte as it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trilho.adopt.notebook import MARKER, Notebook

STYLES: tuple[dict[str, Any], ...] = tuple(
    {"indent": indent, "ensure_ascii": ascii_, "sort_keys": sort, "separators": separators}
    for indent in (1, 2, 4, None, 0, "\t") for ascii_ in (False, True) for sort in (False, True)
    for separators in ((",", ": "), (", ", ": "), (",", ":"))
)  # fmt: skip


def with_sources(notebook: Notebook, text: str, sources: Mapping[int, str]) -> str:
    """Put new sources into a notebook's text, written as the file was written."""
    if notebook.path.suffix == ".py":
        return _script(text, sources)
    bare = text.removeprefix("\ufeff")
    style = _style(bare)
    data = json.loads(bare)
    cells = data["cells"] if "cells" in data else [cell for sheet in data["worksheets"] for cell in sheet["cells"]]
    for at, source in sources.items():
        key = "source" if "source" in cells[at] or "cells" in data else "input"
        lines = source.splitlines(keepends=True)
        cells[at][key] = lines if isinstance(cells[at].get(key), list) else source
    end = text[len(text.rstrip()) :]
    return text[: len(text) - len(bare)] + json.dumps(data, **style) + end


def _style(text: str) -> dict[str, Any]:
    """Find how the file was written; where no usual way gives it, the usual one of Jupyter is taken."""
    data, bare = json.loads(text), text.rstrip()
    return next((style for style in STYLES if json.dumps(data, **style) == bare), STYLES[0])


def _script(text: str, sources: Mapping[int, str]) -> str:
    """Put new cells into a script that is cut by `# %%` lines."""
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        if MARKER.match(line):
            blocks.append([line])
        else:
            blocks[-1].append(line)
    first = 0 if "\n".join(blocks[0]).strip() else 1
    for at, source in sources.items():
        block = blocks[at + first]
        head = block[:1] if block and MARKER.match(block[0]) else []
        blank = len(block) - len("\n".join(block).rstrip().split("\n"))
        blocks[at + first] = [*head, *source.split("\n"), *[""] * blank]
    return "\n".join(line for block in blocks for line in block) + ("\n" if text.endswith("\n") else "")
