"""What trilho runs inside a project's own environment: steps, model packages, the prediction server.

>>> import trilho_runtime
>>> trilho_runtime.__all__
['PackageError', 'open_package', 'package']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trilho_runtime.model.manifest import PackageError
    from trilho_runtime.model.packing import package
    from trilho_runtime.package import open_package

__all__ = ["PackageError", "open_package", "package"]

_HOMES = {"PackageError": "model.manifest", "open_package": "package"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that starting a server or a step costs nothing more."""
    from importlib import import_module

    if name == "package":  # the module, which can be called
        return import_module("trilho_runtime.package")
    if name not in _HOMES:
        raise AttributeError(f"module 'trilho_runtime' has no attribute {name!r}")
    return getattr(import_module(f"trilho_runtime.{_HOMES[name]}"), name)
