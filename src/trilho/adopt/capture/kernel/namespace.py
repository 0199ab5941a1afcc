"""Which of the notebook's globals a statement bound, and whose content it changed."""

from __future__ import annotations

import types
from typing import Any, Iterable

from .digests import Digester
from .objects import Objects

OURS = ("In", "Out", "exit", "quit", "get_ipython", "display")
NEVER_CHANGE = (types.ModuleType, types.BuiltinFunctionType, type(None), bool, int, float, complex, str, bytes)


class Namespace:
    """The notebook's globals, with the digest that each had last."""

    def __init__(self, names: dict[str, Any], objects: Objects) -> None:
        self.names = names
        self.objects = objects
        self.before: dict[str, int] = {}
        self.held: dict[str, Any] = {}
        self.digests: dict[str, str] = {}
        self.parts: dict[str, set[int]] = {}
        self.buffers: dict[Any, Any] = {}

    def own(self) -> list[str]:
        """List the notebook's own names."""
        return [name for name in self.names if (_is_private(name) if name.startswith("_") else name not in OURS)]

    def start(self) -> None:
        """Remember what each name is bound to."""
        self.held = {name: self.names[name] for name in self.own()}

    def changes(self, touched: Iterable[str], stored: Iterable[str]) -> tuple[list[str], list[str]]:
        """Give the names that were bound, and those whose content changed without."""
        own = self.own()
        writes = [name for name in own if name not in self.held or self.names[name] is not self.held[name]]
        writes += [name for name in stored if name in self.names and name not in writes]
        digester = Digester(self.objects.version, self.buffers)
        shared: set[int] = set()
        for name in {*writes, *touched}:
            if name in self.names:
                shared |= self.parts.get(name, set()) | digester.of(self.names[name])[1]
        mutates = []
        for name in own:
            value = self.names[name]
            if isinstance(value, NEVER_CHANGE) and name not in writes:
                continue
            if name in writes or name in touched or name not in self.digests or self.parts[name] & shared:
                digest, parts = digester.of(value)
                if name not in writes and self.digests.get(name, digest) != digest:
                    mutates.append(name)
                self.digests[name], self.parts[name] = digest, parts
        for name in [name for name in self.digests if name not in self.names]:
            del self.digests[name], self.parts[name]
        self.held = {}
        return writes, mutates


def _is_private(name: str) -> bool:
    """Say whether an underscored name is the notebook's: not a dunder, not the shell's `_`, `_i3`, not ours."""
    if name.startswith(("__", "_trilho")) or name == "_" * len(name):
        return False
    return not (name[1:].isdigit() or name in ("_i", "_ii", "_iii", "_dh", "_oh", "_ih") or name[2:].isdigit())
