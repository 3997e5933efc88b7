"""The values a record can hold, and how they keep their types.

MessagePack has int (64 bits), float, str, bytes, bool, None, list and dict with str keys. What it lacks is carried by
its extension types, so that a value read is equal to the value written, and of the same type:

====  ====================  ==========================================
code  Python type           content
====  ====================  ==========================================
1     tuple                 MessagePack array
2     int beyond 64 bits    two's complement, big endian
3     decimal.Decimal       its text
4     uuid.UUID             16 bytes
5     datetime.datetime     ISO 8601 text, with the offset if it has one
6     dict with int keys    MessagePack array of [key, value], sorted
====  ====================  ==========================================

numpy scalars become the Python number of the same value. Everything else (sets, enums, objects) is refused at the
call, with the cure. Dictionaries are encoded with sorted keys: equal values have equal bytes.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any
from uuid import UUID

import msgspec

from ledger.errors import InvalidValue

MAX_DEPTH = 64
_SHOWN_PLACE = 60  # characters of where a value stands that is too deep
MAX_LABEL = 16_384

_PLAIN = frozenset({str, float, bool, bytes, type(None)})
_AS_THEY_ARE = _PLAIN - {str}  # a text may be none
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_encoder = msgspec.msgpack.Encoder(order="deterministic")


def check_text(text: str, what: str) -> str:
    """Return the text if UTF-8 can carry it; refuse lone surrogates (undecodable bytes of file names and arguments)."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(
            f"{what} is not valid text: {text!r} has a lone surrogate at index {error.start} (bytes that were not "
            "UTF-8). Decode it with the right encoding, or record it as bytes."
        ) from None
    return text


def with_article(noun: str) -> str:
    """Return a noun with the article that goes before it.

    >>> with_article("object"), with_article("TrialCreated event")
    ('an object', 'a TrialCreated event')
    """
    return f"{'an' if noun[:1].lower() in 'aeio' else 'a'} {noun}"


def check_label(text: Any, what: str) -> str:
    """Return a text that goes with records (actor, reason, ids) when it is one and not a document."""
    if type(text) is not str:
        raise InvalidValue(f"{what} is a text, not {text!r}.")
    if len(text) > MAX_LABEL:
        raise InvalidValue(
            f"{what} has {len(text):,} characters; at most {MAX_LABEL:,} go with a record. Record the rest as a note."
        )
    return check_text(text, what)


def pack(value: Any, what: str = "value", depth: int = 0) -> Any:
    """Return the value with what MessagePack lacks replaced by extension types; the value itself when nothing is.

    Raises InvalidValue, naming the place (``what``) and the cure, for anything that cannot be recorded exactly.
    """
    kind = type(value)
    if kind is str:
        return check_text(value, what) if not value.isascii() else value
    if kind in _PLAIN:
        return value
    if kind is int:
        if _INT_MIN <= value <= _INT_MAX:
            return value
        return msgspec.msgpack.Ext(2, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    if depth > MAX_DEPTH:
        raise InvalidValue(
            f"{what[:_SHOWN_PLACE]}... is nested more than {MAX_DEPTH} levels deep, or contains itself. "
            "Flatten it, or record its text."
        )
    if kind is dict:
        return _pack_dict(value, what, depth)
    if kind is list:
        packed = [pack(item, f"{what}[{i}]", depth + 1) for i, item in enumerate(value)]
        return packed if any(a is not b for a, b in zip(packed, value, strict=True)) else value
    if kind is msgspec.msgpack.Ext and not 1 <= value.code <= 6:
        return value  # of a newer version, carried through
    extension = _EXTENSIONS.get(kind)
    if extension is not None:
        return extension(value, what, depth)
    if kind.__module__ == "numpy" and getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return pack(value.item(), what, depth + 1)
    raise InvalidValue(f"{what} is {with_article(kind.__qualname__)}, which cannot be recorded exactly. {_cure(value)}")


def _pack_dict(value: dict[Any, Any], what: str, depth: int) -> Any:
    kinds = {type(key) for key in value}
    if kinds <= {str}:
        changed = {}
        for key, item in value.items():
            if not key.isascii():
                check_text(key, f"a key of {what}")
            if type(item) not in _AS_THEY_ARE:
                packed = pack(item, f"{what}[{key!r}]", depth + 1)
                if packed is not item:
                    changed[key] = packed
        return {**value, **changed} if changed else value
    if kinds <= {str, int}:
        pairs = [[pack(k, what), pack(v, f"{what}[{k!r}]", depth + 1)] for k, v in value.items()]
        pairs.sort(key=lambda pair: _encoder.encode(pair[0]))
        return msgspec.msgpack.Ext(6, _encoder.encode(pairs))
    bad = next(key for key in value if type(key) not in (str, int))
    raise InvalidValue(f"{what} has the key {bad!r} of type {type(bad).__qualname__}; keys are str or int. Use {str(bad)!r}.")


def _cure(value: Any) -> str:
    if isinstance(value, set | frozenset):
        return "Record sorted(value), a list."
    if hasattr(value, "value") and hasattr(value, "name"):
        return "Record its .value or its .name."
    if hasattr(value, "tolist"):
        return "Record value.tolist(), or keep the array as an artifact."
    if isinstance(value, dt.date | dt.time | dt.timedelta):
        return "Record value.isoformat(), or the number of seconds."
    if isinstance(value, str | int | float | bytes | list | tuple | dict):
        base = next(b for b in (str, int, float, bytes, list, tuple, dict) if isinstance(value, b))
        return f"Record {base.__name__}(value)."
    return "Record a dict of its fields, or str(value)."


def _pack_tuple(value: tuple[Any, ...], what: str, depth: int) -> msgspec.msgpack.Ext:
    items = [pack(item, f"{what}[{i}]", depth + 1) for i, item in enumerate(value)]
    return msgspec.msgpack.Ext(1, _encoder.encode(items))


_EXTENSIONS: dict[type, Callable[[Any, str, int], msgspec.msgpack.Ext]] = {
    tuple: _pack_tuple,
    Decimal: lambda value, what, depth: msgspec.msgpack.Ext(3, str(value).encode()),
    UUID: lambda value, what, depth: msgspec.msgpack.Ext(4, value.bytes),
    dt.datetime: lambda value, what, depth: msgspec.msgpack.Ext(5, value.isoformat().encode()),
}


def unpack_extension(code: int, data: memoryview) -> Any:
    """Turn an extension type back into its value (msgspec calls this while decoding).

    An unknown code is carried through as ``msgspec.msgpack.Ext``: a newer version may have written it.
    """
    content = bytes(data)
    unpack = _UNPACK.get(code)
    if unpack is None:
        return msgspec.msgpack.Ext(code, content)
    try:
        return unpack(content)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise msgspec.DecodeError(f"extension type {code} holds {content[:40]!r}: {error}") from error


_UNPACK: dict[int, Callable[[bytes], Any]] = {
    1: lambda content: tuple(_decoder.decode(content)),
    2: lambda content: int.from_bytes(content, "big", signed=True),
    3: lambda content: Decimal(content.decode()),
    4: lambda content: UUID(bytes=content),
    5: lambda content: dt.datetime.fromisoformat(content.decode()),
    6: lambda content: dict(_decoder.decode(content)),
}


_decoder: Any = msgspec.msgpack.Decoder(ext_hook=unpack_extension)


_SCALARS = frozenset({str, int, float, bool, type(None)})
_TEXT = frozenset({str})


def encode_value(value: Any, what: str = "value") -> bytes:
    """Encode one value; equal values of equal types have equal bytes.

    >>> decode_value(encode_value({"size": (1, 2**80)}))
    {'size': (1, 1208925819614629174706176)}
    """
    if type(value) is dict and _SCALARS.issuperset(map(type, value.values())) and _TEXT.issuperset(map(type, value)):
        try:
            return _encoder.encode(value)  # the most of all there are: nothing in it needs an extension type
        except (OverflowError, UnicodeEncodeError):
            pass  # ints beyond 64 bits, and texts to be refused
    return _encoder.encode(pack(value, what))


def encode_values(values: Sequence[Any], what: str = "value") -> list[bytes]:
    """Encode many values as ``encode_value`` does each; for mappings of scalars, in half the time.

    >>> encode_values([{"lr": 1}, {"lr": (1,)}]) == [encode_value({"lr": 1}), encode_value({"lr": (1,)})]
    True
    """
    if (
        set(map(type, values)) == {dict}
        and _SCALARS.issuperset(map(type, chain.from_iterable(map(dict.values, values))))
        and _TEXT.issuperset(map(type, set().union(*values)))  # most have the keys of the others
    ):
        try:
            return list(map(_encoder.encode, values))
        except (OverflowError, UnicodeEncodeError):
            pass  # as above
    return [encode_value(value, what) for value in values]


def decode_value(data: bytes) -> Any:
    """Decode what ``encode_value`` made."""
    return _decoder.decode(data)


def to_json(value: Any) -> Any:
    """Return the value in terms of JSON; what JSON cannot say becomes an object with one ``$`` key.

    >>> to_json({"a": (1, float("nan")), "b": b"x"})
    {'a': {'$tuple': [1, {'$float': 'nan'}]}, 'b': {'$bytes': 'eA=='}}
    """
    kind = type(value)
    if kind in (str, bool, type(None)):
        return value
    if kind is int:
        return value if -(2**53) < value < 2**53 else {"$int": str(value) if value.bit_length() < 10_000 else hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": _float_text(value)}
    if kind is list:
        return [to_json(item) for item in value]
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: to_json(item) for key, item in value.items()}
        return {"$dict": [[to_json(key), to_json(item)] for key, item in value.items()]}
    if kind in _TO_JSON:
        return _TO_JSON[kind](value)
    raise InvalidValue(f"{with_article(kind.__qualname__)} has no form in JSON. {_cure(value)}")


_TO_JSON: dict[type, Callable[[Any], dict[str, Any]]] = {
    tuple: lambda value: {"$tuple": [to_json(item) for item in value]},
    bytes: lambda value: {"$bytes": base64.b64encode(value).decode()},
    Decimal: lambda value: {"$decimal": str(value)},
    UUID: lambda value: {"$uuid": str(value)},
    dt.datetime: lambda value: {"$datetime": value.isoformat()},
    msgspec.msgpack.Ext: lambda value: {"$ext": [value.code, base64.b64encode(value.data).decode()]},
}


def _float_text(value: float) -> str:
    bits = struct.pack(">d", value)
    return repr(value) if bits == struct.pack(">d", float(repr(value))) else "0x" + bits.hex()  # a NaN with a payload


def _float_from_text(text: str) -> float:
    if text.startswith("0x"):
        return float(struct.unpack(">d", bytes.fromhex(text[2:]))[0])
    return float(text)


_FROM_JSON: dict[str, Callable[[Any], Any]] = {
    "$int": lambda text: int(text, 0),  # hexadecimal when Python would refuse so many decimal digits
    "$float": _float_from_text,
    "$tuple": lambda items: tuple(from_json(item) for item in items),
    "$dict": lambda pairs: {from_json(key): from_json(item) for key, item in pairs},
    "$bytes": base64.b64decode,
    "$decimal": Decimal,
    "$uuid": UUID,
    "$datetime": dt.datetime.fromisoformat,
    "$ext": lambda pair: msgspec.msgpack.Ext(pair[0], base64.b64decode(pair[1])),
}


def from_json(value: Any) -> Any:
    """Turn ``to_json``'s form back into the value.

    >>> from_json({"$tuple": [1, {"$int": "99999999999999999999"}]})
    (1, 99999999999999999999)
    """
    if type(value) is list:
        return [from_json(item) for item in value]
    if type(value) is dict:
        if len(value) == 1:
            ((key, content),) = value.items()
            if key.startswith("$"):
                if key not in _FROM_JSON:
                    raise InvalidValue(f"unknown JSON tag {key!r}; known: {', '.join(_FROM_JSON)}. Check the file's version.")
                return _FROM_JSON[key](content)
        return {key: from_json(item) for key, item in value.items()}
    return value
