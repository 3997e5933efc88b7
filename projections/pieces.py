"""Pieces: parts of a column as checkpoints keep them: packed, proved when they are read, unpacked when they are needed.

::

    proof (16 bytes)   the digest of the piece's digest and of all that follows
    how (1 byte)       0: the bytes themselves; else they are packed by zstd, as items of so many bytes (see ``pack``)
    what is kept

To prove what is kept takes a fraction of what it takes to unpack it, which most columns are spared: they are not shown.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import zstandard

#: So many rows are one piece.
PIECE_ROWS = 32_768
DIGEST_BYTES = 16
_LARGEST = 1 << 31  # bytes of a piece; LMDB takes twice as many
_RAW = 0


class Damaged(Exception):
    """A checkpoint that cannot be read, and why."""


def digest_of(*data: Any) -> bytes:
    """Return the digest of bytes."""
    made = hashlib.sha256()  # most processors have instructions for it
    for part in data:
        made.update(part)
    return made.digest()[:DIGEST_BYTES]


def cut(array: Any) -> list[Any]:
    """Return the parts of an array that are a piece each."""
    array = np.ascontiguousarray(array)
    return [array[row : row + PIECE_ROWS] for row in range(0, len(array), PIECE_ROWS)]


def pack(items: Any, digest: bytes) -> bytes:
    """Return an array as a piece that is known by that digest, of its bytes.

    The first bytes of all items come first, then the second ones, and so on: most numbers of a column differ in few of them.
    So zstd takes half of the time, to pack and to unpack; floats of few digits take more room than they would together.

    Raises OSError for what is too large to be kept.
    """
    if items.nbytes > _LARGEST:
        raise OSError(errno.EFBIG, f"a piece of {items.nbytes} bytes is too large; the largest has {_LARGEST}")
    width = items.dtype.itemsize
    apart = np.ascontiguousarray(items.view(np.uint8).reshape(-1, width).T)
    packed = zstandard.ZstdCompressor(level=1).compress(apart.data.cast("B"))
    how, kept = (width, packed) if len(packed) < items.nbytes * 3 // 4 else (_RAW, items.tobytes())
    return digest_of(digest, bytes([how]), kept) + bytes([how]) + kept


def prove(piece: Any, digest: bytes) -> bytes:
    """Return the piece, as bytes, when it is as it was packed; raises Damaged."""
    found = bytes(piece)
    if digest_of(digest, memoryview(found)[DIGEST_BYTES:]) != found[:DIGEST_BYTES]:
        raise Damaged("a piece of it is damaged")
    return found


def unpack(piece: bytes) -> bytes:
    """Return the bytes that were packed as a piece."""
    how, kept = _opened(piece)
    return bytes(kept) if how == _RAW else np.frombuffer(kept, np.uint8).reshape(how, -1).T.tobytes()


def _opened(piece: bytes) -> tuple[int, Any]:
    how, kept = piece[DIGEST_BYTES], memoryview(piece)[DIGEST_BYTES + 1 :]
    return how, kept if how == _RAW else zstandard.ZstdDecompressor().decompress(kept)


class PackedArray:
    """An array that is unpacked when it is asked for, each time anew: ``pieces`` are those of its parts, proved."""

    def __init__(self, dtype: str, length: int, pieces: Sequence[bytes]) -> None:
        self._dtype, self._length, self._pieces = dtype, length, pieces
        self.unpacked = 0  # times

    def __len__(self) -> int:
        return self._length

    def unpack(self) -> Any:
        """Return the array, in memory of the caller's own."""
        made = np.empty(self._length, self._dtype)
        for row, piece in zip(range(0, self._length, PIECE_ROWS), self._pieces, strict=True):
            _fill(made[row : row + PIECE_ROWS], piece)
        self.unpacked += 1
        return made


def _fill(part: Any, piece: bytes) -> None:
    how, kept = _opened(piece)
    data = np.frombuffer(kept, np.uint8)
    if how == _RAW:
        part.view(np.uint8)[:] = data
        return
    together = part.view(np.uint8).reshape(-1, how)
    for number, each in enumerate(data.reshape(how, -1)):  # as one assignment it takes twice as long
        together[:, number] = each
