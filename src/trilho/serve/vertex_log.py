"""Vertex AI's request-response log as lines of ours: one a prediction, whatever form the payloads have.

A row of that table is a request: `request_payload` and `response_payload` are JSON texts, of a whole body
(`{"instances": [...]}`, `{"predictions": [...]}`), of a list, or of one item each. Full entries name id, version and
decision; for plain ones the request's number and the item's place make an id, and the deployed model names the version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from trilho.serve.index import Line, number_of
from trilho_runtime.prediction.log import LineLog
from trilho_runtime.prediction.mask import Mask

FORMAT = 2
ENTRY = {"decision": "d", "decision_version": "dn", "attempt": "a"}
NO_MASK = Mask()


def read(
    rows: Iterable[Mapping[str, Any]],
    *,
    fields: Sequence[str] = (),
    versions: Mapping[str, int] | None = None,
    mask: Mask = NO_MASK,
) -> list[Line]:
    """Give the lines of some rows; one that cannot be read becomes a line that is counted as torn.

    `fields` are the signature's, for instances that are arrays or bare values; `versions` are those of the deployed
    models. Vertex masks nothing: `mask` is what a server of ours would have done to the instances.

    >>> row = {"logging_time": "2024-05-01T10:00:00Z", "request_id": 7, "deployed_model_id": "3",
    ...        "request_payload": ['{"x": 1.5}'], "response_payload": ["0.25"]}
    >>> read([row])
    [{'v': 2, 'id': '7.0', 't': '2024-05-01T10:00:00+00:00', 'n': 3, 'x': {'x': 1.5}, 'y': 0.25}]
    """
    return [line for row in rows for line in _lines(row, fields, versions or {}, mask)]


def append(folder: Path, lines: Sequence[Line]) -> None:
    """Add lines to a log's folder, on the disk; the next sealing takes them in."""
    writer = LineLog(folder / "predictions", "vertex-", fsync=True)
    try:
        writer.append(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))
    finally:
        writer.close()


def _lines(row: Mapping[str, Any], fields: Sequence[str], versions: Mapping[str, int], mask: Mask) -> list[Line]:
    deployed = str(row.get("deployed_model_id") or "")
    time, number = _time(row.get("logging_time")), row.get("request_id")
    common = {
        "request": _plain(number) if number is not None else f"{deployed}-{time}",
        "t": time,
        "n": versions.get(deployed, int(deployed) if deployed.isdecimal() and len(deployed) < 10 else None),
    }
    try:
        instances = [_fields(one, fields) for one in _items(row["request_payload"], "instances")]
        predictions = _items(row["response_payload"], "predictions")
    except (KeyError, TypeError, ValueError):
        return [{"v": FORMAT, "id": f"{common['request']}.0"}]
    if len(instances) != len(predictions):
        return [{"v": FORMAT, "id": f"{common['request']}.0"}]
    pairs = zip(instances, predictions, strict=True)
    return [_line(common, place, mask.apply(one), prediction) for place, (one, prediction) in enumerate(pairs)]


def _line(common: Mapping[str, Any], place: int, x: Mapping[str, Any], prediction: Any) -> Line:
    line: Line = {"v": FORMAT, "id": f"{common['request']}.{place}", "t": common["t"], "n": common["n"], "x": x}
    if not isinstance(prediction, Mapping) or "score" not in prediction:
        return {**line, **_score(prediction)}
    line |= {short: prediction[name] for name, short in ENTRY.items() if prediction.get(name) is not None}
    if isinstance(prediction.get("id"), str):
        line["id"] = prediction["id"]
    if type(prediction.get("version")) is int:
        line["n"] = prediction["version"]
    classes = prediction.get("probabilities")
    several = isinstance(classes, Mapping) and set(classes) != {"0", "1"}
    return {**line, **(_score(classes) if several else _score(prediction["score"]))}


def _score(value: Any) -> Line:
    """Give y, and for several classes the most probable and all probabilities; y is None for what is no score."""
    if isinstance(value, Mapping) and value and all(number_of(one) is not None for one in value.values()):
        if set(value) == {"0", "1"}:
            return {"y": float(value["1"])}
        best = max(value, key=lambda name: float(value[name]))
        return {"y": float(value[best]), "c": best, "p": [float(one) for one in value.values()]}
    if isinstance(value, list) and len(value) == 1:
        return {"y": number_of(value[0])}
    return {"y": number_of(value)}


def _items(payload: Any, name: str) -> list[Any]:
    """Give the items of a payload, of whatever form."""
    texts = [payload] if isinstance(payload, str) else payload
    found: list[Any] = []
    for text in texts:
        value = orjson.loads(text)
        if isinstance(value, dict) and isinstance(value.get(name), list):
            found += value[name]
        elif isinstance(value, list) and (_holds_items(value) or (name == "predictions" and len(texts) == 1)):
            found += value
        else:
            found.append(value)
    return found


def _holds_items(values: list[Any]) -> bool:
    return any(isinstance(one, dict | list) for one in values)


def _fields(instance: Any, fields: Sequence[str]) -> dict[str, Any]:
    if isinstance(instance, dict):
        return instance
    values = instance if isinstance(instance, list) else [instance]
    if len(values) != len(fields):
        raise ValueError(f"{len(values)} values for {len(fields)} fields")
    return dict(zip(fields, values, strict=True))


def _plain(number: Any) -> str:
    """Give a NUMERIC's text: BigQuery's client gives a Decimal, a JSON export a number or a text."""
    text = str(number)
    return text.partition(".")[0] if text.replace(".", "", 1).isdecimal() else text


def _time(value: Any) -> str:
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return moment.astimezone(UTC).isoformat()
    text = str(value).strip().removesuffix(" UTC")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text  # it is no time: the line is counted as torn
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()
