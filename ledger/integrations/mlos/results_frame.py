"""The data frame of an experiment's trials with configs and results, as mlos_bench shows it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from ledger.integrations.mlos.status import TO_MLOS
from ledger.integrations.mlos.values import text_of
from ledger.state import Status
from projections.columns import MISSING, NOT_A_TIME
from projections.rows import Rows
from projections.trial_rows import TrialRows

_STATUSES = np.array([TO_MLOS[status] for status in Status], object)


def live_places(trials: TrialRows, config_id: int | None = None) -> Any:
    """Return the rows of the trials that are not deleted, by trial_id; of one config if it is given."""
    rows = trials.rows
    chosen = rows["deleted_at"].arrays()[0] == NOT_A_TIME
    if config_id is not None:
        chosen &= rows["config_id"].arrays()[0] == config_id
    places = np.flatnonzero(chosen)
    return places[np.argsort(rows["trial_id"].arrays()[0][places], kind="stable")]


def start_times(rows: Rows, places: Any) -> Any:
    """Return when trials began; of those that have not, when they are to, or were created (ns since 1970 UTC)."""
    started, scheduled, created = (rows[name].arrays()[0][places] for name in ("started_at", "scheduled_at", "created_at"))
    return np.where(started != NOT_A_TIME, started, np.where(scheduled != NOT_A_TIME, scheduled, created))


def group_ids(rows: Rows, places: Any) -> Any:
    """Return for each trial the lowest number of those with its config."""
    ids, config_ids = rows["trial_id"].arrays()[0][places], rows["config_id"].arrays()[0][places]
    _, first, inverse = np.unique(config_ids, return_index=True, return_inverse=True)  # the first is the lowest
    return ids[first][inverse]


def results_frame(trials: TrialRows, places: Any, runners: Sequence[int | None] | None) -> pd.DataFrame:
    """Return a row for each trial.

    Columns: ``trial_id``, ``ts_start``, ``ts_end``, ``tunable_config_id``, ``tunable_config_trial_group_id``, ``status``,
    ``trial_runner_id`` where mlos_bench has it (``runners``), then ``config.<parameter>`` and ``result.<metric>`` by name.
    dtypes are those that mlos_bench gets by parsing texts.
    """
    rows = trials.rows
    fixed: dict[str, Any] = {
        "trial_id": rows["trial_id"].arrays()[0][places],
        "ts_start": _times(start_times(rows, places)),
        "ts_end": _times(rows["ended_at"].arrays()[0][places]),
        "tunable_config_id": rows["config_id"].arrays()[0][places],
        "tunable_config_trial_group_id": group_ids(rows, places),
        "status": pd.Series(_STATUSES[rows["status"].arrays()[0][places]].tolist()),
    }
    if runners is not None:
        fixed["trial_runner_id"] = pd.Series(list(runners))
    return pd.DataFrame({**fixed, **_columns("config.", trials.configs, places), **_columns("result.", trials.results, places)})


def _times(nanoseconds: Any) -> Any:
    """Return times as pandas has those of mlos_bench, which it makes of Python's; None for all when there are none."""
    if not len(nanoseconds) or (nanoseconds == NOT_A_TIME).all():
        return pd.Series([None] * len(nanoseconds), dtype=object)
    dtype = pd.Series([datetime(2026, 1, 1, tzinfo=UTC)]).dtype
    return pd.Series(pd.DatetimeIndex(nanoseconds.view("datetime64[ns]")).tz_localize("UTC")).astype(dtype)


def _columns(prefix: str, values: Rows, places: Any) -> dict[str, Any]:
    columns = {}
    for name, buffer in sorted(values.buffers.items()):
        taken = buffer.take(places)
        if not taken.is_missing().all():
            columns[prefix + name] = _column(taken)
    return columns


def _column(buffer: Any) -> Any:
    """Return the values of a column as numbers where they are some, or their texts are; else as texts."""
    array = buffer.array()
    if isinstance(array, pd.arrays.IntegerArray):
        return array.to_numpy(float, na_value=np.nan) if array.isna().any() else array.to_numpy(np.int64)
    if isinstance(array, np.ndarray) and array.dtype == np.float64:
        return array
    cells = buffer.values(np.arange(buffer.length))
    texts = pd.DataFrame({"value": [None if cell is MISSING else text_of(cell) for cell in cells]}, dtype=pd.Series([""]).dtype)
    return texts.apply(pd.to_numeric, errors="coerce").fillna(texts)["value"]
