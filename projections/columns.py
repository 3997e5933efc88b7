"""Columns: lists of texts, numbers and times to pandas columns of the right dtype."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from ledger.state import Status

Column: TypeAlias = "pd.Series[Any]"


class _Missing:
    """The type of MISSING."""

    def __repr__(self) -> str:
        return "MISSING"


#: Stands in a list of values where a row has none.
MISSING: Final = _Missing()

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
NOT_A_TIME = _INT64_MIN  # numpy's own mark
STATUS_CODES = {status: code for code, status in enumerate(Status)}
TEXT = pd.StringDtype("python", na_value=pd.NA)  # whether pyarrow is installed or not


def category(texts: Iterable[str]) -> pd.CategoricalDtype:
    """Return the dtype of columns in which these texts occur again and again."""
    return pd.CategoricalDtype(pd.Index(list(texts), dtype=TEXT))


STATUSES = category(status.value for status in Status)


def integer_column(values: Sequence[Any]) -> Column:
    """Return ints of 64 bits as ``Int64``; whatever is no int is missing.

    >>> integer_column([3, None]).tolist()
    [3, <NA>]
    """
    mask = np.fromiter((type(value) is not int for value in values), dtype=np.bool_, count=len(values))
    data = np.fromiter((value if type(value) is int else 0 for value in values), dtype=np.int64, count=len(values))
    return pd.Series(pd.arrays.IntegerArray(data, mask))  # by way of floats, pandas would round large ints


def text_column(values: Sequence[str | None]) -> Column:
    """Return texts as ``string``; None is missing.

    >>> text_column(["w1", None]).tolist()
    ['w1', <NA>]
    """
    return pd.Series(text_array(list(values)))


def text_array(values: Any) -> Any:
    """Return texts as an array of dtype ``string``; None is missing. An array of objects becomes part of it."""
    return pd.array(values, dtype=TEXT, copy=False)


def missing_texts(count: int) -> Any:
    """Return an array of dtype ``string`` in which every text is missing."""
    return _missing(1 << count.bit_length())[:count].copy()


@functools.cache
def _missing(count: int) -> Any:
    """Make it once: pandas looks at each text of a new array."""
    return pd.array([pd.NA], dtype=TEXT).take(np.zeros(count, np.intp))


def object_column(values: Sequence[Any]) -> Column:
    """Return the values themselves, whatever they are, as ``object``.

    >>> object_column([[1, 2], (3,), None]).tolist()
    [[1, 2], (3,), None]
    """
    array = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):  # one by one: numpy would take lists of equal length for a second dimension
        array[row] = value
    return pd.Series(array, dtype=object)


def own_value(value: Any) -> Any:
    """Return a recorded value in which nothing that can be changed is somebody else's, and no NaN signals.

    To compare a signalling NaN with anything raises, in pandas too: one trial's value would hide the table.

    >>> config = {"layers": [1, 2]}
    >>> own_value((config,))[0]["layers"].append(3)
    >>> config
    {'layers': [1, 2]}
    >>> own_value([Decimal("sNaN")])
    [Decimal('NaN')]
    """
    kind = type(value)
    if kind is dict:
        return {key: own_value(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind(map(own_value, value))
    if kind is Decimal and value.is_snan():
        return Decimal(str(value).replace("sNaN", "NaN"))
    return value


def as_it_is(array: Any) -> Any:
    """Return an array so that pandas makes a column of it without guessing: of objects that are all datetimes, it would.

    >>> import datetime as dt
    >>> moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    >>> pd.DataFrame({"at": as_it_is(np.array([moment], object))})["at"].tolist() == [moment]
    True
    """
    return pd.Series(array, dtype=object, copy=False) if array.dtype == object else array


def time_column(values: Sequence[int | None]) -> Column:
    """Return times (ns since 1970 UTC) as ``datetime64[ns, UTC]``, to the nanosecond.

    NaT stands for None, and for a time outside of the years 1678 to 2261, which the dtype cannot hold.

    >>> time_column([1_500_000_000_123_456_789, None]).tolist()
    [Timestamp('2017-07-14 02:40:00.123456789+0000', tz='UTC'), NaT]
    """
    numbers = (value if value is not None and _INT64_MIN < value <= _INT64_MAX else NOT_A_TIME for value in values)
    array = np.fromiter(numbers, dtype=np.int64, count=len(values))
    return pd.Series(time_array(array))


def time_array(nanoseconds: Any) -> Any:
    """Return an array of ns since 1970 UTC as one of dtype ``datetime64[ns, UTC]``, in the same memory."""
    return pd.DatetimeIndex(nanoseconds, tz="UTC", copy=False).array  # ints are UTC; to localize times would look at each
