"""TrialPart: the trials of one experiment, as the Reader names what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, Final, TypeAlias
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pandas as pd

from ledger.records import Record
from projections.columns import MISSING, Column
from projections.field import Field
from projections.tables import Tables
from projections.trial_facts import TrialFacts, spread

Maker: TypeAlias = Callable[[], Field]

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
    """One experiment's trials at a position, by trial_id; ``makers`` has, by key, what makes its field when it is looked at."""

    def __init__(self, tables: Tables, experiment_id: UUID, name: str, position: Any) -> None:
        frame = tables.trials(experiment_id, as_of=position)
        facts = tables.table(TrialFacts, experiment_id, as_of=position)
        self.experiment_id, self.name = experiment_id, name
        self.trials = frame["trial_id"].to_numpy(dtype=np.int64)
        self.makers: dict[str, Maker] = {}
        known: dict[str, dict[str, dict[int, Any]]] = {"said": {}, "hidden": {}, "artifacts": {}}
        for kind, key, values in zip(facts["kind"], facts["key"], facts["values"], strict=True):
            known[kind][key] = values
        self._logged: dict[int, dict[str, Record]] = known["artifacts"].get("", {})
        self._take_columns(frame, known["hidden"])
        self._take_said(known["said"])

    def _take_columns(self, frame: pd.DataFrame, hidden: Mapping[str, Mapping[int, Any]]) -> None:
        nested: dict[str, dict[int, Any]] = {}
        for name in frame.columns:
            column, cells = frame[name], hidden.get(name, {})
            if not name.startswith(_VALUES):
                self.makers[f"info.{name}"] = partial(Field.of_column, column, {})
            elif column.dtype == object and dict in set(map(type, column.to_numpy())):
                for trial, value in zip(self.trials.tolist(), column.to_numpy(), strict=True):
                    if value is not None or trial in cells:
                        spread(nested, trial, name, value)
            else:
                self.makers[name] = partial(self._of_column, column, cells)
        for key, values in nested.items():
            self.makers[key] = self._with_cells(key, values, is_first=False)

    def _take_said(self, said: Mapping[str, Mapping[int, Any]]) -> None:
        self.makers["info.experiment"] = partial(Field.of_values, [self.name] * len(self.trials))
        for key, (source, form) in _LIKE_MLXP.items():
            column = self.makers[f"info.{source}"]
            self.makers[key] = column if form is None else partial(_formatted, column, form)
        self.makers["info.tags"] = partial(self._of_cells, {})
        for key, values in said.items():
            if key != "info.status":  # where the trial stands is what the ledger says
                self.makers[key] = self._with_cells(key, values, is_first=True)

    def _with_cells(self, key: str, values: Mapping[int, Any], *, is_first: bool) -> Maker:
        """Return the maker of values by trial, before those that are there under the key (``is_first``) or behind them."""
        there = self.makers.get(key)
        return partial(self._of_cells, values) if there is None else partial(self._merged, there, values, is_first=is_first)

    def _of_column(self, column: Column, hidden: Mapping[int, Any]) -> Field:
        return Field.of_column(column, {self._rows[trial]: value for trial, value in hidden.items() if trial in self._rows})

    def _of_cells(self, values: Mapping[int, Any]) -> Field:
        return Field.of_values([values.get(trial, MISSING) for trial in self.trials.tolist()])

    def _merged(self, maker: Maker, values: Mapping[int, Any], *, is_first: bool) -> Field:
        field = maker()
        merged = field.values(np.arange(len(self.trials)))
        for row, trial in enumerate(self.trials.tolist()):
            if trial in values and (is_first or merged[row] is MISSING):
                merged[row] = values[trial]
        return Field.of_values(merged)

    @cached_property
    def _rows(self) -> dict[int, int]:
        return {trial: row for row, trial in enumerate(self.trials.tolist())}

    # ---------------------------------------------------------------------------------------------- artifacts

    @cached_property
    def artifacts(self) -> dict[str, dict[int, dict[str, Record]]]:
        """The records of artifacts by key, by row, by file name."""
        found: dict[str, dict[int, dict[str, Record]]] = {}
        for trial, records in self._logged.items():
            for name, record in records.items() if trial in self._rows else ():
                key, file = _artifact_key(name, record.event.saver or record.event.kind)
                found.setdefault(key, {}).setdefault(self._rows[trial], {})[file] = record
        return found

    def rows_with_artifact(self, name: str) -> list[int]:
        """Return the rows that have an artifact of the name."""
        return [self._rows[trial] for trial, records in self._logged.items() if name in records and trial in self._rows]


def _artifact_key(name: str, kind: str) -> tuple[str, str]:
    """Return MLXP's key of an artifact, and its file name.

    >>> _artifact_key("pickle/deep/down/model.pkl", "file"), _artifact_key("plan", "json")
    (('artifact.pickle..deep.down', 'model.pkl'), ('artifact.json.', 'plan'))
    """
    first, separator, path = name.partition("/")
    if not separator:
        return f"artifact.{kind}.", name
    folder, _, file = path.rpartition("/")
    return f"artifact.{first}." + (f".{folder.replace('/', '.')}" if folder else ""), file


def _formatted(maker: Maker, form: str) -> Field:
    field = maker()
    times: npt.NDArray[Any] = field.data[field.present]
    values: list[Any] = [MISSING] * len(field.data)
    if len(times):
        said = pd.to_datetime(times, utc=True).strftime(form)
        for row, text in zip(np.flatnonzero(field.present).tolist(), said, strict=True):
            values[row] = text
    return Field.of_values(values)
