"""One LMDB environment, with the duties that LMDB leaves to its user.

- never ``writemap`` or ``map_async``: a full disk would kill the process, an unclean stop would lose pages;
- opened once per process and path, and counted: a second open of the same files would drop the first one's locks;
- the map grows by itself, also when another process grew it;
- read transactions are short, dead readers are cleared;
- a forked child gets a clear error from the handles it inherited (LMDB would write, silently), and may open again;
- a failed commit poisons the handle: LMDB goes on after an I/O error as if what it could not write were there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import lmdb

from ledger.backends.activity import Activity, Visit
from ledger.backends.directory import Access, describe_directory, find_access, put_empty_log
from ledger.backends.exclusive import LOCK_NAME, share_directory
from ledger.backends.gate import Gate
from ledger.backends.length import find_cut
from ledger.backends.mailbox import Mailbox
from ledger.errors import (
    CommitFailed,
    Corrupted,
    DiskFull,
    ForkedHandle,
    HandleError,
    LedgerBusy,
    LedgerClosed,
    LedgerPoisoned,
    NotALedger,
    OpenError,
    OptionsConflict,
    ReadOnlyLedger,
)
from ledger.partial import sync_directory

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.backends.delegation import Asking

T = TypeVar("T")

MAP_BYTES = 1 << 40  # address space only; the file is as large as its content
MAX_READERS = 2046
_LITTLE_ROOM = 1 << 20
_READER_CHECK_SECONDS = 5.0
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Options(NamedTuple):
    """How an environment is opened; one path has one set of them in a process."""

    durability: str = "full"
    lock_timeout: float = 30.0
    map_bytes: int = MAP_BYTES


class Environment:
    """An LMDB environment shared by the handles of one process. Use ``Environment.acquire``."""

    _open: dict[tuple[int, int], Environment] = {}
    _registry = threading.RLock()

    def __init__(self, path: Path, options: Options, access: Access) -> None:
        self.path, self.options, self._access = path, options, access
        self.readonly = readonly = access is not Access.WRITE
        self.count = 1
        self.forked = self.closed = False
        self.poison: str | None = None
        self.activity = Activity()
        self._write_lock = threading.Lock()
        self._readers_checked = time.monotonic()
        self._lock_fd = share_directory(path, readonly=readonly, timeout=options.lock_timeout)
        try:
            if not readonly and not (path / "data.mdb").exists():
                put_empty_log(path)
            self._lmdb = self._open_lmdb()
            if cut := find_cut(self._lmdb, path / "data.mdb"):
                raise Corrupted(f"{cut}.")
            self.head_fd = os.open(path / "head", os.O_RDONLY if readonly else os.O_RDWR | os.O_CREAT, 0o666)
            self._gate = Gate(path / "head", self.head_fd, path / LOCK_NAME)
            self.mailbox = Mailbox(None if readonly else path / LOCK_NAME)
        except BaseException:
            self._abandon()
            raise

    # ---------------------------------------------------------------------------------------------- opening

    @classmethod
    def acquire(cls, path: Path, options: Options, *, create: bool, readonly: bool) -> Environment:
        """Open the directory's environment, or share the one that this process has open.

        Raises an OpenError; nothing is created when it does.
        """
        try:
            with cls._registry:
                return cls._acquire(path, options, create=create, readonly=readonly)
        except OpenError:
            raise
        except PermissionError as error:
            raise ReadOnlyLedger(f"no right to use {error.filename or path}: {error.strerror}. Get the right (chmod).") from error
        except OSError as error:
            raise OpenError(f"{path} cannot be opened: {error.strerror or error}. Check the path.") from error

    @classmethod
    def _acquire(cls, path: Path, options: Options, *, create: bool, readonly: bool) -> Environment:
        found = describe_directory(path, create=create)
        if found is not None:
            environment = cls._open.get(found)
            if environment is not None and environment.poison is None:
                environment._share(options, readonly)
                return environment
            if environment is not None:
                del cls._open[found]
                environment._close_files()
        # A read-only handle shares the environment with others of this process, so the environment is made read-only
        # only where it has to be.
        access = find_access(path, readonly=readonly)
        is_new = not (path / "data.mdb").exists()
        if found is None:
            path.mkdir(exist_ok=True)
        environment = cls(path, options, access)
        if is_new:
            sync_directory(path)
            sync_directory(path.parent)
        stat = path.stat()
        environment._key = (stat.st_dev, stat.st_ino)
        cls._open[environment._key] = environment
        return environment

    _key: tuple[int, int] = (0, 0)

    def _share(self, options: Options, readonly: bool) -> None:
        if self.readonly and not readonly:
            raise OptionsConflict(
                f"{self.path} can only be read here, and is open in this process; it cannot be opened to write."
            )
        if not readonly and options != self.options:
            pairs = zip(Options._fields, self.options, options, strict=True)
            name, ours, asked = next((n, a, b) for n, a, b in pairs if a != b)
            raise OptionsConflict(
                f"{self.path} is open in this process with {name}={ours!r}, not {asked!r}. "
                "Use the same options, or close the other handle first."
            )
        self.count += 1

    def _open_lmdb(self) -> lmdb.Environment:
        size = self.options.map_bytes
        lock = self._access is not Access.READ_UNLOCKED
        for attempt in range(60):
            try:
                environment = lmdb.open(
                    str(self.path), map_size=size, max_readers=MAX_READERS, max_spare_txns=0, readonly=self.readonly, lock=lock,
                    metasync=self.options.durability == "full", sync=True, writemap=False, map_async=False, create=True,
                )  # fmt: skip
                if lock:
                    environment.reader_check()
                return environment
            except (lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError) as error:
                raise NotALedger(
                    f"{self.path / 'data.mdb'} is not a ledger's file ({error}). Give the path of a ledger."
                ) from error
            except (lmdb.Error, MemoryError) as error:
                if "annot allocate memory" in str(error) and size > 1 << 24:
                    size //= 2  # RLIMIT_AS or strict overcommit: a smaller map grows when needed
                elif attempt < 5:
                    time.sleep(0.01 * (attempt + 1))  # another process may be creating or leaving the same files
                else:
                    raise NotALedger(f"{self.path} could not be opened: {error}.") from error
        raise NotALedger(f"{self.path} could not be opened.")

    # ------------------------------------------------------------------------------------------ transactions

    def check_usable(self) -> None:
        """Raise when the handle was closed, forked or poisoned."""
        if self.forked:
            raise ForkedHandle(
                f"{self.path} was opened before this process was forked; LMDB cannot be shared across a fork. "
                "Call ledger.open again in this process."
            )
        if self.poison is not None:
            raise LedgerPoisoned(f"a commit on {self.path} failed ({self.poison}). Close this handle and open the ledger again.")
        if self.closed:
            raise LedgerClosed(f"the ledger {self.path} is closed; open it again.")

    @contextlib.contextmanager
    def read(self) -> Iterator[Any]:
        """Hold a read transaction. Keep it short: while it lives, no page freed after it began can be used again."""
        visit, txn = Visit(), None
        try:
            self.activity.enter(visit)
            self.check_usable()
            txn = self._begin_read(visit)
            yield txn
        except lmdb.Error as error:
            raise Corrupted(f"LMDB cannot read {self.path}: {error}.") from error
        finally:
            if txn is not None:
                txn.abort()
            self.activity.leave(visit)

    def _begin_read(self, visit: Visit) -> Any:
        for _ in range(3):
            try:
                return self._lmdb.begin()
            except lmdb.MapResizedError:
                self.activity.leave(visit)
                try:
                    self._resize(0)
                finally:
                    self.activity.enter(visit)
            except lmdb.ReadersFullError:
                self._lmdb.reader_check()
        try:
            return self._lmdb.begin()
        except lmdb.ReadersFullError:
            raise LedgerBusy(f"{self.path} has {MAX_READERS:,} readers at this moment, which is all. Try again.") from None

    def write(self, work: Callable[[Any], T], after: Callable[[T], None] = lambda result: None) -> T:
        """Run the work in a write transaction and commit it; the work may be run again when the map has to grow.

        ``after`` is run on its result when it is on disk. Raises LockTimeout, what the work raised (nothing was
        written), or CommitFailed.
        """
        with self._write_lock:
            self.check_usable()
            result = cast("T", self._gate.run(lambda: self._write(work), self.options.lock_timeout))  # nobody else was asked
            after(result)
            return result

    def write_or_ask(
        self, work: Callable[[Any], T], committed: Callable[[T], None], after: Callable[[T], None], asking: Asking
    ) -> T | None:
        """Do as ``write`` does, or have it done by the process that holds the gate: then None, and ``asking`` has the answer.

        ``committed`` is run on the result when it is on disk and nobody else can write yet, ``after`` a little later.
        """

        def settled() -> T:
            result = self._write(work)
            committed(result)
            return result

        with self._write_lock:
            self.check_usable()
            result = self._gate.run(settled, self.options.lock_timeout, asking)
            if result is not None:
                self.mailbox.wake_next()
                after(result)
            return result

    def _write(self, work: Callable[[Any], T]) -> T:
        visit = Visit()
        while True:
            txn = None
            try:  # an interrupt may come between any two steps: nothing may be held that this block does not let go
                self.activity.enter(visit)
                self.check_usable()
                self._clear_dead_readers()
                txn = self._lmdb.begin(write=True)
                result = work(txn)
                self.commit_transaction(txn)
                txn = None
                return result
            except lmdb.MapFullError:
                grow_to = self._lmdb.info()["map_size"] * 2
            except lmdb.MapResizedError:
                grow_to = 0  # take over the size that another process set
            except (lmdb.Error, OSError) as error:
                raise self._poisoned(error) from error
            finally:
                if txn is not None:
                    txn.abort()
                self.activity.leave(visit)
            self._resize(grow_to)

    def _clear_dead_readers(self) -> None:
        """Free the slots of readers that were killed: each pins the pages it could see, and the file grows."""
        now = time.monotonic()
        if now - self._readers_checked > _READER_CHECK_SECONDS:
            self._readers_checked = now
            self._lmdb.reader_check()

    def commit_transaction(self, txn: Any) -> None:
        """Commit; here so that tests can make it fail."""
        txn.commit()

    def _poisoned(self, error: Exception) -> CommitFailed:
        self.poison = str(error)
        text = str(error)
        if isinstance(error, lmdb.DiskError) or getattr(error, "errno", None) in _FULL or self._is_full():
            return DiskFull(
                f"no space left for {self.path} ({text}). Everything acknowledged before is intact. "
                "Free some space, open the ledger again, and repeat the append with its append_id.", None,
            )  # fmt: skip
        return CommitFailed(
            f"a commit on {self.path} failed ({text}); it may or may not be on disk. Open the ledger again and repeat "
            "the append with its append_id: it is recorded once.", None,
        )  # fmt: skip

    def _is_full(self) -> bool:
        """Say whether there is hardly room for the next write: LMDB calls a write that was cut short an I/O error."""
        room = os.statvfs(self.path)
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        left = limit - (self.path / "data.mdb").stat().st_size if limit != resource.RLIM_INFINITY else _LITTLE_ROOM
        return min(left, room.f_bavail * room.f_frsize) < _LITTLE_ROOM

    # ------------------------------------------------------------------ growing the map, closing

    def _resize(self, size: int) -> None:
        if not self.activity.quiesce(60.0):
            raise Corrupted(f"could not grow the map of {self.path}: a read transaction has been open for a minute.")
        try:
            self._lmdb.set_mapsize(size)
        except (lmdb.Error, MemoryError) as error:
            raise HandleError(
                f"the log of {self.path} is larger than can be mapped here ({error}). Raise the limit on memory (ulimit -v); "
                "where there is none, data.mdb is damaged: run `ledger doctor`."
            ) from error
        finally:
            self.activity.resume()

    def release(self) -> None:
        """Give one handle's share back; the last one closes the environment.

        Raises HandleError when a view of it stays open in this process for a minute.
        """
        with self._registry:
            if self.forked:
                return
            self.count -= 1
            if self.count > 0 or self.closed:
                return
            if self._open.get(self._key) is self:
                del self._open[self._key]
        self._close_files()

    def _close_files(self) -> None:
        with self._write_lock:  # nobody commits, and nobody rings the doorbell
            if not self.activity.quiesce(60.0):
                raise HandleError(f"{self.path} was not closed: a view of it has been open for a minute. Leave it first.")
            self.closed = True
            self.activity.resume()
            self._abandon()

    def _abandon(self) -> None:
        if hasattr(self, "_lmdb"):
            self._lmdb.close()
        if hasattr(self, "_gate"):
            self._gate.close()
        if hasattr(self, "mailbox"):
            self.mailbox.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)


# ------------------------------------------------------------------------------------------------------------ fork

_quiet: list[Environment] = []


def _before_fork() -> None:
    # LMDB's close in the child would also clear the parent's reader slots: there must be none at this moment.
    Environment._registry.acquire()
    _quiet.extend(e for e in Environment._open.values() if e.activity.quiesce(5.0))


def _after_fork_in_parent() -> None:
    for environment in _quiet:
        environment.activity.resume()
    _quiet.clear()
    Environment._registry.release()


def _after_fork_in_child() -> None:
    for environment in Environment._open.values():
        environment.forked = True
        environment.activity = Activity()  # another thread of the parent may have held its lock at that moment
        if environment in _quiet:
            environment._lmdb.close()
        for fd in (environment._lock_fd, environment.head_fd):
            if fd >= 0:
                os.close(fd)
        environment.mailbox.close()
    _quiet.clear()
    Environment._open.clear()
    Environment._registry = threading.RLock()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
