"""MetricTable and TelemetryTable: what trials logged, point by point or side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal, cast, get_args
from uuid import UUID

import numpy as np
import pandas as pd

from ledger import events as ev
from ledger.errors import InvalidValue
from projections.appended import TOMBSTONES
from projections.columns import TEXT, category
from projections.metric_series import MetricSeries, as_numpy
from projections.point_table import Columns, PointTable, ranked

Form = Literal["long", "pivoted", "mlos_bench"]
Alignment = Literal["step", "time"]


class MetricTable(PointTable):
    """The metrics of an experiment.

    **Long**, one row a point, ordered by trial_id and name, and of one name by attempt, then as they were recorded:
    ``trial_id`` (int64), ``name`` (category), ``step`` (Int64, or float64 when there are fractions), ``time``
    (datetime64[ns, UTC]), ``value`` (as ``projections.columns`` says; ``object`` when texts and numbers are mixed),
    ``attempt`` (Int64: that of the worker that logged it; 0 for one without a claim), ``position`` (int64: of the record),
    ``is_superseded`` (bool).

    A point is **superseded** when a later attempt of its trial logged that metric at its step or before: an attempt that
    begins anew takes the place of all that earlier ones logged, one that goes on from a saved state only of what it does
    again. Without steps, it takes the place of all that earlier ones logged without steps.

    **Pivoted**, one row for each step of a trial, with the index (``trial_id``, ``step``), and a column for each metric, of a
    dtype of its own, missing where a metric has no point. Superseded points are left out; of several at one step the last
    one recorded counts; those without a step are one row, the trial's last. By ``time`` in place of ``step``, superseded
    points are there as well.

    **As mlos_bench** has telemetry: ``trial_id``, ``ts``, ``metric`` (string), ``value``, ordered by trial_id and time.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> exp.new_trial({}).log_many({"loss": [0.5, 0.25], "epoch": [1, 1]}, steps=[10, 20])
    >>> metrics = projections.build(projections.MetricTable(), book.log)
    >>> metrics.table(exp.id, names="loss")[["trial_id", "name", "step", "value"]].values.tolist()
    [[1, 'loss', 10, 0.5], [1, 'loss', 20, 0.25]]
    >>> metrics.table(exp.id, form="pivoted").reset_index().to_dict("list")
    {'trial_id': [1, 1], 'step': [10, 20], 'epoch': [1, 1], 'loss': [0.5, 0.25]}
    """

    name = "metrics"
    schema_version = 1
    types = frozenset({"MetricsLogged"}) | TOMBSTONES
    event: ClassVar[type[ev.MetricsLogged | ev.TelemetryLogged]] = ev.MetricsLogged
    alignment: ClassVar[Alignment] = "step"

    def table(
        self, experiment_id: UUID, *, trials: Iterable[int] | int | None = None, names: Iterable[str] | str | None = None,
        form: Form = "long", by: Alignment | None = None, deleted: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Return what trials of the experiment logged: of all or some ``trials``, all or some ``names``.

        ``form`` is ``long``, ``pivoted`` (``by`` step or time) or ``mlos_bench``. ``deleted``: of deleted trials as well.

        Raises InvalidValue, with the nearest, for a name that nothing was logged under; a trial that logged nothing has no
        rows.
        """
        _check(form, "form", Form)
        _check(by or self.alignment, "by", Alignment)
        is_pivoted = form == "pivoted"
        columns = self.select(experiment_id, trials=trials, names=names, deleted=deleted, by_name=is_pivoted)
        if is_pivoted:
            return self._pivoted(columns, by or self.alignment)
        return self._long(columns) if form == "long" else self._mlos_bench(columns)

    def series(
        self, experiment_id: UUID, name: str, *, trials: Iterable[int] | int | None = None, deleted: bool = False,
        superseded: bool = False, moments: bool = True,
    ) -> MetricSeries:  # fmt: skip
        """Return one metric of many trials as arrays; ``superseded``: with the points that are.

        Costs no Python object for each point. Without ``moments``, for who looks at values alone, ``steps`` and ``times`` are
        empty.
        """
        columns = self.select(experiment_id, trials=trials, names=name, deleted=deleted, by_name=True)
        hidden = None if superseded else self._hidden(columns)
        if hidden is None and not moments:
            return MetricSeries.of_columns(columns.trial_ids, columns.counts, as_numpy(self.values(columns)))
        trial_ids = columns.of_points(columns.trial_ids)
        arrays = [trial_ids, as_numpy(self.steps(columns)), self.times(columns).arrays()[0], as_numpy(self.values(columns))]
        return MetricSeries.of_points(*(arrays if hidden is None else [array[~hidden] for array in arrays]))

    def _hidden(self, columns: Columns) -> Any:
        """Say which points are superseded; None when none is."""
        if self.alignment == "time" or len(self._highest) == 0:
            return None
        codes, distinct = ranked(self.steps(columns))
        return self.superseded(columns, codes, len(distinct))

    def _long(self, columns: Columns) -> pd.DataFrame:
        hidden = self._hidden(columns)
        frame = {
            "trial_id": columns.of_points(columns.trial_ids),
            "name": _categories(columns),
            "step": self.steps(columns).array(),
            "time": self.times(columns).array(),
            "value": self.values(columns).array(),
            "attempt": columns.of_points(self.rows["attempt"].take(columns.rows).array()),
            "position": columns.of_points(self.rows["position"].arrays()[0][columns.rows]),
        }
        if self.alignment == "step":
            frame["is_superseded"] = np.zeros(len(columns.values), np.bool_) if hidden is None else hidden
        return pd.DataFrame(frame, pd.RangeIndex(len(columns.values)), copy=False)

    def _mlos_bench(self, columns: Columns) -> pd.DataFrame:
        trial_ids, times = columns.of_points(columns.trial_ids), self.times(columns)
        order = np.lexsort((times.arrays()[0], trial_ids))
        frame = {
            "trial_id": trial_ids[order],
            "ts": times.array()[order],
            "metric": pd.Series(_categories(columns)).astype(TEXT).array[order],
            "value": self.values(columns).take(order).array(),
        }
        return pd.DataFrame(frame, pd.RangeIndex(len(order)), copy=False)

    def _pivoted(self, columns: Columns, by: Alignment) -> pd.DataFrame:
        codes, distinct = ranked(self.steps(columns) if by == "step" else self.times(columns))
        hidden = self.superseded(columns, codes, len(distinct)) if by == "step" else None
        trial_ids, trial_codes = np.unique(columns.trial_ids, return_inverse=True)
        width = len(distinct) + 1  # the last one for those without a step
        keys = columns.of_points(trial_codes) * width + np.where(codes < 0, len(distinct), codes)
        if hidden is not None:
            keys[hidden] = -1
        there, places = _numbered(keys, len(trial_ids) * width)
        values = self.values(columns)
        bounds = np.searchsorted(columns.of_points(columns.names), np.arange(len(columns.known) + 1))
        frame = {}
        for name, first, last in zip(columns.known, bounds, bounds[1:], strict=False):
            cells = np.full(len(there), -1)
            rows, own = np.arange(first, last), places[first:last]
            cells[own[own >= 0]] = rows[own >= 0]  # of several for one cell the last is kept
            taken = values.take(np.maximum(cells, 0)) if len(there) else values
            taken.clear(np.flatnonzero(cells < 0))
            frame[name] = taken.array()
        step_codes = there % width
        index = pd.MultiIndex(
            levels=[pd.Index(trial_ids), distinct],
            codes=cast("Any", [there // width, np.where(step_codes == len(distinct), -1, step_codes)]),
            names=["trial_id", by],
            verify_integrity=False,
        )
        return pd.DataFrame(frame, index, copy=False)


class TelemetryTable(MetricTable):
    """The telemetry of an experiment: as ``MetricTable``, but nothing of it is superseded, and it is aligned by ``time``.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> exp.new_trial({}).log_telemetry_many({"cpu": [97.5]}, at=[1_800_000_000_000_000_000])
    >>> projections.build(projections.TelemetryTable(), book.log).table(exp.id, form="mlos_bench").values.tolist()
    [[1, Timestamp('2027-01-15 08:00:00+0000', tz='UTC'), 'cpu', 97.5]]
    """

    name = "telemetry"
    schema_version = 1
    types = frozenset({"TelemetryLogged"}) | TOMBSTONES
    event = ev.TelemetryLogged
    alignment = "time"


def _categories(columns: Columns) -> Any:
    return pd.Categorical.from_codes(columns.of_points(columns.names), dtype=category(columns.known))


def _numbered(keys: Any, count: int) -> tuple[Any, Any]:
    """Return the distinct keys from 0 on, sorted, and for each key its number among them; -1 for one below 0."""
    if count > 8 * len(keys) + 1024:
        there, places = np.unique(keys, return_inverse=True)
        missing = int(len(there) > 0 and there[0] < 0)
        return there[missing:], places - missing
    is_there = np.zeros(count + 1, np.bool_)
    is_there[keys] = True
    is_there[-1] = False  # where -1 has led
    numbers = np.cumsum(is_there) - 1
    numbers[-1] = -1
    return np.flatnonzero(is_there), numbers[keys]


def _check(given: str, what: str, known: Any) -> None:
    if given not in get_args(known):
        raise InvalidValue(f"{what} is {given!r}; give one of {', '.join(get_args(known))}.")
