"""What a table's columns hold, as a contract and the tests need it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

PERSONAL = {
    "cpf": re.compile(r"\d{3}\.?\d{3}\.?\d{3}-?\d{2}"),
    "cnpj": re.compile(r"\d{2}\.?\d{3}\.?\d{3}/?\d{4}-?\d{2}"),
    "e-mail": re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]{2,}"),
    "phone": re.compile(r"(\+?\d{1,3}[ -]?)?\(?\d{2}\)?[ -]?9?\d{4}[ -]?\d{4}"),
}


def kind_of(column: Any) -> str:
    """Name a column's type as a contract does; "other" where it has none of those."""
    import pandas as pd

    types = pd.api.types
    if types.is_bool_dtype(column):
        return "boolean"
    if types.is_integer_dtype(column):
        return "integer"
    if types.is_float_dtype(column):
        return "number"
    if types.is_datetime64_any_dtype(column):
        return "timestamp"
    held = {type(value) for value in column.dropna().head(2000).tolist()}
    return "string" if held == {str} else "boolean" if held == {bool} else "other"


def column_facts(column: Any, name: str) -> dict[str, Any]:
    """Say of a column what a contract needs."""
    kind = kind_of(column)
    present = column.dropna()
    facts: dict[str, Any] = {"name": name, "kind": kind, "dtype": str(column.dtype), "nulls": int(column.isna().sum()),
                             "personal": personal_kind(present, kind), "unique": False, "values": None,
                             "min": None, "max": None}  # fmt: skip
    if kind == "other" or not len(present):
        return facts
    distinct = int(present.nunique())
    facts["distinct"] = distinct
    facts["unique"] = distinct == len(column)
    if kind in ("number", "integer"):
        facts["min"], facts["max"] = float(present.min()), float(present.max())
    if kind == "timestamp":
        facts["min"], facts["max"] = present.min().isoformat(), present.max().isoformat()
    if kind == "string" and distinct <= 12 and distinct * 50 <= len(present) and not facts["personal"]:
        facts["values"] = sorted(present.unique().tolist())
    return facts


def time_facts(column: Any) -> dict[str, Any]:
    """Say of a column of texts whether these are times as ISO 8601 writes them, and from when to when."""
    import pandas as pd

    try:
        times = pd.to_datetime(column.dropna(), format="ISO8601")
        return {"time": True, "min": times.min().isoformat(), "max": times.max().isoformat()}
    except (ValueError, TypeError):
        return {"time": False}


def personal_kind(present: Any, kind: str) -> str:
    """Say what personal data a column of texts looks like, "" for none."""
    if kind != "string" or not len(present):
        return ""
    looked = present.head(200).tolist()
    for name, pattern in PERSONAL.items():
        if sum(pattern.fullmatch(str(value).strip()) is not None for value in looked) * 2 > len(looked):
            return name
    return ""


def digest_of(table: Any) -> str:
    """Digest a table's values; "" where it holds what can't be hashed."""
    import pandas as pd

    try:
        return hashlib.sha256(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes()).hexdigest()
    except (TypeError, ValueError):
        return ""


def sums_of(table: Any) -> dict[str, float]:
    """Sum each column of numbers."""
    numbers = table.select_dtypes(["number", "bool"])
    return {str(name): float(numbers[name].sum()) for name in numbers.columns}


def write_table(frame: Any, path: Path) -> bool:
    """Write a table as Parquet, leaving out columns that Parquet has no type for."""
    for attempt in (frame, frame.drop(columns=[c for c in frame.columns if kind_of(frame[c]) == "other"])):
        try:
            attempt.to_parquet(path)
            return True
        except (ValueError, TypeError, NotImplementedError, AttributeError):
            continue
    return False
