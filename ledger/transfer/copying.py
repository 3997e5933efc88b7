"""Copying: records of one ledger appended to another, as new records of the same experiments and streams.

What a copy keeps: stream, event, actor, reason and the rest of the context; when it happened becomes ``occurred_at``.
What it gets: a position, a time and a hash of its own, and an append id that is made from the first one's. So the same
records are known again, by whatever way they come a second time (a merge, a whole export or a part of one), and are not
copied twice.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast
from uuid import UUID

import msgspec

from ledger import events as ev
from ledger.backends.base import Appended, Staged, Submission, View
from ledger.codec import SALT_BYTES, decode_event
from ledger.errors import (
    AppendIdReused,
    CommandRefused,
    Corrupted,
    ExperimentExists,
    InvalidValue,
    LedgerError,
    UnknownExperiment,
    UnknownTrial,
    UnsupportedFormat,
    WrongExpectedVersion,
)
from ledger.identity import new_uuid7, uuid7_bytes
from ledger.log import EventLog
from ledger.records import Context, Envelope
from ledger.registry import Event, UnknownEvent
from ledger.state import check_stream
from ledger.streams import CAPTURES, experiment_stream, subject_of
from ledger.transfer.artifacts import carrying, exported, references_beside
from ledger.transfer.importing import LineReader, Numbered

if TYPE_CHECKING:
    from ledger.session import Ledger

#: A batch, which is one commit, ends with the append that makes it this large.
_BATCH_RECORDS = 2048
_BATCH_BYTES = 4 << 20


def copied_append_id(append_id: bytes, subject: str) -> bytes:
    """Return the append id of the copy of an append, as far as it is about a subject (an experiment's or own stream).

    The time of the first one, so that the order stays; the rest from its digest. The ledger that it comes from is left
    out: append ids are unique by themselves, and so the copy of a copy, a part of an export and a backup that went on all
    lead to the same id.

    >>> UUID(bytes=copied_append_id(bytes(16), "diary")).version
    7
    """
    digest = hashlib.sha256(b"copy\0" + append_id + subject.encode()).digest()
    return uuid7_bytes(int.from_bytes(append_id[:6], "big"), digest[:10])


class Piece(NamedTuple):
    """The records of one append that are about one subject; ``place`` is where they were found, for messages."""

    subject: str
    experiment_id: UUID | None  # None: a stream of the caller's naming
    envelopes: list[Envelope]
    place: str

    @property
    def copied_id(self) -> bytes:
        """The append id of the copy."""
        return copied_append_id(self.envelopes[0].append_id, self.subject)


def pieces(found: Iterable[tuple[Envelope, str]]) -> Iterator[Piece]:
    """Put records that follow each other in one append together, by subject; in their order."""
    current: dict[str, Piece] = {}
    append_id = b""
    for envelope, place in found:
        if envelope.append_id != append_id:
            yield from current.values()
            current, append_id = {}, envelope.append_id
        about = subject_of(envelope.stream)
        subject = envelope.stream if about is None else experiment_stream(about.experiment_id)
        piece = current.get(subject)
        if piece is None:
            piece = current[subject] = Piece(subject, None if about is None else about.experiment_id, [], place)
        piece.envelopes.append(envelope)
    yield from current.values()


class _Stopped(CommandRefused):
    """The submission before this one was refused."""


class _Step:
    """One submission of a batch: accepted only when the one before it was."""

    def __init__(self, events: Sequence[Staged], before: _Step | None) -> None:
        self._events, self._before = events, before
        self._stream = events[0][0]
        self._version: int | None = None  # of the stream, when it was run; it may be run again

    def __call__(self, view: View) -> Sequence[Staged]:
        if self._before is not None and not self._before.is_in(view):
            raise _Stopped("the copies before this one were refused.")
        self._version = view.version(self._stream)
        return self._events

    def is_in(self, view: View) -> bool:
        """Say whether its events are in the log; one that was not run was known there."""
        return self._version is None or view.version(self._stream) > self._version


class Copier:
    """Append copies of records to a log, batch by batch, each batch in one transaction.

    Of experiments and trials a copy has the version that the first one had, so that what refers to versions stays right:
    what the target does not know of, or has beyond what was copied, is refused. Streams of the caller's own naming are
    appended to, wherever they stand. A capture that the target has stored by itself is left as it is.
    """

    def __init__(self, target: EventLog, rename: Mapping[str, str] | None = None) -> None:
        self._target = target
        self._rename = rename or {}
        self._known: dict[str, dict[bytes, list[int]]] = {}  # subject -> append id, or what its copy's is -> positions
        self._copied: dict[str, array[int]] = {}  # own stream -> positions of its copies, by version
        self._first: dict[str, int] = {}  # own stream -> the version that the first of them had
        self._batch: list[tuple[Piece, Submission]] = []
        self._step: _Step | None = None
        self._records = self._bytes = 0
        self._stored: dict[str, bool] = {}  # stream of a capture -> whether the target had it by itself
        self.copied: Counter[str] = Counter()  # subject -> records
        self.known = 0
        self.renamed: dict[str, str] = {}

    def add(self, piece: Piece) -> None:
        """Take a piece into the batch, unless it was copied before; a full batch is committed."""
        positions = self._positions(piece)
        if self._is_stored(piece, positions):
            self.known += len(piece.envelopes)
            return
        if positions:
            self.known += len(piece.envelopes)
            self._place(piece, positions)
            return
        if self._records >= _BATCH_RECORDS or self._bytes >= _BATCH_BYTES:
            self.flush()
        try:
            submission = self._submission(piece)
        except LedgerError as error:
            self._refuse(piece, error)
        self._batch.append((piece, submission))
        self._records += len(piece.envelopes)
        self._bytes += sum(len(bytes(envelope.payload)) for envelope in piece.envelopes)

    def flush(self, last: Callable[[], Sequence[Staged]] | None = None) -> Appended | None:
        """Commit the batch, and with it the events that ``last`` makes, as the log's own actor; return the answer to them."""
        submissions = [submission for _, submission in self._batch]
        for piece, _ in self._batch:
            self.copied[piece.subject] += len(piece.envelopes)
        if last is not None:
            step = _Step(last(), self._step)
            submissions.append(Submission(step, new_uuid7().bytes, os.urandom(SALT_BYTES), self._target.actor))
        answers = self._target.commit(submissions) if submissions else []
        for (piece, _), answer in zip(self._batch, answers, strict=False):
            if isinstance(answer, Exception):
                self._refuse(piece, answer)
            self._place(piece, range(answer.position, answer.position + len(piece.envelopes)))
        self._batch, self._step = [], None
        self._records = self._bytes = 0
        if last is None:
            return None
        if isinstance(answers[-1], Exception):
            raise answers[-1]
        return answers[-1]

    # -- what is there already

    def _is_stored(self, piece: Piece, positions: Sequence[int]) -> bool:
        """Say whether the piece is a capture that the target has, but not as a copy: the same content is stored once."""
        if not piece.subject.startswith(CAPTURES):
            return False
        if piece.subject not in self._stored:
            self._stored[piece.subject] = not positions and self._target.version(piece.subject) > 0
        return self._stored[piece.subject]

    def _positions(self, piece: Piece) -> list[int]:
        """Return where the piece is in the target; empty when it is not."""
        known = self._known.get(piece.subject)
        if known is None:
            known = self._known[piece.subject] = self._look(piece)
        if not known:
            return []
        found = known.get(piece.copied_id) or known.get(piece.envelopes[0].append_id) or []
        count = len(piece.envelopes)
        if found and len(found) < count:
            raise CommandRefused(
                f"{piece.place}: of the append {UUID(bytes=piece.envelopes[0].append_id)} {len(found)} records were copied "
                f"before, and now there are {count}: an earlier file began or ended in the middle of it. Copy all of it into "
                "another ledger."
            )
        if len(found) > count:  # a file that begins, or ends, in the middle of it
            return found[:count] if piece.envelopes[0].ordinal == 0 else found[-count:]
        return found

    def _look(self, piece: Piece) -> dict[bytes, list[int]]:
        """Find the appends about the subject; they are also known by the ids that their copies would have, or had."""
        if piece.experiment_id is None:
            records = self._target.read(stream=piece.subject)
        else:
            records = self._target.read(experiment=piece.experiment_id)
        known: dict[bytes, list[int]] = {}
        for record in records:
            known.setdefault(record.append_id, []).append(record.position)
        return known | {copied_append_id(append_id, piece.subject): positions for append_id, positions in known.items()}

    def _place(self, piece: Piece, positions: Iterable[int]) -> None:
        if piece.experiment_id is None:
            self._first.setdefault(piece.subject, piece.envelopes[0].version)
            self._copied.setdefault(piece.subject, array("q")).extend(positions)

    # -- making the copy

    def _submission(self, piece: Piece) -> Submission:
        first = piece.envelopes[0]
        events = [(envelope.stream, self._event(piece, envelope)) for envelope in piece.envelopes]
        expect: dict[str, int] = {}
        if piece.experiment_id is not None:
            for envelope in piece.envelopes:
                expect.setdefault(envelope.stream, envelope.version - 1)
        context = first.context or Context()
        happened_at = first.recorded_at if context.occurred_at is None else context.occurred_at
        own_ids = [envelope.context.record_id for envelope in piece.envelopes if envelope.context is not None]
        self._step = _Step(events, self._step)
        return Submission(
            self._step, piece.copied_id, os.urandom(SALT_BYTES), first.actor,
            Context(happened_at, context.reason, context.correlation_id, context.causation_id),
            record_ids=tuple(identifier for identifier in own_ids if identifier is not None),
            expect=expect,
        )  # fmt: skip

    def _event(self, piece: Piece, envelope: Envelope) -> Event:
        """Return the event to append: as it was recorded, to the byte, unless something in it has another name here."""
        payload = bytes(envelope.payload)
        event = decode_event(envelope.type, envelope.schema, payload)
        check_stream(envelope.stream, event)
        changed = self._renamed_in(event)
        if piece.experiment_id is None and isinstance(event, ev.NoteAmended | ev.PayloadRedacted):
            changed = msgspec.structs.replace(cast("Any", event), version=self._version_here(envelope.stream, event.version))
        return UnknownEvent(envelope.type, envelope.schema, None, raw=payload) if changed is None else changed

    def _renamed_in(self, event: Event) -> Event | None:
        if not isinstance(event, ev.ExperimentCreated | ev.ExperimentRenamed | ev.ExperimentRestored):
            return None
        name = self._rename.get(event.name)
        if name is None:
            return None
        self.renamed[event.name] = name
        return cast("Event", msgspec.structs.replace(cast("Any", event), name=name))

    def _version_here(self, stream: str, version: int) -> int:
        """Return the version that the copy of a record of an own stream has in the target."""
        self.flush()
        place = version - self._first.get(stream, 1)
        copies = self._copied.get(stream, array("q"))
        if not 0 <= place < len(copies):
            raise CommandRefused(f"version {version} of {stream!r}, which it is about, was not copied. Export all of the ledger.")
        return bisect_left(self._target.backend.stream_positions(stream), copies[place]) + 1

    def _refuse(self, piece: Piece, error: Exception) -> NoReturn:
        """Raise what says which record was refused, and what to do."""
        if isinstance(error, WrongExpectedVersion):
            raise CommandRefused(f"{piece.place}: {self._divergence(piece, error)}") from error
        if isinstance(error, ExperimentExists):
            raise ExperimentExists(f"{piece.place}: {error} A merge can give it another name: --rename OLD=NEW.") from error
        if isinstance(error, UnknownExperiment | UnknownTrial):
            cure = "Records before it are missing, then: export from the beginning."
            raise CommandRefused(f"{piece.place}: {error} {cure}") from error
        if isinstance(error, CommandRefused):
            raise CommandRefused(f"{piece.place}: it cannot be copied: {error}") from error
        if isinstance(error, AppendIdReused | InvalidValue | UnsupportedFormat | Corrupted):
            raise InvalidValue(f"{piece.place}: it cannot be copied: {getattr(error, 'problem', error)}") from error
        raise error

    def _divergence(self, piece: Piece, error: WrongExpectedVersion) -> str:
        name = self._name(piece)
        if error.version > error.expected_version:
            return divergence(name, self._target.backend.name)
        return (
            f"the copy of the experiment {name} goes on at version {error.expected_version + 1} of {error.stream!r}, which is at "
            f"{error.version} here: records before it are missing. Export it from the beginning."
        )

    def _name(self, piece: Piece) -> str:
        with self._target.backend.view() as view:
            state = None if piece.experiment_id is None else view.experiment(piece.experiment_id)
        return repr(state.name) if state is not None else str(piece.experiment_id)


def divergence(name: str, path: str) -> str:
    """Say that an experiment has gone on by itself where its copy is."""
    return (
        f"the experiment {name} has events of its own in {path}, beyond what was copied; two histories cannot be made one. "
        "Copy it into another ledger, or leave it out (choose the others with --experiment)."
    )


# ---------------------------------------------------------------------------------------------------- from an export


class RewriteReport(NamedTuple):
    """What was appended from an export: ``copied`` records of ``records``; the others were ``known``."""

    records: int
    copied: int
    known: int


def rewrite_lines(lines: LineReader, target: Ledger, artifacts: str | os.PathLike[str] | None = None) -> RewriteReport:
    """Append the records of an export, or of a part of one, to a ledger, as new records of the same experiments and streams.

    Every line is checked by its hash. Records that were appended from this or another export before, or merged, are
    passed over: what was killed half-way, or has grown, is simply repeated. ``artifacts`` is the directory that what they
    hold was exported to; all of it is copied first.

    Raises InvalidValue, naming the line, for a file that is damaged; CommandRefused when the state of the ledger forbids
    one of the records. What comes before it in the file may have been appended then. Costs some 200 us a record.

    >>> import io, ledger
    >>> from ledger.transfer.jsonlines import export_lines
    >>> with ledger.open("memory:") as book, ledger.open("memory:") as other:
    ...     _ = book.experiment("demo")
    ...     lines = b"".join(line for _, line in export_lines(book.log.backend))
    ...     [rewrite_lines(LineReader(io.BytesIO(lines)), other).copied for _ in range(2)]
    [1, 0]
    """
    copier = Copier(target.log)
    kept = target.log.backend.blobs if artifacts is None else exported(artifacts)
    with carrying([] if artifacts is None else references_beside(kept), kept, target.log.backend.blobs):
        for piece in pieces((each.line.envelope, f"{lines.name}, line {each.number}") for each in _rising(lines)):
            copier.add(piece)
        copier.flush()
    copied = copier.copied.total()
    return RewriteReport(copied + copier.known, copied, copier.known)


def _rising(reader: LineReader) -> Iterator[Numbered]:
    """Pass the lines on; each stream's versions rise by one, and positions rise."""
    position = 0
    versions: dict[str, int] = {}
    for each in reader:
        envelope = each.line.envelope
        if envelope.position <= position:
            raise reader.error(
                each.number,
                f"position {envelope.position} after {position}: lines are out of order, or of two exports. "
                "Import each export by itself.",
            )
        position = envelope.position
        if versions.get(envelope.stream, envelope.version - 1) != envelope.version - 1:
            raise reader.error(
                each.number,
                f"version {envelope.version} of {envelope.stream!r} after {versions[envelope.stream]}: a line is missing. "
                "Export the ledger again, or take the file from a backup.",
            )
        versions[envelope.stream] = envelope.version
        yield each
