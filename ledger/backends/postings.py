"""Posting lists: the positions of the records of one stream, experiment or config.

A list is an entry with its newest positions (and, for an experiment or an unfinished trial, the current state), and
chunks of older ones. Positions are stored as differences, seven bits to a byte, the last byte of each below 128.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

import msgspec

TAIL_POSITIONS = 256


class ListEntry(msgspec.Struct, array_like=True):
    """The head of a posting list.

    ``id`` is unique in the ledger; ``count`` the number of positions in all, which for a stream is its version; ``last``
    the newest; ``tail`` the differences from ``base`` on; ``state`` the encoded state, when one is kept.
    """

    id: int
    count: int = 0
    last: int = 0
    base: int = 0  # position before the tail's first
    tail_count: int = 0
    tail: bytes = b""
    state: bytes | None = None

    def add(self, positions: Iterable[int]) -> None:
        """Add positions, ascending."""
        last, out, count = self.last, bytearray(), 0
        for position in positions:
            delta = position - last
            while delta > 127:
                out.append(delta & 127 | 128)
                delta >>= 7
            out.append(delta)
            last = position
            count += 1
        self.tail += bytes(out)
        self.count += count
        self.tail_count += count
        self.last = last

    def positions(self) -> list[int]:
        """Return the positions of the tail."""
        return unpack_positions(self.base, self.tail)

    def spill(self) -> tuple[int, bytes] | None:
        """Take the tail off when it is long: return its first position and its content, to be kept as a chunk."""
        if self.tail_count < TAIL_POSITIONS:
            return None
        first = unpack_positions(self.base, self.tail)[0]
        content = self.base.to_bytes(8, "big") + self.tail_count.to_bytes(4, "big") + self.tail
        self.base, self.tail, self.tail_count = self.last, b"", 0
        return first, content


def unpack_positions(base: int, packed: bytes) -> list[int]:
    """Turn differences back into positions."""
    if packed.isascii():  # every difference below 128: the common case, and a fast one
        return list(accumulate(packed, initial=base))[1:]
    deltas, value, shift = [], 0, 0
    for byte in packed:
        value |= (byte & 127) << shift
        if byte < 128:
            deltas.append(value)
            value = shift = 0
        else:
            shift += 7
    return list(accumulate(deltas, initial=base))[1:]


def unpack_chunk(content: bytes) -> list[int]:
    """Return the positions of a chunk made by ``spill``; ValueError when their number is not the one recorded."""
    positions = unpack_positions(int.from_bytes(content[:8], "big"), content[12:])
    if len(positions) != int.from_bytes(content[8:12], "big"):
        raise ValueError("a chunk of positions is incomplete")
    return positions


entry_decoder = msgspec.msgpack.Decoder(ListEntry)
