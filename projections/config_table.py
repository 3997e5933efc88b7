"""The table of configs: those that were tried, each once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from projections.columns import MISSING, as_it_is, text_array
from projections.config_ids import ConfigIds
from projections.trial_rows import TrialRows


def config_table(
    trials: TrialRows, config_ids: ConfigIds, originals: Mapping[int, Mapping[str, Any]], *, deleted: bool = False
) -> pd.DataFrame:
    """Return the configs that were tried, ordered by config_id; no rows for an experiment without trials.

    A trial's config is what ``new_trial`` was given; when parameters were added while it ran (``configure``), it is from its
    end on the one with them. What amendments make of it is in the trial table only.

    Columns: ``config_id`` (int64, as in the trial table), ``digest`` (string, 32 hex digits), ``trials`` (Int64, those
    of the experiment whose config it is; with ``deleted`` the deleted ones as well), ``first_trial_id`` (int64, the first of
    them to be created), then ``config.<parameter>`` by name.
    """
    live = shown_places(trials, deleted=deleted)
    ids = trials.rows["config_id"].arrays()[0][live]
    if (ids[1:] > ids[:-1]).all():  # each config has one trial, as most random ones
        rows, counts = live, np.ones(len(ids), np.int64)
    else:
        ids, first, counts = np.unique(ids, return_index=True, return_counts=True)
        rows = live[first]
    return pd.DataFrame(
        {
            "config_id": ids,
            "digest": text_array(config_ids.hexadecimal(ids)),
            "trials": pd.array(counts, dtype="Int64"),
            "first_trial_id": trials.rows["trial_id"].arrays()[0][rows],
            **config_columns(trials, rows, ids, originals),
        },
        copy=False,
    )


def is_live(trials: TrialRows) -> Any:
    """Return for each row whether its trial has not been deleted, as an array."""
    deleted_at = trials.rows["deleted_at"].arrays()[0]
    return deleted_at == np.iinfo(np.int64).min


def shown_places(trials: TrialRows, *, deleted: bool) -> Any:
    """Return the numbers of the rows whose trials are shown, as an array."""
    return np.arange(trials.rows.length) if deleted else np.flatnonzero(is_live(trials))


def config_columns(trials: TrialRows, rows: Any, ids: Any, originals: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the columns of the configs with those numbers, which those rows have."""
    changed = [index for index, each in enumerate(ids.tolist()) if each in originals] if originals else []
    columns: dict[str, Any] = {}
    is_every = len(rows) == trials.rows.length and not changed and bool((rows[1:] > rows[:-1]).all())
    for name, buffer in sorted(trials.configs.buffers.items()):
        chosen = buffer if is_every else buffer.take(rows)
        if changed:
            chosen.write(np.array(changed), [originals[int(ids[index])].get(name, MISSING) for index in changed])
        if not chosen.is_missing().all():
            columns[f"config.{name}"] = as_it_is(chosen.array())
    return columns
