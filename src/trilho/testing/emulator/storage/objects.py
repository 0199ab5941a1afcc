"""Buckets and objects: every change checks its preconditions and is made whole, under one lock.

A file that something else writes into a bucket's folder, as a step does through a mount, becomes a new generation the
first time it is looked at; a file that is gone is a deleted object.
"""

from __future__ import annotations

import mimetypes
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from trilho.testing.emulator.drafts import Draft, blocks, digests_of
from trilho.testing.emulator.http import ApiError
from trilho.testing.emulator.storage import names
from trilho.testing.emulator.storage.content import Content, stamp_of
from trilho.testing.emulator.storage.index import Index, Stored, now

Precondition = Callable[[Stored | None], None]
WRITABLE = (
    "contentType", "contentEncoding", "contentDisposition", "contentLanguage", "cacheControl", "metadata", "customTime",
    "storageClass", "eventBasedHold", "temporaryHold", "acl", "contexts",
)  # fmt: skip


def always(current: Stored | None) -> None:
    """Let every change pass."""


class Objects:
    """The buckets and objects below a root folder."""

    def __init__(self, root: Path, *, project: str, location: str) -> None:
        self.content = Content(root)
        self._index = Index(root / "storage" / "index.sqlite")
        self._lock = threading.RLock()
        self._project, self._location = project, location

    def close(self) -> None:
        """Close the index."""
        with self._lock:
            self._index.close()

    # Buckets

    def create_bucket(self, document: dict[str, Any]) -> dict[str, Any]:
        """Make a bucket; 409 where there is one of this name."""
        name = str(document.get("name", ""))
        names.require_bucket_name(name)
        with self._lock:
            if self._bucket(name):
                raise ApiError(
                    409, "Your previous request to create the named bucket succeeded and you already own it."
                )
            (self.content.buckets / name).mkdir()
            return self._keep_bucket(self._new_bucket(name) | document)

    def bucket(self, name: str) -> dict[str, Any]:
        """Give a bucket; 404 where there is none."""
        with self._lock:
            found = self._bucket(name)
        if found is None:
            raise ApiError(404, "The specified bucket does not exist.")
        return found

    def buckets(self, prefix: str) -> list[dict[str, Any]]:
        """Give the buckets whose names begin with a prefix."""
        with self._lock:
            folders = sorted(path.name for path in self.content.buckets.iterdir() if path.name.startswith(prefix))
            return [found for name in folders if (found := self._bucket(name))]

    def change_bucket(self, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """Replace a bucket's document by what `change` makes of it."""
        with self._lock:
            document = change(self.bucket(name))
            document |= {"metageneration": str(int(document["metageneration"]) + 1), "updated": now()}
            return self._keep_bucket(document)

    def delete_bucket(self, name: str, condition: Callable[[dict[str, Any]], None]) -> None:
        """Remove an empty bucket; 409 where it is not empty."""
        with self._lock:
            condition(self.bucket(name))
            if self.list(name, "", versions=True):
                raise ApiError(409, "The bucket you tried to delete is not empty.")
            _remove_folders(self.content.buckets / name)
            self._index.drop_bucket(name)

    def _bucket(self, name: str) -> dict[str, Any] | None:
        names.require_bucket_name(name)
        if not (self.content.buckets / name).is_dir():
            return None
        return self._index.bucket(name) or self._keep_bucket(self._new_bucket(name))

    def _keep_bucket(self, document: dict[str, Any]) -> dict[str, Any]:
        self._index.keep_bucket(document)
        return document

    def _new_bucket(self, name: str) -> dict[str, Any]:
        at = now()
        return {"name": name, "id": name, "location": self._location.upper(), "locationType": "region",
                "storageClass": "STANDARD", "metageneration": "1", "timeCreated": at, "updated": at,
                "projectNumber": "0", "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}}  # fmt: skip

    # Objects

    def get(self, bucket: str, name: str, generation: int | None = None) -> Stored:
        """Give an object, or one generation of it; 404 where there is none."""
        with self._lock:
            self.bucket(bucket)
            current = self._current(bucket, name)
            found = current
            if generation is not None and (current is None or generation != current.generation):
                found = self._index.version(bucket, name, generation)
        if found is None:
            raise missing(bucket, name, generation)
        return found

    def current(self, bucket: str, name: str) -> Stored | None:
        """Give an object as it is now, if it exists."""
        with self._lock:
            self.bucket(bucket)
            return self._current(bucket, name)

    def open(self, bucket: str, name: str, generation: int | None = None) -> tuple[Stored, BinaryIO]:
        """Give an object and its content, which stays readable whatever happens to the object."""
        with self._lock:
            record = self.get(bucket, name, generation)
            return record, self.content.path_of(record).open("rb")

    def list(self, bucket: str, prefix: str, *, versions: bool = False) -> list[Stored]:
        """Give the objects whose names begin with a prefix, in the order of their names' bytes."""
        with self._lock:
            self.bucket(bucket)
            self._reconcile(bucket, prefix)
            found = self._index.below(bucket, prefix, versions=versions)
        return sorted(found, key=lambda record: (record.name.encode(), record.generation))

    def put(
        self, bucket: str, name: str, draft: Draft, document: dict[str, Any], condition: Precondition = always
    ) -> Stored:
        """Make a draft the new generation of an object."""
        try:
            names.require_object_name(name)
            with self._lock:
                settings = self.bucket(bucket)
                current = self._current(bucket, name)
                condition(current)
                record = Stored(bucket, name, self._index.next_generation(), document=_described(draft, document, name))
                self._supersede(current, record, draft, versioned=_is_versioned(settings))
                return record
        finally:
            draft.path.unlink(missing_ok=True)

    def change(
        self, bucket: str, name: str, generation: int | None, change: Callable[[Stored], dict[str, Any]]
    ) -> Stored:
        """Replace what can be changed of an object's metadata by what `change` says; its metageneration grows."""
        with self._lock:
            record = self.get(bucket, name, generation)
            document = change(record)
            fixed = {key: value for key, value in record.document.items() if key not in WRITABLE}
            own = {key: value for key, value in document.items() if key in WRITABLE and value is not None}
            fixed |= {"metageneration": str(record.metageneration + 1), "updated": now()}
            record.document = {"storageClass": "STANDARD", **own, **fixed}
            record.document.setdefault("contentType", "application/octet-stream")
            self._index.keep(record)
            return record

    def delete(self, bucket: str, name: str, generation: int | None, condition: Precondition) -> None:
        """Delete an object; with versioning on and no generation named, its content is kept."""
        with self._lock:
            settings = self.bucket(bucket)
            current = self._current(bucket, name)
            record = current if generation is None else self.get(bucket, name, generation)
            if record is None:
                raise missing(bucket, name)
            condition(record)
            self._retire(record, keep=_is_versioned(settings) and generation is None)

    def copy(self, source: Stored, file: BinaryIO, bucket: str, name: str, document: dict[str, Any],
             condition: Precondition = always) -> Stored:  # fmt: skip
        """Copy an object's content; what the document does not say is taken from the source."""
        kept = {key: value for key, value in source.document.items() if key in WRITABLE}
        own = {key: value for key, value in document.items() if key in WRITABLE}
        return self.put(bucket, name, self.content.drafts.receive(blocks(file)), own or kept, condition)

    def _supersede(self, old: Stored | None, new: Stored, draft: Draft, *, versioned: bool) -> None:
        """Put the new content in place at once, then write both records at once: no moment shows neither."""
        before = self.content.path_of(old) if old else None
        if old and versioned:
            self._archive(old)
        self.content.settle(draft, new)
        self._index.keep(*([old] if old and versioned else []), new, without=old)
        needed = {self.content.path_of(record) for record in ((new, old) if versioned else (new,)) if record}
        if before and before not in needed:
            self.content.remove(new.bucket, before)

    def _retire(self, record: Stored, *, keep: bool) -> None:
        before = self.content.path_of(record)
        keep = keep and record.live
        if keep:
            self._archive(record)
            self._index.keep(record)
        else:
            self._index.drop(record)
        if not keep or before != self.content.path_of(record):
            self.content.remove(record.bucket, before)
        self.content.remove_folder(record)

    def _archive(self, record: Stored) -> None:
        self.content.archive(record)
        record.live, record.document["timeDeleted"] = False, now()

    def _current(self, bucket: str, name: str) -> Stored | None:
        record = self._index.live(bucket, name)
        return self._reconciled(record, bucket, name, self.content.stamp(bucket, name))

    def _reconcile(self, bucket: str, prefix: str) -> None:
        known = {record.name: record for record in self._index.below(bucket, prefix)}
        files = dict(self.content.files(bucket, prefix))
        for name in {*known, *files}:
            self._reconciled(known.get(name), bucket, name, files.get(name, ""))

    def _reconciled(self, record: Stored | None, bucket: str, name: str, stamp: str) -> Stored | None:
        """Make the record of an object what its file says, where something else wrote, changed or removed the file."""
        if record and (record.stamp == stamp or (record.hidden and not stamp)):
            return record
        if record:
            self._index.drop(record)
        return self._adopt(bucket, name) if stamp else None

    def _adopt(self, bucket: str, name: str) -> Stored | None:
        path = self.content.buckets / bucket / name
        try:
            stamp = stamp_of(path)
            with path.open("rb") as file:
                size, md5, crc32c = digests_of(blocks(file))
        except OSError:  # it went away again, or cannot be read
            return None
        record = Stored(bucket, name, self._index.next_generation(), stamp=stamp)
        record.document = _described(Draft(path, size, md5, crc32c), {}, name)
        self._index.keep(record)
        return record


def missing(bucket: str, name: str, generation: int | None = None) -> ApiError:
    """Make the error of an object that does not exist."""
    return ApiError(404, f"No such object: {bucket}/{name}" + (f"#{generation}" if generation is not None else ""))


def _described(draft: Draft, document: dict[str, Any], name: str) -> dict[str, Any]:
    at = now()
    own = {key: value for key, value in document.items() if key in (*WRITABLE, "componentCount") and value is not None}
    own.setdefault("contentType", mimetypes.guess_type(name)[0] or "application/octet-stream")
    digests = {"crc32c": draft.crc32c} | ({} if "componentCount" in own else {"md5Hash": draft.md5})
    return {"storageClass": "STANDARD", **own, **digests, "size": str(draft.size), "metageneration": "1",
            "timeCreated": at, "updated": at, "timeStorageClassUpdated": at, "timeFinalized": at}  # fmt: skip


def _is_versioned(bucket: dict[str, Any]) -> bool:
    return bool(bucket.get("versioning", {}).get("enabled"))


def _remove_folders(top: Path) -> None:
    for folder in sorted(_folders(top), reverse=True):
        folder.rmdir()
    top.rmdir()


def _folders(top: Path) -> Iterable[Path]:
    return [path for path in top.rglob("*") if path.is_dir() and not path.is_symlink()]
