"""The methods on objects, as google-cloud-storage and others call them; uploads, buckets and batches are beside."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from trilho.testing.emulator.drafts import Draft, blocks
from trilho.testing.emulator.http import ApiError, Json, Reply, Request, Route, enter
from trilho.testing.emulator.rules import Rules
from trilho.testing.emulator.storage import listing
from trilho.testing.emulator.storage.batch import batch_route
from trilho.testing.emulator.storage.buckets import BucketMethods
from trilho.testing.emulator.storage.conditions import in_document, require
from trilho.testing.emulator.storage.index import Stored
from trilho.testing.emulator.storage.objects import Objects
from trilho.testing.emulator.storage.resources import merged, object_resource
from trilho.testing.emulator.uploads import Uploads

MOST_SOURCES = 32
ONE = "/storage/v1/b/{bucket}/o/{name}"
NAMED_HEADERS = {
    "contentEncoding": "Content-Encoding",
    "cacheControl": "Cache-Control",
    "contentDisposition": "Content-Disposition",
    "contentLanguage": "Content-Language",
}
UPLOAD = "/upload/storage/v1/b/{bucket}/o"


class StorageService:
    """Cloud Storage over the folder ROOT/buckets."""

    def __init__(self, root: Path, rules: Rules, *, project: str, location: str) -> None:
        self.objects = Objects(root, project=project, location=location)
        self._rules = rules
        self._uploads = Uploads(self.objects.content.drafts, self._finish)
        methods = [
            *BucketMethods(self.objects, rules, project).routes(),
            *self._uploading(), *self._reading(), *self._changing(),
        ]  # fmt: skip
        self.routes = [*methods, batch_route(methods, rules)]

    def close(self) -> None:
        """Close the index."""
        self.objects.close()

    def _uploading(self) -> list[Route]:
        return [
            Route("POST", UPLOAD, "storage.objects.create", self._start),
            Route("POST", "/resumable" + UPLOAD, "storage.objects.create", self._start),
            Route("PUT", UPLOAD, "", self._uploads.go_on),
            Route("PUT", "/resumable" + UPLOAD, "", self._uploads.go_on),
            Route("DELETE", UPLOAD, "", self._uploads.cancel),
        ]

    def _reading(self) -> list[Route]:
        return [
            Route("GET", "/storage/v1/b/{bucket}/o", "storage.objects.list", self._list),
            Route("GET", ONE, "storage.objects.get", self._get),
            Route("GET", "/download" + ONE, "storage.objects.get", self._download),
        ]

    def _changing(self) -> list[Route]:
        return [
            Route("PATCH", ONE, "storage.objects.update", lambda request: self._change(request, whole=False)),
            Route("PUT", ONE, "storage.objects.update", lambda request: self._change(request, whole=True)),
            Route("DELETE", ONE, "storage.objects.delete", self._delete),
            Route("POST", ONE + "/rewriteTo/b/{to}/o/{new}", "storage.objects.get", self._rewrite),
            Route("POST", ONE + "/copyTo/b/{to}/o/{new}", "storage.objects.get", self._copy),
            Route("POST", ONE + "/moveTo/o/{new}", "storage.objects.delete", self._move),
            Route("POST", ONE + "/compose", "storage.objects.create", self._compose),
        ]

    # Uploads

    def _start(self, request: Request) -> Json | Reply:
        self.objects.bucket(request.values["bucket"])
        return self._uploads.start(request)

    def _finish(self, request: Request, draft: Draft, document: dict[str, Any]) -> Json:
        name = request.first("name") or str(document.get("name", ""))
        _require_digests(draft, document)
        return object_resource(self._put(request, request.values["bucket"], name, draft, document), request.base)

    def _put(self, request: Request, bucket: str, name: str, draft: Draft, document: dict[str, Any]) -> Stored:
        return self.objects.put(bucket, name, draft, document, self._may_replace(request, bucket, name))

    def _may_replace(self, request: Request, bucket: str, name: str) -> Callable[[Stored | None], None]:
        """Check preconditions; to replace an object takes the permission to delete it, too."""

        def check(current: Stored | None) -> None:
            require(request.first, current)
            if current:
                enter(self._rules, "storage.objects.delete", f"{bucket}/{name}")

        return check

    # Reading

    def _list(self, request: Request) -> Json:
        bucket, prefix = request.values["bucket"], request.first("prefix")
        page = listing.page(self.objects.list(bucket, prefix, versions=request.flag("versions")), request)
        items = [object_resource(record, request.base) for record in page.objects]
        found: Json = {"kind": "storage#objects"}
        found |= {"items": items} if items else {}
        found |= {"prefixes": page.prefixes} if page.prefixes else {}
        return found | ({"nextPageToken": page.token} if page.token else {})

    def _get(self, request: Request) -> Json | Reply:
        if request.first("alt") == "media":
            return self._download(request)
        record = self.objects.get(*_named(request))
        require(request.first, record, reading=True)
        return object_resource(record, request.base)

    def _download(self, request: Request) -> Reply:
        record, file = self.objects.open(*_named(request))
        try:
            require(request.first, record, reading=True)
            return _content(request, record, file)
        except BaseException:
            file.close()
            raise

    # Changing

    def _change(self, request: Request, *, whole: bool) -> Json:
        bucket, name, generation = _named(request)
        given = request.json()

        def change(record: Stored) -> dict[str, Any]:
            require(request.first, record)
            return given if whole else merged(record.document, given)

        return object_resource(self.objects.change(bucket, name, generation, change), request.base)

    def _delete(self, request: Request) -> None:
        self.objects.delete(*_named(request), lambda current: require(request.first, current))

    def _rewrite(self, request: Request) -> Json:
        copy = self._copy(request)
        size = copy["size"]
        return {"kind": "storage#rewriteResponse", "totalBytesRewritten": size, "objectSize": size, "done": True,
                "resource": copy}  # fmt: skip

    def _copy(self, request: Request) -> Json:
        bucket, name = request.values["bucket"], request.values["name"]
        to, new = request.values["to"], request.values["new"]
        enter(self._rules, "storage.objects.create", f"{to}/{new}")
        record, file = self.objects.open(bucket, name, _generation(request, "sourceGeneration"))
        with file:
            require(request.first, record, kind="ifSource")
            copy = self.objects.copy(record, file, to, new, request.json(), self._may_replace(request, to, new))
        return object_resource(copy, request.base)

    def _move(self, request: Request) -> Json:
        bucket, name, new = request.values["bucket"], request.values["name"], request.values["new"]
        enter(self._rules, "storage.objects.create", f"{bucket}/{new}")
        record, file = self.objects.open(bucket, name)
        with file:
            require(request.first, record, kind="ifSource")
            copy = self.objects.copy(record, file, bucket, new, {}, self._may_replace(request, bucket, new))
        if new != name:
            self.objects.delete(bucket, name, None, lambda current: _still(current, record))
        return object_resource(copy, request.base)

    def _compose(self, request: Request) -> Json:
        bucket, name = request.values["bucket"], request.values["name"]
        given = request.json()
        sources = given.get("sourceObjects") or []
        if not 1 <= len(sources) <= MOST_SOURCES:
            raise ApiError(400, f"A composition has 1 to {MOST_SOURCES} source objects; received {len(sources)}.")
        parts: list[int] = []
        draft = self.objects.content.drafts.receive(self._composed(bucket, sources, parts))
        document = (given.get("destination") or {}) | {"componentCount": sum(parts)}
        made = self._put(request, bucket, name, draft, document)
        if given.get("deleteSourceObjects"):
            self._delete_sources(bucket, [source["name"] for source in sources if source["name"] != name])
        return object_resource(made, request.base)

    def _composed(self, bucket: str, sources: list[Json], parts: list[int]) -> Iterator[bytes]:
        for source in sources:
            enter(self._rules, "storage.objects.get", f"{bucket}/{source.get('name')}")
            generation = source.get("generation")
            record, file = self.objects.open(bucket, str(source["name"]), int(generation) if generation else None)
            with file:
                require(in_document(source.get("objectPreconditions") or {}), record)
                parts.append(int(record.document.get("componentCount", 1)))
                yield from blocks(file)

    def _delete_sources(self, bucket: str, sources: list[str]) -> None:
        for source in dict.fromkeys(sources):
            enter(self._rules, "storage.objects.delete", f"{bucket}/{source}")
            self.objects.delete(bucket, source, None, lambda current: None)


def _named(request: Request) -> tuple[str, str, int | None]:
    return request.values["bucket"], request.values["name"], _generation(request, "generation")


def _generation(request: Request, parameter: str) -> int | None:
    return request.number(parameter, 0) if request.first(parameter) else None


def _still(current: Stored | None, record: Stored) -> None:
    if current is None or current.generation != record.generation:
        raise ApiError(409, "The source object changed while it was moved.")


def _require_digests(draft: Draft, document: dict[str, Any]) -> None:
    for key, name, actual in (("crc32c", "CRC32C", draft.crc32c), ("md5Hash", "MD5", draft.md5)):
        given = document.get(key)
        if given and given != actual:
            draft.path.unlink(missing_ok=True)
            message = f'Provided {name} hash "{given}" doesn\'t match calculated {name} hash "{actual}".'
            raise ApiError(400, message, reason="invalid")


def _content(request: Request, record: Stored, file: BinaryIO) -> Reply:
    zipped = record.document.get("contentEncoding") == "gzip"
    headers = _content_headers(record)
    if zipped and "gzip" not in request.headers.get("Accept-Encoding", ""):
        headers.pop("Content-Encoding")
        with file:
            return Reply(gzip.decompress(file.read()), headers=headers)
    start, end = _range(request.headers.get("Range", ""), record.size)
    if (start, end) == (0, record.size):
        return Reply(_closing(file, record.size), headers=headers, length=record.size)
    file.seek(start)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{record.size}"
    return Reply(_closing(file, end - start), 206, headers, end - start)


def _content_headers(record: Stored) -> dict[str, str]:
    document = record.document
    hashes = f"crc32c={document['crc32c']}" + (f",md5={document['md5Hash']}" if "md5Hash" in document else "")
    headers = {
        "Content-Type": document["contentType"], "Accept-Ranges": "bytes", "X-Goog-Hash": hashes,
        "X-Goog-Generation": str(record.generation), "X-Goog-Metageneration": str(record.metageneration),
        "X-Goog-Stored-Content-Length": str(record.size), "X-Goog-Storage-Class": document["storageClass"],
        "X-Goog-Stored-Content-Encoding": document.get("contentEncoding", "identity"),
    }  # fmt: skip
    for key, name in NAMED_HEADERS.items():
        if document.get(key):
            headers[name] = document[key]
    return headers


def _range(header: str, size: int) -> tuple[int, int]:
    """Give the first byte and the one after the last that a Range header asks for.

    >>> [_range(given, 10) for given in ("", "bytes=2-4", "bytes=7-", "bytes=-3", "bytes=0-99")]
    [(0, 10), (2, 5), (7, 10), (7, 10), (0, 10)]
    """
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if found is None or not (found[1] or found[2]):
        return 0, size
    if not found[1]:
        return max(0, size - int(found[2])), size
    start, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
    if start >= size or end <= start:
        raise ApiError(416, "Request range not satisfiable")
    return start, end


def _closing(file: BinaryIO, size: int) -> Iterator[bytes]:
    with file:
        yield from blocks(file, size)
