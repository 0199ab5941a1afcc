"""What a pipeline's author writes in place of a value that is not there yet: another task's output, a loop's item.

    Value("evaluate.auc") > Param("rate")        a condition; joined with &, | and ~

Each knows how it is written in a pipeline's definition.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


class PipelineError(Exception):
    """A pipeline is written in a way that cannot be meant; the message begins with the file and line."""


class Reference:
    """Something to be known when the pipeline runs. Comparing it makes a condition."""

    __hash__ = None  # type: ignore[assignment]

    def written(self) -> Json:
        """Give it as a definition has it."""
        raise NotImplementedError

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return Condition.compare("==", self, other)

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return Condition.compare("!=", self, other)

    def __lt__(self, other: object) -> Condition:
        return Condition.compare("<", self, other)

    def __le__(self, other: object) -> Condition:
        return Condition.compare("<=", self, other)

    def __gt__(self, other: object) -> Condition:
        return Condition.compare(">", self, other)

    def __ge__(self, other: object) -> Condition:
        return Condition.compare(">=", self, other)

    def __and__(self, other: object) -> Condition:
        return condition_of(self) & other

    def __or__(self, other: object) -> Condition:
        return condition_of(self) | other

    def __invert__(self) -> Condition:
        return ~condition_of(self)

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self!r} is not known before the pipeline runs; `with pipeline.when({self!r} == ...):` asks it"
        )

    def __iter__(self) -> Any:
        raise TypeError(f"{self!r} is not known before the pipeline runs; `with pipeline.each(NAME, over={self!r}):`")

    def __str__(self) -> str:
        raise TypeError(f"{self!r} is not known before the pipeline runs; it cannot be part of a text")

    def __repr__(self) -> str:
        given = ", ".join(repr(value) for value in vars(self).values() if value not in ((), []))
        return f"{type(self).__name__}({given})"


class Value(Reference):
    """Another task's output: `Value("evaluate.auc")`."""

    def __init__(self, of: str) -> None:
        self.of = _named(of, 'Value("TASK.OUTPUT")')

    def written(self) -> Json:
        """Give it as a definition has it."""
        return {"ref": self.of}


class Param(Reference):
    """A parameter of the pipeline: `Param("rows")`."""

    def __init__(self, name: str) -> None:
        self.name = _named(name, 'Param("NAME")')

    def written(self) -> Json:
        """Give it as a definition has it."""
        return {"param": self.name}


class Item(Reference):
    """What a loop is at: `Item("region")`, and of an item that is an object a field, `Item("region")["name"]`."""

    def __init__(self, loop: str, path: tuple[str, ...] = ()) -> None:
        self.loop = _named(loop, 'Item("LOOP")')
        self.path = path

    def __getitem__(self, key: str) -> Item:
        return Item(self.loop, (*self.path, _named(key, f'{self!r}["FIELD"]')))

    def __repr__(self) -> str:
        return f"Item({self.loop!r})" + "".join(f"[{key!r}]" for key in self.path)

    def written(self) -> Json:
        """Give it as a definition has it."""
        return {"item": self.loop, "path": list(self.path)}


class Collected(Reference):
    """An output of a task in a loop, of every turn of it, as a list: `Collected("fit.model")`."""

    def __init__(self, of: str) -> None:
        self.of = _named(of, 'Collected("TASK.OUTPUT")')

    def written(self) -> Json:
        """Give it as a definition has it."""
        return {"collected": self.of}


class FirstOf(Reference):
    """The output of whichever branch of a when() and its otherwise() ran: `FirstOf("a.out", "b.out")`."""

    def __init__(self, *of: str) -> None:
        self.of = tuple(_named(one, 'FirstOf("TASK.OUTPUT", ...)') for one in of)

    def __repr__(self) -> str:
        return f"FirstOf({', '.join(map(repr, self.of))})"

    def written(self) -> Json:
        """Give it as a definition has it."""
        return {"first_of": list(self.of)}


class Status(Reference):
    """How what went before has ended: an object with `state` and `error`, for a task that runs whatever happens."""

    def written(self) -> Json:
        """Give it as a definition has it."""
        return {"status": True}


class Condition:
    """A question that is asked when the pipeline runs."""

    def __init__(self, written: Json) -> None:
        self._written = written

    @classmethod
    def compare(cls, op: str, left: object, right: object) -> Condition:
        """Compare two values."""
        return cls({"op": op, "left": write(left), "right": write(right)})

    def written(self) -> Json:
        """Give it as a definition has it."""
        return self._written

    def __and__(self, other: object) -> Condition:
        return Condition({"all": [*_parts("all", self), *_parts("all", condition_of(other))]})

    def __or__(self, other: object) -> Condition:
        return Condition({"any": [*_parts("any", self), *_parts("any", condition_of(other))]})

    def __invert__(self) -> Condition:
        return Condition({"not": self._written})

    def __bool__(self) -> bool:
        raise TypeError(
            "a condition is asked when the pipeline runs: write `with p.when(...):`, not `if`; and &, | and ~ with "
            "each comparison in parentheses, not `and`, `or`, `not` or a < b < c"
        )


def _named(given: object, wanted: str) -> str:
    if not isinstance(given, str):
        raise TypeError(f"{given!r} is no text; {wanted} is wanted")
    return given


def _parts(kind: str, condition: Condition) -> list[Json]:
    written = condition.written()
    return list(written[kind]) if kind in written else [written]


def condition_of(given: object) -> Condition:
    """Take a condition, or a value that is true or false itself."""
    if isinstance(given, Condition):
        return given
    if isinstance(given, Reference):
        return Condition.compare("==", given, True)
    raise TypeError(f'{given!r} is no condition; a comparison is wanted, as Value("evaluate.auc") > 0.8')


def write(given: object) -> Json:
    """Write a value: a reference as what it is, everything else as a constant.

    >>> write(Value("a.b")), write([1]), write({1, 2})
    ({'ref': 'a.b'}, {'const': [1]}, {'unserializable': '{1, 2}', 'type': 'set'})
    """
    if isinstance(given, (Reference, Condition)):
        return given.written()
    problem = _no_json(given)
    if problem is not None:
        return {"unserializable": repr(problem), "type": type(problem).__name__}
    return {"const": json.loads(json.dumps(given))}


def _no_json(given: Any) -> Any:
    """Find the first thing in a value that JSON has no word for."""
    if isinstance(given, Mapping):
        return next((x for pair in given.items() for x in (_no_key(pair[0]), _no_json(pair[1])) if x is not None), None)
    if isinstance(given, (list, tuple)):
        return next((x for x in map(_no_json, given) if x is not None), None)
    plain = given is None or (isinstance(given, (str, bool, int, float)) and not _is_endless(given))
    return None if plain else given


def _no_key(key: Any) -> Any:
    return None if isinstance(key, str) else key


def _is_endless(given: Any) -> bool:
    return isinstance(given, float) and not math.isfinite(given)
