"""The artifacts in a bucket: objects under the digest of their content, laid out as on a machine's own disk.

A step in the cloud reads them through the mounted bucket as it would read a local store. A folder is many objects,
which no request writes as one: its list of files, written last, is what says that the artifact is whole. Every object
is written on the condition that none is there (generation 0), so that two who put the same artifact at once, or one
who was killed in between, leave the same bytes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

from trilho.backends.gcp.objects import GcsFiles, place_within
from trilho.core.digest import digest_path, files_of
from trilho.core.ports import ArtifactStore
from trilho.errors import DataError

SCHEMA = 1
LISTS = "lists"
"""The folder of the lists; no digest's folder is called so."""


class GcsStore:
    """The ArtifactStore port on a bucket; what is read is kept in a store of this machine, its digest verified."""

    def __init__(self, files: GcsFiles, root: str, near: ArtifactStore) -> None:
        self.files = files
        self.root = root.rstrip("/")
        self._near = near

    def put(self, source: Path) -> str:
        """Keep a copy of a file or folder and give its digest; free when it is already there."""
        if not source.exists():
            raise DataError(f"{source}: no such file or folder", hint="an artifact is put after it was written")
        digest = digest_path(source)
        if self.has(digest):
            return digest
        places = {name: source / name if name else source for name in _names(source)}
        self.files.write_many({self._object(digest, name): path for name, path in places.items()})
        sizes = {name: path.stat().st_size for name, path in places.items()}
        if digest_path(source) != digest:
            raise DataError(f"{source} changed while it was being stored", hint="run it again")
        self._write_list(digest, sizes)
        return digest

    def path(self, digest: str) -> Path:
        """Give where an artifact lies on this machine, fetched when it was not. Raises DataError when it is nowhere."""
        if not self._near.has(digest):
            self._fetch(digest)
        return self._near.path(digest)

    def has(self, digest: str) -> bool:
        """Say whether an artifact is in the bucket, whole."""
        return self._list(digest) is not None

    def use(self, digest: str) -> bool:
        """Say whether an artifact is there, and keep a lifecycle rule on custom time away from it as if it were new."""
        found = self._list(digest)
        if found is None:
            return False
        objects = [self._object(digest, name) for name in found]
        return all(self.files.touch(uri) for uri in [*objects, self._list_uri(digest)])

    def discard(self, digest: str) -> None:
        """Forget the copy on this machine, which is fetched again when it is asked for."""
        self._near.discard(digest)

    def uri(self, digest: str) -> str:
        """Give where an artifact lies in the bucket, whether it is there or not."""
        return self._object(digest, "")

    def _fetch(self, digest: str) -> None:
        found = self._list(digest)
        if found is None:
            raise DataError(f"artifact {digest[:12]} is not in {self.root}", hint="run what made it again")
        folder = Path(tempfile.gettempdir()) / f"trilho-{uuid.uuid4().hex}"
        to = folder / "artifact"
        try:
            folder.mkdir()
            if "" not in found:
                to.mkdir()
            self.files.load_many({self._object(digest, name): place_within(to, name) for name in found})
            if digest_path(to) != digest:
                raise DataError(
                    f"{self.uri(digest)} is not what its digest names: it was changed", hint="put it there again"
                )
            self._near.put(to)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _object(self, digest: str, name: str) -> str:
        place = f"{self.root}/{digest[:2]}/{digest}"
        return f"{place}/{name}" if name else place

    def _list_uri(self, digest: str) -> str:
        return f"{self.root}/{LISTS}/{digest}.json"

    def _list(self, digest: str) -> dict[str, int] | None:
        content = self.files.read(self._list_uri(digest))
        if content is None:
            return None
        try:
            found: Any = json.loads(content)
            return {str(name): int(size) for name, size in found["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(
                f"{self._list_uri(digest)} is no list of an artifact's files", hint="remove it, and run it again"
            ) from None

    def _write_list(self, digest: str, sizes: dict[str, int]) -> None:
        with tempfile.TemporaryDirectory(prefix="trilho-") as folder:
            file = Path(folder) / "list.json"
            file.write_text(json.dumps({"schema": SCHEMA, "files": sizes}, sort_keys=True), encoding="utf-8")
            self.files.write_new(self._list_uri(digest), file)


def _names(source: Path) -> list[str]:
    """Name an artifact's files from its own place: "" is the artifact itself, where it is one file."""
    if source.is_file():
        return [""]
    return sorted(path.relative_to(source).as_posix() for path in files_of(source))
