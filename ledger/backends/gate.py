"""The write gate: one writer at a time among processes, with a deadline and a name for whoever holds it.

LMDB's own write lock waits without limit and cannot say for whom. Writers therefore take an flock first. It is free
nearly always, and costs about a microsecond; when it is not, the work is handed to a helper thread that may block, so
that the caller can give up at its deadline knowing that nothing was or will be written.
"""

from __future__ import annotations

import fcntl
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ledger.errors import LockTimeout

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")


class _Ticket:
    """A piece of work that waits for the gate in the helper thread."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.lock = threading.Lock()
        self.started = self.abandoned = False
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None


class Gate:
    """Exclude other processes' writers while a piece of work runs.

    ``run`` is called by one thread at a time.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd
        self._tickets: queue.SimpleQueue[_Ticket | None] = queue.SimpleQueue()
        self._helper: threading.Thread | None = None
        self._waiting = 0  # tickets that the helper has not finished with

    def run(self, work: Callable[[], T], timeout: float) -> T:
        """Run the work under the lock; raise LockTimeout, without running it, after ``timeout`` seconds."""
        # While the helper still waits for a lock that its caller gave up on, a lock taken here would be dropped by it:
        # both use one open file description.
        if self._waiting == 0:
            try:  # unlocking what is not locked does nothing; an interrupt after locking must not keep it
                if self._try_lock():
                    return work()
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        return self._run_in_helper(work, timeout)  # type: ignore[no-any-return]

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _run_in_helper(self, work: Callable[[], Any], timeout: float) -> Any:
        if self._helper is None:
            self._helper = threading.Thread(target=self._help, name="ledger-gate", daemon=True)
            self._helper.start()
        ticket = _Ticket(work)
        self._waiting += 1
        begun = time.monotonic()
        self._tickets.put(ticket)
        try:
            in_time = ticket.done.wait(timeout)
        except BaseException:  # an interrupt: what has not begun will not
            with ticket.lock:
                ticket.abandoned = not ticket.started
            raise
        if not in_time:
            with ticket.lock:
                ticket.abandoned = not ticket.started
            if ticket.abandoned:
                raise LockTimeout(str(self._path.parent), lock_holders(self._path), time.monotonic() - begun)
            ticket.done.wait()
        if ticket.error is not None:
            raise ticket.error
        return ticket.result

    def _help(self) -> None:
        while (ticket := self._tickets.get()) is not None:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX)
                try:
                    with ticket.lock:
                        ticket.started = not ticket.abandoned
                    if ticket.started:
                        ticket.result = ticket.work()
                finally:
                    fcntl.flock(self._fd, fcntl.LOCK_UN)
            except BaseException as error:  # noqa: BLE001 - whatever it was belongs to the caller, who waits for it
                ticket.error = error
            finally:
                self._waiting -= 1
                ticket.done.set()

    def close(self) -> None:
        """End the helper and close the file."""
        self._tickets.put(None)
        if self._helper is None or self._waiting == 0:
            os.close(self._fd)  # else the helper is blocked on it; the process's end closes it


def lock_holders(path: Path) -> list[str]:
    """Name the processes that hold a lock on the file, as far as this platform tells (Linux: /proc/locks)."""
    try:
        inode = os.stat(path).st_ino
        with open("/proc/locks") as locks:
            lines = locks.read().splitlines()
    except OSError:
        return []
    holders = []
    for line in lines:
        fields = line.split()
        if "->" not in fields and len(fields) > 5 and fields[1] == "FLOCK" and fields[5].rsplit(":", 1)[-1] == str(inode):
            holders.append(describe_process(int(fields[4])))
    return list(dict.fromkeys(holders))


def describe_process(pid: int) -> str:
    """Name a process by its number and command line; say so when it is stopped."""
    if pid == os.getpid():
        return f"this process ({pid})"
    try:
        with open(f"/proc/{pid}/cmdline", errors="replace") as told:
            command = told.read().replace("\0", " ").strip()
        with open(f"/proc/{pid}/stat", errors="replace") as told:
            state = told.read().rpartition(")")[2].split()[0]
    except OSError:
        return f"process {pid}"
    stopped = ", which is stopped" if state in "tT" else ""
    return f"process {pid} ({command[:80]}{stopped})"
