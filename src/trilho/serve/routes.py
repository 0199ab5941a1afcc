"""The routes file: which version answers where, for what share, as the router is told it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trilho.core.projection import ModelState
from trilho.serve.endpoint import read_json, write_json

ROUTES = "routes.json"
SCHEMA = 1


class RoutesFile:
    """HOME/endpoints/MODEL/routes.json, and what it says; its generation grows with every change."""

    def __init__(self, folder: Path, model: str) -> None:
        self.path = folder / ROUTES
        self._model = model
        self.versions: list[dict[str, Any]] = []
        self.told: dict[str, Any] = {}  # what it says besides
        self.generation = 0

    def begin(self) -> None:
        """Go on from the generation of an earlier process, with no routes."""
        self.generation = int((read_json(self.path) or {}).get("generation", 0))
        self._write([], {"champion": None})

    def forget(self) -> None:
        """Forget the routes; the file stays."""
        self.versions = []

    @property
    def shares(self) -> dict[int, int]:
        """The share of each version."""
        return {route["version"]: route["share"] for route in self.versions}

    @property
    def named(self) -> set[int]:
        """The versions that may be asked, seen or unseen."""
        return {*self.shares, *([self.told["shadow"]["version"]] if "shadow" in self.told else [])}

    def write(self, shares: Mapping[int, int], addresses: Mapping[int, str | None], told: Mapping[str, Any]) -> None:
        """Say who answers, if that is not what it says already; a version without an address keeps the one it had."""
        known = {route["version"]: route["address"] for route in self.versions}
        versions = [
            {"version": number, "address": addresses[number] or known.get(number), "share": share}
            for number, share in sorted(shares.items())
            if number in addresses
        ]
        if versions != self.versions or told != self.told:
            self._write(versions, told)

    def _write(self, versions: list[dict[str, Any]], told: Mapping[str, Any]) -> None:
        head = {"schema": SCHEMA, "model": self._model, "generation": self.generation + 1}
        write_json(self.path, {**head, **told, "versions": versions})
        self.versions, self.told, self.generation = versions, dict(told), self.generation + 1


def choose(wanted: Mapping[int, int], before: Mapping[int, int], ready: Callable[[int], bool]) -> dict[int, int]:
    """Give the shares that can be had now: those wanted, of what is ready; else what served before.

    >>> choose({1: 90, 2: 10}, {1: 100}, lambda number: number == 2), choose({2: 100}, {1: 100}, lambda number: False)
    ({2: 100}, {1: 100})
    """
    for choice in (wanted, before):
        able = {number: share for number, share in choice.items() if ready(number)}
        if able:
            return to_100(able)
    return dict(before) if wanted else {}  # the router tries again until a server is back


def to_100(shares: Mapping[int, int]) -> dict[int, int]:
    """Scale shares to a sum of 100; what rounding leaves goes to the largest.

    >>> to_100({1: 90, 2: 5})
    {1: 95, 2: 5}
    """
    total = sum(shares.values())
    scaled = {number: share * 100 // total for number, share in shares.items()}
    largest = max(scaled, key=lambda number: scaled[number])
    scaled[largest] += 100 - sum(scaled.values())
    return scaled


def trusted(model: ModelState, shares: Mapping[int, int]) -> int | None:
    """Give the champion where it answers, or will again in a moment beside the version that is on its way.

    The router waits for its word about what another has refused; where the other has taken over there is none to wait
    for.
    """
    wanted = model.shares if model.rollout is not None else {}
    return model.champion if model.champion in {*shares, *wanted} else None
