"""Who may be in a ledger's directory: everybody with a share of ``open.lock``, or one alone.

Every handle holds a share for as long as it lives. What swaps the log's file (compaction, restore) takes the lock for
itself: a handle that went on with the file that was swapped away would acknowledge events into nothing.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ledger.backends.gate import lock_holders
from ledger.errors import LedgerBusy

if TYPE_CHECKING:
    from pathlib import Path


LOCK_NAME = "open.lock"
_POLL_SECONDS = 0.02


def share_directory(path: Path, *, readonly: bool, timeout: float) -> int:
    """Take a share of the directory's lock and return its descriptor; closing that gives it back.

    Returns -1 where there is no lock to take: on a read-only mount of a ledger copied without it. Raises LedgerBusy when
    somebody has the directory alone for longer than ``timeout`` seconds.
    """
    file = path / LOCK_NAME
    deadline = time.monotonic() + timeout
    while True:
        try:
            fd = os.open(file, os.O_RDONLY if readonly else os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            if readonly:
                return -1
            raise
        if _try_lock(fd, file, fcntl.LOCK_SH):
            return fd
        if time.monotonic() >= deadline:
            holders = ", ".join(lock_holders(file)) or "another process"
            raise LedgerBusy(
                f"{path} is held exclusively by {holders} (a compaction or a restore). "
                "Wait until it is done; raise lock_timeout to wait longer."
            )
        time.sleep(_POLL_SECONDS)


def _try_lock(fd: int, file: Path, kind: int) -> bool:
    """Lock the open file; close it and say no when that cannot be, or when it is no longer the one at its path."""
    locked = False
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
        # While this waited, the directory may have been moved away and another one put in its place.
        locked = os.path.samestat(os.fstat(fd), os.stat(file))
    except (BlockingIOError, FileNotFoundError):
        pass
    finally:
        if not locked:
            os.close(fd)
    return locked


@contextmanager
def hold_exclusively(path: Path, purpose: str) -> Iterator[None]:
    """Have the directory alone while the block runs; nobody waits for it here.

    Raises LedgerBusy, naming the processes that have the ledger open, this one among them.
    """
    file = path / LOCK_NAME
    fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    if not _try_lock(fd, file, fcntl.LOCK_EX):
        holders = ", ".join(lock_holders(file)) or "another process, or another handle of this one"
        raise LedgerBusy(
            f"{purpose} needs {path} for itself, but it is open in {holders}. Close it there, or end what has it open, "
            "and try again; nothing was changed."
        )
    try:
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # a child forked meanwhile has the descriptor, too, and must not keep the lock
        os.close(fd)
