"""The catalogue of texts: the same keys and blanks in both languages, and none that nobody says."""

from __future__ import annotations

import string
from pathlib import Path

import pytest

import trilho
from trilho.watch.wording import CATALOGUE, ENGLISH, number, say


def blanks(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_text_is_there_in_both_languages() -> None:
    assert set(CATALOGUE["en"]) == set(CATALOGUE["pt-BR"])


@pytest.mark.parametrize("key", sorted(CATALOGUE["en"]))
def test_both_languages_have_the_same_blanks(key: str) -> None:
    assert blanks(CATALOGUE["en"][key]) == blanks(CATALOGUE["pt-BR"][key])


def test_months_are_twelve() -> None:
    assert [len(texts["month"].split()) for texts in CATALOGUE.values()] == [12, 12]


def test_an_unknown_key_is_an_error() -> None:
    with pytest.raises(KeyError):
        say("en", "no.such.key")


def test_numbers_have_the_sign_of_the_language() -> None:
    assert number("pt-BR", 12345.678, 1) == "12.345,7"


def test_every_text_is_said_somewhere() -> None:
    root = Path(str(trilho.__file__)).parent
    source = "".join(p.read_text() for p in root.rglob("*.py") if p.name != "wording.py").replace("'", '"')
    families = {key.partition(".")[0] for key in ENGLISH}
    said = {family for family in families if f'f"{family}.{{' in source}
    assert [k for k in ENGLISH if f'"{k}"' not in source and k.partition(".")[0] not in said] == []
