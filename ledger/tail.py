"""Subscription: catch up with the log from any position, then follow it."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Self
from uuid import UUID

from ledger.backends.base import Backend
from ledger.errors import InvalidValue, LedgerClosed
from ledger.records import Record
from ledger.registry import Event, type_names
from ledger.streams import subject_of

if TYPE_CHECKING:
    import asyncio


def _call(function: Callable[[], None] | None) -> None:
    if function is not None:
        function()


class Bell:
    """What a reader waits for. One raw lock, because each step on it is a single one that an interrupt cannot split: in
    ``threading.Event`` Ctrl-C can leave the inner lock held, and whoever rings next would wait for ever.
    """

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """Wake who waits, or who will wait next; may be called by any thread."""
        with contextlib.suppress(RuntimeError):  # it has been rung, and nobody has waited since
            self._silence.release()

    def clear(self) -> None:
        """Forget that it was rung."""
        self._silence.acquire(blocking=False)

    def wait(self, seconds: float) -> None:
        """Return when it is rung, or after so many seconds."""
        self._silence.acquire(timeout=seconds)


class Subscription:
    """An endless iterator over records after a position: first those that are there, then those that come.

    **Guarantees.** Every record after ``after`` is delivered once, in order of position, whatever process appended it.
    Nothing is lost between catching up and following. To resume later, in any process, subscribe again with
    ``after=subscription.position``.

    **Threads and processes.** One thread (or one asyncio task) iterates; any thread may ``close`` it, which ends the
    iteration. A subscription inherited by fork raises ForkedHandle.

    **Cost.** Woken by the doorbell file; it also looks every ``poll_seconds`` where file events are missed.

    ``experiment``, ``stream`` and ``types`` leave other records out.

    >>> import ledger
    >>> book = ledger.open("memory:")
    >>> _ = book.log.append([ledger.NoteAdded("a")], stream="diary")
    >>> with book.subscribe(after=0) as records:
    ...     next(records).event.text, records.position, records.next(timeout=0)
    ('a', 1, None)
    """

    def __init__(
        self,
        backend: Backend,
        after: int,
        *,
        experiment: UUID | None = None,
        stream: str | None = None,
        types: str | type[Event] | Iterable[str | type[Event]] | None = None,
        poll_seconds: float = 0.5,
    ) -> None:
        if not poll_seconds > 0:
            raise InvalidValue(f"poll_seconds is {poll_seconds!r}; it is a number of seconds above 0.")
        self.position = after  # of the last record delivered, or left out
        self._backend = backend
        self._experiment, self._stream = experiment, stream
        self._takes_all = experiment is None and stream is None
        self._types = type_names(types)
        self._poll_seconds = poll_seconds
        self._buffer: deque[Record] = deque()
        self._read_to = after
        self._bell = Bell()
        self._loop_bell: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._closed = False
        ring = weakref.WeakMethod(self._ring)  # one that is dropped and not closed is forgotten
        self._stop_listening = backend.listen(lambda: _call(ring()))
        weakref.finalize(self, self._stop_listening)

    def next(self, timeout: float | None = None) -> Record | None:
        """Return the next record, waiting for it; None when ``timeout`` seconds passed, or when closed."""
        if self._buffer and not self._closed:
            return self._deliver()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._bell.clear()  # before looking: what comes after the look rings again
            record = self._take()
            if record is not None or self._closed:
                return record
            left = self._poll_seconds if deadline is None else min(self._poll_seconds, deadline - time.monotonic())
            if left <= 0:
                return None
            self._bell.wait(left)

    def _take(self) -> Record | None:
        """Return a record that is there already, if any."""
        while not self._buffer and not self._closed:
            try:
                page, reached = self._backend.read_page(self._read_to, self._types)
            except LedgerClosed:
                if self._closed:
                    return None
                raise
            if reached <= self._read_to:
                return None
            self._read_to = reached
            self._buffer.extend(page if self._takes_all else filter(self._wants, page))
            if not self._buffer:
                self.position = reached
        return None if self._closed else self._deliver()

    def _deliver(self) -> Record:
        record = self._buffer.popleft()
        self.position = record.position
        return record

    def _wants(self, record: Record) -> bool:
        if self._stream is not None and record.stream != self._stream:
            return False
        if self._experiment is None:
            return True
        subject = subject_of(record.stream)
        return subject is not None and subject.experiment_id == self._experiment

    def _ring(self) -> None:
        self._bell.ring()
        if self._loop_bell is not None:
            loop, bell = self._loop_bell
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(bell.set)

    def close(self) -> None:
        """End the iteration, also of a thread that waits in it."""
        self._closed = True
        self._stop_listening()
        self._ring()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Record:
        record = self.next()
        if record is None:
            raise StopIteration
        return record

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record:
        import asyncio  # a process that only appends does not pay for it

        bell = asyncio.Event()
        self._loop_bell = asyncio.get_running_loop(), bell
        while True:
            bell.clear()
            record = self._take()
            if record is not None:
                return record
            if self._closed:
                raise StopAsyncIteration
            try:
                await asyncio.wait_for(bell.wait(), self._poll_seconds)
            except TimeoutError:
                continue  # look anyway: the doorbell may have been missed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
