"""The index of append ids: which records an append wrote, so that a retry is answered by them.

An append id is a UUIDv7, made as the append begins: it tells the time. Once the records are sealed, an id that was made
within ``NEAR_NS`` of the time of recording needs no entry, which would take more room than a small event itself: it is
found among the blocks of that time. Entries stay for ids whose time tells nothing (of copies, of an append that waited
long, under a clock that was set) and for callers' own record ids, which are looked up by every append that has them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ledger.backends.blocks import Stored, blocks_from, find_block
from ledger.backends.view import LmdbView
from ledger.codec import decode_envelopes
from ledger.format import Checks, append_key

NEAR_NS = 1_000_000_000

_MILLISECOND = 1_000_000


def time_of_id(identifier: bytes) -> int | None:
    """Return when a UUIDv7 was made (ns since 1970 UTC); None for an id of another version."""
    return int.from_bytes(identifier[:6], "big") * _MILLISECOND if identifier[6] >> 4 == 7 else None


def is_near(identifier: bytes, recorded_at: int) -> bool:
    """Say whether records of an append, recorded then, are found by the time in its id."""
    made_at = time_of_id(identifier)
    return made_at is not None and abs(recorded_at - made_at) <= NEAR_NS


class AppendIndex:
    """The index inside a write transaction: what is remembered is on disk after ``write``."""

    def __init__(self, view: LmdbView, checks: Checks, txn: Any) -> None:
        self._view, self._checks, self._txn = view, checks, txn
        self._new: dict[bytes, tuple[int, int]] = {}

    def remember(self, identifier: bytes, first: int, count: int) -> None:
        """Take note that the id stands for so many records from the position on."""
        self._new[identifier] = first, count

    def entry(self, identifier: bytes) -> tuple[int, int] | None:
        """Return the first position and the number of the records that an entry names, or None."""
        known = self._new.get(identifier)
        if known is not None:
            return known
        content = self._view.value(append_key(identifier))
        return None if content is None else (int.from_bytes(content[:8], "big"), int.from_bytes(content[8:], "big"))

    def find(self, append_id: bytes) -> tuple[int, int] | None:
        """Return the first position and the number of the records of an append, or None; sealed ones are looked for by time."""
        return self.entry(append_id) or self._find_by_time(append_id)

    def _find_by_time(self, append_id: bytes) -> tuple[int, int] | None:
        made_at = time_of_id(append_id)
        if made_at is None or not self._view.head.position:
            return None
        found: list[int] = []
        for block in blocks_from(self._txn, self._checks, self._first_recorded_by(made_at - NEAR_NS)):
            if block.position >= self._view.head.unsealed_from or block.header.first_recorded_at > made_at + NEAR_NS:
                break  # what is not sealed has entries
            envelopes = decode_envelopes(block.unpack().records)
            found += [envelope.position for envelope in envelopes if envelope.append_id == append_id]
            if found and found[-1] < block.last:
                break
        return (found[0], len(found)) if found else None

    def _first_recorded_by(self, time: int) -> int:
        """Return where the first block begins that was not all recorded before the time: times never fall with position."""
        low, high = 1, self._view.head.unsealed_from
        while low < high:
            block = find_block(self._txn, self._checks, (low + high) // 2)
            assert block is not None  # up to the head no record is missing
            if block.header.last_recorded_at < time:
                low = block.last + 1
            else:
                high = block.position
        return low

    def write(self, sealed: Iterable[Stored]) -> list[tuple[bytes, bytes]]:
        """Return what to put, in order of keys; entries that are not needed any more, now that records were sealed, go."""
        for identifier in {record.append_id for record in sealed if is_near(record.append_id, record.recorded_at)}:
            if self._new.pop(identifier, None) is None:
                self._txn.delete(append_key(identifier))
        new, self._new = self._new, {}
        return [(append_key(each), pack_place(first, count)) for each, (first, count) in sorted(new.items())]


def pack_place(first: int, count: int) -> bytes:
    """Return an entry's content."""
    return first.to_bytes(8, "big") + count.to_bytes(4, "big")
