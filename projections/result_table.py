"""The table of results in long form: a row for each that counts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from projections.columns import object_column, text_array
from projections.trial_rows import TrialRows
from projections.trial_table import shown_rows
from projections.value_column import value_column


def result_table(trials: TrialRows, *, amended: bool = True, deleted: bool = False, exact: bool = False) -> pd.DataFrame:
    """Return the results of the trials of an experiment, ordered by trial_id and name; no rows where nothing was recorded.

    Columns: ``trial_id`` (int64), ``name`` (string), ``value`` (``projections.value_column`` says of which dtype; ``exact``: the
    values themselves, so that None is not NaN). NaN and None are results: they have a row.
    """
    rows, _, results = shown_rows(trials, amended=amended, deleted=deleted)
    names = sorted(results.buffers)
    places = [np.flatnonzero(~results[name].is_missing()) for name in names]
    values = [value for name, which in zip(names, places, strict=True) for value in results[name].values(which)]
    numbers = np.repeat(np.arange(len(names)), [len(which) for which in places])
    trial_ids = rows["trial_id"].arrays()[0][np.concatenate([np.zeros(0, np.int64), *places])]
    order = np.lexsort((numbers, trial_ids))
    column = object_column(values) if exact else value_column(values)
    return pd.DataFrame(
        {
            "trial_id": trial_ids[order],
            "name": text_array(np.array(names, object)[numbers[order]]),
            "value": column.take(order).reset_index(drop=True),
        }
    )
