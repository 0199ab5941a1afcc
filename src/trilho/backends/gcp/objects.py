"""Files in a bucket by their URI: written once, read whole."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trilho.backends.gcp.cloud import Cloud
from trilho.errors import DataError, UsageError

SCHEME = "gs://"
AT_ONCE = 8  # transfers side by side


class GcsFiles:
    """The RemoteFiles port on Cloud Storage, and the writes that the store needs."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def read(self, uri: str) -> bytes | None:
        """Give a small file's content, or None where there is no such file."""
        from google.api_core.exceptions import NotFound

        def load() -> bytes | None:
            try:
                return bytes(self._blob(uri).download_as_bytes(retry=None))
            except NotFound as error:
                if _no_bucket(error):
                    raise
                return None

        return self.cloud.call(f"reading {uri}", load)

    def list(self, uri: str) -> Sequence[str]:
        """Give the URIs of the files directly in a folder, sorted."""
        return sorted(found for found in self._under(uri) if "/" not in found.removeprefix(_folder(uri)))

    def fetch(self, uri: str, to: Path) -> None:
        """Copy a file or folder to a path of this machine. Raises DataError where there is none."""
        if self._load(uri, to):
            return
        found = self._under(uri)
        if not found:
            raise DataError(f"{uri} is not in its bucket", hint="run what made it again")
        self.load_many({name: place_within(to, name.removeprefix(_folder(uri))) for name in found})

    def load_many(self, places: dict[str, Path]) -> None:
        """Copy files to paths of this machine, several at once."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for uri, there in zip(places, pool.map(lambda item: self._load(*item), places.items()), strict=True):
                if not there:
                    raise DataError(f"{uri} is no longer in its bucket", hint="run what made it again")

    def write_new(self, uri: str, source: Path) -> None:
        """Copy a file of this machine to where none is yet; one that is there already, of that size, stays.

        The precondition makes two who write at once safe: one of them writes, and both hold the same content. What is
        there with another size was damaged by somebody else, and is replaced as exactly that generation.
        """
        from google.api_core.exceptions import PreconditionFailed

        def store() -> None:
            blob, generation = self._blob(uri), 0
            try:
                blob.upload_from_filename(str(source), if_generation_match=generation)
            except PreconditionFailed:
                blob.reload(retry=None)
                if blob.size != source.stat().st_size:
                    blob.upload_from_filename(str(source), if_generation_match=blob.generation)

        self.cloud.call(f"writing {uri}", store)

    def write_many(self, places: dict[str, Path]) -> None:
        """Copy files to where none are yet, several at once."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda item: self.write_new(*item), places.items()))

    def touch(self, uri: str) -> bool:
        """Move an object's custom time to now, which lifecycle rules go by; say whether it is there."""
        from datetime import UTC, datetime

        from google.api_core.exceptions import NotFound

        def mark() -> bool:
            blob = self._blob(uri)
            blob.custom_time = datetime.now(UTC)
            try:
                blob.patch(retry=None)
            except NotFound as error:
                if _no_bucket(error):
                    raise
                return False
            return True

        return self.cloud.call(f"keeping {uri}", mark)

    def _under(self, uri: str) -> Sequence[str]:
        bucket, _, _ = split(uri)
        prefix = split(_folder(uri))[1]

        def names() -> Sequence[str]:
            return [f"{SCHEME}{bucket}/{blob.name}" for blob in self.cloud.storage.list_blobs(bucket, prefix=prefix)]

        return self.cloud.call(f"listing {uri}", names)

    def _load(self, uri: str, to: Path) -> bool:
        from google.api_core.exceptions import NotFound

        def load() -> bool:
            to.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._blob(uri).download_to_filename(str(to))
            except NotFound as error:
                if _no_bucket(error):
                    raise
                return False
            return True

        return self.cloud.call(f"reading {uri}", load)

    def _blob(self, uri: str) -> Any:
        bucket, name, _ = split(uri)
        return self.cloud.storage.bucket(bucket).blob(name)


def split(uri: str) -> tuple[str, str, str]:
    """Give a URI's bucket, its object's name, and the last part of that.

    >>> split("gs://b/models/m.pkl")
    ('b', 'models/m.pkl', 'm.pkl')
    """
    if not uri.startswith(SCHEME):
        raise UsageError(f"{uri!r} is not in Cloud Storage", hint="gs://BUCKET/PATH is wanted")
    bucket, _, name = uri.removeprefix(SCHEME).partition("/")
    return bucket, name, name.rpartition("/")[2]


def place_within(folder: Path, name: str) -> Path:
    """Give where an object of a folder goes on this machine. Raises DataError for a name that leads out of it.

    >>> place_within(Path("to"), "a/b.bin").as_posix()
    'to/a/b.bin'
    """
    if name.startswith("/") or ".." in name.split("/"):
        raise DataError(f"the object name {name!r} leads out of its folder", hint="remove it: no step of ours wrote it")
    return folder / name


def _folder(uri: str) -> str:
    return uri.rstrip("/") + "/"


def _no_bucket(error: Exception) -> bool:
    return "bucket does not exist" in str(error).lower()
