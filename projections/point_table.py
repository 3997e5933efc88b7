"""PointTable: the points of metrics or telemetry as they were logged, as columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

import numpy as np
import pandas as pd

from ledger import events as ev
from ledger.errors import InvalidValue
from ledger.nearest import find_nearest
from ledger.parts import Points
from ledger.records import Record
from projections.appended import AppendedTable
from projections.buffers import Buffer, IntegerBuffer, ValueBuffer
from projections.rows import Rows

_MOST_WAITING = 65_536
_NEVER = np.iinfo(np.int64).max


class Columns(NamedTuple):
    """Which columns of points are meant: one row each, that is, the points of one name in one event, one after another.

    ``trial_ids``, ``names`` (numbers of ``known``), ``counts`` of points; ``values`` and ``moments`` are where the points
    are: the rows of their values, and of their steps and times.
    """

    rows: Any
    trial_ids: Any
    names: Any
    counts: Any
    known: list[str]
    values: Any
    moments: Any

    def of_points(self, cells: Any) -> Any:
        """Return what each column has, for each of its points."""
        return np.repeat(cells, self.counts)


class PointTable(AppendedTable):
    """The fold of metrics and of telemetry: ``event`` says of which.

    A row stands for the points of one name in one event, a column of them; the points themselves lie one after another in
    ``values``, and their steps and times, which the names of an event share, in ``moments``.

    Costs about 9 bytes of memory for each value and 17 for each step.
    """

    event: ClassVar[type[ev.MetricsLogged | ev.TelemetryLogged]]
    columns: ClassVar[Mapping[str, str]] = {
        "owner": "id", "name": "text", "attempt": "integer", "rank": "id", "value": "id", "moment": "id", "count": "id",
        "position": "id",
    }  # fmt: skip

    def __init__(self) -> None:
        self._values, self._moments = Rows({"value": "value"}), Rows({"step": "value", "time": "time"})
        self._value_cells: list[Any] = []
        self._step_cells: list[Any] = []
        self._time_cells: list[int] = []  # as recorded: after the first ones the difference from row to row
        self._firsts: list[int] = []
        self._highest: dict[int, int] = {}  # the attempt reached, of owners with more than one

    def apply(self, record: Record) -> None:
        """Take in the points of an event, or that a trial is hidden."""
        event = record.event
        if type(event) is not self.event:
            self.owners.apply(record)
            return
        owner = self.owners.number(record.stream)
        if owner is None:
            return
        attempt = event.attempt
        rank = highest = self._highest.get(owner, 1)
        if 0 < attempt < highest:
            rank = attempt  # of a worker that had lost the trial to another one by then
        elif attempt > highest:
            rank = self._highest[owner] = attempt
        for points in event.points:
            self._add(points, owner, attempt, rank, record.position)
        if len(self._value_cells) >= _MOST_WAITING or len(self._step_cells) >= _MOST_WAITING:
            self._flush()

    def _add(self, points: Points, owner: int, attempt: int, rank: int, position: int) -> None:
        count = min(len(points.steps), len(points.times), *map(len, points.values))
        if not count:
            return
        moment = self._moments.length + len(self._step_cells)
        self._firsts.append(len(self._time_cells))
        self._step_cells += points.steps if len(points.steps) == count else points.steps[:count]
        self._time_cells += points.times if len(points.times) == count else points.times[:count]
        value = self._values.length + len(self._value_cells)
        for name, column in zip(points.names, points.values, strict=False):
            self.waiting.add(owner, name, attempt, rank, value, moment, count, position)
            self._value_cells += column if len(column) == count else column[:count]
            value += count

    def _flush(self) -> None:
        self.waiting.flush()
        if self._step_cells:
            self._values.extend({"value": self._value_cells})
            self._moments.extend({"step": self._step_cells, "time": _times(self._time_cells, self._firsts)})
            self._value_cells, self._step_cells, self._time_cells, self._firsts = [], [], [], []

    # -------------------------------------------------------------------------------------------------- select

    def names(self, experiment_id: UUID, *, deleted: bool = False) -> list[str]:
        """Return the names of all that was logged of the experiment, sorted."""
        self._flush()
        codes = self.rows["name"].arrays()[0][self.chosen(self.owners.of(experiment_id, deleted=deleted))]
        known = self.rows["name"].extras()
        return sorted(known[code] for code in np.unique(codes))

    def select(
        self, experiment_id: UUID, *, trials: Iterable[int] | int | None = None, names: Iterable[str] | str | None = None,
        deleted: bool = False, by_name: bool = False,
    ) -> Columns:  # fmt: skip
        """Return the columns of points wanted, in order of trial_id and name (``by_name``: the other way about).

        The columns of one name of one trial are in the order in which they count: by attempt, then as they were recorded.

        Raises InvalidValue for a name that nothing of the experiment was logged under, when there are others.
        """
        self._flush()
        rows = self.chosen(self.owners.of(experiment_id, trials=trials, deleted=deleted))
        codes, known = self.rows["name"].arrays()[0], self.rows["name"].extras()
        if names is not None:
            wanted = self._checked_names(experiment_id, names)
            rows = rows[np.isin(codes[rows], [code for code, name in enumerate(known) if name in wanted])]
        there = sorted(np.unique(codes[rows]).tolist(), key=known.__getitem__)
        places = np.zeros(len(known), np.int64)
        places[there] = np.arange(len(there))
        name_places = places[codes[rows]]
        trial_ids = self.owners.rows["trial_id"].arrays()[0][self.rows["owner"].arrays()[0][rows]]
        outer, inner = (name_places, trial_ids) if by_name else (trial_ids, name_places)
        order = np.lexsort((rows, self.rows["rank"].arrays()[0][rows], inner, outer))
        rows = rows[order]
        counts = self.rows["count"].arrays()[0][rows]
        offsets = np.cumsum(counts) - counts
        along = np.arange(int(counts.sum()))
        values, moments = (
            along + np.repeat(self.rows[part].arrays()[0][rows] - offsets, counts) for part in ("value", "moment")
        )  # fmt: skip
        return Columns(
            rows, trial_ids[order], name_places[order], counts, [known[code] for code in there], values, moments
        )  # fmt: skip

    def _checked_names(self, experiment_id: UUID, names: Iterable[str] | str) -> frozenset[str]:
        wanted = frozenset([names] if isinstance(names, str) else names)
        known = self.names(experiment_id, deleted=True)
        for name in wanted - frozenset(known) if known else ():
            nearest = find_nearest(str(name), known)
            hint = f"Did you mean {nearest!r}?" if nearest else f"There are {len(known)}, such as {known[0]!r}."
            raise InvalidValue(f"no trial of the experiment has logged {name!r}. {hint}")
        return wanted

    def values(self, columns: Columns) -> ValueBuffer:
        """Return the values of the points."""
        buffer = self._values["value"].take(columns.values)
        assert isinstance(buffer, ValueBuffer)  # by its kind
        return buffer

    def steps(self, columns: Columns) -> Buffer:
        """Return the steps of the points; they are whole numbers where no point has one."""
        steps = self._moments["step"].take(columns.moments)
        assert isinstance(steps, ValueBuffer)  # by its kind
        if not steps.is_none():
            return steps
        nothing = IntegerBuffer()
        nothing.resize(steps.length)
        return nothing

    def times(self, columns: Columns) -> Buffer:
        """Return the times of the points."""
        return self._moments["time"].take(columns.moments)

    def superseded(self, columns: Columns, steps: Any, count: int) -> Any:
        """Say of each point whether a later attempt of its trial took its place; None when there are no such points.

        A later attempt that logged a metric supersedes what earlier ones logged of it from that step on, so that one which
        goes on from a saved state supersedes only what it does again. ``steps`` are numbers from 0 to ``count`` in order
        of the steps, below 0 for points without one; those are superseded by later ones without one.
        """
        ranks = self.rows["rank"].arrays()[0][columns.rows]
        group = (np.diff(columns.trial_ids) != 0) | (np.diff(columns.names) != 0)
        run = np.concatenate(([0], np.cumsum(group | (np.diff(ranks) != 0)))) if len(ranks) else ranks
        if not len(ranks) or run[-1] == group.sum():
            return None  # one attempt each
        starts = np.flatnonzero(np.diff(columns.of_points(run), prepend=-1))
        lowest = np.minimum.reduceat(np.where(steps < 0, _NEVER, steps), starts)
        is_without = np.minimum.reduceat(steps, starts) < 0
        ends_group = np.ones(int(run[-1]) + 1, np.bool_)
        ends_group[run[:-1][np.diff(run) != 0]] = group[np.diff(run) != 0]
        limit, without = np.full(len(lowest), _NEVER), np.zeros(len(lowest), np.bool_)
        for each in np.flatnonzero(~ends_group)[::-1]:  # later attempts first
            limit[each] = min(limit[each + 1], lowest[each + 1])
            without[each] = without[each + 1] or is_without[each + 1]
        of_point = columns.of_points(run)
        return np.where(steps < 0, without[of_point], steps >= limit[of_point])

    # --------------------------------------------------------------------------------------------- checkpoints

    def save(self) -> tuple[dict[str, Rows], dict[str, Any]]:
        self._flush()
        rows, memory = super().save()
        return {**rows, "values": self._values, "moments": self._moments}, memory

    def load(self, rows: dict[str, Rows], memory: dict[str, Any]) -> None:
        super().load(rows, memory)
        self._values, self._moments = rows["values"], rows["moments"]
        ranks, owners = self.rows["rank"].arrays()[0], self.rows["owner"].arrays()[0]
        highest = np.ones(self.owners.rows.length, np.int64)
        np.maximum.at(highest, owners, ranks)
        self._highest = {int(owner): int(highest[owner]) for owner in np.flatnonzero(highest > 1)}


def _times(cells: Sequence[int], firsts: Sequence[int]) -> Any:
    """Return times, of which each first is followed by differences."""
    bounds = [*firsts, len(cells)]
    try:
        total = np.cumsum(np.array(cells, np.int64))  # beyond 64 bits it wraps, and so does what is taken off again
    except OverflowError:
        return [time for first, last in pairwise(bounds) for time in accumulate(cells[first:last])]
    return total - np.repeat(np.concatenate(([0], total))[firsts], np.diff(bounds))


def ranked(buffer: Buffer) -> tuple[Any, Any]:
    """Return for each cell its number among the distinct ones in order, below 0 for a missing one; and those, as an index."""
    codes, distinct = pd.factorize(buffer.array(), sort=True)
    return codes, pd.Index(distinct)
