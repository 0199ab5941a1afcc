"""A compiled model: columns in, scores out, and the two files that it is kept in."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled import NotCompiled, arithmetic, categories, codes
from trilho_runtime.compiled.estimators import CompiledEstimator, Outputs, load_estimator
from trilho_runtime.compiled.explain import explained, refused_in
from trilho_runtime.compiled.flow import Unlike
from trilho_runtime.compiled.node import Check, Node, Refused, from_spec, nodes_of, to_spec
from trilho_runtime.compiled.original import SCORES, Loaded, Original, OriginalEstimator
from trilho_runtime.schema.field import RowError

SCHEMA = 1
JSON = "compiled.json"
ARRAYS = "compiled.npz"
CHUNK_ROWS = 8192  # as many rows as fit a processor's cache; what is larger is answered in pieces
OPERATIONS = (arithmetic, categories, codes)  # their nodes are known by name once they are imported

Floats = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]


@dataclass(eq=False)
class Estimate(Node):
    """An estimator as array code: the last one, or one inside another, which is asked by a method."""

    estimator: CompiledEstimator
    guard: Check | None = None
    how: str = SCORES
    fields: tuple[str, ...] = ()
    owner: str = "the model"

    def __call__(self, x: Any) -> NDArray[Any]:
        """Give the answers for a matrix. Raises RowError for what the original refuses."""
        if self.guard is not None:
            self.guard(x)
        try:
            return self.estimator(x) if self.how == SCORES else self.estimator.asked(x, self.how)
        except ValueError as error:
            refused = refused_in(x, self.fields, self.owner)
            if refused is None:
                raise
            raise refused from error


@dataclass(eq=False)
class Ensemble(Node):
    """Whole pipelines beside each other, and the estimator that is made of their answers."""

    members: tuple[Node, ...]
    estimator: CompiledEstimator
    how: str = SCORES

    def __call__(self, x: Any) -> NDArray[Any]:
        """Ask every member, and give what is made of it."""
        given: Any = [member(x) for member in self.members]
        found = self.estimator.evaluator(given)
        return self.estimator.scored(found) if self.how == SCORES else found


@dataclass(eq=False)
class Inverse(Node):
    """A regression of a transformed target: its values are turned back."""

    regression: Node
    turned: Node

    def __call__(self, x: Any) -> Floats:
        """Give the values in the target's own unit. Raises ValueError where the original does."""
        values = self.regression(x)
        found: Floats = self.turned(values.reshape(-1, 1))[:, 0]
        return found


@dataclass(eq=False)
class Compiled:
    """A model as array code, and what is to be told about it."""

    fields: tuple[str, ...]
    program: Node
    whole: OriginalEstimator
    outputs: Outputs
    stages: tuple[Mapping[str, Any], ...]
    path: str
    why: str
    needs: tuple[str, ...] = ()
    proven: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, columns: Columns) -> Floats:
        """Give the scores of rows that the signature has checked.

        Raises RowError, a ValueError, naming field and row where the original refuses the row.
        """
        x = [columns[name] for name in self.fields]
        count = len(x[0])
        if count == 1:
            return self._answer(x)
        if not count:
            return np.zeros((0, len(self.outputs.classes)) if self.outputs.kind == "probabilities" else 0)
        if count <= CHUNK_ROWS:
            return self._answer(x)
        parts = [self._piece(x, start) for start in range(0, count, CHUNK_ROWS)]
        return np.concatenate(parts)

    def _piece(self, x: list[Any], start: int) -> Floats:
        try:
            return self._answer([c[start : start + CHUNK_ROWS] for c in x])
        except RowError as error:
            if error.row is None:
                raise
            row, text = error.row + start, str(error).removeprefix(f"row {error.row}")
            raise RowError(f"row {row}{text}", error.field, row) from None

    def _answer(self, x: list[Any]) -> Floats:
        try:
            found: Floats = self.program(x)
        except Refused as refused:
            raise explained(refused, self.program, self.fields, x) from None
        except Unlike:  # a stage of the original's own code does with these rows what it did with none before
            found = self.whole(x)
        return found

    def load_originals(self, original: Callable[[], Any]) -> Compiled:
        """Tell the stages that fell back where the original model is, and give the compiled model itself."""
        loaded = Loaded(original)
        for node in (self.whole, *nodes_of(self.program)):
            if isinstance(node, Original):
                node.loaded = loaded
        return self

    def told(self) -> dict[str, Any]:
        """Give what a package's manifest says about it."""
        about = {
            "path": self.path,
            "why": self.why,
            "needs": list(self.needs),
            "stages": [dict(s) for s in self.stages],
        }
        return {**about, **({"proven": dict(self.proven)} if self.proven else {})}

    def save(self, folder: Path) -> list[str]:
        """Write the files of the compiled model and give their names; the same model gives the same bytes."""
        from trilho_runtime.model.validation import arrays as packed

        arrays: dict[str, NDArray[Any]] = {}
        files: dict[str, bytes] = {}
        program = _with_estimators(self.program, arrays, files)
        spec = {
            "schema": SCHEMA,
            "fields": list(self.fields),
            "program": program,
            "whole": to_spec(self.whole, arrays),
            "outputs": {"kind": self.outputs.kind, "classes": list(self.outputs.classes)},
            **self.told(),
        }
        text = json.dumps(spec, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        (folder / JSON).write_text(text, encoding="utf-8")
        (folder / ARRAYS).write_bytes(packed(arrays))
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return [JSON, ARRAYS, *files]


def _with_estimators(node: Node, arrays: dict[str, NDArray[Any]], files: dict[str, bytes]) -> Any:
    """Give a program as JSON; its estimator is told by its own parts."""
    spec = to_spec(node, arrays)
    for number, estimate in enumerate(n for n in nodes_of(node) if isinstance(n, Estimate | Ensemble)):
        parts = estimate.estimator.to_parts()
        key = "estimator" if not number else f"estimator{number}"  # the first one's files have no prefix
        arrays |= {f"{key}.{name}": value for name, value in parts.arrays.items()}
        files |= {name if not number else f"{key}.{name}": content for name, content in parts.files.items()}
        told = {"estimator": parts.spec, **({"key": key} if number else {})}
        _replace_estimator(spec, estimate.estimator, told)
    return spec


def _replace_estimator(spec: Any, estimator: CompiledEstimator, told: Any) -> None:
    if isinstance(spec, list):
        for part in spec:
            _replace_estimator(part, estimator, told)
    elif isinstance(spec, dict):
        for name, value in spec.items():
            if value is estimator:
                spec[name] = told
            else:
                _replace_estimator(value, estimator, told)


def load_compiled(folder: Path, spec: Mapping[str, Any], *, original: Callable[[], Any]) -> Compiled:
    """Read a compiled model. Raises NotCompiled where it cannot be read here."""
    try:
        told = json.loads((folder / JSON).read_bytes())
        with np.load(folder / ARRAYS, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
    except (OSError, ValueError, KeyError) as error:
        raise NotCompiled(f"{folder / JSON} cannot be read: {error}") from error
    if not isinstance(told, dict) or told.get("schema") != SCHEMA:
        found = told.get("schema") if isinstance(told, dict) else type(told).__name__
        raise NotCompiled(f"{folder / JSON} has schema {found!r}; this trilho-runtime reads {SCHEMA}")
    return _rebuilt(told, arrays, folder).load_originals(original)


def _rebuilt(told: dict[str, Any], arrays: Mapping[str, NDArray[Any]], folder: Path) -> Compiled:
    def read(spec: dict[str, Any]) -> CompiledEstimator:
        start = f"{spec.get('key', 'estimator')}."
        own = {name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}
        return load_estimator(spec["estimator"], own, folder, start if "key" in spec else "")

    try:
        program = _with_loaded(told["program"], read)
        return Compiled(
            tuple(told["fields"]),
            from_spec(program, arrays),
            from_spec(told["whole"], arrays),
            Outputs(told["outputs"]["kind"], tuple(told["outputs"]["classes"])),
            tuple(told["stages"]),
            told["path"],
            told["why"],
            tuple(told["needs"]),
            told.get("proven", {}),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise NotCompiled(f"{folder / JSON} is not what this trilho-runtime writes: {error!r}") from error


def _with_loaded(spec: Any, load: Callable[[Any], CompiledEstimator]) -> Any:
    if isinstance(spec, list):
        return [_with_loaded(part, load) for part in spec]
    if not isinstance(spec, dict):
        return spec
    if "estimator" in spec and "node" not in spec:
        return load(spec)
    return {name: _with_loaded(value, load) for name, value in spec.items()}
