"""Captures on the way: what trials refer to goes with them, into an export of one experiment and into a merge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ledger import events as ev
from ledger.backends.base import Backend
from ledger.codec import decode_event
from ledger.records import Envelope
from ledger.registry import Event
from ledger.streams import CAPTURES, capture_stream

_PAGE = 256
_REFERRING = frozenset({"TrialCaptured", "EnvironmentChanged"})


def streams_referred_to(events: Iterable[Event]) -> set[str]:
    """Return the streams of the captures that events refer to.

    >>> sorted(streams_referred_to([ev.TrialCaptured({"git": "0f" * 16}), ev.NoteAdded("x")]))
    ['capture/git/0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f']
    """
    streams: set[str] = set()
    for event in events:
        if isinstance(event, ev.TrialCaptured):
            streams.update(capture_stream(*item) for item in event.captures.items())
        elif isinstance(event, ev.EnvironmentChanged):
            streams.update(capture_stream(*item) for item in (*event.before.items(), *event.after.items()))
    return streams


def referred_to_by(envelopes: Iterable[Envelope]) -> set[str]:
    """Return the streams of the captures that records, as bytes, refer to."""
    found = (each for each in envelopes if each.type in _REFERRING)
    return streams_referred_to(decode_event(each.type, each.schema, bytes(each.payload)) for each in found)


class CapturesOf:
    """Find the captures that records refer to, piece by piece of the log."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._streams: set[str] = set()

    def added_to(self, positions: Sequence[int], after: int, head: int) -> list[int]:
        """Return positions, ascending, with those of captures up to ``head``.

        Of captures that the records there refer to, wherever they are; of those that were found before, what is new after
        ``after`` (a redaction).
        """
        found = {each for stream in self._streams for each in self._backend.stream_positions(stream) if after < each <= head}
        streams: set[str] = set()
        for start in range(0, len(positions), _PAGE):
            records = self._backend.read_positions(positions[start : start + _PAGE])
            streams |= streams_referred_to(record.event for record in records)
        for stream in streams - self._streams:
            found.update(each for each in self._backend.stream_positions(stream) if each <= head)
        self._streams |= streams
        return sorted({*positions, *found})


def redacted_captures(backend: Backend) -> Iterator[str]:
    """Iterate over the streams of captures of which something was redacted."""
    after = 0
    types = frozenset({"PayloadRedacted"})
    while backend.redactions().total:
        page, reached = backend.read_page(after, types)
        yield from (each.stream for each in page if each.type in types and each.stream.startswith(CAPTURES))
        if reached <= after:
            return
        after = reached
