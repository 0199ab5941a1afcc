"""Packages in a storage: brought whole or not at all, whatever the network does."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from trilho.testing.emulator.http import Router, Server
from trilho.testing.emulator.rules import Rules
from trilho.testing.emulator.storage import StorageService
from trilho_runtime.processes import download, storage
from trilho_runtime.processes.download import DownloadError, Source, google_token
from trilho_runtime.processes.storage import bring, cache_folder, local

FILES = {
    "estimator.bin": bytes(range(256)) * 4000,
    "code/shop/features.py": b"def build(x):\n    return x\n",
    "empty": b"",
}
Fault = Callable[["Handler", bytes], bool]  # says whether it has answered


def manifest_of(files: dict[str, bytes]) -> bytes:
    return json.dumps({"files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}}).encode()


@dataclass
class World:
    """What a storage holds, what goes wrong, and what was asked."""

    files: dict[str, bytes]
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    address: str = ""

    def times(self, name: str) -> int:
        return Counter(path.rpartition("/")[2] for path, _ in self.asked)[name]


class Handler(BaseHTTPRequestHandler):
    """Gives files as Cloud Storage and a plain server do, from the byte that is asked for."""

    protocol_version = "HTTP/1.1"
    world: World

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.world.asked.append((path, {name.lower(): value for name, value in self.headers.items()}))
        name = path.partition("/o/")[2].removeprefix("bikes/3/") or path.removeprefix("/bikes/3/")
        data = self.world.files.get(name)
        faults = self.world.faults.get(name, [])
        if faults and faults.pop(0)(self, data or b""):
            return
        if data is None:
            self.answer(404, b"{}")
            return
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if start and start >= len(data):
            self.answer(416, b"")
        else:
            self.answer(206 if start else 200, data[start:])

    def answer(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for header, value in {"Content-Length": str(len(body) if length is None else length), **headers}.items():
            self.send_header(header.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def status(number: int, **headers: str) -> Fault:
    def fault(handler: Handler, data: bytes) -> bool:
        handler.answer(number, b"no", None, **headers)
        return True

    return fault


def cut(at: int) -> Fault:
    """End the connection after so many bytes of the rest that is asked for."""

    def fault(handler: Handler, data: bytes) -> bool:
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        handler.answer(206 if start else 200, data[start : start + at], length=len(data) - start)
        handler.close_connection = True
        return True

    return fault


def silent(handler: Handler, data: bytes) -> bool:
    threading.Event().wait(0.3)
    handler.close_connection = True
    return True


def other(handler: Handler, data: bytes) -> bool:
    handler.answer(200, b"x" * len(data))
    return True


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World({**FILES, "manifest.json": manifest_of(FILES)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"world": made}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    made.address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", made.address)
    monkeypatch.setattr(download, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(download, "LONGEST_WAIT", 0.002)
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


GS = "gs://models/bikes/3"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("uri", [GS, GS + "/", "http"])
def test_a_package_is_brought_whole_and_named_by_its_manifest(world: World, tmp_path: Path, uri: str) -> None:
    folder = bring(f"{world.address}/bikes/3" if uri == "http" else uri, tmp_path)
    assert contents(folder) == world.files
    assert folder == tmp_path / hashlib.sha256(world.files["manifest.json"]).hexdigest()


def test_what_is_here_is_not_asked_for_again(world: World, tmp_path: Path) -> None:
    first = bring(GS, tmp_path)
    world.asked.clear()
    assert bring(GS, tmp_path) == first
    assert [path.rpartition("/")[2] for path, _ in world.asked] == ["manifest.json"]


def test_what_was_changed_here_is_brought_again(world: World, tmp_path: Path) -> None:
    folder = bring(GS, tmp_path)
    (folder / "estimator.bin").write_bytes(b"changed")
    assert contents(bring(GS, tmp_path)) == world.files


def test_a_signature_comes_along_where_there_is_one(world: World, tmp_path: Path) -> None:
    world.files["manifest.sig"] = b'{"schema": 1}'
    assert (bring(GS, tmp_path) / "manifest.sig").read_bytes() == b'{"schema": 1}'


def test_a_file_is_resumed_where_the_connection_broke(world: World, tmp_path: Path) -> None:
    world.faults["estimator.bin"] = [cut(300_000), cut(300_000)]
    assert contents(bring(GS, tmp_path)) == world.files
    ranges = [told.get("range") for path, told in world.asked if path.endswith("estimator.bin")]
    assert ranges[0] is None
    assert all(found is not None and int(found[6:-1]) > 0 for found in ranges[1:])


def test_a_later_start_goes_on_where_an_earlier_one_ended(world: World, tmp_path: Path) -> None:
    world.faults["estimator.bin"] = [cut(300_000), *[status(503)] * download.ATTEMPTS]
    with pytest.raises(DownloadError):
        bring(GS, tmp_path)
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
    world.asked.clear()
    assert contents(bring(GS, tmp_path)) == world.files
    ranges = [told.get("range") for path, told in world.asked if path.endswith("estimator.bin")]
    assert len(ranges) == 1
    assert ranges[0] is not None


@pytest.mark.parametrize("number", [408, 429, 500, 502, 503, 504])
def test_a_busy_storage_is_asked_again(world: World, tmp_path: Path, number: int) -> None:
    world.faults = {name: [status(number), status(number)] for name in ("manifest.json", "empty")}
    assert contents(bring(GS, tmp_path)) == world.files
    assert world.times("manifest.json") == 3


def test_a_retry_after_is_kept_to(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    monkeypatch.setattr(download, "LONGEST_WAIT", 16.0)
    world.faults["empty"] = [status(429, Retry_After="7")]
    bring(GS, tmp_path)
    assert waited == [7.0]


def test_a_storage_that_stays_away_is_said_in_two_lines(world: World, tmp_path: Path) -> None:
    world.faults["estimator.bin"] = [status(503)] * 20
    with pytest.raises(DownloadError) as caught:
        bring(GS, tmp_path)
    assert caught.value.exit_code == 5
    fact, hint = str(caught.value).splitlines()
    assert fact == f"{GS}/estimator.bin: status 503 ({download.ATTEMPTS} attempts without a byte)"
    assert hint.startswith("Hint: ")


def test_a_silent_network_is_given_up(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "STALLED_SECONDS", 0.05)
    world.faults["manifest.json"] = [silent] * 20
    with pytest.raises(DownloadError, match=r"nothing came for 0\.05 s \(6 attempts") as caught:
        bring(GS, tmp_path)
    assert caught.value.exit_code == 5


def test_nobody_there_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(download, "LONGEST_WAIT", 0.001)
    with pytest.raises(DownloadError, match="Connection refused") as caught:
        bring("http://127.0.0.1:1/bikes", tmp_path)
    assert caught.value.exit_code == 5


def test_progress_takes_the_count_of_failures_back(world: World, tmp_path: Path) -> None:
    world.faults["estimator.bin"] = [cut(50_000) for _ in range(2 * download.ATTEMPTS)]
    assert contents(bring(GS, tmp_path)) == world.files


def test_what_came_otherwise_than_the_manifest_says_is_no_package(world: World, tmp_path: Path) -> None:
    world.faults["estimator.bin"] = [other]
    assert contents(bring(GS, tmp_path)) == world.files
    world.files["estimator.bin"] = b"another model"
    with pytest.raises(DownloadError, match=r"estimator\.bin: its digest is not the one in manifest\.json") as caught:
        bring(GS, tmp_path / "new")
    assert caught.value.exit_code == 1
    assert [path for path in (tmp_path / "new").iterdir() if not path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "manifest.json"])
def test_a_manifest_cannot_write_elsewhere(world: World, tmp_path: Path, name: str) -> None:
    world.files["manifest.json"] = manifest_of({name: b"x"})
    with pytest.raises(DownloadError, match="lies outside the package"):
        bring(GS, tmp_path)


@pytest.mark.parametrize("text", [b"", b"[]", b"<html>", b'{"files": 3}', b'{"no": {}}'])
def test_what_is_no_manifest_is_said(world: World, tmp_path: Path, text: bytes) -> None:
    world.files["manifest.json"] = text
    with pytest.raises(DownloadError, match="is no manifest of a model package"):
        bring(GS, tmp_path)


@pytest.mark.parametrize(("number", "code"), [(404, 1), (403, 1), (401, 1), (400, 1)])
def test_what_no_second_attempt_mends_ends_at_once(world: World, tmp_path: Path, number: int, code: int) -> None:
    world.faults["manifest.json"] = [status(number)]
    with pytest.raises(DownloadError) as caught:
        bring(GS, tmp_path)
    assert caught.value.exit_code == code
    assert world.times("manifest.json") == 1


def test_two_that_start_together_bring_it_once(world: World, tmp_path: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(bring(GS, tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert world.times("estimator.bin") == 1


def test_a_full_disk_is_said(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="cannot be kept in") as caught:
        bring(GS, tmp_path / "file")
    assert caught.value.exit_code == 1


class TestTokens:
    def test_one_from_the_environment_is_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLOUDSDK_AUTH_ACCESS_TOKEN", "ya29.given")
        token = google_token()
        assert token is not None
        assert (token.text, token.fixed) == ("ya29.given", True)

    def test_the_machine_says_who_it_is(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CLOUDSDK_AUTH_ACCESS_TOKEN", raising=False)
        monkeypatch.setenv("GCE_METADATA_HOST", world.address.removeprefix("http://"))
        world.files[download.TOKEN_PATH] = json.dumps({"access_token": "ya29.own", "expires_in": 3600}).encode()
        token = google_token()
        assert token is not None
        assert token.text == "ya29.own"
        assert world.asked[-1][1]["metadata-flavor"] == "Google"

    def test_where_nobody_says_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CLOUDSDK_AUTH_ACCESS_TOKEN", raising=False)
        monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
        assert google_token() is None

    def test_a_token_goes_to_the_storage(self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("STORAGE_EMULATOR_HOST")
        monkeypatch.setattr(download, "STORAGE", world.address)
        monkeypatch.setenv("CLOUDSDK_AUTH_ACCESS_TOKEN", "ya29.given")
        assert contents(bring(GS, tmp_path)) == world.files
        assert {told.get("authorization") for _, told in world.asked} == {"Bearer ya29.given"}

    def test_a_token_does_not_follow_to_another_server(
        self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("STORAGE_EMULATOR_HOST")
        monkeypatch.setattr(download, "STORAGE", world.address)
        monkeypatch.setenv("CLOUDSDK_AUTH_ACCESS_TOKEN", "ya29.given")
        world.faults["empty"] = [status(302, Location=f"{world.address}/bikes/3/empty")]
        bring(GS, tmp_path)
        told = [headers for path, headers in world.asked if path == "/bikes/3/empty"]
        assert told
        assert "authorization" not in told[0]


class TestLocal:
    def test_a_folder_is_itself(self, tmp_path: Path) -> None:
        assert local(tmp_path) == tmp_path
        assert local(f"file://{tmp_path}/a%20b") == tmp_path / "a b"

    def test_other_storages_are_refused_by_name(self) -> None:
        with pytest.raises(DownloadError, match="s3 is no storage known here") as caught:
            local("s3://bucket/model")
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize("uri", ["gs://", "gs:///x"])
    def test_an_address_without_a_bucket_is_none(self, uri: str) -> None:
        with pytest.raises(DownloadError, match="is no address of a folder"):
            Source(uri)

    def test_the_cache_is_where_it_was_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRILHO_CACHE", str(tmp_path))
        assert cache_folder() == tmp_path / "packages"
        monkeypatch.delenv("TRILHO_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
        assert cache_folder() == tmp_path / "own" / "trilho" / "packages"

    def test_a_home_that_cannot_be_written_has_another(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert cache_folder().name.startswith("trilho-packages-")


def test_progress_is_said(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                          monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(storage, "REPORT_SECONDS", 0.0)
    bring(GS, tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(f"{GS}: 3 files, 1.0 MB in ")
    assert any("of 3 files" in line for line in said)


def test_the_emulator_and_the_server_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = Rules()
    service = StorageService(tmp_path / "gcs", rules, project="p", location="southamerica-east1")
    server = Server(Router(service.routes, rules))
    server.start()
    try:
        files = {**FILES, "manifest.json": manifest_of(FILES)}
        for name, data in files.items():
            path = tmp_path / "gcs" / "buckets" / "models" / "bikes" / "3" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.address)
        assert contents(bring(GS, tmp_path / "cache")) == files
    finally:
        server.stop()
        service.close()
