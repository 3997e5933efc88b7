"""Places in the log by position or by time."""

from __future__ import annotations

import datetime as dt
from typing import TypeAlias

from ledger.errors import InvalidValue
from ledger.log import EventLog
from ledger.records import to_nanoseconds

#: A position, a time (with time zone; a text in ISO 8601), or None for now.
AsOf: TypeAlias = "int | dt.datetime | str | None"


def position_of(log: EventLog, as_of: AsOf) -> int:
    """Return the position that ``as_of`` means: of a time, that of the last record that was recorded by then.

    A position beyond the head means the head. Raises InvalidValue for what is neither. A time costs a look at one record
    for each doubling of the log.

    >>> import ledger
    >>> book = ledger.open("memory:")
    >>> _ = book.log.append([ledger.NoteAdded("a"), ledger.NoteAdded("b")], stream="diary")
    >>> [position_of(book.log, as_of) for as_of in (None, 1, 7, "2001-01-01T00:00Z", "2200-01-01T00:00Z")]
    [2, 1, 2, 0, 2]
    """
    head = log.head
    if as_of is None:
        return head
    if type(as_of) is int and as_of >= 0:
        return min(as_of, head)
    return _last_by(log, _time(as_of), head)


def time_of(log: EventLog, as_of: AsOf, position: int) -> int:
    """Return the time that ``as_of`` means (ns since 1970 UTC): of a position, when the record there was recorded."""
    if as_of is not None and type(as_of) is not int:
        return _time(as_of)
    return _recorded_at(log, position) if position else 0


def _time(as_of: object) -> int:
    time = as_of
    if isinstance(as_of, str):
        try:
            time = dt.datetime.fromisoformat(as_of)
        except ValueError:
            time = None
    if not isinstance(time, dt.datetime) or time.tzinfo is None:
        raise InvalidValue(
            f"as_of is {as_of!r}; give a position in the log (an int from 0, as record.position and book.log.head are), or a "
            "time with its time zone (a datetime, or a text: '2026-11-20T12:00Z'). Leave it out for the newest state."
        )
    nanoseconds = to_nanoseconds(time, "as_of")
    assert nanoseconds is not None  # only None gives None
    return nanoseconds


def _last_by(log: EventLog, time: int, head: int) -> int:
    """Find the last record by a time: times of recording never fall as positions rise."""
    low, high = 0, head
    while low < high:
        middle = (low + high + 1) // 2
        if _recorded_at(log, middle) <= time:
            low = middle
        else:
            high = middle - 1
    return low


def _recorded_at(log: EventLog, position: int) -> int:
    (record,) = log.backend.read_positions([position])
    return record.recorded_at
