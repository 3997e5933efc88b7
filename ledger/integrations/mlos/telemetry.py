"""Telemetry of a trial: triplets of time, name and value to events, and back; and statuses as they were polled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ledger import events as ev
from ledger.integrations.mlos.values import text_of
from ledger.log import EventLog
from ledger.telemetry import point_rows

#: The name under which a status that came with telemetry is kept: a poll of the environment changes no trial's status.
POLLED = "mlos.status"
_VALUES_PER_EVENT = 4096


class Point(NamedTuple):
    """A value at a time (ns since 1970 UTC)."""

    at: int
    name: str
    value: Any


def telemetry_events(points: Sequence[Point], attempt: int) -> list[ev.TelemetryLogged]:
    """Return the events that log points, some thousands to each; those at one time are kept as one row.

    >>> [each.names for each in telemetry_events([Point(5, "cpu", 1.0), Point(5, "disk", 2), Point(6, "cpu", 1.5)], 1)[0].points]
    [['cpu', 'disk'], ['cpu']]
    """
    return [
        ev.TelemetryLogged(_columns(points[first : first + _VALUES_PER_EVENT]), attempt)
        for first in range(0, len(points), _VALUES_PER_EVENT)
    ]


def _columns(points: Iterable[Point]) -> list[ev.Points]:
    """Return points as columns: rows of the same names, each at one time, one below the other."""
    columns: dict[tuple[str, ...], ev.Points] = {}
    last: dict[tuple[str, ...], int] = {}
    for at, row in rows_of(points):
        names = tuple(row)
        column = columns.get(names)
        if column is None:
            column = columns[names] = ev.Points(list(names), [], [], [[] for _ in names])
        column.steps.append(None)
        column.times.append(at - last.get(names, 0))
        last[names] = at
        for values, value in zip(column.values, row.values(), strict=True):
            values.append(value)
    return list(columns.values())


def rows_of(points: Iterable[Point]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Return the values of one time as one row each, and another value of that time and name in a row of its own."""
    rows: dict[int, list[dict[str, Any]]] = {}
    for point in points:
        at_once = rows.setdefault(point.at, [{}])
        if point.name in at_once[-1]:
            at_once.append({})
        at_once[-1][point.name] = point.value
    return ((at, row) for at, at_once in rows.items() for row in at_once)


def read_telemetry(log: EventLog, stream: str) -> list[Point]:
    """Return a trial's points by time and name, polled statuses left out; what was sent again is there once."""
    found: dict[tuple[int, str, str | None], Point] = {}
    for point in read_points(log, stream):
        if point.name != POLLED:
            found.setdefault((point.at, point.name, text_of(point.value)), point)
    return sorted(found.values(), key=lambda point: (point.at, point.name))


def read_points(log: EventLog, stream: str) -> Iterator[Point]:
    """Iterate over all that was logged of a trial, polled statuses among it, in order of recording."""
    for record in log.read(stream=stream, types=ev.TelemetryLogged):
        if isinstance(record.event, ev.TelemetryLogged):
            for name, _, at, value in point_rows(record.event):
                yield Point(at, name, value)
