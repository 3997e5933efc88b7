"""Events and records to bytes and back, and the leaf hash of each.

A record's bytes are made once and never change; sealing, export and mirrors move them around. ``encode_records`` makes
both the bytes and the leaf entry from the same prefix, so what is hashed is what is stored.
"""

from __future__ import annotations

import functools
import hashlib
import typing
from collections.abc import Iterable, Sequence
from itertools import count
from types import UnionType
from typing import Any, Union, cast

import msgspec

from ledger.errors import Corrupted, InvalidValue, RecordTooLarge
from ledger.records import Context, Envelope, Record, record_class
from ledger.registry import Event, EventType, UnknownEvent, check_type, find_type, generation, open_fields, type_of
from ledger.state import ExperimentState, TrialState
from ledger.tree import leaf_hash
from ledger.upcasters import upcast
from ledger.values import encode_value, pack, unpack_extension, with_article

MAX_RECORD_BYTES = 512 * 1024
SALT_BYTES = 16
_SALT_GROUP = 512  # ordinals that share one call of the extendable hash
_FIRST_GROUP = bytes(8)
_NIL = b"\xc0"
_ARRAY_OF_11, _ARRAY_OF_12, _DIGEST_HEADER = b"\x9b", b"\x9c", b"\xc4\x20"  # MessagePack: of arrays, and of 32 bytes

_sha256 = hashlib.sha256
_encoder = msgspec.msgpack.Encoder(order="deterministic")
_envelopes = msgspec.msgpack.Decoder(list[Envelope])
_raw_records = msgspec.msgpack.Decoder(list[msgspec.Raw])


class Payload(msgspec.Struct, frozen=True, gc=False):
    """An event ready to be recorded: its type, its bytes, and the event as readers will see it."""

    type: EventType
    data: bytes
    event: Event


def left_out(fields: Any, cls: type[Event]) -> Any:
    """Return the fields of an event without those that are at their defaults, which are not recorded.

    To msgspec, only the very object is the default of a field: a text or float that was read from somewhere is another one.

    >>> from ledger import ArtifactLogged
    >>> left_out({"name": "model.bin", "kind": "".join(["fi", "le"])}, ArtifactLogged)
    {'name': 'model.bin'}
    """
    if not isinstance(fields, dict):
        return fields
    defaults = _scalar_defaults(cast("Any", cls))
    return {
        name: value
        for name, value in fields.items()
        if not (name in defaults and type(value) is type(defaults[name]) and value == defaults[name])
    }


@functools.cache
def _scalar_defaults(cls: Any) -> dict[str, Any]:
    return {field.name: field.default for field in msgspec.structs.fields(cls) if type(field.default) in (str, int, float)}


def encode_event(event: Event) -> Payload:
    """Encode the event, and read it back: what is appended can be read.

    Raises InvalidValue, naming the field, for a value that cannot be recorded exactly or does not fit the field's
    type; RecordTooLarge for more than 512 KiB.
    """
    if type(event) is UnknownEvent:
        return _encode_unknown(event)
    kind = type_of(event)
    given = {field: tuple(value) for field in kind.tuple_fields if type(value := getattr(event, field)) is list}
    if given:  # else an empty list would be stored, where the default that it is equal to is not
        event = msgspec.structs.replace(cast("Any", event), **given)
    changed = {}
    for field, hint in kind.open_fields.items():
        value = getattr(event, field)
        packed = _pack_typed(value, hint, f"{kind.name}.{field}")
        if packed is not value:
            changed[field] = packed
    try:
        data = _encoder.encode(msgspec.structs.replace(cast("Any", event), **changed) if changed else event)
        decoded = kind.decoder.decode(data)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise InvalidValue(f"{kind.name} cannot be recorded: {error}. Give each field a value of its declared type.") from error
    if len(data) > MAX_RECORD_BYTES:
        raise RecordTooLarge(with_article(f"{kind.name} event"), len(data), MAX_RECORD_BYTES)
    return Payload(kind, data, decoded)


def _pack_typed(value: Any, hint: Any, what: str) -> Any:
    """Pack the parts of a value whose annotation leaves their type open; the typed parts are msgspec's affair."""
    if value is None or (type(value) in (dict, list) and not value):
        return value
    hint = _member(hint, value)
    arguments = _arguments(hint)
    if isinstance(value, msgspec.Struct) and isinstance(hint, type):
        parts = {f: _pack_typed(getattr(value, f), h, f"{what}.{f}") for f, h in open_fields(type(value)).items()}
        changed = {f: packed for f, packed in parts.items() if packed is not getattr(value, f)}
        return msgspec.structs.replace(value, **changed) if changed else value
    if type(value) is tuple and hint is not Any:
        hints = arguments if arguments and arguments[-1] is not ... else (arguments[:1] or (Any,)) * len(value)
        return tuple(_pack_typed(item, h, f"{what}[{i}]") for i, (item, h) in enumerate(zip(value, hints, strict=False)))
    if type(value) is list and arguments:
        items = [_pack_typed(item, arguments[0], f"{what}[{i}]") for i, item in enumerate(value)]
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    if type(value) is dict and arguments and arguments[1] is not Any:
        pack(dict.fromkeys(value), what)  # the keys
        changed = {key: _pack_typed(item, arguments[1], f"{what}[{key!r}]") for key, item in value.items()}
        return changed if any(changed[key] is not item for key, item in value.items()) else value
    return pack(value, what)


def _member(hint: Any, value: Any) -> Any:
    """Return the member of a union that the value belongs to, a plain hint itself, and Any where there is no telling."""
    return next((member for member, kind in _members(hint) if isinstance(value, kind)), Any)


_arguments = functools.cache(typing.get_args)


@functools.cache
def _members(hint: Any) -> list[tuple[Any, type]]:
    """Return the members of a union, or a plain hint alone, that say something of a value's type, each with that type."""
    members = typing.get_args(hint) if typing.get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = [(member, typing.get_origin(member) or member) for member in members]
    return [(member, kind) for member, kind in kinds if isinstance(kind, type) and kind not in (Any, object)]


def _encode_unknown(event: UnknownEvent) -> Payload:
    """Carry an event of an unknown type through as it was recorded (copies, merges)."""
    check_type(event.type, event.schema)
    data = event.raw or encode_value(event.data, event.type)
    if len(data) > MAX_RECORD_BYTES:
        raise RecordTooLarge(with_article(f"{event.type} event"), len(data), MAX_RECORD_BYTES)
    kind = EventType(event.type, event.schema, UnknownEvent, {}, None)
    return Payload(kind, data, decode_event(event.type, event.schema, data))  # as readers will see it


def encode_records(
    payloads: Iterable[tuple[Payload, str, int]], *, position: int, recorded_at: int, append_id: bytes, salt: bytes, actor: str,
    contexts: Iterable[Context | None],
) -> tuple[list[bytes], list[bytes]]:  # fmt: skip
    """Return the bytes and the leaf hashes of the records of one append: of each its payload, stream and version.

    ``position`` is that of the first, ``salt`` the append's. Some microseconds each; the loop is kept flat for it.
    """
    items = list(payloads)
    encode = _encoder.encode
    raws: list[bytes] = []
    leaves: list[bytes] = []
    salts = record_salts(salt, 0, len(items))
    for ordinal, (payload, stream, version), own_salt, context in zip(count(), items, salts, contexts, strict=False):
        kind, data = payload.type, payload.data
        fields = encode(
            (kind.name, kind.schema, position + ordinal, stream, version, recorded_at, append_id, ordinal, actor, context)
        )
        prefix = _ARRAY_OF_11 + fields[1:]  # the ten above, and the event (or, in the leaf entry, its digest)
        raws.append(prefix + data)
        leaves.append(_leaf(prefix, data, own_salt))
    return raws, leaves


def _leaf(prefix: bytes, payload: bytes, salt: bytes) -> bytes:
    return _sha256(b"\0" + prefix + _DIGEST_HEADER + _sha256(salt + payload).digest()).digest()  # as ``leaf_hash``


def record_salts(append_salt: bytes, first_ordinal: int, count: int) -> list[bytes]:
    """Derive the salts of ``count`` records of one append.

    SHAKE-128 of the append's salt and the number of the group of 512 ordinals, cut in pieces of 16 bytes: one record's
    salt says nothing of another's, so a redaction can drop one and keep the rest.
    """
    salts: list[bytes] = []
    if first_ordinal == 0 and count == 1:  # most appends
        return [hashlib.shake_128(append_salt + _FIRST_GROUP).digest(SALT_BYTES)]
    ordinal, end = first_ordinal, first_ordinal + count
    while ordinal < end:
        group, start = divmod(ordinal, _SALT_GROUP)
        stop = min(_SALT_GROUP, start + end - ordinal)
        stream = hashlib.shake_128(append_salt + group.to_bytes(8, "big")).digest(SALT_BYTES * stop)
        salts.extend(stream[SALT_BYTES * i : SALT_BYTES * (i + 1)] for i in range(start, stop))
        ordinal += stop - start
    return salts


def leaf_hashes(raws: Sequence[bytes], envelopes: Sequence[Envelope], salts: Sequence[bytes]) -> list[bytes]:
    """Recompute the leaf hashes of records from their bytes."""
    return [leaf_of(raw, envelope, salt) for raw, envelope, salt in zip(raws, envelopes, salts, strict=True)]


def leaf_of(raw: bytes, envelope: Envelope, salt: bytes) -> bytes:
    """Recompute the leaf hash of one record from its bytes; a redacted one has its payload's digest in them, and no salt."""
    payload = bytes(envelope.payload)
    if envelope.payload_digest is None:
        return _leaf(raw[: len(raw) - len(payload)], payload, salt)
    prefix = raw[: len(raw) - len(payload) - len(_DIGEST_HEADER) - len(envelope.payload_digest)]
    return leaf_hash(_ARRAY_OF_11 + prefix[1:] + _DIGEST_HEADER + envelope.payload_digest)


def redact_record(raw: bytes, envelope: Envelope, salt: bytes, remainder: bytes) -> bytes:
    """Return the record's bytes with the remainder in place of its payload, and the payload's digest behind it."""
    payload = bytes(envelope.payload)
    prefix = raw[: len(raw) - len(payload)]
    return _ARRAY_OF_12 + prefix[1:] + remainder + _DIGEST_HEADER + hashlib.sha256(salt + payload).digest()


def split_records(records: bytes | memoryview) -> list[bytes]:
    """Return the bytes of each record of an array."""
    return [bytes(raw) for raw in _raw_records.decode(records)]


def decode_envelopes(records: bytes | memoryview) -> list[Envelope]:
    """Decode an array of records, leaving the events as bytes; Corrupted when they are none."""
    try:
        return _envelopes.decode(records)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Corrupted(f"records do not decode: {error}.") from error


@functools.lru_cache(maxsize=256)
def _typed_decoder(types: bytes, registered: int) -> Any:
    """Return one decoder for a block of these types, or None when one of them is old or unknown here, or there is none."""
    classes = []
    for name, schema in msgspec.msgpack.decode(types, type=list[tuple[str, int]]):
        kind = find_type(name)
        if kind is None or kind.schema != schema:
            return None
        classes.append(record_class(name, cast("Any", kind.cls)))
    if not classes:
        return None
    union: Any = Union[tuple(classes)]  # noqa: UP007 - made at run time
    return msgspec.msgpack.Decoder(list[union], ext_hook=unpack_extension)


def decode_records(records: bytes | memoryview, types: bytes) -> list[Record]:
    """Decode an array of records with their events.

    ``types`` is the encoded list of (type, schema) inside, as ``encode_types`` makes it. When all are current, one
    call decodes everything; else each event is decoded by itself, so that one that is old, unknown or does not fit its
    class never fails its neighbours.
    """
    try:
        decoder = _typed_decoder(types, generation())
        if decoder is not None:
            return decoder.decode(records)  # type: ignore[no-any-return]
    except msgspec.ValidationError:
        pass  # an event does not fit its class: find it below
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Corrupted(f"records do not decode: {error}.") from error
    return [_decode_one(envelope) for envelope in decode_envelopes(records)]


def _decode_one(envelope: Envelope) -> Record:
    payload = bytes(envelope.payload)
    if envelope.payload_digest is not None and payload == _NIL:
        event: Event = UnknownEvent(envelope.type, envelope.schema, None, "its payload was redacted", payload)
    else:
        event = decode_event(envelope.type, envelope.schema, payload)
    cls = cast("Any", record_class(envelope.type, cast("Any", type(event))))
    fields = [getattr(envelope, field) for field in Record.__struct_fields__[:-2]]
    return cast("Record", cls(*fields, event, envelope.payload_digest))


def decode_event(type_name: str, schema: int, raw: bytes) -> Event:
    """Decode one event: as its class, through upcasters if it is older, else as an UnknownEvent that says why."""
    kind = find_type(type_name)
    if kind is None:
        return UnknownEvent(type_name, schema, _decode_any(raw), raw=raw)
    try:
        if kind.schema == schema:
            return cast("Event", kind.decoder.decode(raw))
        data = upcast(type_name, schema, kind.schema, _decode_any(raw))
        return cast("Event", msgspec.convert(data, cast("Any", kind.cls)))
    except Exception as error:  # noqa: BLE001 - an upcaster may raise anything, and must not hide its neighbours
        return UnknownEvent(type_name, schema, _decode_any(raw), f"{type(error).__name__}: {error}", raw)


def _decode_any(payload: bytes) -> Any:
    try:
        return msgspec.msgpack.decode(payload, ext_hook=unpack_extension)
    except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError) as error:
        raise Corrupted(f"a record's content does not decode: {error}.") from error


def encode_types(types: set[tuple[str, int]]) -> bytes:
    """Encode the set of (type, schema) of a block, sorted."""
    return _encoder.encode(sorted(types))


# -------------------------------------------------------------------------------------------------------------- states

_trial_states = msgspec.msgpack.Decoder(TrialState, ext_hook=unpack_extension)
_experiment_states = msgspec.msgpack.Decoder(ExperimentState, ext_hook=unpack_extension)


def encode_state(state: TrialState | ExperimentState) -> bytes:
    """Encode a state; equal states have equal bytes."""
    changed = {}
    for field, hint in open_fields(type(state)).items():
        value = getattr(state, field)
        packed = pack(value, field) if type(value) is dict else _pack_typed(value, hint, field)  # none of them holds structs
        if packed is not value:
            changed[field] = packed
    return _encoder.encode(msgspec.structs.replace(state, **changed) if changed else state)


def decode_trial_state(data: bytes) -> TrialState:
    """Decode what ``encode_state`` made of a trial's state."""
    return _trial_states.decode(data)


def decode_experiment_state(data: bytes) -> ExperimentState:
    """Decode what ``encode_state`` made of an experiment's state."""
    return _experiment_states.decode(data)
