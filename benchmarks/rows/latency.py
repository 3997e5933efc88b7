"""From an acknowledged append to the record seen in another process; and that none is missed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.payload import appends, sample
from benchmarks.rivals import load
from benchmarks.row import Bound, Figures, Line, Row, Task, quantiles
from benchmarks.size import Size
from benchmarks.workers import run_processes

_PAUSE_SECONDS = 0.002
_WRITERS = 2
_END = 2**40  # the step of the event that tells the reader to stop

Seen = list[tuple[int, int]]


class Latency(Row):
    name = "latency"
    title = "append acknowledged to record seen in another process"
    work = (
        "One process appends an event, waits for its acknowledgement and 2 ms more, and appends the next; another follows the "
        "log by subscription and notes when it gets each (one monotonic clock serves both). From the acknowledgement, which a "
        "push may overtake, and from the call's begin, which includes the flush."
    )
    lines = (
        Line("p50_ms", f"{title}, p50", "ms", "less", [Bound(0.8, "umadb")]),
        Line("call_p50_ms", "append called to record seen in another process, p50", "ms", "less"),
    )

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "umadb")

    def measure(self, task: Task) -> Figures:
        with contextlib.closing(load(task.rival, "Store")(task.place)) as store:
            # Something is there before anyone follows: positions start at 0 in one store and at 1 in the other.
            after = store.append([sample("begin", 1, 0)])
            arguments = [
                (task.rival, store.address, "write", after, task.size.paced),
                (task.rival, store.address, "follow", after, 0),
            ]
            written, seen = (done.answer for done in run_processes(prepare, arguments, self.limit_seconds))
        times = dict(seen)
        warm = max(len(written) // 20, 1)
        known = [(called, acknowledged, times[position]) for position, called, acknowledged in written[warm:-1]]
        from_acknowledgement = [(at - acknowledged) / 1e9 for _, acknowledged, at in known]
        from_call = [(at - called) / 1e9 for called, _, at in known]
        return {**quantiles(from_acknowledgement), **quantiles(from_call, "call_")}


class Missed(Row):
    name = "missed"
    title = "events missed or repeated by a follower"
    work = (
        "Two processes append as fast as they can, 1 to 16 events at a time, while a third follows from the beginning. What it "
        "got is compared with what was acknowledged."
    )
    lines = (
        Line("missed", "events missed by a follower in another process", "events", "less", [Bound(0.0)]),
        Line("repeated", "events repeated", "events", "less", [Bound(0.0)]),
    )
    rounds = 1

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "umadb")

    def measure(self, task: Task) -> Figures:
        with contextlib.closing(load(task.rival, "Store")(task.place)) as store:
            after = store.append([sample("begin", 1, 0)])
            each = task.size.burst // _WRITERS
            arguments = [(task.rival, store.address, f"burst-{number}", after, each) for number in range(_WRITERS)]
            arguments.append((task.rival, store.address, "follow", after, _WRITERS - 1))
            *written, seen = (done.answer for done in run_processes(prepare, arguments, self.limit_seconds))
        acknowledged = sorted(position for positions in written for position in positions)
        got = [position for position, _ in seen]
        last = max(at for _, at in seen)
        return {
            "missed": len(set(acknowledged) - set(got)),
            "repeated": len(got) - len(set(got)),
            "in_order": float(got == sorted(got)),
            "events": len(acknowledged),
            "seconds": (last - seen[0][1]) / 1e9,
        }


def prepare(rival: str, address: str, part: str, after: int, count: int) -> Callable[[], Any]:
    """Join the store in a worker and return its part of the work."""
    store = load(rival, "Store").join(address)
    if part == "follow":
        return lambda: _follow(store, after, ends=count + 1)
    if part == "write":
        return lambda: _write(store, count)
    return lambda: _burst(store, part, count)


def _write(store: Any, count: int) -> list[tuple[int, int, int]]:
    """Append, pausing; return each event's position, and when its append was called and acknowledged."""
    time.sleep(0.5)  # the follower subscribes meanwhile
    written = []
    for batch in [*appends("paced", count, 1), [sample("end", 1, _END)]]:
        called = time.monotonic_ns()
        position = store.append(batch)
        written.append((position, called, time.monotonic_ns()))
        time.sleep(_PAUSE_SECONDS)
    return written


def _burst(store: Any, stream: str, count: int) -> list[int]:
    """Append without a pause, 1 to 16 events at a time; return the positions acknowledged."""
    positions: list[int] = []
    version = 0
    while version < count:
        size = min(version * 7 % 16 + 1, count - version)
        last = store.append([sample(stream, version + i + 1, version + i) for i in range(size)])
        positions.extend(range(last - size + 1, last + 1))
        version += size
    positions.append(store.append([sample(stream, version + 1, _END)]))
    return positions


def _follow(store: Any, after: int, ends: int) -> Seen:
    """Follow until the writers' last events have come; return positions, and when each was seen."""
    seen: Seen = []
    for position, step in store.follow(after):
        seen.append((position, time.monotonic_ns()))
        ends -= step == _END
        if not ends:
            break
    return seen
