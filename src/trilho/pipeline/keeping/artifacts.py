"""What passes between the tasks of a run as files: where it lies, what it is named by, what is said about it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trilho.core.digest import digest_json, digest_path, files_of
from trilho.core.ports import ArtifactStore
from trilho.pipeline.places import Places

Looks = dict[Path, tuple[int, int, int]]
"""What files look like from outside: what has another number, size or time may have another content."""
MARK = "trilho_digest"  # in the metadata of what a step left beside a service: what hashing it would give


@dataclass(frozen=True)
class Artifact:
    """One artifact. `digest` names its content where that is known, `stored` says that the store has it."""

    name: str
    uri: str
    schema: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    digest: str | None = None
    stored: bool = False
    member: str = ""
    """Where it is within what is stored, when a step wrote beside its path and the whole folder was kept."""

    @property
    def identity(self) -> str:
        """Give what a later task's result depends on: content, or the URI where that is not known, and metadata."""
        told = {key: value for key, value in self.metadata.items() if key != MARK}
        if self.digest is not None:
            return digest_json([self.digest, self.member, told]) if told or self.member else self.digest
        return digest_json([None if self.is_bare else self.uri, told])

    @property
    def is_bare(self) -> bool:
        """Whether there is nothing but metadata: no file was left, and the URI is only where one would have been."""
        return self.digest is None and self.uri.startswith("/")

    def entry(self, uri: str | None = None) -> dict[str, Any]:
        """Give it as an executor input has it."""
        held = {"name": self.name, "uri": self.uri if uri is None else uri, "metadata": dict(self.metadata)}
        return {**held, "type": dict(self.schema)}

    def shown(self) -> dict[str, Any]:
        """Give it as a run's result has it."""
        return {**self.entry(), "digest": self.digest}

    def written(self) -> dict[str, Any]:
        """Give it as a manifest has it; a stored one lies where the store says."""
        return {
            "name": self.name,
            "uri": "" if self.stored else self.uri,
            "type": dict(self.schema),
            "metadata": dict(self.metadata),
            "digest": self.digest,
            "stored": self.stored,
            "member": self.member,
        }


@dataclass(frozen=True)
class Keeping:
    """Takes over what a step left, and finds it again: in the store, or where the step was told to leave it."""

    store: ArtifactStore
    places: Places

    def take(self, asked: Artifact, told: Mapping[str, Any], scratch: Path) -> Artifact:
        """Take over one output; `told` is what the step says of it, if it says anything."""
        uri = str(told.get("uri") or asked.uri)
        metadata = {**asked.metadata, **dict(told.get("metadata") or {})}
        artifact = replace(asked, uri=self._as_asked(asked, uri), metadata=metadata)
        path = self.local(artifact)
        if path is not None and path.is_relative_to(scratch):
            if "://" not in asked.uri:
                return self._stored(artifact, path, scratch)
            artifact, path = self._moved(artifact, path, asked)
        if path is None or not path.exists():
            return artifact
        return replace(artifact, digest=str(metadata.get(MARK) or digest_path(path)))

    def local(self, artifact: Artifact) -> Path | None:
        """Give where an artifact lies on this machine, if it can."""
        return None if artifact.uri == "" else self.places.local(artifact.uri)

    def look(self, artifacts: Iterable[Artifact]) -> dict[str, Looks]:
        """See what those of the store look like, before a step is given them."""
        return {str(one.digest): _looks(self.store.path(str(one.digest))) for one in artifacts if one.stored}

    def spoiled(self, before: Mapping[str, Looks]) -> list[str]:
        """Give the digests of those that a step changed, which are forgotten; files that it only added are removed."""
        found = []
        for digest, looked in before.items():
            path = self.store.path(digest) if self.store.has(digest) else None
            looks = _looks(path) if path is not None else {}
            for added in set(looks) - set(looked):
                added.unlink(missing_ok=True)
            same = {name: looks.get(name) for name in looked} == looked
            if path is None or not (same or digest_path(path) == digest):  # who uses it gives it a new time
                self.store.discard(digest)
                found.append(digest)
        return found

    def found(self, kept: Mapping[str, Any]) -> Artifact | None:
        """Find again what a manifest names; None where it is not what it was."""
        artifact = Artifact(
            str(kept["name"]), str(kept["uri"]), kept["type"], kept["metadata"], kept["digest"],
            bool(kept["stored"]), str(kept["member"]),
        )  # fmt: skip
        if artifact.stored:
            return self._at_home(artifact) if self.store.use(str(artifact.digest)) else None
        path = self.local(artifact)
        if artifact.digest is None:
            return artifact
        return artifact if path is not None and path.exists() and digest_path(path) == artifact.digest else None

    def imported(self, name: str, uri: str, schema: Mapping[str, Any], metadata: Mapping[str, Any]) -> Artifact:
        """Name what exists already, without copying it."""
        artifact = Artifact(name, uri, schema, metadata)
        path = self.local(artifact)
        if path is not None and "://" not in uri:
            artifact = replace(artifact, uri=str(path.absolute()))
        return replace(artifact, digest=digest_path(path)) if path is not None and path.exists() else artifact

    def _moved(self, artifact: Artifact, path: Path, asked: Artifact) -> tuple[Artifact, Path | None]:
        """Bring what a step left in a place of its own choice to where it was told to leave it."""
        target = self.local(asked)
        if target is not None and path.exists():
            shutil.move(path, target)
        return replace(artifact, uri=asked.uri), target

    def _as_asked(self, asked: Artifact, uri: str) -> str:
        """Give a URI for the path that a step was told to use for it, or for one below or beside it."""
        path = self.local(asked)
        if path is None or "://" not in asked.uri or not uri.startswith(str(path)):
            return uri
        return asked.uri + uri.removeprefix(str(path))

    def _stored(self, artifact: Artifact, path: Path, scratch: Path) -> Artifact:
        folder = scratch / "artifacts" / artifact.name
        beside = [other for other in _listed(folder) if other != path] if path.is_relative_to(folder) else []
        if beside:
            member = path.relative_to(folder).as_posix()
            return self._at_home(replace(artifact, digest=self.store.put(folder), stored=True, member=member))
        if not path.exists():
            return artifact
        return self._at_home(replace(artifact, digest=self.store.put(path), stored=True))

    def _at_home(self, artifact: Artifact) -> Artifact:
        path = self.store.path(str(artifact.digest))
        return replace(artifact, uri=str(path / artifact.member if artifact.member else path))


def _looks(path: Path) -> Looks:
    stats = {file: file.stat() for file in (files_of(path) if path.is_dir() else [path])}
    return {file: (found.st_ino, found.st_size, found.st_mtime_ns) for file, found in stats.items()}


def _listed(folder: Path) -> Iterable[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else ()


Artifacts = Mapping[str, tuple[Artifact, ...]]
