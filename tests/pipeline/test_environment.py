"""Environments of components: made once, by one, whole or not at all. Pip itself is run by test_workers_environment."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from trilho.errors import StepFailed
from trilho.pipeline.workers.environment import Environments, clean, satisfies, words_of
from trilho.pipeline.workers.keeper import Ended

TINY = [["tiny==1.0", "--no-deps"]]


class Pip:
    """Stands for the interpreters: makes a folder for an environment, and fails where it is told to."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.fails: dict[str, str] = {}
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, words: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path) -> Ended:
        self.calls.append(list(words))
        self.environments.append(dict(environment))
        said = next((said for word, said in self.fails.items() if any(word in given for given in words)), None)
        if said is not None:
            return Ended(1, said)
        if words[2] == "venv":
            python = Path(words[3], "bin", "python")
            python.parent.mkdir(parents=True)
            python.write_text("#!/bin/sh\n")
            python.chmod(0o755)
        assert self.gate.wait(20)
        return Ended(0, "")


@pytest.fixture
def pip() -> Pip:
    return Pip()


@pytest.fixture
def bases(tmp_path: Path) -> list[Path]:
    found = [tmp_path / "one", tmp_path / "two"]
    for base in found:
        base.write_text(base.name)
    return found


def environments(tmp_path: Path, pip: Pip, **settings: str) -> Environments:
    return Environments(tmp_path / "home", pip, tmp_path, settings)


def test_an_environment_is_made_once_and_found_by_others(tmp_path: Path, pip: Pip, bases: list[Path]) -> None:
    said: list[str] = []
    python = environments(tmp_path, pip).make(TINY, bases, say=said.append)
    assert said[0] == "installing tiny==1.0 into an environment of its own, once"
    assert said[1].startswith("installed tiny==1.0 in ")
    assert [words[2] for words in pip.calls] == ["venv", "pip"]
    assert pip.calls[0][:3] == [str(bases[0]), "-m", "venv"]
    assert pip.calls[1][-2:] == ["tiny==1.0", "--no-deps"]
    mark = json.loads((python.parents[1] / "ready.json").read_text())
    assert (mark["packages"], mark["python"]) == ("tiny==1.0", str(bases[0]))
    again = environments(tmp_path, pip)
    assert again.find(TINY, bases[0]) == python == again.make(TINY, bases)
    assert len(pip.calls) == 2


def test_what_is_asked_and_of_whom_tells_environments_apart(tmp_path: Path, pip: Pip, bases: list[Path]) -> None:
    wheel = tmp_path / "tiny.whl"
    wheel.write_text("one")
    made = environments(tmp_path, pip)
    found = {made.make(TINY, bases), made.make([["tiny==1.1"]], bases), made.make(TINY, bases[1:])}
    found.add(made.make([[str(wheel)]], bases))
    wheel.write_text("two")
    found.add(made.make([[str(wheel)]], bases))
    assert len(found) == 5


def test_a_failed_installation_is_told_in_pips_words_and_leaves_nothing(
    tmp_path: Path, pip: Pip, bases: list[Path]
) -> None:
    pip.fails["tiny==1.0"] = (
        "Looking in links: x\nERROR: Could not find a version that satisfies the requirement tiny==1.0\n"
        "ERROR: No matching distribution found for tiny==1.0\n"
    )
    made = environments(tmp_path, pip)
    with pytest.raises(StepFailed) as caught:
        made.make(TINY, bases)
    assert caught.value.fact == (
        "pip could not install tiny==1.0: Could not find a version that satisfies the requirement tiny==1.0; "
        "No matching distribution found for tiny==1.0"
    )
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(f"all that it said is in {tmp_path / 'home' / 'environments'}")
    assert not [path for path in (tmp_path / "home" / "environments").iterdir() if path.is_dir()]
    calls = len(pip.calls)
    with pytest.raises(StepFailed):
        made.make(TINY, bases)
    assert len(pip.calls) == calls, "a second component of the same run does not try again"
    pip.fails.clear()
    assert environments(tmp_path, pip).make(TINY, bases).exists()


def test_what_was_killed_half_way_is_made_anew(tmp_path: Path, pip: Pip, bases: list[Path]) -> None:
    python = environments(tmp_path, pip).make(TINY, bases)
    (python.parents[1] / "ready.json").unlink()
    (python.parents[1] / "half").write_text("")
    assert environments(tmp_path, pip).make(TINY, bases) == python
    assert not (python.parents[1] / "half").exists()
    python.unlink()
    assert environments(tmp_path, pip).make(TINY, bases) == python
    assert python.exists()


def test_two_at_once_make_one(tmp_path: Path, pip: Pip, bases: list[Path]) -> None:
    pip.gate.clear()
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(environments(tmp_path, pip).make(TINY, bases))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    pip.gate.set()
    for thread in threads:
        thread.join(20)
    assert len(found) == 4
    assert len(set(found)) == 1
    assert len(pip.calls) == 2


def test_who_waits_for_another_can_be_stopped(tmp_path: Path, pip: Pip, bases: list[Path]) -> None:
    pip.gate.clear()
    first = threading.Thread(target=lambda: environments(tmp_path, pip).make(TINY, bases))
    first.start()
    while not pip.calls:
        first.join(0.01)
    second, told = environments(tmp_path, pip), list[str]()

    def wait() -> None:
        try:
            second.make(TINY, bases)
        except StepFailed as error:
            told.append(error.fact)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while waiting.is_alive():
        second.stop()
        waiting.join(0.05)
    assert told == ["it was stopped while another run installed what it needs"]
    pip.gate.set()
    first.join(20)


def test_the_next_interpreter_is_taken_where_the_first_can_make_none(
    tmp_path: Path, pip: Pip, bases: list[Path]
) -> None:
    pip.fails[str(bases[0])] = "ensurepip is not available"
    assert environments(tmp_path, pip).make(TINY, bases).exists()
    assert pip.calls[1][0] == str(bases[1])
    pip.fails[str(bases[1])] = "nor here"
    with pytest.raises(StepFailed, match=r"no environment can be made with .*: nor here"):
        environments(tmp_path, pip).make([["other"]], bases)


def test_pip_finds_the_users_settings_and_not_what_leads_it_astray(
    tmp_path: Path, pip: Pip, bases: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_USER", "PIP_TARGET", "PYTHONPATH", "PIP_INDEX_URL", "PIP_RETRIES"):
        monkeypatch.setenv(name, "1")
    environments(tmp_path, pip, PIP_FIND_LINKS="/wheels").make(TINY, bases)
    given = pip.environments[1]
    assert given["PIP_INDEX_URL"] == "1"
    assert given["PIP_FIND_LINKS"] == "/wheels"
    assert not {"PIP_USER", "PIP_TARGET", "PYTHONPATH"} & set(given)
    assert "--retries" not in pip.calls[1]
    assert clean({"PIP_PREFIX": "x", "PATH": "y"}) == {"PATH": "y"}


def test_an_interpreter_that_has_it_all_is_told_from_one_that_has_not(tmp_path: Path, pip: Pip) -> None:
    python = Path("/usr/bin/python3")
    asked = [["--index-url", "https://x", "tiny==1.0"]]
    assert satisfies(python, asked, pip, tmp_path, tmp_path / "log")
    assert pip.calls[0][-1] == "tiny==1.0"
    assert "https://x" not in pip.calls[0]
    assert {"--dry-run", "--no-index"} <= set(pip.calls[0])
    pip.fails["tiny"] = "no"
    assert not satisfies(python, asked, pip, tmp_path, tmp_path / "log")


def test_packages_are_named_without_options() -> None:
    assert (
        words_of([["-i", "u", "a>1; python_version > '3'"], ["a>1; python_version < '4'", "b", "--no-deps"]])
        == "a>1, b"
    )
    assert words_of([]) == "nothing"
