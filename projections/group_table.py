"""The table of trial groups: the trials of the same config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from projections.columns import STATUS_CODES
from projections.config_table import config_columns, shown_places
from projections.experiment_table import STATUS_COUNTS
from projections.trial_rows import TrialRows


def group_table(trials: TrialRows, originals: Mapping[int, Mapping[str, Any]], *, deleted: bool = False) -> pd.DataFrame:
    """Return the trial groups of an experiment, ordered by group_id; no rows for one without trials.

    Trials of the same config (see ``config_table``) are a group, whose number is the lowest of theirs;
    with ``deleted`` the deleted ones are among them.

    Columns: ``group_id`` and ``config_id`` (int64, as in the trial table), ``trials`` (Int64),
    then how many of them are ``pending``, ``running``, ``succeeded``, ``failed``, ``stopped`` and ``unknown`` (as in the
    table of experiments), ``first_started_at`` and ``last_ended_at`` (datetime64[ns, UTC]), then ``config.<parameter>`` by name.
    """
    live = shown_places(trials, deleted=deleted)
    rows = trials.rows.take(live)
    ids, first, inverse = np.unique(rows["config_id"].arrays()[0], return_index=True, return_inverse=True)
    statuses = rows["status"].arrays()[0]
    times = rows.frame(["started_at", "ended_at"]).groupby(inverse)
    lowest = np.full(len(ids), np.iinfo(np.int64).max)
    np.minimum.at(lowest, inverse, rows["trial_id"].arrays()[0])
    counts = {
        name: np.bincount(inverse, np.isin(statuses, [STATUS_CODES[each] for each in which]), len(ids)).astype(np.int64)
        for name, which in STATUS_COUNTS.items()
    }
    frame = pd.DataFrame(
        {
            "group_id": lowest,
            "config_id": ids,
            "trials": pd.array(np.bincount(inverse, minlength=len(ids)), dtype="Int64"),
            **{name: pd.array(count, dtype="Int64") for name, count in counts.items()},
            "first_started_at": times["started_at"].min().array,
            "last_ended_at": times["ended_at"].max().array,
            **config_columns(trials, live[first], ids, originals),
        },
        copy=False,
    )
    return frame.sort_values("group_id", ignore_index=True)
