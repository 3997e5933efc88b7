"""Heap: pieces of bytes that are only ever added, one array for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np

_WORD = 8
_LENGTH_BYTES = 4


class Heap:
    """Hold many small pieces of bytes in little memory; each is found by its offset.

    What was dropped takes room until ``words`` is asked for a new array of more than half waste (see ``compacted``).
    """

    def __init__(self, words: Any = None) -> None:
        self._base = memoryview(b"") if words is None or not len(words) else words.data.cast("B")
        self._tail = bytearray()
        self.wasted = 0

    def __len__(self) -> int:
        return len(self._base) + len(self._tail)

    def add(self, piece: bytes) -> int:
        """Add a piece; return its offset."""
        offset = len(self)
        self._tail += len(piece).to_bytes(_LENGTH_BYTES, "little")
        self._tail += piece
        return offset

    def get(self, offset: int) -> bytes | memoryview:
        """Return the piece at an offset."""
        place = offset - len(self._base)
        source: Any = self._base
        if place >= 0:
            source = self._tail
        else:
            place = offset
        first = place + _LENGTH_BYTES
        size = int.from_bytes(source[place:first], "little")
        return source[first : first + size]  # type: ignore[no-any-return]

    def drop(self, offset: int) -> None:
        """Say that a piece is not needed any more."""
        self.wasted += _LENGTH_BYTES + len(self.get(offset))

    @property
    def is_wasteful(self) -> bool:
        """Whether more than half of it is dropped pieces."""
        return self.wasted * 2 > len(self)

    def words(self) -> Any:
        """Return everything as an array of words; offsets stay what they are."""
        if self._tail:
            self._tail += bytes(-len(self) % _WORD)
            view = np.empty(len(self) // _WORD, np.int64).data.cast("B")
            view[: len(self._base)] = self._base
            view[len(self._base) :] = self._tail
            self._base, self._tail = view, bytearray()
        return np.frombuffer(self._base, np.int64)
