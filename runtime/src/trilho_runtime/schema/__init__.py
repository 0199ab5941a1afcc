"""What columns a model takes: fields, rows and tables, and how a value becomes one."""
