"""ExperimentTable: one row an experiment; and ExperimentNames, which finds one by name as of any position."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pandas as pd

from ledger.records import Record
from ledger.state import ExperimentState, Status, TrialState, evolve_experiment, evolve_trial
from ledger.streams import Subject, subject_of
from projections.columns import integer_column, object_column, text_column, time_column
from projections.projection import Projection

#: The columns of counts, and the statuses that each counts. Every status is in one, so that they add up to ``trials``.
STATUS_COUNTS: dict[str, tuple[Status, ...]] = {
    "pending": (Status.PENDING,),
    "running": (Status.READY, Status.RUNNING),
    "succeeded": (Status.SUCCEEDED,),
    "failed": (Status.FAILED, Status.TIMED_OUT, Status.LOST),
    "stopped": (Status.PRUNED, Status.CANCELED, Status.ABANDONED),
    "unknown": (Status.UNKNOWN,),
}


class ExperimentNames(Projection):
    """The experiments by name and by id, as of a position; reads only the records that name one.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("first")
    >>> exp.rename("second")
    >>> names = projections.build(ExperimentNames(), book.log)
    >>> names.find("second") == exp.id, names.find("first"), names.first_position("first")
    (True, None, 1)
    """

    name = "experiment_names"
    schema_version = 1
    types = frozenset({"ExperimentCreated", "ExperimentRenamed", "ExperimentDeleted", "ExperimentRestored"})

    def __init__(self) -> None:
        self._states: dict[UUID, ExperimentState] = {}
        self._first_positions: dict[str | UUID, int] = {}

    def apply(self, record: Record) -> None:
        """Take in a name."""
        subject = subject_of(record.stream)
        if subject is None:
            return
        before = self._states.get(subject.experiment_id)
        state = evolve_experiment(before, subject, record.event, record.happened_at)
        self._states[subject.experiment_id] = state
        for key in (state.name, state.id):
            self._first_positions.setdefault(key, record.position)

    def find(self, experiment: str | UUID) -> UUID | None:
        """Return the id of the live experiment that has the name now, or of any with the id; None when there is none."""
        if isinstance(experiment, str):
            named = next((state.id for state in self._live() if state.name == experiment), None)
            if named is not None:
                return named
        identifier = _as_uuid(experiment)
        return identifier if identifier in self._states else None

    def names(self) -> list[str]:
        """Return the names of all live experiments now, oldest first."""
        return [state.name for state in self._live()]

    def _live(self) -> list[ExperimentState]:
        return [state for state in self._states.values() if state.deleted_at is None]

    def first_position(self, experiment: str | UUID) -> int | None:
        """Return the position from which on there was an experiment of the name or id; None when there never was one."""
        named = self._first_positions.get(experiment)
        identifier = _as_uuid(experiment)
        return self._first_positions.get(identifier) if named is None and identifier else named

    def table(self) -> pd.DataFrame:
        """Return id and name of each live experiment, oldest first."""
        ids = text_column([str(state.id) for state in self._live()])
        return pd.DataFrame({"experiment_id": ids, "name": text_column(self.names())})


class ExperimentTable(Projection):
    """The experiments of a ledger.

    Columns, in this order: ``experiment_id`` (string), ``name`` (string), ``description`` (string), ``objectives``
    (string, by name: ``accuracy: max, latency_ms: min``), ``created_at`` and ``updated_at`` (datetime64[ns, UTC]; the
    latest time of any record of it or of its trials), ``trials`` (Int64), then how many of them are (Int64 each, adding up
    to ``trials``) ``pending``, ``running`` (READY or RUNNING), ``succeeded``, ``failed`` (FAILED, TIMED_OUT or LOST),
    ``stopped`` (PRUNED, CANCELED or ABANDONED) and ``unknown``; ``tags`` (object: a tuple of str, sorted), ``is_paused``
    and ``is_sealed`` (bool); in a table with the deleted ones also ``deleted_at`` (datetime64[ns, UTC]). Trials that were
    deleted are not counted.

    Costs a small state in memory for each trial; showing the table takes time in proportion to the experiments alone.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo", objectives={"loss": "min"})
    >>> _ = exp.new_trials([{"lr": 0.1}, {"lr": 0.2}])
    >>> exp.trial(1).complete({"loss": 0.5})
    >>> table = projections.build(projections.ExperimentTable(), book.log).table()
    >>> table[["name", "objectives", "trials", "pending", "succeeded"]].values.tolist()
    [['demo', 'loss: min', 2, 1, 1]]
    """

    name = "experiments"
    schema_version = 3

    def __init__(self) -> None:
        self._states: dict[UUID, ExperimentState] = {}
        self._updated_at: dict[UUID, int] = {}
        self._trials: dict[UUID, dict[int, TrialState]] = {}
        self._counts: dict[UUID, Counter[Status]] = {}

    def apply(self, record: Record) -> None:
        """Let the experiment that the record is about, and its trial, go one event further."""
        subject = subject_of(record.stream)
        if subject is None:
            return
        identifier, at = subject.experiment_id, record.happened_at
        self._states[identifier] = evolve_experiment(self._states.get(identifier), subject, record.event, at)
        self._updated_at[identifier] = max(at, self._updated_at.get(identifier, at))
        if subject.trial_id is not None:
            self._count(subject, record.event, at)

    def _count(self, subject: Subject, event: Any, at: int) -> None:
        trials = self._trials.setdefault(subject.experiment_id, {})
        counts = self._counts.setdefault(subject.experiment_id, Counter())
        before = trials.get(subject.trial_id or 0)
        after = evolve_trial(before, subject, event, at, is_checked=True)
        if after is before:
            return
        # Values do not decide a status: without them a state is small, whatever the config.
        trials[after.id] = msgspec.structs.replace(after, config={}, arms=[], results={}, attributes={}, error=None)
        if before is not None and before.deleted_at is None:
            counts[before.status] -= 1
        if after.deleted_at is None:
            counts[after.status] += 1

    def table(self, *, deleted: bool = False) -> pd.DataFrame:
        """Return the experiments, oldest first; with ``deleted`` those that were deleted as well."""
        states = [state for state in self._states.values() if deleted or state.deleted_at is None]
        counts = [self._counts.get(state.id, Counter()) for state in states]
        columns = {
            "experiment_id": text_column([str(state.id) for state in states]),
            "name": text_column([state.name for state in states]),
            "description": text_column([state.description for state in states]),
            "objectives": text_column([_readable(state.objectives) for state in states]),
            "created_at": time_column([state.created_at for state in states]),
            "updated_at": time_column([self._updated_at[state.id] for state in states]),
            "trials": integer_column([count.total() for count in counts]),
        }
        for name, statuses in STATUS_COUNTS.items():
            columns[name] = integer_column([sum(count[status] for status in statuses) for count in counts])
        columns["tags"] = object_column([state.tags for state in states])
        columns["is_paused"] = pd.Series([state.paused_at is not None for state in states], dtype=np.bool_)
        columns["is_sealed"] = pd.Series([state.sealed_at is not None for state in states], dtype=np.bool_)
        if deleted:
            columns["deleted_at"] = time_column([state.deleted_at for state in states])
        return pd.DataFrame(columns)


def _as_uuid(experiment: str | UUID) -> UUID | None:
    try:
        return experiment if isinstance(experiment, UUID) else UUID(experiment)
    except ValueError:
        return None


def _readable(objectives: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {direction}" for name, direction in sorted(objectives.items()))
