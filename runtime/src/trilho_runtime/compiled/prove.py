"""The proof of a compiled model as a whole: the original's answers, on stored rows and on made-up ones.

Stages were proven one by one where they were compiled; here it is the answers, of one row as of many, and that what the
original refuses is refused.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled import USUAL, NotCompiled
from trilho_runtime.compiled.accept import Rows, answered_places
from trilho_runtime.compiled.difference import matrix_difference
from trilho_runtime.compiled.edges import edge_columns, stacked, wild_columns
from trilho_runtime.compiled.original import scores_of
from trilho_runtime.compiled.plan import Compiled
from trilho_runtime.schema.signature import Signature

LIMIT = float(USUAL)
WILD_LIMIT = 1e-6  # of rows whose numbers have sizes at which sums cancel out
STORED_ROWS = 1000
ALONE = 60

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Proof:
    """What was compared: stored and made-up rows, those of both that the original refuses, the largest difference."""

    rows: int
    edge_rows: int
    refused_rows: int
    largest_difference: float

    def to_json(self) -> dict[str, Any]:
        """Give the proof as it stands in a manifest."""
        return asdict(self)


def prove(model: Any, compiled: Compiled, frame: Any, signature: Signature, limit: float = LIMIT) -> Proof:
    """Compare a compiled model's answers with the original's, and say so in what the compiled model tells of itself.

    `limit` is how far they may lie apart. Raises NotCompiled where they are others: the model is then served as it was
    fitted.
    """
    stored = Rows(signature, signature.arrays(frame.iloc[:STORED_ROWS]))
    edges = Rows(signature, edge_columns(signature, frame))
    wild = Rows(signature, wild_columns(signature, frame))
    _prove_empty(compiled, stored)
    largest, refused = _prove_rows(model, compiled, Rows(signature, stacked([stored.columns, edges.columns])), limit)
    _, refused_wild = _prove_rows(model, compiled, wild, max(limit, WILD_LIMIT))
    proof = Proof(stored.count, edges.count + wild.count, refused + refused_wild, largest)
    compiled.proven = proof.to_json()
    return proof


def _prove_empty(compiled: Compiled, rows: Rows) -> None:
    found = compiled.predict(rows.picked([]).columns)
    if len(found):
        raise NotCompiled(f"it gives {len(found)} answers for no rows")


def _prove_rows(model: Any, compiled: Compiled, rows: Rows, limit: float) -> tuple[float, int]:
    """Compare answers of all rows together and of some alone; give the largest difference and how many are refused."""
    if not rows.count:
        return 0.0, 0
    places = answered_places(model, rows)
    refused = sorted(set(range(rows.count)) - set(places))
    for place in refused:
        _prove_refused(compiled, rows.picked([place]))
    if not places:
        return 0.0, len(refused)
    answered = rows.picked(places)
    expected = scores_of(model, answered.table())
    largest = _held(_asked(compiled, answered), expected, limit, "together")
    alone = np.unique(np.linspace(0, answered.count - 1, min(ALONE, answered.count)).astype(int))
    single = np.concatenate([_asked(compiled, answered.picked([int(i)])) for i in alone])
    return max(largest, _held(single, expected[alone], limit, "alone")), len(refused)


def _prove_refused(compiled: Compiled, row: Rows) -> None:
    try:
        found = compiled.predict(row.columns)
    except ValueError:
        return
    raise NotCompiled(f"it answers {found.tolist()[0]} where the original refuses the row {_shown(row)}")


def _asked(compiled: Compiled, rows: Rows) -> Floats:
    try:
        return compiled.predict(rows.columns)
    except ValueError as error:
        raise NotCompiled(f"it refuses a row that the original answers: {error}") from None


def _held(found: Floats, expected: Floats, limit: float, how: str) -> float:
    difference = matrix_difference(found, expected)
    if difference > limit:
        raise NotCompiled(
            f"rows asked {how} are answered {difference:.3g} away from the original; {limit:g} is allowed"
        )
    return difference


def _shown(row: Rows) -> str:
    text = str({name: column.tolist()[0] for name, column in row.columns.items()})
    return text if len(text) <= 200 else text[:197] + "..."
