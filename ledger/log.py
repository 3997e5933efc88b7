"""EventLog: append events, read records."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, pairwise
from typing import Any
from uuid import UUID

from ledger.backends.base import Appended, Backend, Command, Submission, config_digest
from ledger.caller import warn_caller
from ledger.codec import SALT_BYTES
from ledger.conflicts import add_states
from ledger.errors import CommandRefused, CommitFailed, Corrupted, InvalidValue, WrongExpectedVersion
from ledger.identity import default_actor, new_uuid7_bytes, random_bytes
from ledger.records import Context, Record, to_nanoseconds
from ledger.registry import Event, type_names
from ledger.tail import Subscription
from ledger.values import check_label

#: ``expected_version`` of a stream that must not exist yet, and of one that may be at any version.
NO_STREAM = 0
ANY = None

_PAGE_POSITIONS = 256


#: How long a thread waits for the one that commits before it looks for itself; only an interrupt makes it matter.
_PATIENCE_SECONDS = 0.05


class _Ticket:
    """What one caller submits, waiting for a commit."""

    __slots__ = ("answers", "error", "following", "submissions", "wake")

    def __init__(self, submissions: Sequence[Submission]) -> None:
        self.submissions = submissions
        self.answers: list[Appended | Exception] | None = None
        self.error: BaseException | None = None  # of the commit as a whole
        self.following: _Ticket | None = None  # the one to wake next
        self.wake = threading.Lock()
        self.wake.acquire()

    def is_answered(self) -> bool:
        return self.answers is not None or self.error is not None


class EventLog:
    """The append-only log of one ledger.

    **Guarantees.** An append that has returned is as safe as the backend's durability says; it is there whole or not at
    all; positions have no gap; the same append id again gives the first answer.

    **Threads and processes.** Any thread may append: those that wait share the next commit. Readers never wait for
    writers.
    """

    def __init__(self, backend: Backend, actor: str | None = None) -> None:
        self.backend = backend
        self.actor = default_actor() if actor is None else check_label(actor, "the actor")
        self._queue: deque[_Ticket] = deque()
        self._leading = threading.Lock()
        self._leader: int | None = None  # the thread that is committing

    # ------------------------------------------------------------------------------------------------ append

    def append(
        self, events: Iterable[Event], *, stream: str, expected_version: int | None = ANY,
        append_id: UUID | None = None, ids: Sequence[UUID] = (), **context: Any,
    ) -> Appended:  # fmt: skip
        """Append events to one stream, in one atomic step, and return when they are safe.

        ``expected_version`` is the version that the stream must have (NO_STREAM: it must not exist). ``append_id``
        makes a retry safe: the same one again gives the first answer, with other content it raises. ``ids`` are the
        caller's own ids of the records, likewise known for ever. ``actor``, ``reason``, ``correlation_id``,
        ``causation_id`` and ``occurred_at`` (datetime with time zone, or ns) go with every record.

        Raises WrongExpectedVersion, AppendIdReused, InvalidValue, LockTimeout (in all of them nothing was written), or
        CommitFailed, whose ``append_id`` is the one to repeat the append with.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> book.log.append([ledger.NoteAdded("hello")], stream="diary", expected_version=ledger.NO_STREAM).position
        1
        """
        expect = {} if expected_version is ANY else {stream: expected_version}
        return self.append_many([(stream, event) for event in events], expect=expect, append_id=append_id, ids=ids, **context)

    def append_many(
        self, events: Iterable[tuple[str, Event]], *, expect: Mapping[str, int] | None = None,
        append_id: UUID | None = None, ids: Sequence[UUID] = (), **context: Any,
    ) -> Appended:  # fmt: skip
        """Append events to several streams, given as pairs of stream and event, in one atomic step.

        ``expect`` maps streams to the versions they must have; they need not be among those appended to. Everything
        else is as in ``append``.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> pairs = [("a", ledger.NoteAdded("1")), ("b", ledger.NoteAdded("2"))]
        >>> book.log.append_many(pairs, expect={"a": 0}).head
        2
        """
        content = tuple(events)
        for identifier in ids:
            _check_uuid(identifier, "one of ids")
        if not content:
            raise InvalidValue("there is nothing to append; give at least one event.")
        submission = self._submission(
            lambda view: content, append_id, context, expect=_checked(expect), content=content,
            record_ids=tuple([identifier.bytes for identifier in ids]),
        )  # fmt: skip
        return answers_of(self.commit([submission]))[0]

    def execute(
        self, command: Command, *, append_id: UUID | None = None, expect: Mapping[str, int] | None = None, **context: Any
    ) -> Appended:
        """Run a command, a pure function from the state to pairs of stream and event, and append what it decides.

        It sees the state that everything appended before it left, and nothing comes between its look and its events.
        It may be run more than once. What it raises is raised here, and nothing was written. ``expect`` is as in
        ``append_many``, and comes before the command's own look.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> def once(view):
        ...     return [] if view.version("diary") else [("diary", ledger.NoteAdded("first"))]
        >>> len(book.log.execute(once).events), len(book.log.execute(once).events)
        (1, 0)
        """
        return answers_of(self.commit([self._submission(command, append_id, context, expect=_checked(expect))]))[0]

    def submission(
        self, command: Command, append_id: UUID | None = None, *, is_first_try: bool = False, **context: Any
    ) -> Submission:  # fmt: skip
        """Make a command ready to be committed together with others of another reason, actor or time; see ``commit``.

        ``is_first_try`` promises that nothing was submitted under the append id before: then it is not looked for.
        """
        return self._submission(command, append_id, context, is_first_try=is_first_try)

    def execute_all(self, commands: Iterable[tuple[Command, UUID | None]], **context: Any) -> list[Appended | Exception]:
        """Run commands, each with its append id or None, one after the other in one commit; return each one's answer.

        One that is refused leaves no trace, and the others are written: its answer is what it raised. Raises CommitFailed
        or LockTimeout for all of them.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> note = lambda view: [("diary", ledger.NoteAdded(f"after {view.version('diary')}"))]
        >>> [answer.position for answer in book.log.execute_all([(note, None), (note, None)])]
        [1, 2]
        """
        return self.commit([self._submission(command, append_id, dict(context)) for command, append_id in commands])

    def commit(self, submissions: Sequence[Submission]) -> list[Appended | Exception]:
        """Commit submissions made elsewhere (copies of records) as ``execute_all`` does; return each one's answer.

        >>> import ledger
        >>> ledger.open("memory:").log.commit([])
        []
        """
        self._check_may_append()
        ticket = _Ticket(submissions)
        self._queue.append(ticket)
        try:
            while not ticket.is_answered():
                if self._leading.locked():  # whoever commits wakes those it has answered, and then the next to commit
                    ticket.wake.acquire(timeout=_PATIENCE_SECONDS)
                    continue
                # Whoever holds this lock commits for all who wait. A lock in a `with` is given back whatever happens; an
                # interrupt (Ctrl-C comes between any two steps of the main thread) must not leave the others waiting.
                with self._leading:
                    if not ticket.is_answered():
                        self._commit_waiting()
                        if not ticket.is_answered():  # it was taken by one who was interrupted before it could answer
                            ticket.error = _for_caller(KeyboardInterrupt(), ticket)
                self._wake_next()
        except BaseException:
            with contextlib.suppress(ValueError):
                self._queue.remove(ticket)
            raise
        finally:
            _wake(ticket.following)
        self._warn()
        if ticket.answers is None:
            raise ticket.error or _for_caller(KeyboardInterrupt(), ticket)
        for answer in ticket.answers:
            if isinstance(answer, WrongExpectedVersion):
                add_states(answer, self.backend)
        return ticket.answers

    def _check_may_append(self) -> None:
        self.backend.check_usable()  # before any lock: in a forked child one may be held by a thread that is not there
        if self._leader == threading.get_ident():
            raise CommandRefused("a command may not append: it runs inside an append. Return the events instead.")

    def _warn(self) -> None:
        warning = self.backend.take_warning()
        if warning is not None:
            warn_caller(warning)

    def _submission(
        self, command: Command, append_id: UUID | None, context: dict[str, Any], *, is_first_try: bool = False, **more: Any
    ) -> Submission:  # fmt: skip
        if append_id is not None:
            _check_uuid(append_id, "append_id")
        actor = context.pop("actor", None) if context else None
        return Submission(
            command,
            new_uuid7_bytes() if append_id is None else append_id.bytes,
            random_bytes(SALT_BYTES),
            self.actor if actor is None else check_label(actor, "the actor"),
            _context(**context) if context else None,
            is_first_try=is_first_try or append_id is None,
            **more,
        )

    def _commit_waiting(self) -> None:
        """Commit for everyone who waits now."""
        group: list[_Ticket] = []
        try:
            while self._queue:
                group.append(self._queue.popleft())
            for ticket, following in pairwise(group):
                ticket.following = following
            self._leader = threading.get_ident()
            submissions = [submission for ticket in group for submission in ticket.submissions]
            answers = iter(self.backend.commit(submissions) if submissions else ())
            for ticket in group:
                ticket.answers = list(islice(answers, len(ticket.submissions)))
        except BaseException as error:
            for ticket in group:
                ticket.error = _for_caller(error, ticket)
            if not isinstance(error, Exception):
                raise  # an interrupt is the leader's own; the others learn that the outcome is unknown
        finally:
            self._leader = None
            _wake(group[0] if group else None)  # each wakes the one after it: all at once would contend for the interpreter

    def _wake_next(self) -> None:
        """Wake one of those who came meanwhile, to commit for all of them; the lock is free again."""
        with contextlib.suppress(IndexError):
            _wake(self._queue[0])

    # -------------------------------------------------------------------------------------------------- read

    @property
    def head(self) -> int:
        """The position of the last record; 0 when the log is empty."""
        return self.backend.head()

    def version(self, stream: str) -> int:
        """Return the version of a stream; 0 when there is no such stream."""
        with self.backend.view() as view:
            return view.version(stream)

    def read(
        self, after: int = 0, *, as_of: int | None = None, limit: int | None = None, stream: str | None = None,
        experiment: UUID | None = None, config: Any = None, types: str | type[Event] | Iterable[str | type[Event]] | None = None,
    ) -> Iterator[Record]:  # fmt: skip
        """Iterate over records after a position (exclusive), in order of position, to the head as it is found.

        ``as_of`` is the last position to read; ``limit`` the largest number of records. ``stream``, ``experiment`` (its
        trials too) and ``config`` (the trials created with it) go through an index; ``types`` are names or classes, one or
        several.

        Each page is read in a short transaction of its own, so a slow reader holds nobody up; it misses and repeats
        nothing, whatever is appended or sealed meanwhile. Raises Corrupted rather than return damaged bytes.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> _ = book.log.append([ledger.NoteAdded("a"), ledger.NoteAdded("b")], stream="diary")
        >>> [record.event.text for record in book.log.read(after=1)]
        ['b']
        """
        _check_position(after, "after")
        if sum(filter_ is not None for filter_ in (stream, experiment, config)) > 1:
            raise InvalidValue("of stream, experiment and config, one at most can be given; filter the rest yourself.")
        names = type_names(types)
        if stream is not None:
            records = self._read_stream(stream, after)
        elif experiment is not None:
            records = self._read_listed(self.backend.experiment_positions(experiment), after)
        elif config is not None:
            records = self._read_listed(self.backend.config_positions(config_digest(config)), after)
        else:
            records = chain.from_iterable(self._pages(after, names))
        return records if names is None and as_of is None and limit is None else _cut(records, names, as_of, limit)

    def _pages(self, after: int, names: frozenset[str] | None) -> Iterator[list[Record]]:
        while True:
            page, reached = self.backend.read_page(after, names)
            yield page
            if reached <= after:
                return
            after = reached

    def _read_listed(self, positions: Sequence[int], after: int) -> Iterator[Record]:
        wanted = [position for position in positions if position > after]
        for start in range(0, len(wanted), _PAGE_POSITIONS):
            yield from self.backend.read_positions(wanted[start : start + _PAGE_POSITIONS])

    def _read_stream(self, stream: str, after: int) -> Iterator[Record]:
        positions = self.backend.stream_positions(stream)
        version = skipped = sum(position <= after for position in positions)
        for version, record in enumerate(self._read_listed(positions, after), start=skipped + 1):
            if record.stream != stream or record.version != version:
                raise Corrupted(
                    f"version {version} of stream {stream!r} should be at position {positions[version - 1]}, where version "
                    f"{record.version} of {record.stream!r} is.", record.position,
                )  # fmt: skip
            yield record
        if version != len(positions):
            raise Corrupted(f"stream {stream!r} ends at version {version}, and should at {len(positions)}.")

    def page(self, after: int, types: frozenset[str] | None = None) -> tuple[list[Record], int]:
        """Return some records after a position, and the position up to which nothing was left out."""
        return self.backend.read_page(after, types)

    def subscribe(self, after: int = 0, **filters: Any) -> Subscription:
        """Catch up from a position, then follow; see ``Subscription``."""
        _check_position(after, "after")
        return Subscription(self.backend, after, **filters)


def _wake(ticket: _Ticket | None) -> None:
    if ticket is not None:
        with contextlib.suppress(RuntimeError):  # it was woken before, and has not looked yet
            ticket.wake.release()


def _context(
    reason: str | None = None, correlation_id: str | None = None, causation_id: str | None = None, occurred_at: Any = None
) -> Context | None:
    if reason is correlation_id is causation_id is occurred_at is None:
        return None
    for what, text in (("the reason", reason), ("the correlation id", correlation_id), ("the causation id", causation_id)):
        if text is not None:
            check_label(text, what)
    return Context(to_nanoseconds(occurred_at, "occurred_at"), reason, correlation_id, causation_id)


def answers_of(answers: Iterable[Appended | Exception]) -> list[Appended]:
    """Return the answers of a commit; raises the first that is a refusal."""
    found = []
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
        found.append(answer)
    return found


def _for_caller(error: BaseException, ticket: _Ticket) -> BaseException:
    """Return what to raise to one caller: its own error with its append id when the outcome is unknown, else the error."""
    append_id = UUID(bytes=ticket.submissions[0].append_id) if ticket.submissions else None
    if isinstance(error, CommitFailed):
        own: BaseException = type(error)(str(error), append_id)
    elif isinstance(error, Exception):
        return error
    else:  # the leader was interrupted: the others cannot know how far it came
        own = CommitFailed(f"the committing thread was interrupted ({error!r}).", append_id)
        own.__cause__ = error
        return own
    own.__cause__ = error.__cause__
    return own


def _check_uuid(identifier: Any, what: str) -> None:
    if not isinstance(identifier, UUID):
        raise InvalidValue(f"{what} is {identifier!r}; give a uuid.UUID (ledger.new_uuid7() makes one).")


def _checked(expect: Mapping[str, int] | None) -> dict[str, int]:
    for stream, expected in (expect or {}).items():
        if type(expected) is not int or expected < 0:
            raise InvalidValue(f"the expected version of {stream!r} is {expected!r}; it is a number from 0 (NO_STREAM).")
    return dict(expect or {})


def _check_position(position: int, what: str) -> None:
    if type(position) is not int or position < 0:
        raise InvalidValue(f"{what} is {position!r}; a position is a number from 0 (the beginning).")


def _cut(records: Iterator[Record], names: frozenset[str] | None, as_of: int | None, limit: int | None) -> Iterator[Record]:
    count = 0
    for record in records:
        if (as_of is not None and record.position > as_of) or count == limit:
            return
        if names is None or record.type in names:
            count += 1
            yield record
