"""ConfigTable: the configs that were tried, each once."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd

from ledger.backends.base import config_digest
from ledger.events import TrialCreated, TrialDeleted
from ledger.records import Record
from ledger.streams import subject_of
from projections.columns import gather, integer_column, text_column
from projections.projection import Projection


class ConfigIds:
    """Number configs from 1 in order of first appearance in the ledger.

    Equal configs, with values of equal types, have one number in all experiments of the ledger; 1 and 1.0 differ.

    >>> ids = ConfigIds()
    >>> ids.number(config_digest({"lr": 1})), ids.number(config_digest({"lr": 1.0})), ids.number(config_digest({"lr": 1}))
    (1, 2, 1)
    """

    def __init__(self) -> None:
        self._ids: dict[bytes, int] = {}

    def number(self, digest: bytes) -> int:
        """Return the number of the config of that digest, a new one when it was not seen before."""
        return self._ids.setdefault(digest, len(self._ids) + 1)


class ConfigTable(Projection):
    """The configs that trials were created with.

    A config is what ``new_trial`` was given. Parameters that a trial adds while it runs are its own: they are in its row
    of the trial table, and do not make another config here.

    Columns: ``config_id`` (int64, as in the trial table), ``digest`` (string, 32 hex digits), ``trials`` (Int64, those
    of the experiment that were created with it, without the deleted ones), ``first_trial_id`` (int64, the first of them to
    be created), then ``config.<parameter>`` by name.

    Costs one digest a trial; keeps each config once.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> _ = exp.new_trials([{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.1}])
    >>> table = projections.build(projections.ConfigTable(), book.log).table(exp.id)
    >>> table[["config_id", "trials", "first_trial_id", "config.lr"]].values.tolist()
    [[1, 2, 1, 0.1], [2, 1, 2, 0.2]]
    """

    name = "configs"
    schema_version = 2
    types = frozenset({"TrialCreated", "TrialDeleted", "TrialRestored"})

    def __init__(self) -> None:
        self._ids = ConfigIds()
        self._digests: list[str] = []  # item i is that of config i + 1
        self._configs: list[dict[str, Any]] = []
        self._trials: dict[UUID, dict[int, int]] = {}  # experiment -> trial -> its config, in order of creation
        self._deleted: dict[UUID, set[int]] = {}  # experiment -> trials

    def apply(self, record: Record) -> None:
        """Count one trial's config."""
        subject = subject_of(record.stream)
        if subject is None or subject.trial_id is None:
            return
        if not isinstance(record.event, TrialCreated):
            deleted = self._deleted.setdefault(subject.experiment_id, set())
            (deleted.add if isinstance(record.event, TrialDeleted) else deleted.discard)(subject.trial_id)
            return
        digest = config_digest(record.event.config)
        config_id = self._ids.number(digest)
        if config_id > len(self._configs):
            self._configs.append(record.event.config)
            self._digests.append(digest.hex())
        self._trials.setdefault(subject.experiment_id, {})[subject.trial_id] = config_id

    def table(self, experiment_id: UUID) -> pd.DataFrame:
        """Return the configs of one experiment, ordered by config_id; no rows for one without trials."""
        deleted = self._deleted.get(experiment_id, set())
        trials: dict[int, list[int]] = {}
        for trial_id, config_id in self._trials.get(experiment_id, {}).items():
            if trial_id not in deleted:
                trials.setdefault(config_id, []).append(trial_id)
        ids = sorted(trials)
        columns = {
            "config_id": pd.Series(np.array(ids, dtype=np.int64)),
            "digest": text_column([self._digests[i - 1] for i in ids]),
            "trials": integer_column([len(trials[i]) for i in ids]),
            "first_trial_id": pd.Series(np.array([trials[i][0] for i in ids], dtype=np.int64)),
            **gather([self._configs[i - 1] for i in ids], "config."),
        }
        return pd.DataFrame(columns)
