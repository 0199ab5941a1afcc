"""What a protocol needs of the server behind it: a model that is ready, and one way to have rows answered.

A protocol is a small class that is given the plane and has `routes()`, handlers by method and path. It turns what it
is sent into a `Job` and the `Outcome` into what its clients expect; it never touches the model itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from trilho_runtime.package import Package, Predictor
from trilho_runtime.prediction.job import Job, Outcome
from trilho_runtime.web.http import HttpError

MAX_ROWS = 1000
EXTRA_FIELDS = 1000  # unknown fields that one row may hold; what callers add for the next version is a handful


class Model(Protocol):
    """A model that is ready to answer; `predict.Loaded` is the one there is."""

    @property
    def package(self) -> Package:
        """Give the package that it was loaded from."""

    @property
    def predictor(self) -> Predictor:
        """Give what predicts."""

    @property
    def names(self) -> frozenset[str]:
        """Give the names of the signature's fields."""


class Plane(Protocol):
    """The data plane; `predict.PredictionApp` is the one there is."""

    @property
    def version(self) -> int:
        """Give the model version that answers."""

    @property
    def decides(self) -> bool:
        """Say whether a rule decides on the scores, so that each row is answered with a decision too."""

    def ready(self) -> Model:
        """Give the model. Raises HttpError 503 until there is one."""

    async def answer(self, job: Job) -> Outcome:
        """Have rows predicted, decided on and logged. Raises HttpError with field and row for wrong ones."""


def check_size(rows: list[Any], names: frozenset[str], most: int) -> None:
    """Refuse a request of no rows, of too many, or with a row of too many fields."""
    if not rows:
        raise HttpError(422, "instances is empty; wanted one row at least", field="instances")
    if len(rows) > most:
        raise HttpError(413, f"{len(rows)} instances in one request; at most {most} are taken")
    widest = len(names) + EXTRA_FIELDS
    for index, row in enumerate(rows):
        if len(row) > widest:
            raise HttpError(413, f"row {index} has {len(row)} fields; at most {widest} are taken", row=index)


def told_headers(outcome: Outcome, rows: Sequence[Mapping[str, Any]], names: frozenset[str]) -> list[tuple[str, str]]:
    """Give the headers that say how many rows were answered, with how many unknown fields, and how many of them are in
    the log where not all are.

    >>> told_headers(Outcome(["a.0"], [1.0], 1), [{"x": 1, "new": 2}], frozenset({"x"}))
    [('x-trilho-rows', '1'), ('x-trilho-extra-fields', '1')]
    """
    extra = outcome.extra if outcome.extra is not None else sum(len(row.keys() - names) for row in rows)
    headers = [("x-trilho-rows", str(len(rows))), ("x-trilho-extra-fields", str(extra))]
    return headers if outcome.logged else [*headers, ("x-trilho-logged", str(outcome.kept))]
