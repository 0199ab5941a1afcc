"""On this machine: SQLite, files and processes, with nothing to install and nothing to run first."""
