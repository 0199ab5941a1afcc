"""Where in the notebook the code is that runs now, for what happens inside libraries and local modules."""

from __future__ import annotations

import sys
import types
from typing import Any

from .rewrite import Site

CELL = "<cell "
Span = "tuple[int, int, int, int]"


def place(site: Site, sites: list[Site]) -> tuple[int, Any]:
    """Give a site's cell and span; of one in a local module, those of the notebook's call that led there."""
    if site.cell >= 0:
        return site.cell, site.span
    return current_place(sites) or (-1, site.span)


def current_place(sites: list[Site]) -> tuple[int, Any] | None:
    """Give the cell and span of the innermost notebook code that runs now."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and not frame.f_code.co_filename.startswith(CELL):
        frame = frame.f_back
    if frame is None:
        return None
    cell, line = int(frame.f_code.co_filename[len(CELL) : -1]), frame.f_lineno
    found = _instruction(frame) or _call_at(sites, cell, line) or (line, 0, line, 0)
    return cell, found


def _instruction(frame: Any) -> Any:
    """Give the span of the instruction that runs, where Python keeps it (3.11)."""
    positions = getattr(frame.f_code, "co_positions", None)
    if positions is None:
        return None
    for number, (line, last, column, end) in enumerate(positions()):
        if number == frame.f_lasti // 2:
            return None if None in (line, last, column, end) else (line, column, last, end)
    return None


def _call_at(sites: list[Site], cell: int, line: int) -> Any:
    for site in sites:
        if site.cell == cell and site.kind == "call" and site.span[0] <= line <= site.span[2]:
            return site.span
    return None
