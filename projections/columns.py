"""Columns: lists of recorded values to pandas columns of the right dtype, without losing a value.

==============================================  =============================================================
recorded values                                 dtype of the column
==============================================  =============================================================
int                                             ``Int64``; ``object`` when one is beyond 64 bits
float                                           ``float64``
int and float                                   ``float64`` when every int is exact as a float, else ``object``
bool                                            ``boolean``
str                                             ``string``
anything else, or several kinds of the above    ``object``, with the values themselves
==============================================  =============================================================

What a row does not have is missing: ``NA``, in ``float64`` columns NaN, in ``object`` columns None. A recorded None is
shown like a missing value, and in a ``float64`` column so is a recorded NaN; the log keeps them apart.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
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

_ABSENT = frozenset({_Missing, type(None)})
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
NOT_A_TIME = _INT64_MIN  # numpy's own mark
STATUS_CODES = {status: code for code, status in enumerate(Status)}
STATUSES = pd.CategoricalDtype([status.value for status in Status])
TEXT = pd.StringDtype("python", na_value=pd.NA)  # whether pyarrow is installed or not


def gather(rows: Sequence[Mapping[str, Any]], prefix: str) -> dict[str, Column]:
    """Turn one mapping a row into one column a name, sorted by name, named ``prefix`` and the name.

    Costs time and memory in proportion to rows times names; only what is present is touched while gathering.

    >>> columns = gather([{"lr": 0.1}, {"lr": 0.2, "layers": 3}], "config.")
    >>> {name: str(column.dtype) for name, column in columns.items()}
    {'config.layers': 'Int64', 'config.lr': 'float64'}
    """
    lists: dict[str, list[Any]] = {}
    for row, values in enumerate(rows):
        for name, value in values.items():
            column = lists.get(name)
            if column is None:
                column = lists[name] = [MISSING] * len(rows)
            column[row] = value
    return {prefix + name: value_column(lists[name]) for name in sorted(lists)}


def value_column(values: Sequence[Any]) -> Column:
    """Return recorded values as a column; the module's table says of which dtype.

    >>> value_column([1, MISSING, 2**62 + 1]).tolist()
    [1, <NA>, 4611686018427387905]
    >>> value_column([1, 0.5]).dtype, value_column([2**53 + 1, 0.5]).dtype
    (dtype('float64'), dtype('O'))
    """
    kinds = set(map(type, values)) - _ABSENT
    if kinds == {int} and all(_INT64_MIN <= value <= _INT64_MAX for value in values if type(value) is int):
        return integer_column(values)
    if kinds == {float} or (kinds == {int, float} and all(_is_exact(value) for value in values)):
        floats = [np.nan if type(value) in _ABSENT else value for value in values]
        return pd.Series(np.array(floats, dtype=np.float64))
    if kinds == {bool}:
        return _masked(values, bool, np.dtype(np.bool_))
    if kinds == {str}:
        return text_column([None if type(value) in _ABSENT else value for value in values])
    return object_column([None if type(value) is _Missing else value for value in values])


def _is_exact(value: Any) -> bool:
    if type(value) is not int:
        return True
    try:
        return float(value) == value
    except OverflowError:
        return False


def _masked(values: Sequence[Any], kind: type, dtype: np.dtype[Any]) -> Column:
    """Build a nullable column from its two arrays: by way of floats, pandas would round large ints."""
    mask = np.fromiter((type(value) is not kind for value in values), dtype=np.bool_, count=len(values))
    data = np.fromiter((value if type(value) is kind else kind() for value in values), dtype=dtype, count=len(values))
    array: Any = pd.arrays.BooleanArray(data, mask) if kind is bool else pd.arrays.IntegerArray(data, mask)
    return pd.Series(array)


def integer_column(values: Sequence[Any]) -> Column:
    """Return ints of 64 bits as ``Int64``; whatever is no int is missing.

    >>> integer_column([3, None]).tolist()
    [3, <NA>]
    """
    return _masked(values, int, np.dtype(np.int64))


def text_column(values: Sequence[str | None]) -> Column:
    """Return texts as ``string``; None is missing.

    >>> text_column(["w1", None]).tolist()
    ['w1', <NA>]
    """
    return pd.Series(text_array(list(values)))


def text_array(values: Any) -> Any:
    """Return texts as an array of dtype ``string``; None is missing."""
    return pd.array(values, dtype=TEXT)


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


def time_column(values: Sequence[int | None]) -> Column:
    """Return times (ns since 1970 UTC) as ``datetime64[ns, UTC]``, to the nanosecond.

    NaT stands for None, and for a time outside of the years 1678 to 2261, which the dtype cannot hold.

    >>> time_column([1_500_000_000_123_456_789, None]).tolist()
    [Timestamp('2017-07-14 02:40:00.123456789+0000', tz='UTC'), NaT]
    """
    numbers = (value if value is not None and _INT64_MIN < value <= _INT64_MAX else NOT_A_TIME for value in values)
    array = np.fromiter(numbers, dtype=np.int64, count=len(values))
    return pd.Series(array.view("datetime64[ns]")).dt.tz_localize("UTC")


def status_column(values: Iterable[Status]) -> Column:
    """Return statuses as a category over all of them, in the order in which ``ledger.Status`` lists them.

    >>> status_column([Status.RUNNING]).cat.categories[:3].tolist()
    ['PENDING', 'READY', 'RUNNING']
    """
    codes = [STATUS_CODES[value] for value in values]
    return pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index([status.value for status in Status])))
