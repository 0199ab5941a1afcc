"""GoogleSQL as DuckDB's, by sqlglot; and what each statement is, reads and changes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sqlglot
from sqlglot import ErrorLevel, TokenType, exp

from trilho.testing.emulator.bigquery.naming import DatasetName, TableName, invalid, invalid_query
from trilho.testing.emulator.bigquery.parameters import Parameters
from trilho.testing.emulator.bigquery.rewrites import Tree, named_structs, rewritten, widen_decimals

logging.getLogger("sqlglot").setLevel(logging.ERROR)

QUERIES = (exp.Query, exp.Values)
DML = {exp.Insert: "INSERT", exp.Update: "UPDATE", exp.Delete: "DELETE", exp.Merge: "MERGE",
       exp.TruncateTable: "TRUNCATE_TABLE"}  # fmt: skip
TRANSACTIONS = {exp.Transaction: "BEGIN_TRANSACTION", exp.Commit: "COMMIT_TRANSACTION",
                exp.Rollback: "ROLLBACK_TRANSACTION"}  # fmt: skip


@dataclass
class Statement:
    """One statement, translated: what it is, and what it reads and changes."""

    kind: str
    sql: str
    fill: str = ""
    """What fills a table that `sql` makes with columns of its own."""
    target: TableName | DatasetName | None = None
    reads: list[TableName] = field(default_factory=list)
    columns: set[str] | None = None
    """The names of the columns it reads, in lower case; None: all of them."""
    exists_ok: bool = False
    replaces: bool = False
    document: dict[str, Any] = field(default_factory=dict)
    """What a created table has beside its columns, as its resource shows it."""

    @property
    def is_query(self) -> bool:
        """Whether its result is rows."""
        return self.kind == "SELECT"


NAMED = (exp.Alias, exp.Column, exp.Dot)
ORDERED = "ordered_parameter_"
Expand = Callable[[TableName], Tree | None]


class Dialect:
    """Translate the statements of one query."""

    def __init__(
        self, *, project: str, default: DatasetName | None, parameters: Parameters, expand: Expand = lambda name: None
    ) -> None:
        """`expand` gives what stands for a table that is none, as `events_*` and INFORMATION_SCHEMA."""
        self._project, self._default, self._parameters, self._expand = project, default, parameters, expand

    def read(self, sql: str) -> list[Statement]:
        """Read a query, which may be several statements. Raises ApiError."""
        try:
            parsed = [one for one in sqlglot.parse(_numbered(sql), read="bigquery") if one is not None]
        except sqlglot.errors.SqlglotError as error:
            raise invalid_query(_syntax_error(error)) from None
        if not parsed:
            raise invalid_query("Syntax error: Unexpected end of statement")
        return [self._statement(one) for one in parsed]

    def _statement(self, tree: Tree) -> Statement:
        statement = Statement(self._kind(tree), "")
        if isinstance(tree, exp.Create):
            statement.exists_ok, statement.replaces = bool(tree.args.get("exists")), bool(tree.args.get("replace"))
            statement.document = _properties(tree)
        if isinstance(tree, exp.Drop):
            statement.exists_ok = bool(tree.args.get("exists"))
        if isinstance(tree, exp.Delete) and not tree.this and tree.args.get("tables"):
            tree.set("this", tree.args["tables"][0])  # FROM is optional in GoogleSQL
            tree.set("tables", None)
        tree = named_structs(tree)
        target = self._target(tree)
        statement.columns = _columns(tree)
        tree = self._resolved(tree, statement, target)
        _name_columns(tree)
        for node in reversed(list(tree.walk())):  # from the leaves to the root
            new = self._rewritten(node)
            if new is not node:
                tree = new if node is tree else tree
                node.replace(new)
        widen_decimals(tree)
        if isinstance(tree, exp.Create) and isinstance(tree.this, exp.Schema) and tree.expression:
            assert isinstance(statement.target, TableName)
            statement.fill = f"INSERT INTO {statement.target.sql} {_written(tree.expression)}"
            tree.set("expression", None)
        statement.sql = _written(tree)
        return statement

    def _kind(self, tree: Tree) -> str:
        if isinstance(tree, QUERIES):
            return "SELECT"
        if isinstance(tree, exp.Create) and tree.kind in ("TABLE", "VIEW", "SCHEMA", "FUNCTION"):
            queried = tree.kind == "TABLE" and isinstance(tree.expression, exp.Query)
            return f"CREATE_{tree.kind}" + ("_AS_SELECT" if queried else "")
        if isinstance(tree, (exp.Drop, exp.Alter)) and tree.args.get("kind") in ("TABLE", "VIEW", "SCHEMA"):
            return f"{'DROP' if isinstance(tree, exp.Drop) else 'ALTER'}_{tree.args['kind']}"
        if isinstance(tree, (exp.Update, exp.Delete)) and not tree.args.get("where"):
            raise invalid_query(f"{DML[type(tree)]} must have a WHERE clause at [1:1]")
        found = {**DML, **TRANSACTIONS}.get(type(tree))
        if found is None:
            raise invalid_query(f"trilho emulate does not run this statement: {tree.sql('bigquery')[:80]}")
        return found

    def _target(self, tree: Tree) -> Tree:
        """Give the table that a statement writes; it is not among those that it reads."""
        if isinstance(tree, QUERIES) or (isinstance(tree, exp.Create) and tree.kind == "FUNCTION"):
            return None
        if isinstance(tree, (exp.Drop, exp.TruncateTable)):
            found = (tree.args.get("tables") or tree.expressions or [tree.this])[0]
        else:
            found = tree.this
        found = found.this if isinstance(found, exp.Schema) else found
        return found if isinstance(found, exp.Table) else None

    # Names

    def _resolved(self, tree: Tree, statement: Statement, target: Tree) -> Tree:
        for table in list(tree.find_all(exp.Table)):
            if table is target:
                statement.target = self._as_dataset(table) if not table.name else self._as_table(table)
                self._rename(table, statement.target)
            elif isinstance(table.parent, exp.UserDefinedFunction):
                tree.set("replace", True)  # it lives as long as the warehouse's connection, not the script
            elif not _is_local(table) and not isinstance(table.this, exp.Func):
                self._read_table(table, statement, renames=isinstance(table.parent, exp.AlterRename))
            elif isinstance(table.this, exp.Func):
                raise invalid_query(f"Table-valued function not found: {table.this.sql('bigquery')[:60]}")
        return tree

    def _read_table(self, table: exp.Table, statement: Statement, *, renames: bool) -> None:
        if renames:
            return
        name = self._as_table(table)
        other = self._expand(name)
        if other is not None:
            alias = table.alias or name.table.rpartition(".")[2]
            table.replace(exp.Subquery(this=other, alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True))))
            return
        statement.reads.append(name)
        self._rename(table, name)

    def _as_table(self, table: exp.Table) -> TableName:
        if table.db:
            return TableName(DatasetName(table.catalog or self._project, table.db), table.name)
        if self._default is None:
            raise invalid(f'Table "{table.name}" must be qualified with a dataset (e.g. dataset.table).')
        return TableName(self._default, table.name)

    def _as_dataset(self, table: exp.Table) -> DatasetName:
        return DatasetName(table.catalog or self._project, table.db)

    def _rename(self, table: exp.Table, name: TableName | DatasetName) -> None:
        schema = name.dataset.schema if isinstance(name, TableName) else name.schema
        table.set("db", exp.to_identifier(schema, quoted=True))
        table.set("catalog", None)
        if isinstance(name, TableName):
            table.set("this", exp.to_identifier(name.table, quoted=True))

    # What sqlglot leaves

    def _rewritten(self, node: Tree) -> Tree:
        if isinstance(node, exp.Parameter):
            number = node.name.removeprefix(ORDERED)
            is_ordered = number != node.name
            found = self._parameters.at(int(number)) if is_ordered else self._parameters.named(node.name)
            return sqlglot.parse_one(found, read="duckdb")
        return rewritten(node)


def _written(tree: Tree) -> str:
    return str(tree.sql("duckdb", unsupported_level=ErrorLevel.IGNORE))


def _numbered(sql: str) -> str:
    """Give each ? a name by its place in the text; quote `returning`, which is a clause elsewhere and a name here."""
    tokens = sqlglot.tokenize(sql, read="bigquery")
    marks = [token for token in tokens if token.token_type == TokenType.PLACEHOLDER]
    texts = {token.start: f"@{ORDERED}{number}" for number, token in enumerate(marks)}
    texts |= {token.start: f"`{token.text}`" for token in tokens if token.token_type == TokenType.RETURNING}
    for token in reversed(tokens):
        if token.start in texts:
            sql = f"{sql[: token.start]}{texts[token.start]}{sql[token.end + 1 :]}"
    return sql


# What a statement touches


def _is_local(table: exp.Table) -> bool:
    """Say whether a table's name is that of a common table expression around it."""
    if table.db:
        return False
    around: Tree | None = table.parent
    while around is not None:
        clause = around.args.get("with_") or around.args.get("with")
        if clause and any(cte.alias.lower() == table.name.lower() for cte in clause.expressions):
            return True
        around = around.parent
    return False


def _columns(tree: Tree) -> set[str] | None:
    for star in tree.find_all(exp.Star):
        if not isinstance(star.parent, exp.Count):
            return None
    return {part.name.lower() for column in tree.find_all(exp.Column) for part in column.parts}


def _name_columns(tree: Tree) -> None:
    """Name the columns that have no name f0_, f1_, ... as BigQuery does."""
    query = tree.expression if isinstance(tree, exp.Create) else tree
    while isinstance(query, (exp.SetOperation, exp.Subquery)):
        query = query.this
    if not isinstance(query, exp.Select) or query.args.get("kind"):
        return
    names = [projection.output_name.lower() for projection in query.expressions if isinstance(projection, NAMED)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise invalid_query(
            f"Duplicate column names in the result are not supported. Found duplicate(s): {', '.join(twice)}"
        )
    number = 0
    for projection in list(query.expressions):
        if not isinstance(projection, NAMED) and not projection.is_star:
            projection.replace(exp.alias_(projection.copy(), f"f{number}_"))
            number += 1


def _properties(tree: exp.Create) -> dict[str, Any]:
    """Take PARTITION BY, CLUSTER BY and OPTIONS from a CREATE: they are kept in the table's resource, no more."""
    document: dict[str, Any] = {}
    found = tree.args.get("properties")
    for one in found.expressions if found else []:
        if isinstance(one, exp.PartitionedByProperty):
            document |= _partitioning(one.this)
        elif isinstance(one, exp.ClusterProperty):
            document["clustering"] = {"fields": [column.name for column in one.expressions]}
        elif isinstance(one, exp.Property) and type(one) is exp.Property and one.name.lower() == "description":
            document["description"] = one.args["value"].name
    if any(isinstance(one, exp.LikeProperty) for one in (found.expressions if found else [])):
        return document
    temporary = [one for one in (found.expressions if found else []) if isinstance(one, exp.TemporaryProperty)]
    tree.set("properties", exp.Properties(expressions=temporary) if temporary else None)
    return document


def _partitioning(by: Tree) -> dict[str, Any]:
    if isinstance(by, exp.RangeBucket):
        return {}
    column = by.name if isinstance(by, exp.Identifier) else next((one.name for one in by.find_all(exp.Column)), "")
    unit = by.args.get("unit")
    kind = unit.name.upper() if isinstance(unit, exp.Var) and unit.name.upper() in ("HOUR", "MONTH", "YEAR") else "DAY"
    return {"timePartitioning": {"type": kind, "field": column}} if column else {}


def _syntax_error(error: Exception) -> str:
    details = getattr(error, "errors", None) or []
    if not details:
        return f"Syntax error: {str(error).splitlines()[0]}"
    first = details[0]
    return f"Syntax error: {first['description']} {first['highlight']!r} at [{first['line']}:{first['col']}]"
