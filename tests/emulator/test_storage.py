"""Cloud Storage, spoken to by its real client."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.cloud.storage")

from google.api_core import exceptions
from google.cloud import storage

from trilho.testing.emulator.http import Router, Server
from trilho.testing.emulator.rules import Rules
from trilho.testing.emulator.storage import StorageService


def anonymous() -> Any:
    from google.auth import credentials

    return credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]


CHUNK = 256 * 1024


@dataclass
class Emulated:
    """A storage service that runs, its rules and its folder."""

    client: Any
    rules: Rules
    root: Path
    address: str

    def file(self, name: str, bucket: str = "models") -> Path:
        return self.root / "buckets" / bucket / name


@pytest.fixture
def emulated(tmp_path: Path) -> Iterator[Emulated]:
    rules = Rules()
    service = StorageService(tmp_path, rules, project="p", location="southamerica-east1")
    server = Server(Router(service.routes, rules))
    server.start()
    client = storage.Client("p", anonymous(), client_options={"api_endpoint": server.address})
    client.create_bucket("models")
    yield Emulated(client, rules, tmp_path, server.address)
    client.close()
    server.stop()
    service.close()


@pytest.fixture
def bucket(emulated: Emulated) -> Any:
    return emulated.client.bucket("models")


class TestBuckets:
    def test_a_bucket_is_made_once(self, emulated: Emulated) -> None:
        made = emulated.client.create_bucket("data-1", location="us-east1")
        assert (made.name, made.location, made.metageneration) == ("data-1", "US-EAST1", 1)
        with pytest.raises(exceptions.Conflict, match="already own it"):
            emulated.client.create_bucket("data-1")

    def test_buckets_are_listed_with_a_prefix(self, emulated: Emulated) -> None:
        for name in ("data-1", "data-2", "other"):
            emulated.client.create_bucket(name)
        assert [found.name for found in emulated.client.list_buckets(prefix="data")] == ["data-1", "data-2"]
        assert len(list(emulated.client.list_buckets(page_size=1))) == 4

    def test_an_unknown_bucket_is_not_found(self, emulated: Emulated) -> None:
        assert emulated.client.lookup_bucket("nothing") is None
        with pytest.raises(exceptions.NotFound, match="The specified bucket does not exist"):
            emulated.client.bucket("nothing").blob("x").upload_from_string("x")

    def test_labels_change_with_the_metageneration(self, emulated: Emulated) -> None:
        made = emulated.client.get_bucket("models")
        made.labels = {"team": "credit"}
        made.patch(if_metageneration_match=1)
        again = emulated.client.get_bucket("models")
        assert (again.labels, again.metageneration) == ({"team": "credit"}, 2)
        with pytest.raises(exceptions.PreconditionFailed):
            made.patch(if_metageneration_match=1)

    def test_only_an_empty_bucket_is_deleted(self, emulated: Emulated, bucket: Any) -> None:
        bucket.blob("a/b").upload_from_string("x")
        with pytest.raises(exceptions.Conflict, match="not empty"):
            bucket.delete()
        bucket.delete(force=True)
        assert not emulated.file("").exists()
        assert not bucket.exists()

    def test_a_short_name_is_let_pass(self, emulated: Emulated) -> None:
        emulated.client.create_bucket("b")
        assert emulated.client.bucket("b").exists()

    @pytest.mark.parametrize("name", ["..", "%2E%2E", "..%2Fup", "UP", "a..b", "%00"])
    def test_a_name_that_is_no_folder_of_ours_is_refused(self, emulated: Emulated, name: str) -> None:
        with socket.create_connection(("127.0.0.1", int(emulated.address.rpartition(":")[2]))) as raw:
            raw.sendall(f"GET /storage/v1/b/{name}/o HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            said = raw.makefile("rb").read()
        assert said.startswith(b"HTTP/1.1 400 ")
        assert b"Invalid bucket name" in said


class TestUploads:
    def test_an_object_is_a_plain_file(self, emulated: Emulated, bucket: Any) -> None:
        blob = bucket.blob("models/1/model.json")
        blob.metadata = {"owner": "ana"}
        blob.upload_from_string('{"w": 1}', content_type="application/json")
        assert emulated.file("models/1/model.json").read_text() == '{"w": 1}'
        seen = bucket.get_blob("models/1/model.json")
        assert seen.metadata == {"owner": "ana"}
        assert (seen.size, seen.content_type, seen.metageneration) == (8, "application/json", 1)
        assert seen.md5_hash == base64.b64encode(hashlib.md5(b'{"w": 1}').digest()).decode()
        assert seen.crc32c == blob.crc32c
        assert seen.generation == blob.generation > 1_600_000_000_000_000

    @pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, 3 * CHUNK, 3 * CHUNK + 17])
    def test_a_file_comes_in_chunks(self, emulated: Emulated, bucket: Any, size: int) -> None:
        content = bytes(range(256)) * (size // 256 + 1)
        bucket.blob("big", chunk_size=CHUNK).upload_from_file(io.BytesIO(content[:size]), size=size)
        assert emulated.file("big").read_bytes() == content[:size]
        assert bucket.blob("big").download_as_bytes() == content[:size]

    def test_a_stream_of_unknown_length_is_written(self, bucket: Any) -> None:
        with bucket.blob("log", chunk_size=CHUNK).open("w") as file:
            for number in range(60_000):
                file.write(f"line {number}\n")
        assert bucket.blob("log").download_as_text().count("\n") == 60_000

    def test_a_broken_upload_is_taken_up_where_it_stopped(self, emulated: Emulated, bucket: Any) -> None:
        import requests  # type: ignore[import-untyped]

        url = bucket.blob("resumed").create_resumable_upload_session(size=CHUNK + 5)
        first = requests.put(url, b"a" * CHUNK, headers={"Content-Range": f"bytes 0-{CHUNK - 1}/{CHUNK + 5}"})
        asked = requests.put(url, headers={"Content-Range": f"bytes */{CHUNK + 5}"})
        assert [(at.status_code, at.headers["Range"]) for at in (first, asked)] == [(308, f"bytes=0-{CHUNK - 1}")] * 2
        assert not emulated.file("resumed").exists()
        gap = requests.put(url, b"x", headers={"Content-Range": f"bytes {CHUNK + 4}-{CHUNK + 4}/{CHUNK + 5}"})
        last = requests.put(url, b"ab" + b"c" * 3, headers={"Content-Range": f"bytes {CHUNK}-{CHUNK + 4}/{CHUNK + 5}"})
        assert (gap.status_code, last.status_code, last.json()["size"]) == (400, 200, str(CHUNK + 5))
        again = requests.put(url, headers={"Content-Range": f"bytes */{CHUNK + 5}"})
        assert again.json()["generation"] == last.json()["generation"]
        assert requests.put(url.replace("upload_id=", "upload_id=x")).status_code == 404

    def test_a_cancelled_upload_leaves_nothing(self, emulated: Emulated, bucket: Any) -> None:
        import requests

        url = bucket.blob("cancelled").create_resumable_upload_session(size=CHUNK)
        assert requests.delete(url).status_code == 499
        assert requests.put(url, b"a" * CHUNK).status_code == 404
        assert list((emulated.root / "storage" / "drafts").iterdir()) == []

    def test_bytes_that_are_not_what_the_client_says_are_refused(self, emulated: Emulated, bucket: Any) -> None:
        blob = bucket.blob("x")
        blob.md5_hash = base64.b64encode(hashlib.md5(b"other").digest()).decode()
        with pytest.raises(exceptions.BadRequest, match="doesn't match calculated MD5"):
            blob.upload_from_string("x", checksum=None)
        assert not emulated.file("x").exists()

    def test_binary_content_with_boundaries_in_it_survives(self, bucket: Any) -> None:
        content = b"--==\r\n\r\n--x--\r\n\n\r\r\n" * 5
        bucket.blob("odd").upload_from_string(content)
        assert bucket.blob("odd").download_as_bytes() == content


def _refuses(call: Callable[[], Any]) -> bool:
    try:
        call()
    except exceptions.PreconditionFailed:
        return True
    return False


class TestPreconditions:
    def test_only_one_of_two_creators_wins(self, bucket: Any) -> None:
        won: list[int] = []
        lost: list[int] = []

        def create(number: int) -> None:
            try:
                bucket.blob("lock").upload_from_string(f"{number}", if_generation_match=0)
                won.append(number)
            except exceptions.PreconditionFailed:
                lost.append(number)

        threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 7)
        assert bucket.blob("lock").download_as_text() == str(won[0])

    def test_compare_and_swap(self, bucket: Any) -> None:
        blob = bucket.blob("counter")
        blob.upload_from_string("1")
        first = blob.generation
        blob.upload_from_string("2", if_generation_match=first)
        assert blob.generation > first
        absent = bucket.blob("absent")
        refused = {
            "generation": lambda: blob.upload_from_string("3", if_generation_match=first),
            "generation not": lambda: blob.upload_from_string("3", if_generation_not_match=blob.generation),
            "metageneration": lambda: blob.upload_from_string("3", if_metageneration_match=7),
            "metageneration not": lambda: blob.upload_from_string("3", if_metageneration_not_match=1),
            "delete": lambda: blob.delete(if_generation_match=first),
            "download": lambda: blob.download_as_text(if_generation_match=first),
            "reload": lambda: blob.reload(if_metageneration_match=9),
            "absent": lambda: absent.upload_from_string("3", if_generation_match=first),
        }
        assert {name for name, call in refused.items() if not _refuses(call)} == set()
        assert blob.download_as_text() == "2"

    def test_a_resumable_upload_keeps_its_precondition(self, bucket: Any) -> None:
        bucket.blob("big").upload_from_string("first")
        with pytest.raises(exceptions.PreconditionFailed):
            bucket.blob("big", chunk_size=CHUNK).upload_from_file(
                io.BytesIO(b"x" * (CHUNK + 1)), if_generation_match=0
            )  # fmt: skip
        assert bucket.blob("big").download_as_text() == "first"

    def test_metadata_has_a_number_of_its_own(self, bucket: Any) -> None:
        blob = bucket.blob("x")
        blob.upload_from_string("x")
        generation = blob.generation
        blob.metadata = {"a": "1", "b": "2"}
        blob.patch(if_metageneration_match=1)
        assert (blob.generation, blob.metageneration) == (generation, 2)
        blob.metadata = {"a": None}
        blob.patch()
        assert bucket.get_blob("x").metadata == {"b": "2"}
        with pytest.raises(exceptions.PreconditionFailed):
            blob.patch(if_metageneration_match=1)

    def test_a_reader_with_the_same_generation_is_told_so(self, bucket: Any) -> None:
        blob = bucket.blob("x")
        blob.upload_from_string("x")
        with pytest.raises(exceptions.NotModified):
            blob.reload(if_generation_not_match=blob.generation)


class TestReading:
    def test_ranges(self, emulated: Emulated, bucket: Any) -> None:
        bucket.blob("x").upload_from_string("0123456789")
        blob = bucket.blob("x")
        assert blob.download_as_bytes(start=2, end=4) == b"234"
        assert blob.download_as_bytes(start=7) == b"789"
        assert blob.download_as_bytes(start=-3) == b"789"
        with pytest.raises(exceptions.RequestRangeNotSatisfiable):
            blob.download_as_bytes(start=99)

    def test_a_download_in_chunks(self, tmp_path: Path, bucket: Any) -> None:
        content = bytes(range(256)) * 3000
        bucket.blob("x").upload_from_string(content)
        bucket.blob("x", chunk_size=CHUNK).download_to_filename(tmp_path / "x")
        assert (tmp_path / "x").read_bytes() == content
        with bucket.blob("x").open("rb") as file:
            file.seek(700_000)
            assert file.read(10) == content[700_000:700_010]

    def test_what_is_absent_is_not_found(self, bucket: Any) -> None:
        assert bucket.get_blob("nothing") is None
        assert not bucket.blob("nothing").exists()
        for call in (bucket.blob("nothing").download_as_bytes, bucket.blob("nothing").delete):
            with pytest.raises(exceptions.NotFound, match="No such object: models/nothing"):
                call()

    def test_zipped_content_is_unzipped_for_who_cannot(self, emulated: Emulated, bucket: Any) -> None:
        import urllib.request

        blob = bucket.blob("x.json")
        blob.content_encoding = "gzip"
        blob.upload_from_string(gzip.compress(b"{}"))
        assert blob.download_as_bytes() == b"{}"
        assert gzip.decompress(blob.download_as_bytes(raw_download=True)) == b"{}"
        url = f"{emulated.address}/storage/v1/b/models/o/x.json?alt=media"
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == b"{}"

    def test_a_download_goes_on_while_the_object_is_replaced(self, bucket: Any) -> None:
        bucket.blob("x").upload_from_string(b"a" * (4 * CHUNK))
        old = bucket.get_blob("x")
        bucket.blob("x").upload_from_string(b"b")
        with pytest.raises(exceptions.NotFound):
            old.download_as_bytes(if_generation_match=None)


class TestChanging:
    def test_copy_rewrite_and_rename_keep_content_and_metadata(self, emulated: Emulated, bucket: Any) -> None:
        other = emulated.client.create_bucket("other")
        blob = bucket.blob("a/b")
        blob.metadata = {"k": "v"}
        blob.upload_from_string("content", content_type="text/csv")
        copied = bucket.copy_blob(blob, other, "copy")
        copied.reload()
        assert (copied.metadata, copied.content_type, copied.md5_hash) == ({"k": "v"}, "text/csv", blob.md5_hash)
        token, done, total = other.blob("rewritten").rewrite(blob)
        assert (token, done, total) == (None, 7, 7)
        renamed = bucket.rename_blob(blob, "a/c")
        assert renamed.download_as_text() == "content"
        assert not emulated.file("a/b").exists()
        moved = bucket.move_blob(renamed, "z")
        assert (moved.name, [found.name for found in bucket.list_blobs()]) == ("z", ["z"])
        assert not emulated.file("a").exists()

    def test_copies_have_preconditions_on_both_sides(self, emulated: Emulated, bucket: Any) -> None:
        blob = bucket.blob("a")
        blob.upload_from_string("1")
        bucket.copy_blob(blob, bucket, "b", if_generation_match=0, if_source_generation_match=blob.generation)
        for conditions in ({"if_generation_match": 0}, {"if_source_generation_match": 5}):
            with pytest.raises(exceptions.PreconditionFailed):
                bucket.copy_blob(blob, bucket, "b", **conditions)

    def test_a_composition_joins_its_sources(self, bucket: Any) -> None:
        for name, content in (("1", "a"), ("2", "b"), ("3", "c")):
            bucket.blob(name).upload_from_string(content)
        whole = bucket.blob("whole")
        whole.content_type = "text/plain"
        whole.compose([bucket.blob("1"), bucket.blob("2"), bucket.blob("3")])
        assert (whole.download_as_text(), whole.component_count, whole.md5_hash) == ("abc", 3, None)
        whole.compose([whole, bucket.blob("1")], if_generation_match=whole.generation)
        assert whole.download_as_text() == "abca"
        with pytest.raises(exceptions.PreconditionFailed):
            whole.compose([bucket.blob("1")], if_source_generation_match=[5])
        with pytest.raises(exceptions.NotFound):
            whole.compose([bucket.blob("nothing")])

    def test_versions_are_kept_where_the_bucket_keeps_them(self, emulated: Emulated, bucket: Any) -> None:
        bucket.reload()
        bucket.versioning_enabled = True
        bucket.patch()
        generations = []
        for content in ("one", "two", "three"):
            blob = bucket.blob("x")
            blob.upload_from_string(content)
            generations.append(blob.generation)
        bucket.delete_blob("x")
        assert bucket.get_blob("x") is None
        assert not emulated.file("x").exists()
        assert [found.generation for found in bucket.list_blobs(versions=True)] == generations
        assert [bucket.blob("x", generation=number).download_as_text() for number in generations] == [
            "one", "two", "three",
        ]  # fmt: skip
        bucket.copy_blob(bucket.blob("x"), bucket, "x", source_generation=generations[0])
        assert bucket.blob("x").download_as_text() == "one"
        bucket.delete_blob("x", generation=generations[1])
        assert len(list(bucket.list_blobs(versions=True))) == 3

    def test_a_batch_answers_each_call(self, emulated: Emulated, bucket: Any) -> None:
        for number in range(5):
            bucket.blob(f"{number}").upload_from_string("x")
        with emulated.client.batch():
            for number in range(3):
                bucket.delete_blob(f"{number}")
        assert [found.name for found in bucket.list_blobs()] == ["3", "4"]

        def delete(*names: str) -> None:
            with emulated.client.batch():
                for name in names:
                    bucket.delete_blob(name)

        with pytest.raises(exceptions.NotFound):
            delete("4", "nothing")
        assert [found.name for found in bucket.list_blobs()] == ["3"]
