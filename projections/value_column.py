"""Recorded values as pandas columns of the right dtype, without losing a value.

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

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from projections.buffers import ValueBuffer
from projections.columns import MISSING, Column, as_it_is


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
    buffer = ValueBuffer()
    buffer.extend(values)
    return pd.Series(as_it_is(buffer.array()))
