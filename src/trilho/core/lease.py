"""The right to do something for a model on this machine that only one process at a time may do."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from trilho.errors import DataError, Unreachable

LEASE_SECONDS = 1.0


class Lease:
    """A locked file that holds its process's number; it ends with the process, however that ends.

    `what` completes the sentence of the error: "bike-demand is being served".
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self._what = what
        self._handle: int | None = None

    def take(self) -> None:
        """Take the lease, or keep it. Raises Unreachable, naming the process, when another one has it."""
        if self._handle is not None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror}", hint="look at the folder") from None
        deadline = time.monotonic() + LEASE_SECONDS
        while not _lock(handle, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
                os.close(handle)
                raise Unreachable(
                    f"{self._what} by process {holder} already, and one at a time may do that",
                    hint=f"leave it to that process, or stop it (kill {holder})",
                )
            time.sleep(0.02)  # somebody may only be asking whether it is held
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        self._handle = handle

    @property
    def taken(self) -> bool:
        """Whether this one holds it."""
        return self._handle is not None

    def release(self) -> None:
        """Give the lease back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def held(path: Path) -> bool:
    """Say whether a living process holds a lease."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _lock(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def _lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
