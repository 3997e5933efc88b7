"""Metric: the points of one metric for all rows of a Reader, and their reductions to one value a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from projections.columns import MISSING
from projections.field import Field, Rows

#: How a metric becomes one value a trial. NaN does not count in min, max and mean, nor does what is no number.
REDUCTIONS: Final = ("min", "max", "mean", "first", "last", "count")


class Metric:
    """The points of one metric, by row and then as they were logged; row ``i`` has those from ``starts[i]`` to ``starts[i + 1]``.

    >>> metric = Metric.of_tables([pd.DataFrame({"trial_id": [1, 1, 3], "step": [1.0, 2.0, 1.0], "value": [0.5, 0.4, 9.0]})],
    ...                           [np.array([1, 2, 3])])
    >>> metric.values(0), metric.values(1), metric.reduced("min").values(np.arange(3))
    ([0.5, 0.4], MISSING, [0.4, MISSING, 9.0])
    """

    __slots__ = ("_data", "_reduced", "_starts", "_steps", "present")

    def __init__(self, starts: npt.NDArray[np.intp], steps: npt.NDArray[np.float64], data: npt.NDArray[Any]) -> None:
        self._starts, self._steps, self._data = starts, steps, data
        self.present = np.diff(starts) > 0  # which rows have a point
        self._reduced: dict[str, Field] = {}

    @classmethod
    def of_tables(cls, tables: Sequence[pd.DataFrame], trials: Sequence[npt.NDArray[np.int64]]) -> Metric:
        """Return the metric of the experiments' tables of points, ordered by trial, whose rows are these trials, ordered too."""
        starts, steps, data, begin = [np.zeros(1, dtype=np.intp)], [], [], 0
        for table, ids in zip(tables, trials, strict=True):
            of = table["trial_id"].to_numpy(dtype=np.int64)
            first, last = np.searchsorted(of, ids, side="left"), np.searchsorted(of, ids, side="right")
            lengths = last - first
            if lengths.sum() != len(of):  # points of trials that are no rows: deleted ones
                table = table[np.isin(of, ids)]
            starts.append(begin + np.cumsum(lengths))
            begin += int(lengths.sum())
            steps.append(table["step"].to_numpy(dtype=np.float64))
            data.append(table["value"].to_numpy())
        return cls(np.concatenate(starts), np.concatenate(steps), np.concatenate(data))

    def values(self, row: int) -> Any:
        """Return the values of a row as they were logged, MISSING when there is none."""
        values: list[Any] = self._data[self._starts[row] : self._starts[row + 1]].tolist()
        return values or MISSING

    def values_of(self, rows: Rows) -> list[Any]:
        """Return the values of some rows, as ``values`` does."""
        data = self._data
        starts, ends = self._starts[rows].tolist(), self._starts[rows + 1].tolist()
        return [data[start:end].tolist() if start < end else MISSING for start, end in zip(starts, ends, strict=True)]

    def series(self, row: int) -> pd.Series[Any]:
        """Return the values of a row by step."""
        part = slice(self._starts[row], self._starts[row + 1])
        steps = self._steps[part]
        whole = not np.isnan(steps).any() and (steps == np.floor(steps)).all() and (np.abs(steps) < 2**53).all()
        index = pd.Index(steps.astype(np.int64) if whole else steps.copy(), name="step")
        return pd.Series(self._data[part].copy(), index=index)

    def reduced(self, how: str) -> Field:
        """Return one value a row."""
        if how not in self._reduced:
            self._reduced[how] = self._reduce(how)
        return self._reduced[how]

    def _reduce(self, how: str) -> Field:
        rows = np.flatnonzero(self.present)
        first, last = self._starts[rows], self._starts[rows + 1] - 1
        if how == "count":
            return self._field(rows, last + 1 - first)
        if how in ("first", "last"):
            return self._field(rows, self._data[first if how == "first" else last])
        if self._data.dtype == object:
            return self._reduce_objects(how)
        if not len(rows):
            return self._field(rows, self._data[:0])
        if how == "mean":
            numbers = self._data.astype(np.float64)
            counted = ~np.isnan(numbers)
            counts = np.add.reduceat(counted, first, dtype=np.int64)
            with np.errstate(all="ignore"):  # all of them NaN, or a sum beyond the largest float
                return self._field(rows, np.add.reduceat(np.where(counted, numbers, 0.0), first) / counts)
        return self._field(rows, (np.fmin if how == "min" else np.fmax).reduceat(self._data, first))

    def _reduce_objects(self, how: str) -> Field:
        reduce: Callable[[list[float]], float] = {"min": min, "max": max}.get(how, lambda numbers: sum(numbers) / len(numbers))
        values = []
        for row in range(len(self._starts) - 1):
            points = self._data[self._starts[row] : self._starts[row + 1]]
            numbers = [each for each in points if type(each) in (int, float) and each == each]
            values.append(reduce(numbers) if numbers else MISSING)
        return Field.of_values(values)

    def _field(self, rows: Rows, values: npt.NDArray[Any]) -> Field:
        data = np.zeros(len(self._starts) - 1, dtype=values.dtype)
        data[rows] = values
        kind = {np.dtype(np.float64): "float", np.dtype(np.int64): "int"}.get(values.dtype, "object")
        return Field(kind, data, self.present)
