"""TrialRows: the trials of one experiment, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

import numpy as np

from ledger import events as ev
from ledger.errors import UnknownTrial
from ledger.records import Record
from ledger.registry import Event
from ledger.state import TRIAL_ASSIGNMENTS, TrialState, evolve_as_recorded, evolve_trial
from ledger.streams import subject_of, trial_stream
from projections.columns import MISSING
from projections.projection import STATE_EVENTS
from projections.rows import Rows
from projections.trial_batch import STATE_COLUMNS, TrialBatch, merge_values, value_column
from projections.trial_configs import CHANGING, Settled, ended_trials, settle

_MAY_BE_EMPTY = ("assigned_to", "label", "group")  # texts, of which none is an empty one
_cells_of = attrgetter(*STATE_COLUMNS)

#: What changes no column of a trial, and what does without asking how the trial stood. All else goes by its state.
_NOT_SHOWN: frozenset[type[Event]] = frozenset(
    {getattr(ev, name) for name in ev.VOCABULARY - STATE_EVENTS}
    | {ev.AttributesSet, ev.TagsChanged, ev.ParentsSet, ev.ArtifactLogged, ev.LateResultReceived}
)
_BY_COLUMN = _NOT_SHOWN | TRIAL_ASSIGNMENTS.keys()


class TrialRows:
    """One row for each trial, in order of creation.

    What an event changes is said by ``ledger.state``. Most events only assign to fields, and are written to the columns
    for thousands of trials at once. A trial to which something else happens is made a ``TrialState`` of its row, goes
    through what happens to it, and is written back; what is in no column (tags, attributes) is not in that state.
    """

    def __init__(self, experiment_id: UUID) -> None:
        self.experiment_id = experiment_id
        self.rows = Rows({"trial_id": "id", "config_id": "id", "is_configured": "flag", **STATE_COLUMNS})
        self.configs, self.results = Rows({}), Rows({})
        self.recorded: dict[int, TrialState] = {}  # of amended trials: as they would be had they not been
        self.updated_at = 0
        self._first = self._dense = 0  # the first trial's number; so many rows from it have numbers one above the other
        self._places: dict[int, int] = {}  # of the others: trial -> row

    # -------------------------------------------------------------------------------------------------- fold

    def settled(self, batch: TrialBatch) -> list[Settled]:
        """Return the configs of the trials that end in a batch and were given parameters while they ran, in order."""
        configured, is_configured = batch.kinds.get(ev.TrialConfigured), self.rows["is_configured"]
        if configured is None and is_configured.is_blank:  # as in most experiments
            return []
        ended = ended_trials(batch)
        created = _trials_of(batch, ev.TrialCreated) & ended
        known = np.array([trial_id for trial_id in ended - created if self._place(trial_id) is not None], np.int64)
        given_now = _trials_of(batch, ev.TrialConfigured) & ended
        before = known[is_configured.arrays()[0][self.places(known)] | np.isin(known, list(given_now))]
        configs = dict(zip(before.tolist(), rows_of(self.configs, self.places(before)), strict=True))
        configs |= {trial_id: self.recorded[trial_id].config for trial_id in configs.keys() & self.recorded.keys()}
        return settle(batch, configs.keys() | (created & given_now), configs, self.recorded.keys())

    def apply(
        self, batch: TrialBatch, config_ids: Sequence[int], settled: Sequence[tuple[Settled, int]],
        originals: dict[int, dict[str, Any]],
    ) -> None:  # fmt: skip
        """Take in what happened to trials, in order; ``config_ids`` has the number of each new one's config.

        ``settled`` has what the method of that name gave, each with its number. A config that the first trial with it does
        not have any more is put into ``originals``.
        """
        places = self._prepare(batch, config_ids, originals)
        by_state = self._by_state(batch)
        if not by_state.any():
            batch.write(self.rows, self.configs, self.results, places)
        else:
            evolved = self._evolve(batch.select(by_state).records)
            if not by_state.all():
                batch.select(~by_state).write(self.rows, self.configs, self.results, places[~by_state])
            if evolved:
                changed = self.places(np.fromiter(evolved, np.int64))
                write_states(self.rows, self.configs, self.results, changed, list(evolved.values()))
        configured = batch.kinds.get(ev.TrialConfigured)
        if configured is not None:
            self.rows["is_configured"].put(places[configured.which], [True])
        if settled:
            self.rows["config_id"].put(places[[each.record for each, _ in settled]], [[number for _, number in settled]])
            originals.update({number: each.config for each, number in settled if not each.is_kept and number not in originals})

    def _prepare(self, batch: TrialBatch, config_ids: Sequence[int], originals: dict[int, dict[str, Any]]) -> Any:
        """Add rows for the new trials of a batch, keep configs that it changes, and return the row of each of its records."""
        self.updated_at = max(self.updated_at, int(batch.times.max()))
        created = batch.kinds.get(ev.TrialCreated)
        if created is not None:
            self._add(batch.trial_ids[created.which].tolist(), config_ids)
        places = self.places(batch.trial_ids)
        self._keep_originals(batch, places, originals)
        return places

    def _by_state(self, batch: TrialBatch) -> Any:
        """Return for each record whether something happens to its trial that the columns alone cannot be told."""
        numbers = [batch.trial_ids[batch.kinds[kind].which] for kind in batch.kinds.keys() - _BY_COLUMN]
        if self.recorded:
            numbers.append(np.fromiter(self.recorded, np.int64))
        return np.isin(batch.trial_ids, np.concatenate(numbers)) if numbers else np.zeros(len(batch.records), np.bool_)

    def _evolve(self, records: Sequence[Record]) -> dict[int, TrialState]:
        """Let trials go through their records; return how they stand then. Nothing is written."""
        states: dict[int, TrialState | None] = {}
        for record in records:
            subject = subject_of(record.stream)
            assert subject is not None
            assert subject.trial_id is not None
            trial_id, event, at = subject.trial_id, record.event, record.happened_at
            if type(event) in _NOT_SHOWN:
                continue
            if trial_id not in states:
                states[trial_id] = None if isinstance(event, ev.TrialCreated) else self.state(trial_id)
            state = states[trial_id]
            try:
                after = evolve_trial(state, subject, event, at, is_checked=True)
            except Exception as error:
                error.add_note(f"At position {record.position}: {record.type} of {record.stream!r}.")
                raise
            if trial_id in self.recorded:
                self.recorded[trial_id] = evolve_as_recorded(self.recorded[trial_id], subject, event, at) or after
            elif isinstance(event, ev.TrialAmended) and state is not None:
                self.recorded[trial_id] = state
            states[trial_id] = after
        return {trial_id: state for trial_id, state in states.items() if state is not None}

    def _keep_originals(self, batch: TrialBatch, places: Any, originals: dict[int, dict[str, Any]]) -> None:
        """Keep configs that are about to be changed, as they were created."""
        new: dict[int, dict[str, Any]] | None = None
        for which in [batch.kinds[kind].which for kind in CHANGING if kind in batch.kinds]:
            config_ids = self.rows["config_id"].arrays()[0][places[which]]
            for index, config_id in zip(which.tolist(), config_ids.tolist(), strict=True):
                if config_id in originals:
                    continue
                if new is None:
                    new = _configs_of(batch)
                config = new.get(int(batch.trial_ids[index]))
                originals[config_id] = dict(config) if config is not None else row_of(self.configs, places[index : index + 1])

    # ------------------------------------------------------------------------------------------------- trials

    def find(self, trial_id: int) -> TrialState | None:
        """Return a trial's state, as far as it is in the columns; None when there is no such trial."""
        place = self._place(trial_id)
        return None if place is None else self._read(trial_id, np.array([place]))

    def _place(self, trial_id: int) -> int | None:
        place = trial_id - self._first
        return place if 0 <= place < self._dense else self._places.get(trial_id)

    def state(self, trial_id: int) -> TrialState:
        """Return a trial's state, as ``find`` does; raises UnknownTrial."""
        state = self.find(trial_id)
        if state is None:
            raise self._unknown(trial_id)
        return state

    def _unknown(self, trial_id: int) -> UnknownTrial:
        return UnknownTrial(f"there is no {trial_stream(self.experiment_id, trial_id)}; its first event is TrialCreated.")

    def config_id(self, trial_id: int) -> int:
        """Return the number of the trial's config; raises UnknownTrial."""
        return int(self.rows["config_id"].arrays()[0][self.places(np.array([trial_id]))][0])

    @property
    def is_dense(self) -> bool:
        """Say whether the numbers of the trials are one above the other, in the order of the rows."""
        return self._dense == self.rows.length

    def places(self, trial_ids: Any) -> Any:
        """Return the rows of trials, as an array; raises UnknownTrial."""
        places = trial_ids - self._first
        if len(places) and places.min() >= 0 and places.max() < self._dense:  # as of most experiments
            return places
        for index in np.flatnonzero((places < 0) | (places >= self._dense)):
            trial_id = int(trial_ids[index])
            if trial_id not in self._places:
                raise self._unknown(trial_id)
            places[index] = self._places[trial_id]
        return places

    def _add(self, trial_ids: list[int], config_ids: Sequence[int]) -> None:
        """Add rows for new trials."""
        row = self.rows.length
        if not row:
            self._first = trial_ids[0]
        if self._dense == row and trial_ids == list(range(self._first + row, self._first + row + len(trial_ids))):
            self._dense += len(trial_ids)
        else:
            for place, trial_id in enumerate(trial_ids, start=row):
                if trial_id == self._first + place and self._dense == place:
                    self._dense += 1
                else:
                    self._places[trial_id] = place
        self.rows.extend({"trial_id": trial_ids, "config_id": config_ids})
        for values in (self.configs, self.results):
            values.resize(self.rows.length)

    def _read(self, trial_id: int, place: Any) -> TrialState:
        cells = {name: self.rows[name].values(place)[0] for name in STATE_COLUMNS}
        for name in _MAY_BE_EMPTY:
            cells[name] = cells[name] or ""
        if cells["depends_on"] is MISSING:
            cells["depends_on"] = ()
        return TrialState(
            self.experiment_id, trial_id, config=row_of(self.configs, place), results=row_of(self.results, place), **cells
        )

    # ------------------------------------------------------------------------------------------------ restore

    def restore(self) -> None:
        """Find out again where the trials' rows are, after the rows have been put in from a checkpoint."""
        ids = self.rows["trial_id"].arrays()[0]
        self._first = int(ids[0]) if len(ids) else 0
        others = ids != np.arange(len(ids)) + self._first
        self._dense = int(others.argmax()) if others.any() else len(ids)
        self._places = {trial_id: place for place, trial_id in enumerate(ids[self._dense :].tolist(), start=self._dense)}


def _trials_of(batch: TrialBatch, kind: type[Event]) -> set[int]:
    """Return the trials of a batch to which events of a type happen."""
    found = batch.kinds.get(kind)
    return set() if found is None else set(batch.trial_ids[found.which].tolist())


def _configs_of(batch: TrialBatch) -> dict[int, dict[str, Any]]:
    """Return the configs of a batch's new trials."""
    created = batch.kinds.get(ev.TrialCreated)
    return {} if created is None else dict(zip(batch.trial_ids[created.which].tolist(), created.given("config"), strict=True))


def write_states(rows: Rows, configs: Rows, results: Rows, places: Any, states: Sequence[TrialState]) -> None:
    """Write states to rows of such columns as ``TrialRows`` has."""
    for name, cells in zip(STATE_COLUMNS, zip(*map(_cells_of, states), strict=True), strict=True):
        if name == "depends_on":
            rows[name].write(places, [cell or MISSING for cell in cells])
        else:
            rows[name].write(places, [cell or None for cell in cells] if name in _MAY_BE_EMPTY else cells)
    _replace_values(configs, places, [state.config for state in states])
    _replace_values(results, places, [state.results for state in states])


def _replace_values(values: Rows, places: Any, given: Sequence[Mapping[str, Any]]) -> None:
    """Write one mapping to each row: in the columns of other names there is nothing then."""
    for name in values.buffers:
        value_column(values, name).clear(places)
    merge_values(values, places, given)


def row_of(values: Rows, place: Any) -> dict[str, Any]:
    """Return the values of one row by name, given as an array of its number, without what is missing."""
    return rows_of(values, place)[0]


def rows_of(values: Rows, places: Any) -> list[dict[str, Any]]:
    """Return the values of rows by name, without what is missing."""
    found: list[dict[str, Any]] = [{} for _ in places]
    for name, buffer in values.buffers.items():
        for row, value in zip(found, buffer.values(places), strict=True):
            if value is not MISSING:
                row[name] = value
    return found
