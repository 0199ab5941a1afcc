"""`trilho doctor` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.adopt.doctor_cells import FIT, HEAD, SPLIT, write

from trilho.cli.app import run

RATE = "df['a'] = df['g'].map(df.groupby('g')['y'].mean())"


def test_it_examines_a_notebook(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, HEAD, RATE, SPLIT, FIT)
    before = path.read_bytes()
    assert run(["doctor", str(path), "--json", "--patch", str(tmp_path / "fix.diff")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["kind"], told["fits"]) == (1, "notebook", {"fits": True, "reasons": []})
    assert {"rule", "cell", "line", "message", "severity", "fix"} <= told["findings"][0].keys()
    assert told["findings"][0]["rule"] == "leakage"
    assert len(told["readiness"]["tests"]) == 28
    assert told["readiness"]["score"] == min(told["readiness"]["sections"].values())
    assert {"name", "before", "after", "counted"} == told["ledger"][0].keys()
    assert told["patch"]["measured"] is False
    assert told["next"].startswith("trilho adopt ")
    assert (tmp_path / "fix.diff").read_text().startswith("--- a/poc.ipynb")
    assert path.read_bytes() == before


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_too_little_readiness_ends_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]) -> None:
    path = write(tmp_path, HEAD, SPLIT, FIT)
    assert run(["doctor", str(path), "--fail-under", "2", *more]) == 3
    assert run(["doctor", str(path), "--fail-under", "0", *more]) == 0
    said = capsys.readouterr()
    assert bool(said.err) != bool(more)


def test_it_says_kindly_that_it_is_not_for_this(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "def rule(x):\n    if x > 3:\n        return 'yes'\n    return 'no'")
    assert run(["doctor", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("trilho is probably not for this: the answer comes from 1 if-then rule")
    assert "trilho adopt" not in out.splitlines()[-1]


def test_mistakes_are_told_in_two_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", str(tmp_path / "none.ipynb")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    path = write(tmp_path, "x = 1")
    assert run(["doctor", str(path), "--python", "/nowhere"]) == 2
    assert run(["doctor", str(path), "--run", "--python", "/nowhere"]) == 2


@pytest.mark.parametrize(
    ("parity", "said"),
    [
        ("", ""),
        ("{}", "schema None; 1 is read"),
        ("{", "not JSON"),
        ('{"schema": 1}', "parity.json is no certificate"),
    ],
)
def test_a_certificate_that_does_not_count_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parity: str, said: str
) -> None:
    assert run(["init", "rides", "-C", str(tmp_path)]) == 0
    capsys.readouterr()
    folder = tmp_path / "rides"
    if parity:
        (folder / "parity.json").write_text(parity)
    assert run(["doctor", str(folder), "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    told = [finding["message"] for finding in findings if finding["rule"] == "certificate"]
    assert [said in message for message in told] == ([True] if said else [])
