"""Series: the values of a column of a frame as pandas shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from projections.columns import MISSING, Column, time_column
from projections.value_column import value_column


def as_series(values: Sequence[Any]) -> Column:
    """Return values as a column; ``projections.columns`` says of which dtype, and numpy's numbers are numbers.

    >>> as_series([np.float64(0.5), MISSING]).tolist()
    [0.5, nan]
    """
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    kinds = set(map(type, plain)) - {type(MISSING), type(None)}
    if kinds == {pd.Timestamp} and all(value.tzinfo is not None for value in plain if isinstance(value, pd.Timestamp)):
        return time_column([value.as_unit("ns").value if isinstance(value, pd.Timestamp) else None for value in plain])
    return value_column(plain)
