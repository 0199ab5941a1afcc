"""Which distributions the notebook imported, and what those need."""

from __future__ import annotations

import re
import sys
from typing import Any

NAME = re.compile(r"[A-Za-z0-9._-]+")


def distributions() -> tuple[dict[str, str], dict[str, str]]:
    """Give distribution -> version, and top-level module -> distribution, of what is imported now."""
    try:
        from importlib import metadata
    except ImportError:
        return {}, {}
    owners: dict[str, str] = {}
    versions: dict[str, str] = {}
    needs: dict[str, list[str]] = {}
    loaded = {name.split(".")[0] for name in sys.modules}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if not name:
            continue
        versions.setdefault(name, distribution.version)
        needs.setdefault(name, list(distribution.requires or ()))
        for module in _modules(distribution):
            if module in loaded:
                owners.setdefault(module, name)
    wanted = _closure(set(owners.values()), needs, versions)
    return {name: versions[name] for name in sorted(wanted)}, dict(sorted(owners.items()))


def _modules(distribution: Any) -> list[str]:
    told = distribution.read_text("top_level.txt")
    if told:
        return [line.strip() for line in told.splitlines() if line.strip()]
    found = set()
    for file in distribution.files or ():
        first = file.parts[0]
        if first.endswith((".dist-info", ".egg-info", ".data")) or first in ("..", "bin", "__pycache__"):
            continue
        found.add(first.split(".")[0] if len(file.parts) == 1 else first)
    return sorted(found)


def _closure(names: set[str], needs: dict[str, list[str]], versions: dict[str, str]) -> set[str]:
    by_key = {_key(name): name for name in versions}
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for line in needs.get(name, ()):
            match = NAME.match(line)
            if match and "extra ==" not in line.replace("extra==", "extra ==") and _key(match[0]) in by_key:
                waiting.append(by_key[_key(match[0])])
    return found


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
