"""The three-way merge, held against git's on many small texts, and what a merged file must still be."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from trilho.adopt.standard.merge import merge
from trilho.adopt.standard.sanity import problem_of

BASE = "a\nb\nc\nd\ne\n"


@pytest.mark.parametrize(
    ("ours", "theirs", "merged"),
    [
        (BASE, "a\nB\nc\nd\ne\n", "a\nB\nc\nd\ne\n"),
        ("a\nB\nc\nd\ne\n", BASE, "a\nB\nc\nd\ne\n"),
        ("A\nb\nc\nd\ne\n", "a\nb\nc\nd\nE\n", "A\nb\nc\nd\nE\n"),
        ("a\nX\nc\nd\ne\n", "a\nX\nc\nd\ne\n", "a\nX\nc\nd\ne\n"),
        ("x\na\nb\nc\nd\ne\n", "a\nb\nc\nd\ne\ny\n", "x\na\nb\nc\nd\ne\ny\n"),
        ("a\nc\nd\ne\n", "a\nb\nc\nd\n", "a\nc\nd\n"),
        ("a\nb\nc\nd\ne", "A\nb\nc\nd\ne\n", "A\nb\nc\nd\ne"),
        ("", BASE, ""),
    ],
)
def test_what_one_side_changed_is_taken(ours: str, theirs: str, merged: str) -> None:
    assert (merge(BASE, ours, theirs).text, merge(BASE, ours, theirs).conflicts) == (merged, [])


def test_a_conflict_has_our_side_and_names_the_place() -> None:
    found = merge(BASE, "a\nb\nC\nd\ne\n", "A\nb\nX\nd\ne\n")
    assert found.text == "A\nb\nC\nd\ne\n"
    assert [(x.line, x.base, x.ours, x.theirs) for x in found.conflicts] == [(3, ("c\n",), ("C\n",), ("X\n",))]


def test_lines_that_both_sides_have_are_no_conflict() -> None:
    found = merge("a\nz\n", "a\n1\n2\n3\nz\n", "a\n1\nX\n3\nz\n")
    assert [(x.ours, x.theirs) for x in found.conflicts] == [(("2\n",), ("X\n",))]


def edited(lines: list[str], rng: random.Random) -> list[str]:
    out = list(lines)
    for _ in range(rng.randint(0, 3)):
        at = rng.randint(0, len(out))
        what = rng.random()
        if what < 0.35:
            out[at:at] = [f"new {rng.randint(0, 5)}\n" for _ in range(rng.randint(1, 2))]
        elif what < 0.65:
            del out[at : at + rng.randint(1, 3)]
        else:
            out[at : at + 1] = [f"other {rng.randint(0, 5)}\n"]
    return out


def by_git(folder: Path, base: str, ours: str, theirs: str) -> tuple[str, bool]:
    for name, text in (("base", base), ("ours", ours), ("theirs", theirs)):
        (folder / name).write_text(text)
    words = ["git", "merge-file", "-p", "ours", "base", "theirs"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout, done.returncode == 0


def test_it_agrees_with_git_on_many_texts(tmp_path: Path) -> None:
    """Where both merge cleanly they give the same; where git sees a conflict there is one, and seldom else."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    rng = random.Random(4)
    clean = conflicts = ours_only = 0
    for _ in range(400):
        lines = [f"line {i}\n" for i in range(rng.randint(3, 14))]
        base, ours, theirs = "".join(lines), "".join(edited(lines, rng)), "".join(edited(lines, rng))
        mine = merge(base, ours, theirs)
        text, git_is_clean = by_git(tmp_path, base, ours, theirs)
        if not git_is_clean:
            assert mine.conflicts, (base, ours, theirs)
            conflicts += 1
        elif mine.conflicts:
            ours_only += 1
        else:
            assert mine.text == text
            clean += 1
    assert clean > 100
    assert conflicts > 100
    assert ours_only < 20


def test_whatever_is_merged_no_line_of_ours_is_lost_unless_theirs_removed_it() -> None:
    rng = random.Random(5)
    for _ in range(300):
        lines = [f"line {i}\n" for i in range(10)]
        ours, theirs = edited(lines, rng), edited(lines, rng)
        merged = merge("".join(lines), "".join(ours), "".join(theirs)).text.splitlines(keepends=True)
        removed = [line for line in lines if line not in theirs]
        assert all(line in merged for line in ours if line not in removed)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.toml", "a = 1\n", ""),
        ("a.toml", "a =\n", "it is not TOML"),
        ("a.yaml", "a:\n  b: 1\n", ""),
        ("a.yml", "a: 1\nb: 2\na: 3\n", "it is not YAML: a is there twice"),
        ("a.yaml", "a: [\n", "it is not YAML"),
        ("a.json", "{", "it is not JSON"),
        ("a.py", "def f(:\n", "it is not Python"),
        ("a.md", "anything", ""),
        ("a.md", "<<<<<<< ours\n", "markers of a conflict"),
        ("Makefile", "X ?= 1\n.PHONY: a\n\na: b\n\techo $(X) \\\n  more\n\nifeq (1,1)\nY := 2\nendif\n", ""),
        ("Makefile", "echo\n", "no rule, variable or recipe"),
        ("Makefile", "\techo\n", "a recipe without a rule"),
        ("Makefile", "a:\n\techo\na:\n\techo\n", "a has two recipes"),
        ("Makefile", "ifeq (1,1)\na:\n\techo\n", "an if or a define that does not end"),
        ("Dockerfile", "# a\nARG X\nFROM x AS y\nRUN a \\\n  # note\n  && b\n", ""),
        ("Dockerfile", "RUN a\nFROM x\n", "does not begin FROM"),
        ("Dockerfile", "FROM x\n&& b\n", "&& is no instruction"),
    ],
)
def test_a_file_of_a_kind_must_be_one(name: str, text: str, problem: str) -> None:
    found = problem_of(name, text)
    assert (problem in found) if problem else found == ""
