"""Trilho takes a validated model to production and keeps it healthy there.

>>> import trilho
>>> trilho.__all__
['Platform', 'Project', 'TrainOutcome', 'TrilhoError', 'package']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trilho.errors import TrilhoError
    from trilho.platform import Platform
    from trilho.project import Project, TrainOutcome
    from trilho_runtime.model.packing import package

__all__ = ["Platform", "Project", "TrainOutcome", "TrilhoError", "package"]

_HOMES = {
    "Platform": "trilho.platform",
    "Project": "trilho.project",
    "TrainOutcome": "trilho.project",
    "TrilhoError": "trilho.errors",
    "package": "trilho_runtime.model.packing",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that `import trilho` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'trilho' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
