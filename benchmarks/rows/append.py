"""Appends from one process: one event, a hundred, a thousand at a time; and one each from 64 threads."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Sequence

from benchmarks.payload import Sample, appends
from benchmarks.rivals import load
from benchmarks.rivals.contract import EventStore
from benchmarks.row import Bound, Figures, Line, Row, Task, gaps, quantiles
from benchmarks.size import Size
from benchmarks.workers import run_threads


class _Append(Row):
    """Append after append, each waited for."""

    per_append = 1

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "bare_lmdb", "umadb", "eventsourcing", "sqlite", "optuna", "file_append")

    def count(self, size: Size) -> int:
        """Return how many appends are timed."""
        return size.singles

    def measure(self, task: Task) -> Figures:
        count = self.count(task.size)
        warm = appends("warm", max(count // 20, 1), self.per_append)
        timed = appends("timed", count, self.per_append)
        with contextlib.closing(load(task.rival, "Store")(task.place)) as store:
            for batch in warm:
                store.append(batch)
            times = [time.perf_counter()]
            for batch in timed:
                store.append(batch)
                times.append(time.perf_counter())
        taken = gaps(times)
        return {"rate": count * self.per_append / sum(taken), **quantiles(taken)}


class AppendOne(_Append):
    name = "append-1"
    title = "one event per append, one process"
    work = "Append one event of 300 bytes, wait until it is acknowledged, append the next; to 100 streams in turn."
    lines = (Line("rate", title, "events/s", "more", [Bound(0.7, "bare_lmdb"), Bound(1.2, "umadb")], "0.9 of bare LMDB"),)
    limit = (
        "the flushes are those of bare LMDB; beside them an append dirties more pages (block, index of the stream, "
        "append id, head, edge of the tree) and runs Python, which after each wait for the disk finds the processor's "
        "caches cold. `shares` divides it: no single part is left that would make up the difference."
    )


class AppendHundred(_Append):
    name = "append-100"
    title = "100 per append"
    work = "As one event per append, with a hundred events of one stream in each."
    lines = (Line("rate", title, "events/s", "more", [Bound(2.0, "umadb")], "4 times UmaDB"),)
    limit = (
        "of the time that is not the flush most is encoding, three SHA-256 for each event (payload, leaf, tree), "
        "compressing at level 3 and decoding back what is packed together (`shares`). Twice UmaDB would be about what "
        "bare LMDB reaches with none of it."
    )
    per_append = 100

    def count(self, size: Size) -> int:
        return size.hundreds


class AppendThousand(_Append):
    name = "append-1000"
    title = "1000 per append"
    work = "As one event per append, with a thousand events of one stream in each."
    lines = (Line("rate", title, "events/s", "more", [Bound(2.5, "umadb")], "4 times UmaDB"),)
    limit = (
        "at a thousand events the flush is a small share; encoding, hashing, compressing and the bytes of every event "
        "are what is left (`shares`). 2.5 times UmaDB leaves each event less time than its hashes and its "
        "compression take alone."
    )
    per_append = 1000

    def count(self, size: Size) -> int:
        return size.thousands


class AppendThreads(Row):
    name = "threads"
    title = "64 threads, one event each"
    work = "64 threads of one process, each appending one event after the other and waiting for each."
    lines = (Line("rate", title, "events/s", "more", [Bound(1.3, "umadb")], "3 times UmaDB"),)
    limit = (
        "threads share commits, so the flush is divided; what is left is the interpreter, which runs one thread at a "
        "time: making, checking and indexing each event, and waking its thread. It varies with what else the two cores "
        "do: between the figures below."
    )

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "bare_lmdb", "umadb", "eventsourcing", "sqlite")

    def measure(self, task: Task) -> Figures:
        size = task.size
        with contextlib.ExitStack() as stack:
            store = stack.enter_context(contextlib.closing(load(task.rival, "Store")(task.place)))
            handles = []
            for _ in range(size.threads):
                handle = store.for_thread()
                if handle is not store:
                    stack.callback(handle.close)
                handles.append(handle)
            taken: list[list[float]] = [[] for _ in handles]
            for kind, each in (("warm", max(size.each_thread // 20, 1)), ("timed", size.each_thread)):
                for times in taken:
                    times.clear()
                work = [
                    functools.partial(_append_all, handle, appends(f"{kind}-{n}", each, 1, streams=1), taken[n])
                    for n, handle in enumerate(handles)
                ]
                seconds = run_threads(work)
        every = [duration for times in taken for duration in times]
        return {"rate": len(every) / seconds, **quantiles(every)}


def _append_all(store: EventStore, batches: list[list[Sample]], taken: list[float]) -> None:
    for batch in batches:
        begun = time.perf_counter()
        store.append(batch)
        taken.append(time.perf_counter() - begun)
