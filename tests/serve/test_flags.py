"""The settings of [serve] reach the servers, and what is secret reaches them otherwise."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from trilho.config import Serve
from trilho.errors import ConfigError
from trilho.serve.flags import environment, router_flags, server_flags, server_module, write_keys
from trilho_runtime.serving.arguments import read_arguments

KEY = "a-key-of-more-than-16-letters"


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    monkeypatch.setenv("TRILHO_SECRETS", str(folder))
    return folder


def test_a_server_understands_all_that_it_is_told(tmp_path: Path) -> None:
    settings = Serve(
        entries="full",
        max_rows=7,
        max_body=9000,
        mask={"cpf": "hash", "name": "drop"},
        fsync=True,
        extra_fields="refuse",
        topic="projects/shop/topics/served",
    )
    given = read_arguments(["package", *server_flags(settings, tmp_path)])
    assert (given.entries, given.max_rows, given.max_body, given.fsync) == ("full", 7, 9000, True)
    assert (given.extra_fields, json.loads(given.mask)) == ("refuse", {"cpf": "hash", "name": "drop"})
    assert given.topic == "projects/shop/topics/served"
    assert (given.log, given.profiles) == (tmp_path / "predictions", tmp_path / "profiles")


def test_the_router_asks_who_calls(tmp_path: Path) -> None:
    settings = Serve(api_keys=["secret://key"], audience="https://bikes", callers=["a@b.c", "d@e.f"], max_body=5000)
    told = router_flags(settings, tmp_path / "log", tmp_path)
    assert told == [
        "--label-dir", str(tmp_path / "log" / "labels"), "--max-body", "5000", "--api-key", f"file:{tmp_path / 'keys'}",
        "--audience", "https://bikes", "--caller", "a@b.c", "--caller", "d@e.f",
    ]  # fmt: skip
    assert router_flags(Serve(), tmp_path, tmp_path, opened=True)[-1] == "--open"


def test_workers_have_a_module_of_their_own() -> None:
    assert server_module(Serve(), "server", "workers") == ["server"]
    assert server_module(Serve(workers=3), "server", "workers") == ["workers", "--workers", "3"]


def test_keys_are_written_for_their_owner_alone(tmp_path: Path, secrets: Path) -> None:
    (secrets / "one").write_text(f"{KEY}-1\n")
    (secrets / "two").write_text(f"{KEY}-2")
    write_keys(["secret://one", "secret://two"], tmp_path / "endpoint")
    file = tmp_path / "endpoint" / "keys"
    assert file.read_text() == f"{KEY}-1\n{KEY}-2\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    write_keys([], tmp_path / "endpoint")
    assert not file.exists()


def test_a_secret_that_is_not_there_is_said(tmp_path: Path, secrets: Path) -> None:
    with pytest.raises(ConfigError, match="secret://none is not here"):
        write_keys(["secret://none"], tmp_path)


def test_a_key_that_is_too_short_is_said_and_not_shown(tmp_path: Path, secrets: Path) -> None:
    (secrets / "short").write_text("hunter2")
    with pytest.raises(ConfigError, match=r"serve\.api_keys holds a key of 7 characters") as caught:
        write_keys(["secret://short"], tmp_path)
    assert "hunter2" not in str(caught.value)
    assert not (tmp_path / "keys").exists()


def test_the_key_of_hashes_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment(Serve(mask={"name": "drop"}), tmp_path) == {}
    first = environment(Serve(mask={"cpf": "hash"}), tmp_path)
    assert len(first["TRILHO_MASK_KEY"]) == 64
    assert environment(Serve(mask={"cpf": "hash"}), tmp_path) == first
    assert stat.S_IMODE((tmp_path / "mask.key").stat().st_mode) == 0o600
    monkeypatch.setenv("TRILHO_MASK_KEY", "one of the person's own")
    assert environment(Serve(mask={"cpf": "hash"}), tmp_path) == {}
