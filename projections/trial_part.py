"""TrialPart: the trials of one experiment, as the Reader names what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeAlias
from uuid import UUID

import numpy as np
import pandas as pd

from ledger.records import Record
from projections.columns import MISSING, Column
from projections.field import Field
from projections.tables import Tables
from projections.trial_facts import TrialFacts

Maker: TypeAlias = Callable[[], Field]

#: The namespace and the attribute in which the importer keeps what MLXP says of a run.
_MLXP, _MLXP_INFO = "mlxp", "info"
_HIDDEN: Final = ("mlxp.import",)  # the importer's own notes
_VALUES: Final = ("config.", "result.")
#: What MLXP says of a run, and what is said in its place of trials that are none of MLXP's: from a column, in a form.
_LIKE_MLXP: Final = {
    "info.logger.log_id": ("trial_id", None),
    "info.start_date": ("started_at", "%d/%m/%Y"),
    "info.start_time": ("started_at", "%H:%M:%S"),
    "info.end_date": ("ended_at", "%d/%m/%Y"),
    "info.end_time": ("ended_at", "%H:%M:%S"),
}


class TrialPart:
    """One experiment's trials at a position, by trial_id.

    ``makers`` has, by key, what makes its field; ``artifacts``, by key, records of artifacts by file name, by row.
    """

    def __init__(self, tables: Tables, experiment_id: UUID, name: str, position: Any) -> None:
        frame = tables.trials(experiment_id, as_of=position)
        facts = tables.table(TrialFacts, experiment_id, as_of=position)
        self.experiment_id, self.name = experiment_id, name
        self.trials = frame["trial_id"].to_numpy(dtype=np.int64)
        self.artifacts: dict[str, dict[int, dict[str, Record]]] = {}
        self.artifact_names: dict[str, set[int]] = {}
        self.makers: dict[str, Maker] = {}
        facts = facts[np.isin(facts["trial_id"].to_numpy(), self.trials)]
        rows: list[int] = np.searchsorted(self.trials, facts["trial_id"].to_numpy()).tolist()
        self._take_columns(frame, _by_column(zip(rows, facts["hidden"], strict=True)))
        self._take_info(zip(rows, facts["attributes"], strict=True))
        tags = {row: tags for row, tags in zip(rows, facts["tags"], strict=True) if tags}
        self.makers["info.tags"] = partial(_of_cells, tags, len(self.trials))
        for row, artifacts in zip(rows, facts["artifacts"], strict=True):
            self._take_artifacts(row, artifacts)

    def _take_columns(self, frame: pd.DataFrame, hidden: Mapping[str, Mapping[int, Any]]) -> None:
        self.makers["info.experiment"] = partial(Field.of_values, [self.name] * len(self.trials))
        for key, (source, form) in _LIKE_MLXP.items():
            self.makers[key] = partial(_said_like_mlxp, frame[source], form)
        nested: dict[str, dict[int, Any]] = {}
        for name in frame.columns:
            column = frame[name]
            cells = hidden.get(name, {})
            if not name.startswith(_VALUES):
                self.makers[f"info.{name}"] = partial(Field.of_column, column, cells)
            elif column.dtype == object and any(isinstance(value, dict) for value in column):
                for row, value in enumerate(column):
                    for key, leaf in _leaves(name, cells.get(row, MISSING) if value is None else value):
                        nested.setdefault(key, {})[row] = leaf
            else:
                self.makers[name] = partial(Field.of_column, column, cells)
        self._add_cells(nested, is_first=False)

    def _take_info(self, attributes: Iterable[tuple[int, Mapping[str, Mapping[str, Any]]]]) -> None:
        """Take the attributes: what MLXP says of a run as it says it, those of other namespaces under ``info.attributes``."""
        cells: dict[str, dict[int, Any]] = {}
        for row, spaces in attributes:
            for space, values in ((space, values) for space, values in spaces.items() if space not in _HIDDEN):
                prefix = f"info.attributes.{space}." if space else "info.attributes."
                for name, value in values.items():
                    is_info = (space, name) == (_MLXP, _MLXP_INFO)
                    for key, leaf in _leaves("info" if is_info else prefix + name, value):
                        cells.setdefault(key, {})[row] = leaf
        cells.pop("info.status", None)  # where the trial stands is what the ledger says
        self._add_cells(cells, is_first=True)

    def _add_cells(self, cells: Mapping[str, Mapping[int, Any]], *, is_first: bool) -> None:
        """Add values by key and row, instead of those that are there under the key (``is_first``) or where there are none."""
        for key, values in cells.items():
            there = self.makers.get(key)
            if there is None:
                self.makers[key] = partial(_of_cells, values, len(self.trials))
            else:
                self.makers[key] = partial(_merged, there, values, is_first=is_first)

    def _take_artifacts(self, row: int, artifacts: Mapping[str, Record]) -> None:
        for name, record in artifacts.items():
            self.artifact_names.setdefault(name, set()).add(row)
            kind, separator, path = name.partition("/")
            if not separator:
                kind, path = record.event.saver or record.event.kind, name
            folder, _, file = path.rpartition("/")
            key = f"artifact.{kind}." + (f".{folder.replace('/', '.')}" if folder else "")
            self.artifacts.setdefault(key, {}).setdefault(row, {})[file] = record


def _by_column(cells: Iterable[tuple[int, Mapping[str, Any]]]) -> dict[str, dict[int, Any]]:
    columns: dict[str, dict[int, Any]] = {}
    for row, values in cells:
        for name, value in values.items():
            columns.setdefault(name, {})[row] = value
    return columns


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Return the values in a nested dict by dotted key, as MLXP has them: an empty dict is nothing, a list a value."""
    if value is MISSING:
        return
    if type(value) is not dict:
        yield prefix, value
        return
    for name, part in value.items():
        yield from _leaves(f"{prefix}.{name}", part)


def _of_cells(cells: Mapping[int, Any], rows: int) -> Field:
    values = [MISSING] * rows
    for row, value in cells.items():
        values[row] = value
    return Field.of_values(values)


def _merged(maker: Maker, cells: Mapping[int, Any], *, is_first: bool) -> Field:
    field = maker()
    values = field.values(np.arange(len(field.data)))
    for row, value in cells.items():
        if is_first or values[row] is MISSING:
            values[row] = value
    return Field.of_values(values)


def _said_like_mlxp(column: Column, form: str | None) -> Field:
    return Field.of_column(column if form is None else column.dt.strftime(form), {})
