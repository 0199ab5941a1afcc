"""Tables that are profiled where they lie: arrays, pandas, Arrow, files, DuckDB, Delta, the prediction log, BigQuery.

What is counted is one SQL text for all columns, in the bins of a reference; DuckDB runs it in memory that does not
grow with the rows. Arrays in memory, and the prediction log, are counted by the same rules without SQL.
"""
