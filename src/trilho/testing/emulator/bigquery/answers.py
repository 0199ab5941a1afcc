"""Rows of tables and results in pages, as tabledata.list and getQueryResults answer."""

from __future__ import annotations

import json

from trilho.testing.emulator.bigquery.cells import row_of
from trilho.testing.emulator.bigquery.fields import Field
from trilho.testing.emulator.bigquery.naming import TableName, invalid
from trilho.testing.emulator.bigquery.warehouse import Warehouse
from trilho.testing.emulator.http import Json, Request

LARGEST_PAGE = 100_000


class Answers:
    """Read pages of rows."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def table(self, name: TableName, request: Request) -> Json:
        """Answer tabledata.list."""
        fields = self._warehouse.table(name)["schema"]["fields"]
        chosen = request.first("selectedFields")
        wanted = {part.partition(".")[0].lower() for part in chosen.split(",")} if chosen else None
        shown = [field for field in fields if wanted is None or field["name"].lower() in wanted]
        micros = request.flag("formatOptions.useInt64Timestamp")
        start, size = _page(request.first("pageToken") or request.first("startIndex"), request.number("maxResults", -1))
        return {"kind": "bigquery#tableDataList", **self.page(name, shown, start, size, micros=micros)}

    def results(self, job: Json, token: str, size: int, *, micros: bool) -> Json:
        """Answer jobs.query and getQueryResults for a job that has ended well."""
        statistics = job["statistics"]["query"]
        answer: Json = {"jobReference": job["jobReference"], "jobComplete": True, "cacheHit": False,
                        "totalBytesProcessed": job["statistics"]["totalBytesProcessed"]}  # fmt: skip
        answer |= {key: statistics[key] for key in ("numDmlAffectedRows", "dmlStats") if key in statistics}
        given = job["configuration"]["query"].get("destinationTable")
        if not given or statistics["statementType"] not in ("SELECT", "SCRIPT"):
            return answer
        name = TableName.of(given)
        fields = self._warehouse.table(name)["schema"]["fields"]
        start, size = _page(token, size)
        page = self.page(name, fields, start, size, micros=micros)
        return answer | {"schema": {"fields": fields}} | page

    def page(self, name: TableName, fields: list[Field], start: int, size: int, *, micros: bool) -> Json:
        """Give some rows of a table, the number of all, and the token of the next page."""
        total = int(self._warehouse.one(f"SELECT count(*) FROM {name.sql}")) if fields else 0  # noqa: S608
        rows: list[Json] = []
        if fields and size:
            chosen = f"SELECT {row_of(fields, micros=micros)} FROM {name.sql} LIMIT {size} OFFSET {start}"  # noqa: S608
            rows = [json.loads(row[0]) for row in self._warehouse.rows(chosen)]
        end = start + len(rows)
        answer: Json = {"totalRows": str(total)} | ({"rows": rows} if rows else {})
        return answer | ({"pageToken": str(end)} if end < total and size else {})


def _page(token: str, size: int) -> tuple[int, int]:
    if token and not token.isdecimal():
        raise invalid(f"Invalid pageToken: {token!r}")
    return int(token or 0), LARGEST_PAGE if size < 0 else min(size, LARGEST_PAGE)
