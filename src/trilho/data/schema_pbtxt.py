"""Contracts from and to TFX's schema.pbtxt, the Schema of TensorFlow Metadata in its text form.

    min_rows            dataset_constraints { min_examples_count }
    nullable = false    presence { min_fraction: 1 }
    type                type, and a bool_domain or time_domain
    min, max            int_domain or float_domain
    values              string_domain, of the feature or of the schema

What one side cannot say is told, never dropped in silence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from trilho.data.contract import ColumnRule, Contract, TableRule
from trilho.data.text_proto import Message, TextError, Word, parse, write
from trilho.errors import DataError

DOMAINS = ("string_domain", "int_domain", "float_domain")
KINDS = {"INT": "integer", "FLOAT": "number", "BYTES": "string"}
NUMBERS = {1: "BYTES", 2: "INT", 3: "FLOAT", 4: "STRUCT"}  # an enumeration may also be written by number
TYPES = {"integer": "INT", "number": "FLOAT", "string": "BYTES", "timestamp": "BYTES", "boolean": "INT"}
GONE = ("PLANNED", "ALPHA", "DEPRECATED", "DISABLED", "DEBUG_ONLY", "VALIDATION_DERIVED")
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"
UNSAID = {
    "distribution_constraints": "how many values may lie outside of the domain",
    "skew_comparator": "its comparison with what is served; trilho watches that by itself",
    "drift_comparator": "its comparison with earlier data; trilho watches that by itself",
    "unique_constraints": "how many different values it may have",
    "in_environment": "the environments that it is in",
    "not_in_environment": "the environments that it is not in",
}
WHOLE = {
    "sparse_feature": "sparse features",
    "weighted_feature": "weighted features",
    "tensor_representation_group": "tensor representations",
    "default_environment": "environments",
}


def read_schema(text: str) -> tuple[Contract, list[str]]:
    """Read a schema.pbtxt as a contract, and say what of it a contract cannot hold. Raises DataError for another text.

    >>> contract, left = read_schema('feature { name: "age" type: INT int_domain { min: 0 } presence { } }')
    >>> contract.columns["age"].min, contract.columns["age"].nullable, left
    (0.0, True, [])
    """
    try:
        schema = parse(text)
    except TextError as error:
        raise DataError(f"this is no schema.pbtxt: {error}", hint="TFX's SchemaGen writes one") from None
    features = schema.get("feature", [])
    if not features or not all(isinstance(one, dict) and one.get("name") for one in features):
        raise DataError("this is no schema.pbtxt: it has no feature with a name", hint="TFX's SchemaGen writes one")
    left = [f"{words} are not kept" for field, words in WHOLE.items() if field in schema]
    domains = {_one(one, "name"): one for kind in DOMAINS for one in schema.get(kind, [])}
    columns: dict[str, ColumnRule] = {}
    for feature in features:
        name = str(_one(feature, "name"))
        why = _why_not(feature)
        if why:
            left.append(f"{name} is left out: {why}")
            continue
        columns[name] = _column(feature, domains)
        left += [f"{name}: not kept: {words}" for field, words in UNSAID.items() if field in feature]
        left += _partly_present(name, feature)
        left += _unknown(name, feature, domains)
    rows = _one(_message(schema, "dataset_constraints"), "min_examples_count")
    table = TableRule(min_rows=int(rows)) if rows else TableRule()
    return Contract(table=table, columns=columns), left


def _one(message: Mapping[str, Any], field: str) -> Any:
    values = message.get(field)
    return values[-1] if values else None


def _message(message: Mapping[str, Any], field: str) -> Message:
    found = _one(message, field)
    return found if isinstance(found, dict) else {}


def _kind(feature: Mapping[str, Any]) -> str:
    kind = _one(feature, "type")
    return str(NUMBERS.get(kind, "") if isinstance(kind, int) else kind or "")


def _why_not(feature: Mapping[str, Any]) -> str:
    stage = _one(feature, "lifecycle_stage")
    if stage in GONE or _one(feature, "deprecated") == "true":
        return f"its stage is {stage or 'DEPRECATED'}"
    if _kind(feature) == "STRUCT":
        return "it has features of its own"
    sizes = [_one(one, "size") for one in _message(feature, "shape").get("dim", [])]
    if math.prod(size or 0 for size in sizes) != 1 or "value_counts" in feature:
        return "it has several values in a row"
    most = _one(_message(feature, "value_count"), "max")
    return "it has several values in a row" if "value_count" in feature and most != 1 else ""


def _partly_present(name: str, feature: Mapping[str, Any]) -> Iterator[str]:
    share = _one(_message(feature, "presence"), "min_fraction") or 0
    if 0 < share < 1:
        yield f"{name}: not kept: it must be there in {share:.0%} of the rows"


def _unknown(name: str, feature: Mapping[str, Any], domains: Mapping[Any, Message]) -> Iterator[str]:
    kind, domain = _kind(feature), _one(feature, "domain")
    if kind and kind not in (*KINDS, "TYPE_UNKNOWN"):
        yield f"{name}: not kept: its type {kind}, which no schema has"
    if domain is not None and domain not in domains:
        yield f"{name}: not kept: its domain {domain!r}, which is not in the schema"


def _column(feature: Mapping[str, Any], domains: Mapping[Any, Message]) -> ColumnRule:
    named = domains.get(_one(feature, "domain"), {})
    inner = {kind: _message(feature, kind) for kind in DOMAINS if kind in feature}
    domain = next(iter(inner.values()), named)
    kind: Any = KINDS.get(_kind(feature))
    if "bool_domain" in feature:
        kind = "boolean"
    elif "time_domain" in feature and _kind(feature) == "BYTES":
        kind = "timestamp"
    elif "int_domain" in feature and kind == "string":  # written as a text, meant as a number
        kind = "integer"
    elif "float_domain" in feature and kind == "string":
        kind = "number"
    bounds = {key: _bound(_one(domain, key)) for key in ("min", "max")}
    values = list(domain.get("value", [])) or None
    present = _one(_message(feature, "presence"), "min_fraction") or 0
    return ColumnRule(type=kind, nullable=present < 1, values=values, **bounds)


def _bound(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def write_schema(contract: Contract) -> tuple[str, list[str]]:
    """Write a contract as a schema.pbtxt, and say what of it a schema cannot hold.

    >>> print(write_schema(Contract(columns={"age": ColumnRule(type="integer", nullable=False, min=0)}))[0], end="")
    feature {
      name: "age"
      type: INT
      int_domain {
        name: "age"
        min: 0
      }
      presence {
        min_fraction: 1.0
        min_count: 1
      }
      shape {
        dim {
          size: 1
        }
      }
    }
    """
    schema: Message = {"feature": []}
    left: list[str] = []
    for name, rule in contract.columns.items():
        feature, unsaid = _feature(name, rule)
        schema["feature"].append(feature)
        left += unsaid
    if contract.table.min_rows > 1:
        schema["dataset_constraints"] = [{"min_examples_count": [contract.table.min_rows]}]
    left += [f"table.unique: a schema has no word for it ({', '.join(contract.table.unique)})"] * bool(
        contract.table.unique
    )
    left += ["table.freshness: a schema has no word for it"] * (contract.table.freshness is not None)
    return write(schema), left


def _feature(name: str, rule: ColumnRule) -> tuple[Message, list[str]]:
    feature: Message = {"name": [name]}
    left: list[str] = []
    if rule.type is not None:
        feature["type"] = [Word(TYPES[rule.type])]
    if rule.type == "boolean":
        feature["bool_domain"] = [{"name": [name]}]
    elif rule.type == "timestamp":
        feature["time_domain"] = [{"string_format": [TIME_FORMAT]}]
    elif rule.values is not None and all(isinstance(value, str) for value in rule.values):
        feature["string_domain"] = [{"name": [name], "value": list(rule.values)}]
    elif rule.values is not None:
        left.append(f"columns.{name}.values: a schema lists texts only; smallest and largest are written")
    bounds = _bounds(rule)
    if bounds and "string_domain" not in feature and "bool_domain" not in feature:
        whole = rule.type == "integer"
        domain = {key: [int(value) if whole else value] for key, value in bounds.items()}
        feature["int_domain" if whole else "float_domain"] = [{"name": [name], **domain}]
    if not rule.nullable:
        feature["presence"] = [{"min_fraction": [1.0], "min_count": [1]}]
        feature["shape"] = [{"dim": [{"size": [1]}]}]
    else:
        feature["value_count"] = [{"min": [1], "max": [1]}]
    return feature, left


def _bounds(rule: ColumnRule) -> dict[str, float]:
    """Give the range of a column, which the values that are listed may narrow."""
    listed = [value for value in rule.values or [] if isinstance(value, (int, float)) and not isinstance(value, bool)]
    lows = [bound for bound in (rule.min, min(listed, default=None)) if bound is not None]
    highs = [bound for bound in (rule.max, max(listed, default=None)) if bound is not None]
    whole = rule.type == "integer"
    found = {}
    if lows:
        found["min"] = float(math.ceil(max(lows)) if whole else max(lows))
    if highs:
        found["max"] = float(math.floor(min(highs)) if whole else min(highs))
    return found


def contract_text(contract: Contract, heading: str = "") -> str:
    """Write a contract as contract.toml.

    >>> print(contract_text(Contract(columns={"a b": ColumnRule(type="string", values=["x"])})), end="")
    [table]
    min_rows = 1
    <BLANKLINE>
    [columns."a b"]
    type = "string"
    values = ["x"]
    """
    lines = [f"# {heading}", ""] if heading else []
    lines += ["[table]", f"min_rows = {contract.table.min_rows}"]
    lines += [f"unique = {_toml(contract.table.unique)}"] if contract.table.unique else []
    for name, rule in contract.columns.items():
        lines += ["", f"[columns.{_key(name)}]"]
        lines += [f'type = "{rule.type}"'] if rule.type is not None else []
        lines += ["nullable = false"] if not rule.nullable else []
        bounds = (("min", rule.min), ("max", rule.max))
        lines += [f"{key} = {_toml(value)}" for key, value in bounds if value is not None]
        lines += [f"values = {_toml(rule.values)}"] if rule.values is not None else []
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if plain else _toml(name)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
