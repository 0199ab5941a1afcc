"""The store in a bucket: what it writes when, what it survives, what it refuses to believe."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trilho.backends.gcp.objects import GcsFiles, place_within
from trilho.backends.gcp.store import GcsStore
from trilho.backends.local.store import LocalStore
from trilho.core.digest import digest_path
from trilho.errors import DataError, TrilhoError, Unreachable, UsageError
from trilho.remote.run import fetch
from trilho.testing.emulator.rules import Failure

if TYPE_CHECKING:
    from tests.remote.conftest import Bucket


@pytest.fixture
def store(bucket: Bucket, tmp_path: Path) -> GcsStore:
    return GcsStore(GcsFiles(bucket.cloud), f"{bucket.uri}/store", LocalStore(tmp_path / "near"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "parts").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "parts" / "1.bin").write_bytes(b"1" * 100)
    return folder


def generations(bucket: Bucket) -> dict[str, int]:
    return {blob.name: blob.generation for blob in bucket.cloud.storage.list_blobs("shop-models")}


def test_the_layout_is_that_of_a_local_store(store: GcsStore, bucket: Bucket, model: Path) -> None:
    digest = store.put(model)
    mounted = LocalStore(bucket.folder / "store")  # as a step in a container sees it
    assert digest_path(mounted.path(digest)) == digest
    assert store.uri(digest) == f"{bucket.uri}/store/{digest[:2]}/{digest}"
    listed = json.loads((bucket.folder / "store" / "lists" / f"{digest}.json").read_text())
    assert listed == {"schema": 1, "files": {"manifest.json": 2, "parts/1.bin": 100}}


def test_what_is_there_is_not_written_again(store: GcsStore, bucket: Bucket, model: Path) -> None:
    store.put(model)
    before = generations(bucket)
    store.put(model)
    assert generations(bucket) == before


def test_a_folder_counts_only_when_it_is_whole(store: GcsStore, bucket: Bucket, model: Path) -> None:
    digest = digest_path(model)
    bucket.rules.failures.append(Failure("storage.objects.create", "PERMISSION_DENIED", 3))
    with pytest.raises(TrilhoError):
        store.put(model)
    bucket.rules.failures.clear()
    assert not store.has(digest)
    assert store.put(model) == digest
    assert store.has(digest)


def test_two_who_put_at_once_write_each_object_once(store: GcsStore, bucket: Bucket, model: Path) -> None:
    meeting = threading.Barrier(2)

    def put() -> None:
        meeting.wait(10)
        store.put(model)

    threads = [threading.Thread(target=put) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    metagenerations = {blob.metageneration for blob in bucket.cloud.storage.list_blobs("shop-models")}
    assert metagenerations == {1}
    assert store.has(digest_path(model))


def test_a_damaged_object_is_put_right(store: GcsStore, bucket: Bucket, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("1,2,3")
    digest = digest_path(file)
    bucket.cloud.storage.bucket("shop-models").blob(f"store/{digest[:2]}/{digest}").upload_from_string("1,")
    assert store.put(file) == digest
    assert store.path(digest).read_text() == "1,2,3"


def test_what_was_changed_there_is_not_believed(store: GcsStore, bucket: Bucket, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("1,2,3")
    digest = store.put(file)
    bucket.cloud.storage.bucket("shop-models").blob(f"store/{digest[:2]}/{digest}").upload_from_string("6,6,6")
    with pytest.raises(DataError, match="is not what its digest names"):
        store.path(digest)


def test_a_passing_failure_is_tried_again(store: GcsStore, bucket: Bucket, model: Path) -> None:
    bucket.rules.failures += [
        Failure("storage.objects.create", "UNAVAILABLE", 2),
        Failure("storage.objects.get", "RESOURCE_EXHAUSTED", 2),
    ]
    digest = store.put(model)
    assert digest_path(store.path(digest)) == digest
    assert [failure.left for failure in bucket.rules.failures] == [0, 0]


def test_a_lasting_failure_is_unreachable(store: GcsStore, bucket: Bucket, model: Path) -> None:
    object.__setattr__(bucket.cloud.patience, "seconds", 0.1)
    bucket.rules.failures.append(Failure("storage.objects.get", "UNAVAILABLE"))
    with pytest.raises(Unreachable) as caught:
        store.has("0" * 64)
    assert caught.value.fact.startswith(f"reading {bucket.uri}/store/lists/")


def test_a_missing_permission_names_the_role_on_the_bucket(store: GcsStore, bucket: Bucket, model: Path) -> None:
    bucket.rules.deny.append("storage.objects.create")
    with pytest.raises(TrilhoError) as caught:
        store.put(model)
    assert "lacks the permission storage.objects.create" in caught.value.fact
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("gcloud storage buckets add-iam-policy-binding gs://shop-models ")
    assert caught.value.hint.endswith("--role=roles/storage.objectUser")


def test_a_bucket_that_is_not_there(bucket: Bucket, tmp_path: Path, model: Path) -> None:
    store = GcsStore(GcsFiles(bucket.cloud), "gs://nobodys/store", LocalStore(tmp_path / "near"))
    with pytest.raises(UsageError, match="there is no bucket"):
        store.put(model)


def test_use_moves_the_time_that_lifecycle_rules_go_by(store: GcsStore, bucket: Bucket, model: Path) -> None:
    digest = store.put(model)
    assert store.use(digest)
    times = {blob.custom_time for blob in bucket.cloud.storage.list_blobs("shop-models")}
    assert None not in times
    assert len(times) == 3


def test_what_a_step_left_is_fetched_and_verified(bucket: Bucket, tmp_path: Path, model: Path) -> None:
    near, files = LocalStore(tmp_path / "home"), GcsFiles(bucket.cloud)
    place = bucket.file(f"{bucket.uri}/root/r1/pack/package")
    place.parent.mkdir(parents=True)
    model.rename(place)
    digest = digest_path(place)
    assert fetch(files, near, f"{bucket.uri}/root/r1/pack/package", digest) == digest
    assert digest_path(near.path(digest)) == digest
    with pytest.raises(DataError, match="is not what the step's record names"):
        fetch(files, near, f"{bucket.uri}/root/r1/pack/package", "0" * 64)
    with pytest.raises(DataError, match="is not in its bucket"):
        fetch(files, near, f"{bucket.uri}/root/r1/pack/absent", "1" * 64)


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/out", ".."])
def test_an_object_s_name_leads_nowhere_else(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leads out of its folder"):
        place_within(tmp_path, name)
    assert place_within(tmp_path, "a/..b/c") == tmp_path / "a" / "..b" / "c"


def test_the_files_of_a_folder_and_no_deeper(bucket: Bucket) -> None:
    files = GcsFiles(bucket.cloud)
    for name in ("runs/r1/fit.json", "runs/r1/pack.json", "runs/r1/deep/x.json", "runs/r10/fit.json"):
        bucket.cloud.storage.bucket("shop-models").blob(name).upload_from_string("{}")
    assert files.list(f"{bucket.uri}/runs/r1") == [f"{bucket.uri}/runs/r1/fit.json", f"{bucket.uri}/runs/r1/pack.json"]
    assert files.read(f"{bucket.uri}/runs/r1/fit.json") == b"{}"
    assert files.read(f"{bucket.uri}/runs/r1/absent.json") is None
