"""What is appended: the same 300 bytes for everyone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

import ledger

#: Said on the page.
DESCRIPTION = """\
300 bytes is the length of one event's MessagePack: a map of three fields, step (int), value (float) and note, a text of
English words in random order which fills up what is left (it compresses about three times, as notes and configs do). The
ledger makes these bytes from its event object while it is timed; a rival that stores bytes is handed them ready made, one
that stores JSON is handed the three fields. Stream name, ids, times, hashes and framing come on top, in each store's way."""
PAYLOAD_BYTES = 300
TYPE = "Observation"
STREAMS = 100  # that appends go to in turn
LIFE = 10  # events of one stream in a large log
_WINDOW = 100  # streams that grow side by side in a large log

_WORDS = """
    the cache was warm and reads were served from memory while a writer held its lock for longer than any other so that
    latency rose above what had been seen before throughput fell by a third disk queue depth stayed flat garbage
    collection ran twice no error shown seed batch epoch gradient clipped learning rate decayed checkpoint saved
"""


@ledger.event(name=TYPE)
class Observation(ledger.Event):
    """One event of a benchmark; 300 bytes as MessagePack.

    >>> Observation(1, 0.5, "warm").step
    1
    """

    step: int
    value: float
    note: str


class Sample(NamedTuple):
    """One event to append, in the forms that stores take."""

    stream: str
    version: int
    step: int
    value: float
    note: str
    data: bytes

    @property
    def fields(self) -> dict[str, int | float | str]:
        """The payload as a dict, for stores of JSON."""
        return {"step": self.step, "value": self.value, "note": self.note}


_encoder = msgspec.msgpack.Encoder()
_rng = random.Random(4)
_TEXT = " ".join(_rng.choices(_WORDS.split(), k=20_000))

#: Decode a payload as the typed event that it is, which is what the ledger's readers get.
decode = msgspec.msgpack.Decoder(Observation).decode


def sample(stream: str, version: int, step: int) -> Sample:
    """Make one event of exactly 300 bytes."""
    value = step * 0.37
    start = step * 7919 % (len(_TEXT) - PAYLOAD_BYTES)
    room = PAYLOAD_BYTES - len(_encoder.encode({"step": step, "value": value, "note": ""})) - 2  # a longer text's header
    note = _TEXT[start : start + room]
    data = _encoder.encode({"step": step, "value": value, "note": note})
    return Sample(stream, version, step, value, note, data)


def appends(prefix: str, count: int, per_append: int, streams: int = STREAMS) -> list[list[Sample]]:
    """Make ``count`` appends, each to one of the streams in turn."""
    made = []
    for number in range(count):
        first = number // streams * per_append + 1
        stream = f"{prefix}/{number % streams}"
        made.append([sample(stream, first + i, number * per_append + i) for i in range(per_append)])
    return made


def large_log(events: int) -> Iterator[list[Sample]]:
    """Yield appends of up to 1,000 events that fill a log: ten a stream, a hundred streams side by side."""
    per_append = min(LIFE * _WINDOW, events)
    for first in range(0, events, per_append):
        window = first // LIFE
        width = max(per_append // LIFE, 1)
        yield [sample(f"series/{window + i % width}", i // width + 1, first + i) for i in range(min(per_append, events - first))]


def stream_of_large_log(number: int, events: int) -> str:
    """Return the name of one of the streams of the large log."""
    return f"series/{number % max(events // LIFE, 1)}"
