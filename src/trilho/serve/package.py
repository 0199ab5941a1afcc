"""What the router needs to know of the champion's package: the order of a row's fields, and where its scores lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trilho.serve.endpoint import read_json

EDGES = 31
FEWEST = 20  # predictions of held-out rows, below which no edges are made of them


def router_facts(package: Path) -> dict[str, Any]:
    """Give what routes.json says of a package; less where the package does not say it."""
    manifest, sample = read_json(package / "manifest.json") or {}, read_json(package / "sample.json") or {}
    signature = manifest.get("signature")
    fields = signature.get("fields", []) if isinstance(signature, dict) else []
    names = [str(field["name"]) for field in fields if isinstance(field, dict) and "name" in field]
    return {"fields": names, "edges": score_edges(sample.get("predictions") or [])}


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


def is_of_many_classes(package: Path) -> bool:
    """Say whether a model answers with more than two classes, so that one number does not say how wrong it was."""
    outputs = (read_json(package / "manifest.json") or {}).get("outputs")
    return isinstance(outputs, dict) and outputs.get("kind") in ("probabilities", "class")
