"""What tasks left, by the fingerprint of what their result depends on: manifests, written last and whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trilho.core.files import write_whole
from trilho.pipeline.keeping.artifacts import Artifact, Artifacts, Keeping
from trilho.pipeline.keeping.runs import RunFolder

SCHEMA = 2


@dataclass(frozen=True)
class Kept:
    """What a task left, in which run."""

    run: str
    task: str
    values: Mapping[str, Any]
    artifacts: Artifacts


@dataclass(frozen=True)
class Cache:
    """The manifests of a home, and those of one run for tasks that are never cached."""

    home: Path
    keeping: Keeping
    folder: RunFolder
    resumed: RunFolder | None = None

    def find(self, fingerprint: str) -> Kept | None:
        """Find what was left under a fingerprint, if all of it is there."""
        return self._read(self._place(fingerprint))

    def finished(self, task: str, fingerprint: str) -> Kept | None:
        """Find what a task of the run that is resumed left, if it was the same task."""
        return None if self.resumed is None else self._read(self.resumed.task(task), fingerprint)

    def keep(self, fingerprint: str, kept: Kept) -> None:
        """Say that a task's result is there for every run from now on."""
        write_whole(self._place(fingerprint), self._text(fingerprint, kept))

    def note(self, fingerprint: str, kept: Kept) -> None:
        """Say that a task of this run is done, for whoever resumes the run."""
        write_whole(self.folder.task(kept.task), self._text(fingerprint, kept))

    def _place(self, fingerprint: str) -> Path:
        return self.home / "cache" / f"{fingerprint}.json"

    def _text(self, fingerprint: str, kept: Kept) -> str:
        manifest = {
            "schema": SCHEMA,
            "task": kept.task,
            "run": kept.run,
            "fingerprint": fingerprint,
            "outputs": stored_digests(kept.artifacts),
            "values": kept.values,
            "artifacts": {name: [one.written() for one in listed] for name, listed in kept.artifacts.items()},
        }
        return json.dumps(manifest)

    def _read(self, place: Path, fingerprint: str | None = None) -> Kept | None:
        try:
            found = json.loads(place.read_text(encoding="utf-8"))
            if found["schema"] != SCHEMA or fingerprint not in (None, found["fingerprint"]):
                return None
            artifacts: dict[str, tuple[Artifact, ...]] = {}
            for name, listed in found["artifacts"].items():
                there = [self.keeping.found(one) for one in listed]
                artifacts[name] = tuple(one for one in there if one is not None)
                if len(artifacts[name]) < len(there):
                    return None
            return Kept(str(found["run"]), str(found["task"]), dict(found["values"]), artifacts)
        except (OSError, ValueError, KeyError, TypeError):
            return None


def stored_digests(artifacts: Artifacts) -> dict[str, str]:
    """Give the digests of what the store has, by output; the second of a list is "name/1".

    >>> one = Artifact("m", "/s/a", digest="a", stored=True)
    >>> stored_digests({"m": (one, Artifact("m", "/s/b", digest="b", stored=True)), "x": (Artifact("x", "gs://b/x"),)})
    {'m': 'a', 'm/1': 'b'}
    """
    return {
        name if index == 0 else f"{name}/{index}": str(one.digest)
        for name, listed in artifacts.items()
        for index, one in enumerate(listed)
        if one.stored
    }
