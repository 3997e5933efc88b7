"""Histories: records as sentences, with what was before each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ledger import events as ev
from ledger.cli import summary
from ledger.cli.output import printable, shown_time
from ledger.cli.phrases import because
from ledger.cli.prose import Setting, predicate
from ledger.errors import UnsupportedFormat
from ledger.log import EventLog
from ledger.records import Record, iso_nanoseconds
from ledger.session import Ledger
from ledger.state import ExperimentState, TrialState, evolve_experiment, evolve_trial
from ledger.streams import Subject, experiment_stream, subject_of

if TYPE_CHECKING:
    from rich.text import Text

_MOST_FOLDED = 256
_LATE_NS = 1_000_000_000  # what is said to have happened longer before it was recorded is worth a word


class StatesBefore:
    """What things were before a record: folded from their streams when asked, going on from where it stood last."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._folded: dict[str, tuple[int, ExperimentState | TrialState | None, dict[int, str]]] = {}
        self._redactions: dict[str, dict[int, Record]] = {}

    def before(self, record: Record) -> ExperimentState | TrialState | None:
        """Return the state of whom the record is about just before it.

        None for a stream of the caller's naming, and where a newer version wrote what this one cannot fold.
        """
        try:
            return self._fold(record)[0]
        except UnsupportedFormat:
            return None

    def note(self, record: Record, version: int) -> str | None:
        """Return the text that a note of the record's stream had just before it, where it can be said."""
        try:
            return self._fold(record)[1].get(version)
        except UnsupportedFormat:
            return None

    def place(self, record: Record, version: int) -> int | None:
        """Return the position of a version of the record's stream."""
        positions = self._log.backend.stream_positions(record.stream)
        return positions[version - 1] if 1 <= version <= len(positions) else None

    def redaction(self, record: Record) -> Record | None:
        """Return the record that says by whom and why this one was redacted."""
        if record.stream not in self._redactions:
            found = self._log.read(stream=record.stream, types=[ev.PayloadRedacted])
            self._redactions = {
                record.stream: {each.event.version: each for each in found if isinstance(each.event, ev.PayloadRedacted)}
            }
        return self._redactions[record.stream].get(record.version)

    def _fold(self, record: Record) -> tuple[ExperimentState | TrialState | None, dict[int, str]]:
        done, state, notes = self._folded.get(record.stream, (0, None, {}))
        if done >= record.position:
            done, state, notes = 0, None, {}
        subject = subject_of(record.stream)
        for each in self._log.read(done, as_of=record.position - 1, stream=record.stream):
            if subject is not None:
                state = _evolved(state, subject, each)
            if isinstance(each.event, ev.NoteAdded):
                notes[each.version] = each.event.text
            elif isinstance(each.event, ev.NoteAmended):
                notes[each.event.version] = each.event.text
        if len(self._folded) >= _MOST_FOLDED:
            self._folded.clear()
        self._folded[record.stream] = record.position - 1, state, notes
        return state, notes


def _evolved(state: Any, subject: Subject, record: Record) -> ExperimentState | TrialState:
    if subject.trial_id is None:
        return evolve_experiment(state, subject, record.event, record.happened_at)
    return evolve_trial(state, subject, record.event, record.happened_at, is_checked=True)


class NamesThen:
    """Names of experiments as they were just before a record: what an experiment is called changes."""

    def __init__(self, book: Ledger) -> None:
        self._log = book.log
        self._known: dict[UUID, list[tuple[int, str]]] = {}  # from which position on it had which name

    def __call__(self, experiment_id: UUID, position: int) -> str:
        names = self._known.get(experiment_id)
        if names is None:
            names = self._known[experiment_id] = self._read(experiment_id)
        earlier = [name for since, name in names if since < position] or [name for _, name in names[:1]]
        return earlier[-1] if earlier else str(experiment_id)

    def _read(self, experiment_id: UUID) -> list[tuple[int, str]]:
        types = [ev.ExperimentCreated, ev.ExperimentRenamed, ev.ExperimentRestored]
        records = self._log.read(stream=experiment_stream(experiment_id), types=types)
        return [(record.position, record.event.name) for record in records if getattr(record.event, "name", "")]


class Sentences:
    """Tell records as sentences; whoever all of them are about is ``it`` after the first."""

    def __init__(self, book: Ledger, subject: Subject | None = None) -> None:
        self._names, self._past = NamesThen(book), StatesBefore(book.log)
        self._subject = subject
        self._is_known = False  # the trial that all is about has been named

    def line(self, record: Record) -> Text:
        """Return the record as one line: position, time, sentence; coloured by the status that it leads to."""
        from rich.text import Text

        return Text.assemble(*self._parts(record))

    def text(self, record: Record) -> str:
        """Return the same line without colours."""
        return "".join(part for part, _ in self._parts(record))

    def _parts(self, record: Record) -> Iterator[tuple[str, str]]:
        """Yield the parts of the line, each with its style."""
        yield f"{record.position:>6}  {iso_nanoseconds(record.recorded_at)[:19].replace('T', ' ')}Z  ", "dim"
        yield f"{printable(record.actor)} ", ""
        yield self._predicate(record), summary.event_style(record)
        yield because(record.reason), "italic"
        if record.is_redacted:
            yield self._redacted(record), "magenta"
        if record.occurred_at is not None and abs(record.recorded_at - record.occurred_at) > _LATE_NS:
            yield f" (it happened at {shown_time(record.occurred_at)})", "dim"
        yield ".", ""

    def _predicate(self, record: Record) -> str:
        setting = Setting(
            self._it(record),
            record.actor,
            lambda: self._past.before(record),
            lambda version: self._past.note(record, version),
            lambda version: self._past.place(record, version),
            lambda stream: self._call(stream, record.position),
            record.is_redacted,
        )
        return predicate(record.event, record.type, setting)

    def _redacted(self, record: Record) -> str:
        redaction = self._past.redaction(record)
        if redaction is None:
            return " [redacted]"
        return f" [redacted by {printable(redaction.actor)}{because(redaction.reason)}]"

    def _it(self, record: Record) -> str:
        stream = record.stream
        about = subject_of(stream)
        if about is None:
            return f"the stream {printable(stream)}"
        if about == self._subject and about.trial_id is not None:
            if self._is_known:
                return "it"
            self._is_known = True
        elif self._subject is not None and about.experiment_id == self._subject.experiment_id and about.trial_id is not None:
            return f"trial {about.trial_id}"  # of the one experiment that was asked for
        return self._call(stream, record.position)

    def _call(self, stream: str, position: int) -> str:
        about = subject_of(stream)
        if about is None:
            return printable(stream)
        name = printable(self._names(about.experiment_id, position))
        return f"the experiment {name}" if about.trial_id is None else f"trial {about.trial_id} of {name}"
