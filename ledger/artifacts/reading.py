"""Reading blobs: a file that proves its content while it is read."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from ledger.errors import Corrupted

PIECE_BYTES = 1 << 20


class Stored(NamedTuple):
    """A blob as it lies on the disk."""

    digest: str
    path: Path
    size: int
    is_compressed: bool


class BlobReader(io.RawIOBase):
    """Read a blob, or a copy of its file at another path, from its beginning to its end.

    The last bytes are handed out only when all of them, those before included, have the digest. Raises Corrupted else.
    """

    def __init__(self, path: Path, stored: Stored, size: int | None, what: str) -> None:
        self._stored, self._what = stored, what
        self._size = size
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with this
        self._source: Any = self._file
        if stored.is_compressed:
            self._source = zstandard.ZstdDecompressor().stream_reader(self._file, read_across_frames=True, closefd=False)
        self._hash = hashlib.sha256()
        self._done = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        count = self._read(view)
        self._hash.update(view[:count])
        self._done += count
        if self._size is not None and self._done >= self._size:
            if self._done > self._size or (count and self._read(memoryview(bytearray(1)))):
                raise self._damaged(f"has more than {self._size:,} bytes in it")
            self._check_digest()
        elif not count and len(view):
            if self._size is not None:
                raise self._damaged(f"ends after {self._done:,} of {self._size:,} bytes")
            self._check_digest()
        return count

    def _read(self, view: memoryview) -> int:
        try:
            return int(self._source.readinto(view))
        except zstandard.ZstdError as error:
            raise self._damaged(f"cannot be decompressed ({error})") from error

    def _check_digest(self) -> None:
        found = self._hash.hexdigest()
        if found != self._stored.digest:
            raise self._damaged(f"holds other bytes than were saved (their digest is {found})")

    def _damaged(self, how: str) -> Corrupted:
        return Corrupted(f"{self._what} is damaged: {self._stored.path} {how}.")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
