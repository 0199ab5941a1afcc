"""A notebook that asks BigQuery is adopted against the emulator: asked once, frozen, and replayed ever after."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.notebooks.corpus import PYTHON, write_notebook

from trilho.adopt.capture import Progress, capture, find_interpreter
from trilho.adopt.notebook import read_notebook
from trilho.adopt.trace import Trace
from trilho.errors import UsageError
from trilho.testing.emulator.serve import require_libraries


def missing() -> str:
    """Say what keeps these tests from running here; "" where nothing does."""
    try:
        require_libraries()
    except UsageError as error:
        return error.line
    return "" if PYTHON.exists() else "make notebooks"


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

ROWS = """
# %%
from google.cloud import bigquery
import pandas as pd

client = bigquery.Client(project="shop-analytics")
SQL = "SELECT session_id, pages, seconds, returning FROM web.sessions WHERE pages < @most ORDER BY 1"
config = bigquery.QueryJobConfig(query_parameters=[bigquery.ScalarQueryParameter("most", "INT64", 9)])
rows = []
for row in client.query(SQL, job_config=config).result():
    rows.append(dict(row.items()))
# %%
frame = client.query(SQL, job_config=config).to_dataframe()
again = [row["session_id"] for row in client.query(SQL, job_config=config)]
first = next(iter(client.query("SELECT channel FROM web.channels ORDER BY 1"))).channel
day = client.query("SELECT DATE(started_at) AS day, pages FROM web.sessions ORDER BY session_id").to_dataframe()
# %%
client.query("DELETE FROM web.sessions WHERE pages > 3").result()
# %%
client.load_table_from_dataframe(frame, "web.copied").result()
"""
LOAD = """
import sys
from google.cloud import bigquery
client = bigquery.Client(project="shop-analytics")
client.create_dataset("web")
config = bigquery.LoadJobConfig(autodetect=True, skip_leading_rows=1, source_format="CSV")
for name in ("sessions", "channels"):
    with open(f"{sys.argv[1]}/{name}.csv", "rb") as file:
        client.load_table_from_file(file, f"web.{name}", job_config=config).result()
"""
COUNT = """
from google.cloud import bigquery
client = bigquery.Client(project="shop-analytics")
rows = list(client.query("SELECT COUNT(*) AS n FROM web.sessions").result())
print(rows[0].n, len(list(client.list_tables("web"))))
"""


@dataclass
class Warehouse:
    """An emulated BigQuery with the corpus notebook's tables."""

    notebook: Path
    environment: dict[str, str]
    notes: list[str] = field(default_factory=list)

    def run(self, code: str, *arguments: str) -> str:
        """Run a client's code where the notebook runs."""
        command = [str(PYTHON), "-c", code, *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    folder = tmp_path_factory.mktemp("bigquery")
    notebook = write_notebook(folder, "bigquery")
    command = [sys.executable, "-m", "trilho", "emulate", "--json", "--project", "shop-analytics"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as emulator:
        try:
            assert emulator.stdout is not None
            told = json.loads(emulator.stdout.readline())
            made = Warehouse(notebook, {**os.environ, **told["env"], "OMP_NUM_THREADS": "1"})
            made.run(LOAD, str(notebook.parent / "data"))
            yield made
        finally:
            emulator.send_signal(signal.SIGINT)
            emulator.wait(30)


def captured(warehouse: Warehouse, source: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Trace:
    """Run a notebook against the emulator."""
    for name, value in warehouse.environment.items():
        monkeypatch.setenv(name, value)
    notebook, notes = read_notebook(source), warehouse.notes

    def hear(progress: Progress) -> None:
        if progress.note:
            notes.append(progress.what)

    notes.clear()
    trace = capture(notebook, find_interpreter(notebook, str(PYTHON)), scratch, hear)
    assert [one.error for one in trace.statements if one.state == "failed"] == []
    return trace


def test_rows_and_tables_are_asked_once_and_frozen(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "rows.py"
    source.write_text(ROWS, encoding="utf-8")
    trace = captured(warehouse, source, tmp_path / "scratch", monkeypatch)
    by_row, channel, day = trace.reads
    assert by_row.function == "google.cloud.bigquery.table.RowIterator"
    assert (by_row.kind, by_row.value.columns) == ("bigquery", ["session_id", "pages", "seconds", "returning"])
    assert by_row.arguments == {"parameters": "[('most', 'INT64', 9)]"}
    assert by_row.job
    assert by_row.bytes > channel.bytes > 0
    assert (tmp_path / "scratch" / by_row.file).is_file()
    assert day.value.columns == ["day", "pages"]
    assert [note.partition(" read ")[0] for note in warehouse.notes] == ["BigQuery will"] * 3
    held = {name: value for one in trace.statements for name, value in one.values.items()}
    assert held["rows"].rows == held["frame"].rows == held["again"].rows == by_row.value.rows
    assert held["first"].literal == "'affiliate'"


def test_statements_that_change_something_are_refused_and_named(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "rows.py"
    source.write_text(ROWS, encoding="utf-8")
    trace = captured(warehouse, source, tmp_path / "scratch", monkeypatch)
    refused = [(save.path, save.function.rpartition(".")[2]) for save in trace.saves if not save.allowed]
    assert refused == [
        ("DELETE FROM web.sessions WHERE pages > 3", "query"),
        ("web.copied", "load_table_from_dataframe"),
    ]
    assert [one.state for one in trace.statements][-2:] == ["refused", "refused"]
    assert warehouse.run(COUNT) == "3000 2"


def test_notebook_becomes_a_project_that_reads_the_extract(warehouse: Warehouse, tmp_path: Path) -> None:
    into = tmp_path / "propensity"
    command = [sys.executable, "-m", "trilho", "adopt", str(warehouse.notebook), "--into", str(into),
               "--python", str(PYTHON), "--json"]  # fmt: skip
    done = subprocess.run(command, env=warehouse.environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert "BigQuery will read 209.5 kB" in done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["parity"]["certified"]
    assert told["parity"]["metric"]["notebook"] == pytest.approx(0.7249793574639634)
    refused = [finding["message"] for finding in told["findings"] if finding["rule"] == "write-refused"]
    assert refused == ["to_gbq to web.propensity_scores was refused: nothing leaves the run that is watched"]
    assert (into / "data" / "extract.parquet").is_file()
    sql = (into / "sql" / "sessions.sql").read_text(encoding="utf-8")
    assert sql.splitlines()[0].startswith("-- Asked in cell 2 of bigquery.ipynb, job ")
    assert "FROM `shop-analytics.web.sessions`" in sql
    assert "read_parquet(path)" in (into / "src" / "propensity" / "load.py").read_text(encoding="utf-8")
    assert "bigquery" not in (into / "requirements.lock").read_text(encoding="utf-8")
    before = (into / "data" / "extract.parquet").read_bytes()
    said = warehouse.run(
        (into / "tools" / "query.py")
        .read_text(encoding="utf-8")
        .replace("__file__", repr(str(into / "tools" / "query.py")))
    )
    assert said.splitlines() == [
        "data/extract.parquet: 3000 rows",
        "src/propensity/tables/load_channels.parquet: 5 rows",
    ]
    assert (into / "data" / "extract.parquet").read_bytes() == before
