"""What a mistake gets: two lines, an exit code, and with --json one object."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Made, Verb


def test_outside_a_project_it_says_how_to_begin(trilho: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = trilho()
    assert said.code == 0
    assert said.out.splitlines()[-1] == "Next: trilho demo"


def test_a_verb_outside_a_project(trilho: Verb, tmp_path: Path) -> None:
    said = trilho("-C", str(tmp_path), "train")
    assert said.code == 2
    assert said.err.splitlines() == [
        f"{tmp_path} has no trilho.toml",
        "Hint: trilho -C " + str(tmp_path) + " init NAME, or -C DIR to say where it is",
    ]


@pytest.mark.parametrize(
    ("arguments", "fact", "hint"),
    [
        (["bogus"], "No such command 'bogus'", "trilho --help"),
        (["release"], "Missing argument 'VERSION'", "trilho release --help"),
        (["train", "--jsonn"], "No such option: --jsonn", "trilho train --help"),
        (["release", "two"], "Invalid value for 'VERSION'", "trilho release --help"),
    ],
)
def test_a_mistyped_command(trilho: Verb, made: Made, arguments: list[str], fact: str, hint: str) -> None:
    said = trilho(*arguments)
    first, second = said.err.splitlines()
    assert said.code == 2
    assert first.startswith(fact)
    assert second == f"Hint: {hint}"


def test_a_wrong_setting_names_file_key_and_spelling(trilho: Verb, made: Made) -> None:
    path = made.folder / "trilho.toml"
    path.write_text(path.read_text() + "\n[gate]\nmargn = 1.0\n")
    said = trilho("models", "--json")
    assert said.code == 2
    assert said.err.splitlines()[1] == "Hint: did you mean 'margin'?"
    allowed = "approval, calibration, confidence, "
    assert said.json["error"].startswith(f"{path}: unknown key gate.margn; allowed: {allowed}")
    assert (said.json["schema"], said.json["exit"]) == (1, 2)


def test_what_nobody_foresaw_is_told_in_two_lines_too(
    trilho: Verb, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("a tooth fell out")

    monkeypatch.setattr("trilho.project.Project.state", broken)
    said = trilho("models")
    assert said.code == 1
    assert said.err.splitlines() == [
        "RuntimeError: a tooth fell out",
        "Hint: the same with --debug shows where; it is a mistake of trilho's",
    ]
    assert "Traceback" in trilho("models", "--debug").err


def test_json_is_alone_on_stdout(trilho: Verb, made: Made) -> None:
    made.version(1)
    for arguments in (["models", "--json"], ["--json", "models"], ["-C", str(made.folder), "models", "--json"]):
        assert trilho(*arguments).json["schema"] == 1


def test_options_of_one_call_do_not_leak_into_the_next(trilho: Verb, made: Made) -> None:
    made.version(1)
    trilho("--json", "-C", str(made.folder), "models")
    assert trilho("models").out.splitlines()[-1] == "Next: trilho models show 1"
