"""Cohorts: which rows of a batch a new version answers while it has a share of them.

A row's place, from 0 up to 100, comes from its key alone, as a request's does at the router: a customer who was
answered by the new version yesterday is so today, and as the share grows nobody goes back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def places(keys: Sequence[Any]) -> NDArray[np.float64]:
    """Give each key's place, from 0 up to 100.

    >>> [round(float(place), 1) for place in places(["a", "b", "a", 1, 1.0])]
    [25.4, 51.7, 25.4, 96.5, 96.5]
    """
    known: dict[Any, float] = {}
    return np.array([known[key] if key in known else known.setdefault(key, _place(key)) for key in keys], np.float64)


def _place(key: Any) -> float:
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    digest = hashlib.blake2b(str(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 * 100


def bounds(shares: Mapping[int, int]) -> dict[int, tuple[float, float]]:
    """Give the places that each version answers: the newest the lowest, so that a growing share keeps what it had.

    >>> bounds({3: 90, 4: 10})
    {4: (0.0, 10.0), 3: (10.0, 100.0)}
    """
    found, start = {}, 0.0
    for version in sorted(shares, reverse=True):
        found[version] = (start, start + shares[version])
        start += shares[version]
    return found
