"""What the tests of the contract share: fixtures, submissions made by hand, reading past the log."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest

from ledger import registry, upcasters
from ledger.backends.base import Appended, Backend, Command, Staged, Submission, View
from ledger.events import ExperimentCreated, NoteAdded, TrialCreated
from ledger.log import EventLog
from ledger.records import Context, Record
from ledger.registry import Event, event
from ledger.state import ExperimentState, TrialState
from ledger.streams import experiment_stream, trial_stream
from ledger.testing.clock import FakeClock

EXPERIMENT = UUID("01890000-0000-7000-8000-000000000001")
ACTOR = "tester@conformance"

_numbers = itertools.count(1)


class ContractBase:
    """The fixtures of the tests, and the two functions that a backend's author gives."""

    def open_backend(self, tmp_path: Path, clock: FakeClock) -> Backend:
        """Open a new, empty log that takes its time from ``clock``; ``tmp_path`` is a directory for this test alone."""
        raise NotImplementedError("define open_backend(self, tmp_path, clock), which returns a new, empty backend")

    def reopen(self, tmp_path: Path, clock: FakeClock) -> Backend:
        """Open the log of ``open_backend`` again, after it was closed; leave this out if it ends with its handle."""
        pytest.skip("the log ends with its handle: reopen() is not defined")

    #: Whether records are kept as bytes and decoded when they are read; else the tests of changed event types are left out.
    decodes_when_read = True

    def check(self, backend: Backend) -> None:
        """Check a log at the end of its test; may be replaced by a faster check of the same."""
        backend.check()

    @pytest.fixture
    def clock(self) -> FakeClock:
        """A clock that stands still."""
        return FakeClock()

    @pytest.fixture
    def backend(self, tmp_path: Path, clock: FakeClock) -> Iterator[Backend]:
        """An empty log; checked and closed when the test has passed or failed."""
        backend = self.open_backend(tmp_path, clock)
        yield backend
        try:
            if not is_closed(backend):
                self.check(backend)
        finally:
            backend.close()

    @pytest.fixture
    def log(self, backend: Backend) -> EventLog:
        """The event log above the backend."""
        return EventLog(backend, ACTOR)


def is_closed(backend: Backend) -> bool:
    """Say whether the test has closed the backend itself."""
    from ledger.errors import LedgerClosed

    try:
        backend.check_usable()
    except LedgerClosed:
        return True
    return False


def notes(*texts: str, stream: str = "notes") -> list[Staged]:
    """Return one remark for each text, in one stream."""
    return [(stream, NoteAdded(text)) for text in texts]


def submission(
    content: Sequence[Staged], *, append_id: UUID | None = None, expect: Mapping[str, int] | None = None,
    record_ids: Sequence[UUID] = (), context: Context | None = None,
) -> Submission:  # fmt: skip
    """Make the submission of an append, as ``EventLog.append_many`` does."""
    staged = tuple(content)
    return Submission(
        lambda view: staged, new_id(append_id), _salt(), ACTOR, context, tuple(i.bytes for i in record_ids), expect or {}, staged
    )


def asking(command: Command) -> Submission:
    """Make the submission of a command, as ``EventLog.execute`` does."""
    return Submission(command, new_id(), _salt(), ACTOR)


def new_id(given: UUID | None = None) -> bytes:
    """Return an append id that no other test has, or the one given."""
    return given.bytes if given is not None else UUID(int=next(_numbers) << 80 | 0x7000_8000_0000_0000_0000).bytes


def _salt() -> bytes:
    return next(_numbers).to_bytes(16, "big")


def commit(backend: Backend, *group: Submission) -> list[Appended]:
    """Commit a group in which nothing is refused."""
    answers = backend.commit(group)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return [answer for answer in answers if isinstance(answer, Appended)]


def append(backend: Backend, content: Sequence[Staged], **more: Any) -> Appended:
    """Commit one append; raise what it is refused with."""
    return commit(backend, submission(content, **more))[0]


def refusal(backend: Backend, *group: Submission) -> Exception:
    """Commit a group whose last submission is refused, and return with what."""
    answer = backend.commit(group)[-1]
    assert isinstance(answer, Exception), f"accepted: {answer!r}"
    return answer


def read_all(backend: Backend, after: int = 0) -> list[Record]:
    """Read every record after a position, page by page."""
    records: list[Record] = []
    while True:
        page, reached = backend.read_page(after)
        records += page
        if reached <= after:
            return records
        after = reached


def texts(backend: Backend) -> list[str]:
    """Return the texts of all remarks, in order."""
    return [record.event.text for record in read_all(backend) if isinstance(record.event, NoteAdded)]


class Trace:
    """All that a refused submission could leave a trace in."""

    def __init__(self, backend: Backend, *streams: str) -> None:
        self.records = read_all(backend)
        self.tree = backend.tree_head()
        self.head = backend.head()
        self.streams = {stream: list(backend.stream_positions(stream)) for stream in streams}
        self.experiment = list(backend.experiment_positions(EXPERIMENT))
        with backend.view() as view:
            self.versions = {stream: view.version(stream) for stream in streams}
            self.experiments = list(view.experiments())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trace) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


def with_experiment(backend: Backend, experiment_id: UUID = EXPERIMENT, name: str = "demo") -> str:
    """Create an experiment and return its stream."""
    stream = experiment_stream(experiment_id)
    append(backend, [(stream, ExperimentCreated(name))])
    return stream


def with_trials(backend: Backend, *created: TrialCreated, first: int = 1) -> list[str]:
    """Create trials of the experiment, numbered from ``first``, and return their streams."""
    streams = [trial_stream(EXPERIMENT, first + i) for i in range(len(created))]
    append(backend, list(zip(streams, created, strict=True)))
    return streams


def trial_state(backend: Backend, number: int) -> TrialState:
    """Return a trial that must be there."""
    with backend.view() as view:
        state = view.trial(EXPERIMENT, number)
    assert state is not None
    return state


def experiment_state(backend: Backend, experiment_id: UUID = EXPERIMENT) -> ExperimentState:
    """Return an experiment that must be there."""
    with backend.view() as view:
        state = view.experiment(experiment_id)
    assert state is not None
    return state


def ask(backend: Backend, question: Callable[[View], Any]) -> Any:
    """Ask a view of the present state."""
    with backend.view() as view:
        return question(view)


@contextmanager
def own_types() -> Iterator[None]:
    """Let a test register event types and upcasters of its own, and forget them at its end."""
    known = dict(registry._by_name), dict(registry._by_class), dict(upcasters._steps)
    try:
        yield
    finally:
        for table, before in zip((registry._by_name, registry._by_class, upcasters._steps), known, strict=True):
            table.clear()  # type: ignore[attr-defined]
            table.update(before)  # type: ignore[attr-defined]
        registry._generation += 1


def define(name: str, fields: Sequence[Any], schema: int = 1) -> Callable[..., Event]:
    """Make and register an event type, in the place of one of the same name."""
    cls = cast("type[Event]", msgspec.defstruct(name, fields, bases=(Event,), frozen=True, module=__name__))
    return event(schema=schema, name=name)(cls)


def forget(name: str) -> None:
    """Take an event type out of the registry, as in a program that never imported it."""
    entry = registry._by_name.pop(name)
    registry._by_class.pop(entry.cls)
    registry._generation += 1


def first_ready(view: View, experiment_id: UUID, worker: str = "") -> TrialState | None:
    """Return the trial that a claim by the worker would take now, or None."""
    return next(iter(view.ready(experiment_id, worker)), None)
