"""Who answers the next request, and what came of the earlier ones: the router's split and its counters."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from trilho_runtime.prediction.log import now
from trilho_runtime.routing.scores import CUTS, LABELS
from trilho_runtime.routing.shadow import ShadowCount
from trilho_runtime.web.measures import Latency

SCHEMA = 1


class RoutesError(Exception):
    """The routes file is not what it should be."""


@dataclass(frozen=True)
class Route:
    """A version, where it answers, and its share of the traffic."""

    version: int
    address: str
    share: float


@dataclass(frozen=True)
class Routes:
    """What the supervisor last wrote; everything after `champion` is there where it is used."""

    model: str = ""
    generation: int = 0
    routes: tuple[Route, ...] = ()
    champion: int | None = None
    shadow: Route | None = None
    """A version that is asked about a share of the requests too, and answers nobody."""
    sticky: str | None = None
    """The field of a row whose value decides which version answers."""
    fields: tuple[str, ...] = ()
    """The order of fields in rows that are arrays."""
    slices: tuple[str, ...] = ()
    """Fields by whose values the shadow's differences are told apart."""
    edges: tuple[float, ...] = ()
    """Between which scores are counted."""

    @property
    def main(self) -> Route | None:
        """Give the version that is trusted: the champion, else the one with the largest share, of these the oldest."""
        named = [route for route in self.routes if route.version == self.champion]
        return next(iter(named or sorted(self.routes, key=lambda route: (-route.share, route.version))), None)

    @property
    def trusted(self) -> int | None:
        """Give the version whose word counts: the champion, be it away for a moment, else the main one."""
        return self.champion if self.champion is not None else self.main.version if self.main is not None else None


def read_routes(path: Path) -> Routes:
    """Read the routes file. Raises RoutesError when it is missing or malformed."""
    try:
        data = orjson.loads(path.read_bytes())
        if data["schema"] != SCHEMA:
            raise RoutesError(f"{path}: schema {data['schema']!r}; this router reads {SCHEMA}")
        routes = tuple(_route(item) for item in data["versions"])
        champion = data.get("champion")
        return Routes(
            str(data["model"]),
            int(data["generation"]),
            routes,
            None if champion is None else int(champion),
            **_optional(data),
        )
    except OSError as error:
        raise RoutesError(f"{path}: {error.strerror or error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RoutesError(f"{path}: malformed: {type(error).__name__}: {error}") from None


def _optional(data: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a routes file need not say; a supervisor of another version may say more, or less."""
    shadow, sticky = data.get("shadow"), data.get("sticky")
    return {
        "shadow": _route(shadow) if shadow else None,
        "sticky": str(sticky) if sticky else None,
        "fields": tuple(map(str, data.get("fields") or ())),
        "slices": tuple(map(str, data.get("slices") or ())),
        "edges": tuple(map(float, data.get("edges") or ()))[: CUTS - 1],
    }


def _route(item: Mapping[str, Any]) -> Route:
    address, share = str(item["address"]), float(item["share"])
    host, _, port = address.removeprefix("http://").rpartition(":")
    if not (address.startswith("http://") and host and port.isdigit()) or not 0 <= share <= 100:
        raise ValueError(f"address {address!r} with share {share:g}")
    return Route(int(item["version"]), address, share)


class Split:
    """Chooses a version for each request: smoothly by weight, or by a key that keeps its version.

    Each version gains its share at every turn and the richest is chosen and pays the whole, so that 90:10 sends every
    tenth request, not ten in a hundred at once. Without chance, the counts are exact.

    >>> split = Split((Route(1, "http://a:1", 75), Route(2, "http://b:1", 25)))
    >>> [route.version for route in (split.choose() for _ in range(4)) if route]
    [1, 1, 2, 1]
    """

    def __init__(self, routes: Sequence[Route], earlier: Split | None = None) -> None:
        self._routes = [route for route in routes if route.share > 0]
        kept: Mapping[int, float] = earlier._credit if earlier is not None else {}
        self._credit: dict[int, float] = {route.version: kept.get(route.version, 0.0) for route in self._routes}
        self.several = len(self._routes) > 1

    def choose(self, key: str | None = None, avoid: Collection[int] = ()) -> Route | None:
        """Choose a version that is not to be avoided; None when there is none."""
        routes = [route for route in self._routes if route.version not in avoid]
        if not routes:
            return None
        if key is not None:
            return _by_key(routes, key)
        for route in routes:
            self._credit[route.version] += route.share
        chosen = max(routes, key=lambda route: self._credit[route.version])
        self._credit[chosen.version] -= sum(route.share for route in routes)
        return chosen


def _by_key(routes: Sequence[Route], key: str) -> Route:
    """Give the newest version the lowest keys: as its share grows it keeps those that it had."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    point = int.from_bytes(digest, "big") / 2**64 * sum(route.share for route in routes)
    newest_first = sorted(routes, key=lambda route: -route.version)
    for route in newest_first:
        point -= route.share
        if point < 0:
            return route
    return newest_first[-1]


@dataclass
class VersionCount:
    """What came of one version's requests."""

    requests: int = 0
    rows: int = 0
    errors: int = 0  # 5xx, or no answer
    extra_fields: int = 0  # that the model does not know, ignored
    refused: int = 0  # rows, though the main version took the same rows
    latency: Latency = field(default_factory=Latency)
    scores: dict[str, int] = field(default_factory=dict)  # first rows of answers, while two versions share the traffic

    def add_score(self, bin_: str) -> None:
        """Count an answer's first score in its bin."""
        if bin_ in self.scores or len(self.scores) < CUTS + LABELS:
            self.scores[bin_] = self.scores.get(bin_, 0) + 1


@dataclass
class Counts:
    """What came of all requests since the router started."""

    started: str = field(default_factory=now)
    labels: int = 0
    failed: int = 0  # requests whose caller got a 5xx
    unlogged: int = 0  # rows that were answered and not logged
    mixed_keys: int = 0  # requests whose rows had several keys, while two versions shared the traffic
    versions: dict[int, VersionCount] = field(default_factory=dict)
    shadows: dict[int, ShadowCount] = field(default_factory=dict)

    def of(self, version: int) -> VersionCount:
        """Give a version's counts."""
        found = self.versions.get(version)
        return found if found is not None else self.versions.setdefault(version, VersionCount())

    def shadow_of(self, version: int) -> ShadowCount:
        """Give the counts of a version that is asked unseen."""
        found = self.shadows.get(version)
        return found if found is not None else self.shadows.setdefault(version, ShadowCount())

    def to_json(self, routes: Routes) -> dict[str, Any]:
        """Give the counts as the supervisor reads them."""
        versions = {
            str(version): {
                "requests": count.requests,
                "rows": count.rows,
                "errors": count.errors,
                "refused": count.refused,
                "latency": count.latency.to_json(),
                "scores": count.scores,
            }
            for version, count in sorted(self.versions.items())
        }
        return {
            "model": routes.model,
            "generation": routes.generation,
            "started": self.started,
            "labels": self.labels,
            "failed": self.failed,
            "mixed_keys": self.mixed_keys,
            "versions": versions,
            "shadow": {str(version): count.to_json() for version, count in sorted(self.shadows.items())},
        }
