"""Ledger: the one object that a user holds, and the function that opens it."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from ledger import commands, corrections
from ledger import events as ev
from ledger.annotations import streams_of
from ledger.backends.base import Backend, Entry
from ledger.backends.lmdb import LmdbBackend
from ledger.background import Background
from ledger.caller import warn_caller
from ledger.capture.options import CaptureOptions
from ledger.checkpoint import Checkpoint
from ledger.errors import ExperimentChanged, InvalidValue, UnknownExperiment
from ledger.experiment import Experiment
from ledger.identity import new_uuid7
from ledger.log import EventLog
from ledger.nearest import find_nearest
from ledger.objectives import Targets, check_objectives
from ledger.records import iso_nanoseconds
from ledger.redaction import Found, find_text
from ledger.streams import experiment_stream, subject_of
from ledger.tail import Subscription
from ledger.telemetry import discard_in_child, flush_before_fork, flush_buffers
from ledger.values import check_text

if TYPE_CHECKING:
    from ledger.audit import Report
    from ledger.maintenance.garbage import GarbageReport

_open_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()


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

    def experiment(
        self, name: str, *, objectives: Mapping[str, Any] | None = None, description: str | None = None,
        parents: Iterable[Experiment | str] | None = None, capture: CaptureOptions | bool = False,
    ) -> Experiment:  # fmt: skip
        """Create the experiment of that name, or resume it.

        ``objectives`` maps names of results to "min", "max" or an ``Objective`` with bounds; ``parents`` are experiments
        that it came from. Resuming with others, or with another ``description``, records the change and warns
        (ExperimentChanged); leaving them out changes nothing. Two processes that create the same name at once get the same
        experiment.

        ``capture``: whether ``trial.run`` of the handle's trials records what they run with (environment, packages, git state,
        source), unless told otherwise. It is not by default: the first one in a process costs some 0.1 s, which workers that
        only record should not wait for.
        """
        wanted, given = _wanted(name, objectives, description, parents)
        with self.log.backend.view() as view:
            known = view.experiment_named(name)
            state = None if known is None else view.experiment(known)
        if state is not None and not commands.experiment_changes(state, wanted, given):
            return Experiment(self, state.id, capture=capture)
        new_id = new_uuid7()
        appended = self.log.execute(commands.create_or_change_experiment(new_id, wanted, given))
        if not appended.events:  # another process made the same change in between
            return self.experiment(name, capture=capture)
        subject = subject_of(appended.events[0][0])
        assert subject is not None
        if appended.events[0][0] == experiment_stream(new_id):
            return Experiment(self, new_id, capture=capture)
        experiment = Experiment(self, subject.experiment_id, [event for _, event in appended.events], capture)
        what = ", ".join(type(event).__name__ for event in experiment.changes)
        warn_caller(ExperimentChanged(f"experiment {name!r} was resumed with changes, now recorded: {what}."))
        return experiment

    def get_experiment(self, name: str | UUID, *, deleted: bool = False) -> Experiment:
        """Return the live experiment of that name or id; raises UnknownExperiment, which names the nearest one.

        With ``deleted`` it is looked for among the deleted ones instead: the last of that name, or the id.
        """
        identifier = name if isinstance(name, UUID) else _as_uuid(name)
        with self.log.backend.view() as view:
            named = view.experiment_named(name) if isinstance(name, str) and not deleted else None
            if named is not None:
                return Experiment(self, named)
            states = [state for state in view.experiments() if (state.deleted_at is not None) is deleted]
        found = [state for state in states if state.name == name] or [state for state in states if state.id == identifier]
        if found:
            return Experiment(self, max(found, key=lambda state: state.deleted_at or 0).id)
        raise UnknownExperiment(self._no_such_experiment(name, [state.name for state in states], deleted))

    def _no_such_experiment(self, name: str | UUID, names: list[str], deleted: bool) -> str:
        nearest = find_nearest(str(name), names)
        hint = f"Did you mean {nearest!r}?" if nearest else f"There are {len(names)}: `ledger experiments` lists them."
        if not deleted:
            with self.log.backend.view() as view:
                gone = [
                    state
                    for state in view.experiments()
                    if state.deleted_at is not None and name in (state.name, state.id, str(state.id))
                ]
            if gone:
                hint = f"One was deleted at {iso_nanoseconds(gone[-1].deleted_at or 0)}: `ledger delete --undo` restores it."
        return f"there is no {'deleted ' if deleted else ''}experiment {str(name)!r} in {self.path}. {hint}"

    def experiments(self, *, deleted: bool = False) -> Iterator[Experiment]:
        """Iterate over the experiments, oldest first; over the deleted ones instead if asked to."""
        with self.log.backend.view() as view:
            states = [state for state in view.experiments() if (state.deleted_at is not None) is deleted]
        return (Experiment(self, state.id) for state in states)

    # ------------------------------------------------------------------------------------------------- care

    def redact(self, *positions: int, reason: str) -> list[int]:
        """Drop the payloads of the records at the positions (a leaked secret), with the reason why.

        Each record keeps its position, id and hash, and every proof stays valid; texts and values are gone from it, from
        the tables and from the states. Returns the positions of the PayloadRedacted events that say who and why. In the
        file the bytes are overwritten by ``ledger compact``; until then ``info`` and ``doctor`` show the erasure as pending.
        What an artifact held goes then, too, or by ``collect_garbage``, unless another record refers to it. What is outside
        stays: backups, exports, and what a record carries beside its payload (actor, reason, ids).

        Raises InvalidValue for a position without a record, CommandRefused for a record that is redacted already or holds
        nothing that people put in; then none is redacted.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> trial = book.experiment("demo").new_trial({"api_key": "123"})
        >>> book.redact(2, reason="leaked key")
        [3]
        >>> trial.state.config
        {}
        """
        numbers = [position for position in positions if type(position) is int]
        records = {record.position: record for record in self.log.backend.read_positions(numbers)}
        for position in positions:
            if type(position) is not int or position not in records:
                raise InvalidValue(f"there is no record at position {position!r}; the log ends at {self.log.head}.")
        appended = self.log.execute(corrections.redact(records.values(), reason), reason=reason)
        return list(range(appended.position, appended.position + len(appended.events)))

    def find_text(self, text: str, progress: Callable[[int, int], None] | None = None) -> Found:
        """Find the records that hold a text (a leaked secret), in their payload or elsewhere; reads the whole log.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> _ = book.experiment("demo").new_trial({"api_key": "123-456"})
        >>> book.find_text("123-456").payloads
        [2]
        """
        head = self.log.head
        tell = (lambda position: None) if progress is None else (lambda position: progress(position, max(position, head)))
        return find_text((entry.raw for entry in self._entries()), text, tell)

    def _entries(self) -> Iterator[Entry]:
        position = 0
        while entries := self.log.backend.read_entries(position):
            yield from entries
            position += len(entries)

    def checkpoint(self) -> Checkpoint:
        """Return size and root of the Merkle tree over the log, to be kept elsewhere; ``verify`` checks against it.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> _ = book.experiment("demo")
        >>> book.checkpoint().size
        1
        """
        return Checkpoint(self.id, *self.log.backend.tree_head())

    def verify(
        self, progress: Callable[[int, int], None] | None = None, *, against: Iterable[Checkpoint] = (),
        artifacts: str = "present",
    ) -> Report:  # fmt: skip
        """Check the whole ledger in a child process; see ``ledger.audit.verify``. A ledger in memory has no file to check."""
        if not isinstance(self.log.backend, LmdbBackend):
            raise InvalidValue(f"{self.path} has no file to verify; only a ledger in a directory has.")
        from ledger.audit import verify

        return verify(self.path, progress, against=against, artifacts=artifacts)

    def collect_garbage(
        self, *, grace_seconds: float | None = None, dry_run: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> GarbageReport:
        """Remove what artifacts held that no record refers to any more; see ``ledger.maintenance.garbage``.

        Nothing is ever removed but by this, and nothing younger than ``grace_seconds``, an hour by default. Others may go on
        recording.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> _ = book.experiment("demo").log_artifact("text", name="note")
        >>> report = book.collect_garbage()
        >>> len(report.removed), report.kept
        (0, 1)
        """
        from ledger.maintenance.garbage import GRACE_SECONDS, collect_garbage

        grace = GRACE_SECONDS if grace_seconds is None else grace_seconds
        return collect_garbage(self.log.backend, grace_seconds=grace, dry_run=dry_run, progress=progress)

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


def _wanted(
    name: str, objectives: Mapping[str, Any] | None, description: str | None, parents: Iterable[Experiment | str] | None
) -> tuple[ev.ExperimentCreated, frozenset[str]]:
    """Return an experiment as asked for, and which of its fields were."""
    targets = check_objectives(objectives) or Targets({}, {})
    lineage = [] if parents is None else streams_of(parents)
    wanted = ev.ExperimentCreated(commands.check_name(name), targets.objectives, description or "", targets.bounds, lineage)
    asked = {"objectives": objectives, "description": description, "parents": parents}
    return wanted, frozenset(field for field, value in asked.items() if value is not None)


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
