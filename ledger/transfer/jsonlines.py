"""Records as lines of JSON, and back: what `ledger export` writes and `ledger import` reads.

A line is an object. The keys of ``RECORD_KEYS`` say what the record says; those below make it exact:

==================  ===================================================================================================
key                 value
==================  ===================================================================================================
``salt``            of the append that wrote the record, in hexadecimal; with ``own_salt`` (true) it is the record's own
``hash``            the record's leaf in the Merkle tree, in hexadecimal
``payload_digest``  of a redacted record: the salted digest of what was dropped
``payload``         the event's bytes in base64, where they could not be made from ``event`` again: every type that is
                    not the package's own, and fields that hold their default all the same
``ledger``          of the record at position 1: the ledger's ``id``, ``format``, ``created_at`` and ``created_by``
``check``           of a line with one of the last three, which the hash does not cover: 16 digits of the SHA-256 of
                    the line without it, as JSON with sorted keys
==================  ===================================================================================================

Lines are read without the classes of those who wrote them. Keys come in any order, and white space does not matter.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec

from ledger import events as ev
from ledger.backends.base import Backend, Entry
from ledger.codec import decode_envelopes, decode_records, encode_event, encode_types, leaf_of, left_out, record_salts
from ledger.errors import InvalidValue, UnsupportedFormat
from ledger.format import FORMAT, Identity
from ledger.records import Context, Envelope, Record, iso_nanoseconds
from ledger.redaction import remainder_of
from ledger.registry import UnknownEvent, find_type
from ledger.streams import subject_of
from ledger.transfer.captures import CapturesOf
from ledger.transfer.plain import plain
from ledger.values import decode_value, from_json, to_json, with_article

#: The keys of a record in JSON, in this order.
RECORD_KEYS = (
    "position", "stream", "version", "type", "schema", "recorded_at", "append_id", "ordinal", "id", "actor",
    "occurred_at", "reason", "correlation_id", "causation_id", "event",
)  # fmt: skip

_CURE = "Export the ledger again, or take the file from a backup."
_encoder = msgspec.msgpack.Encoder(order="deterministic")
_json = msgspec.json.Encoder().encode
_sorted_json = msgspec.json.Encoder(order="sorted").encode


# -------------------------------------------------------------------------------------------------- record to line


def record_json(record: Record) -> dict[str, Any]:
    """Return a record in terms of JSON, exact: the event could be made from it again."""
    occurred_at = record.occurred_at
    return {
        "position": record.position,
        "stream": record.stream,
        "version": record.version,
        "type": record.type,
        "schema": record.schema,
        "recorded_at": iso_nanoseconds(record.recorded_at),
        "append_id": str(UUID(bytes=record.append_id)),
        "ordinal": record.ordinal,
        "id": record.id,
        "actor": record.actor,
        "occurred_at": None if occurred_at is None else iso_nanoseconds(occurred_at),
        "reason": record.reason,
        "correlation_id": record.correlation_id,
        "causation_id": record.causation_id,
        "event": to_json(plain(record.event)),
    }


def entry_to_line(entry: Entry, identity: Identity | None = None) -> bytes:
    r"""Return a record as one line of JSON from which ``line_to_entry`` makes the same bytes, salt and hash.

    ``identity`` is said on the line of the record at position 1. Raises UnsupportedFormat for a record that a newer
    version wrote in a form that this one cannot put into words. Costs some 40 us.

    >>> import ledger
    >>> book = ledger.open("memory:")
    >>> _ = book.log.append([ledger.NoteAdded("a")], stream="diary")
    >>> [entry] = book.log.backend.read_entries(0)
    >>> line = entry_to_line(entry)
    >>> line_to_entry(line).entry == entry, line.endswith(b"}\n")
    (True, True)
    """
    (envelope,) = decode_envelopes(b"\x91" + entry.raw)
    line = _readable(entry.raw, envelope)
    payload = bytes(envelope.payload)
    line["salt"] = entry.salt.hex()
    if entry.has_own_salt:
        line["own_salt"] = True
    line["hash"] = entry.leaf.hex()
    plain_length = len(line)
    if envelope.payload_digest is not None:
        line["payload_digest"] = envelope.payload_digest.hex()
    if not _is_made_of(line["event"], envelope, payload):
        line["payload"] = base64.b64encode(payload).decode()
    if identity is not None and envelope.position == 1:
        line["ledger"] = {
            "id": str(UUID(bytes=identity.ledger_id)),
            "format": identity.format,
            "created_at": iso_nanoseconds(identity.created_at),
            "created_by": identity.created_by,
        }
    if len(line) > plain_length:
        line["check"] = _check_of(line)
    if _raw(envelope, payload) != entry.raw:
        raise UnsupportedFormat(
            f"the record at position {envelope.position} has parts that this version does not know, so it cannot be exported "
            "exactly. Upgrade: pip install -U experiment-ledger."
        )
    return _json(line) + b"\n"


def _readable(raw: bytes, envelope: Envelope) -> dict[str, Any]:
    (record,) = decode_records(b"\x91" + raw, encode_types({(envelope.type, envelope.schema)}))
    try:
        return record_json(record)
    except (InvalidValue, TypeError):  # the class of a caller's own holds what JSON cannot say; its content can be said
        content = UnknownEvent(record.type, record.schema, decode_value(bytes(envelope.payload)))
        return {**record_json(msgspec.structs.replace(record, event=None)), "event": to_json(plain(content))}


def _is_made_of(event: Any, envelope: Envelope, payload: bytes) -> bool:
    try:
        return _payload_of(event, envelope.type, envelope.schema) == payload
    except Exception:  # noqa: BLE001 - whatever the event does not say well enough is what the bytes are for
        return False


def _payload_of(event: Any, type_name: str, schema: int) -> bytes:
    """Make the payload from an event in JSON; InvalidValue when only its bytes can say it.

    A version that raises the schema of a type of the package's own has to go on making the older one here.
    """
    kind = find_type(type_name)
    if type_name not in ev.VOCABULARY or kind is None or kind.schema != schema:
        raise InvalidValue(f"{with_article(type_name)} of schema {schema} is read from `payload`, which is not there.")
    return encode_event(msgspec.convert(left_out(from_json(event), kind.cls), cast("Any", kind.cls))).data


def _raw(envelope: Envelope, payload: bytes) -> bytes:
    """Return the record's bytes, as ``encode_records`` and ``redact_record`` make them."""
    fields = [getattr(envelope, name) for name in Envelope.__struct_fields__[:-2]]
    digest = [] if envelope.payload_digest is None else [envelope.payload_digest]
    return _encoder.encode([*fields, msgspec.Raw(payload), *digest])


def _check_of(line: dict[str, Any]) -> str:
    rest = {key: value for key, value in line.items() if key != "check"}
    return hashlib.sha256(_sorted_json(rest)).hexdigest()[:16]


# -------------------------------------------------------------------------------------------------- line to record


class _Ledger(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    format: int
    created_at: str
    created_by: str


class _Line(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A line as read; what has no default must be there, so that a damaged key shows."""

    position: int
    stream: str
    version: int
    type: str
    schema: int
    recorded_at: str
    append_id: str
    ordinal: int
    id: str
    actor: str
    occurred_at: str | None
    reason: str | None
    correlation_id: str | None
    causation_id: str | None
    event: Any
    salt: str
    own_salt: bool = False
    hash: str
    payload_digest: str | None = None
    payload: str | None = None
    ledger: _Ledger | None = None
    check: str | None = None


_lines = msgspec.json.Decoder(_Line)


class Line(NamedTuple):
    """A record read from a line, and the ledger's identity where the line says it."""

    entry: Entry
    envelope: Envelope
    identity: Identity | None


def line_to_entry(line: bytes) -> Line:
    """Make the record from a line again, to the byte, and check it by its hash.

    Raises InvalidValue, naming what is wrong and the cure, for a line that is damaged or is not a record's; whatever the
    line holds, nothing else. Costs some 30 us.

    >>> line_to_entry(b"[1, 2]")
    Traceback (most recent call last):
    ...
    ledger.errors.InvalidValue: it is not a line of an export: Expected `object`, got `array`. Give a file ...
    """
    try:
        read = _lines.decode(line)
    except Exception as error:
        raise InvalidValue(
            f"it is not a line of an export: {_told(error)}. Give a file that `ledger export` wrote, "
            "or for that of another tool, say which: --from."
        ) from error
    try:
        return _line(read, line)
    except InvalidValue:
        raise
    except Exception as error:  # the converters raise all sorts of things for what no export has
        raise InvalidValue(f"a value of the record at position {read.position} cannot be: {_told(error)}. {_CURE}") from error


def _told(error: Exception) -> str:
    """Return what the error says, on one line, however much of the file it quotes."""
    text = str(error) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text[:200]).rstrip(".")


def _line(read: _Line, line: bytes) -> Line:
    if read.check is not None or (read.ledger, read.payload, read.payload_digest) != (None, None, None):
        _test_check(read, line)
    payload = _payload(read)
    digest = None if read.payload_digest is None else _from_hex("payload_digest", read.payload_digest, 32)
    envelope = Envelope(
        read.type, read.schema, read.position, read.stream, read.version, _nanoseconds("recorded_at", read.recorded_at),
        _from_uuid("append_id", read.append_id).bytes, read.ordinal, read.actor, _context(read), msgspec.Raw(payload), digest,
    )  # fmt: skip
    raw, salt = _raw(envelope, payload), _from_hex("salt", read.salt, None)
    entry = Entry(raw, salt, read.own_salt, _from_hex("hash", read.hash, 32))
    _test_salt(read, salt)
    subject_of(read.stream)
    own_salt = salt if read.own_salt else record_salts(salt, read.ordinal, 1)[0]
    if leaf_of(raw, envelope, own_salt) != entry.leaf:
        raise InvalidValue(f"the record at position {read.position} fails its hash: something on the line was changed. {_CURE}")
    (record,) = decode_records(b"\x91" + raw, encode_types({(read.type, read.schema)}))
    if record.is_redacted and remainder_of(record.stream, record.event) != payload:
        raise InvalidValue(f"the record at position {read.position} is redacted, and says more than may remain of it. {_CURE}")
    return Line(entry, envelope, None if read.ledger is None else _identity(read.ledger, read.position))


def _test_check(read: _Line, line: bytes) -> None:
    if read.check is None or _check_of(msgspec.json.decode(line)) != read.check:
        raise InvalidValue(
            f"the record at position {read.position} fails the line's `check`: something on the line was changed. {_CURE}"
        )


def _test_salt(read: _Line, salt: bytes) -> None:
    """Refuse what no record has: the hash of a redacted record does not cover its salt, which is gone."""
    if (read.payload_digest is not None) != (read.own_salt and not salt):
        raise InvalidValue(f"the salt of the record at position {read.position} is {read.salt!r}, which cannot be. {_CURE}")


def _payload(read: _Line) -> bytes:
    if read.payload is not None:
        return base64.b64decode(read.payload, validate=True)
    return _payload_of(read.event, read.type, read.schema)


def _context(read: _Line) -> Context | None:
    own_id = None
    if read.id != f"{read.append_id}:{read.ordinal}":
        own_id = _from_uuid("id", read.id).bytes
    occurred_at = None if read.occurred_at is None else _nanoseconds("occurred_at", read.occurred_at)
    parts = (occurred_at, read.reason, read.correlation_id, read.causation_id, own_id)
    return None if parts == (None,) * 5 else Context(*parts)


def _identity(said: _Ledger, position: int) -> Identity:
    if position != 1:
        raise InvalidValue(f"`ledger` is on the line of position {position}; only that of position 1 has it. {_CURE}")
    if not 0 <= said.format <= FORMAT:
        raise InvalidValue(
            f"the ledger has format {said.format}; this version knows up to {FORMAT}. Upgrade: pip install -U experiment-ledger."
        )
    created_at = _nanoseconds("ledger.created_at", said.created_at)
    return Identity(said.format, _from_uuid("ledger.id", said.id).bytes, created_at, said.created_by)


_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})Z", re.ASCII)


def _nanoseconds(key: str, text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise InvalidValue(f"`{key}` is {text!r:.80}; a time is like '2026-11-20T12:00:00.000000000Z'. {_CURE}")
    since = dt.datetime.fromisoformat(match[1]) - dt.datetime(1970, 1, 1)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + int(match[2])


def _from_hex(key: str, text: str, size: int | None) -> bytes:
    content = bytes.fromhex(text) if re.fullmatch("([0-9a-f]{2})*", text) else None
    if content is None or size not in (None, len(content)):
        raise InvalidValue(f"`{key}` is {text!r:.80}; it is {size or 'some'} bytes in hexadecimal. {_CURE}")
    return content


def _from_uuid(key: str, text: str) -> UUID:
    if not re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text):
        raise InvalidValue(f"`{key}` is {text!r:.80}, which is not what it should be, nor a UUID. {_CURE}")
    return UUID(text)


# ------------------------------------------------------------------------------------------------ from a whole log


def entries_at(backend: Backend, positions: Sequence[int]) -> Iterator[Entry]:
    """Iterate over the entries at ascending positions, a page at a time; it ends where the log does."""
    page: list[Entry] = []
    before = 0  # the position before the page's first
    for position in positions:
        if not before < position <= before + len(page):
            before, page = position - 1, backend.read_entries(position - 1)
            if not page:
                return
        yield page[position - before - 1]


def export_lines(backend: Backend, after: int = 0, experiment: UUID | None = None) -> Iterator[tuple[int, bytes]]:
    """Iterate over the records after a position as lines, each with its position: to the head as it is found.

    With ``experiment`` only those of it and its trials, and the captures that they refer to, wherever those are. A payload
    that is redacted meanwhile is followed by the record that says so: then the export goes on to the head as it is by then.

    >>> import ledger
    >>> book = ledger.open("memory:")
    >>> _ = book.log.append([ledger.NoteAdded("a"), ledger.NoteAdded("b")], stream="diary")
    >>> [position for position, line in export_lines(book.log.backend, after=1)]
    [2]
    """
    identity: Identity | None = None
    captures = CapturesOf(backend)
    while True:
        redactions, head = backend.redactions().total, backend.head()
        positions: Sequence[int] = range(after + 1, head + 1)
        if experiment is not None:
            positions = [position for position in backend.experiment_positions(experiment) if after < position <= head]
            positions = captures.added_to(positions, after, head)
        for position, entry in zip(positions, entries_at(backend, positions), strict=False):
            if position == 1:
                identity = _identity_of(backend)
            yield position, entry_to_line(entry, identity)
        after = max(after, head)
        if backend.redactions().total == redactions:
            return


def _identity_of(backend: Backend) -> Identity:
    """Return the ledger's identity; one in memory begins with its first record."""
    known = getattr(backend, "identity", None)
    if isinstance(known, Identity):
        return known
    (first,) = backend.read_positions([1])
    return Identity(FORMAT, backend.ledger_id.bytes, first.recorded_at, first.actor)
