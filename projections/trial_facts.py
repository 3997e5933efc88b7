"""TrialFacts: what is said of trials beside their values: attributes, tags, artifacts; and which values are None or NaN."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd

from ledger import events as ev
from ledger.records import Record
from ledger.streams import subject_of
from projections.columns import object_column
from projections.projection import Projection

_RESULTS = (
    ev.TrialCompleted, ev.TrialFailed, ev.TrialPruned, ev.TrialTimedOut, ev.StatusForced, ev.ResultsReported, ev.TrialAmended,
)  # fmt: skip


class TrialFacts(Projection):
    """What the Reader shows of trials that ``TrialTable`` does not, for those trials that there is something to say of.

    Columns: ``trial_id`` (int64), ``attributes`` (object: a dict of namespaces), ``tags`` (object: a tuple), ``artifacts``
    (object: a dict from names to records of ArtifactLogged, the latest that counts of each name), ``hidden`` (object: a dict
    from columns of the trial table to the values there that are None or NaN, which the column shows like missing ones).

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> exp.new_trial({"warmup": None}).tag("baseline")
    >>> projections.build(TrialFacts(), book.log).table(exp.id)[["trial_id", "tags", "hidden"]].values.tolist()
    [[1, ('baseline',), {'config.warmup': None}]]
    """

    name = "trial_facts"
    schema_version = 1
    types = frozenset(
        kind.__name__
        for kind in (
            ev.TrialCreated, ev.TrialConfigured, ev.TrialReleased, ev.TrialRequeued, ev.AttributesSet, ev.TagsChanged,
            ev.ArtifactLogged, *_RESULTS,
        )
    )  # fmt: skip

    def __init__(self) -> None:
        self._attributes: dict[UUID, dict[int, dict[str, dict[str, Any]]]] = {}
        self._tags: dict[UUID, dict[int, frozenset[str]]] = {}
        self._artifacts: dict[UUID, dict[int, dict[str, Record]]] = {}
        self._hidden: dict[UUID, dict[int, dict[str, Any]]] = {}

    def apply(self, record: Record) -> None:
        """Take in what is said of a trial."""
        subject = subject_of(record.stream)
        if subject is None or subject.trial_id is None:
            return
        experiment, trial, event = subject.experiment_id, subject.trial_id, record.event
        if isinstance(event, ev.TrialCreated):
            self._hide(experiment, trial, "config.", event.config)
        elif isinstance(event, ev.TrialConfigured):
            self._hide(experiment, trial, "config.", event.parameters)
        elif isinstance(event, ev.AttributesSet):
            spaces = self._attributes.setdefault(experiment, {}).setdefault(trial, {})
            space = {**spaces.get(event.namespace, {}), **event.attributes}
            spaces[event.namespace] = {key: value for key, value in space.items() if value is not None}
        elif isinstance(event, ev.TagsChanged):
            tags = self._tags.setdefault(experiment, {})
            tags[trial] = (tags.get(trial, frozenset()) | set(event.added)) - set(event.removed)
        elif isinstance(event, ev.ArtifactLogged):
            self._take_artifact(self._artifacts.setdefault(experiment, {}).setdefault(trial, {}), record)
        elif isinstance(event, ev.TrialReleased | ev.TrialRequeued):
            self._forget(experiment, trial, [name for name in self._hidden_of(experiment, trial) if name.startswith("result.")])
        elif isinstance(event, _RESULTS):
            self._take_results(experiment, trial, event)

    def _take_results(self, experiment: UUID, trial: int, event: Any) -> None:
        if isinstance(event, ev.TrialAmended):
            self._hide(experiment, trial, "config.", event.config)
            self._forget(experiment, trial, [f"result.{name}" for name in event.withdrawn])
        self._hide(experiment, trial, "result.", event.results)

    def _take_artifact(self, artifacts: dict[str, Record], record: Record) -> None:
        event = record.event
        known = artifacts.get(event.name)
        if event.digest and (known is None or not event.attempt or event.attempt >= known.event.attempt):
            artifacts[event.name] = record

    def _hide(self, experiment: UUID, trial: int, prefix: str, values: dict[str, Any]) -> None:
        for name, value in values.items():
            if value is None or (type(value) is float and value != value):
                self._hidden.setdefault(experiment, {}).setdefault(trial, {})[prefix + name] = value
            elif trial in self._hidden.get(experiment, ()):
                self._hidden[experiment][trial].pop(prefix + name, None)

    def _forget(self, experiment: UUID, trial: int, names: Iterable[str]) -> None:
        cells = self._hidden_of(experiment, trial)
        for name in names:
            cells.pop(name, None)

    def _hidden_of(self, experiment: UUID, trial: int) -> dict[str, Any]:
        return self._hidden.get(experiment, {}).get(trial, {})

    def table(self, experiment_id: UUID) -> pd.DataFrame:
        """Return the facts of one experiment's trials, ordered by trial_id."""
        sources: list[dict[int, Any]] = [
            facts.get(experiment_id, {}) for facts in (self._attributes, self._tags, self._artifacts, self._hidden)
        ]
        attributes, tags, artifacts, hidden = sources
        trials = sorted(set().union(*sources))
        return pd.DataFrame(
            {
                "trial_id": pd.Series(np.array(trials, dtype=np.int64)),
                "attributes": object_column([attributes.get(trial, {}) for trial in trials]),
                "tags": object_column([tuple(sorted(tags.get(trial, ()))) for trial in trials]),
                "artifacts": object_column([dict(artifacts.get(trial, {})) for trial in trials]),
                "hidden": object_column([dict(hidden.get(trial, {})) for trial in trials]),
            }
        )
