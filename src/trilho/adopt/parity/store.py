"""Artifacts of one check, in a folder that goes with it."""

from __future__ import annotations

import shutil
from pathlib import Path

from trilho.core.digest import digest_path
from trilho.errors import DataError


class CheckStore:
    """Files and folders by the digest of their content, for the one process that checks."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, source: Path) -> str:
        """Keep a copy of a file or folder and give its digest."""
        digest = digest_path(source)
        place = self._place(digest)
        if not place.exists():
            draft = place.with_suffix(".part")
            draft.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, draft) if source.is_dir() else shutil.copyfile(source, draft)
            draft.rename(place)
        return digest

    def path(self, digest: str) -> Path:
        """Give where an artifact lies. Raises DataError when it is not there."""
        place = self._place(digest)
        if not place.exists():
            raise DataError(f"artifact {digest[:12]} is not in {self.root}", hint="run the check again")
        return place

    def has(self, digest: str) -> bool:
        """Say whether an artifact is there."""
        return self._place(digest).exists()

    def use(self, digest: str) -> bool:
        """Say whether an artifact is there: nothing here frees any."""
        return self.has(digest)

    def discard(self, digest: str) -> None:
        """Forget an artifact."""
        place = self._place(digest)
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)

    def _place(self, digest: str) -> Path:
        return self.root / digest[:2] / digest
