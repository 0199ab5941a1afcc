"""Names of datasets and tables, and the errors about them in BigQuery's words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from trilho.testing.emulator.bigquery.fields import quoted
from trilho.testing.emulator.http import ApiError

DATASET = re.compile(r"\w{1,1024}", re.ASCII)
TABLE = re.compile(r"[\w\- À-￿]{1,1024}")


@dataclass(frozen=True, order=True)
class DatasetName:
    """A dataset, which is a DuckDB schema."""

    project: str
    dataset: str

    @classmethod
    def of(cls, reference: Any) -> DatasetName:
        """Read a reference in a client's JSON."""
        return cls(str(reference.get("projectId", "")), str(reference.get("datasetId", "")))

    @property
    def schema(self) -> str:
        """The DuckDB schema's name."""
        return f"{self.project}.{self.dataset}"

    @property
    def reference(self) -> dict[str, str]:
        """The reference as JSON has it."""
        return {"projectId": self.project, "datasetId": self.dataset}

    def __str__(self) -> str:
        return f"{self.project}:{self.dataset}"


@dataclass(frozen=True, order=True)
class TableName:
    """A table or a view."""

    dataset: DatasetName
    table: str

    @classmethod
    def of(cls, reference: Any) -> TableName:
        """Read a reference in a client's JSON."""
        return cls(DatasetName.of(reference), str(reference.get("tableId", "")))

    @property
    def sql(self) -> str:
        """The table as SQL has it."""
        return f"{quoted(self.dataset.schema)}.{quoted(self.table)}"

    @property
    def reference(self) -> dict[str, str]:
        """The reference as JSON has it."""
        return {**self.dataset.reference, "tableId": self.table}

    def __str__(self) -> str:
        return f"{self.dataset}.{self.table}"


def not_found(name: DatasetName | TableName, location: str) -> ApiError:
    """Make the error of a dataset or a table that does not exist.

    >>> not_found(DatasetName("p", "d"), "US").message
    'Not found: Dataset p:d was not found in location US'
    """
    kind = "Table" if isinstance(name, TableName) else "Dataset"
    return ApiError(404, f"Not found: {kind} {name} was not found in location {location}", reason="notFound")


def duplicate(name: DatasetName | TableName) -> ApiError:
    """Make the error of a dataset or a table that exists already."""
    kind = "Table" if isinstance(name, TableName) else "Dataset"
    return ApiError(409, f"Already Exists: {kind} {name}", reason="duplicate")


def invalid(message: str, reason: str = "invalid") -> ApiError:
    """Make the error of a request that cannot be done."""
    return ApiError(400, message, reason=reason)


def invalid_query(message: str) -> ApiError:
    """Make the error of a query that cannot be run."""
    return ApiError(400, message, reason="invalidQuery")
