"""A project tried on a sample: its data held against the contract, and a training that leaves nothing behind.

For continuous integration: whether data, code and pipeline fit together is known in a minute, without a version.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trilho.backends.local.store import LocalStore
from trilho.data.contract import Finding, check, load_contract
from trilho.data.tables import database, text
from trilho.data.version import load_table, version_data
from trilho.project import OnTask, Project, TrainOutcome

ROWS = 5_000
TABLE_RULES = re.compile(r"^\s*(?:min_rows|freshness)\s*=.*$", re.MULTILINE)


def check_data(project: Project) -> tuple[int, list[Finding]]:
    """Hold the data that `[data] source` names against the contract; give its rows and what is wrong.

    Raises DataError where the data cannot be read, ConfigError where the contract is wrong.
    """
    contract = load_contract(project.folder / project.settings.data.contract)
    with _scratch() as folder:
        table = folder / "table.parquet"
        rows = _write_table(project, folder, table)
        return rows, check(table, contract, time=project.settings.model.time)


def train_on_sample(project: Project, on_task: OnTask, rows: int = ROWS) -> TrainOutcome:
    """Train on about so many rows in a home that is thrown away: nothing is put on record, no version is made.

    The rows are evenly spread over the table, so that the held-out days and those before them are both in it. What
    the contract says of the table as a whole is left out.
    """
    with _scratch() as folder:
        table, sampled = folder / "table.parquet", folder / "sample.parquet"
        found = _write_table(project, folder, table)
        step = max(1, -(-found // rows))
        with database() as connection:
            every = f"SELECT * EXCLUDE (_at) FROM (SELECT *, row_number() OVER () AS _at FROM {_scan(table)})"  # noqa: S608
            query = f"{every} WHERE (_at - 1) % {step} = 0 OR _at = {found}"
            connection.execute(f"COPY ({query}) TO {text(sampled)} (FORMAT parquet)")
        contract = _without_table_rules(project, folder)
        return _Sampled(project, folder / "home", sampled, contract).train("a sample", on_task)


class _Sampled(Project):
    """A project whose data is one table, in a home of its own."""

    def __init__(self, project: Project, home: Path, table: Path, contract: Path) -> None:
        data = project.settings.data.model_copy(update={"contract": str(contract), "served": False})
        super().__init__(project.folder, project.settings.model_copy(update={"data": data}), home)
        self._table = table

    def tables(self) -> list[Path]:
        """Give the sample."""
        return [self._table]


def _write_table(project: Project, folder: Path, out: Path) -> int:
    model = project.settings.model
    store = LocalStore(folder / "store")
    dataset = version_data(
        project.tables(), store, time=model.time, key=model.key, target=model.target, served=None,
        contract=load_contract(project.folder / project.settings.data.contract),
    )  # fmt: skip
    return load_table(dataset.digest, store, out)


def _without_table_rules(project: Project, folder: Path) -> Path:
    kept, out = project.folder / project.settings.data.contract, folder / "contract.toml"
    load_contract(kept)  # what is wrong with it is told of the file itself
    out.write_text(TABLE_RULES.sub("", kept.read_text(encoding="utf-8")) if kept.exists() else "", encoding="utf-8")
    return out


def _scan(table: Path) -> str:
    return f"read_parquet({text(table)})"


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="trilho-sample-") as folder:
        yield Path(folder)
