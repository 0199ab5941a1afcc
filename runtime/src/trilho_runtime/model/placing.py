"""Where a package is written: beside its place, under a name of the process, and moved there once it is whole.

    .NAME.PID.part   being written          .NAME.PID.old   what was there, until the new one is

A process that was killed leaves either behind. The next one that writes to the same place clears that away.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

from trilho_runtime.model.manifest import PackageError

FULL = (errno.ENOSPC, errno.EDQUOT)


def new_place(place: Path) -> Path:
    """Give the folder to write a package in before it is put in its place, and clear away what killed ones left."""
    clear(place)
    beside = place.with_name(f".{place.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    return beside


def clear(place: Path) -> None:
    """Remove what processes that are no more left beside a place; a package that one was exchanging is put back."""
    pattern = re.compile(rf"\.{re.escape(place.name)}\.([0-9]{{1,10}})\.(part|old)")
    try:
        found = [(path, match) for path in place.parent.iterdir() if (match := pattern.fullmatch(path.name))]
    except OSError:  # nothing can have been left in a folder that is not there
        return
    for path, match in sorted(found):
        if path.is_symlink() or not path.is_dir() or _lives(int(match[1])):
            continue
        if match[2] == "old" and not place.exists():
            path.rename(place)
        else:
            shutil.rmtree(path, ignore_errors=True)


def put_in_place(beside: Path, place: Path) -> None:
    """Put a finished package in its place: at once where nothing is there, else after moving the older one aside."""
    if not place.exists():
        beside.rename(place)
        return
    older = place.with_name(f".{place.name}.{os.getpid()}.old")
    shutil.rmtree(older, ignore_errors=True)
    place.rename(older)
    try:
        beside.rename(place)
    except OSError:
        older.rename(place)
        raise
    shutil.rmtree(older, ignore_errors=True)


def not_written(place: Path, error: OSError) -> PackageError:
    """Give the refusal of a package that could not be written: what failed, and what to do about it."""
    where = f" ({error.filename})" if error.filename and str(error.filename) != str(place) else ""
    fact = f"{place} cannot be written: {error.strerror or error}{where}; nothing of it was left"
    if error.errno in FULL:
        return PackageError(fact, "make room on that disk, or name another folder: out=...")
    return PackageError(fact, "name a folder that can be written: out=...")


def _lives(process: int) -> bool:
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # of another user
        return True
    return True
