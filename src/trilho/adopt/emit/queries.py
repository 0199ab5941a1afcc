"""The queries that the notebook asked, as files of their own, and the tool that asks them again.

The project reads the extract that was frozen while the notebook ran; asking anew is a decision of its own, which needs
credentials and costs money.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from trilho.adopt.notebook import Notebook
from trilho.adopt.plan import Choice, Plan
from trilho.adopt.slice.history import History, Place, called_name, calls_in
from trilho.adopt.slice.origin import constant
from trilho.adopt.trace import Read, Trace

TOOL = "tools/query.py"


@dataclass(frozen=True)
class Query:
    """A table that came of a query, and where its extract lies in the project."""

    name: str
    table: str
    read: Read

    @property
    def file(self) -> str:
        """Give the path of the query's text."""
        return f"sql/{self.name}.sql"

    @property
    def text(self) -> str:
        """Give the query; of a table that was listed, the query that gives its rows."""
        asked = (self.read.query or self.read.source).strip()
        return asked if len(asked.split()) > 1 else f"SELECT * FROM `{asked}`"  # noqa: S608  a file for people


def query_files(queries: list[Query], notebook: Notebook, trace: Trace) -> dict[str, str]:
    """Give each query's text, and for BigQuery the tool that asks again, by their paths."""
    files = {query.file: _with_origin(query, notebook) for query in queries}
    asked = [query for query in queries if query.read.kind == "bigquery"]
    return {**files, TOOL: _tool(asked, _project(notebook, trace))} if asked else files


def find_queries(plan: Plan, choice: Choice, trace: Trace, data: str, tables: dict[int, str]) -> list[Query]:
    """Find which of a project's tables came of a query; `tables` gives the paths of those kept with the code."""
    reads = {read.id: read for read in trace.reads}
    named = [(choice.main_read, plan.frame, data)]
    named += [(one.read, one.name.removeprefix("load_"), tables[one.read]) for one in plan.lookups]
    found: dict[str, Query] = {}
    for id_, name, table in named:
        read = reads[id_]
        if read.kind == "bigquery" or (read.kind == "sql" and len((read.query or read.source).split()) > 1):
            found.setdefault(name, Query(name if name.isidentifier() else "extract", table, read))
    return list(found.values())


def held(queries: list[Query]) -> Iterator[tuple[str, str]]:
    """Give for the README each file, and what it holds."""
    for query in queries:
        yield query.file, f"the query behind `{query.table}`"
    if any(query.read.kind == "bigquery" for query in queries):
        yield TOOL, "asks BigQuery again, and writes the extracts anew"


def _with_origin(query: Query, notebook: Notebook) -> str:
    read = query.read
    size = f", {read.bytes:,} bytes read" if read.kind == "bigquery" and read.bytes else ""
    job = f", job {read.job}" if read.job else ""
    parameters = [f"-- @{name} was {value!r}\n" for name, _, value in _parameters(read)]
    origin = f"-- Asked in cell {read.cell} of {notebook.path.name}{job}{size}.\n"
    return f"{origin}{''.join(parameters)}{query.text}\n"


def _parameters(read: Read) -> list[tuple[str, str, object]]:
    told = read.arguments.get("parameters")
    return list(ast.literal_eval(told)) if told else []


def _project(notebook: Notebook, trace: Trace) -> str:
    """Give the project that the notebook's client was made for; "" where that is the environment's."""
    history = History(notebook, trace)
    for statement in notebook.statements:
        for call in calls_in(statement.node):
            given = next((k.value for k in call.keywords if k.arg == "project"), None)
            if called_name(call) == "Client" and given is not None:
                told = constant(history, given, Place(statement.id, statement.cell))
                if isinstance(told, str):
                    return told
    return ""


def _tool(queries: list[Query], project: str) -> str:
    tables = "".join(f'    "{query.file}": "{query.table}",\n' for query in queries)
    given = {query.file: _parameters(query.read) for query in queries if _parameters(query.read)}
    client = f'bigquery.Client(project="{project}")' if project else "bigquery.Client()"
    return f'''"""Ask BigQuery again what the notebook asked, and write the extracts anew.

    python -m pip install google-cloud-bigquery db-dtypes
    python tools/query.py

It needs credentials that may read the tables; nothing else in this project does.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from google.cloud import bigquery

ROOT = Path(__file__).parents[1]
TABLES = {{
{tables}}}
PARAMETERS: dict[str, list[tuple[str, str, Any]]] = {given!r}


def query(file: str) -> pd.DataFrame:
    """Give a query's rows as they are now."""
    parameters = [bigquery.ScalarQueryParameter(*one) for one in PARAMETERS.get(file, [])]
    config = bigquery.QueryJobConfig(query_parameters=parameters)
    sql = (ROOT / file).read_text(encoding="utf-8")
    return {client}.query(sql, job_config=config).to_dataframe()


def main() -> None:
    """Write every extract anew."""
    for file, table in TABLES.items():
        rows = query(file)
        rows.to_parquet(ROOT / table)
        print(f"{{table}}: {{len(rows)}} rows")


if __name__ == "__main__":
    main()
'''
