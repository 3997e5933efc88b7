"""ExperimentNames: the experiments by name and by id."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pandas as pd

from ledger.codec import decode_experiment_state, encode_state
from ledger.records import Record
from ledger.state import ExperimentState, evolve_experiment
from ledger.streams import subject_of
from projections.columns import text_column
from projections.projection import Projection
from projections.rows import Rows


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

    def save(self) -> tuple[dict[str, Rows], dict[str, Any]]:
        return {}, {"states": list(map(encode_state, self._states.values())), "first": list(self._first_positions.items())}

    def load(self, rows: dict[str, Rows], memory: dict[str, Any]) -> None:
        self._states = {state.id: state for state in map(decode_experiment_state, memory["states"])}
        self._first_positions = dict(memory["first"])

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


def _as_uuid(experiment: str | UUID) -> UUID | None:
    try:
        return experiment if isinstance(experiment, UUID) else UUID(experiment)
    except ValueError:
        return None
