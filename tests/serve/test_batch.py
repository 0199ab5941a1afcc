"""A table scored in a batch says what the endpoint says, once for each date, whatever happens to the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date as Date  # noqa: N812
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.runtime.serving import make_package

from trilho.data.contract import ColumnRule, Contract
from trilho.errors import ConfigError, DataError, Refused, Unreachable
from trilho.serve.batch import run as running
from trilho.serve.batch import table as tables
from trilho.serve.batch.run import Batch, Model, Rule, score
from trilho.serve.batch.scorer import Scorer, ScorerError, Scorers
from trilho.serve.batch.source import Field
from trilho.serve.batch.table import ScoreTable
from trilho.serve.exchange import exchange
from trilho_runtime.decision import write_decision

DAY = Date(2024, 3, 1)
FIELDS = [
    Field("id", "string"), Field("at", "timestamp"), Field("x", "number"), Field("count", "integer"),
    Field("wish", "string"), Field("flag", "boolean"), Field("level", "number"),
]  # fmt: skip
ROWS = """
SELECT 'r' || i AS id, TIMESTAMP '2024-03-01 00:00:00' + to_minutes(i % 1000) AS at, i / 8.0 AS x, i % 9 AS count,
       CAST(NULL AS VARCHAR) AS wish, i % 2 = 0 AS flag, CASE WHEN i % 3 = 0 THEN i * 0.5 END AS level
FROM range({n}) t(i) ORDER BY i
"""


@pytest.fixture(scope="session")
def tiny(project_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of the tiny project's package; the second triples x where the first doubles it."""
    folder = tmp_path_factory.mktemp("batch")
    for name in ("one", "two"):
        (folder / name).mkdir()
    code = (Path(__file__).parents[1] / "runtime" / "serving.py").read_text().split("FEATURES = '''")[1].split("'''")[0]
    for name, text in (("one", code), ("two", code.replace('frame[["x"]] * 2', 'frame[["x"]] * 3'))):
        done = make_package(project_python, folder / name, code=text)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Iterator[ScoreTable]:
    """An empty table of scores."""
    opened = ScoreTable(tmp_path / "scores", "tiny").open()
    yield opened
    opened.close()


@pytest.fixture
def scorers(tiny: Path, project_python: Path) -> Iterator[Scorers]:
    """The two versions' processes."""
    names = {1: "one", 2: "two"}
    with Scorers(lambda version: Scorer(project_python, tiny / names[version] / "package", None, None)) as found:
        yield found


def rows(path: Path, n: int = 50, query: str = ROWS) -> Path:
    told(f"COPY ({query.format(n=n)}) TO '{path}' (FORMAT {path.suffix.removeprefix('.')})")
    return path


def batch(tiny: Path, scorers: Scorers, file: Path, **told: Any) -> Batch:
    models = [Model(1, tiny / "one" / "package", None)]
    given: dict[str, Any] = {
        "model": "tiny", "date": DAY, "files": [file], "models": models, "shares": {1: 100}, "scorers": scorers,
        "fields": FIELDS, "contract": Contract(), "time": "at", "key": ["id"],
    }  # fmt: skip
    return Batch(**{**given, **told})


def both(tiny: Path) -> list[Model]:
    return [Model(1, tiny / "one" / "package", None), Model(2, tiny / "two" / "package", None)]


def served(table: ScoreTable, columns: str = "id, _prediction") -> list[tuple[Any, ...]]:
    return told(f"SELECT {columns} FROM {current(table)} ORDER BY CAST(id[2:] AS INT)")


def current(table: ScoreTable) -> str:
    return f"read_parquet('{table.folder}/current/*/*.parquet', hive_partitioning = false)"


def told(query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


def expected(n: int, times: float = 2.0) -> list[tuple[str, Any]]:
    hours = [(i % 1000) // 60 for i in range(n)]
    return [(f"r{i}", pytest.approx(times * i / 8 + i % 9 + hours[i])) for i in range(n)]


def test_a_table_is_scored_as_its_rows_would_be(
    tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path
) -> None:
    outcome = score(table, batch(tiny, scorers, rows(tmp_path / "in.parquet")))
    assert outcome.rows == 50
    assert served(table) == expected(50)
    names = [row[0] for row in told(f"DESCRIBE SELECT * FROM {current(table)}")]
    assert names == ["_id", "_time", "_version", "_prediction", "_served", "_cohort", *(f.name for f in FIELDS)]
    first = served(table, "_id, _time, _version")[0]
    assert first[0].endswith(".0")
    assert len(first[0].partition(".")[0]) == 24
    assert first[1:] == (1709251200.0, 1)
    profile = json.loads((table.folder / "version=1" / f"date={DAY}" / "profile.json").read_text())
    assert profile["rows"] == 50
    assert {sum(counts) for counts in profile["counts"].values()} == {50}


def test_parts_make_no_difference(tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    asked = batch(tiny, scorers, rows(tmp_path / "in.parquet"), part_rows=7, progress=lambda *x: seen.append(x))
    score(table, asked)
    assert served(table) == expected(50)
    assert seen[0] == (1, 7, 50)
    assert seen[-1] == (1, 50, 50)
    assert len(list((table.folder / "current" / f"date={DAY}").iterdir())) == 8


def test_a_csv_s_texts_stay_texts(tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_text("id,at,x,count,wish,flag,level\n007,2024-03-01T01:00:00-03:00,1.5,2,,true,\n")
    score(table, batch(tiny, scorers, file))
    found = told(f"SELECT id, _prediction, t.at FROM {current(table)} t")
    assert [(row[0], row[1], str(row[2])) for row in found] == [("007", 9.0, "2024-03-01 04:00:00")]


def test_the_same_again_computes_nothing(tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path) -> None:
    asked = batch(tiny, scorers, rows(tmp_path / "in.parquet"))
    first = score(table, asked).scored[1]
    again = score(table, asked)
    assert (again.scored, again.unchanged) == ({}, [1])
    assert table.dates[str(DAY)].versions[1] == first
    assert score(table, replace(asked, again=True)).scored[1].fingerprint == first.fingerprint
    assert len(served(table)) == 50


def test_changed_rows_replace_the_date(tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path) -> None:
    file = tmp_path / "in.parquet"
    score(table, batch(tiny, scorers, rows(file)))
    score(table, batch(tiny, scorers, rows(file, 20)))
    assert served(table) == expected(20)


def test_dates_stand_beside_each_other(tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path) -> None:
    file = rows(tmp_path / "in.parquet", 2000, ROWS.replace("i % 1000", "i"))
    for day, n in ((DAY, 1440), (Date(2024, 3, 2), 560)):
        outcome = score(table, batch(tiny, scorers, file, date=day, only_date=True))
        assert outcome.rows == n
    assert len(served(table)) == 2000
    with pytest.raises(DataError, match=r"no rows of 2024-03-03: its at goes from 2024-03-01 to 2024-03-02"):
        score(table, batch(tiny, scorers, file, date=Date(2024, 3, 3), only_date=True))
    assert len(served(table)) == 2000


def test_a_broken_contract_scores_nothing(tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path) -> None:
    contract = Contract(columns={"x": ColumnRule(type="number", max=1.0)})
    with pytest.raises(Refused, match="break the contract: x:"):
        score(table, batch(tiny, scorers, rows(tmp_path / "in.parquet"), contract=contract))
    assert not (table.folder / "current").exists()


def test_a_wrong_value_is_named_by_its_row_of_the_table(
    tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path
) -> None:
    query = ROWS.replace("i / 8.0", "CASE WHEN i = 33 THEN NULL ELSE i / 8.0 END")
    with pytest.raises(DataError, match="row 33: x is null; wanted a number"):
        score(table, batch(tiny, scorers, rows(tmp_path / "in.parquet", query=query), part_rows=10))
    assert not (table.folder / "current").exists()
    score(table, batch(tiny, scorers, rows(tmp_path / "in.parquet"), part_rows=10))
    assert served(table) == expected(50)


def test_rows_on_which_the_model_fails_are_said_so(
    tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path
) -> None:
    query = ROWS.replace("CAST(NULL AS VARCHAR)", "CASE WHEN i = 3 THEN 'raise' END")
    with pytest.raises(ScorerError, match="the model failed: features: ValueError: x may not be that"):
        score(table, batch(tiny, scorers, rows(tmp_path / "in.parquet", query=query)))


def test_a_model_whose_process_dies_is_said_so(tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path) -> None:
    query = ROWS.replace("CAST(NULL AS VARCHAR)", "CASE WHEN i = 3 THEN 'die' END")
    with pytest.raises(ScorerError, match="the model's process ended with exit code 9"):
        score(table, batch(tiny, scorers, rows(tmp_path / "in.parquet", query=query)))


def test_a_new_version_answers_its_cohort_and_can_be_taken_back(
    tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path
) -> None:
    file = rows(tmp_path / "in.parquet", 400)
    score(table, batch(tiny, scorers, file, models=both(tiny), shares={1: 80, 2: 20}))
    cohort = {row[0] for row in served(table, "id, _version") if row[1] == 2}
    assert 50 < len(cohort) < 110  # 400 keys at 20%: six standard deviations are 48
    answers = {row[0]: row[1] for row in served(table)}
    one, two = dict(expected(400)), dict(expected(400, 3.0))
    assert all(answers[id_] == (two if id_ in cohort else one)[id_] for id_ in answers)
    assert len(answers) == 400
    score(table, batch(tiny, scorers, file, models=both(tiny), shares={1: 50, 2: 50}))
    larger = {row[0] for row in served(table, "id, _version") if row[1] == 2}
    assert cohort < larger
    table.serve({str(DAY): {1: 100}})
    assert served(table) == expected(400)


def test_a_version_in_the_shadow_scores_and_is_not_served(
    tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path
) -> None:
    score(table, batch(tiny, scorers, rows(tmp_path / "in.parquet"), models=both(tiny), shares={1: 100}))
    assert served(table) == expected(50)
    pairs = told(
        f"SELECT a._prediction - b._prediction FROM '{table.folder}/version=2/*/*.parquet' a "
        f"JOIN '{table.folder}/version=1/*/*.parquet' b USING (_id)"
    )
    assert len(pairs) == 50
    assert sorted(pairs)[-1][0] == pytest.approx(49 / 8)


def test_the_decision_stands_beside_the_score(
    tiny: Path, table: ScoreTable, project_python: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source" / "tiny"
    source.mkdir(parents=True)
    (source / "rule.py").write_text(
        "def decide(score, row):\n    return 'vip' if row['flag'] else 1 / (row['count'] - 1)\n"
    )
    write_decision(source.parent, "tiny.rule:decide", tmp_path / "rule")
    rule = Rule(7, tmp_path / "rule")
    with Scorers(lambda _: Scorer(project_python, tiny / "one" / "package", None, rule.folder)) as scorers:
        outcome = score(table, batch(tiny, scorers, rows(tmp_path / "in.parquet"), decision=rule))
    found = served(table, "_decision, _decision_version")
    assert found[:2] == [("vip", 7), (None, 7)]
    assert found[3] == ("0.5", 7)
    assert outcome.scored[1].undecided == sum(i % 9 == 1 and i % 2 for i in range(50))


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ConfigError, match="holds other things"):
        ScoreTable(tmp_path / "mine", "tiny").open()
    ScoreTable(tmp_path / "other", "tiny").open().close()


def test_a_table_of_another_model_is_left_alone(
    tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path
) -> None:
    score(table, batch(tiny, scorers, rows(tmp_path / "in.parquet")))
    table.close()
    with pytest.raises(ConfigError, match="holds scores of tiny, not of other"):
        ScoreTable(table.folder, "other").open()


def test_one_process_at_a_time_writes_a_table(table: ScoreTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trilho.core.lease.LEASE_SECONDS", 0.05)
    with pytest.raises(Unreachable, match="is being written by process"):
        ScoreTable(table.folder, "tiny").open()


KILLED = """
import sys
from datetime import date
from pathlib import Path
from tests.serve.test_batch import FIELDS, batch
from trilho.serve.batch.run import score
from trilho.serve.batch.scorer import Scorer, Scorers
from trilho.serve.batch.table import ScoreTable
tiny, python, file, to = map(Path, sys.argv[1:])
with Scorers(lambda _: Scorer(python, tiny / "one" / "package", None, None)) as scorers:
    shown = lambda *x: print(*x, flush=True)
    score(ScoreTable(to, "tiny").open(), batch(tiny, scorers, file, part_rows=100, progress=shown))
"""


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_a_killed_run_goes_on_where_it_was(
    tiny: Path, scorers: Scorers, project_python: Path, tmp_path: Path, parts: int
) -> None:
    file, to = rows(tmp_path / "in.parquet", 700), tmp_path / "scores"
    command = [sys.executable, "-c", KILLED, str(tiny), str(project_python), str(file), str(to)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=environment)
    assert killed.stdout is not None
    for _ in range(parts):
        assert killed.stdout.readline().startswith("1 ")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    table = ScoreTable(to, "tiny").open()
    assert not (to / "current").exists()
    outcome = score(table, batch(tiny, scorers, file, part_rows=100))
    assert outcome.resumed >= parts
    assert served(table) == expected(700)
    table.sweep()
    table.close()
    assert sorted(path.name for path in to.iterdir()) == [".lease", ".tables", "current", "table.json", "version=1"]


def test_a_disk_that_fills_up_leaves_what_was_served(
    tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "in.parquet"
    score(table, batch(tiny, scorers, rows(file)))

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(running, "write_part", full)
    with pytest.raises(DataError, match="No space left on device"):
        score(table, batch(tiny, scorers, rows(file, 60)))
    assert served(table) == expected(50)
    monkeypatch.undo()
    score(table, batch(tiny, scorers, file))
    assert served(table) == expected(60)


def test_readers_see_one_state_or_the_other(tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path) -> None:
    score(table, batch(tiny, scorers, rows(tmp_path / "in.parquet"), models=both(tiny), shares={1: 100}))
    seen = set()
    until = time.monotonic() + 1.0
    turn = 0
    while time.monotonic() < until:
        table.serve({str(DAY): {1 + turn % 2: 100}})
        turn += 1
        seen.add(tuple(sorted({row[0] for row in served(table, "_version")})))
    assert seen == {(1,), (2,)}


def test_profiles_of_parts_add_up_to_that_of_the_whole(
    tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path, make: Callable[[], ScoreTable]
) -> None:
    file = rows(tmp_path / "in.parquet", 300)
    whole = score(table, batch(tiny, scorers, file)).profile[1]
    parts = score(make(), batch(tiny, scorers, file, part_rows=37)).profile[1]
    assert parts == whole


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[], ScoreTable]]:
    """Make further tables of scores."""
    made: list[ScoreTable] = []

    def one() -> ScoreTable:
        made.append(ScoreTable(tmp_path / f"more-{len(made)}", "tiny").open())
        return made[-1]

    yield one
    for table in made:
        table.close()


def test_a_backfill_is_in_its_place_at_its_end(tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path) -> None:
    file, days = rows(tmp_path / "in.parquet", 96, ROWS.replace("to_minutes(i % 1000)", "to_hours(i)")), range(1, 5)
    for day in days:
        score(table, batch(tiny, scorers, file, date=Date(2024, 3, day), only_date=True, one_of_many=True))
    assert len(list((table.folder / "current").iterdir())) == 1  # the first at once, the others within seconds
    assert table.served("2024-03-04") == {1: 100}
    assert table.dates["2024-03-04"].served == {}
    table.close()
    assert len(served(table)) == 96
    again = ScoreTable(table.folder, "tiny").open()
    assert {date.served[1] for date in again.dates.values()} == {100}
    again.close()


def test_rows_of_thousands_of_columns_get_more_memory(
    tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "MEMORY", "12MB")
    wide = ROWS.replace("AS level", "AS level, " + ", ".join(f"i * {k} AS w{k}" for k in range(400)))
    file = rows(tmp_path / "in.parquet", 2000, wide)
    score(table, batch(tiny, scorers, file))
    assert len(served(table)) == 2000
    monkeypatch.setattr(running, "MORE_MEMORY", "12MB")
    with pytest.raises(DataError, match="do not fit into 12MB, 100,000 of them at once"):
        score(table, batch(tiny, scorers, file, again=True))


def test_rows_that_were_kept_and_not_yet_served_are_served_by_the_next_run(
    tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "in.parquet"
    score(table, batch(tiny, scorers, rows(file)))
    rows(file, 60)

    def killed(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ScoreTable, "serve", killed)
        with pytest.raises(KeyboardInterrupt):
            score(table, batch(tiny, scorers, file))
    assert served(table) == expected(50)
    table.close()
    again = ScoreTable(table.folder, "tiny").open()
    assert score(again, batch(tiny, scorers, file)).unchanged == [1]
    assert served(again) == expected(60)
    linked = (again.folder / "current").readlink()
    score(again, batch(tiny, scorers, file))
    assert (again.folder / "current").readlink() == linked  # what is in its place is left alone
    again.close()


def test_a_run_killed_while_it_put_rows_in_their_place_leaves_none_of_those_before(
    tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "in.parquet"
    score(table, batch(tiny, scorers, rows(file, 90), part_rows=10))
    rows(file, 50)

    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ScoreTable, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            score(table, batch(tiny, scorers, file, part_rows=10))
    table.close()
    again = ScoreTable(table.folder, "tiny").open()
    score(again, batch(tiny, scorers, file, part_rows=10))
    assert served(again) == expected(50)
    again.close()


def test_a_date_is_never_without_rows_while_others_are_put_in_place(
    tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "in.parquet"
    score(table, batch(tiny, scorers, rows(file)))
    seen: list[int] = []

    def watched(place: Path, draft: Path) -> None:
        exchange(place, draft)
        seen.append(len(table.files(1, str(DAY))))

    monkeypatch.setattr(tables, "exchange", watched)
    score(table, batch(tiny, scorers, rows(file, 60)))
    assert seen == [1]
    assert served(table) == expected(60)


def test_all_columns_that_do_not_fit_are_named_before_a_row_is_predicted(
    tiny: Path, table: ScoreTable, project_python: Path, tmp_path: Path
) -> None:
    def never(version: int) -> Scorer:
        raise AssertionError(version)

    query = ROWS.replace("i / 8.0 AS x, ", "").replace("i % 9 AS count", "CASE i WHEN 44 THEN 2.5 ELSE i END AS count")
    query = query.replace("CASE WHEN i % 3 = 0 THEN i * 0.5 END AS level", "CASE i WHEN 7 THEN 'no' END AS level")
    with Scorers(never) as scorers, pytest.raises(DataError) as caught:
        score(table, batch(tiny, scorers, rows(tmp_path / "in.parquet", query=query), part_rows=10))
    found = caught.value.fact.split("; ")
    assert found[0].startswith("x is missing")
    assert any(one.startswith("row 44: count is 2.5, a number") for one in found)
    assert any(one.startswith('row 7: level is "no", a string') for one in found)
    assert not (table.folder / "current").exists()


def test_a_disk_that_is_full_where_predictions_go_is_said_so(
    tiny: Path, table: ScoreTable, scorers: Scorers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"error": "47600 requested and 100 written", "disk": True}
    asked = batch(tiny, scorers, rows(tmp_path / "in.parquet"))
    scorer = scorers.of(1)
    monkeypatch.setattr(scorer, "_read", lambda: told)
    with pytest.raises(DataError, match="cannot be written: No space left on device"):
        score(table, asked)
