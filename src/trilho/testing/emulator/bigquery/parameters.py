"""Query parameters: what a client sends for @name and ?, as DuckDB's SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trilho.testing.emulator.bigquery.fields import COLUMN_TYPES, OTHER_NAMES, literal, quoted
from trilho.testing.emulator.bigquery.naming import invalid

Json = dict[str, Any]


class Parameters:
    """The parameters of one query, by name or in order."""

    def __init__(self, given: list[Json]) -> None:
        self._named = {str(one["name"]).lower(): one for one in given if one.get("name")}
        self._ordered = [one for one in given if not one.get("name")]

    def named(self, name: str) -> str:
        """Give the SQL of @name."""
        found = self._named.get(name.lower())
        if found is None:
            raise invalid(f"Query parameter '{name}' not found", "invalidQuery")
        return _sql_of(found)

    def at(self, number: int) -> str:
        """Give the SQL of a ?, by its place in the query from 0."""
        if number >= len(self._ordered):
            raise invalid(f"Query has more than {len(self._ordered)} positional parameters", "invalidQuery")
        return _sql_of(self._ordered[number])


def _sql_of(parameter: Json) -> str:
    return value_sql(parameter.get("parameterType") or {}, parameter.get("parameterValue") or {})


def value_sql(kind: Json, value: Json) -> str:
    """Give a typed value as DuckDB's SQL.

    >>> value_sql({"type": "INT64"}, {"value": "3"})
    "CAST('3' AS BIGINT)"
    >>> value_sql({"type": "ARRAY", "arrayType": {"type": "STRING"}}, {"arrayValues": [{"value": "a"}]})
    "CAST([CAST('a' AS VARCHAR)] AS VARCHAR[])"
    """
    return VALUES.get(str(kind.get("type", "")).upper(), _scalar)(kind, value)


def type_sql(kind: Json) -> str:
    """Give a parameter's type as DuckDB's SQL."""
    name = str(kind.get("type", "")).upper()
    if name == "ARRAY":
        return f"{type_sql(kind['arrayType'])}[]"
    if name in ("STRUCT", "RECORD"):
        return f"STRUCT({', '.join(_typed(part) for part in kind['structTypes'])})"
    found = COLUMN_TYPES.get(OTHER_NAMES.get(name, name))
    if found is None:
        raise invalid(f"Invalid query parameter type: {name!r}")
    return found


def _typed(part: Json) -> str:
    return f"{quoted(str(part.get('name', '')))} {type_sql(part['type'])}"


def _scalar(kind: Json, value: Json) -> str:
    target, given = type_sql(kind), value.get("value")
    if given is None:
        return f"CAST(NULL AS {target})"
    if target == "BLOB":
        return f"from_base64({literal(str(given))})"
    return f"CAST({literal(str(given))} AS {target})"


def _array(kind: Json, value: Json) -> str:
    inner = ", ".join(value_sql(kind["arrayType"], one) for one in value.get("arrayValues") or [])
    return f"CAST([{inner}] AS {type_sql(kind)})"


def _struct(kind: Json, value: Json) -> str:
    given = value.get("structValues") or {}
    named = [(part["name"], value_sql(part["type"], given.get(part["name"], {}))) for part in kind["structTypes"]]
    return f"{{{', '.join(f'{literal(name)}: {sql}' for name, sql in named)}}}"


VALUES: dict[str, Callable[[Json, Json], str]] = {"ARRAY": _array, "STRUCT": _struct, "RECORD": _struct}
