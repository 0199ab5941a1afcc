"""Two folders change names in one step, so that whoever looks at either path finds a whole folder at every moment."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

AT_FDCWD = -100
RENAME_EXCHANGE = 2
RENAME_SWAP = 2
UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


def exchange(one: Path, other: Path) -> None:
    """Give each of two paths the other's content.

    Where the system or the file system cannot do it in one step there is a moment without anything at `one`.
    """
    swap = _swap()
    code = swap(os.fsencode(one), os.fsencode(other)) if swap is not None else errno.ENOSYS
    if code == 0:
        return
    if code not in UNSUPPORTED:
        raise OSError(code, os.strerror(code), str(one))
    _exchange_by_steps(one, other)


def _exchange_by_steps(one: Path, other: Path) -> None:
    aside = other.with_name(f"{other.name}.aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


@cache
def _swap() -> Callable[[bytes, bytes], int] | None:
    """Give the C library's call, which answers with an error number; None where there is none."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        call = library.renamex_np if sys.platform == "darwin" else library.renameat2
    except (OSError, AttributeError, TypeError):
        return None

    def swap(one: bytes, other: bytes) -> int:
        if sys.platform == "darwin":
            failed = call(one, other, ctypes.c_uint(RENAME_SWAP))
        else:
            failed = call(AT_FDCWD, one, AT_FDCWD, other, ctypes.c_uint(RENAME_EXCHANGE))
        return ctypes.get_errno() if failed else 0

    return swap
