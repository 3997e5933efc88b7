"""AmendmentTable: what was corrected afterwards, and what was redacted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar
from uuid import UUID

import pandas as pd

from ledger import events as ev
from ledger.records import Record
from ledger.state import TrialState, evolve_trial
from ledger.streams import experiment_stream, subject_of, trial_stream
from projections.appended import TOMBSTONES, AppendedTable
from projections.columns import MISSING, object_column, own_value

History = Callable[[str], Iterable[Record]]


class AmendmentTable(AppendedTable):
    """What was corrected of an experiment and its trials: a row for each value.

    Columns: ``trial_id`` (Int64; missing for the experiment's own notes and records), ``what`` (category: result, config,
    label, status, note or redaction), ``name`` (string: of the result or parameter; of a redaction the type of the event),
    ``version`` (Int64: of the note or the redacted record in its stream), ``before`` and ``after`` (object: the value that
    counted until then, and the one that does since; a result that was withdrawn has none after, and of what was redacted
    neither is there), ``time`` (datetime64[ns, UTC]), ``actor`` and ``reason`` (string), ``event`` (category), ``position``
    (int64: of the record that corrects). In order of recording.

    A forced status is no amendment: it is what happened to the trial, and stands in the status history.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> trial = exp.new_trial({"lr": 0.1})
    >>> trial.complete({"loss": 0.4})
    >>> _ = trial.amend(results={"loss": 0.5}, reason="read from the wrong line")
    >>> amendments = projections.build(projections.AmendmentTable(), book.log)
    >>> frame = amendments.table(exp.id, lambda stream: book.log.read(stream=stream))
    >>> frame[["trial_id", "what", "name", "before", "after", "reason"]].values.tolist()
    [[1, 'result', 'loss', 0.4, 0.5, 'read from the wrong line']]
    """

    name = "amendments"
    schema_version = 1
    types = frozenset({"TrialAmended", "NoteAmended", "PayloadRedacted"}) | TOMBSTONES
    columns: ClassVar[Mapping[str, str]] = {
        "owner": "id", "what": "text", "name": "text", "version": "integer", "after": "value", "time": "time", "actor": "text",
        "reason": "text", "event": "text", "position": "id",
    }  # fmt: skip

    def apply(self, record: Record) -> None:
        """Take in a correction, or that a trial is hidden."""
        if record.type in TOMBSTONES:
            self.owners.apply(record)
            return
        owner, event = self.owners.number(record.stream), record.event
        if owner is None:
            return
        corrected: list[tuple[str, str | None, int | None, Any]] = []
        if isinstance(event, ev.TrialAmended):
            corrected += [("result", name, None, value) for name, value in event.results.items()]
            corrected += [("result", name, None, MISSING) for name in event.withdrawn if name not in event.results]
            corrected += [("config", name, None, value) for name, value in event.config.items()]
            corrected += [("label", None, None, event.label)] if event.label is not None else []
            corrected += [("status", None, None, event.status)] if event.status is not None else []
        elif isinstance(event, ev.NoteAmended):
            corrected.append(("note", None, event.version, event.text))
        elif isinstance(event, ev.PayloadRedacted):
            corrected.append(("redaction", event.type, event.version, MISSING))
        else:
            self.owners.apply(record)  # of a newer version: it says so
        for cells in corrected:
            self.waiting.add(owner, *cells, record.happened_at, record.actor, record.reason, record.type, record.position)

    def table(
        self, experiment_id: UUID, history: History, *, trials: Iterable[int] | int | None = None, deleted: bool = False
    ) -> pd.DataFrame:
        """Return the corrections, of all trials or some; with ``trials`` none of the experiment itself.

        ``history`` gives the records of a stream, of which that before each correction is read. Costs one reading of each
        stream in which something was amended.
        """
        rows = self.chosen(self.owners.of(experiment_id, trials=trials, deleted=deleted))
        frame = self.rows.frame([name for name in self.columns if name not in ("owner", "after")], rows)
        frame.insert(0, "trial_id", self.trial_ids(rows))
        frame.insert(4, "before", self._before(experiment_id, history, rows))
        after = [None if value is MISSING else value for value in self.rows["after"].values(rows)]
        frame.insert(5, "after", object_column(after))
        return frame.astype({"what": "category", "event": "category"})

    def _before(self, experiment_id: UUID, history: History, rows: Any) -> Any:
        """Return what counted before each of the rows."""
        found: list[Any] = [None] * len(rows)
        wanted: dict[str, dict[int, list[int]]] = {}  # stream -> position -> places
        owners = self.rows["owner"].arrays()[0][rows]
        trial_ids = self.owners.rows["trial_id"].values(owners)
        asked = zip(trial_ids, *(self.rows[name].values(rows) for name in ("what", "position")), strict=True)
        for place, (trial_id, what, position) in enumerate(asked):
            if what != "redaction":
                stream = experiment_stream(experiment_id) if trial_id is None else trial_stream(experiment_id, trial_id)
                wanted.setdefault(stream, {}).setdefault(position, []).append(place)
        details = list(zip(*(self.rows[name].values(rows) for name in ("what", "name", "version")), strict=True))
        for stream, positions in wanted.items():
            for position, state, notes in _states(stream, history, positions):
                for place in positions[position]:
                    found[place] = own_value(_value(state, notes, *details[place]))
        return object_column(found)


def _states(stream: str, history: History, positions: Iterable[int]) -> Iterable[tuple[int, TrialState | None, dict[int, str]]]:
    """Yield the trial and the notes of a stream, as they were before the records at some positions."""
    subject, last = subject_of(stream), max(positions)
    assert subject is not None  # of an experiment or a trial
    state: TrialState | None = None
    notes: dict[int, str] = {}
    for record in history(stream):
        if record.position in positions:
            yield record.position, state, notes
        if record.position >= last:
            return
        event = record.event
        if isinstance(event, ev.NoteAdded):
            notes[record.version] = event.text
        elif isinstance(event, ev.NoteAmended):
            notes[event.version] = event.text
        if subject.trial_id is not None:
            state = evolve_trial(state, subject, event, record.happened_at, is_checked=True)


def _value(state: TrialState | None, notes: Mapping[int, str], what: str, name: str | None, version: int | None) -> Any:
    if what == "note":
        return notes.get(version or 0)
    if state is None:
        return None
    if what == "result":
        return state.results.get(name or "")
    if what == "config":
        return state.config.get(name or "")
    return state.label if what == "label" else str(state.status)
