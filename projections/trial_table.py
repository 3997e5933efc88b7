"""The table of trials: one row a trial, as its events left it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pandas as pd

from ledger.dependencies import dependency, standing, unmet_dependencies
from ledger.state import Status, TrialState
from projections.columns import NOT_A_TIME, STATUS_CODES, as_it_is, missing_texts, text_array
from projections.rows import Rows
from projections.trial_batch import value_column
from projections.trial_rows import TrialRows, write_states

if TYPE_CHECKING:
    from projections.experiments import Experiments


def trial_table(
    experiments: Experiments, trials: TrialRows, now: int, *, amended: bool = True, deleted: bool = False
) -> pd.DataFrame:  # fmt: skip
    """Return the trials of an experiment, ordered by trial_id; no rows for one without trials.

    Columns, in this order:

    - ``trial_id`` (int64);
    - ``started_at``, ``ended_at`` (datetime64[ns, UTC], NaT when it has not happened): the time that the caller said it
      happened, else the time of recording;
    - ``config_id`` (int64): the number of its config, dense over the whole ledger from 1 in order of first appearance: of
      the one it was created with; when parameters were added while it ran, from its end on of the one with them;
    - ``group_id`` (int64): the lowest trial_id in the table that has the same config_id;
    - ``status`` (category over all of ``ledger.Status``);
    - ``worker`` (string): who holds it, or held it when it ended;
    - ``created_at`` (datetime64[ns, UTC]);
    - ``scheduled_at`` (datetime64[ns, UTC]; NaT when it may be claimed at once): before then it is not claimed;
    - ``attempts`` (Int64): the number of the last attempt granted, 0 when it was never claimed;
    - ``lease_expired`` (bool): it is held, and its lease has run out. Nobody has recorded it as LOST yet, so ``status``
      still says READY or RUNNING; the next claim will;
    - ``assigned_to`` (string; missing when any worker may claim it);
    - ``waits_for`` (string; missing when there is nothing): of a trial that waits, the trials that have to succeed before it is
      claimed, with their status: ``3 (FAILED), 5 (RUNNING)``; of another experiment by the stream;
    - ``label`` and ``group`` (string; missing when there is none);
    - ``is_amended`` (bool): something recorded of it has been corrected since;
    - ``deleted_at`` (datetime64[ns, UTC]), only in a table with the deleted trials;
    - ``config.<parameter>`` by name: the config, with parameters added while it ran;
    - ``result.<name>`` by name: the results that count.

    ``projections.value_column`` says how values become dtypes. ``now`` (ns since 1970 UTC) is when leases are looked at.
    """
    rows, configs, results = shown_rows(trials, amended=amended, deleted=deleted)
    deadline = rows["deadline"].arrays()[0]
    columns = {
        **{name: rows[name].array() for name in ("trial_id", "started_at", "ended_at", "config_id")},
        "group_id": _group_ids(rows),
        **{name: rows[name].array() for name in ("status", "worker", "created_at", "scheduled_at")},
        "attempts": rows["attempt"].array(),
        "lease_expired": (deadline != NOT_A_TIME) & (deadline < now),
        "assigned_to": rows["assigned_to"].array(),
        "waits_for": _waits_for(experiments, trials.experiment_id, rows),
        **{name: rows[name].array() for name in ("label", "group", "is_amended", *(("deleted_at",) if deleted else ()))},
        **_value_columns("config.", configs),
        **_value_columns("result.", results),
    }
    return pd.DataFrame(columns, pd.RangeIndex(rows.length), copy=False)


def shown_rows(trials: TrialRows, *, amended: bool, deleted: bool) -> tuple[Rows, Rows, Rows]:
    """Return the rows of the trials to be shown, in order of trial_id, those of their configs, and those of their results."""
    rows, configs, results = trials.rows, trials.configs, trials.results
    if not amended and trials.recorded:
        every = slice(None)
        rows, configs, results = rows.take(every), configs.take(every), results.take(every)
        places = trials.places(np.fromiter(trials.recorded, np.int64))
        write_states(rows, configs, results, places, list(trials.recorded.values()))
        rows["is_amended"].write(places, [True] * len(places))
    chosen = _chosen(rows, deleted, is_sorted=trials.is_dense)
    if chosen is not None:
        rows, configs, results = rows.take(chosen), configs.take(chosen), results.take(chosen)
    return rows, configs, results


def _chosen(rows: Rows, deleted: bool, *, is_sorted: bool) -> Any:
    """Return the rows to be shown, in order of trial_id; None when that is all of them as they are."""
    ids, deleted_at = rows["trial_id"].arrays()[0], rows["deleted_at"].arrays()[0]
    hidden = np.zeros(0, np.int64) if deleted else np.flatnonzero(deleted_at != NOT_A_TIME)
    if not len(hidden) and (is_sorted or bool((ids[1:] > ids[:-1]).all())):
        return None
    order = np.argsort(ids, kind="stable")
    return order[~np.isin(order, hidden)]


def _group_ids(rows: Rows) -> Any:
    ids, config_ids = rows["trial_id"].arrays()[0], rows["config_id"].arrays()[0]
    if bool((config_ids[1:] > config_ids[:-1]).all()):  # each config has one trial, as most random ones
        return ids.copy()
    lowest = np.zeros(config_ids.max(initial=0) + 1, np.int64)
    lowest[config_ids[::-1]] = ids[::-1]  # of several the last assignment stays: that of the lowest, as rows are in order
    return lowest[config_ids]


def _value_columns(prefix: str, values: Rows) -> dict[str, Any]:
    columns = {name: value_column(values, name) for name in sorted(values.buffers)}
    return {prefix + name: as_it_is(column.array()) for name, column in columns.items() if column.has_values()}


def _waits_for(experiments: Experiments, experiment_id: UUID, rows: Rows) -> Any:
    if not rows["depends_on"].arrays()[0].any():  # as in most experiments
        return missing_texts(rows.length)
    waiting = (rows["status"].arrays()[0] == STATUS_CODES[Status.PENDING]) & (rows["deleted_at"].arrays()[0] == NOT_A_TIME)
    places = np.flatnonzero(waiting & ~rows["depends_on"].is_missing())
    if not len(places):
        return missing_texts(rows.length)
    said = np.full(rows.length, None)

    def find(experiment_id: UUID, trial_id: int) -> TrialState | None:
        others = experiments.trial_rows.get(experiment_id)
        return None if others is None else others.find(trial_id)

    for place, depends_on in zip(places, rows["depends_on"].values(places), strict=True):
        unmet = []
        for stream in unmet_dependencies(depends_on, find):
            subject = dependency(stream)
            name = str(subject.trial_id) if subject.experiment_id == experiment_id else stream
            unmet.append(f"{name} ({standing(stream, find)})")
        said[place] = ", ".join(unmet) or None
    return text_array(said)
