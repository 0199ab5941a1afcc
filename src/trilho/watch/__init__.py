"""What is served is measured here: drift, performance, the alarms they raise, and the incidents those belong to.

>>> import trilho.watch
>>> trilho.watch.__all__
['DriftDetector', 'LossDetector', 'Reading', 'Reference', 'compare', 'estimate']
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trilho.watch.comparison.compare import compare
    from trilho.watch.drift import DriftDetector
    from trilho.watch.estimate import estimate  # type: ignore[attr-defined, unused-ignore]
    from trilho.watch.loss import LossDetector
    from trilho.watch.reading import Reading
    from trilho.watch.tables.reference import Reference

__all__ = ["DriftDetector", "LossDetector", "Reading", "Reference", "compare", "estimate"]

_HOMES = {
    "DriftDetector": "trilho.watch.drift",
    "LossDetector": "trilho.watch.loss",
    "Reading": "trilho.watch.reading",
    "Reference": "trilho.watch.tables.reference",
    "compare": "trilho.watch.comparison.compare",
    "estimate": "trilho.watch.estimate",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that `import trilho.watch` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'trilho.watch' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


class _Watch(ModuleType):
    """The package, in which a public function is not hidden by the module of the same name once that is imported."""

    @property
    def estimate(self) -> Any:
        """Give the function, not the module."""
        return __getattr__("estimate")

    @estimate.setter
    def estimate(self, module: ModuleType) -> None:
        """Let the import of the module pass."""


sys.modules[__name__].__class__ = _Watch
