"""MetricColumns: every point of every metric, in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pandas as pd

from ledger import events as ev
from ledger.records import Record
from ledger.streams import subject_of
from projections.columns import object_column, text_column
from projections.projection import Projection

_CHUNK_POINTS = 65_536  # beyond these, Python's objects become arrays
_EXACT_FLOATS = 2**53


class _Points(NamedTuple):
    """The points of one metric in the order in which they were logged."""

    trials: npt.NDArray[np.int64]
    attempts: npt.NDArray[np.int64]
    steps: npt.NDArray[np.float64]
    values: npt.NDArray[Any]


class _Growing:
    """The points of one metric, as they come: those of one event are a run of one trial and attempt."""

    __slots__ = ("_chunks", "_runs", "_steps", "_values")

    def __init__(self) -> None:
        self._runs: list[tuple[int, int, int]] = []  # trial, attempt, number of points
        self._chunks: list[tuple[npt.NDArray[np.float64], npt.NDArray[Any]]] = []
        self._steps: list[int | float | None] = []
        self._values: list[Any] = []

    def add(self, trial: int, attempt: int, steps: list[int | float | None], values: list[Any]) -> None:
        self._runs.append((trial, attempt, len(values)))
        self._steps.extend(steps)
        self._values.extend(values)
        if len(self._values) >= _CHUNK_POINTS:
            self._close_chunk()

    def _close_chunk(self) -> None:
        if self._values:
            self._chunks.append((np.array(self._steps, dtype=np.float64), _as_array(self._values)))  # a step of None is NaN
            self._steps, self._values = [], []

    def points(self) -> _Points:
        self._close_chunk()
        if len(self._chunks) > 1:
            steps, values = zip(*self._chunks, strict=True)
            self._chunks = [(np.concatenate(steps), _joined(values))]
        runs = np.array(self._runs, dtype=np.int64).T
        return _Points(np.repeat(runs[0], runs[2]), np.repeat(runs[1], runs[2]), *self._chunks[0])


class MetricColumns(Projection):
    """The metrics of all trials, folded into arrays: 16 bytes a point, and no object for any.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> exp.new_trial({}).log_many({"loss": [0.5, 0.4]}, steps=[1, 2])
    >>> metrics = projections.build(MetricColumns(), book.log)
    >>> metrics.table(exp.id, "loss").values.tolist()
    [[1.0, 1.0, 0.5], [1.0, 2.0, 0.4]]
    """

    name = "metric_columns"
    schema_version = 1
    types = frozenset({"MetricsLogged"})

    def __init__(self) -> None:
        self._metrics: dict[UUID, dict[str, _Growing]] = {}

    def apply(self, record: Record) -> None:
        """Take in the points of one event."""
        subject, event = subject_of(record.stream), record.event
        if subject is None or subject.trial_id is None or not isinstance(event, ev.MetricsLogged):
            return
        metrics = self._metrics.setdefault(subject.experiment_id, {})
        for points in event.points:
            for name, values in zip(points.names, points.values, strict=True):
                metric = metrics.get(name)
                if metric is None:
                    metric = metrics[name] = _Growing()
                metric.add(subject.trial_id, event.attempt, points.steps, values)

    def table(self, experiment_id: UUID, name: str | None = None) -> pd.DataFrame:
        """Return the points of one metric that count, a row each, by trial and then as they were logged.

        Columns: ``trial_id`` (int64), ``step`` (float64), ``value``. Of a trial that was tried more than once, those of the
        last attempt that logged any count, and those that no attempt logged.

        Without a name, return the names of the experiment's metrics, sorted: column ``metric`` (string).
        """
        if name is None:
            return pd.DataFrame({"metric": text_column(sorted(self._metrics.get(experiment_id, {})))})
        metric = self._metrics.get(experiment_id, {}).get(name)
        if metric is None:
            return pd.DataFrame({"trial_id": np.empty(0, np.int64), "step": np.empty(0), "value": np.empty(0)})
        trials, attempts, steps, values = metric.points()
        if (np.diff(trials) < 0).any():
            order = np.argsort(trials, kind="stable")
            trials, attempts, steps, values = trials[order], attempts[order], steps[order], values[order]
        starts = np.flatnonzero(np.diff(trials, prepend=trials[0] - 1))
        last = np.repeat(np.maximum.reduceat(attempts, starts), np.diff(starts, append=len(trials)))
        if not ((attempts == last) | (attempts == 0)).all():
            counts = (attempts == last) | (attempts == 0)
            trials, steps, values = trials[counts], steps[counts], values[counts]
        return pd.DataFrame({"trial_id": trials, "step": steps, "value": values})


def _as_array(values: list[Any]) -> npt.NDArray[Any]:
    """Return values as ints or floats of 64 bits when that is exactly what they are, else as objects."""
    kinds = set(map(type, values))
    if kinds == {float}:
        return np.array(values, dtype=np.float64)
    if kinds == {int} and min(values) >= -(2**63) and max(values) < 2**63:
        return np.array(values, dtype=np.int64)
    if kinds == {int, float} and all(type(value) is float or -_EXACT_FLOATS <= value <= _EXACT_FLOATS for value in values):
        return np.array(values, dtype=np.float64)
    return object_column(values).to_numpy()


def _joined(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    dtypes = {array.dtype for array in arrays}
    if dtypes == {np.dtype(np.int64), np.dtype(np.float64)} and not all(
        array.dtype == np.float64 or (np.abs(array) <= _EXACT_FLOATS).all() for array in arrays
    ):
        arrays = [array.astype(object) for array in arrays]
    return np.concatenate(arrays)
