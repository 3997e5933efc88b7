"""Optuna: its journal of JSON lines, as a log of events and as a store of trials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

from benchmarks.payload import TYPE, Sample
from benchmarks.rivals.contract import EventStore, TrialStore, config_of, results_of

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Store(EventStore):
    """The backend by itself: dicts in, dicts out."""

    def __init__(self, directory: Path) -> None:
        self._backend = JournalFileBackend(str(directory / "journal.log"))
        self.address = str(directory)

    def append(self, samples: Sequence[Sample]) -> int:
        self._backend.append_logs(
            [{"op": TYPE, "stream": each.stream, "version": each.version, **each.fields} for each in samples]
        )
        return 0

    def read(self, variant: str = "") -> int:
        return sum(1 for _ in self._backend.read_logs(0))

    def close(self) -> None:
        """Hold nothing open: the backend opens its file anew each time."""


class Lives(TrialStore):
    """A study's trials through the journal storage; the five telemetry points are five intermediate values."""

    def __init__(self, directory: Path, variant: str = "") -> None:
        self._storage = JournalStorage(JournalFileBackend(str(directory / "journal.log")))
        directions = [StudyDirection.MINIMIZE] * len(results_of(0))
        self._study = self._storage.create_new_study(directions, "lives")
        self._range = IntDistribution(0, 2**40)

    def live(self, number: int) -> None:
        config = config_of(number)
        waiting = optuna.trial.create_trial(
            state=TrialState.WAITING, params=config, distributions=dict.fromkeys(config, self._range)
        )
        trial: Any = self._storage.create_new_trial(self._study, template_trial=waiting)
        self._storage.set_trial_state_values(trial, TrialState.RUNNING)
        for step in range(5):
            self._storage.set_trial_intermediate_value(trial, step, 1.5 * step)
        self._storage.set_trial_state_values(trial, TrialState.COMPLETE, list(results_of(number).values()))

    def close(self) -> None:
        """Hold nothing open."""
