"""Uploads in the three forms that clients use: bytes alone, metadata and bytes in one body, resumable chunks."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trilho.testing.emulator.drafts import Draft, Drafts, blocks, digests_of
from trilho.testing.emulator.http import ApiError, Reply, Request, parse_object

RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass
class Upload:
    """A resumable upload under way: what was asked for, and how much of it has come."""

    request: Request
    document: dict[str, Any]
    path: Path
    received: int = 0
    result: dict[str, Any] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


Finish = Callable[[Request, Draft, dict[str, Any]], dict[str, Any]]


class Uploads:
    """Receive uploads; `finish` is handed the request, the whole content and its metadata.

    Used for objects and, since BigQuery's load jobs are uploaded in the same way, for tables.
    """

    def __init__(self, drafts: Drafts, finish: Finish) -> None:
        self._drafts, self._finish = drafts, finish
        self._open: dict[str, Upload] = {}

    def start(self, request: Request) -> dict[str, Any] | Reply:
        """Answer the first request of an upload, which is the only one unless it is resumable."""
        kind = request.first("uploadType")
        if kind == "resumable":
            return self._open_session(request)
        if kind == "multipart":
            return self._whole(request, *split_related(request))
        if kind == "media":
            document = {"contentType": request.headers.get("Content-Type")}
            return self._finish(request, self._drafts.receive(_pieces(request)), document)
        raise ApiError(400, f"uploadType must be media, multipart or resumable, not {kind!r}", reason="badRequest")

    def go_on(self, request: Request) -> dict[str, Any] | Reply:
        """Take the next chunk of a resumable upload; the last one finishes it."""
        upload = self._session(request)
        with upload.lock:
            if upload.result is None:
                upload.result = self._take(upload, request)
        return upload.result if upload.result is not None else _incomplete(upload)

    def cancel(self, request: Request) -> Reply:
        """Forget a resumable upload."""
        upload = self._session(request)
        upload.path.unlink(missing_ok=True)
        del self._open[request.first("upload_id")]
        return Reply(status=499)

    def _open_session(self, request: Request) -> Reply:
        document = request.json()
        if kind := request.headers.get("X-Upload-Content-Type"):
            document.setdefault("contentType", kind)
        number = uuid.uuid4().hex
        self._open[number] = Upload(request, document, self._drafts.new())
        return Reply(headers={
            "Location": f"{request.base}{request.path}?uploadType=resumable&upload_id={number}",
            "X-GUploader-UploadID": number,
        })  # fmt: skip

    def _session(self, request: Request) -> Upload:
        found = self._open.get(request.first("upload_id"))
        if found is None:
            raise ApiError(404, "This upload session does not exist, or it has ended.", reason="notFound")
        return found

    def _take(self, upload: Upload, request: Request) -> dict[str, Any] | None:
        start, total = _content_range(request)
        if start is not None:
            if start > upload.received:
                raise ApiError(400, f"The chunk begins at byte {start}; the next one expected is {upload.received}.")
            self._append(upload, request, skip=upload.received - start)
        if total is None or upload.received < total:
            return None
        if upload.received > total:
            raise ApiError(400, f"{upload.received} bytes were received of an upload of {total}.")
        with upload.path.open("rb") as file:
            draft = Draft(upload.path, *digests_of(blocks(file)))
        document = upload.document | _claimed(request)
        return self._finish(upload.request, draft, document)

    def _append(self, upload: Upload, request: Request, *, skip: int) -> None:
        while skip > 0 and (again := request.body.read(min(skip, 1 << 20))):
            skip -= len(again)
        with upload.path.open("r+b") as file:
            file.seek(upload.received)
            for piece in _pieces(request):
                file.write(piece)
                upload.received += len(piece)

    def _whole(self, request: Request, document: dict[str, Any], content: bytes) -> dict[str, Any]:
        return self._finish(request, self._drafts.receive([content]), document | _claimed(request))


def split_related(request: Request) -> tuple[dict[str, Any], bytes]:
    """Give the two parts of a multipart/related body: the metadata, and the bytes."""
    parts = split_parts(request)
    if len(parts) != 2:
        raise ApiError(400, f"A multipart upload has two parts; received {len(parts)}.", reason="badRequest")
    document = parse_object(parts[0][1])
    kind = re.search(rb"(?im)^content-type:\s*(.+?)\s*$", parts[1][0])
    if kind:
        document.setdefault("contentType", kind[1].decode("latin-1"))
    return document, parts[1][1]


def split_parts(request: Request) -> list[tuple[bytes, bytes]]:
    """Give headers and content of each part of a multipart body, the content byte for byte."""
    boundary = request.headers.get_boundary()
    if not boundary:
        raise ApiError(400, "The Content-Type of a multipart body names its boundary.", reason="badRequest")
    marker = b"--" + boundary.encode()
    body = b"\n" + request.body.read()
    pieces = re.split(rb"\r?\n" + re.escape(marker) + rb"(?:--)?[ \t]*(?:\r?\n|$)", body)[1:-1]
    return [_headers_and_content(piece) for piece in pieces]


def _headers_and_content(part: bytes) -> tuple[bytes, bytes]:
    found = re.search(rb"\r?\n\r?\n", part)
    if found is None or part.startswith((b"\r\n", b"\n")):
        return b"", part.lstrip(b"\r\n")
    return part[: found.start()], part[found.end() :]


def _content_range(request: Request) -> tuple[int | None, int | None]:
    """Give where a chunk begins (None: it carries no bytes) and the total size, where it is known yet."""
    given = request.headers.get("Content-Range")
    if given is None:
        return 0, int(request.headers.get("Content-Length") or 0)
    found = RANGE.fullmatch(given.strip())
    if found is None:
        raise ApiError(400, f"Invalid Content-Range: {given!r}", reason="badRequest")
    return (int(found[1]) if found[1] else None), (None if found[3] == "*" else int(found[3]))


def _incomplete(upload: Upload) -> Reply:
    return Reply(status=308, headers={"Range": f"bytes=0-{upload.received - 1}"} if upload.received else {})


def _claimed(request: Request) -> dict[str, Any]:
    """Give the digests that a client says its bytes have, in a header."""
    pairs = re.findall(r"(crc32c|md5)=([\w+/]+={0,3})", request.headers.get("X-Goog-Hash", ""))
    return {{"crc32c": "crc32c", "md5": "md5Hash"}[name]: value for name, value in pairs}


def _pieces(request: Request) -> Iterator[bytes]:
    while piece := request.body.read(1 << 20):
        yield piece
