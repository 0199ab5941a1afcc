"""`trilho upgrade`: a newer standard in a project that was changed by hand."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trilho.adopt.scaffold import write_project
from trilho.adopt.standard.base import BASE, base_text, read_base
from trilho.adopt.standard.render import render
from trilho.adopt.standard.upgrade import carry_out, plan_upgrade
from trilho.cli.app import run
from trilho.errors import ConfigError, TrilhoError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_project(tmp_path / "rides", "rides", "regression")
    return tmp_path / "rides"


def age(folder: Path, **older: str | None) -> None:
    """Let the project have been written by an older standard, with these texts (None: without the file)."""
    base = read_base(folder)
    assert base is not None
    files = dict(base.files)
    for name, text in ((name.replace("__", "/"), text) for name, text in older.items()):
        files.pop(name, None)
        (folder / name).unlink(missing_ok=True)
        if text is not None:
            files[name] = text
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    (folder / BASE).write_text(base_text(replace(base.values, version="0.0.9"), files))


def texts(folder: Path) -> dict[str, bytes]:
    return {str(x.relative_to(folder)): x.read_bytes() for x in sorted(folder.rglob("*")) if x.is_file()}


def upgraded(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run(["-C", str(folder), "upgrade", "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def outcomes(said: dict[str, Any]) -> dict[str, str]:
    return {change["file"]: change["outcome"] for change in said["changes"]}


def now(folder: Path, name: str) -> str:
    base = read_base(folder)
    assert base is not None
    return render(base.values)[name]


def test_a_new_project_has_the_standard(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = texts(project)
    for options in ((), ("--check",)):
        code, said = upgraded(project, capsys, *options)
        assert (code, said["current"], said["changes"], said["next"]) == (0, True, [], f"trilho -C {project} train")
    assert texts(project) == before


def test_check_changes_nothing_and_exits_with_3(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    age(project, Makefile="test:\n\techo old\n")
    before = texts(project)
    code, said = upgraded(project, capsys, "--check")
    assert (code, said["current"], outcomes(said)) == (3, False, {"Makefile": "updated"})
    assert (said["before"], said["next"]) == ("0.0.9", f"trilho -C {project} upgrade")
    assert texts(project) == before


def test_files_as_the_standard_had_them_are_renewed_and_new_ones_come(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = texts(project)
    old = {"tools__check_secrets.py": None, "tools__hooks__pre-commit": None, "old.cfg": "x\n"}
    age(project, Makefile="test:\n\techo old\n", **old)
    code, said = upgraded(project, capsys)
    assert code == 0
    assert outcomes(said) == {
        "Makefile": "updated",
        "old.cfg": "removed",
        "tools/check_secrets.py": "added",
        "tools/hooks/pre-commit": "added",
    }
    assert texts(project).keys() == expected.keys()
    assert texts(project)["Makefile"] == expected["Makefile"]
    assert stat.S_IMODE((project / "tools" / "hooks" / "pre-commit").stat().st_mode) == 0o755
    assert upgraded(project, capsys)[1]["current"]


def test_what_was_changed_by_hand_is_kept_where_it_does_not_touch(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = (project / "Makefile").read_text()
    old = new.replace("python3", "python2").replace("\nclean:", "\nold:\n\techo old\n\nclean:")
    age(project, Makefile=old)
    mine = old.replace("IMAGE ?= rides", "IMAGE ?= registry.example.com/rides") + "\nmine:\n\techo mine\n"
    (project / "Makefile").write_text(mine)
    code, said = upgraded(project, capsys)
    assert (code, outcomes(said)) == (0, {"Makefile": "merged"})
    assert (project / "Makefile").read_text() == (
        new.replace("IMAGE ?= rides", "IMAGE ?= registry.example.com/rides") + "\nmine:\n\techo mine\n"
    )
    assert not (project / "Makefile.rej").exists()
    assert upgraded(project, capsys)[1]["current"]


def test_a_conflict_goes_to_rej_and_the_rest_is_merged(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = (project / ".env.example").read_text()
    first = new.splitlines()[0]
    age(project, **{".env.example": "# old words\n" + new.partition("\n")[2] + "# the end\n"})
    mine = "# my words\n" + new.partition("\n")[2] + "# the end\n"
    (project / ".env.example").write_text(mine)
    code, said = upgraded(project, capsys)
    assert (code, outcomes(said), said["conflicts"]) == (3, {".env.example": "conflict"}, [".env.example"])
    assert said["next"] == f"less {project / '.env.example.rej'}"
    assert (project / ".env.example").read_text() == "# my words\n" + new.partition("\n")[2]
    rejected = (project / ".env.example.rej").read_text()
    assert rejected.endswith(f"@@ .env.example, line 1 @@\n-# old words\n+{first}\n")
    after = texts(project)
    code, said = upgraded(project, capsys)
    assert (code, said["current"]) == (0, True)
    assert texts(project) == after


def test_a_merge_that_does_not_parse_leaves_the_file_as_it_was(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = ".github/dependabot.yml"
    new = (project / name).read_text()
    age(project, **{name.replace("/", "__"): new.replace("version: 2\n", "")})
    mine = new.replace("version: 2\n", "") + "version: 2\n"  # the same key, elsewhere
    (project / name).write_text(mine)
    code, said = upgraded(project, capsys)
    assert (code, outcomes(said)) == (3, {name: "conflict"})
    assert (project / name).read_text() == mine
    rejected = (project / f"{name}.rej").read_text()
    assert "merged, it is not YAML: version is there twice" in rejected
    assert rejected.endswith(new)


def test_what_was_deleted_stays_deleted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    age(project, Makefile="test:\n\techo old\n")
    (project / "Makefile").unlink()
    (project / "cloudbuild.yaml").unlink()  # of which nothing is new
    code, said = upgraded(project, capsys)
    assert (code, outcomes(said)) == (0, {"Makefile": "kept"})
    assert not (project / "Makefile").exists()
    assert not (project / "cloudbuild.yaml").exists()


def test_a_new_file_that_is_there_already_is_left_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    age(project, **{"cloudbuild.yaml": None})
    (project / "cloudbuild.yaml").write_text("steps: []\n")
    code, said = upgraded(project, capsys)
    assert (code, outcomes(said)) == (3, {"cloudbuild.yaml": "conflict"})
    assert (project / "cloudbuild.yaml").read_text() == "steps: []\n"
    assert (project / "cloudbuild.yaml.rej").read_text().endswith(now(project, "cloudbuild.yaml"))


def test_a_file_that_left_the_standard_stays_where_it_was_changed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    age(project, **{"old.cfg": "x\n"})
    (project / "old.cfg").write_text("mine\n")
    code, said = upgraded(project, capsys)
    assert (code, outcomes(said), (project / "old.cfg").read_text()) == (0, {"old.cfg": "kept"}, "mine\n")


@pytest.mark.parametrize("kind", ["binary", "link", "folder"])
def test_what_cannot_be_merged_is_left_alone(project: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    age(project, **{".env.example": "old\n"})
    path = project / ".env.example"
    path.unlink()
    if kind == "binary":
        path.write_bytes(b"\xff\xfe")
    elif kind == "link":
        (project / "elsewhere").write_text("old\n")
        path.symlink_to("elsewhere")
    else:
        path.mkdir()
    code, said = upgraded(project, capsys)
    assert (code, outcomes(said)) == (3, {".env.example": "conflict"})
    assert (project / ".env.example.rej").read_text().endswith(now(project, ".env.example"))
    assert path.is_symlink() if kind == "link" else path.is_dir() if kind == "folder" else path.read_bytes()[0] == 255


def test_windows_line_ends_and_modes_are_kept(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = (project / "CHANGELOG.md").read_text()
    age(project, **{"CHANGELOG.md": new.replace("# Changelog", "# Changes")})
    mine = (project / "CHANGELOG.md").read_text() + "- Mine.\n"
    (project / "CHANGELOG.md").write_bytes(mine.replace("\n", "\r\n").encode())
    (project / "CHANGELOG.md").chmod(0o640)
    code, said = upgraded(project, capsys)
    assert (code, outcomes(said)) == (0, {"CHANGELOG.md": "merged"})
    assert (project / "CHANGELOG.md").read_bytes() == (new + "- Mine.\n").replace("\n", "\r\n").encode()
    assert stat.S_IMODE((project / "CHANGELOG.md").stat().st_mode) == 0o640


def test_a_project_that_never_had_the_standard_gets_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = texts(project)
    for name in (BASE, "Makefile", "Dockerfile"):
        (project / name).unlink()
    (project / "README.md").write_text("# mine\n")
    code, said = upgraded(project, capsys)
    assert (code, said["before"]) == (3, "")
    found = outcomes(said)
    assert (found["Makefile"], found["Dockerfile"], found["README.md"]) == ("added", "added", "conflict")
    assert (project / "README.md").read_text() == "# mine\n"
    assert texts(project)["Makefile"] == expected["Makefile"]
    assert upgraded(project, capsys)[1]["current"]


def test_another_trilho_renews_what_it_is(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = read_base(project)
    assert base is not None
    older = replace(base.values, version="0.0.9", trilho="trilho==0.0.9", runtime="trilho-runtime==0.0.9", ruff="0.1.0")
    (project / BASE).write_text(base_text(older, render(older)))
    for name, text in render(older).items():
        (project / name).write_text(text)
    carry_out(plan_upgrade(project, older))
    makefile = (project / "Makefile").read_text()
    assert "TRILHO_PACKAGE ?= trilho==0.1.0\nRUNTIME_PACKAGE ?= trilho-runtime==0.1.0\n" in makefile
    assert "ruff==0.1.0" not in (project / ".pre-commit-config.yaml").read_text()
    assert "trilho==0.0.9" not in (project / "Dockerfile").read_text()


def test_a_full_disk_changes_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    age(project, Makefile="test:\n\techo old\n", **{".env.example": "old\n"})
    before, base = texts(project), read_base(project)
    assert base is not None
    planned = plan_upgrade(project, base.values)
    calls = iter([None, OSError(28, "No space left on device")])

    def full(handle: int) -> None:
        error = next(calls)
        if error is not None:
            raise error

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrilhoError, match="No space left on device"):
        carry_out(planned)
    assert texts(project) == before


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_an_upgrade_that_was_interrupted_is_repeated(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stop: int
) -> None:
    new = (project / "Makefile").read_text()
    age(project, Makefile=new.replace("python3", "python2").replace("# What one does", "# Old"))
    mine = (project / "Makefile").read_text().replace("# Old", "# Mine")
    (project / "Makefile").write_text(mine)
    base = read_base(project)
    assert base is not None
    planned = plan_upgrade(project, base.values)
    replace_ = Path.replace
    left = iter([None] * stop + [KeyboardInterrupt()])

    def interrupted(self: Path, target: Path) -> Path:
        error = next(left)
        if error is not None:
            raise error
        return replace_(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        carry_out(planned)
    monkeypatch.undo()
    code, said = upgraded(project, capsys)
    assert (code, said["conflicts"]) == (3, ["Makefile"])
    assert (project / "Makefile").read_text() == mine.replace("python2", "python3")
    assert (project / "Makefile.rej").read_text().count("@@ Makefile, line 1 @@") == 1
    assert not list(project.glob("*.part"))


def test_a_base_that_cannot_be_read_is_an_error_in_two_lines(project: Path) -> None:
    for text in ("{", "[]", '{"schema": 1}', '{"schema": 2, "trilho": "9.0"}'):
        (project / BASE).write_text(text)
        with pytest.raises(ConfigError) as caught:
            read_base(project)
        assert BASE in caught.value.fact
        assert caught.value.hint
