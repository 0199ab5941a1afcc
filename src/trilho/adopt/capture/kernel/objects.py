"""Numbers the notebook's models, and knows what its datasets were made of."""

from __future__ import annotations

import weakref
from typing import Any


class Objects:
    """Numbers estimators, boosters and datasets by identity."""

    def __init__(self) -> None:
        self.numbers: dict[int, tuple[Any, int]] = {}
        self.alive: dict[int, Any] = {}  # number -> a way to the object
        self.versions: dict[int, int] = {}  # id -> how often it was changed

    def number(self, thing: Any) -> int:
        """Give an object's number, a new one at first sight."""
        thing = unwrapped(thing)
        held = self.numbers.get(id(thing))
        if held is not None and held[0]() is thing:
            return held[1]
        number = len(self.alive)
        try:
            way: Any = weakref.ref(thing)
        except TypeError:
            way = lambda: thing  # noqa: E731
        self.numbers[id(thing)] = (way, number)
        self.alive[number] = way
        self.versions[id(thing)] = 0
        return number

    def change(self, thing: Any) -> None:
        """Note that an object is no longer what it was."""
        self.number(thing)
        self.versions[id(unwrapped(thing))] += 1

    def kept(self) -> list[tuple[Any, int, int]]:
        """Give the living objects, their numbers and versions."""
        living = [(way(), number) for number, way in self.alive.items()]
        return [(thing, number, self.versions.get(id(thing), 0)) for thing, number in living if thing is not None]

    def restore(self, kept: list[tuple[Any, int, int]], count: int) -> None:
        """Take up what a checkpoint kept."""
        self.alive = {number: lambda: None for number in range(count)}
        for thing, number, version in kept:
            try:
                way: Any = weakref.ref(thing)
            except TypeError:
                way = lambda thing=thing: thing  # noqa: E731
            self.numbers[id(thing)] = (way, number)
            self.alive[number] = way
            self.versions[id(thing)] = version

    def version(self, thing: Any) -> int:
        """Give how often an object was changed."""
        held = self.numbers.get(id(thing))
        return self.versions.get(id(thing), 0) if held is not None and held[0]() is thing else 0


def unwrapped(thing: Any) -> Any:
    """Give the results inside the wrapper that statsmodels puts around them."""
    inner = vars(thing).get("_results") if type(thing).__name__.endswith("ResultsWrapper") else None
    return thing if inner is None else inner


class Made:
    """What a DMatrix, Dataset or Pool was made of."""

    def __init__(self, X: Any, y: Any, others: dict[str, Any], sources: dict[str, str], make: Any) -> None:
        self.X, self.y, self.others, self.sources, self.make = X, y, others, sources, make
