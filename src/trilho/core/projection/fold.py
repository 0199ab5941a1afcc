"""The fold of a journal: all its models, as they are after its last record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from trilho.core.journal import Record
from trilho.core.projection.changes import UnknownRecord, apply
from trilho.core.projection.model import ModelState


@dataclass
class State:
    """The fold of a journal up to record `seq`."""

    seq: int = 0
    models: dict[str, ModelState] = field(default_factory=dict)
    unknown: int = 0  # records passed over: of a kind that a newer trilho wrote, or about something unknown

    def model(self, name: str) -> ModelState:
        """Give a model's state, empty when the journal has not heard of it."""
        return self.models.get(name) or ModelState(name)


def fold(records: Iterable[Record], state: State | None = None) -> State:
    """Fold records into a state, starting from an earlier one where given (it is changed in place)."""
    state = state or State()
    for record in records:
        try:
            _add(record, state)
        except UnknownRecord:
            state.unknown += 1
        state.seq = record.seq
    return state


def _add(record: Record, state: State) -> None:
    if record.payload is None:
        raise UnknownRecord
    model = state.models.setdefault(record.payload.model, ModelState(record.payload.model))
    apply(record.payload, model, record)
