"""Blobs: bytes kept under the SHA-256 of their content, each once.

::

    blobs/ab/ab12...        the bytes as they are
    blobs/ab/ab12....zst    the same bytes as a zstandard file, where that is smaller
    blobs/saving-...        a save that is under way, or was killed

``sha256sum`` and ``zstd`` can prove and read them without this package. A blob never changes, and nothing here removes
one but ``BlobStore.remove``, which only the garbage collection calls.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from ledger.artifacts.reading import PIECE_BYTES, BlobReader, Stored
from ledger.artifacts.writing import BlobWriter, read_only_file, telling_of_trouble
from ledger.errors import Corrupted, InvalidValue, LedgerBusy, ReadOnlyLedger
from ledger.partial import partial_directory, sync_directory

SAVING = "saving-"
_SUFFIX = ".zst"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_POLL_SECONDS = 0.01
_IN_MEMORY_BYTES = 16 << 20
_NO_LINKS = {errno.EPERM, errno.EMLINK, errno.EXDEV, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.ENOENT}


class BlobStore:
    """Keep blobs in a directory, which is made by the first save.

    **Guarantees.** What ``Saving.publish`` has returned from is on disk, whole. What is read has proved to have the digest
    that was asked for, or Corrupted is raised.

    **Threads and processes.** Any number may save and read. Who saves holds ``guard`` from before it publishes until the
    event that refers to the blobs is in the log; the garbage collection takes the guard for itself while it removes.
    """

    def __init__(self, directory: Path, *, readonly: bool = False) -> None:
        self.directory = directory
        self.readonly = readonly

    def __repr__(self) -> str:
        return f"<BlobStore {self.directory}>"

    # -------------------------------------------------------------------------------------------------- read

    def place(self, digest: str, *, is_compressed: bool = False) -> Path:
        """Return the path of a blob, whether it is there or not; raises InvalidValue for what is no digest."""
        if not _DIGEST.fullmatch(digest):
            raise InvalidValue(f"{digest!r} is no digest: that of a blob has 64 hexadecimal digits.")
        return self.directory / digest[:2] / (digest + _SUFFIX * is_compressed)

    def find(self, digest: str) -> Stored | None:
        """Return where the blob is, or None."""
        for is_compressed in (False, True):
            path = self.place(digest, is_compressed=is_compressed)
            try:
                return Stored(digest, path, path.stat().st_size, is_compressed)
            except (FileNotFoundError, NotADirectoryError):
                continue
        return None

    def require(self, digest: str, size: int | None, what: str) -> Stored:
        """Return where the blob is; raises Corrupted when it is not there, or cannot be the one of that size."""
        stored = self.find(digest)
        if stored is None:
            raise Corrupted(f"{what} is missing: there is no {self.place(digest)} (nor {digest}{_SUFFIX}).")
        if size is not None and not stored.is_compressed and stored.size != size:
            raise Corrupted(f"{what} is damaged: {stored.path} has {stored.size:,} bytes, and should have {size:,}.")
        return stored

    def open(self, digest: str, size: int | None, what: str) -> BinaryIO:
        """Open a blob of ``size`` bytes (None: not known) to be read from its beginning; ``what`` is what messages call it.

        The last bytes are handed out only when all of them have proved right: reading raises Corrupted instead.
        """
        stored = self.require(digest, size, what)
        reader = BlobReader(stored.path, stored, size, what)
        return cast("BinaryIO", io.BufferedReader(reader, PIECE_BYTES))

    def read(self, digest: str, size: int | None, what: str) -> bytes:
        """Return a blob's bytes, proved."""
        with self.open(digest, size, what) as file:
            return file.read()

    def open_proved(self, digest: str, size: int, what: str) -> BinaryIO:
        """Open a blob, every byte of which has proved right, to be read in any order. Costs a read of all of it."""
        stored = self.require(digest, size, what)
        if not stored.is_compressed:
            self.check(digest, size, what)
            return open(stored.path, "rb")
        import tempfile  # here: `import ledger` need not pay for it

        if size <= _IN_MEMORY_BYTES:
            return io.BytesIO(self.read(digest, size, what))
        made = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
        try:
            with self.open(digest, size, what) as file:
                while piece := file.read(PIECE_BYTES):
                    made.write(piece)
            made.seek(0)
        except BaseException:
            made.close()
            raise
        return made

    def check(self, digest: str, size: int | None, what: str) -> None:
        """Read a blob to its end; raises Corrupted when it is missing, or not what its digest says."""
        with self.open(digest, size, what) as file:
            while file.read(PIECE_BYTES):
                pass

    def blobs(self) -> Iterator[Stored]:
        """Iterate over the blobs that are there, in order of their digests; anything else in the directory is left out."""
        try:
            folders = sorted(entry.path for entry in os.scandir(self.directory) if len(entry.name) == 2 and entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return
        for folder in folders:
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                digest = entry.name.removesuffix(_SUFFIX)
                if _DIGEST.fullmatch(digest) and digest.startswith(Path(folder).name) and entry.is_file(follow_symlinks=False):
                    yield Stored(digest, Path(entry.path), entry.stat().st_size, digest != entry.name)

    # -------------------------------------------------------------------------------------------------- save

    @contextmanager
    def saving(self) -> Iterator[Saving]:
        """Begin a save: blobs are written beside the others, and appear when it is published; else nothing is left.

        Raises ReadOnlyLedger without the right to write, DiskFull when there is no room.
        """
        if self.readonly:
            raise ReadOnlyLedger(f"{self.directory.parent} was opened with readonly=True; nothing can be saved there.")
        self._make()
        with telling_of_trouble(self.directory), partial_directory(self.directory, SAVING) as partial:
            yield Saving(self, partial)

    def _make(self) -> None:
        """Make the directory unless it is there."""
        if not self.directory.exists():
            with telling_of_trouble(self.directory.parent):
                self.directory.mkdir(parents=True, exist_ok=True)
                sync_directory(self.directory.parent)

    @contextmanager
    def guard(self, *, alone_within: float | None = None) -> Iterator[None]:
        """Keep blobs from being removed while the block runs; with ``alone_within`` be the one that may remove.

        That is waited for so many seconds, then LedgerBusy is raised.
        """
        if not self.readonly:
            self._make()
        try:
            fd = os.open(self.directory, os.O_RDONLY)
        except FileNotFoundError:  # nothing is there that could be removed
            yield
            return
        try:
            if alone_within is None:
                fcntl.flock(fd, fcntl.LOCK_SH)
            else:
                _lock_alone(fd, self.directory, alone_within)
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # a child forked meanwhile has the descriptor, too, and must not keep the lock
            os.close(fd)

    def remove(self, stored: Stored) -> None:
        """Remove a blob; for who has the guard alone, and knows that no event refers to it."""
        stored.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give back what the store holds: nothing, in a directory of somebody else's."""


class TemporaryBlobStore(BlobStore):
    """Blobs in a temporary directory, which goes with the store: for ledgers that end with their handle."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull, "blobs"))  # where nothing can be, until there is a directory
        self._end: Callable[[], object] = lambda: None
        self._mutex = threading.Lock()

    def _make(self) -> None:
        with self._mutex:
            if not self.directory.exists():
                import tempfile

                self.directory = Path(tempfile.mkdtemp(prefix="ledger-blobs-"))
                self._end = weakref.finalize(self, _remove_own, self.directory, os.getpid())

    def close(self) -> None:
        """Remove the directory."""
        self._end()


def _remove_own(made: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked child, too, ends what it has inherited
        import shutil

        shutil.rmtree(made, ignore_errors=True)


class Saving:
    """A save under way: blobs that are written, and have no place in the store yet. One thread at a time."""

    def __init__(self, store: BlobStore, partial: Path) -> None:
        self.store = store
        self._partial = partial

    @contextmanager
    def writing(self, sample: bytes = b"") -> Iterator[BlobWriter]:
        """Write one blob; when the block ends well, the writer knows its digest.

        Whether it is compressed hangs on how well ``sample`` can be; without one, on its beginning.
        """
        path = self._partial / "writing"
        writer = BlobWriter(path, sample)
        try:
            yield writer
            writer.finish()
            self._keep(writer, path)
        finally:
            writer.close()
            path.unlink(missing_ok=True)

    def _keep(self, writer: BlobWriter, path: Path) -> None:
        known = self.store.place(writer.digest, is_compressed=writer.is_compressed)
        kept = self._partial / known.name
        if kept.exists():
            return
        try:
            if _are_same(known, path):  # else it is damaged, and this one comes in its place
                # A second name for the one that is there: it stays even if the garbage collection removes the first.
                os.link(known, kept)
                return
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        writer.sync()
        path.rename(kept)

    def take(self, stored: Stored, size: int | None, what: str) -> None:
        """Copy a blob of another store as it lies there; raises Corrupted unless the copy proves right."""
        kept, path = self._partial / stored.path.name, self._partial / "taking"
        if kept.exists():
            return
        try:
            with open(stored.path, "rb") as source, open(path, "xb", opener=read_only_file) as made:
                while piece := source.read(PIECE_BYTES):
                    made.write(piece)
                made.flush()
                os.fsync(made.fileno())
            with BlobReader(path, stored, size, what) as reader:
                while reader.read(PIECE_BYTES):
                    pass
            path.rename(kept)
        finally:
            path.unlink(missing_ok=True)

    def publish(self) -> None:
        """Give every blob its place, on disk when it returns; who calls holds the store's guard."""
        folders, is_new = set(), False
        for entry in os.scandir(self._partial):
            target = self.store.directory / entry.name[:2] / entry.name
            if not target.parent.exists():
                target.parent.mkdir(exist_ok=True)
                is_new = True
            os.replace(entry.path, target)
            folders.add(target.parent)
        for folder in folders:  # of those that were there, too: who put them there may not have come so far
            sync_directory(folder)
        if is_new:
            sync_directory(self.store.directory)


def _are_same(one: Path, other: Path) -> bool:
    """Say whether two files hold the same bytes; FileNotFoundError when one is not there."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with open(one, "rb", buffering=0) as first, open(other, "rb", buffering=0) as second:
        while piece := first.read(PIECE_BYTES):
            if piece != second.read(PIECE_BYTES):
                return False
    return True


def _lock_alone(fd: int, directory: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise LedgerBusy(
                    f"artifacts are being recorded in {directory.parent} all the time; for {seconds:.0f} s there was no moment "
                    "between two of them. Try again later."
                ) from None
        time.sleep(_POLL_SECONDS)
