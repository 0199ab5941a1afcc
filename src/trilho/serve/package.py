"""What a rollout needs to know of packages: the order of a row's fields, and where the versions' scores lie."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trilho.serve.endpoint import read_json
from trilho_runtime.model.outputs import Outputs
from trilho_runtime.routing.scores import Score, bin_of

EDGES = 31
FEWEST = 20  # predictions of held-out rows, below which no edges are made of them


@dataclass(frozen=True)
class Scored:
    """What the router is told of two versions, and what the newer one is expected to answer."""

    fields: list[str] = field(default_factory=list)
    edges: list[float] = field(default_factory=list)
    expected: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, package: Path, champion: Path) -> Scored:
        """Read both packages; less is given where they do not say it. Both models' scores make the edges."""
        new, old = held_out(package), held_out(champion)
        known = [part for part in (new, old) if score_edges(part)]
        edges = score_edges([x for part in known for x in part]) if len(known) == 2 else []
        return cls(field_names(champion), edges, score_bins(new, edges))


def field_names(package: Path) -> list[str]:
    """Give the fields of a row in the order in which arrays hold them."""
    signature = (read_json(package / "manifest.json") or {}).get("signature")
    fields = signature.get("fields", []) if isinstance(signature, dict) else []
    return [str(item["name"]) for item in fields if isinstance(item, dict) and "name" in item]


def held_out(package: Path) -> list[Any]:
    """Give what a model said of the held-out rows that its package keeps."""
    found = (read_json(package / "sample.json") or {}).get("predictions")
    return found if isinstance(found, list) else []


def score_bins(predictions: Sequence[Any], edges: Sequence[float]) -> dict[str, int]:
    """Count predictions in the bins that the router counts answers in; nothing where there are no edges.

    >>> score_bins([1.0, 2.0, 9.0], [2.0, 3.0]), score_bins([1.0], [])
    ({'0': 1, '1': 1, '2': 1}, {})
    """
    return dict(Counter(bin_of(Score(float(x)), edges) for x in predictions)) if edges else {}


def score_edges(predictions: Sequence[Any]) -> list[float]:
    """Give edges between which about as many of a model's scores lie; none where they are no numbers, or few.

    A score that many rows have is an edge many times: it takes up as many bins as it has rows.

    >>> score_edges(list(range(100)))[:3], set(score_edges([1.0] * 50)), score_edges(["a"] * 50)
    ([3, 6, 9], {1.0}, [])
    """
    numbers = sorted(x for x in predictions if isinstance(x, int | float) and math.isfinite(x))
    if len(numbers) < max(FEWEST, len(predictions)):
        return []
    return [numbers[at * len(numbers) // (EDGES + 1)] for at in range(1, EDGES + 1)]


def classes_of(package: Path) -> tuple[Any, ...]:
    """Give the classes that a model's truth is one of; none for a model of numbers."""
    return Outputs.from_manifest(read_json(package / "manifest.json") or {"task": "regression"}).classes


def is_of_many_classes(package: Path) -> bool:
    """Say whether a model answers with more than two classes, so that one number does not say how wrong it was."""
    outputs = (read_json(package / "manifest.json") or {}).get("outputs")
    return isinstance(outputs, dict) and outputs.get("kind") in ("probabilities", "class")
