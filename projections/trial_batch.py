"""TrialBatch: records of the trials of one experiment, and what they put into columns."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np

from ledger import events as ev
from ledger.assignments import AT, Given, Merged
from ledger.records import Record
from ledger.registry import Event
from ledger.state import TRIAL_ASSIGNMENTS, TrialState
from projections.buffers import TimeBuffer, ValueBuffer
from projections.columns import MISSING
from projections.rows import Rows

#: The columns of a trial's state that are shown, with their kinds; ``configs`` and ``results`` lie beside them.
STATE_COLUMNS = {
    "status": "status", "created_at": "time", "scheduled_at": "time", "started_at": "time", "ended_at": "time",
    "attempt": "integer", "worker": "text", "deadline": "time", "assigned_to": "text", "label": "text", "group": "text",
    "is_amended": "flag", "deleted_at": "time", "depends_on": "value",
}  # fmt: skip
_STAND_FOR_NOTHING = {"assigned_to": None, "label": None, "group": None, "depends_on": MISSING}  # when they are empty
_NEW = {name: {"flag": False, "value": MISSING}.get(kind) for name, kind in STATE_COLUMNS.items()}  # what a new row has

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


@functools.lru_cache(maxsize=256)
def _written_by(kinds: frozenset[type[Event]]) -> list[tuple[str, list[tuple[type[Event], Any]]]]:
    """Return the columns of a state that events of these types write, each with what each of them puts there."""
    written = []
    for name in STATE_COLUMNS:
        sources = [(kind, source) for kind, source in _SOURCES[name].items() if kind in kinds]
        if [source for kind, source in sources if kind is not ev.TrialCreated or source is not _NEW[name]]:
            written.append((name, sources))
    return written


class _Found(NamedTuple):
    """The events of one type: where they are among the others, as an array, and they themselves."""

    which: Any
    events: list[Any]

    def given(self, name: str) -> list[Any]:
        """Return one field of the events."""
        return list(map(attrgetter(name), self.events))


class TrialBatch:
    """Records of the trials of one experiment, at least one, in the order of the log; ``trial_ids`` has the trial of each."""

    def __init__(self, records: Sequence[Record], trial_ids: Any) -> None:
        self.records, self.trial_ids = records, trial_ids
        self.times = _times(records)
        events = [record.event for record in records]
        types = list(map(type, events))
        numbers_of = {kind: number for number, kind in enumerate(dict.fromkeys(types))}
        numbered = np.fromiter(map(numbers_of.__getitem__, types), np.int16, len(types))
        self.kinds: dict[type[Event], _Found] = {}
        for kind, number in numbers_of.items():
            (which,) = (numbered == number).nonzero()
            self.kinds[kind] = _Found(which, [events[index] for index in which.tolist()])

    def select(self, is_wanted: Any) -> TrialBatch:
        """Return the batch of some of the records, at least one, given by an array of yes and no."""
        chosen = np.flatnonzero(is_wanted).tolist()
        return TrialBatch([self.records[index] for index in chosen], self.trial_ids[chosen])

    def write(self, rows: Rows, configs: Rows, results: Rows, places: Any) -> None:
        """Write what the events assign to the rows of their trials: ``places`` has that of each record."""
        for name, sources in _written_by(frozenset(self.kinds)):
            parts = []
            for kind, source in sources:
                found = self.kinds[kind]
                cells = self._cells(name, source, found)
                if kind is not ev.TrialCreated or source is AT or cells.count(_NEW[name]) < len(cells):
                    parts.append((found.which, cells))
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

    def _cells(self, name: str, source: Any, found: _Found) -> Any:
        """Return the cells that events of one type put into a column: one for each of them, or one for all."""
        if source is AT:
            return self.times[found.which]
        if not isinstance(source, Given):
            return [_STAND_FOR_NOTHING[name] if name in _STAND_FOR_NOTHING and not source else source]
        cells = found.given(source.name)
        if name in _STAND_FOR_NOTHING:
            nothing = _STAND_FOR_NOTHING[name]
            if not any(cells):
                return [nothing]
            return [(cell if source.convert is None else source.convert(cell)) if cell else nothing for cell in cells]
        return cells


def trial_batches(records: Sequence[Record]) -> tuple[list[TrialBatch], list[Record]]:
    """Part records: a batch for the trials of each experiment, and those that are of no trial."""
    streams = [record.stream for record in records]
    numbers = _numbers(streams) if streams else None
    if numbers is not None:
        return [TrialBatch(records, numbers)], []
    parts: dict[str, tuple[list[Record], list[str]]] = {}
    for record, stream in zip(records, streams, strict=True):
        chosen, digits = parts.setdefault(stream[:PREFIX], ([], []))
        chosen.append(record)
        digits.append(stream[PREFIX:])
    batches = [
        TrialBatch(chosen, np.array(digits, np.int64)) for prefix, (chosen, digits) in parts.items() if _is_of_trials(prefix)
    ]
    return batches, [record for prefix, (chosen, _) in parts.items() if not _is_of_trials(prefix) for record in chosen]


def _is_of_trials(prefix: str) -> bool:
    return prefix.startswith("trial/")


def _numbers(streams: Sequence[str]) -> Any:
    """Return the numbers of trials as an array; None when their streams are not all those of trials of one experiment."""
    first, count = streams[0], len(streams)
    text = "".join(streams)
    if not (_is_of_trials(first) and text.isascii()):
        return None
    if len(text) == len(first) * count:  # all are as long, as in most batches: a third of the time
        characters = np.frombuffer(text.encode(), np.uint8).reshape(count, -1)
        # Lengths may make up for each other: then one begins elsewhere than its row, which has not the prefix.
        if (characters[:, :PREFIX] == characters[0, :PREFIX]).all():
            return (characters[:, PREFIX:] - ord("0")) @ 10 ** np.arange(len(first) - PREFIX - 1, -1, -1)
    prefix = first[:PREFIX]
    if all(stream.startswith(prefix) for stream in streams):
        return np.array([stream[PREFIX:] for stream in streams], np.int64)
    return None


def _times(records: Sequence[Record]) -> Any:
    """Return when the records' events happened, as an array."""
    times = [record.recorded_at for record in records if record.context is None]
    if len(times) == len(records):
        return np.fromiter(times, np.int64, len(times))
    return TimeBuffer().encode([record.happened_at for record in records])[0]


def merge_values(values: Rows, rows: Any, mappings: Sequence[Mapping[str, Any]]) -> None:
    """Lay a mapping over that of each row."""
    for name, which, cells in columns_of(mappings):
        value_column(values, name).write(rows[which], cells)


def columns_of(mappings: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Any, Sequence[Any]]]:
    """Part mappings into columns: a name, which of the mappings have it, and their values."""
    if not any(mappings):
        return
    names = list(mappings[0])
    rows = _rows_of(mappings, names)
    if rows is not None:  # as of most experiments
        columns = zip(*rows, strict=True) if len(names) > 1 else [rows]
        for name, cells in zip(names, columns, strict=True):
            yield name, slice(None), cells
        return
    parts: dict[str, tuple[list[int], list[Any]]] = {}
    for index, each in enumerate(mappings):
        for name, value in each.items():
            which, found = parts.setdefault(name, ([], []))
            which.append(index)
            found.append(value)
    for name, (which, found) in parts.items():
        yield name, np.array(which), found


def _rows_of(mappings: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Any] | None:
    """Return the values of each mapping in the order of the names; None when some have other names."""
    if set(map(len, mappings)) != {len(names)}:
        return None
    try:
        return list(map(itemgetter(*names), mappings))
    except KeyError:
        return None


def value_column(values: Rows, name: str) -> ValueBuffer:
    """Return the column of configs or results, which have no others; a new one when there is none of the name."""
    buffer = values.buffers.get(name) or values.add_column(name, "value")
    assert isinstance(buffer, ValueBuffer)
    return buffer
