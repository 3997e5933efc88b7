"""Grouping: rows by the values of some columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from projections.ordering import order_of


def group_rows(columns: Sequence[Sequence[Any]]) -> dict[tuple[Any, ...], list[int]]:
    """Return the places of rows by the values that they have in the columns, in the order of these values.

    >>> group_rows([[2, 1, None, 2], ["a", "a", "b", "a"]])
    {(1, 'a'): [1], (2, 'a'): [0, 3], (None, 'b'): [2]}
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row, values in enumerate(zip(*columns, strict=True)):
        groups.setdefault(tuple(map(group_key, values)), []).append(row)
    keys = list(groups)
    for level in reversed(range(len(columns))):
        keys = [keys[place] for place in order_of([key[level] for key in keys])]
    return {key: groups[key] for key in keys}


def group_key(value: Any) -> Any:
    """Return the value as a key of groups: one that can be hashed, and is equal to itself.

    >>> group_key([1, {"a": float("nan")}]) == group_key([1, {"a": float("nan")}])
    True
    """
    if isinstance(value, float | Decimal) and value != value:
        return math.nan  # always the same object, which dictionaries and tuples take for equal
    if isinstance(value, list | tuple):
        return tuple(map(group_key, value))
    if isinstance(value, dict):
        return tuple((name, group_key(part)) for name, part in sorted(value.items(), key=lambda item: str(item[0])))
    try:
        hash(value)
    except TypeError:  # what a map has made
        return repr(value)
    return value
