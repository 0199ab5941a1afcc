"""The documents say what is true, as far as a machine can tell: verbs, flags, links, keys, the words' table."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from trilho.cli.app import app
from trilho.cli.reference import reference
from trilho.config import Settings, Table

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")])
PROGRAM: Any = typer.main.get_command(app)
PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_]*|<[^>]+>|\.{3}|…")
BEFORE = r"(?:^|[;|] | {2}|&& |Next: |Undo: |Hint: )\s*(?:\$ )?(?:\S*/)?"
COMMAND = re.compile(BEFORE + r"(trilho(?=\s|$)(?:(?! {2})[^;|&\n])*)", re.MULTILINE)  # two spaces: words about it
KEY = re.compile(r"(?:\[(?P<table>[a-z]+)\])?\s*(?P<key>[a-z][a-z_.]*)(?:\s+=\s.*)?")


def code(text: str) -> Iterator[str]:
    """Give a page's pieces of code: fenced or indented blocks, and spans in a line."""
    fenced = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    for match in fenced.finditer(text):
        yield match[2]
    rest = fenced.sub("", text)
    indented = re.compile(r"(?:^ {4}.*\n?)+", re.MULTILINE)
    for match in indented.finditer(rest):
        yield match[0]
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", indented.sub("", rest)))


def commands(text: str) -> list[list[str]]:
    """Give the words of each command of ours in a page's code.

    >>> commands("    trilho rollback --yes   # at once")
    [['trilho', 'rollback', '--yes']]
    """
    found = []
    for piece in code(text):
        for match in COMMAND.finditer(piece):
            lexer = shlex.shlex(match[1], posix=True)
            lexer.whitespace_split = True
            try:
                found.append(list(lexer))
            except ValueError:  # a quote that is closed elsewhere is prose
                continue
    return found


def wrong_command(words: list[str]) -> str | None:
    """Say what of a command does not exist.

    >>> wrong_command(["trilho", "-C", "DIR", "relaese", "2"])
    'no verb relaese'
    """
    at, plain = PROGRAM, False
    rest = [word.strip("[],.:") for word in words[1:]]
    while rest:
        word = rest.pop(0)
        if word.startswith("-"):
            flags = {name: option for option in at.params for name in (*option.opts, *option.secondary_opts)}
            name = word.partition("=")[0]
            if name not in {*flags, "--help", "-h"}:
                return f"no flag {name} of {at.name}"
            if rest and name in flags and not getattr(flags[name], "is_flag", False):
                rest.pop(0)
        elif hasattr(at, "commands") and word and not plain and not PLACEHOLDER.fullmatch(word):
            if word not in at.commands:
                return f"no verb {word}" + (f" of {at.name}" if at is not PROGRAM else "")
            at = at.commands[word]
        else:
            plain = True
    return None


def keys(text: str) -> Iterator[str]:
    """Give the keys of trilho.toml that a page's spans of code name: `[data] source`, `gate.min`, `served = true`."""
    tables = {name for name, field in Settings.model_fields.items() if _table(field.annotation)}
    for piece in code(text):
        match = KEY.fullmatch(piece)
        alone = re.fullmatch(r"\[([a-z]+)\]", piece)
        if alone:
            yield alone[1]
        elif match and match["table"]:
            yield f"{match['table']}.{match['key']}"
        elif match and (" = " in piece or (match["key"].partition(".")[0] in tables and "." in match["key"])):
            yield match["key"]


def _table(kind: Any) -> type[Table] | None:
    return kind if isinstance(kind, type) and issubclass(kind, Table) else None


def exists(key: str) -> bool:
    """Say whether a key is in trilho.toml: whole with its table, or alone in any of the tables."""
    tables = {name: table for name, field in Settings.model_fields.items() if (table := _table(field.annotation))}
    head, _, name = key.partition(".")
    if name:
        return head in tables and name in tables[head].model_fields
    return key in Settings.model_fields or any(key in table.model_fields for table in tables.values())


def slugs(text: str) -> set[str]:
    """Give the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
class TestPage:
    def test_names_only_verbs_and_flags_that_exist(self, page: Path) -> None:
        named = commands(page.read_text(encoding="utf-8"))
        assert [(" ".join(words), problem) for words in named if (problem := wrong_command(words))] == []

    def test_links_lead_somewhere(self, page: Path) -> None:
        text = page.read_text(encoding="utf-8")
        broken = []
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = link.partition("#")
            target = page if not path else page.parent / path
            if link.startswith(("http://", "https://")):
                continue
            if not target.exists() or (anchor and anchor not in slugs(target.read_text(encoding="utf-8"))):
                broken.append(link)
        assert broken == []

    def test_names_only_settings_that_exist(self, page: Path) -> None:
        assert [key for key in keys(page.read_text(encoding="utf-8")) if not exists(key)] == []

    def test_shows_no_settings_file_with_unknown_keys(self, page: Path) -> None:
        blocks = re.findall(r"^```toml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        tables = [(name, table) for block in blocks for name, table in tomllib.loads(block).items()]
        shown = [f"{name}.{key}" for name, table in tables if isinstance(table, dict) for key in table]
        assert [key for key in shown if not exists(key)] == []


def test_the_pages_are_found() -> None:
    found = {str(page.relative_to(ROOT)) for page in PAGES}
    assert {"README.md", "docs/quickstart.md", "docs/reference.md", "examples/bike-demand/README.md"} <= found
    assert sum(len(commands(page.read_text(encoding="utf-8"))) for page in PAGES) > 100


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("Type `trilho relaese 2`.", "no verb relaese"),
        ("    trilho models; trilho -C DIR journal verfy", "no verb verfy of journal"),
        ("```\n$ trilho release 2 --foce\n```", "no flag --foce of release"),
        ("```\nNext: trilho lables\n```", "no verb lables"),
    ],
)
def test_a_wrong_command_is_noticed(page: str, problem: str) -> None:
    assert [wrong_command(words) for words in commands(page)][-1] == problem


@pytest.mark.parametrize("text", ["`[data] sorce`", "`[wach]`", "`gate.margn`", '`holdot = "last 60 days"`'])
def test_a_wrong_key_is_noticed(text: str) -> None:
    assert [exists(key) for key in keys(text)] == [False]


def test_the_words_have_a_well_formed_table() -> None:
    lines = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert rows[:2] == [["word", "means", "elsewhere"], ["---"] * 3]
    assert [row for row in rows if len(row) != 3 or not row[0] or not row[1] or row[1].endswith(".")] == []
    words = [word.strip() for row in rows[2:] for word in row[0].split(",")]
    assert sorted(words) == sorted(set(words))


def test_the_reference_is_up_to_date() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == reference(), "docs/reference.md is out of date: make docs"
