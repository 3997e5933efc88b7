"""The table of experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ledger.state import Status
from projections.columns import STATUS_CODES, integer_column, object_column, text_column, time_column
from projections.config_table import is_live

if TYPE_CHECKING:
    from projections.experiments import Experiments

#: The columns of counts, and the statuses that each counts. Every status is in one, so that they add up to ``trials``.
STATUS_COUNTS: dict[str, tuple[Status, ...]] = {
    "pending": (Status.PENDING,),
    "running": (Status.READY, Status.RUNNING),
    "succeeded": (Status.SUCCEEDED,),
    "failed": (Status.FAILED, Status.TIMED_OUT, Status.LOST),
    "stopped": (Status.PRUNED, Status.CANCELED, Status.ABANDONED),
    "unknown": (Status.UNKNOWN,),
}


def experiment_table(experiments: Experiments, *, deleted: bool = False) -> pd.DataFrame:
    """Return the experiments of a ledger, oldest first; with ``deleted`` those that were deleted as well.

    Columns, in this order: ``experiment_id`` (string), ``name`` (string), ``description`` (string), ``objectives``
    (string, by name: ``accuracy: max, latency_ms: min``), ``created_at`` and ``updated_at`` (datetime64[ns, UTC]; the
    latest time of any record of it or of its trials), ``trials`` (Int64), then how many of them are (Int64 each, adding up to
    ``trials``) ``pending``, ``running`` (READY or RUNNING), ``succeeded``,
    ``failed`` (FAILED, TIMED_OUT or LOST), ``stopped`` (PRUNED, CANCELED or ABANDONED) and ``unknown``; ``tags`` (object: a
    tuple of str, sorted), ``is_paused`` and ``is_sealed`` (bool); in a table with the deleted ones also ``deleted_at``
    (datetime64[ns, UTC]). Trials that were deleted are not counted.
    """
    states = [state for state in experiments.states.values() if deleted or state.deleted_at is None]
    counts = [_counts(experiments, state.id) for state in states]
    columns = {
        "experiment_id": text_column([str(state.id) for state in states]),
        "name": text_column([state.name for state in states]),
        "description": text_column([state.description for state in states]),
        "objectives": text_column([_readable(state.objectives) for state in states]),
        "created_at": time_column([state.created_at for state in states]),
        "updated_at": time_column([experiments.trial_rows[state.id].updated_at for state in states]),
        "trials": integer_column([int(count.sum()) for count in counts]),
    }
    for name, statuses in STATUS_COUNTS.items():
        codes = [STATUS_CODES[status] for status in statuses]
        columns[name] = integer_column([int(count[codes].sum()) for count in counts])
    columns["tags"] = object_column([state.tags for state in states])
    columns["is_paused"] = pd.Series([state.paused_at is not None for state in states], dtype=np.bool_)
    columns["is_sealed"] = pd.Series([state.sealed_at is not None for state in states], dtype=np.bool_)
    if deleted:
        columns["deleted_at"] = time_column([state.deleted_at for state in states])
    return pd.DataFrame(columns)


def _counts(experiments: Experiments, experiment_id: Any) -> Any:
    trials = experiments.of(experiment_id)
    return np.bincount(trials.rows["status"].arrays()[0][is_live(trials)], minlength=len(STATUS_CODES))


def _readable(objectives: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {direction}" for name, direction in sorted(objectives.items()))
