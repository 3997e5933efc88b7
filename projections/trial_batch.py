"""TrialBatch: events of the trials of one experiment, and what they put into columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np

from ledger import events as ev
from ledger.assignments import AT, Given, Merged
from ledger.records import Record
from ledger.registry import Event
from ledger.state import TRIAL_ASSIGNMENTS, TrialState
from projections.buffers import ValueBuffer
from projections.columns import MISSING
from projections.rows import Rows

#: The columns of a trial's state that are shown, with their kinds; ``configs`` and ``results`` lie beside them.
STATE_COLUMNS = {
    "status": "status", "created_at": "time", "scheduled_at": "time", "started_at": "time", "ended_at": "time",
    "attempt": "integer", "worker": "text", "deadline": "time", "assigned_to": "text", "label": "text", "group": "text",
    "is_amended": "flag", "deleted_at": "time", "depends_on": "value",
}  # fmt: skip
_STAND_FOR_NOTHING = {"assigned_to": None, "label": None, "group": None, "depends_on": MISSING}  # when they are empty

PREFIX = len("trial/") + 32 + len("/")  # of the streams of an experiment's trials, as ``ledger.streams`` names them


def _sources() -> dict[str, dict[type[Event], Any]]:
    """Return for each column what each event puts there; a new trial has in the others what it begins with."""
    fields = msgspec.structs.fields(TrialState)
    given = {**TRIAL_ASSIGNMENTS}
    begins = {field.name: field.default for field in fields if field.default is not msgspec.NODEFAULT}
    given[ev.TrialCreated] = {**begins, **given[ev.TrialCreated]}
    return {
        name: {kind: assignments[name] for kind, assignments in given.items() if name in assignments}
        for name in (*STATE_COLUMNS, "config", "results")
    }


_SOURCES = _sources()


class _Kind(NamedTuple):
    """The records of events of one type: where they are in the batch, as an array, and they themselves."""

    which: Any
    records: list[Record]

    def given(self, name: str) -> list[Any]:
        """Return one field of the events."""
        return list(map(attrgetter("event." + name), self.records))


class TrialBatch:
    """Records of the trials of one experiment, in the order of the log, looked at all at once."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        numbers = " ".join([record.stream[PREFIX:] for record in records])
        self.trial_ids = np.fromstring(numbers, np.int64, sep=" ")  # half the time of int() for each
        self.times = [record.recorded_at if record.context is None else record.happened_at for record in records]
        numbers_of = {kind: number for number, kind in enumerate(set(map(type, records)))}
        classes = np.fromiter(map(numbers_of.__getitem__, map(type, records)), np.int16, len(records))
        self.kinds: dict[type[Event], _Kind] = {}
        for number in numbers_of.values():  # records of one event type are of one class; several types may be unknown
            which = np.flatnonzero(classes == number)
            chosen = [records[index] for index in which.tolist()]
            before = self.kinds.get(type(chosen[0].event))
            if before is not None:
                which, chosen = np.concatenate([before.which, which]), before.records + chosen
            self.kinds[type(chosen[0].event)] = _Kind(which, chosen)

    def of(self, kinds: Iterable[type[Event]]) -> Iterator[_Kind]:
        """Iterate over the types that there are events of."""
        return (found for kind in kinds if (found := self.kinds.get(kind)) is not None)

    def select(self, is_wanted: Any) -> list[Record]:
        """Return some records, given by an array of yes and no."""
        return [self.records[index] for index in np.flatnonzero(is_wanted).tolist()]

    def write(self, rows: Rows, configs: Rows, results: Rows, places: Any) -> None:
        """Write what the events assign to the rows of their trials: ``places`` has that of each record."""
        for name in STATE_COLUMNS:
            parts = [
                (found.which, self._cells(name, source, found))
                for kind, source in _SOURCES[name].items()
                if (found := self.kinds.get(kind)) is not None
            ]
            if parts:
                rows[name].write_parts(places, parts)
        self._write_values("config", configs, places)
        self._write_values("results", results, places)

    def _write_values(self, name: str, values: Rows, places: Any) -> None:
        """Lay mappings that events give over those of the rows of their trials, or make these empty."""
        parts: dict[str, list[tuple[Any, Any]]] = {}
        emptied: list[Any] = []
        for kind, source in _SOURCES[name].items():
            found = self.kinds.get(kind)
            if found is None:
                continue
            if isinstance(source, Given | Merged):
                for column, which, cells in columns_of(found.given(source.name)):
                    parts.setdefault(column, []).append((found.which[which], cells))
            elif kind is not ev.TrialCreated:  # the row of a new trial is empty
                emptied.append(found.which)
        for column in {**values.buffers, **parts} if emptied else ():
            parts.setdefault(column, []).extend((which, [MISSING]) for which in emptied)
        for column, columns in parts.items():
            value_column(values, column).write_parts(places, columns)

    def _cells(self, name: str, source: Any, found: _Kind) -> Any:
        """Return the cells that events of one type put into a column: one for each of them, or one for all."""
        if source is AT:
            return [self.times[index] for index in found.which.tolist()]
        if not isinstance(source, Given):
            return [_STAND_FOR_NOTHING[name] if name in _STAND_FOR_NOTHING and not source else source]
        cells = found.given(source.name)
        if name in _STAND_FOR_NOTHING:
            nothing = _STAND_FOR_NOTHING[name]
            if not any(cells):
                return [nothing]
            return [(cell if source.convert is None else source.convert(cell)) if cell else nothing for cell in cells]
        return cells


def merge_values(values: Rows, rows: Any, mappings: Sequence[Mapping[str, Any]]) -> None:
    """Lay a mapping over that of each row."""
    for name, which, cells in columns_of(mappings):
        value_column(values, name).write(rows[which], cells)


_keys: Any = dict.keys


def columns_of(mappings: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Any, list[Any]]]:
    """Part mappings into columns: a name, which of the mappings have it, and their values."""
    if not any(mappings):
        return
    first = mappings[0]
    if set(map(type, mappings)) == {dict} and all(map(first.keys().__eq__, map(_keys, mappings))):
        for name in first:  # as of most experiments
            yield name, slice(None), [each[name] for each in mappings]
        return
    columns: dict[str, tuple[list[int], list[Any]]] = {}
    for index, each in enumerate(mappings):
        for name, value in each.items():
            which, found = columns.setdefault(name, ([], []))
            which.append(index)
            found.append(value)
    for name, (which, found) in columns.items():
        yield name, np.array(which), found


def value_column(values: Rows, name: str) -> ValueBuffer:
    """Return the column of configs or results, which have no others; a new one when there is none of the name."""
    buffer = values.buffers.get(name) or values.add_column(name, "value")
    assert isinstance(buffer, ValueBuffer)
    return buffer
