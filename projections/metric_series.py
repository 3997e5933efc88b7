"""MetricSeries: one metric of many trials as arrays, without an object for each point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np

from ledger.errors import InvalidValue
from projections.buffers import Buffer


class MetricSeries(NamedTuple):
    """One metric: trial ``trial_ids[i]`` has the points from ``bounds[i]`` to ``bounds[i + 1]`` (exclusive).

    ``trial_ids`` is sorted and has those that logged it; ``steps``, ``times`` (ns since 1970 UTC) and ``values`` are numpy
    arrays: of int64, float64 or bool where all are of that kind, of float64 for ints and floats that are exact as such, and
    of objects otherwise.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> for trial in exp.new_trials([{}, {}]):
    ...     trial.log_many({"loss": [0.5, 0.25 * trial.id]}, steps=[1, 2])
    >>> loss = projections.build(projections.MetricTable(), book.log).series(exp.id, "loss")
    >>> loss.trial_ids.tolist(), loss.reduce("last").tolist(), loss.reduce("mean").tolist()
    ([1, 2], [0.25, 0.5], [0.375, 0.5])
    >>> steps, values = loss.of(2)
    >>> steps.tolist(), values.tolist()
    ([1, 2], [0.5, 0.5])
    """

    trial_ids: Any
    bounds: Any
    steps: Any
    times: Any
    values: Any

    @classmethod
    def of_points(cls, trial_ids: Any, steps: Any, times: Any, values: Any) -> Self:
        """Make the series of points, given by trial in order."""
        firsts = np.flatnonzero(np.diff(trial_ids, prepend=-1))
        return cls(trial_ids[firsts], np.append(firsts, len(trial_ids)), steps, times, values)

    @classmethod
    def of_columns(cls, trial_ids: Any, counts: Any, values: Any) -> Self:
        """Make the series, without steps and times, of points that come in columns: of each its trial, in order, and how many."""
        firsts = np.flatnonzero(np.diff(trial_ids, prepend=-1))
        bounds = np.append((np.cumsum(counts) - counts)[firsts], len(values))
        nothing = np.zeros(0, np.int64)
        return cls(trial_ids[firsts], bounds, nothing, nothing, values)

    def of(self, trial_id: int) -> tuple[Any, Any]:
        """Return steps and values of one trial: no points for one that did not log it."""
        place = int(np.searchsorted(self.trial_ids, trial_id))
        is_there = place < len(self.trial_ids) and self.trial_ids[place] == trial_id
        part = slice(self.bounds[place], self.bounds[place + 1]) if is_there else slice(0, 0)
        return self.steps[part], self.values[part]

    def reduce(self, how: str) -> Any:
        """Return one value for each trial, as an array: its ``last``, ``first``, ``min``, ``max``, ``mean`` or ``count``.

        ``last`` and ``first`` are in the order of recording, whatever the value is. ``min``, ``max`` and ``mean`` are of the
        numbers that are not NaN, and NaN where there is none; the least of ints is an int.

        Raises InvalidValue for another reduction.
        """
        if how == "count":
            return np.diff(self.bounds)
        if how in ("first", "last"):
            return self.values[self.bounds[:-1] if how == "first" else self.bounds[1:] - 1]
        if how not in _REDUCTIONS:
            raise InvalidValue(f"the reduction is {how!r}; give one of {', '.join(REDUCTIONS)}.")
        numbers = self.numbers()
        return _REDUCTIONS[how](numbers, self.bounds[:-1]) if len(self.trial_ids) else numbers

    def numbers(self) -> Any:
        """Return the values as numbers: int64 or float64, NaN for what is none."""
        values = self.values
        if values.dtype == np.bool_:
            return values.astype(np.int64)
        if values.dtype == object:
            kinds = (int, float, bool)
            return np.fromiter((float(each) if type(each) in kinds else np.nan for each in values), np.float64, len(values))
        return values


def _mean(numbers: Any, firsts: Any) -> Any:
    is_number = numbers == numbers
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.add.reduceat(np.where(is_number, numbers, 0).astype(np.float64), firsts)
        return total / np.add.reduceat(is_number.astype(np.int64), firsts)


_REDUCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "min": np.fmin.reduceat, "max": np.fmax.reduceat, "mean": _mean,
}  # fmt: skip
REDUCTIONS = ("last", "first", *_REDUCTIONS, "count")


def as_numpy(buffer: Buffer) -> Any:
    """Return the cells as a numpy array: int64, float64 or bool where all are of that kind, else float64 or objects."""
    array = buffer.array()
    if isinstance(array, np.ndarray):
        return array
    if array.isna().any():
        missing = np.nan if array.dtype == "Int64" and _is_exact(array) else None
        return array.to_numpy(np.float64 if missing is not None else object, na_value=missing)
    return array.to_numpy({"Int64": np.int64, "boolean": np.bool_}.get(str(array.dtype), object))


def _is_exact(array: Any) -> bool:
    return bool((abs(array) <= 2**53).all())
