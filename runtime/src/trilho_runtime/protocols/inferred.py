"""The outputs of an inference answer: which there are, which a request wants, and which of them as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from trilho_runtime.prediction.entries import Telling
from trilho_runtime.prediction.job import Outcome
from trilho_runtime.protocols.tensors import write_binary, write_tensor, wrong
from trilho_runtime.web.http import Answer

HEADER_LENGTH = "inference-header-content-length"
OCTETS = "application/octet-stream"


def described(telling: Telling, decides: bool) -> list[tuple[str, str, int]]:
    """Give each output's name, datatype, and number of columns (0 where it has one dimension)."""
    label = [("label", label_datatype(telling), 0)]
    by_kind = {"value": [("prediction", "FP64", 0)], "class": label}
    told = by_kind.get(telling.kind) or [("probabilities", "FP64", len(telling.labels)), *label]
    return [*told, ("id", "BYTES", 0), *([("decision", "BYTES", 0)] if decides else [])]


def label_datatype(telling: Telling) -> str:
    """Give the datatype that carries the classes as they were at training; texts carry what else there is."""
    kinds = set(map(type, telling.classes))
    return {bool: "BOOL", int: "INT64", float: "FP64"}.get(kinds.pop(), "BYTES") if len(kinds) == 1 else "BYTES"


def inferred(telling: Telling, outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Give an outcome's outputs by name."""
    made: dict[str, Sequence[Any]] = {"id": outcome.ids}
    if telling.kind == "value":
        made["prediction"] = outcome.scores
    else:
        labels = [telling.class_of(score) for score in outcome.scores]
        made["label"] = [_text(v) for v in labels] if label_datatype(telling) == "BYTES" else labels
        if telling.kind != "class":
            made["probabilities"] = [p for row in telling.probabilities(outcome.scores) for p in row]
    if outcome.decisions is not None:
        made["decision"] = [_text(decision) for decision in outcome.decisions]
    told = described(telling, outcome.decisions is not None)
    return {name: write_tensor(name, datatype, made[name], width) for name, datatype, width in told}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


class Wanted:
    """Which outputs a request wants, and which of them as bytes."""

    def __init__(self, payload: Mapping[str, Any], telling: Telling, decides: bool) -> None:
        asked = payload.get("outputs") or []
        if not isinstance(asked, list) or not all(
            isinstance(o, dict) and isinstance(o.get("name"), str) for o in asked
        ):
            raise wrong('wanted "outputs": [{"name": ...}, ...]', "outputs")
        known = [name for name, _, _ in described(telling, decides)]
        every = (payload.get("parameters") or {}).get("binary_data_output") is True
        self._binary: dict[str, bool] = {}
        for output in asked or [{"name": name} for name in known]:
            parameters = output.get("parameters") or {}
            if output["name"] not in known:
                raise wrong(f"no output {output['name'][:60]!r}; there is {', '.join(known)}", "outputs")
            if not isinstance(parameters, dict) or any(name != "binary_data" for name in parameters):
                raise wrong(f"output {output['name']}: its parameters may hold binary_data only", "outputs")
            self._binary[output["name"]] = parameters.get("binary_data", every) is True

    def answer(
        self, head: dict[str, Any], made: Mapping[str, dict[str, Any]], headers: list[tuple[str, str]]
    ) -> Answer:
        """Give the answer: the outputs in the order in which they were asked for."""
        told, parts = [], []
        for name, binary in self._binary.items():
            if name in made:
                tensor, data = write_binary(made[name]) if binary else (made[name], b"")
                told.append(tensor)
                parts.append(data)
        written = orjson.dumps({**head, "outputs": told})
        if not any(self._binary.values()):
            return Answer(200, written, headers)
        lengths = (HEADER_LENGTH, str(len(written)))
        return Answer(200, b"".join([written, *parts]), [*headers, lengths], OCTETS)
