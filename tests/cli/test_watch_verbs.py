"""`trilho watch compare` and `trilho watch backtest` as they are typed, inside a project and without one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pytest
from tests.cli.conftest import TOML, Made, Verb
from tests.watch.world import MemoryLog

from trilho.cli.backtest import _log, _replayed
from trilho.cli.session import Session
from trilho.config import load_settings
from trilho.config.values import UNITS
from trilho.errors import NotYet
from trilho.watch.backtest import Backtest
from trilho.watch.planting import Plant
from trilho.watch.setting import Setting
from trilho_runtime.profile import PREDICTION, Reference

DAY = 86400.0
NORMAL = "sqrt(-2 * ln(random() + 1e-12)) * cos(2 * pi() * random())"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    folder = tmp_path_factory.mktemp("tables")
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.execute("SELECT setseed(0.4)")
        for name, by in (("before", 0), ("after", 0.5)):
            columns = f"{NORMAL} + {by} AS price, random() AS quiet"
            connection.execute(f"COPY (SELECT {columns} FROM range(5000)) TO '{folder}/{name}.parquet'")
        columns = f"DATE '2024-01-01' + CAST(i // 60 AS INT) AS day, {NORMAL} AS price, random() AS score"
        columns += ", CAST(random() < 0.4 AS INT) AS paid"
        connection.execute(f"COPY (SELECT {columns} FROM range(9000) t(i)) TO '{folder}/history.csv'")
    return f"{folder}/before.parquet", f"{folder}/after.parquet", f"{folder}/history.csv"


def test_compare_needs_no_project(
    trilho: Verb, tables: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.html"
    said = trilho("watch", "compare", *tables[:2], "--json", "--html", str(page))
    assert said.code == 0
    assert set(said.json) >= {"schema", "columns", "drifted", "rows", "seconds", "next", "html"}
    assert (said.json["drifted"], said.json["rows"]) == (["price"], [5000, 5000])
    assert set(said.json["columns"]["price"]) >= {"drifted", "distance", "interval", "kind"}
    assert said.json["columns"]["price"]["distance"] == pytest.approx(0.197, abs=0.03)
    assert "1 column has drifted" in page.read_text()
    assert trilho("watch", "compare", *tables[:2], "--html", str(page), "--language", "pt-BR").code == 0
    assert "1 coluna mudou" in page.read_text()


def test_compare_in_prose(trilho: Verb, tables: tuple[str, str, str]) -> None:
    said = trilho("watch", "compare", *tables[:2])
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].startswith("5,000 rows against 5,000, 2 columns: 1 drifted")
    assert lines[2].startswith("DRIFTED  price")
    assert lines[-1].startswith("Next: trilho watch compare ")


def test_a_check_says_no_with_3(trilho: Verb, tables: tuple[str, str, str]) -> None:
    assert trilho("watch", "compare", *tables[:2], "--check").code == 3
    assert trilho("watch", "compare", tables[0], tables[0], "--check").code == 0
    assert trilho("watch", "compare", *tables[:2], "--check", "--floor", "0.4").code == 0


def test_a_project_says_what_is_left_out(
    trilho: Verb, made: Made, tables: tuple[str, str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "trilho.toml").write_text(
        '[model]\nname = "m"\ntask = "regression"\ntarget = "y"\n[data]\nsource = "d.csv"\n'
        '[steps]\nfeatures = "a:b"\ntrain = "a:c"\n[watch]\nignore = ["price"]\nlanguage = "pt-BR"\n'
    )
    page = folder / "page.html"
    said = trilho("-C", str(folder), "watch", "compare", *tables[:2], "--json", "--html", str(page))
    assert said.code == 0, said.err
    assert (said.json["drifted"], said.json["skipped"]) == ([], {"price": "ignored"})
    assert "Nenhuma coluna mudou" in page.read_text()


def test_backtest_of_a_table(trilho: Verb, tables: tuple[str, str, str]) -> None:
    said = trilho("watch", "backtest", tables[2], "--time", "day", "--plant", "price:1sd@2024-04-20", "--json")
    assert said.code == 0, said.err
    found = said.json
    assert (found["changes"], found["missed"]) == (1, 0)
    assert 1 <= found["delay_windows"] <= 3
    assert found["setting"] == {"false_alarms": "1 per year", "tolerance": "auto", "window": "1 day"}
    low, high = found["interval"]
    assert low <= found["alarms_per_month"] <= high
    assert found["found"][0]["change"] == "price:1sd@2024-04-20"


def test_backtest_proposes(trilho: Verb, tables: tuple[str, str, str]) -> None:
    options = ["--time", "day", "--prediction", "score", "--label", "paid", "--wanted", "1 per month"]
    said = trilho("watch", "backtest", tables[2], *options, "--json")
    assert said.code == 0, said.err
    assert said.json["kept"] is True
    assert said.json["proposed"]["outcome"]["alarms_per_month"] <= 1
    assert said.json["proposed"]["window"] == "1 day"
    prose = trilho("watch", "backtest", tables[2], *options)
    assert "[watch]" in prose.out
    assert f'false_alarms = "{said.json["proposed"]["false_alarms"]}"' in prose.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--plant", "price"], "allowed: COLUMN:SIZE"),
        (["--plant", "nothing:1sd"], "no column nothing is watched"),
        (["--plant", "price:200%null"], "allowed: above 0, up to 100"),
        (["--since", "2031-01-01"], "the table covers 2024-01-01 to 2024-05-29"),
        (["--since", "soon"], "a moment 'soon'"),
        (["--wanted", "few"], "a rate 'few'"),
        (["--window", "1 moon"], "a window '1 moon'"),
        (["--tolerance", "2"], "a tolerance '2'"),
        (["--label", "none"], "no column none"),
    ],
)
def test_mistakes_are_told(trilho: Verb, tables: tuple[str, str, str], options: list[str], said: str) -> None:
    found = trilho("watch", "backtest", tables[2], "--time", "day", *options)
    assert found.code == 2
    assert said in found.err
    assert "Hint: " in found.err


def test_a_history_that_is_too_short(trilho: Verb, tables: tuple[str, str, str]) -> None:
    found = trilho("watch", "backtest", tables[2], "--time", "day", "--window", "2 weeks")
    assert found.code == 4
    assert "are needed" in found.err


def test_backtest_of_what_a_project_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(8)
    time = np.sort(draw.uniform(0, 60 * DAY, 9000))
    price = draw.normal(10, 2, 9000)
    reference = Reference.fit({"price": price, "id": price, PREDICTION: price}, time, DAY)
    (tmp_path / "reference.json").write_text(reference.to_json())
    np.savez(
        tmp_path / "validation.npz",
        time=time[:900],
        prediction=price[:900],
        value=price[:900] + draw.exponential(1, 900),
    )
    (tmp_path / "trilho.toml").write_text(TOML)
    log = MemoryLog()
    served = draw.normal(10, 2, 6000)
    rows = log.serve(np.sort(draw.uniform(90 * DAY, 130 * DAY, 6000)), served, price=served)
    log.label(rows, served + draw.exponential(1, 6000))
    project = SimpleNamespace(
        name="bikes", settings=load_settings(tmp_path), log=log, state=lambda: SimpleNamespace(champion=1),
        package=lambda version: tmp_path,
    )  # fmt: skip
    here = Session(as_json=True)
    here.__dict__["project"] = project
    with _log(here, ["other"], None) as past:
        assert past.columns == ["price", PREDICTION]  # the key and the target are never watched
        assert past.start() == pytest.approx(90 * DAY, abs=DAY)
        test = Backtest(past, [Plant.parse("price:1sd")])
        _replayed(here, test, Setting(1 / UNITS["year"]), 1 / UNITS["month"], table=None)
    said = json.loads(capsys.readouterr().out)
    assert (said["windows"], said["missed"], said["false_alarms"]) == (40, 0, 0)
    assert said["kept"] is True
    project.state = lambda: SimpleNamespace(champion=None)
    with pytest.raises(NotYet, match="bikes has no champion"), _log(here, [], None):
        pass
