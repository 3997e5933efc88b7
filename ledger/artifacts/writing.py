"""Writing blobs: bytes are hashed in a thread of their own while they are written, and compressed where it pays."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import zstandard

from ledger.errors import DiskFull, LedgerError, ReadOnlyLedger

_LEVEL = 3
_THREADS = min(4, os.cpu_count() or 1)
_JOB_BYTES = 2 << 20  # of each thread; by default they take a hundred megabytes
_PAYS = 0.9  # of the bytes at most may be left of a sample
_SAMPLE_BYTES = 512 << 10
_WORTH_BYTES = 4096  # what is smaller takes one block of a disk whatever is done
_INLINE_BYTES = 1 << 20
_BUFFERS = 6  # on their way to the file and to the hash
_COPY_BYTES = 2 << 20  # copied within the system at a time
_WAITING = 64  # jobs that the hash may lag behind
BUFFER_BYTES = 256 << 10
#: What the system says when it cannot copy from this file, or to this one, by itself.
_NO_COPY = {errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.ETXTBSY}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class BlobWriter(io.RawIOBase):
    """Write one blob to a file; ``digest``, ``size`` and ``is_compressed`` are known when it is finished.

    Costs a few megabytes of memory, whatever is written.
    """

    def __init__(self, path: Path, sample: bytes = b"") -> None:
        self._fd = read_only_file(str(path), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
        self._can_copy = hasattr(os, "copy_file_range")
        self._hasher = _Hasher()
        self._head: list[bytes] | None = []  # what came before it was decided whether to compress
        self._compressed: Any = None
        self.size = 0
        self.digest = ""
        self.is_compressed = False
        if sample:
            self._decide(sample)

    def writable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self.size

    def write(self, data: Any) -> int:
        """Write all of the bytes."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), BUFFER_BYTES):
            piece = view[start : start + BUFFER_BYTES]
            buffer = self._hasher.take()
            buffer[: len(piece)] = piece
            self._put(buffer, len(piece))
        return len(view)

    def copy_from(self, fd: int, limit: int) -> int:
        """Write some bytes of an open file, at most ``limit``; return how many, 0 at its end.

        The system copies by itself where it can: two to four times as fast as by buffers of this process, and file systems
        that share blocks need no room. What is hashed is what was written.
        """
        if self._can_copy and self._head is None and not self.is_compressed:
            try:
                count = os.copy_file_range(fd, self._fd, min(limit, _COPY_BYTES))
            except OSError as error:
                if error.errno not in _NO_COPY:
                    raise
                count = 0
            if count:
                self._hasher.read(self._fd, self.size, count)
                self.size += count
                return count
            self._can_copy = False  # at the end, perhaps: then the next lines find nothing either
        buffer = self._hasher.take()
        count = os.readv(fd, [buffer[:limit]])
        self._put(buffer, count)
        return count

    def _put(self, buffer: memoryview, count: int) -> None:
        self.size += count
        if self._head is None:
            self._store(buffer[:count])
        else:
            self._head.append(bytes(buffer[:count]))
            if self.size >= _SAMPLE_BYTES:
                self._decide(b"".join(self._head)[:_SAMPLE_BYTES])
        self._hasher.put(buffer, count)

    def _decide(self, sample: bytes) -> None:
        if len(sample) > _WORTH_BYTES and len(zstandard.ZstdCompressor(level=1).compress(sample)) < len(sample) * _PAYS:
            self.is_compressed = True
            options = zstandard.ZstdCompressionParameters.from_level(_LEVEL, threads=_THREADS, job_size=_JOB_BYTES)
            compressor = zstandard.ZstdCompressor(compression_params=options)
            self._compressed = compressor.stream_writer(cast("Any", _Descriptor(self._fd)), closefd=False)
        waiting, self._head = self._head or [], None
        for piece in waiting:
            self._store(piece)

    def _store(self, piece: bytes | memoryview) -> None:
        if self._compressed is not None:
            self._compressed.write(piece)
        else:
            write_all(self._fd, piece)

    def finish(self) -> None:
        """Write what is left; the digest is known then."""
        if self._head is not None:
            self._decide(b"".join(self._head))
        if self._compressed is not None:
            self._compressed.flush(zstandard.FLUSH_FRAME)
        if self.size > _INLINE_BYTES:
            self.sync()  # while the rest is hashed; of what turns out to be there already, in vain
        self.digest = self._hasher.finish()

    def sync(self) -> None:
        """Put the bytes on disk."""
        getattr(os, "fdatasync", os.fsync)(self._fd)

    def close(self) -> None:
        """Close the file; closing again does nothing."""
        if not self.closed:
            with suppress(OSError):  # raised by finish already, if anybody wants to know
                self._hasher.finish()
            os.close(self._fd)
        super().close()


def read_only_file(path: str, flags: int) -> int:
    """Make a file that nobody is to write to any more: a blob never changes."""
    return os.open(path, flags, 0o444)


class _Descriptor:
    """What the compressor writes to."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: Any) -> int:
        write_all(self._fd, data)
        return len(data)


def write_all(fd: int, data: Any) -> None:
    """Write all bytes to a descriptor, which may take fewer at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class _Hasher:
    """A SHA-256 that is computed in a thread of its own as soon as there is much to compute.

    It owns a few buffers, small enough for a processor's cache, that are used again and again.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._own: memoryview | None = None
        self._made = self._size = 0

    def take(self) -> memoryview:
        if self._made < _BUFFERS and self._free.empty():
            self._made += 1
            return memoryview(bytearray(BUFFER_BYTES))
        return self._free.get()

    def put(self, buffer: memoryview, count: int) -> None:
        """Hash the first bytes of a buffer, and have it back."""
        self._do(count, lambda: self._hash_buffer(buffer, count))

    def read(self, fd: int, position: int, count: int) -> None:
        """Hash bytes of a file that have been written to it."""
        self._do(count, lambda: self._hash_file(fd, position, count))

    def _do(self, count: int, job: Callable[[], None]) -> None:
        self._size += count
        if self._thread is None and self._size <= _INLINE_BYTES:
            job()
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ledger-hash", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _hash_buffer(self, buffer: memoryview, count: int) -> None:
        self._hash.update(buffer[:count])
        self._free.put(buffer)

    def _hash_file(self, fd: int, position: int, count: int) -> None:
        if self._own is None:  # the others may all be waiting behind this job
            self._own = memoryview(bytearray(BUFFER_BYTES))
        while count:
            done = os.preadv(fd, [self._own[:count]], position)
            if not done:
                raise OSError(errno.EIO, "bytes that were written could not be read again")
            self._hash.update(self._own[:done])
            position, count = position + done, count - done

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if self._error is None:
                    job()
            except Exception as error:  # noqa: BLE001 - it is raised by finish, in the thread that can act on it
                self._error = error

    def finish(self) -> str:
        """Wait until everything is hashed, and return the digest."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise self._error
        return self._hash.hexdigest()


@contextmanager
def telling_of_trouble(directory: Path) -> Iterator[None]:
    """Turn what the system says of a full disk or a missing right into DiskFull or ReadOnlyLedger, with the cure."""
    try:
        yield
    except LedgerError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(
                f"no space left for artifacts in {directory} (or a quota or ulimit forbids it). Nothing was recorded, and "
                "nothing is left of it. Free some space, and try again.", None,
            ) from error  # fmt: skip
        where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and where is not None and where.is_relative_to(directory):
            raise ReadOnlyLedger(f"no right to write to {where}: {error.strerror}. Get the right (chmod).") from error
        raise
