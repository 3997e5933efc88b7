"""Ledger: the one object that a user holds, and the function that opens it."""

from __future__ import annotations

import atexit
import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from ledger import commands
from ledger.backends.base import Backend
from ledger.backends.lmdb import LmdbBackend
from ledger.background import Background
from ledger.errors import InvalidValue, UnknownExperiment
from ledger.experiment import Experiment
from ledger.identity import new_uuid7
from ledger.log import EventLog
from ledger.state import ExperimentState
from ledger.streams import experiment_stream, subject_of
from ledger.tail import Subscription
from ledger.telemetry import discard_in_child, flush_before_fork, flush_buffers
from ledger.values import check_text

if TYPE_CHECKING:
    from ledger.audit import Report

_open_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()


class ExperimentChanged(UserWarning):
    """An experiment was resumed with other objectives or another description; the change is an event."""


def open(
    url: str | os.PathLike[str], *, create: bool = True, readonly: bool = False, durability: str = "full",
    lock_timeout: float = 30.0, actor: str | None = None, clock: Callable[[], int] | None = None,
) -> Ledger:  # fmt: skip
    """Open a ledger, creating it when there is none.

    ``url`` is the path of its directory, or ``memory:`` for one that ends with the handle. ``create=False`` refuses to
    create, ``readonly=True`` to write (and is needed on a read-only mount). ``durability``: with ``"full"`` what was
    acknowledged survives a power cut; with ``"relaxed"`` a power cut may take the last commits, and nothing else.
    ``lock_timeout``: seconds to wait for other processes' writes. ``actor`` names who writes, ``user@host/process`` by
    default. ``clock`` gives ns since 1970 UTC, for tests.

    Opening a path again in the same process gives another handle on the same environment; the options must be the same.

    Raises an OpenError that says what is at the path and what to do; then nothing was created.

    >>> with open("memory:") as book:
    ...     book.log.head
    0
    """
    return Ledger(_backend(url, create, readonly, durability, lock_timeout, clock), actor)


def _backend(
    url: str | os.PathLike[str], create: bool, readonly: bool, durability: str, lock_timeout: float,
    clock: Callable[[], int] | None,
) -> Backend:  # fmt: skip
    text = os.fspath(url)
    if isinstance(text, bytes):
        raise InvalidValue(f"the path is bytes ({text!r}); give a str: os.fsdecode(path).")
    if text == "memory:":
        from ledger.backends.memory import MemoryBackend

        return MemoryBackend(clock)
    scheme, separator, _ = text.partition("://")
    if separator:
        raise InvalidValue(f"no backend is known for {scheme}://; give the path of a directory, or 'memory:'.")
    if not lock_timeout >= 0:
        raise InvalidValue(f"lock_timeout is {lock_timeout!r}; give a number of seconds from 0.")
    check_text(text, "the path")
    if not text or "\0" in text:
        raise InvalidValue(f"{text!r} is no path; give the path of a directory.")
    from ledger.backends.environment import Options

    options = Options(durability, lock_timeout)
    return LmdbBackend(text, create=create, readonly=readonly, clock=clock, options=options)


class Ledger:
    """An open ledger: its experiments, its log, its subscriptions.

    Use it in a ``with`` block, or ``close`` it; buffered metrics are flushed then, and at the latest at exit.

    **Threads and processes.** Share one handle among threads. Other processes open the path themselves; so does a
    forked child, whose inherited handle raises ForkedHandle.
    """

    def __init__(self, backend: Backend, actor: str | None = None) -> None:
        self.log = EventLog(backend, actor)
        self.background = Background("ledger-background")
        self._closed = False
        self._pid = os.getpid()
        _open_ledgers.add(self)

    def __repr__(self) -> str:
        return f"<Ledger {self.log.backend.name}>"

    @property
    def id(self) -> UUID:
        """The ledger's id, made when it was created."""
        return self.log.backend.ledger_id

    @property
    def path(self) -> str:
        """The path or URL it was opened with."""
        return self.log.backend.name

    def experiment(self, name: str, *, objectives: Mapping[str, Any] | None = None, description: str | None = None) -> Experiment:
        """Create the experiment of that name, or resume it.

        Resuming with other ``objectives`` or another ``description`` records the change and warns (ExperimentChanged);
        leaving them out changes nothing. Two processes that create the same name at once get the same experiment.
        """
        name = commands.check_name(name)
        targets = commands.check_objectives(objectives)
        with self.log.backend.view() as view:
            known = view.experiment_named(name)
            state = None if known is None else view.experiment(known)
        if state is not None and not commands.experiment_changes(state, targets, description):
            return Experiment(self, state.id)
        new_id = new_uuid7()
        appended = self.log.execute(commands.create_or_change_experiment(new_id, name, targets, description))
        if not appended.events:  # another process made the same change in between
            return self.experiment(name, objectives=objectives, description=description)
        subject = subject_of(appended.events[0][0])
        assert subject is not None
        if appended.events[0][0] == experiment_stream(new_id):
            return Experiment(self, new_id)
        experiment = Experiment(self, subject.experiment_id, [event for _, event in appended.events])
        what = ", ".join(type(event).__name__ for event in experiment.changes)
        warnings.warn(ExperimentChanged(f"experiment {name!r} was resumed with changes, now recorded: {what}."), stacklevel=2)
        return experiment

    def get_experiment(self, name: str | UUID) -> Experiment:
        """Return the live experiment of that name or id; raises UnknownExperiment, which names the nearest one."""
        with self.log.backend.view() as view:
            found = name if isinstance(name, UUID) else view.experiment_named(name)
            if found is None and isinstance(name, str):
                found = _as_uuid(name)
            if found is not None and view.experiment(found) is not None:
                return Experiment(self, found)
            names = [state.name for state in view.experiments()]
        import difflib

        folded = {each.casefold(): each for each in names}
        nearest = difflib.get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.4)
        hint = f"Did you mean {folded[nearest[0]]!r}?" if nearest else f"There are {len(names)}: `ledger experiments` lists them."
        raise UnknownExperiment(f"there is no experiment {str(name)!r} in {self.path}. {hint}")

    def experiments(self) -> Iterator[Experiment]:
        """Iterate over the experiments, oldest first."""
        with self.log.backend.view() as view:
            states: list[ExperimentState] = list(view.experiments())
        return (Experiment(self, state.id) for state in states)

    def verify(self, progress: Callable[[int, int], None] | None = None) -> Report:
        """Check the whole ledger in a child process; see ``ledger.audit.verify``. A ledger in memory has no file to check."""
        if not isinstance(self.log.backend, LmdbBackend):
            raise InvalidValue(f"{self.path} has no file to verify; only a ledger in a directory has.")
        from ledger.audit import verify

        return verify(self.path, progress)

    def subscribe(self, after: int = 0, **filters: Any) -> Subscription:
        """Catch up with the log from a position, then follow it; see ``Subscription``."""
        return self.log.subscribe(after, **filters)

    def close(self) -> None:
        """Flush buffered metrics and give the ledger back; closing again does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._pid != os.getpid():
            return  # inherited by fork: everything of it belongs to the parent
        try:
            flush_buffers(self.background)
        finally:
            self.background.close()
            self.log.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


# After the backend's own hook has been registered: hooks before a fork run in reverse, and that one stops all writing.
os.register_at_fork(before=flush_before_fork, after_in_child=discard_in_child)


@atexit.register
def _close_at_exit() -> None:
    first: Exception | None = None
    for book in list(_open_ledgers):
        try:
            book.close()
        except Exception as error:  # noqa: BLE001 - the others are to be closed too
            first = first or error
    if first is not None:
        raise first
