"""Encodings: how a column of objects is said in the types that other programs know; ``projections.export`` lists them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pandas as pd

from ledger.records import iso_nanoseconds
from ledger.values import from_json, to_json
from projections.columns import object_column

_json = msgspec.json.Encoder()


class Encoding(enum.StrEnum):
    """How the values of a column are said."""

    PLAIN = "plain"  # by the column's own type
    TEXTS = "texts"
    BYTES = "bytes"
    LISTS = "lists"  # of texts
    TUPLES = "tuples"
    INTS = "ints"  # some beyond 64 bits
    UUIDS = "uuids"
    DECIMALS = "decimals"
    JSON = "json"


_BY_KIND: dict[type, Encoding] = {
    str: Encoding.TEXTS, bytes: Encoding.BYTES, int: Encoding.INTS, UUID: Encoding.UUIDS, Decimal: Encoding.DECIMALS,
    list: Encoding.LISTS, tuple: Encoding.TUPLES,
}  # fmt: skip

_FROM_TEXT: dict[Encoding, Callable[[Any], Any]] = {
    Encoding.TEXTS: str, Encoding.BYTES: bytes, Encoding.LISTS: list, Encoding.TUPLES: tuple, Encoding.UUIDS: UUID,
    Encoding.DECIMALS: Decimal, Encoding.INTS: lambda text: int(text, 0),
    Encoding.JSON: lambda text: from_json(msgspec.json.decode(text)),
}  # fmt: skip


def encoding_of(series: pd.Series[Any]) -> Encoding:
    """Return how the column's values are said.

    >>> encoding_of(pd.Series([1, 2])).value, encoding_of(pd.Series([1, "a"], dtype=object)).value
    ('plain', 'json')
    """
    if series.dtype != object:
        return Encoding.PLAIN
    kinds = {type(value) for value in series} - {type(None)}
    if len(kinds) != 1:
        return Encoding.JSON if kinds else Encoding.TEXTS
    encoding = _BY_KIND.get(kinds.pop(), Encoding.JSON)
    if encoding in (Encoding.LISTS, Encoding.TUPLES) and not all(_is_texts(value) for value in series if value is not None):
        return Encoding.JSON
    return encoding


def _is_texts(values: Sequence[Any]) -> bool:
    return all(type(value) is str for value in values)


def encode_column(series: pd.Series[Any], encoding: Encoding) -> Any:
    """Return the column's values as Arrow takes them: the column itself, or a list with None for what is missing."""
    if encoding is Encoding.PLAIN:
        return series
    said = _ARROW.get(encoding, lambda value: value)
    return [None if value is None else said(value) for value in series]


def decode_column(values: Sequence[Any], encoding: Encoding) -> pd.Series[Any]:
    """Return the objects again."""
    made = _FROM_TEXT[encoding]
    return object_column([None if value is None else made(value) for value in values])


def _int_text(value: int) -> str:
    return str(value) if value.bit_length() < 10_000 else hex(value)


def _exact(value: Any) -> Any:
    """Return a value in terms of JSON; a time of a table's own (in a table of changes) as its text."""
    if isinstance(value, pd.Timestamp):
        return iso_nanoseconds(value.as_unit("ns").value)
    return to_json(value)


def _json_text(value: Any) -> str:
    return _json.encode(_exact(value)).decode()


_ARROW: dict[Encoding, Callable[[Any], Any]] = {
    Encoding.TUPLES: list, Encoding.INTS: _int_text, Encoding.UUIDS: str, Encoding.DECIMALS: str, Encoding.JSON: _json_text,
}  # fmt: skip
_CSV: dict[Encoding, Callable[[Any], Any]] = {
    Encoding.TEXTS: str, Encoding.BYTES: _json_text, Encoding.LISTS: _json_text,
    Encoding.TUPLES: lambda value: _json_text([*value]),
    Encoding.INTS: _int_text, Encoding.UUIDS: str, Encoding.DECIMALS: str, Encoding.JSON: _json_text,
}  # fmt: skip

Cell = Callable[[Any], Any]


def json_cells(series: pd.Series[Any]) -> Cell:
    """Return the function that says a value of the column in terms of JSON; None for what is missing.

    A tuple of the table's own is merely a list that cannot change; one of a config or a result is a value.
    """
    encoding = encoding_of(series)
    if encoding is Encoding.PLAIN:
        return lambda value: to_json(_plain(value))
    is_value = str(series.name).startswith(("config.", "result."))
    return _listed if encoding is Encoding.TUPLES and not is_value else _exact


def _listed(value: Any) -> Any:
    return None if value is None else list(value)


def csv_cells(series: pd.Series[Any]) -> Cell:
    """Return the function that says a value of the column as a number, a bool or a text; None for what is missing."""
    encoding = encoding_of(series)
    if encoding is Encoding.PLAIN:
        return _plain
    said = _CSV[encoding]
    return lambda value: None if value is None else said(value)


def _plain(value: Any) -> Any:
    """Return a value of a typed column: times in ISO 8601, UTC, and durations; None for what is missing."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return None
    if isinstance(value, pd.Timestamp):
        return iso_nanoseconds(value.as_unit("ns").value)
    if isinstance(value, pd.Timedelta):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value  # a scalar of numpy
