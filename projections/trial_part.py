"""TrialPart: the trials of one experiment, as the Reader names what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, Final, TypeAlias
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pandas as pd

from projections.artifact_table import ArtifactTable
from projections.columns import MISSING, Column
from projections.experiments import Experiments
from projections.field import Field
from projections.tables import Tables
from projections.trial_annotations import TrialAnnotations, quoted, spread

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

    def __init__(self, tables: Tables, experiment_id: UUID, name: str, position: int, *, deleted: bool = False) -> None:
        self.experiment_id, self.name = experiment_id, name
        self._tables, self._position, self._deleted = tables, position, deleted
        frame = tables.trials(experiment_id, as_of=position, deleted=deleted)
        said = tables.table(TrialAnnotations, experiment_id, as_of=position)
        self.trials = frame["trial_id"].to_numpy(dtype=np.int64)
        self.makers: dict[str, Maker] = {}
        self._take_columns(frame)
        self._take_said(dict(zip(said["key"], said["values"], strict=True)))

    def _take_columns(self, frame: pd.DataFrame) -> None:
        nested: dict[str, dict[int, Any]] = {}
        for name in frame.columns:
            column = frame[name]
            if not name.startswith(_VALUES):
                self.makers[f"info.{name}"] = partial(Field.of_column, column)
            elif column.dtype == object and dict in set(map(type, column.to_numpy())):
                for trial, value in self._exact(name).items():
                    spread(nested, trial, name, value)
            else:
                self.makers[name] = partial(self._of_column, name, column)
        for key, values in list(nested.items()):
            taken = self._exact(key) if key in self.makers else {}  # by a name with dots
            hidden = {trial: value for trial, value in values.items() if trial in taken}
            for trial, value in hidden.items():
                spread(nested, trial, quoted(key), value)
            self.makers[key] = self._with_cells(key, values, is_first=False)
        for key in nested.keys() - self.makers.keys():
            self.makers[key] = partial(self._of_cells, nested[key])

    def _of_column(self, name: str, column: Column) -> Field:
        """Return the field of a parameter or a result; a column shows None and NaN, which are values, like missing ones."""
        return self._of_cells(self._exact(name)) if column.isna().any() else Field.of_column(column)

    def _exact(self, name: str) -> dict[int, Any]:
        """Return the values of a parameter or a result as they were recorded, by trial."""
        kind, _, key = name.partition(".")

        def show(experiments: Experiments, experiment_id: UUID) -> dict[int, Any]:
            trials = experiments.of(experiment_id)
            buffer = (trials.configs if kind == "config" else trials.results).buffers.get(key)
            if buffer is None:  # redacted since
                return {}
            rows = np.flatnonzero(~buffer.is_missing())
            return dict(zip(trials.rows["trial_id"].values(rows), buffer.values(rows), strict=True))

        return self._tables.read(Experiments, self.experiment_id, self._position, show)

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

    def _of_cells(self, values: Mapping[int, Any]) -> Field:
        return Field.of_values([values.get(trial, MISSING) for trial in self.trials.tolist()])

    def _merged(self, maker: Maker, values: Mapping[int, Any], *, is_first: bool) -> Field:
        field = maker()
        merged = field.values(np.arange(len(self.trials)))
        for row, trial in enumerate(self.trials.tolist()):
            if trial in values and (is_first or merged[row] is MISSING):
                merged[row] = values[trial]
        return Field.of_values(merged)

    # ---------------------------------------------------------------------------------------------- artifacts

    @cached_property
    def _artifacts(self) -> list[tuple[str, str, int, int]]:
        """The artifacts that count: name, type (the saver's name, or the kind), row, and position of the record."""
        table = self._tables.read(
            ArtifactTable, self.experiment_id, self._position, lambda table, id_: table.table(id_, deleted=self._deleted)
        )
        table = table[table["is_current"] & table["trial_id"].isin(self.trials)]
        rows = np.searchsorted(self.trials, table["trial_id"].to_numpy(dtype=np.int64))
        kinds = table["saver"].fillna(table["kind"].astype(table["saver"].dtype))
        return list(zip(table["name"], kinds, rows.tolist(), table["position"].tolist(), strict=True))

    @cached_property
    def artifacts(self) -> dict[str, dict[int, dict[str, int]]]:
        """The positions of the records of artifacts by key, by row, by file name."""
        found: dict[str, dict[int, dict[str, int]]] = {}
        for name, kind, row, position in self._artifacts:
            key, file = _artifact_key(name, kind)
            found.setdefault(key, {}).setdefault(row, {})[file] = position
        return found

    def rows_with_artifact(self, name: str) -> list[int]:
        """Return the rows that have an artifact of the name."""
        return [row for each, _, row, _ in self._artifacts if each == name]


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
