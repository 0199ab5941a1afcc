"""What earlier windows taught about today's distribution, forgotten at several speeds."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from trilho.watch.projection import TINY, Floats

MEMORIES = (0.0, 0.8, 0.97)
LATELY = 1  # of these, the one that says what today looks like
PRIOR = 50.0


class Memory:
    """Counts of earlier windows and what the reference expected of the same windows, discounted.

    Both are kept, so that what a morning taught is carried to an evening: a bin that held twice what was expected of it
    is guessed to hold twice what is expected now.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._keep = np.array(MEMORIES)[:, None, None]
        self.seen = np.zeros((len(MEMORIES), *shape))
        self.expected = np.zeros_like(self.seen)

    @property
    def count(self) -> int:
        """Give how many guesses are made."""
        return len(MEMORIES)

    def learn(self, counts: Floats, q: Floats, weight: Floats) -> None:
        """Take in one window, of which the reference expected the shares `q`."""
        rows = counts.sum(1) * weight
        self.seen = self._keep * self.seen + counts * weight[:, None]
        self.expected = self._keep * self.expected + q * rows[:, None]

    def guesses(self, q: Floats, kappa: Floats) -> Floats:
        """Guess today's shares, moved towards the reference as far as chance explains: memories, features, bins."""
        r = _guess(self.seen, self.expected, q)
        inside, n = q > 0, self.expected.sum(2, keepdims=True)
        excess = np.divide((r - q) ** 2, q, out=np.zeros_like(r), where=inside).sum(2, keepdims=True)
        free = np.maximum(inside.sum(1) - 1, 0)[:, None]
        kept = np.maximum(0.0, 1 - free / np.maximum(n * kappa[:, None] * excess, 1e-9))
        return np.asarray(q + kept * (r - q))

    def lately(self) -> Callable[[Floats], Floats]:
        """Give what turns expected shares into those of the latest windows, as they are now."""
        seen, expected = self.seen[LATELY], self.expected[LATELY]
        return lambda q: _guess(seen, expected, q)

    def state(self) -> dict[str, Any]:
        """Give what a restarted watcher goes on from, as JSON values."""
        return {"seen": encode(self.seen), "expected": encode(self.expected)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.seen = decode(state["seen"], self.seen.shape)
        self.expected = decode(state["expected"], self.expected.shape)


def _guess(seen: Floats, expected: Floats, q: Floats) -> Floats:
    inside = q > 0
    evenly = 0.5 * inside / np.maximum(inside.sum(1), 1)[:, None]
    ratio = (seen + PRIOR * q + evenly) / np.maximum(expected + (PRIOR + 0.5) * q, TINY)
    r = ratio * q
    return np.asarray(r / np.maximum(r.sum(-1, keepdims=True), TINY))


def encode(array: Floats) -> str:
    """Write numbers so that they come back the same to the last bit.

    >>> decode(encode(np.array([0.1, -np.inf])), (2,)).tolist()
    [0.1, -inf]
    """
    return base64.b64encode(np.ascontiguousarray(array, "<f8").tobytes()).decode()


def decode(text: str, shape: tuple[int, ...]) -> Floats:
    """Read numbers back."""
    return np.frombuffer(base64.b64decode(text), "<f8").reshape(shape).astype(np.float64)
