"""`trilho score` in a project: what is served, watched, rolled back; and what is refused in two lines."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.cli.conftest import Made, Verb
from tests.serve import test_batch as batches

from trilho.cli.score import _sentence
from trilho.core import records as r
from trilho.project import Project
from trilho.release import rollout
from trilho.scoring.rollbacks import Origin, commands_for, remember, tables
from trilho.serve.batch.run import Outcome

tiny = batches.tiny
TOML = """
timezone = "America/Sao_Paulo"

[model]
name = "bikes"
task = "regression"
target = "rides"
time = "at"
key = "id"

[data]
source = "data.csv"

[steps]
features = "bikes.features:build"
train = "bikes.train:fit"
"""
NOON = batches.ROWS.replace("00:00:00'", "12:00:00'").replace("i % 1000", "i % 60")
Score = Callable[..., Any]


@pytest.fixture
def project(made: Made, tiny: Path, project_python: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A project of two versions, of which the first serves."""
    (made.folder / "trilho.toml").write_text(TOML)
    monkeypatch.setenv("TRILHO_PYTHON", str(project_python))
    for number, name in ((1, "one"), (2, "two")):
        made.version(number)
        digest = made.store.put(tiny / name / "package")
        made.journal.append(
            r.VersionPackaged(model="bikes", version=number, run=f"run-{number}", dataset="d" * 64, package=digest,
                              metric="mae", metrics={"mae": 1.0}, commit=None, commit_time=None, data_until=None)
        )  # fmt: skip
    release(made, 1)
    return made


def release(made: Made, version: int) -> None:
    """Give a version to all users."""
    state = Project.open(made.folder).state()
    started = rollout.start(state, version, Project.open(made.folder).settings.serve, "")
    ended = [r.RolloutEnded(model="bikes", rollout=x.rollout, version=version, outcome="full", champion=version, why="")
             for x in started if isinstance(x, r.RolloutStarted)]  # fmt: skip
    made.journal.append(*started, *ended)


def served(to: str = "scores") -> dict[str, tuple[int, float]]:
    query = f"SELECT id, _version, _prediction FROM read_parquet('{to}/current/*/*.parquet', hive_partitioning = false)"
    return {id_: (version, value) for id_, version, value in batches.told(query)}


def expected(n: int, version: int, times: float) -> dict[str, Any]:
    hours = {f"r{i}": (12 * 60 + i % 60) // 60 for i in range(n)}
    return {f"r{i}": (version, pytest.approx(times * i / 8 + i % 9 + hours[f"r{i}"])) for i in range(n)}


def test_a_date_is_scored_watched_and_rolled_back(project: Made, trilho: Verb) -> None:
    batches.rows(Path("in.parquet"), 40, NOON)
    command = ("score", "--from", "in.parquet", "--to", "scores", "--at", "2024-03-01", "--json")
    first = trilho(*command)
    assert first.code == 0, first.err
    assert first.json["dates"][0]["watched"] == 40
    log = Project.open(project.folder).log
    assert log.labels().served == 40
    assert trilho(*command).json["dates"][0]["unchanged"] == [1]
    assert log.labels().served == 40
    release(project, 2)
    assert trilho(*command).json["dates"][0]["versions"].keys() == {"2"}
    assert served() == expected(40, 2, 3.0)
    batches.rows(Path("more.parquet"), 5, NOON.replace("03-01", "03-02"))
    assert trilho("score", "--from", "more.parquet", "--to", "scores", "--at", "2024-03-02").code == 0
    back = trilho("rollback", "--yes", "--why", "complaints")
    assert back.code == 0, back.err
    where = project.folder / "scores"
    assert f"{where}: 1 dates are served from version 1 again, instead of version 2." in back.out
    printed = f"trilho score --from more.parquet --to {where} --at 2024-03-02"
    assert f"nobody but version 2 scored 2024-03-02. To score them: {printed}\n" in back.out
    assert trilho(*shlex.split(printed)[1:]).code == 0
    assert {version for version, _ in served().values()} == {1}
    found = served()
    assert {id_: found[id_] for id_ in list(expected(40, 1, 2.0))[5:]} == dict(list(expected(40, 1, 2.0).items())[5:])


def test_a_rollout_that_ended_by_itself_is_noticed_by_the_next_run(project: Made, trilho: Verb) -> None:
    batches.rows(Path("in.parquet"), 300, NOON)
    command = ("score", "--from", "in.parquet", "--to", "scores", "--at", "2024-03-01")
    state = Project.open(project.folder).state()
    started = rollout.start(state, 2, Project.open(project.folder).settings.serve, "")
    name = next(x.rollout for x in started if isinstance(x, r.RolloutStarted))
    project.journal.append(*started, r.RolloutStepped(model="bikes", rollout=name, version=2, share=30, evidence={}))
    assert trilho(*command).code == 0
    assert {version for version, _ in served().values()} == {1, 2}
    ended = r.RolloutEnded(model="bikes", rollout=name, version=2, outcome="rolled back", champion=1, why="errors")
    project.journal.append(ended)
    batches.rows(Path("next.parquet"), 5, NOON.replace("03-01", "03-02").replace("'r'", "'s'"))
    later = trilho("score", "--from", "next.parquet", "--to", "scores", "--at", "2024-03-02")
    assert "Version 2 was rolled back: 1 dates are served from version 1 again." in later.out
    assert {version for version, _ in served().values()} == {1}
    assert len(served()) == 305


def test_a_date_is_one_of_the_project_s_zone(project: Made, trilho: Verb) -> None:
    query = batches.ROWS.replace("to_minutes(i % 1000)", "to_hours(i)")  # from midnight in UTC on
    batches.rows(Path("in.parquet"), 24, query)
    assert trilho("score", "--from", "in.parquet", "--to", "scores", "--at", "2024-03-01").code == 0
    assert sorted(served(), key=lambda id_: int(id_[1:])) == [f"r{i}" for i in range(3, 24)]
    assert trilho("score", "--from", "in.parquet", "--to", "before", "--at", "2024-02-29").code == 0
    assert sorted(served("before")) == ["r0", "r1", "r2"]


def test_a_backfill_of_the_past_is_not_watched_beside_the_present(project: Made, trilho: Verb) -> None:
    batches.rows(Path("in.parquet"), 10, NOON)
    assert trilho("score", "--from", "in.parquet", "--to", "scores", "--at", "2024-03-01").code == 0
    batches.rows(Path("old.parquet"), 10, NOON.replace("2024", "2023"))
    old = trilho("score", "--from", "old.parquet", "--to", "scores", "--at", "2023-03-01")
    assert "; too long ago to be watched." in old.out
    assert Project.open(project.folder).log.labels().served == 10


def test_what_was_never_released_is_scored_and_not_watched(project: Made, trilho: Verb) -> None:
    batches.rows(Path("in.parquet"), 10, NOON)
    command = ("score", "--from", "in.parquet", "--to", "trial", "--at", "2024-03-01", "--version")
    assert trilho(*command, "2").code == 0
    assert served("trial") == expected(10, 2, 3.0)
    assert Project.open(project.folder).log.labels().served == 0
    unknown = trilho(*command, "9")
    assert unknown.code == 2
    assert unknown.err == "bikes has no version 9\nHint: trilho models\n"


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        (NOON.replace("i / 8.0 AS x, ", ""), 1, "x is missing; wanted a number"),
        (NOON.replace("i / 8.0 AS x", "'much' AS x"), 1, 'row 0: x is "much", a string; wanted a number'),
        (NOON.replace("i / 8.0 AS x", "[i] AS x"), 1, "x is BIGINT[]; the model wants a number"),
        (NOON + " LIMIT 0", 1, "has no rows of 2024-03-01"),
    ],
)
def test_rows_that_cannot_be_scored_are_said_so(project: Made, trilho: Verb, query: str, code: int, said: str) -> None:
    batches.rows(Path("in.parquet"), 10, query)
    found = trilho("score", "--from", "in.parquet", "--to", "scores", "--at", "2024-03-01")
    assert (found.code, found.err.count("\n")) == (code, 2), found.err
    assert said in found.err
    assert not Path("scores/current").exists()


def test_other_columns_spaces_and_unicode_pass(project: Made, trilho: Verb) -> None:
    folder = Path("os dados são/µ 'x'")
    folder.mkdir(parents=True)
    batches.rows(Path("a.parquet"), 10, NOON.replace("AS level", "AS level, [1, 2] AS listed, 'ã' AS \"um nome\""))
    Path("a.parquet").rename(folder / "a.parquet")
    found = trilho("score", "--from", str(folder), "--to", "tabela de números", "--at", "2024-03-01")
    assert found.code == 0, found.err
    assert served("tabela de números") == expected(10, 1, 2.0)
    names = batches.told("SELECT listed, \"um nome\" FROM 'tabela de números/current/*/*.parquet' LIMIT 1")
    assert names == [([1, 2], "ã")]


def test_kinds_of_files_are_not_mixed(project: Made, trilho: Verb) -> None:
    Path("mixed").mkdir()
    batches.rows(Path("mixed/a.parquet"), 5, NOON)
    batches.rows(Path("mixed/b.csv"), 5, NOON)
    found = trilho("score", "--from", "mixed", "--to", "scores", "--at", "2024-03-01")
    assert (found.code, "several kinds" in found.err) == (1, True)


def test_a_table_is_not_written_into_what_it_is_made_from(project: Made, trilho: Verb) -> None:
    Path("data").mkdir()
    batches.rows(Path("data/a.parquet"), 5, NOON)
    command = ("score", "--from", "data", "--to", "data/scores", "--at", "2024-03-01")
    found = trilho(*command)
    assert found.code == 2, found.out
    assert "lies in --from data" in found.err
    assert trilho("score", "--from", "data/*.parquet", "--to", "data/scores", "--at", "2024-03-01").code == 0
    again = trilho("score", "--from", "data/scores/current", "--to", "data/scores", "--at", "2024-03-01")
    assert (again.code, "holds --from" in again.err) == (2, True)


def test_a_place_that_is_none_is_refused(project: Made, trilho: Verb) -> None:
    batches.rows(Path("in.parquet"), 5, NOON)
    for to, said in (("s3://x/y", "allowed: a folder, or bigquery://"), ("bigquery://x", "is no table")):
        found = trilho("score", "--from", "in.parquet", "--to", to, "--at", "2024-03-01")
        assert (found.code, said in found.err) == (2, True), found.err
    found = trilho("score", "--from", "bigquery://a.b", "--to", "bigquery://crm.t", "--env", "prod")
    assert "no environment 'prod' of Google Cloud; there are: none" in found.err


def test_a_column_of_dates_has_no_zone(project: Made, trilho: Verb) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * REPLACE (CAST('2024-03-01' AS DATE) AS \"at\") FROM ({NOON.format(n=5)})) "
            "TO 'in.parquet' (FORMAT parquet)"
        )
    assert trilho("score", "--from", "in.parquet", "--to", "scores", "--at", "2024-03-01").code == 0
    assert len(served()) == 5


def test_a_backfill_says_which_dates_have_no_rows_and_goes_on(project: Made, trilho: Verb) -> None:
    days = NOON.replace("to_minutes(i % 60)", "to_days(CAST(i % 2 * 2 AS INT))")  # the first and the third of March
    batches.rows(Path("in.parquet"), 10, days)
    command = ("score", "--from", "in.parquet", "--to", "scores", "--since", "2024-03-01", "--until")
    found = trilho(*command, "2024-03-04")
    assert found.code == 0, found.err
    assert "2024-03-02: nothing to score, the table has no rows of 2024-03-02" in found.out
    assert "4 dates, 10 rows: 2 scored, 2 without rows." in found.out
    assert len(served()) == 10
    nothing = trilho("score", "--from", "in.parquet", "--to", "none", "--since", "2025-01-01", "--until", "2025-01-03")
    assert (nothing.code, nothing.err.count("\n")) == (1, 2)
    assert "none of the 3 dates from 2025-01-01 to 2025-01-03 has rows" in nothing.err
    missing = trilho("score", "--from", "absent.parquet", "--to", "absent", "--at", "2024-03-01")
    assert (missing.code, Path("absent").exists()) == (1, False)


def test_an_error_in_a_backfill_names_its_date(project: Made, trilho: Verb) -> None:
    days = NOON.replace("to_minutes(i % 60)", "to_days(i)").replace(
        "i / 8.0", "CASE WHEN i = 1 THEN NULL ELSE i / 8.0 END"
    )
    batches.rows(Path("in.parquet"), 3, days)
    found = trilho("score", "--from", "in.parquet", "--to", "scores", "--since", "2024-03-01", "--until", "2024-03-03")
    assert (found.code, found.err.count("\n")) == (1, 2)
    assert found.err.startswith("2024-03-02: row 0: x is null; wanted a number")
    assert len(served()) == 1


def test_dates_are_scored_again_from_where_each_came(project: Made) -> None:
    opened = Project.open(project.folder)
    (project.folder / "s").mkdir()
    to, origins = str(project.folder / "s"), [Origin("d/{date}/*.parquet"), Origin("a b.csv", whole=True, warn=True)]
    for day, origin in (("01", 0), ("02", 0), ("04", 0), ("05", 1)):
        remember(opened, to, "prod", origins[origin], f"2024-03-{day}")
    found = commands_for(opened, to, [f"2024-03-{day}" for day in ("01", "02", "04", "05")])
    assert found == [
        f"trilho score --from 'd/{{date}}/*.parquet' --to {to} --since 2024-03-01 --until 2024-03-02 --env prod",
        f"trilho score --from 'd/{{date}}/*.parquet' --to {to} --at 2024-03-04 --env prod",
        f"trilho score --from 'a b.csv' --to {to} --at 2024-03-05 --whole --no-contract --env prod",
    ]
    many = commands_for(opened, to, [f"2024-03-{day:02d}" for day in range(1, 21, 2)])
    assert (len(many), many[-1]) == (4, "and so on, 7 more")
    assert tables(opened) == {to: "prod"}


def test_a_shadow_is_said_in_the_summary() -> None:
    outcome = Outcome("2024-03-01", 50, unchanged=[1, 2], shares={1: 100})
    assert _sentence(outcome) == "2024-03-01: 50 rows, unchanged; version 2 is not served."


def test_a_canary_is_said_in_the_summary(project: Made, trilho: Verb) -> None:
    batches.rows(Path("in.parquet"), 50, NOON)
    state = Project.open(project.folder).state()
    started = rollout.start(state, 2, Project.open(project.folder).settings.serve, "")
    project.journal.append(*started)
    command = ("score", "--from", "in.parquet", "--to", "scores", "--at", "2024-03-01")
    assert "(pandas); served: 90% from version 1, 10% from version 2.\n" in trilho(*command).out
    name = next(x.rollout for x in started if isinstance(x, r.RolloutStarted))
    project.journal.append(r.RolloutStepped(model="bikes", rollout=name, version=2, share=30, evidence={}))
    assert "50 rows, unchanged; served: 70% from version 1, 30% from version 2." in trilho(*command).out
