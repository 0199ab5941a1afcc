"""Read one source file with the project's own `load` function, and keep its rows as Parquet.

A CSV has no types, and every author reads it in a way of their own (separators, decimals, encodings, columns of dates).
The project's function is that way; whoever versions the data asks it here and never guesses.

    python -m trilho_runtime.load SOURCE_FOLDER PACKAGE.MODULE:FUNCTION FILE OUT
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trilho_runtime.steps.function import StepError, load_function


def load_rows(reference: str, file: Path) -> Any:
    """Give the rows of a file as the project's function reads them. Raises StepError where that is no table."""
    import pandas as pd

    rows = load_function(reference)(file)
    if not isinstance(rows, pd.DataFrame):
        raise StepError(f"{reference} returned {type(rows).__name__}; a DataFrame is wanted")
    names = list(rows.columns)
    odd = next((name for name in names if not isinstance(name, str)), None)
    if odd is not None:
        raise StepError(f"{reference} named a column {odd!r}; columns have texts for names")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise StepError(f"{reference} returned two columns {twice!r}")
    return rows


def write_rows(rows: Any, out: Path, reference: str) -> None:
    """Write rows as Parquet, whole or not at all. Raises StepError for a column that Parquet has no type for."""
    draft = out.with_name(f".{out.name}.part")
    try:
        rows.to_parquet(draft, index=False)
        draft.replace(out)
    except (ValueError, TypeError, NotImplementedError) as error:  # pyarrow's own errors are of these
        raise StepError(f"{reference}: a column cannot be kept: {error}; give each column one type") from None
    finally:
        draft.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read one file with a project's function and write its rows."""
    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.load", description=main.__doc__)
    parser.add_argument("source", type=Path, help="the folder that the project's code is imported from")
    parser.add_argument("function", help="package.module:name")
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args(arguments)
    sys.path.insert(0, str(given.source.resolve()))
    try:
        write_rows(load_rows(given.function, given.file), given.out, given.function)
    except StepError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
