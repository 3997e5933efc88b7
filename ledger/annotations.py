"""What people say of experiments and trials alike: notes, tags, attributes, environments, parents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ledger import ancestry, corrections
from ledger import events as ev
from ledger.errors import InvalidValue
from ledger.records import Record
from ledger.registry import Event

if TYPE_CHECKING:
    import datetime as dt

    from ledger.backends.base import Appended, Command


class Note(NamedTuple):
    """A remark: ``text`` as it stands, ``first_text`` as it was written; ``version`` is its place in the stream."""

    version: int
    text: str
    first_text: str
    actor: str
    time: dt.datetime


def streams_of(things: Iterable[Annotated | str], what: str = "parents") -> list[str]:
    """Return the streams of experiments and trials, given as handles or as names of streams."""
    if isinstance(things, str | Annotated):
        raise InvalidValue(f"the {what} are {things!r}; give a list of experiments or trials.")
    return [thing.stream if isinstance(thing, Annotated) else thing for thing in things]


class Annotated(ABC):
    """Something that can be annotated at any time, before and after its end; each annotation is an event.

    With ``expected_version`` (what ``version`` was before one looked) a write that comes after somebody else's raises
    WrongExpectedVersion, which has the state expected and the one that is. Lease renewals and metrics are writes, too.

    >>> import ledger
    >>> exp = ledger.open("memory:").experiment("demo")
    >>> exp.tag("baseline")
    >>> exp.set_attributes({"sampler": "tpe"}, namespace="optuna")
    >>> exp.state.tags, exp.state.attributes
    (('baseline',), {'optuna': {'sampler': 'tpe'}})
    """

    stream: str

    @abstractmethod
    def _record(self, event: Event, reason: str | None = None, expected_version: int | None = None) -> Appended:
        """Append the event to the thing's stream."""

    @abstractmethod
    def _ask(self, command: Command, reason: str | None = None, expected_version: int | None = None) -> Appended:
        """Execute a command, with the reason as that of its records, if the thing's stream is at the version."""

    @abstractmethod
    def _records(self, types: Iterable[type[Event]]) -> Iterator[Record]:
        """Iterate over the records of the thing's stream of these types."""

    def note(self, text: str, *, expected_version: int | None = None) -> None:
        """Add a remark."""
        self._record(ev.NoteAdded(text), None, expected_version)

    def notes(self) -> list[Note]:
        """Return the remarks, oldest first, as amended.

        >>> import ledger
        >>> exp = ledger.open("memory:").experiment("demo")
        >>> exp.note("fan was off")
        >>> _ = exp.amend_note(2, "fan was on", reason="it was unplugged later")
        >>> [(note.version, note.text, note.first_text) for note in exp.notes()]
        [(2, 'fan was on', 'fan was off')]
        """
        notes: dict[int, Note] = {}
        for record in self._records((ev.NoteAdded, ev.NoteAmended)):
            event = record.event
            if isinstance(event, ev.NoteAdded):
                notes[record.version] = Note(record.version, event.text, event.text, record.actor, record.time)
            elif isinstance(event, ev.NoteAmended) and event.version in notes:
                notes[event.version] = notes[event.version]._replace(text=event.text)
        return list(notes.values())

    def amend_note(self, version: int, text: str, *, reason: str, expected_version: int | None = None) -> Appended:
        """Correct the note that is this version of the stream (``notes`` tells); the first text stays in history."""
        return self._ask(corrections.amend_note(self.stream, ev.NoteAmended(version, text), reason), reason, expected_version)

    def set_parents(
        self, parents: Iterable[Annotated | str], *, reason: str | None = None, expected_version: int | None = None
    ) -> None:
        """Say what it came from: other experiments of an experiment, other trials of a trial; replaces what was said.

        Raises UnknownExperiment or UnknownTrial for a parent that does not exist, CommandRefused for one that descends from
        it.
        """
        self._ask(ancestry.set_parents(self.stream, streams_of(parents)), reason, expected_version)

    def tag(self, *tags: str, expected_version: int | None = None) -> None:
        """Add tags."""
        self._record(ev.TagsChanged(added=list(tags)), None, expected_version)

    def untag(self, *tags: str, expected_version: int | None = None) -> None:
        """Remove tags."""
        self._record(ev.TagsChanged(removed=list(tags)), None, expected_version)

    def set_attributes(self, attributes: Mapping[str, Any], *, namespace: str = "", expected_version: int | None = None) -> None:
        """Set attributes in a namespace; a value of None removes one.

        >>> import ledger
        >>> trial = ledger.open("memory:").experiment("demo").new_trial({"lr": 0.1})
        >>> seen = trial.version
        >>> trial.tag("baseline")  # somebody else was faster
        >>> try:
        ...     trial.set_attributes({"owner": "ada"}, expected_version=seen)
        ... except ledger.WrongExpectedVersion as error:
        ...     print(error.expected_state.tags, error.state.tags)
        ...     trial.set_attributes({"owner": "ada"}, expected_version=error.version)  # it does not matter here
        () ('baseline',)
        """
        self._record(ev.AttributesSet(dict(attributes), namespace), None, expected_version)

    def capture_environment(self, environment: Mapping[str, Any]) -> None:
        """Record what it runs in."""
        self._record(ev.EnvironmentCaptured(dict(environment)))
