"""Rows as clients send them in JSON: checked against a table's fields, made fit for DuckDB's own JSON reader."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any

from trilho.testing.emulator.bigquery.fields import Field

LARGEST_INTEGER = 1 << 63


class Unfit(ValueError):
    """A value that its field cannot hold: where, and why."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(why)
        self.where, self.why = where, why


def fit_row(row: Any, fields: list[Field], *, ignore_unknown: bool = False, where: str = "") -> dict[str, Any]:
    """Give a row that DuckDB reads into the fields' columns. Raises Unfit.

    >>> fit_row({"n": "3"}, [{"name": "n", "type": "INTEGER"}])
    {'n': 3}
    """
    if not isinstance(row, dict):
        raise Unfit(where, f"This field is not a record: {json.dumps(row)[:50]}")
    names = {field["name"].lower(): field for field in fields}
    unknown = next((name for name in row if name.lower() not in names), None)
    if unknown is not None and not ignore_unknown:
        raise Unfit(f"{where}{unknown}", f"no such field: {where}{unknown}.")
    given = {name.lower(): value for name, value in row.items()}
    return {
        field["name"]: _fit(given.get(name), field, ignore_unknown, f"{where}{field['name']}")
        for name, field in names.items()
    }


def _fit(value: Any, field: Field, ignore_unknown: bool, where: str) -> Any:
    mode = field.get("mode")
    if mode == "REPEATED":
        if value is None:
            return []
        if not isinstance(value, list):
            raise Unfit(where, "Array specified for non-repeated field." if not value else "This field is repeated.")
        return [_fit(one, field | {"mode": "REQUIRED"}, ignore_unknown, where) for one in value]
    if value is None:
        if mode == "REQUIRED":
            raise Unfit(where, f"Missing required field: {where}.")
        return None
    if field["type"] == "RECORD":
        return fit_row(value, field["fields"], ignore_unknown=ignore_unknown, where=f"{where}.")
    if isinstance(value, (list, dict)) and field["type"] != "JSON":
        raise Unfit(where, "Array specified for non-repeated field." if isinstance(value, list) else _no(value, field))
    try:
        return FITTERS[field["type"]](value)
    except (ValueError, InvalidOperation, OverflowError, binascii.Error):
        raise Unfit(where, _no(value, field)) from None


def _no(value: Any, field: Field) -> str:
    kind = {"INTEGER": "int64", "FLOAT": "double", "BOOLEAN": "bool"}.get(field["type"], field["type"].lower())
    shown = value if isinstance(value, str) else json.dumps(value)
    return f"Cannot convert value to {kind} (bad value): {shown[:80]}"


def _integer(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    number = int(value)
    if not -LARGEST_INTEGER <= number < LARGEST_INTEGER:
        raise ValueError(value)
    return number


def _float(value: Any) -> float | str:
    if isinstance(value, bool):
        raise ValueError(value)
    number = float(value)
    return number if math.isfinite(number) else str(number)


def _boolean(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


def _numeric(value: Any) -> str:
    number = Decimal(str(value))
    if isinstance(value, bool) or not number.is_finite():
        raise ValueError(value)
    return f"{number:f}"


def _string(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _bytes(value: Any) -> str:
    """Write bytes as DuckDB casts a text to a blob."""
    return "".join(f"\\x{byte:02X}" for byte in base64.b64decode(str(value), validate=True))


def _timestamp(value: Any) -> str:
    if isinstance(value, bool):
        raise ValueError(value)
    if isinstance(value, (int, float)) or re.fullmatch(r"-?\d+(\.\d+)?(E\d+)?", str(value)):
        return datetime.fromtimestamp(float(value), UTC).isoformat()
    text = re.sub(r"\s*(UTC|Z)$", "+00:00", str(value).strip())
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _json(value: Any) -> Any:
    """A JSON column is sent a text that holds JSON."""
    return json.loads(value) if isinstance(value, str) else value


FITTERS: dict[str, Callable[[Any], Any]] = {
    "STRING": _string, "GEOGRAPHY": _string, "INTERVAL": _string, "BYTES": _bytes, "INTEGER": _integer,
    "FLOAT": _float, "BOOLEAN": _boolean, "NUMERIC": _numeric, "BIGNUMERIC": _numeric, "TIMESTAMP": _timestamp,
    "DATE": lambda value: date.fromisoformat(str(value)).isoformat(),
    "TIME": lambda value: time.fromisoformat(str(value)).isoformat(),
    "DATETIME": lambda value: datetime.fromisoformat(str(value)).replace(tzinfo=None).isoformat(), "JSON": _json,
}  # fmt: skip
