"""The write gate: one writer at a time among processes, with a deadline and a name for whoever holds it.

LMDB's own write lock waits without limit and cannot say for whom. Writers therefore take an flock first. It is free
nearly always, and costs about a microsecond. When it is not, who waits asks the one that has it to commit for it as well
(``ledger.backends.delegation``), and is woken when that was done, or the gate is free. After 20 ms the work is handed to a
helper thread that may block, so that the caller can give up at its deadline knowing that nothing was or will be written.

Who has taken it stamps a file with its process number and the time, so that those who give up can say for how long it has
been held. The file is not the one that is locked: readers are woken when that one is written.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import queue
import struct
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ledger.errors import CommitFailed, LockTimeout

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.backends.delegation import Asking

T = TypeVar("T")

_LOOK_SECONDS = 5e-3  # who waits is woken, mostly
_LOOKING_SECONDS = 0.02
_STAMP = struct.Struct(">QQ")  # process, and the monotonic clock in ns when it took the lock: of one machine, and one boot


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

    ``fd`` is the file at ``path``, which is locked; the one at ``stamp_path`` is stamped, where it can be written. ``run`` is
    called by one thread at a time.
    """

    def __init__(self, path: Path, fd: int, stamp_path: Path) -> None:
        self._path, self._fd, self._stamp_path = path, fd, stamp_path
        self._stamps = _map_stamp(stamp_path)
        self._pid = os.getpid()  # a forked child may not write with what it inherited
        self._tickets: queue.SimpleQueue[_Ticket | None] = queue.SimpleQueue()
        self._helper: threading.Thread | None = None
        self._waiting = 0  # tickets that the helper has not finished with

    def run(self, work: Callable[[], T], timeout: float, asking: Asking | None = None) -> T | None:
        """Run the work under the lock; raise LockTimeout, without running it, after ``timeout`` seconds.

        Returns None when the work was not run, because who had the lock has answered ``asking`` meanwhile. Raises CommitFailed
        when that one has taken the request, and neither answers nor lets go in time.
        """
        # While the helper still waits for a lock that its caller gave up on, a lock taken here would be dropped by it:
        # both use one open file description.
        begun = time.monotonic()
        if self._waiting == 0:
            done: tuple[T | None] | None = self._run_if_free(work)
            if done is None and asking is not None:
                done = self._look(work, timeout, begun, asking)
            if done is not None:
                return done[0]
        return self._run_in_helper(work, timeout, begun)  # type: ignore[no-any-return]

    def _run_if_free(self, work: Callable[[], T]) -> tuple[T] | None:
        try:  # unlocking what is not locked does nothing; an interrupt after locking must not keep it
            return (work(),) if self._try_lock() else None
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _look(self, work: Callable[[], T], timeout: float, begun: float, asking: Asking) -> tuple[T | None] | None:
        """Look for a while whether the request is answered, or the lock is free; None when the request was taken back."""

        def take_over() -> T:
            asking.take_over()
            return work()

        try:
            asking.post()
            while True:
                asking.wait(_LOOK_SECONDS)
                if asking.is_answered():
                    return (None,)
                done = self._run_if_free(take_over)
                if done is not None:
                    return done
                waited = time.monotonic() - begun
                if waited > min(_LOOKING_SECONDS, timeout) and asking.withdraw():
                    return None
                if waited > timeout:
                    raise self._unanswered(waited)
        except BaseException:  # an interrupt: what nobody has taken will not be done
            asking.withdraw()
            raise

    def _unanswered(self, waited: float) -> CommitFailed:
        holders = ", ".join(lock_holders(self._path)) or "another process"
        return CommitFailed(
            f"{holders} has been writing to {self._path.parent} for {waited:.1f} s, this append among others, which may or may "
            "not be on disk. See to that process, and repeat the append with its append_id: it is recorded once.", None,
        )  # fmt: skip

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._stamp()
        return True

    def _stamp(self) -> None:
        if self._stamps is not None:
            _STAMP.pack_into(self._stamps, 0, self._pid, time.monotonic_ns())

    def _run_in_helper(self, work: Callable[[], Any], timeout: float, begun: float) -> Any:
        if self._helper is None:
            self._helper = threading.Thread(target=self._help, name="ledger-gate", daemon=True)
            self._helper.start()
        ticket = _Ticket(work)
        self._waiting += 1
        self._tickets.put(ticket)
        try:
            in_time = ticket.done.wait(begun + timeout - time.monotonic())
        except BaseException:  # an interrupt: what has not begun will not
            with ticket.lock:
                ticket.abandoned = not ticket.started
            raise
        if not in_time:
            with ticket.lock:
                ticket.abandoned = not ticket.started
            if ticket.abandoned:
                waited, held = time.monotonic() - begun, held_seconds(self._path, self._stamp_path)
                raise LockTimeout(str(self._path.parent), lock_holders(self._path), waited, held)
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
                        if ticket.started:  # else the files may be closed by now
                            self._stamp()
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
        """End the helper and close the files."""
        self._tickets.put(None)
        if self._stamps is not None:
            self._stamps.close()
        if self._helper is None or self._waiting == 0:
            os.close(self._fd)  # else the helper is blocked on it; the process's end closes it


def _map_stamp(path: Path) -> mmap.mmap | None:
    """Map the stamp into memory, so that it costs no call of the system; None on a full disk or without the right to write."""
    try:
        # Opened for itself: the map keeps a descriptor, and who holds a lock through the same one would hold it on.
        fd = os.open(path, os.O_RDWR)
        try:
            if os.fstat(fd).st_size < _STAMP.size:
                os.pwrite(fd, bytes(_STAMP.size), 0)  # a map of a hole would need room on the disk later
            return mmap.mmap(fd, _STAMP.size)
        finally:
            os.close(fd)
    except (OSError, ValueError):
        return None


def held_seconds(path: Path, stamp_path: Path) -> float | None:
    """Return for how long the gate at the path has been held; None when it is free, or that cannot be told."""
    try:
        process, taken_at = _STAMP.unpack(stamp_path.read_bytes()[: _STAMP.size])
    except (OSError, struct.error):
        return None
    seconds = (time.monotonic_ns() - taken_at) / 1e9
    # A holder that was stopped before it could stamp is not the one that did.
    return seconds if process in _locking_processes(path) and seconds >= 0 else None


def lock_holders(path: Path) -> list[str]:
    """Name the processes that hold a lock on the file, as far as this platform tells (Linux: /proc/locks)."""
    return [describe_process(process) for process in _locking_processes(path)]


def _locking_processes(path: Path) -> list[int]:
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
            holders.append(int(fields[4]))
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
