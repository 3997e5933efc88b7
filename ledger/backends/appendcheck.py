"""The check of the index of append ids: its entries are those that the records want."""

from __future__ import annotations

import zlib

from ledger.backends.appendindex import is_near, pack_place
from ledger.backends.view import LmdbView
from ledger.format import APPENDS, append_key
from ledger.records import Envelope


class AppendCheck:
    """Take the records one after the other, then ``compare``. ``unsealed_from`` is where records were not sealed at first."""

    def __init__(self, unsealed_from: int) -> None:
        self._unsealed_from = unsealed_from
        self._sum = self._count = 0  # of the entries wanted
        self._last: list[tuple[bytes, int, int]] = []  # that have entries unless they were sealed meanwhile
        self._append: tuple[bytes, int, int, int] = (b"", 0, 0, 0)  # id, first position, count so far, time of recording

    def take(self, envelope: Envelope) -> str | None:
        """Count one more record; return what is wrong with its place in its append."""
        identifier, first, count, _ = self._append
        if envelope.append_id != identifier:
            self.end()
            identifier, first, count = envelope.append_id, envelope.position, 0
        self._append = identifier, first, count + 1, envelope.recorded_at
        if envelope.context is not None and envelope.context.record_id is not None:
            self._add(envelope.context.record_id, envelope.position, 1)
        if envelope.ordinal != count:
            return f"the record at position {envelope.position} is number {envelope.ordinal} of its append, not {count}."
        return None

    def forget(self) -> None:
        """Forget the append that records were taken of last: what follows them cannot be read."""
        self._append = (b"", 0, 0, 0)

    def end(self) -> None:
        """Take note that the append has no more records."""
        identifier, first, count, recorded_at = self._append
        if count and not is_near(identifier, recorded_at):
            self._add(identifier, first, count)
        elif first + count > self._unsealed_from:
            self._last.append((identifier, first, count))
        self.forget()

    def _add(self, identifier: bytes, first: int, count: int) -> None:
        self._sum += zlib.crc32(append_key(identifier) + pack_place(first, count))
        self._count += 1

    def compare(self, view: LmdbView) -> str | None:
        """Return what is wrong with the index."""
        for identifier, first, count in self._last:
            if first + count > view.head.unsealed_from:
                self._add(identifier, first, count)
        found = [zlib.crc32(key + content) for key, content in view.scan(APPENDS)]
        if (sum(found), len(found)) != (self._sum, self._count):
            return "the index 'appends' does not name the appends of the records."
        return None
