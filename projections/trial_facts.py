"""TrialFacts: what is said of trials beside their values: attributes, tags, artifacts; and which values are None or NaN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

import pandas as pd

from ledger import events as ev
from ledger.records import Record
from ledger.streams import subject_of
from projections.columns import object_column, text_column
from projections.projection import Projection

#: The namespace and the attribute in which the importer keeps what MLXP says of a run, and the importer's own notes.
_MLXP: Final = ("mlxp", "info")
_NOTES: Final = "mlxp.import"
_RESULTS = (
    ev.TrialCompleted, ev.TrialFailed, ev.TrialPruned, ev.TrialTimedOut, ev.StatusForced, ev.ResultsReported, ev.TrialAmended,
)  # fmt: skip


class TrialFacts(Projection):
    """What the Reader shows of trials that ``TrialTable`` does not, key by key.

    Columns: ``kind`` and ``key`` (string), ``values`` (object: a dict from trial ids to values). Rows of the kind

    - ``said``: ``info.tags``; what MLXP says of a run (``info.hostname``); attributes, ``info.attributes.NAMESPACE.NAME``; nested
      ones with dots;
    - ``hidden``: a column of the trial table, and its values that are None or NaN, which it shows like missing ones;
    - ``artifacts``: one row, whose values are dicts from names to records of ArtifactLogged, the latest that counts of each.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> exp.new_trial({"warmup": None}).tag("baseline")
    >>> projections.build(TrialFacts(), book.log).table(exp.id).values.tolist()[:2]
    [['hidden', 'config.warmup', {1: None}], ['said', 'info.tags', {1: ('baseline',)}]]
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
        self._experiments: dict[UUID, _Facts] = {}

    def apply(self, record: Record) -> None:
        """Take in what is said of a trial."""
        subject = subject_of(record.stream)
        if subject is None or subject.trial_id is None:
            return
        facts = self._experiments.get(subject.experiment_id)
        if facts is None:
            facts = self._experiments[subject.experiment_id] = _Facts()
        facts.take(subject.trial_id, record)

    def table(self, experiment_id: UUID) -> pd.DataFrame:
        """Return the facts of one experiment's trials, by kind and key."""
        facts = self._experiments.get(experiment_id) or _Facts()
        rows = [("artifacts", "", facts.artifacts)]
        rows += [("hidden", key, cells) for key, cells in sorted(facts.hidden.items()) if cells]
        rows += [("said", key, cells) for key, cells in sorted(facts.said.items()) if cells]
        kinds, keys, values = zip(*rows, strict=True)
        columns = {"kind": text_column(kinds), "key": text_column(keys), "values": object_column([dict(each) for each in values])}
        return pd.DataFrame(columns).iloc[0 if facts.artifacts else 1 :]


class _Facts:
    """The facts of one experiment's trials: by key, then by trial."""

    __slots__ = ("_leaves", "artifacts", "hidden", "said")

    def __init__(self) -> None:
        self.said: dict[str, dict[int, Any]] = {}
        self.hidden: dict[str, dict[int, Any]] = {}
        self.artifacts: dict[int, dict[str, Record]] = {}
        self._leaves: dict[tuple[int, str], list[str]] = {}  # of each trial's attribute: the keys that it is under

    def take(self, trial: int, record: Record) -> None:
        event = record.event
        if isinstance(event, ev.TrialCreated):
            self._hide(trial, "config.", event.config)
        elif isinstance(event, ev.TrialConfigured):
            self._hide(trial, "config.", event.parameters)
        elif isinstance(event, ev.AttributesSet):
            self._set_attributes(trial, event)
        elif isinstance(event, ev.TagsChanged):
            tags = self.said.setdefault("info.tags", {})
            changed = (set(tags.pop(trial, ())) | set(event.added)) - set(event.removed)
            if changed:
                tags[trial] = tuple(sorted(changed))
        elif isinstance(event, ev.ArtifactLogged):
            self._take_artifact(trial, record)
        elif isinstance(event, ev.TrialReleased | ev.TrialRequeued):
            self._forget(trial, [key for key in self.hidden if key.startswith("result.")])
        elif isinstance(event, _RESULTS):
            if isinstance(event, ev.TrialAmended):
                self._hide(trial, "config.", event.config)
                self._forget(trial, [f"result.{name}" for name in event.withdrawn])
            self._hide(trial, "result.", event.results)

    def _set_attributes(self, trial: int, event: ev.AttributesSet) -> None:
        if event.namespace == _NOTES:
            return
        prefix = f"info.attributes.{event.namespace}." if event.namespace else "info.attributes."
        for name, value in event.attributes.items():
            key = "info" if (event.namespace, name) == _MLXP else prefix + name
            for leaf in self._leaves.pop((trial, key), ()):
                self.said[leaf].pop(trial, None)
            if value is not None:
                self._leaves[trial, key] = spread(self.said, trial, key, value)

    def _take_artifact(self, trial: int, record: Record) -> None:
        event, known = record.event, self.artifacts.get(trial, {})
        before = known.get(event.name)
        if event.digest and (before is None or not event.attempt or event.attempt >= before.event.attempt):
            self.artifacts[trial] = {**known, event.name: record}  # another dict: the one before may have been shown

    def _hide(self, trial: int, prefix: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if value is None or (type(value) is float and value != value):
                self.hidden.setdefault(prefix + name, {})[trial] = value
            elif self.hidden:
                self._forget(trial, (prefix + name,))

    def _forget(self, trial: int, keys: Iterable[str]) -> None:
        for key in keys:
            if key in self.hidden:
                self.hidden[key].pop(trial, None)


def spread(cells: dict[str, dict[int, Any]], row: int, key: str, value: Any) -> list[str]:
    """Put a value under its key, a nested dict under dotted keys as MLXP does, and return them; an empty dict is under none.

    >>> cells = {}
    >>> spread(cells, 1, "config.model", {"units": 2, "act": {"name": "relu"}}), cells["config.model.units"]
    (['config.model.units', 'config.model.act.name'], {1: 2})
    """
    if type(value) is dict:
        return [leaf for name, part in value.items() for leaf in spread(cells, row, f"{key}.{name}", part)]
    column = cells.get(key)
    if column is None:
        column = cells[key] = {}
    column[row] = value
    return [key]
