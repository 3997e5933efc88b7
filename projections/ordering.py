"""Ordering: values of any types in one order, which never fails and is the same every time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from projections.columns import MISSING


def order_of(values: Sequence[Any], *, is_descending: bool = False) -> list[int]:
    """Return the places of the values, sorted; equal ones stay as they were.

    Numbers come before texts, texts before times, and anything else after them. NaN, None and what is missing come last,
    in that order, whether it descends or not.

    >>> values = ["b", 2, None, 1.5, float("nan"), True, "a"]
    >>> [values[place] for place in order_of(values)]
    [True, 1.5, 2, 'a', 'b', nan, None]
    >>> order_of([1, None, 3], is_descending=True)
    [2, 0, 1]
    """
    keys = [order_key(value) for value in values]
    ranked = [place for place, key in enumerate(keys) if key[0] < _NOTHING]
    empty = [place for place, key in enumerate(keys) if key[0] >= _NOTHING]
    ranked.sort(key=keys.__getitem__, reverse=is_descending)
    empty.sort(key=keys.__getitem__)
    return ranked + empty


_NOTHING = 5


def order_key(value: Any) -> tuple[Any, ...]:
    """Return what a value is sorted by; the keys of any two values can be compared.

    >>> order_key([1, "a"]) < order_key([1, "b"]) < order_key(None)
    True
    """
    if value is None:
        return _NOTHING + 1, ""
    if value is MISSING:
        return _NOTHING + 2, ""
    if isinstance(value, int | float | Decimal):
        return (0, value) if value == value else (_NOTHING, "")
    if isinstance(value, str):
        return 1, value
    if isinstance(value, dt.datetime):
        return (2, value) if value.tzinfo is not None else (4, "datetime", str(value))
    if isinstance(value, list | tuple):
        return 3, [order_key(each) for each in value]
    return 4, type(value).__name__, repr(value)
