"""Keeps a long run's globals and trace, so that a run that was killed goes on from there.

Imports, definitions and settings are done again, everything else is unpickled in one piece, so that what two names
share they still share afterwards. What can't be pickled means no checkpoint, never a wrong one.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import io
import json
import marshal
import os
import pickle
import random
import sys
import types
from typing import Any

from .reads import hash_path

REDONE = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
SETTING_SECONDS = 0.5
SETTING_KINDS = ("module", "class", "function")


class Checkpoint:
    """The file of one run's last checkpoint."""

    def __init__(self, scratch: str, job: dict[str, Any]) -> None:
        self.path = os.path.join(scratch, "checkpoint.pkl")
        self.told = os.path.join(scratch, "checkpoint.json")
        self.job = job

    def save(self, done: int, state: dict[str, Any], made: dict[int, Any]) -> None:
        """Write a checkpoint after `done` statements. Raises what pickling raises."""
        with open(self.path + ".part", "wb") as handle:
            Keeper(handle, made).dump({**state, "random": _random_states()})
        told = {
            "key": self._key(done),
            "done": done,
            "sources": state["sources"],
            "digest": hash_path(self.path + ".part"),
        }
        if os.path.exists(self.told):
            os.unlink(self.told)
        os.replace(self.path + ".part", self.path)
        with open(self.told + ".part", "w", encoding="utf-8") as text:
            json.dump(told, text)
        os.replace(self.told + ".part", self.told)

    def found(self) -> int:
        """Give after how many statements there is a checkpoint that still holds; 0 for none."""
        try:
            with open(self.told, encoding="utf-8") as text:
                told = json.load(text)
            good = told["key"] == self._key(told["done"]) and told["digest"] == hash_path(self.path)
            good = good and all(hash_path(path) == digest for path, digest in told["sources"].items())
        except (OSError, ValueError, KeyError):
            return 0
        return int(told["done"]) if good else 0

    def load(self) -> dict[str, Any]:
        """Read the state back."""
        with open(self.path, "rb") as handle:
            state: dict[str, Any] = pickle.load(handle)  # noqa: S301  our own file, its digest was checked
        _set_random_states(state["random"])
        return state

    def _key(self, done: int) -> str:
        """Name what must be the same: the notebook, its statements so far, and the interpreter."""
        told = [self.job["notebook"], sys.version, sys.prefix, self.job["statements"][:done]]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


class Keeper(pickle.Pickler):
    """Pickles modules by name, lambdas by their code, and datasets by what they were made of."""

    def __init__(self, handle: io.BufferedWriter, made: dict[int, Any]) -> None:
        super().__init__(handle, protocol=4)
        self.made = made
        self.main = vars(sys.modules["__main__"])

    def reducer_override(self, value: Any) -> Any:
        """Reduce what plain pickle can't."""
        if isinstance(value, types.ModuleType):
            return importlib.import_module, (value.__name__,)
        if _is_local(value) and self.main.get(value.__qualname__) is not value:
            return _function(value)
        held = self.made.get(id(value))
        if held is not None and held[0] is value and not hasattr(type(value), "fit"):
            return remake, (held[1].make, held[1].X, held[1].y, held[1].others)
        return NotImplemented


def _is_local(value: Any) -> bool:
    return isinstance(value, types.FunctionType) and value.__module__ == "__main__"


def remake(make: Any, X: Any, y: Any, others: dict[str, Any]) -> Any:
    """Make a dataset again."""
    return make(X, **{**others, **({} if y is None else {"label": y})})


def _function(function: types.FunctionType) -> Any:
    held = [cell.cell_contents for cell in function.__closure__ or ()]
    state = (function.__defaults__, function.__kwdefaults__, function.__dict__, held)
    given = (marshal.dumps(function.__code__), function.__name__, len(held))
    return make_function, given, state, None, None, fill_function


def make_function(code: bytes, name: str, cells: int) -> types.FunctionType:
    """Make a function of the notebook from its code."""
    names = vars(sys.modules["__main__"])
    return types.FunctionType(marshal.loads(code), names, name, None, tuple(types.CellType() for _ in range(cells)))  # noqa: S302


def fill_function(function: types.FunctionType, state: Any) -> None:
    """Give a function its defaults, attributes and closure."""
    function.__defaults__, function.__kwdefaults__, attributes, held = state
    function.__dict__.update(attributes)
    for cell, value in zip(function.__closure__ or (), held):
        cell.cell_contents = value


def is_redone(node: ast.stmt, record: dict[str, Any], kinds: dict[str, str]) -> bool:
    """Say whether a statement is done again when a run goes on: imports, definitions, and settings of libraries."""
    if isinstance(node, REDONE):
        return True
    quick = isinstance(node, ast.Expr) and record["seconds"] < SETTING_SECONDS and not record["mutates"]
    return quick and all(kinds.get(name) in SETTING_KINDS for name in record["reads"])


def _random_states() -> dict[str, Any]:
    states: dict[str, Any] = {"random": random.getstate()}
    if "numpy" in sys.modules:
        states["numpy"] = sys.modules["numpy"].random.get_state()
    return states


def _set_random_states(states: dict[str, Any]) -> None:
    random.setstate(states["random"])
    if "numpy" in states:
        importlib.import_module("numpy").random.set_state(states["numpy"])
