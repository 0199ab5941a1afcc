"""BigQuery's REST API over a DuckDB file; GoogleSQL goes through sqlglot."""

from trilho.testing.emulator.bigquery.service import BigQueryService

__all__ = ["BigQueryService"]
