"""Plain values: events, and whatever else is made of structs, as dicts of their fields."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Any

import msgspec

from ledger.registry import UnknownEvent, typed_tuples


def plain(value: Any) -> Any:
    """Return the value with structs as dicts of all their fields, deeply; an unknown event becomes its data."""
    kind: Any = type(value)
    if kind in (str, int, float, bool, type(None), bytes):
        return value
    if kind is list:
        return [plain(item) for item in value]
    if kind is tuple:
        return tuple(plain(item) for item in value)
    if kind is dict:
        return {key if type(key) is str else plain(key): plain(item) for key, item in value.items()}
    if kind is UnknownEvent:
        return plain(value.data)
    if isinstance(value, msgspec.Struct):
        arrays = typed_tuples(kind)  # on disk they are arrays, as lists are, and so they are in JSON
        fields = {field: plain(getattr(value, field)) for field in value.__struct_fields__}
        return {field: list(item) if field in arrays and type(item) is tuple else item for field, item in fields.items()}
    if isinstance(value, enum.Enum | set | frozenset | dt.date | dt.time | dt.timedelta) and not isinstance(value, dt.datetime):
        return msgspec.to_builtins(value)  # typed fields of a caller's own event
    return value
