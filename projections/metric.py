"""Metric: one metric for all rows of a Reader, and its reductions to one value a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from projections.columns import MISSING
from projections.field import Field, Places
from projections.metric_series import MetricSeries


class Metric:
    """The points of one metric by row: those of row ``i`` are from ``starts[i]`` to ``ends[i]``.

    Made of each experiment's series, None for one that has no such metric, and of its trials, a row each, in order;
    ``with_steps`` gives the same series with their steps, when they are asked for.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> exp.new_trials([{}, {}])[1].log_many({"loss": [0.5, 0.4]})
    >>> series = [projections.Tables(book).metric("demo", "loss")]
    >>> metric = Metric(series, [np.array([1, 2])], lambda: series)
    >>> metric.values(0), metric.values(1), metric.reduced("min").values(np.arange(2))
    (MISSING, [0.5, 0.4], [MISSING, 0.4])
    """

    __slots__ = ("_data", "_ends", "_parts", "_reduced", "_starts", "_steps", "_with_steps", "present")

    def __init__(
        self, series: Sequence[MetricSeries | None], trials: Sequence[npt.NDArray[np.int64]],
        with_steps: Callable[[], Sequence[MetricSeries | None]],
    ) -> None:  # fmt: skip
        self._parts = [(each, *_places(each, ids)) for each, ids in zip(series, trials, strict=True)]
        starts, ends, offset = [], [], 0
        for each, is_there, places in self._parts:
            bounds = np.zeros(1, np.int64) if each is None else each.bounds
            starts.append(np.where(is_there, bounds[places] + offset, 0))
            ends.append(np.where(is_there, bounds[np.minimum(places + 1, len(bounds) - 1)] + offset, 0))
            offset += int(bounds[-1])
        self._starts, self._ends = np.concatenate(starts), np.concatenate(ends)
        self._with_steps = with_steps
        self._steps: npt.NDArray[Any] | None = None
        self._data = np.concatenate([each.values for each, _, _ in self._parts if each is not None])
        self.present = np.concatenate([is_there for _, is_there, _ in self._parts])  # which rows have a point
        self._reduced: dict[str, Field] = {}

    def values(self, row: int) -> Any:
        """Return the values of a row as they were logged, MISSING when there is none."""
        return self.values_of(np.array([row]))[0]

    def values_of(self, rows: Places) -> list[Any]:
        """Return the values of some rows, as ``values`` does."""
        data = self._data
        starts, ends = self._starts[rows].tolist(), self._ends[rows].tolist()
        return [data[start:end].tolist() if start < end else MISSING for start, end in zip(starts, ends, strict=True)]

    def series(self, row: int) -> pd.Series[Any]:
        """Return the values of a row by step."""
        part = slice(int(self._starts[row]), int(self._ends[row]))
        if self._steps is None:
            self._steps = np.concatenate([each.steps for each in self._with_steps() if each is not None])
        steps = self._steps[part]
        return pd.Series(self._data[part].copy(), index=pd.Index(steps, name="step"))

    def reduced(self, how: str) -> Field:
        """Return one value a row; how is one of ``metric_series.REDUCTIONS``."""
        if how not in self._reduced:
            fields = [_reduced(each, is_there, places, how) for each, is_there, places in self._parts]
            self._reduced[how] = Field.joined(fields, [len(is_there) for _, is_there, _ in self._parts])
        return self._reduced[how]


def _places(series: MetricSeries | None, trials: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.bool_], Places]:
    """Return for each trial whether it is in the series, and where."""
    if series is None or not len(series.trial_ids):
        return np.zeros(len(trials), np.bool_), np.zeros(len(trials), np.intp)
    places = np.minimum(np.searchsorted(series.trial_ids, trials), len(series.trial_ids) - 1)
    return series.trial_ids[places] == trials, places


def _reduced(series: MetricSeries | None, is_there: npt.NDArray[np.bool_], places: Places, how: str) -> Field | None:
    if series is None or not len(series.trial_ids):
        return None
    values = series.reduce(how)[places]
    if values.dtype == object:
        return Field.of_values([value if there else MISSING for value, there in zip(values, is_there, strict=True)])
    kind = {"i": "int", "f": "float", "b": "bool"}[values.dtype.kind]
    return Field(kind, values, is_there)
