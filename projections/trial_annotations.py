"""TrialAnnotations: what is said of trials beside their values: attributes and tags, by the Reader's keys."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import pandas as pd

from ledger import events as ev
from ledger.records import Record
from ledger.streams import subject_of
from projections.columns import object_column, text_column
from projections.projection import Projection
from projections.rows import Rows

#: The namespace and the attribute in which the importer keeps what MLXP says of a run, and the importer's own notes.
_MLXP: Final = ("mlxp", "info")
_NOTES: Final = "mlxp.import"


class TrialAnnotations(Projection):
    """Attributes and tags of trials, a row each key.

    Columns: ``key`` (string), ``values`` (object: a dict from trial ids to values). Keys are ``info.tags`` (a tuple), what MLXP
    says of an imported run (``info.hostname``), and attributes, ``info.attributes.NAMESPACE.NAME``; nested ones with dots.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> exp.new_trial({}).tag("baseline")
    >>> exp.trial(1).set_attributes({"sampler": {"name": "tpe"}}, namespace="optuna")
    >>> projections.build(TrialAnnotations(), book.log).table(exp.id).values.tolist()
    [['info.attributes.optuna.sampler.name', {1: 'tpe'}], ['info.tags', {1: ('baseline',)}]]
    """

    name = "trial_annotations"
    schema_version = 2
    types = frozenset({"AttributesSet", "TagsChanged"})

    def __init__(self) -> None:
        self._cells: dict[UUID, dict[str, dict[int, Any]]] = {}  # key -> trial -> value
        self._leaves: dict[tuple[str, str], list[str]] = {}  # of each stream's attribute: the keys that it is under

    def apply(self, record: Record) -> None:
        """Take in what is said of a trial."""
        subject, event = subject_of(record.stream), record.event
        if subject is None or subject.trial_id is None:
            return
        cells = self._cells.setdefault(subject.experiment_id, {})
        if isinstance(event, ev.TagsChanged):
            tags = cells.setdefault("info.tags", {})
            changed = (set(tags.pop(subject.trial_id, ())) | set(event.added)) - set(event.removed)
            if changed:
                tags[subject.trial_id] = tuple(sorted(changed))
        elif isinstance(event, ev.AttributesSet) and event.namespace != _NOTES:
            self._set(cells, record.stream, subject.trial_id, event)

    def _set(self, cells: dict[str, dict[int, Any]], stream: str, trial: int, event: ev.AttributesSet) -> None:
        prefix = f"info.attributes.{event.namespace}." if event.namespace else "info.attributes."
        for name, value in event.attributes.items():
            key = "info" if (event.namespace, name) == _MLXP else prefix + name
            for leaf in self._leaves.pop((stream, key), ()):
                cells[leaf].pop(trial, None)
            if value is not None or name in event.nulls:
                self._leaves[stream, key] = spread(cells, trial, key, value)

    def table(self, experiment_id: UUID) -> pd.DataFrame:
        """Return what is said of one experiment's trials, by key."""
        found = {key: dict(cells) for key, cells in sorted(self._cells.get(experiment_id, {}).items()) if cells}
        return pd.DataFrame({"key": text_column(list(found)), "values": object_column(list(found.values()))})

    def save(self) -> tuple[dict[str, Rows], dict[str, Any]]:
        leaves = [(*place, leaves) for place, leaves in self._leaves.items()]
        return {}, {"cells": {experiment.hex: cells for experiment, cells in self._cells.items()}, "leaves": leaves}

    def load(self, rows: dict[str, Rows], memory: dict[str, Any]) -> None:
        self._cells = {UUID(hex=experiment): cells for experiment, cells in memory["cells"].items()}
        self._leaves = {(stream, key): leaves for stream, key, leaves in memory["leaves"]}


def spread(cells: dict[str, dict[int, Any]], row: int, key: str, value: Any) -> list[str]:
    """Put a value under its key, a nested dict under dotted keys as MLXP does, and return them; an empty dict is under none.

    Where a name with dots has taken the key, that of the value ends in quotes.

    >>> cells = {}
    >>> spread(cells, 1, "config.model", {"units": 2, "act": {"name": "relu"}}), cells["config.model.units"]
    (['config.model.units', 'config.model.act.name'], {1: 2})
    >>> spread(cells, 1, "config.model", {"act.name": "elu"}), cells['config.model.act."name"']
    (['config.model.act."name"'], {1: 'elu'})
    """
    if type(value) is dict:
        return [leaf for name, part in value.items() for leaf in spread(cells, row, f"{key}.{name}", part)]
    column = cells.get(key)
    if column is None:
        column = cells[key] = {}
    if row in column:
        return spread(cells, row, quoted(key), value)
    column[row] = value
    return [key]


def quoted(key: str) -> str:
    """Return the key with its end in quotes: for one of two values whose keys are the same.

    >>> quoted("config.a.b")
    'config.a."b"'
    """
    start, _, end = key.rpartition(".")
    return f'{start}."{end}"'
