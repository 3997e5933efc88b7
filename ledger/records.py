"""Record: an event as stored, with its place in the log and its origin.

On disk a record is one MessagePack array: type, schema, position, stream, version, recorded_at, append_id, ordinal,
actor, context, event. The leaf hash of the log's Merkle tree is made over the same array with the event replaced by a
salted digest, so a redacted record keeps its hash: its array has the digest as a twelfth element, and its event is what
remained of it.
"""

from __future__ import annotations

import datetime as dt
from functools import cache
from typing import Any, cast
from uuid import UUID

import msgspec

from ledger.errors import InvalidValue


class Context(msgspec.Struct, frozen=True, array_like=True):
    """What a caller may say about an event beside its content; most records have none."""

    occurred_at: int | None = None  # ns since 1970 UTC, the caller's clock
    reason: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    record_id: bytes | None = None  # the caller's own id, 16 bytes


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event as stored. Read only; the log makes them.

    Fields: ``schema`` of the event type, ``position`` in the log (from 1, no gaps), ``stream`` and ``version`` in it
    (from 1), ``recorded_at`` (ns since 1970 UTC, never falls as position rises), ``append_id`` (16 bytes) and ``ordinal`` of
    the append that wrote it, ``actor``, ``context`` and ``event``. Of a redacted record ``event`` is what remains, and
    ``payload_digest`` the salted digest of what was dropped.
    """

    schema: int
    position: int
    stream: str
    version: int
    recorded_at: int
    append_id: bytes
    ordinal: int
    actor: str
    context: Context | None
    event: Any
    payload_digest: bytes | None = None

    @property
    def is_redacted(self) -> bool:
        """Whether the payload was dropped by a redaction; a PayloadRedacted event of the stream says why."""
        return self.payload_digest is not None

    @property
    def type(self) -> str:
        """The event type's name."""
        return str(self.__struct_config__.tag)

    @property
    def id(self) -> str:
        """The caller's own id of the record if it gave one; else ``append id:ordinal``."""
        if self.context is not None and self.context.record_id is not None:
            return str(UUID(bytes=self.context.record_id))
        return f"{UUID(bytes=self.append_id)}:{self.ordinal}"

    @property
    def time(self) -> dt.datetime:
        """``recorded_at`` as a datetime with time zone UTC (microseconds)."""
        return from_nanoseconds(self.recorded_at)

    @property
    def happened_at(self) -> int:
        """``occurred_at`` when the caller said it, else ``recorded_at``: the time that tables show."""
        return self.recorded_at if self.occurred_at is None else self.occurred_at

    @property
    def occurred_at(self) -> int | None:
        """When it happened by the caller's clock (ns since 1970 UTC), if the caller said so."""
        return self.context.occurred_at if self.context is not None else None

    @property
    def reason(self) -> str | None:
        """Why, in the words of the actor."""
        return self.context.reason if self.context is not None else None

    @property
    def correlation_id(self) -> str | None:
        """What the caller groups records of one operation by."""
        return self.context.correlation_id if self.context is not None else None

    @property
    def causation_id(self) -> str | None:
        """The id of what caused this record."""
        return self.context.causation_id if self.context is not None else None


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """A record with its event left as bytes: what checks, hashes and copies without knowing the type."""

    type: str
    schema: int
    position: int
    stream: str
    version: int
    recorded_at: int
    append_id: bytes
    ordinal: int
    actor: str
    context: Context | None
    payload: msgspec.Raw
    payload_digest: bytes | None = None


@cache
def record_class(type_name: str, event_class: type) -> type[Record]:
    """Return the class of records that hold events of one type; msgspec picks it by the first element of the array."""
    fields: list[Any] = [("event", event_class), ("payload_digest", bytes | None, None)]
    options: dict[str, Any] = {"frozen": True, "array_like": True, "gc": False, "module": __name__}
    made = msgspec.defstruct("Record", fields, bases=(Record,), tag=type_name, **options)
    return cast("type[Record]", made)


def from_nanoseconds(nanoseconds: int) -> dt.datetime:
    """Return the time as a datetime with time zone UTC, cut to microseconds.

    >>> from_nanoseconds(1_500_000_000_123_456_789).isoformat()
    '2017-07-14T02:40:00.123456+00:00'
    """
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return dt.datetime.fromtimestamp(seconds, dt.UTC).replace(microsecond=rest // 1000)


def to_nanoseconds(time: int | dt.datetime | None, what: str = "time") -> int | None:
    """Return the time as ns since 1970 UTC; a datetime must have a time zone."""
    if time is None or (type(time) is int and -(2**63) <= time < 2**63):
        return time
    if isinstance(time, dt.datetime) and time.tzinfo is not None:
        delta = time - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        return (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1000
    raise InvalidValue(
        f"{what} is {time!r}; give a datetime with a time zone (datetime.now(timezone.utc)) or ns since 1970 UTC as an int."
    )


def iso_nanoseconds(nanoseconds: int) -> str:
    """Return the time as ISO 8601 text with all nine digits.

    >>> iso_nanoseconds(1_500_000_000_123_456_789)
    '2017-07-14T02:40:00.123456789Z'
    """
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
