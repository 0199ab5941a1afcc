"""Lists of objects, objects as files under a mount, rules of denial."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.cloud.storage")

from google.api_core import exceptions
from google.cloud import storage

from trilho.testing.emulator.http import Router, Server
from trilho.testing.emulator.rules import Failure, Rules
from trilho.testing.emulator.storage import StorageService


def anonymous() -> Any:
    from google.auth import credentials

    return credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]


NAMES = ["a.csv", "a/1.csv", "a/2.txt", "a/b/3.csv", "c/4.csv", "é.csv"]


@pytest.fixture
def rules() -> Rules:
    return Rules()


@pytest.fixture
def bucket(tmp_path: Path, rules: Rules) -> Iterator[Any]:
    service = StorageService(tmp_path, rules, project="p", location="southamerica-east1")
    server = Server(Router(service.routes, rules))
    server.start()
    client = storage.Client("p", anonymous(), client_options={"api_endpoint": server.address})
    yield client.create_bucket("data")
    client.close()
    server.stop()
    service.close()


@pytest.fixture
def folder(tmp_path: Path, bucket: Any) -> Path:
    return tmp_path / "buckets" / "data"


@pytest.fixture
def filled(bucket: Any) -> Any:
    for name in reversed(NAMES):
        bucket.blob(name).upload_from_string(name)
    return bucket


def names(found: Any) -> list[str]:
    return [blob.name for blob in found]


class TestLists:
    def test_in_the_order_of_bytes(self, filled: Any) -> None:
        assert names(filled.list_blobs()) == NAMES

    @pytest.mark.parametrize("size", [1, 2, 5])
    def test_pages(self, filled: Any, size: int) -> None:
        pages = [names(page) for page in filled.list_blobs(page_size=size).pages]
        assert [name for page in pages for name in page] == NAMES
        assert {len(page) for page in pages[:-1]} <= {size}
        assert names(filled.list_blobs(max_results=2)) == NAMES[:2]

    def test_prefix_and_delimiter_show_folders(self, filled: Any) -> None:
        found = filled.list_blobs(prefix="a/", delimiter="/")
        assert (names(found), found.prefixes) == (["a/1.csv", "a/2.txt"], {"a/b/"})
        top = filled.list_blobs(delimiter="/", page_size=2)
        assert (names(top), top.prefixes) == (["a.csv", "é.csv"], {"a/", "c/"})
        assert names(filled.list_blobs(prefix="a")) == NAMES[:4]
        assert names(filled.list_blobs(prefix="nothing")) == []

    def test_offsets_and_globs(self, filled: Any) -> None:
        assert names(filled.list_blobs(start_offset="a/2.txt", end_offset="c/4.csv")) == ["a/2.txt", "a/b/3.csv"]
        assert names(filled.list_blobs(match_glob="a/*.{csv,txt}")) == ["a/1.csv", "a/2.txt"]
        assert names(filled.list_blobs(match_glob="**/[0-3].csv")) == ["a/1.csv", "a/b/3.csv"]

    def test_a_broken_token_is_refused(self, filled: Any) -> None:
        with pytest.raises(exceptions.BadRequest, match="Invalid pageToken"):
            names(filled.list_blobs(page_token="!"))

    def test_an_unknown_bucket_is_not_found(self, filled: Any) -> None:
        with pytest.raises(exceptions.NotFound, match="bucket does not exist"):
            names(filled.client.list_blobs("nothing"))


class TestMount:
    """What a step does to the folder of a bucket is seen by the clients, and the other way round."""

    def test_a_file_is_an_object(self, bucket: Any, folder: Path) -> None:
        (folder / "out/model").mkdir(parents=True)
        (folder / "out/model/weights.json").write_text("{}")
        blob = bucket.get_blob("out/model/weights.json")
        assert (blob.size, blob.content_type, blob.metageneration) == (2, "application/json", 1)
        assert blob.download_as_text() == "{}"
        assert names(bucket.list_blobs(prefix="out/")) == ["out/model/weights.json"]
        assert bucket.get_blob("out/model/weights.json").generation == blob.generation

    def test_a_changed_file_is_a_new_generation(self, bucket: Any, folder: Path) -> None:
        blob = bucket.blob("x")
        blob.upload_from_string("one")
        (folder / "x").write_text("other")
        with pytest.raises(exceptions.PreconditionFailed):
            blob.upload_from_string("two", if_generation_match=blob.generation)
        seen = bucket.get_blob("x")
        assert (seen.size, seen.generation > blob.generation) == (5, True)

    def test_a_removed_file_is_a_deleted_object(self, bucket: Any, folder: Path) -> None:
        bucket.blob("a/x").upload_from_string("x")
        (folder / "a/x").unlink()
        assert names(bucket.list_blobs()) == []
        bucket.blob("a/x").upload_from_string("y", if_generation_match=0)
        assert (folder / "a/x").read_text() == "y"

    def test_a_folder_and_an_object_of_one_name_exist_beside_each_other(self, bucket: Any, folder: Path) -> None:
        bucket.blob("a").upload_from_string("object")
        bucket.blob("a/b").upload_from_string("below")
        bucket.blob("c/d").upload_from_string("below")
        bucket.blob("c").upload_from_string("object")
        bucket.blob("x//y").upload_from_string("odd")
        bucket.blob("marker/").upload_from_string("")
        assert names(bucket.list_blobs()) == ["a", "a/b", "c", "c/d", "marker/", "x//y"]
        assert [bucket.blob(name).download_as_text() for name in ("a", "a/b", "c", "c/d", "x//y")] == [
            "object", "below", "object", "below", "odd",
        ]  # fmt: skip
        assert (folder / "marker").is_dir()
        for name in ("a", "a/b", "c", "c/d", "x//y", "marker/"):
            bucket.delete_blob(name)
        assert (names(bucket.list_blobs()), list(folder.iterdir())) == ([], [])

    @pytest.mark.parametrize("name", ["../escaped", "a/../../escaped", "..", "./x", "a/.."])
    def test_a_name_that_climbs_out_is_refused(self, bucket: Any, tmp_path: Path, name: str) -> None:
        with pytest.raises(exceptions.BadRequest, match="Invalid object name"):
            bucket.blob(name).upload_from_string("x")
        assert not list(tmp_path.rglob("escaped"))
        assert bucket.get_blob("../data/x") is None

    def test_a_link_that_leads_out_is_no_object(self, bucket: Any, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret/key").write_text("secret")
        (folder / "link").symlink_to(tmp_path / "secret/key")
        (folder / "folder").symlink_to(tmp_path / "secret")
        assert names(bucket.list_blobs()) == []
        assert bucket.get_blob("link") is None
        bucket.blob("folder/key").upload_from_string("mine")
        assert (tmp_path / "secret/key").read_text() == "secret"
        assert bucket.blob("folder/key").download_as_text() == "mine"

    def test_a_bucket_is_what_its_folder_is_after_a_restart(self, bucket: Any, folder: Path, tmp_path: Path) -> None:
        blob = bucket.blob("x")
        blob.metadata = {"k": "v"}
        blob.upload_from_string("x")
        (folder.parent / "mounted").mkdir()
        shutil.copy(folder / "x", folder.parent / "mounted" / "y")
        again = StorageService(tmp_path, Rules(), project="p", location="l")
        found = again.objects.get("data", "x")
        assert (found.generation, found.document["metadata"]) == (blob.generation, {"k": "v"})
        assert [record.name for record in again.objects.list("mounted", "")] == ["y"]
        assert (
            again.objects.put("data", "z", again.objects.content.drafts.receive([b""]), {}).generation > blob.generation
        )
        again.close()

    def test_a_reader_in_the_mount_never_sees_half_a_file(self, bucket: Any, folder: Path) -> None:
        bucket.blob("x").upload_from_string("a" * 100_000)
        with (folder / "x").open("rb") as reader:
            bucket.blob("x").upload_from_string("b" * 100_000)
            assert set(reader.read()) == {ord("a")}
        assert (folder / "x").stat().st_size == 100_000


class TestRules:
    @pytest.mark.parametrize(
        ("permission", "call"),
        [
            ("storage.objects.create", lambda bucket: bucket.blob("new").upload_from_string("x")),
            ("storage.objects.delete", lambda bucket: bucket.blob("a.csv").upload_from_string("x")),
            ("storage.objects.delete", lambda bucket: bucket.delete_blob("a.csv")),
            ("storage.objects.get", lambda bucket: bucket.blob("a.csv").download_as_bytes()),
            ("storage.objects.list", lambda bucket: list(bucket.list_blobs())),
            ("storage.objects.update", lambda bucket: bucket.blob("a.csv").patch()),
            ("storage.buckets.create", lambda bucket: bucket.client.create_bucket("other")),
        ],
    )
    def test_a_denied_permission_is_named(self, filled: Any, rules: Rules, permission: str, call: Any) -> None:
        rules.deny.append(permission)
        with pytest.raises(exceptions.Forbidden, match=f"Permission '{permission}' denied on resource") as caught:
            call(filled)
        assert "forbidden" in str(caught.value) or caught.value.errors[0]["reason"] == "forbidden"
        assert filled.test_iam_permissions(["storage.objects.get", permission]) == (
            [] if permission == "storage.objects.get" else ["storage.objects.get"]
        )

    def test_an_injected_failure_passes_after_retries(self, filled: Any, rules: Rules) -> None:
        rules.failures.append(Failure("storage.objects.get", "UNAVAILABLE", 1))
        assert filled.blob("a.csv").download_as_text() == "a.csv"
        assert rules.failures[0].left == 0
