"""Running queries: permissions, sizes, results, and what a statement changes in the catalog."""

from __future__ import annotations

from dataclasses import dataclass, field

from trilho.testing.emulator.bigquery.dialect import Dialect, Statement
from trilho.testing.emulator.bigquery.expansion import Expansion
from trilho.testing.emulator.bigquery.fields import Field
from trilho.testing.emulator.bigquery.naming import DatasetName, TableName, duplicate, invalid, not_found
from trilho.testing.emulator.bigquery.parameters import Parameters
from trilho.testing.emulator.bigquery.warehouse import Warehouse
from trilho.testing.emulator.bigquery.writes import Disposition, telling, write
from trilho.testing.emulator.http import ApiError, Json, enter
from trilho.testing.emulator.rules import Rules

LEAST_BILLED = 10 << 20
MEGABYTE = 1 << 20
CHANGES = {"INSERT": "insertedRowCount", "UPDATE": "updatedRowCount", "DELETE": "deletedRowCount"}


@dataclass
class Outcome:
    """What a query did: its statistics, and where its rows are."""

    statistics: Json = field(default_factory=dict)
    destination: TableName | None = None
    fields: list[Field] = field(default_factory=list)
    has_rows: bool = False
    bytes_processed: int = 0


class Queries:
    """Run the queries of jobs."""

    def __init__(self, warehouse: Warehouse, rules: Rules) -> None:
        self._warehouse, self._rules = warehouse, rules

    def run(self, config: Json, project: str, job: str, *, dry: bool = False) -> Outcome:
        """Run a query's statements in order, or say what they would read. Raises ApiError."""
        expansion = Expansion(self._warehouse)
        statements = self._read(config, project, expansion)
        outcome = Outcome()
        for statement in statements:
            statement.reads += expansion.read
            self._require(statement)
            outcome.bytes_processed += self._bytes(statement)
            self._require_budget(config, outcome.bytes_processed)
            if dry:
                self._plan(statement, outcome)
            else:
                self._run(statement, config, project, job, outcome)
        if not dry:
            self._warehouse.end_transaction()
        outcome.statistics |= _statistics(statements, outcome.bytes_processed)
        return outcome

    def _read(self, config: Json, project: str, expansion: Expansion) -> list[Statement]:
        if config.get("useLegacySql"):
            raise invalid("trilho emulate reads GoogleSQL only: set useLegacySql to false", "invalidQuery")
        default = config.get("defaultDataset")
        dialect = Dialect(
            project=project,
            default=DatasetName.of({"projectId": project, **default}) if default else None,
            parameters=Parameters(config.get("queryParameters") or []),
            expand=expansion,
        )
        with telling("invalidQuery"):
            return dialect.read(str(config.get("query") or ""))

    def _require(self, statement: Statement) -> None:
        """Require that what is read and changed exists, and that nothing of it is denied."""
        for name in statement.reads:
            self._warehouse.table(name)
            enter(self._rules, "bigquery.tables.getData", f"Table {name}")
        target = statement.target
        if isinstance(target, TableName) and not statement.kind.startswith(("CREATE", "DROP")):
            self._warehouse.table(target)
        if target is not None:
            enter(self._rules, _permission(statement.kind), f"Table {target}")

    def _bytes(self, statement: Statement) -> int:
        return sum(self._warehouse.size_of(name, statement.columns) for name in dict.fromkeys(statement.reads))

    def _require_budget(self, config: Json, read: int) -> None:
        limit = config.get("maximumBytesBilled")
        if limit and _billed(read) > int(limit):
            message = f"Query exceeded limit for bytes billed: {limit}. {_billed(read)} or higher required."
            raise ApiError(400, message, reason="bytesBilledLimitExceeded")

    def _plan(self, statement: Statement, outcome: Outcome) -> None:
        with telling("invalidQuery"):
            if statement.is_query:
                outcome.fields = self._warehouse.fields_of(statement.sql)
            elif not statement.kind.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
                self._warehouse.run(f"EXPLAIN {statement.sql}")

    def _run(self, statement: Statement, config: Json, project: str, job: str, outcome: Outcome) -> None:
        with telling("invalidQuery"):
            if statement.is_query:
                self._select(statement, config, project, job, outcome)
            elif statement.kind in (*CHANGES, "MERGE", "TRUNCATE_TABLE"):
                self._change(statement, outcome)
            else:
                self._define(statement, outcome)

    def _select(self, statement: Statement, config: Json, project: str, job: str, outcome: Outcome) -> None:
        given = config.get("destinationTable")
        name = TableName.of({"projectId": project, **given}) if given else self._warehouse.results(project, job)
        how = Disposition.of(config, "WRITE_EMPTY" if given else "WRITE_TRUNCATE")
        write(self._warehouse, name, statement.sql, how, [])
        outcome.destination, outcome.fields = name, self._warehouse.table(name)["schema"]["fields"]
        outcome.has_rows = True

    def _change(self, statement: Statement, outcome: Outcome) -> None:
        assert isinstance(statement.target, TableName)
        before = self._warehouse.one(f"SELECT count(*) FROM {statement.target.sql}")  # noqa: S608
        changed = self._warehouse.rows(statement.sql)
        rows = int(changed[0][0]) if changed else int(before)
        outcome.statistics["numDmlAffectedRows"] = str(rows)
        if statement.kind in CHANGES:
            outcome.statistics["dmlStats"] = {CHANGES[statement.kind]: str(rows)}
        self._warehouse.keep_table(statement.target, self._warehouse.table(statement.target))
        outcome.has_rows = False

    def _define(self, statement: Statement, outcome: Outcome) -> None:
        target, performed = statement.target, statement.kind.partition("_")[0]
        exists = self._exists(target)
        if statement.kind.startswith("CREATE") and exists and not statement.replaces and target is not None:
            if not statement.exists_ok:
                raise duplicate(target)
            performed = "SKIP"
        elif statement.kind.startswith("DROP") and not exists and target is not None:
            if not statement.exists_ok:
                raise not_found(target, self._warehouse.location)
            performed = "SKIP"
        else:
            performed = "REPLACE" if exists and statement.replaces else performed
            self._carry_out(statement)
        outcome.statistics["ddlOperationPerformed"] = performed
        if isinstance(target, TableName):
            outcome.statistics["ddlTargetTable"] = target.reference
        outcome.has_rows = False

    def _exists(self, target: TableName | DatasetName | None) -> bool:
        if isinstance(target, TableName):
            return self._warehouse.has_table(target)
        return target is not None and self._warehouse.has_dataset(target)

    def _carry_out(self, statement: Statement) -> None:
        target = statement.target
        if isinstance(target, DatasetName):
            if statement.kind == "CREATE_SCHEMA":
                self._warehouse.create_dataset(target, statement.document)
            else:
                self._warehouse.delete_dataset(target, contents="CASCADE" in statement.sql.upper().split())
            return
        if isinstance(target, TableName) and statement.kind.startswith("DROP"):
            self._warehouse.drop_table(target)
            return
        self._warehouse.run(statement.sql)
        if statement.fill:
            self._warehouse.run(statement.fill)
        if isinstance(target, TableName):
            kind = {"type": "VIEW"} if statement.kind == "CREATE_VIEW" else {}
            self._warehouse.settle_table(target, statement.document | kind)


def _permission(kind: str) -> str:
    verb, _, noun = kind.partition("_")
    if noun.startswith("SCHEMA"):
        return f"bigquery.datasets.{'create' if verb == 'CREATE' else 'delete'}"
    return {
        "CREATE": "bigquery.tables.create", "DROP": "bigquery.tables.delete", "ALTER": "bigquery.tables.update",
    }.get(verb, "bigquery.tables.updateData")  # fmt: skip


def _billed(read: int) -> int:
    return max(LEAST_BILLED, -(-read // MEGABYTE) * MEGABYTE) if read else 0


def _statistics(statements: list[Statement], read: int) -> Json:
    kinds = [statement.kind for statement in statements]
    tables = dict.fromkeys(name for statement in statements for name in statement.reads)
    return {
        "statementType": kinds[0] if len(kinds) == 1 else "SCRIPT", "totalBytesProcessed": str(read),
        "totalBytesBilled": str(_billed(read)), "cacheHit": False, "totalSlotMs": "0",
        "referencedTables": [name.reference for name in tables],
    }  # fmt: skip
