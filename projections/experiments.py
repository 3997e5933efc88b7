"""Experiments: every experiment with its trials, folded once for the tables of experiments, trials, configs and groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd

from ledger import events as ev
from ledger.codec import decode_experiment_state, decode_trial_state, encode_state
from ledger.records import Record
from ledger.state import ExperimentState, evolve_experiment
from ledger.streams import subject_of, trial_stream
from projections.columns import own_value
from projections.config_ids import ConfigIds
from projections.config_table import config_table
from projections.experiment_table import experiment_table
from projections.group_table import group_table
from projections.projection import Projection
from projections.rows import Rows
from projections.trial_batch import TrialBatch, trial_batches
from projections.trial_configs import CHANGING, Settled
from projections.trial_rows import TrialRows, row_of
from projections.trial_table import trial_table


class Experiments(Projection):
    """The experiments of a ledger, and their trials.

    ``table`` is that of the experiments; ``trials``, ``configs`` and ``groups`` are the tables of one of them.

    Costs some 10 bytes of memory for each cell, and 16 for each config; 200 where configs are looked for by their values.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> exp.new_trial({"lr": 0.1}).complete({"loss": 0.5})
    >>> experiments = projections.build(projections.Experiments(), book.log)
    >>> experiments.trials(exp.id, now=0)[["trial_id", "status", "config.lr", "result.loss"]].values.tolist()
    [[1, 'SUCCEEDED', 0.1, 0.5]]
    """

    name = "experiments"
    schema_version = 7

    def __init__(self) -> None:
        self.states: dict[UUID, ExperimentState] = {}  # in order of creation
        self.trial_rows: dict[UUID, TrialRows] = {}
        self.config_ids = ConfigIds()
        self.originals: dict[int, dict[str, Any]] = {}  # configs of which the first trial's has been changed since

    def apply(self, record: Record) -> None:
        """Let the experiment that the record is about, or its trial, go one event further."""
        self.apply_all([record])
        self.finish()

    def apply_all(self, records: Sequence[Record]) -> None:
        """Let experiments go one event further after the other, and then their trials, all of them at once."""
        batches, others = trial_batches(records)
        try:
            self._evolve(others)
            trials = [self._trials_of(batch.records[0]) for batch in batches]
            settled = [each.settled(batch) for each, batch in zip(trials, batches, strict=True)]
            for each, batch, found, numbers in zip(trials, batches, settled, self._number(batches, settled), strict=True):
                created = len(numbers) - len(found)
                each.apply(batch, numbers[:created], list(zip(found, numbers[created:], strict=True)), self.originals)
        except Exception as error:
            error.add_note(f"Folding {self.name!r}, from position {records[0].position} to {records[-1].position}.")
            raise

    def _number(self, batches: Sequence[TrialBatch], settled: Sequence[Sequence[Settled]]) -> list[list[int]]:
        """Return the numbers of the configs of each batch's new trials, then of those ``settled``, by the order of the log."""
        created = [batch.kinds.get(ev.TrialCreated) for batch in batches]
        give = self.config_ids.count
        if any(kind in batch.kinds for batch in batches for kind in CHANGING) or any(settled):
            self.finish()  # what becomes of a config goes by its number
            give = self.config_ids.numbers
        if len(created) == 1 and not settled[0]:
            return [give(created[0].given("config") if created[0] is not None else [])]
        found = []
        for batch, new, ended in zip(batches, created, settled, strict=True):
            places = [] if new is None else list(zip(new.which.tolist(), new.given("config"), strict=True))
            places += [(each.record, each.config) for each in ended]
            found.append([(batch.records[index].position, config) for index, config in places])
        inside = sorted((position, which, index) for which, each in enumerate(found) for index, (position, _) in enumerate(each))
        in_order = give([found[which][index][1] for _, which, index in inside])
        numbers = [[0] * len(each) for each in found]
        for (_, which, index), number in zip(inside, in_order, strict=True):
            numbers[which][index] = number
        return numbers

    def finish(self) -> None:
        """Give trials of equal configs one number."""
        numbers = self.config_ids.settle()
        if numbers is not None:
            for trials in self.trial_rows.values():
                column = trials.rows["config_id"]
                column.put(slice(trials.rows.length), [numbers[column.arrays()[0]]])

    def _evolve(self, records: Sequence[Record]) -> None:
        """Take in records that are not of trials."""
        for record in records:
            subject = subject_of(record.stream)
            if subject is None:
                continue
            key, at = subject.experiment_id, record.happened_at
            self.states[key] = evolve_experiment(self.states.get(key), subject, record.event, at)
            if key not in self.trial_rows:
                self.trial_rows[key] = TrialRows(key)
            trials = self.trial_rows[key]
            trials.updated_at = max(trials.updated_at, at)

    def _trials_of(self, record: Record) -> TrialRows:
        """Return the rows of the experiment whose trial the record is about."""
        subject = subject_of(record.stream)
        assert subject is not None
        if subject.experiment_id not in self.trial_rows:  # says that there is no such experiment
            evolve_experiment(None, subject, record.event, record.happened_at)
        return self.trial_rows[subject.experiment_id]

    # -------------------------------------------------------------------------------------------------- tables

    def table(self, *, deleted: bool = False) -> pd.DataFrame:
        """Return the experiments; see ``experiment_table``."""
        return experiment_table(self, deleted=deleted)

    def trials(self, experiment_id: UUID, *, now: int, amended: bool = True, deleted: bool = False) -> pd.DataFrame:
        """Return the trials of one experiment; see ``trial_table``. ``now`` is the time at which leases are looked at."""
        return trial_table(self, self.of(experiment_id), now, amended=amended, deleted=deleted)

    def configs(self, experiment_id: UUID, *, deleted: bool = False) -> pd.DataFrame:
        """Return the configs that were tried in the experiment; see ``config_table``."""
        return config_table(self.of(experiment_id), self.config_ids, self.originals, deleted=deleted)

    def groups(self, experiment_id: UUID, *, deleted: bool = False) -> pd.DataFrame:
        """Return the groups of trials of the same config; see ``group_table``."""
        return group_table(self.of(experiment_id), self.originals, deleted=deleted)

    def of(self, experiment_id: UUID) -> TrialRows:
        """Return the trials of one experiment."""
        return self.trial_rows.get(experiment_id) or TrialRows(experiment_id)

    def config(self, config_id: int) -> dict[str, Any] | None:
        """Return the config of that number; None when there is none.

        >>> import ledger, projections
        >>> book = ledger.open("memory:")
        >>> _ = book.experiment("demo").new_trial({"lr": 0.1})
        >>> experiments = projections.build(projections.Experiments(), book.log)
        >>> experiments.config(1), experiments.config(2)
        ({'lr': 0.1}, None)
        """
        if config_id in self.originals:
            found: dict[str, Any] = own_value(self.originals[config_id])
            return found
        for identifier in self.trial_rows:
            trials = self.of(identifier)
            places = np.flatnonzero(trials.rows["config_id"].arrays()[0] == config_id)
            if len(places):
                return row_of(trials.configs, places[:1])
        return None

    def streams_of_config(self, config: int | Mapping[str, Any]) -> list[str]:
        """Return the streams of the trials of a config, given by its number or its values."""
        number = config if isinstance(config, int) else self.config_ids.find(config)
        return [
            trial_stream(identifier, trial_id)
            for identifier, trials in self.trial_rows.items()
            for trial_id in trials.rows["trial_id"].arrays()[0][trials.rows["config_id"].arrays()[0] == number].tolist()
        ]

    # --------------------------------------------------------------------------------------------- checkpoints

    def save(self) -> tuple[dict[str, Rows], dict[str, Any]]:
        rows: dict[str, Rows] = {"config_ids": self.config_ids.rows}
        recorded = {}
        for identifier, trials in self.trial_rows.items():
            name = identifier.hex
            rows |= {f"{name}.trials": trials.rows, f"{name}.configs": trials.configs, f"{name}.results": trials.results}
            recorded[name] = {trial_id: encode_state(state) for trial_id, state in trials.recorded.items()}
        return rows, {
            "experiments": [(encode_state(state), self.trial_rows[key].updated_at) for key, state in self.states.items()],
            "originals": list(self.originals.items()),
            "recorded": {name: list(states.items()) for name, states in recorded.items()},
        }

    def load(self, rows: dict[str, Rows], memory: dict[str, Any]) -> None:
        self.config_ids = ConfigIds(rows["config_ids"])
        self.originals = dict(memory["originals"])
        for encoded, updated_at in memory["experiments"]:
            state = decode_experiment_state(encoded)
            trials = self.trial_rows[state.id] = TrialRows(state.id)
            self.states[state.id], trials.updated_at = state, updated_at
            name = state.id.hex
            trials.rows, trials.configs, trials.results = (rows[f"{name}.{part}"] for part in ("trials", "configs", "results"))
            trials.recorded = {trial_id: decode_trial_state(each) for trial_id, each in memory["recorded"][name]}
            trials.restore()
