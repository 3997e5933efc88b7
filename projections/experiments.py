"""Experiments: every experiment with its trials, folded once for the tables of experiments, trials, configs and groups."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd

from ledger import events as ev
from ledger.backends.base import config_digest
from ledger.codec import decode_experiment_state, decode_trial_state, encode_state
from ledger.records import Record
from ledger.state import ExperimentState, evolve_experiment
from ledger.streams import subject_of
from projections.config_table import ConfigIds, config_table
from projections.experiment_table import experiment_table
from projections.group_table import group_table
from projections.projection import STATE_EVENTS, Projection
from projections.rows import Rows
from projections.trial_rows import TrialRows, row_of
from projections.trial_table import trial_table

_HISTORY_ONLY = frozenset(getattr(ev, name) for name in ev.VOCABULARY - STATE_EVENTS)
_CHANGING_CONFIGS = frozenset({ev.TrialConfigured, ev.TrialAmended})


class Experiments(Projection):
    """The experiments of a ledger, and their trials.

    ``table`` is that of the experiments; ``trials``, ``configs`` and ``groups`` are the tables of one of them.

    Costs some 10 bytes of memory for each cell, and 200 for each config.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> exp.new_trial({"lr": 0.1}).complete({"loss": 0.5})
    >>> experiments = projections.build(projections.Experiments(), book.log)
    >>> experiments.trials(exp.id, now=0)[["trial_id", "status", "config.lr", "result.loss"]].values.tolist()
    [[1, 'SUCCEEDED', 0.1, 0.5]]
    """

    name = "experiments"
    schema_version = 5

    def __init__(self) -> None:
        self.states: dict[UUID, ExperimentState] = {}  # in order of creation
        self.trial_rows: dict[UUID, TrialRows] = {}
        self.config_ids = ConfigIds()
        self.originals: dict[int, dict[str, Any]] = {}  # configs of which the first trial's has been changed since

    def apply(self, record: Record) -> None:
        """Let the experiment that the record is about, or its trial, go one event further."""
        subject = subject_of(record.stream)
        if subject is None:
            return
        identifier, event = subject.experiment_id, record.event
        at = record.recorded_at if record.context is None else record.happened_at
        trials = self.trial_rows.get(identifier)
        if subject.trial_id is None or trials is None:
            self.states[identifier] = evolve_experiment(self.states.get(identifier), subject, event, at)
            if trials is None:
                trials = self.trial_rows[identifier] = TrialRows(identifier)
        trials.updated_at = max(trials.updated_at, at)
        kind = type(event)
        if subject.trial_id is None or kind in _HISTORY_ONLY:
            return
        if kind is ev.TrialCreated:
            trials.create(subject, event, at, self.config_ids.number(config_digest(event.config)))
            return
        if kind in _CHANGING_CONFIGS:
            config = trials.state(subject.trial_id).config
            self.originals.setdefault(trials.config_id(subject.trial_id), config)
        trials.apply(subject, event, at)

    # -------------------------------------------------------------------------------------------------- tables

    def table(self, *, deleted: bool = False) -> pd.DataFrame:
        """Return the experiments; see ``experiment_table``."""
        return experiment_table(self, deleted=deleted)

    def trials(self, experiment_id: UUID, *, now: int, amended: bool = True, deleted: bool = False) -> pd.DataFrame:
        """Return the trials of one experiment; see ``trial_table``. ``now`` is the time at which leases are looked at."""
        return trial_table(self, self.of(experiment_id), now, amended=amended, deleted=deleted)

    def configs(self, experiment_id: UUID) -> pd.DataFrame:
        """Return the configs that trials of the experiment were created with; see ``config_table``."""
        return config_table(self.of(experiment_id), self.config_ids, self.originals)

    def groups(self, experiment_id: UUID) -> pd.DataFrame:
        """Return the groups of trials that were created with the same config; see ``group_table``."""
        return group_table(self.of(experiment_id), self.originals)

    def of(self, experiment_id: UUID) -> TrialRows:
        """Return the trials of one experiment, all of them in their rows."""
        trials = self.trial_rows.get(experiment_id) or TrialRows(experiment_id)
        trials.flush()
        return trials

    def config(self, config_id: int) -> dict[str, Any] | None:
        """Return the config of that number as trials of any experiment were created with it; None when there is none.

        >>> import ledger, projections
        >>> book = ledger.open("memory:")
        >>> _ = book.experiment("demo").new_trial({"lr": 0.1})
        >>> experiments = projections.build(projections.Experiments(), book.log)
        >>> experiments.config(1), experiments.config(2)
        ({'lr': 0.1}, None)
        """
        if config_id in self.originals:
            return dict(self.originals[config_id])
        for identifier in self.trial_rows:
            trials = self.of(identifier)
            places = np.flatnonzero(trials.rows["config_id"].arrays()[0] == config_id)
            if len(places):
                return row_of(trials.configs, places[:1])
        return None

    # --------------------------------------------------------------------------------------------- checkpoints

    def save(self) -> tuple[dict[str, Rows], dict[str, Any]]:
        rows: dict[str, Rows] = {}
        recorded = {}
        for identifier, trials in self.trial_rows.items():
            trials.flush()
            name = identifier.hex
            rows |= {f"{name}.trials": trials.rows, f"{name}.configs": trials.configs, f"{name}.results": trials.results}
            recorded[name] = {trial_id: encode_state(state) for trial_id, state in trials.recorded.items()}
        return rows, {
            "experiments": [(encode_state(state), self.trial_rows[key].updated_at) for key, state in self.states.items()],
            "digests": self.config_ids.digests(),
            "originals": list(self.originals.items()),
            "recorded": {name: list(states.items()) for name, states in recorded.items()},
        }

    def load(self, rows: dict[str, Rows], memory: dict[str, Any]) -> None:
        self.config_ids = ConfigIds(memory["digests"])
        self.originals = dict(memory["originals"])
        for encoded, updated_at in memory["experiments"]:
            state = decode_experiment_state(encoded)
            trials = self.trial_rows[state.id] = TrialRows(state.id)
            self.states[state.id], trials.updated_at = state, updated_at
            name = state.id.hex
            trials.rows, trials.configs, trials.results = (rows[f"{name}.{part}"] for part in ("trials", "configs", "results"))
            trials.recorded = {trial_id: decode_trial_state(each) for trial_id, each in memory["recorded"][name]}
            trials.restore()
