"""Where a notebook's run leaves what it reads, writes and makes, until the project is made of it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trilho.errors import TrilhoError

KEPT_SECONDS = 14 * 24 * 3600  # how long the checkpoint of a run that was not finished is kept


@contextmanager
def scratch_folder(digest: str) -> Iterator[Path]:
    """Give a folder for a notebook's run; a run that was not finished finds its checkpoint there again.

    It is removed when the project is made, and when there is no checkpoint in it. Another adoption of the same notebook
    at the same time gets a folder of its own.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trilho" / "adopt"
    try:
        root.mkdir(parents=True, exist_ok=True)
        _forget(root)
    except OSError as error:
        raise TrilhoError(
            f"{root} cannot be written: {error.strerror}", hint="XDG_CACHE_HOME=DIR names another place for it"
        ) from None
    with (root / f"{digest[:32]}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = root / digest[:32]
        except BlockingIOError:
            folder = Path(tempfile.mkdtemp(dir=root))
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        except BaseException:
            if not (folder / "checkpoint.json").exists():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _forget(root: Path) -> None:
    """Remove what runs left that nobody went on with."""
    for path in root.iterdir():
        if time.time() - path.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
