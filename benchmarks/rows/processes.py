"""Appends from four processes at once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from benchmarks.payload import appends
from benchmarks.rivals import load
from benchmarks.row import Bound, Figures, Line, Row, Task, gaps, quantiles
from benchmarks.size import Size
from benchmarks.workers import run_processes, span_seconds

PROCESSES = 4


class Processes(Row):
    name = "processes"
    title = "4 processes appending"
    work = (
        "Four processes, started afresh, open the same store and begin together; each appends one event after the other and "
        "waits for each. Timed from the first one's begin to the last one's end."
    )
    lines = (Line("rate", title, "events/s", "more", [Bound(0.9, "bare_lmdb")]),)
    limit = (
        "who waits has its event committed by the one that writes, several to a commit; what is left is Python's work for each "
        "event, some of it twice (to hand it over, and to take it), on two cores that four processes share."
    )

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "bare_lmdb", "umadb", "eventsourcing", "sqlite", "optuna", "file_append")

    def measure(self, task: Task) -> Figures:
        count = task.size.each_process
        with contextlib.closing(load(task.rival, "Store")(task.place)) as store:
            arguments = [(task.rival, store.address, number, count) for number in range(PROCESSES)]
            done = run_processes(prepare, arguments, self.limit_seconds)
        every = [duration for each in done for duration in each.answer]
        return {"rate": len(every) / span_seconds(done), **quantiles(every)}


def prepare(rival: str, address: str, number: int, count: int) -> Callable[[], list[float]]:
    """Join the store in a worker, warm up, and return the work: appends, and how long each took."""
    store = load(rival, "Store").join(address)
    for batch in appends(f"warm-{number}", max(count // 20, 1), 1):
        store.append(batch)
    batches = appends(f"timed-{number}", count, 1)

    def work() -> list[float]:
        times = [time.perf_counter()]
        for batch in batches:
            store.append(batch)
            times.append(time.perf_counter())
        return gaps(times)

    return work
