"""Writing blobs: bytes are hashed in a thread of their own while they are written, and compressed where it pays."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
BUFFER_BYTES = 256 << 10
_BEGIN_BYTES = 64 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class BlobWriter(io.RawIOBase):
    """Write one blob to a file; ``digest``, ``size`` and ``is_compressed`` are known when it is finished.

    Costs a few megabytes of memory, whatever is written.
    """

    def __init__(self, path: Path, sample: bytes = b"") -> None:
        self._fd = read_only_file(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
        self._file = _File(self._fd)
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
            buffer = self.take()
            buffer[: len(piece)] = piece
            self.put(buffer, len(piece))
        return len(view)

    def take(self) -> memoryview:
        """Return a buffer to be filled, and given to ``put``; waits until one is free."""
        return self._hasher.take()

    def put(self, buffer: memoryview, count: int) -> None:
        """Write the first bytes of a buffer, which is no longer the caller's."""
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
            self._compressed = compressor.stream_writer(cast("Any", self._file), closefd=False)
        waiting, self._head = self._head or [], None
        for piece in waiting:
            self._store(piece)

    def _store(self, piece: bytes | memoryview) -> None:
        if self._compressed is not None:
            self._compressed.write(piece)
        else:
            self._file.write(piece)

    def finish(self) -> None:
        """Write what is left; the digest is known then."""
        if self._head is not None:
            self._decide(b"".join(self._head))
        if self._compressed is not None:
            self._compressed.flush(zstandard.FLUSH_FRAME)
        self.digest = self._hasher.finish()

    def sync(self) -> None:
        """Put the bytes on disk."""
        getattr(os, "fdatasync", os.fsync)(self._fd)

    def close(self) -> None:
        """Close the file; closing again does nothing."""
        if not self.closed:
            self._hasher.finish()
            os.close(self._fd)
        super().close()


def read_only_file(path: str, flags: int) -> int:
    """Make a file that nobody is to write to any more: a blob never changes."""
    return os.open(path, flags, 0o444)


class _File:
    """A file that the system begins to put on disk while it is still being written, so that syncing it takes no longer."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._done = self._begun = 0

    def write(self, data: Any) -> int:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._done += len(data)
        if self._done - self._begun >= _BEGIN_BYTES and hasattr(os, "posix_fadvise"):
            # Pages that are dirty are not dropped by it: they begin to be written. Asked for more often it costs more than it
            # gains: the kernel then waits for every processor each time.
            os.posix_fadvise(self._fd, self._begun, self._done - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = self._done
        return len(data)


class _Hasher:
    """A SHA-256 that is computed in a thread of its own as soon as there is much to compute.

    It owns a few buffers, small enough for a processor's cache, that are used again and again.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[tuple[memoryview, int] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._made = self._size = 0

    def take(self) -> memoryview:
        if self._made < _BUFFERS and self._free.empty():
            self._made += 1
            return memoryview(bytearray(BUFFER_BYTES))
        return self._free.get()

    def put(self, buffer: memoryview, count: int) -> None:
        self._size += count
        if self._thread is None and self._size <= _INLINE_BYTES:
            self._hash.update(buffer[:count])
            self._free.put(buffer)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ledger-hash", daemon=True)
            self._thread.start()
        self._full.put((buffer, count))

    def _run(self) -> None:
        while (item := self._full.get()) is not None:
            buffer, count = item
            self._hash.update(buffer[:count])
            self._free.put(buffer)

    def finish(self) -> str:
        """Wait until everything is hashed, and return the digest."""
        if self._thread is not None:
            self._full.put(None)
            self._thread.join()
            self._thread = None
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
