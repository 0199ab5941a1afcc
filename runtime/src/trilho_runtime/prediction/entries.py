"""How predictions are told: a value, the probability of each class, or an entry that says which prediction it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import orjson

from trilho_runtime.model.outputs import Outputs
from trilho_runtime.prediction.job import Outcome


class Telling:
    """Turns a model's scores into what its callers read."""

    def __init__(self, outputs: Outputs) -> None:
        self.kind = outputs.kind
        self.classes = outputs.classes
        self._numeric = outputs.numeric

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Telling:
        """Read it off a package's manifest.

        >>> Telling.of({"task": "classification"}).labels
        ('0', '1')
        """
        return cls(Outputs.from_manifest(manifest))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Give the classes as the keys of a JSON object."""
        return tuple(c if isinstance(c, str) else orjson.dumps(c).decode() for c in self.classes)

    def plain(self, scores: Sequence[Any]) -> list[Any]:
        """Give one entry a score: the value, the class, or the probability of each class.

        >>> Telling(Outputs("probability", (0, 1))).plain([0.25])
        [{'0': 0.75, '1': 0.25}]
        >>> Telling(Outputs("probabilities", ("cat", "dog", 3))).plain([[0.5, 0.25, 0.25]])
        [{'cat': 0.5, 'dog': 0.25, '3': 0.25}]
        >>> Telling(Outputs("class", ("cat", "dog"))).plain([1.0])
        ['dog']
        """
        if self.kind == "value":
            return list(scores)
        if self.kind == "probability":
            return [{"0": 1 - p, "1": p} for p in scores]
        if self.kind == "class":
            return [self.class_of(score) for score in scores]
        labels = self.labels
        return [dict(zip(labels, row, strict=True)) for row in scores]

    def class_of(self, score: Any) -> Any:
        """Give the class that a score speaks for, as it was at training: the most probable one."""
        if self.kind == "probability":
            return int(score > 0.5)
        if self.kind == "probabilities":
            return self.classes[max(range(len(score)), key=score.__getitem__)]
        if self._numeric:
            return next((label for label in self.classes if label == score), score)
        return self.classes[int(score)]

    def probabilities(self, scores: Sequence[Any]) -> list[list[float]]:
        """Give a row of probabilities a score, one for each class."""
        return [[1 - p, p] for p in scores] if self.kind == "probability" else [list(row) for row in scores]

    def full(self, outcome: Outcome) -> list[dict[str, Any]]:
        """Give one entry a row that also says its id, its decision, and the versions of both."""
        plain = self.plain(outcome.scores)
        versions: dict[str, Any] = {"version": outcome.version}
        if outcome.decision_version is not None:
            versions["decision_version"] = outcome.decision_version
        return [
            {"id": name, **self._scored(score, plain[row]), **self._decided(outcome, row), **versions}
            for row, (name, score) in enumerate(zip(outcome.ids, outcome.scores, strict=True))
        ]

    def _scored(self, score: Any, plain: Any) -> dict[str, Any]:
        if self.kind == "probability":
            return {"score": score, "probabilities": plain}
        if self.kind == "probabilities":
            return {"score": max(score), "label": self.class_of(score), "probabilities": plain}
        return {"score": plain}

    @staticmethod
    def _decided(outcome: Outcome, row: int) -> dict[str, Any]:
        return {} if outcome.decisions is None else {"decision": outcome.decisions[row]}
