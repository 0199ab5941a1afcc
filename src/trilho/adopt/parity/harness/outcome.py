"""What a stage came to, as it stands in the certificate."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from ..equality import Found
from .subject import NotCompared


def carried_out(name: str, carry_out: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Give what a stage came to; the project's own code may raise anything."""
    try:
        return carry_out()
    except NotCompared as error:
        return uncompared(str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001
        traceback.print_exc()
        return uncompared(f"{name} raised {type(error).__name__}: {line_of(error)}")


def stage(found: Found, tolerance: float, note: str = "") -> dict[str, Any]:
    """Give a comparison as it stands in the certificate."""
    return {
        "state": "different" if found.different else "equal",
        "rows": found.rows,
        "max_difference": found.largest,
        "tolerance": tolerance,
        "reason": found.reason or note,
        "first_difference": found.first,
    }


def uncompared(reason: str) -> dict[str, Any]:
    """Give a stage that was not compared, and why."""
    nothing = {"rows": 0, "max_difference": None, "tolerance": None, "first_difference": None}
    return {"state": "not compared", "reason": reason, **nothing}


def worse(a: Found | None, b: Found | None) -> Found:
    """Give of two comparisons the one that found more differences, with the rows of both."""
    found = [one for one in (a, b) if one is not None]
    chosen = max(found, key=lambda one: one.different)
    largest = max((one.largest for one in found if one.largest is not None), default=None)
    return chosen._replace(rows=max(one.rows for one in found), largest=largest)


def line_of(error: BaseException) -> str:
    """Give the first line of what an error says."""
    return (str(error).strip().splitlines() or [""])[0][:300]
