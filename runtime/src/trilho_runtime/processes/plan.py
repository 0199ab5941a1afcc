"""Which versions one container serves, and who gets what: the routes, as a person writes them.

    {"versions": [{"version": 3, "share": 90}, {"version": 4, "share": 10}], "sticky": "customer",
     "shadow": {"version": 5, "share": 100}}

A version may name its package ("package": a folder or gs://...); by default it is the folder of its number.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PASSED_ON = ("model", "champion", "sticky", "slices", "edges")
EXAMPLE = '{"versions": [{"version": 1, "share": 90}, {"version": 2, "share": 10}], "sticky": "customer"}'


class PlanError(ValueError):
    """The routes, or the packages, are not what they should be: a fact, and a hint."""

    def __init__(self, fact: str, hint: str = EXAMPLE) -> None:
        super().__init__(f"{fact}\nHint: {hint}")
        self.fact = fact


@dataclass(frozen=True)
class Shadow:
    """A version that is asked unseen, and about what share of the requests, in percent."""

    version: int
    share: float


@dataclass(frozen=True)
class Plan:
    """Which versions there are, where their packages lie, and who gets what share."""

    packages: Mapping[int, str]
    shares: Mapping[int, float]
    shadow: Shadow | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def read_plan(told: str, packages: Mapping[int, str]) -> Plan:
    """Read routes, JSON. Raises PlanError for shares that are none, and for a version without a package.

    >>> read_plan('{"versions": [{"version": 2, "share": 100}]}', {2: "/models/2"}).shares
    {2: 100.0}
    """
    try:
        data = json.loads(told)
        items = list(data["versions"])
        shares = {int(item["version"]): float(item.get("share", 0)) for item in items}
        shadow = _shadow(data.get("shadow"))
        named = {
            int(item["version"]): str(item.get("package") or "") for item in [data.get("shadow") or {}, *items] if item
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlanError(f"the routes are malformed: {type(error).__name__}: {error}") from None
    _check_shares(shares, len(items), shadow)
    found = {number: package or packages.get(number, "") for number, package in named.items()}
    for number in [number for number, package in found.items() if not package]:
        known = ", ".join(map(str, sorted(packages))) or "none"
        raise PlanError(f"version {number} of the routes has no package; there are: {known}", "name it: package")
    serving = {number: share for number, share in shares.items() if share}
    return Plan(found, serving, shadow, {name: data[name] for name in PASSED_ON if data.get(name) is not None})


def _shadow(data: Any) -> Shadow | None:
    return None if not data else Shadow(int(data["version"]), float(data.get("share", 100)))


def _check_shares(shares: Mapping[int, float], number: int, shadow: Shadow | None) -> None:
    total = sum(shares.values())
    if len(shares) != number:
        raise PlanError("the routes name a version twice")
    if not all(0 <= share <= 100 for share in shares.values()) or abs(total - 100) > 0.01:
        raise PlanError(f"the shares of the routes add up to {total:g}; allowed: 0 to 100 each, 100 together")
    if shadow is not None and not 0 <= shadow.share <= 100:
        raise PlanError(f"the shadow's share is {shadow.share:g}; allowed: 0 to 100")


def versions_in(folder: Path) -> dict[int, str]:
    """Give the packages in a folder by their versions: the folders 3, v3 and so on that hold a manifest."""
    found = {}
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            number = path.name.removeprefix("v")
            if number.isascii() and number.isdigit() and int(number) and (path / "manifest.json").is_file():
                found[int(number)] = str(path)
    return found
