"""`trilho log`: what is kept, and a person forgotten wherever the log and the past hold them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trilho.core import records as r
from trilho.data.labels import LOADED, forget_loaded
from trilho.project.forgetting import typed
from trilho_runtime.serving.online import SqlitePast

if TYPE_CHECKING:
    from tests.cli.conftest import Made, Verb

SERVED = "2024-05-01T10:00:00.000Z"


def lines(folder: Path, part: str, *rows: dict[str, Any]) -> Path:
    path = folder / part / f"v1-{os.getpid()}-1000.jsonl"  # its writer, this process, has it open
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(path.read_bytes() if path.exists() else b"")
    with path.open("ab") as handle:
        handle.write(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return path


def served(number: int, person: Any) -> dict[str, Any]:
    return {"v": 2, "id": f"r{number}.0", "t": SERVED, "n": 1, "x": {"id": person, "temp": number}, "y": 1.0}


def everywhere(folder: Path, what: bytes) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and what in path.read_bytes()]


def test_of_a_person_nothing_is_left_and_the_journal_says_who_did_it(trilho: Verb, made: Made) -> None:
    log = made.home / "log" / "bikes"
    lines(log, "predictions", *(served(n, f"person-{n % 2}") for n in range(6)))
    lines(log, "labels", {"v": 1, "id": "r1.0", "y": 5.0, "t": SERVED})
    history = made.home / "history" / "bikes.sqlite"
    past = SqlitePast(history, writable=True)
    past.put([(["a"], "2024-05-01", f"row-{n}", {"id": f"person-{n}", "temp": n}) for n in range(2)])
    past.close()
    assert trilho("log", "--json").json["held"] == 6
    assert everywhere(log, b"person-1")

    refused = trilho("log", "forget", "id", "person-1")
    assert (refused.code, "add --yes" in refused.err) == (2, True)
    assert "not touched" in trilho("log", "forget", "id", "person-1", "--dry-run").out
    assert trilho("log", "--json").json["held"] == 6
    found = trilho("log", "forget", "id", "person-1", "--yes", "--why", "asked for", "--json").json
    assert (found["rows"], found["past"], found["why"]) == (3, 1, "asked for")
    assert everywhere(made.home, b"person-1") == []
    assert everywhere(made.home, b"person-0") != []
    told = trilho("log", "--json").json
    assert (told["held"], told["counters"]["forgotten"]) == (3, 3)
    record = list(made.journal.read_from())[-1]
    assert isinstance(record.payload, r.RowsForgotten)
    assert (record.payload.field, record.payload.rows, record.payload.why) == ("id", 3, "asked for")
    assert record.actor
    assert trilho("log", "forget", "id", "person-1", "--yes", "--json").json["rows"] == 0


def test_a_number_is_forgotten_as_number_and_as_text(trilho: Verb, made: Made) -> None:
    log = made.home / "log" / "bikes"
    lines(log, "predictions", *(served(n, person) for n, person in enumerate((7, "7", 7.0, 8, "007"))))
    past = SqlitePast(made.home / "history" / "bikes.sqlite", writable=True)
    past.put([(["a"], f"2024-05-0{n}", f"row-{n}", {"id": x}) for n, x in enumerate((7, "7", 7.0, 8), 1)])
    past.close()
    found = trilho("log", "forget", "id", "7", "--yes", "--json").json
    assert (found["rows"], found["past"]) == (3, 3)
    assert trilho("log", "forget", "id", "007", "--yes", "--json").json["rows"] == 1


def test_a_field_that_the_log_never_holds_is_refused(trilho: Verb, made: Made) -> None:
    toml = made.folder / "trilho.toml"
    toml.write_text(toml.read_text() + '\n[serve]\nmask = { cpf = "drop" }\n')
    refused = trilho("log", "forget", "cpf", "1", "--yes")
    assert (refused.code, "serve.mask drops cpf" in refused.err) == (2, True)


def test_that_a_key_was_loaded_is_forgotten_too(tmp_path: Path) -> None:
    (tmp_path / LOADED).write_text('["7","a"]\n["8","a"]\n["8","7"]\n')
    assert forget_loaded(tmp_path, ["cpf", "day"], "other", "7") == 0
    assert forget_loaded(tmp_path, ["cpf", "day"], "cpf", 7) == 1
    assert (tmp_path / LOADED).read_text() == '["8","a"]\n["8","7"]\n'


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), ("-2", -2), ("1.5", 1.5), ("007", "007"), ("7.0", 7.0), ("a", "a"), ("inf", "inf")]
)
def test_a_value_is_a_number_where_it_is_written_as_one(text: str, value: Any) -> None:
    assert (typed(text), type(typed(text))) == (value, type(value))
