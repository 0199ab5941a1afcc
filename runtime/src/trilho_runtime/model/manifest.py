"""A package's manifest: what it says, and whether the files beside it are those it lists.

A file counts only by its bytes: what is read to be loaded is hashed as it was read, so that a file that changes between
the check and the use is refused too.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from trilho_runtime.model.shape import Wrong, check_shape

SCHEMA = 2
READABLE = (1, 2)
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
CODE = "code"
SAMPLE = "sample.json"
TEXTS = ("name", "task", "target", "features")
OBJECTS = ("estimator", "libraries", "metrics", "lineage", "files")
MAYBE = ("history", "outputs", "compiled", "decision", "form")
PIECE = 1 << 20
LARGEST_MANIFEST = 1 << 26
LARGE_ARCHIVE, MOST_UNPACKED = 1 << 28, 100  # beyond so many bytes, at most so many times what it is packed in
LARGEST_ARCHIVE = 1 << 32  # bytes that a file of arrays may unpack to
SHOWN = 16
DIGEST = re.compile(r"[0-9a-f]{64}")


class PackageError(Exception):
    """A model package is not what its manifest says, or cannot be made or loaded here; `hint` says what to do."""

    def __init__(self, fact: str, hint: str = "") -> None:
        super().__init__(fact)
        self.fact, self.hint = fact, hint

    def __str__(self) -> str:
        return f"{self.fact}\nHint: {self.hint}" if self.hint else self.fact


def read_file(path: Path, most: int | None = None) -> bytes:
    """Read a regular file whole; a link, a pipe or a device is none. Raises PackageError, or OSError without it."""
    with _opened(path) as file:
        data = file.read() if most is None else file.read(most + 1)
    if most is not None and len(data) > most:
        raise PackageError(f"{path}: it is larger than {most} bytes")
    return data


def digest_of(path: Path) -> str:
    """Give the SHA-256 of a regular file, read in pieces so that its size does not matter."""
    found = hashlib.sha256()
    with _opened(path) as file:
        while piece := file.read(PIECE):
            found.update(piece)
    return found.hexdigest()


def _opened(path: Path) -> io.BufferedReader:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if path.is_symlink():
        raise PackageError(f"{path} is a link; a package holds files")
    handle = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise PackageError(f"{path} is not a regular file; a package holds files")
    return io.BufferedReader(io.FileIO(handle, "r"))


def read_manifest(path: Path) -> bytes:
    """Read a manifest's bytes. Raises PackageError where there is none."""
    try:
        return read_file(path, LARGEST_MANIFEST)
    except OSError as error:
        raise PackageError(
            f"{path}: {error.strerror or error}: a model package is a folder with a {MANIFEST}"
        ) from None


def parse_manifest(data: bytes, path: Path) -> dict[str, Any]:
    """Give what a manifest says. Raises PackageError for what is none, and for one of another schema."""
    try:
        manifest = json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{path}: not JSON: {error}") from None
    if not isinstance(manifest, dict) or not _is_readable(manifest.get("schema")):
        found = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise PackageError(
            f"{path}: schema {found!r:.60}; this trilho-runtime reads {' and '.join(map(str, READABLE))}"
        )
    wrong = [k for k in TEXTS if not isinstance(manifest.get(k), str)]
    wrong += [k for k in OBJECTS if not isinstance(manifest.get(k), dict)]
    wrong += [] if isinstance(manifest.get("signature"), list) else ["signature"]
    wrong += [k for k in MAYBE if not isinstance(manifest.get(k) or {}, dict)]
    if wrong:
        raise PackageError(f"{path}: {', '.join(wrong)} missing or of the wrong type")
    return manifest


def check_manifest(manifest: Mapping[str, Any], path: Path) -> None:
    """Check all that a manifest says, but for the digests. Raises PackageError naming what is wrong."""
    try:
        check_shape(manifest)
    except Wrong as error:
        raise PackageError(
            f"{path}: {error}", "take the package from the store again, or pack the model again"
        ) from None


def _is_readable(schema: Any) -> bool:
    return type(schema) is int and schema in READABLE


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands in it twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def check_files(folder: Path, listed: Mapping[str, Any]) -> None:
    """Check every file of a package against the digests listed. Raises PackageError naming the first that is wrong."""
    check_names(folder, listed)
    for name, digest in sorted(listed.items()):
        path = folder / name
        try:
            found = digest_of(path)
        except OSError as error:
            raise PackageError(f"{path}: {error.strerror or error}, but the manifest lists it") from None
        if found != digest:
            _refuse_digest(path, found, str(digest))
    for path in walk(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or (name not in listed and name not in (MANIFEST, SIGNATURE)):
            raise PackageError(f"{path} is not in the manifest: a package holds what was packed and nothing else")


def check_names(folder: Path, listed: Mapping[str, Any]) -> None:
    """Check that the names listed are of files within the package, each of them another on every file system."""
    folded: dict[str, str] = {}
    for name, digest in listed.items():
        relative = PurePosixPath(name)
        if not name.isascii() and not _is_encodable(name):
            raise PackageError(f"{folder / MANIFEST}: {name!a:.120} is no plain name of a file")
        if relative.is_absolute() or ".." in relative.parts:
            raise PackageError(f"{folder / MANIFEST}: {name:.200} lies outside the package")
        if relative.as_posix() != name or name == "." or any(c in ":\\" or ord(c) < 32 for c in name):
            raise PackageError(f"{folder / MANIFEST}: {name!r} is no plain name of a file")
        if name in (MANIFEST, SIGNATURE) or not isinstance(digest, str) or not DIGEST.fullmatch(digest):
            raise PackageError(f"{folder / MANIFEST}: the digest of {name} is no SHA-256")
        twin = folded.setdefault(name.casefold(), name)
        if twin != name:
            raise PackageError(f"{folder / MANIFEST}: {twin} and {name} are one file where case does not count")


def _is_encodable(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:  # half of a pair of surrogates
        return False


def walk(folder: Path) -> Iterator[Path]:
    """Give all that is in a folder and below but for folders themselves; no link is followed."""

    def fail(error: OSError) -> NoReturn:
        raise PackageError(f"{error.filename}: {error.strerror or error}") from None

    for here, folders, files in os.walk(folder, onerror=fail):
        folders.sort()
        yield from (Path(here, name) for name in folders if Path(here, name).is_symlink())
        yield from (Path(here, name) for name in sorted(files))


def read_listed(folder: Path, name: str, listed: Mapping[str, Any]) -> bytes:
    """Read one of a package's files, and check that these very bytes are the ones listed."""
    if name not in listed:
        raise PackageError(f"{folder / MANIFEST}: {name} is not among its files")
    try:
        data = read_file(folder / name)
    except OSError as error:
        raise PackageError(f"{folder / name}: {error.strerror or error}, but the manifest lists it") from None
    found = hashlib.sha256(data).hexdigest()
    if found != listed[name]:
        _refuse_digest(folder / name, found, str(listed[name]))
    return data


def _refuse_digest(path: Path, found: str, listed: str) -> NoReturn:
    here, there, where = apart(found, listed)
    raise PackageError(f"{path}: its digest is {here}, the manifest says {there}{where}: it was changed or cut")


def apart(found: str, wanted: str) -> tuple[str, str, str]:
    """Give two digests so that one sees where they differ: 16 characters of each, and which, if not the first.

    >>> apart("a" * 64, "b" * 64)
    ('aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbb', '')
    >>> apart("a" * 64, "a" * 62 + "ba")
    ('aaaaaaaaaaaaaaaa', 'aaaaaaaaaaaaaaba', ' (characters 49 to 64 of 64)')
    """
    first = next((at for at, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]), 0)
    start = 0 if first < SHOWN else max(0, min(first - SHOWN // 2, len(found) - SHOWN))
    end = start + SHOWN
    where = f" (characters {start + 1} to {end} of {len(found)})" if start else ""
    return found[start:end], wanted[start:end], where


def check_archive(data: bytes, path: Path) -> None:
    """Refuse an archive that would unpack to more than any model needs. Raises PackageError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise PackageError(f"{path}: {error}") from None
    allowed = min(LARGEST_ARCHIVE, max(LARGE_ARCHIVE, MOST_UNPACKED * len(data)))
    if size > allowed:
        raise PackageError(f"{path}: its {len(data)} bytes unpack to {size}; at most {allowed} are read")
