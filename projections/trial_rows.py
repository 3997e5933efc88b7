"""TrialRows: the trials of one experiment, as columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

import numpy as np

from ledger import events as ev
from ledger.registry import Event
from ledger.state import TrialState, evolve_as_recorded, evolve_trial
from ledger.status import HELD
from ledger.streams import Subject
from projections.buffers import ValueBuffer
from projections.columns import MISSING
from projections.rows import Rows

#: The columns of a trial's state that are shown, with their kinds; ``configs`` and ``results`` lie beside them.
STATE_COLUMNS = {
    "status": "status", "created_at": "time", "scheduled_at": "time", "started_at": "time", "ended_at": "time",
    "attempt": "integer", "worker": "text", "deadline": "time", "assigned_to": "text", "label": "text", "group": "text",
    "is_amended": "flag", "deleted_at": "time",
}  # fmt: skip
_cells_of = attrgetter(*STATE_COLUMNS)
_MAY_BE_EMPTY = ("assigned_to", "label", "group")  # texts, of which none is an empty one
_NOT_SHOWN = (ev.AttributesSet, ev.TagsChanged, ev.ParentsSet, ev.ArtifactLogged, ev.LateResultReceived)
_MOST_STATES = 8192


class TrialRows:
    """One row for each trial, in order of creation.

    What an event changes is said by ``ledger.state``: a trial that something happens to is a ``TrialState`` for a while,
    and is written to its row when there are many of those, or when the rows are asked for. A state is made again of its
    row when more happens; what is in no column (tags, attributes) is not in it.
    """

    def __init__(self, experiment_id: UUID) -> None:
        self.experiment_id = experiment_id
        self.rows = Rows({"trial_id": "id", "config_id": "id", **STATE_COLUMNS, "depends_on": "value"})
        self.configs, self.results = Rows({}), Rows({})
        self.recorded: dict[int, TrialState] = {}  # of amended trials: as they would be had they not been
        self._states: dict[int, TrialState] = {}
        self._changed: dict[int, None] = {}
        self._new: list[tuple[int, int]] = []  # trials without a row yet, and their configs
        self._first = self._dense = 0  # the first trial's number; so many rows from it have numbers one above the other
        self.updated_at = 0
        self._places: dict[int, int] = {}  # of the others: trial -> row

    # -------------------------------------------------------------------------------------------------- fold

    def create(self, subject: Subject, event: Event, at: int, config_id: int) -> None:
        """Take in a new trial."""
        trial_id = subject.trial_id or 0
        self._states[trial_id] = evolve_trial(self.find(trial_id), subject, event, at, is_checked=True)
        self._changed[trial_id] = None
        self._new.append((trial_id, config_id))
        if len(self._new) >= _MOST_STATES:
            self.flush()

    def apply(self, subject: Subject, event: Event, at: int) -> None:
        """Let a trial go one event further."""
        trial_id = subject.trial_id or 0
        state = self._states.get(trial_id)
        if state is None:
            if isinstance(event, _NOT_SHOWN):
                return
            state = self.find(trial_id)
        after = evolve_trial(state, subject, event, at, is_checked=True)
        if trial_id in self.recorded:
            self.recorded[trial_id] = evolve_as_recorded(self.recorded[trial_id], subject, event, at) or after
        elif isinstance(event, ev.TrialAmended) and state is not None:
            self.recorded[trial_id] = state
        if after is not state:
            self._states[trial_id] = after
            self._changed[trial_id] = None
            if len(self._changed) >= _MOST_STATES:
                self.flush()

    def state(self, trial_id: int) -> TrialState:
        """Return a trial's state, as far as it is in the columns."""
        state = self._states.get(trial_id)
        if state is None:
            state = self._states[trial_id] = self._read(trial_id)
        return state

    def find(self, trial_id: int) -> TrialState | None:
        """Return a trial's state, as ``state`` does; None when there is no such trial."""
        return None if self._is_new(trial_id) else self.state(trial_id)

    def config_id(self, trial_id: int) -> int:
        """Return the number of the config that the trial was created with."""
        place = self._place(trial_id)
        return dict(self._new)[trial_id] if place is None else int(self.rows["config_id"].arrays()[0][place])

    # -------------------------------------------------------------------------------------------------- write

    def flush(self) -> None:
        """Write the states to their rows, and forget them."""
        if self._new:
            ids, config_ids = zip(*self._new, strict=True)
            self._add_places(ids)
            self.rows.extend({"trial_id": ids, "config_id": config_ids})
            for values in (self.configs, self.results):
                values.resize(self.rows.length)
            self._new = []
        if self._changed:
            places = self.places(self._changed)
            write_states(self.rows, self.configs, self.results, places, [self._states[each] for each in self._changed])
            self._changed = {}
        if len(self._states) >= _MOST_STATES:  # of those that go on, most soon do
            held = {trial_id: state for trial_id, state in self._states.items() if state.status in HELD}
            self._states = held if len(held) < _MOST_STATES else {}

    def places(self, trial_ids: Iterable[int]) -> Any:
        """Return the rows of trials, as an array."""
        ids = np.fromiter(trial_ids, np.int64)
        places = ids - self._first
        for index in np.flatnonzero((places < 0) | (places >= self._dense)):
            places[index] = self._places[int(ids[index])]
        return places

    def _add_places(self, ids: Sequence[int]) -> None:
        row = self.rows.length
        if not row:
            self._first = ids[0]
        if self._dense == row and ids == tuple(range(self._first + row, self._first + row + len(ids))):
            self._dense += len(ids)
            return
        for place, trial_id in enumerate(ids, start=row):
            if trial_id == self._first + place and self._dense == place:
                self._dense += 1
            else:
                self._places[trial_id] = place

    def _place(self, trial_id: int) -> int | None:
        place = trial_id - self._first
        return place if 0 <= place < self._dense else self._places.get(trial_id)

    def _is_new(self, trial_id: int) -> bool:
        return trial_id not in self._states and self._place(trial_id) is None

    def _read(self, trial_id: int) -> TrialState:
        place = np.array([self._place(trial_id)])
        cells = {name: self.rows[name].values(place)[0] for name in STATE_COLUMNS}
        for name in _MAY_BE_EMPTY:
            cells[name] = cells[name] or ""
        (depends_on,) = self.rows["depends_on"].values(place)
        return TrialState(
            self.experiment_id, trial_id, config=row_of(self.configs, place), results=row_of(self.results, place),
            depends_on=() if depends_on is MISSING else depends_on, **cells,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------ restore

    def restore(self) -> None:
        """Find out again where the trials' rows are, after the rows have been put in from a checkpoint."""
        ids = self.rows["trial_id"].arrays()[0]
        self._first = int(ids[0]) if len(ids) else 0
        others = ids != np.arange(len(ids)) + self._first
        self._dense = int(others.argmax()) if others.any() else len(ids)
        self._places = {trial_id: place for place, trial_id in enumerate(ids[self._dense :].tolist(), start=self._dense)}


def write_states(rows: Rows, configs: Rows, results: Rows, places: Any, states: Sequence[TrialState]) -> None:
    """Write states to rows of such columns as ``TrialRows`` has."""
    for name, cells in zip(STATE_COLUMNS, zip(*map(_cells_of, states), strict=True), strict=True):
        rows[name].write(places, [cell or None for cell in cells] if name in _MAY_BE_EMPTY else cells)
    rows["depends_on"].write(places, [state.depends_on or MISSING for state in states])
    _write_values(configs, places, [state.config for state in states])
    _write_values(results, places, [state.results for state in states])


def _write_values(values: Rows, places: Any, given: Sequence[Mapping[str, Any]]) -> None:
    """Write one mapping to each row: in the columns of other names there is nothing then."""
    names = given[0].keys()
    if all(each.keys() == names for each in given):
        for name in names:
            _column(values, name).write(places, [each[name] for each in given])
    else:
        cells: dict[str, tuple[list[int], list[Any]]] = {}
        for index, each in enumerate(given):
            for name, value in each.items():
                where, found = cells.setdefault(name, ([], []))
                where.append(index)
                found.append(value)
        names = cells.keys()
        for name, (where, found) in cells.items():
            column = _column(values, name)
            if len(where) < len(given):
                column.clear(places)
            column.write(places[where], found)
    if len(values.buffers) > len(names):
        for name, buffer in values.buffers.items():
            if name not in names:
                _as_values(buffer).clear(places)


def _column(values: Rows, name: str) -> ValueBuffer:
    return _as_values(values.buffers.get(name) or values.add_column(name, "value"))


def _as_values(buffer: Any) -> ValueBuffer:
    assert isinstance(buffer, ValueBuffer)  # configs and results have no other columns
    return buffer


def row_of(values: Rows, place: Any) -> dict[str, Any]:
    """Return the values of one row by name, given as an array of its number, without what is missing."""
    found = {name: buffer.values(place)[0] for name, buffer in values.buffers.items()}
    return {name: value for name, value in found.items() if value is not MISSING}
