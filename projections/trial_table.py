"""TrialTable: one row a trial, as its events left it."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pandas as pd

from ledger.backends.base import config_digest
from ledger.dependencies import dependency, standing, unmet_dependencies
from ledger.events import TrialAmended, TrialCreated
from ledger.records import Record
from ledger.state import TrialState, evolve_as_recorded, evolve_trial
from ledger.streams import subject_of
from projections.columns import gather, integer_column, status_column, text_column, time_column
from projections.config_table import ConfigIds
from projections.projection import STATE_EVENTS, Projection


class TrialTable(Projection):
    """The trials of an experiment.

    Columns, in this order:

    - ``trial_id`` (int64);
    - ``status`` (category over all of ``ledger.Status``);
    - ``created_at``, ``started_at``, ``ended_at`` (datetime64[ns, UTC], NaT when it has not happened): the time that the
      caller said it happened, else the time of recording;
    - ``attempts`` (Int64): the number of the last attempt granted, 0 when it was never claimed;
    - ``worker`` (string): who holds it, or held it when it ended;
    - ``lease_expired`` (bool): it is held, and its lease has run out. Nobody has recorded it as LOST yet, so ``status``
      still says READY or RUNNING; the next claim will;
    - ``assigned_to`` (string; missing when any worker may claim it);
    - ``waits_for`` (string; missing when there is nothing): of a trial that waits, the trials that have to succeed before it is
      claimed, with their status: ``3 (FAILED), 5 (RUNNING)``; of another experiment by the stream;
    - ``config_id`` (Int64): the number of the config it was created with, dense over the whole ledger from 1 in order of
      first appearance. Parameters added while it ran do not change it;
    - ``label`` and ``group`` (string; missing when there is none);
    - ``is_amended`` (bool): something recorded of it has been corrected since;
    - ``deleted_at`` (datetime64[ns, UTC]), only in a table with the deleted trials;
    - ``config.<parameter>`` by name: the config, with parameters added while it ran;
    - ``result.<name>`` by name: the results that count.

    ``projections.columns`` says how values become dtypes.

    Costs one state in memory for each trial, and to show a table, time in proportion to its cells.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> exp.new_trial({"lr": 0.1}).complete({"loss": 0.5})
    >>> trials = projections.build(projections.TrialTable(), book.log).table(exp.id, now=0)
    >>> trials[["trial_id", "status", "config.lr", "result.loss"]].values.tolist()
    [[1, 'SUCCEEDED', 0.1, 0.5]]
    """

    name = "trials"
    schema_version = 3
    types = STATE_EVENTS

    def __init__(self) -> None:
        self._ids = ConfigIds()
        self._states: dict[UUID, dict[int, TrialState]] = {}
        self._config_ids: dict[UUID, dict[int, int]] = {}
        self._recorded: dict[UUID, dict[int, TrialState]] = {}  # of amended trials: as they would be had they not been

    def apply(self, record: Record) -> None:
        """Let the trial that the record is about go one event further."""
        subject = subject_of(record.stream)
        if subject is None or subject.trial_id is None:
            return
        experiment_id, trial_id = subject.experiment_id, subject.trial_id
        states = self._states.setdefault(experiment_id, {})
        before, at = states.get(trial_id), record.happened_at
        states[trial_id] = evolve_trial(before, subject, record.event, at, is_checked=True)
        recorded = self._recorded.setdefault(experiment_id, {})
        if trial_id in recorded:
            recorded[trial_id] = evolve_as_recorded(recorded[trial_id], subject, record.event, at) or recorded[trial_id]
        elif isinstance(record.event, TrialAmended) and before is not None:
            recorded[trial_id] = before
        if isinstance(record.event, TrialCreated):
            number = self._ids.number(config_digest(record.event.config))
            self._config_ids.setdefault(experiment_id, {})[trial_id] = number

    def table(self, experiment_id: UUID, *, now: int, amended: bool = True, deleted: bool = False) -> pd.DataFrame:
        """Return the trials of one experiment, ordered by trial_id; no rows for one without trials.

        ``now`` (ns since 1970 UTC) is the time at which leases are looked at.
        """
        known, config_ids = self._states.get(experiment_id, {}), self._config_ids.get(experiment_id, {})
        changed = self._recorded.get(experiment_id, {})
        ids = sorted(trial_id for trial_id, state in known.items() if deleted or state.deleted_at is None)
        states = [known[trial_id] if amended else changed.get(trial_id, known[trial_id]) for trial_id in ids]
        expired = [state.deadline is not None and state.deadline < now for state in states]
        columns = {
            "trial_id": pd.Series(np.array(ids, dtype=np.int64)),
            "status": status_column(state.status for state in states),
            "created_at": time_column([state.created_at for state in states]),
            "started_at": time_column([state.started_at for state in states]),
            "ended_at": time_column([state.ended_at for state in states]),
            "attempts": integer_column([state.attempt for state in states]),
            "worker": text_column([state.worker for state in states]),
            "lease_expired": pd.Series(np.array(expired, dtype=np.bool_)),
            "assigned_to": text_column([state.assigned_to or None for state in states]),
            "waits_for": text_column([self._waits_for(state) for state in states]),
            "config_id": integer_column([config_ids[trial_id] for trial_id in ids]),
            "label": text_column([state.label or None for state in states]),
            "group": text_column([state.group or None for state in states]),
            "is_amended": pd.Series(np.array([trial_id in changed for trial_id in ids], dtype=np.bool_)),
            **({"deleted_at": time_column([state.deleted_at for state in states])} if deleted else {}),
            **gather([state.config for state in states], "config."),
            **gather([state.results for state in states], "result."),
        }
        return pd.DataFrame(columns)

    def _waits_for(self, state: TrialState) -> str | None:
        if not state.is_waiting or not state.depends_on:
            return None
        said = []
        for stream in unmet_dependencies(state.depends_on, self._find):
            subject = dependency(stream)
            name = str(subject.trial_id) if subject.experiment_id == state.experiment_id else stream
            said.append(f"{name} ({standing(stream, self._find)})")
        return ", ".join(said) or None

    def _find(self, experiment_id: UUID, trial_id: int) -> TrialState | None:
        return self._states.get(experiment_id, {}).get(trial_id)
