"""What a table must satisfy before a model learns from it: contract.toml, held against the data.

[table]
min_rows = 1000
unique = ["event_id"]
freshness = "60 days"       # the newest row is at most so old, by the clock

[columns.temp_c]
type = "number"             # number, integer, boolean, string or timestamp
nullable = false
min = -40
max = 50
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from trilho.config import parse_duration
from trilho.data.tables import database, name, plain_type, text
from trilho.errors import ConfigError

if TYPE_CHECKING:
    import duckdb

KINDS = {
    "DOUBLE": "number",
    "BIGINT": "integer",
    "BOOLEAN": "boolean",
    "VARCHAR": "string",
    "TIMESTAMP": "timestamp",
}


class ColumnRule(BaseModel):
    """What one column must be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["number", "integer", "boolean", "string", "timestamp"] | None = None
    nullable: bool = True
    min: float | None = None
    max: float | None = None
    values: list[str | int | float | bool] | None = None


class TableRule(BaseModel):
    """What the table as a whole must be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_rows: Annotated[int, Field(ge=0)] = 1
    unique: list[str] = []
    freshness: Annotated[timedelta, BeforeValidator(parse_duration)] | None = None


class Contract(BaseModel):
    """The whole of contract.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: TableRule = TableRule()
    columns: dict[str, ColumnRule] = {}


class Finding(BaseModel):
    """One way in which a table breaks its contract; `column` is None for the table as a whole."""

    model_config = ConfigDict(frozen=True)

    column: str | None
    fact: str

    def __str__(self) -> str:
        return f"{self.column}: {self.fact}" if self.column else self.fact


def load_contract(path: Path) -> Contract:
    """Read contract.toml; a project without one has an empty contract. Raises ConfigError when it is wrong."""
    if not path.exists():
        return Contract()
    try:
        return Contract.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}", hint=f"correct {path.name}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _explain(path, [str(part) for part in first["loc"]], first) from None


def _explain(path: Path, where: list[str], problem: Any) -> ConfigError:
    key = ".".join(where)
    if problem["type"] != "extra_forbidden":
        said = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
        return ConfigError(f"{path}: {key} is {problem['input']!r}; allowed: {said}", hint=f"change {key}")
    tables: dict[int, type[BaseModel]] = {1: Contract, 2: TableRule}
    table = tables.get(len(where), ColumnRule)
    allowed = sorted(table.model_fields)
    close = difflib.get_close_matches(where[-1], allowed, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"leave {key} out"
    return ConfigError(f"{path}: unknown key {key}; allowed: {', '.join(allowed)}", hint=hint)


def check(table: Path, contract: Contract, *, time: str | None = None) -> list[Finding]:
    """Hold a Parquet table against a contract and give what is wrong, nothing when all is well."""
    with database() as connection:
        _open(connection, table)
        return check_view(connection, contract, time=time)


def check_view(connection: duckdb.DuckDBPyConnection, contract: Contract, *, time: str | None = None) -> list[Finding]:
    """Hold the table `t` of a connection against a contract, as `check` does."""
    kinds = _kinds(connection)
    found = _check_table(connection, contract.table, kinds, time)
    for column, rule in contract.columns.items():
        if column not in kinds:
            near = difflib.get_close_matches(column, kinds, n=1)
            also = f"; did you mean {near[0]!r}?" if near else ""
            found.append(Finding(column=column, fact=f"the data has no such column{also}"))
        else:
            found += _check_column(connection, column, kinds[column], rule)
    return found


def _open(connection: duckdb.DuckDBPyConnection, table: Path) -> None:
    connection.execute(f"CREATE VIEW t AS SELECT * FROM read_parquet({text(table)})")  # noqa: S608


def _kinds(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    return {row[0]: KINDS.get(plain_type(row[1]), row[1]) for row in connection.execute("DESCRIBE t").fetchall()}


def _one(connection: duckdb.DuckDBPyConnection, expressions: str) -> tuple[Any, ...]:
    row = connection.execute(f"SELECT {expressions} FROM t").fetchone()  # noqa: S608  names are quoted by the callers
    assert row is not None
    return tuple(row)


def _check_table(
    connection: duckdb.DuckDBPyConnection, rule: TableRule, kinds: dict[str, str], time: str | None
) -> list[Finding]:
    found = []
    (rows,) = _one(connection, "count(*)")
    if rows < rule.min_rows:
        found.append(Finding(column=None, fact=f"{rows} rows; at least {rule.min_rows} are wanted"))
    for column in rule.unique:
        if column not in kinds:
            found.append(Finding(column=column, fact="must be unique, and the data has no such column"))
            continue
        (repeated,) = _one(connection, f"count({name(column)}) - count(DISTINCT {name(column)})")
        if repeated:
            found.append(Finding(column=column, fact=f"must be unique, and {repeated} values come again"))
    if rule.freshness is not None and time in kinds:
        (newest,) = _one(connection, f"max({name(str(time))})")
        age = datetime.now(UTC).replace(tzinfo=None) - newest if newest is not None else None
        if age is not None and age > rule.freshness:
            fact = f"the newest row is of {newest:%Y-%m-%d %H:%M}, {age.days} days ago; {rule.freshness} is allowed"
            found.append(Finding(column=time, fact=fact))
    return found


def _check_column(connection: duckdb.DuckDBPyConnection, column: str, kind: str, rule: ColumnRule) -> list[Finding]:
    if rule.type is not None and kind != rule.type and (kind, rule.type) != ("integer", "number"):
        return [Finding(column=column, fact=f"is {kind}; the contract says {rule.type}")]
    quoted, found = name(column), []
    rows, nulls = _one(connection, f"count(*), count(*) - count({quoted})")
    if nulls and not rule.nullable:
        found.append(Finding(column=column, fact=f"is empty in {nulls} of {rows} rows"))
    if kind in ("number", "integer"):
        found += _check_range(connection, column, rule)
    if rule.values is not None:
        condition = f"{quoted} IS NOT NULL AND NOT ({_listed(column, rule.values)})"
        (outside, one) = _one(connection, f"count(*) FILTER ({condition}), any_value({quoted}) FILTER ({condition})")
        if outside:
            found.append(Finding(column=column, fact=f"{outside} rows hold values not listed, such as {one!r}"))
    return found


def _listed(column: str, values: Sequence[str | int | float | bool]) -> str:
    listed = ", ".join(text(str(value).lower() if isinstance(value, bool) else str(value)) for value in values)
    return f"CAST({name(column)} AS VARCHAR) IN ({listed})"


def row_rules(contract: Contract, columns: Mapping[str, str]) -> list[str]:
    """Give the contract's rules for columns as SQL conditions on a single row; `columns` gives their types.

    >>> row_rules(Contract(columns={"x": ColumnRule(nullable=False)}), {"x": "BIGINT", "y": "BIGINT"})
    ['"x" IS NOT NULL', 'coalesce(isfinite("x"::DOUBLE), true)']
    """
    found = []
    for column, rule in contract.columns.items():
        if column not in columns:
            continue
        quoted, conditions = name(column), []
        if not rule.nullable:
            found.append(f"{quoted} IS NOT NULL")
        if columns[column] in ("DOUBLE", "BIGINT"):
            conditions.append(f"isfinite({quoted}::DOUBLE)")
            conditions += [f"{quoted} >= '{rule.min!r}'::DOUBLE"] if rule.min is not None else []
            conditions += [f"{quoted} <= '{rule.max!r}'::DOUBLE"] if rule.max is not None else []
        if rule.values is not None:
            conditions.append(_listed(column, rule.values))
        if conditions:
            found.append(f"coalesce({' AND '.join(conditions)}, true)")
    return found


def _check_range(connection: duckdb.DuckDBPyConnection, column: str, rule: ColumnRule) -> list[Finding]:
    quoted, found = name(column), []
    low, high, odd = _one(
        connection,
        f"min({quoted}) FILTER (isfinite({quoted}::DOUBLE)), max({quoted}) FILTER (isfinite({quoted}::DOUBLE)), "
        f"count(*) FILTER (NOT isfinite({quoted}::DOUBLE))",
    )
    if odd:
        found.append(Finding(column=column, fact=f"is infinite or not a number in {odd} rows"))
    if rule.min is not None and low is not None and low < rule.min:
        found.append(Finding(column=column, fact=f"goes down to {low:g}; at least {rule.min:g} is allowed"))
    if rule.max is not None and high is not None and high > rule.max:
        found.append(Finding(column=column, fact=f"goes up to {high:g}; at most {rule.max:g} is allowed"))
    return found


def infer(table: Path, *, key: str | None = None, target: str | None = None) -> str:
    """Write a first contract of a table: types, nulls, and ranges with head-room, since seasons move."""
    with database() as connection:
        _open(connection, table)
        lines = ["# What the data must satisfy before a model learns from it.", "", "[table]"]
        lines += [f"min_rows = {max(1, int(_one(connection, 'count(*)')[0] / 2))}"]
        lines += [f"unique = [{_toml(key)}]"] if key else []
        for column, kind in _kinds(connection).items():
            lines += ["", f"[columns.{_key(column)}]", f'type = "{kind}"']
            lines += _infer_column(connection, column, kind, is_target=column == target)
    return "\n".join(lines) + "\n"


def _infer_column(connection: duckdb.DuckDBPyConnection, column: str, kind: str, *, is_target: bool) -> list[str]:
    quoted = name(column)
    nulls, distinct = _one(connection, f"count(*) - count({quoted}), count(DISTINCT {quoted})")
    lines = [] if nulls and not is_target else ["nullable = false"]
    if kind not in ("number", "integer"):
        return lines
    if distinct == 2:
        pair = _one(connection, f"min({quoted}), max({quoted})")
        if pair == (0, 1):
            return [*lines, "values = [0, 1]"]
    low, high = _one(connection, f"min({quoted}), max({quoted})")
    if low is not None and math.isfinite(low) and math.isfinite(high):
        room = max(high - low, abs(high), 1)
        lines += [f"min = {_rounded(0 if low >= 0 else low - room, math.floor)}"]
        lines += [f"max = {_rounded(high + room, math.ceil)}"]
    return lines


def _rounded(value: float, to: Any) -> str:
    """Round outwards to two digits.

    >>> _rounded(1234.5, math.ceil), _rounded(-17.3, math.floor)
    ('1300', '-18')
    """
    if value == 0:
        return "0"
    scale = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return f"{to(value / scale) * scale:.12g}"


def _key(column: str) -> str:
    plain = column.isascii() and column.replace("_", "").replace("-", "").isalnum()
    return column if plain else _toml(column)


def _toml(value: str | None) -> str:
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
