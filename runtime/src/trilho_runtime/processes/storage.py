"""Packages that lie in a storage: gs://BUCKET/PATH, https://HOST/PATH, file:///PATH, or a folder as it is.

The manifest says which files there are and their digests, so it is all that is asked for by name. What comes is put
into a folder that is no package until every digest is right; then it is renamed to the manifest's own digest, once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from trilho_runtime.processes.download import DownloadError, Missing, Source
from trilho_runtime.steps.digest import digest_file

MANIFEST = "manifest.json"
UNLISTED = ("manifest.sig",)  # signs the manifest, so that it cannot be in it
LARGEST_MANIFEST = 64 * 2**20
REPORT_SECONDS = 2.0
CHANGED = 3  # how often a file may come with another digest than the manifest's


def is_remote(package: str) -> bool:
    """Say whether a package has to be brought here first.

    >>> [is_remote(x) for x in ("gs://bucket/model", "https://host/model", "file:///model", "model")]
    [True, True, False, False]
    """
    return urlsplit(package).scheme in ("gs", "http", "https")


def local(package: str | Path, cache: Path | None = None) -> Path:
    """Give the folder on this machine that holds a package, brought here if need be.

    Raises DownloadError, whose exit code is 5 where the same may work later.
    """
    text = str(package)
    if is_remote(text):
        return bring(text, cache or cache_folder())
    parts = urlsplit(text)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if "://" in text:
        raise DownloadError(
            f"{text}: {parts.scheme} is no storage known here", "gs://, https:// or file://, or a folder", 2
        )
    return Path(text)


def cache_folder() -> Path:
    """Give the folder that keeps what was brought: TRILHO_CACHE, else the user's own, else one of this machine's."""
    named = os.environ.get("TRILHO_CACHE")
    if named:
        return Path(named) / "packages"
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trilho" / "packages"
        home.mkdir(parents=True, exist_ok=True)
        if os.access(home, os.W_OK | os.X_OK):
            return home
    except (OSError, RuntimeError):
        pass
    return Path(tempfile.gettempdir()) / f"trilho-packages-{os.getuid()}"


def bring(uri: str, cache: Path) -> Path:
    """Give a package's folder in the cache; what is there already is not asked for again. Raises DownloadError."""
    source = Source(uri)
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix=".manifest-", dir=cache) as folder:
            manifest = Path(folder) / MANIFEST
            source.get(MANIFEST, manifest)
            files, digest = _listed(manifest, uri), digest_file(manifest)
            home = cache / digest
            with _alone(cache / f".{digest}.lock"):
                if not (home.is_dir() and _whole(home, files)):
                    _fill(source, files, manifest, home)
        return home
    except OSError as error:
        fact = f"{uri} cannot be kept in {cache}: {error.strerror or error}"
        raise DownloadError(fact, "set TRILHO_CACHE to a folder with room", 1) from None


def _fill(source: Source, files: Mapping[str, str], manifest: Path, home: Path) -> None:
    part = home.with_name(f".{home.name}.part")
    part.mkdir(exist_ok=True)
    report = Report(source.uri, len(files))
    for name, digest in sorted(files.items()):
        _get(source, name, digest, part / name, report)
        report.files += 1
    for name in UNLISTED:
        with contextlib.suppress(Missing):
            source.get(name, part / name)
    shutil.copyfile(manifest, part / MANIFEST)
    if home.exists():  # it was changed since; what is right replaces it
        shutil.rmtree(home)
    part.rename(home)
    report.end()


def _get(source: Source, name: str, digest: str, to: Path, report: Report) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(CHANGED):
        if to.exists() and digest_file(to) == digest:
            return
        source.get(name, to, report.add)
        if digest_file(to) == digest:
            return
        to.unlink()
    fact = f"{source.uri}/{name}: its digest is not the one in {MANIFEST}: it was changed, or is being written"
    raise DownloadError(fact, "put the whole package there again", 1)


def _listed(manifest: Path, uri: str) -> dict[str, str]:
    """Give a manifest's files and digests. Raises DownloadError when it is none, or a file would lie elsewhere."""
    fact = f"{uri}/{MANIFEST} is no manifest of a model package"
    try:
        if manifest.stat().st_size > LARGEST_MANIFEST:
            raise ValueError
        listed = json.loads(manifest.read_bytes())["files"]
        files = {str(name): str(digest) for name, digest in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DownloadError(fact, "name the folder that trilho.package wrote", 1) from None
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or name in (MANIFEST, *UNLISTED):
            raise DownloadError(f"{uri}/{MANIFEST}: {name} lies outside the package", "take another package", 1)
    return files


def _whole(home: Path, files: Mapping[str, str]) -> bool:
    try:
        return all(digest_file(home / name) == digest for name, digest in files.items())
    except OSError:
        return False


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time bring a package; the others wait, and find it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Report:
    """Says now and then how far a package has come."""

    def __init__(self, uri: str, number: int) -> None:
        self.uri, self.number, self.files = uri, number, 0
        self._bytes, self._started = 0, time.monotonic()
        self._said = self._started

    def add(self, size: int) -> None:
        """Count bytes that came."""
        self._bytes += size
        if time.monotonic() - self._said >= REPORT_SECONDS:
            self._said = time.monotonic()
            self._say(f"{self.files} of {self.number} files, {self._bytes / 1e6:.1f} MB so far")

    def end(self) -> None:
        """Say that all has come."""
        seconds = time.monotonic() - self._started
        self._say(f"{self.number} files, {self._bytes / 1e6:.1f} MB in {seconds:.1f} s")

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{self.uri}: {text}\n")
            sys.stderr.flush()
