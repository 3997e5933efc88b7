"""How each row grows with the log: the same work in ledgers of 10^4 to 10^7 events."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import ledger
from benchmarks.disk import bytes_of, copy_store
from benchmarks.fixture import short_trials
from benchmarks.payload import appends
from benchmarks.rivals.ledger import NAME, Store
from benchmarks.row import Figures, Fixture, Line, Row, Task, quantiles
from benchmarks.rows.claim import claim_times
from benchmarks.rows.opening import opening_times
from benchmarks.rows.read import trial_histories
from benchmarks.size import Size

_LARGE = 5_000_000  # from here on once is enough


class _Grown(Row):
    """A row whose contestants are ledgers of growing size."""

    kind = "trials"

    def contestants(self, size: Size) -> Sequence[str]:
        return [f"ledger:{count}" for count in size.growth]

    def name_of(self, contestant: str, size: Size) -> str:
        return f"{_count(contestant):,}"

    def fixture(self, contestant: str, size: Size) -> Fixture:
        return Fixture("trials", "ledger", _count(contestant))


class Growth(_Grown):
    name = "growth"
    title = "how the rows grow"
    work = (
        "In ledgers of trials (ten events each) of growing size: appends of 1 and of 1000 events, read all, one trial's "
        "history, open. Once only at 10,000,000."
    )
    lines = (
        Line("append_1", "one event per append", "events/s", "more"),
        Line("append_1000", "1000 per append", "events/s", "more"),
        Line("read", "read everything, typed", "events/s", "more"),
        Line("history_ms", "one trial's history, median", "ms", "less"),
        Line("open_ms", "open, median", "ms", "less"),
        Line("bytes", "bytes on disk per event", "bytes", "less"),
    )
    rounds = 3
    limit_seconds = 900.0

    def measure(self, task: Task) -> Figures:
        count, size, place = _count(task.contestant), task.size, Path(task.fixture)
        if task.round > 1 and count >= _LARGE:
            return {}
        figures = {
            "bytes": bytes_of(place) / count,
            "open_ms": quantiles(opening_times(place, size.openings))["p50_ms"],
            "history_ms": quantiles(trial_histories(place, short_trials(count), size.lookups, task.round))["p50_ms"],
        }
        with ledger.open(place / NAME) as book:
            begun = time.perf_counter()
            read = sum(1 for _ in book.log.read())
            figures["read"] = read / (time.perf_counter() - begun)
        copy_store(place, task.place)
        with contextlib.closing(Store(task.place)) as store:
            for per_append, number in ((1, size.singles // 2), (1000, size.thousands)):
                batches = appends(f"grow-{per_append}", number + 1, per_append)
                store.append(batches[0])
                begun = time.perf_counter()
                for batch in batches[1:]:
                    store.append(batch)
                figures[f"append_{per_append}"] = number * per_append / (time.perf_counter() - begun)
        return figures


class ClaimGrowth(_Grown):
    name = "claim-growth"
    title = "how a claim grows"
    work = "As the row of claims, with 100 to 1,000,000 trials pending."
    lines = (Line("p50_ms", "claim by trials pending, median", "ms", "less"),)
    rounds = 3
    limit_seconds = 600.0

    def contestants(self, size: Size) -> Sequence[str]:
        return [f"ledger:{count}" for count in (size.few_pending, *(n for n in size.growth if n < size.pending), size.pending)]

    def fixture(self, contestant: str, size: Size) -> Fixture:
        return Fixture("pending", "ledger", _count(contestant))

    def measure(self, task: Task) -> Figures:
        copy_store(Path(task.fixture), task.place)
        return quantiles(claim_times(task.place, task.size.claims))


class Verify(_Grown):
    name = "verify"
    title = "verify, per event"
    work = (
        "`book.verify()`, which recomputes every checksum, hash, index and state in a child process, in a ledger of trials; the "
        "child's start is part of it, and most of it in a small one."
    )
    lines = (Line("us", title, "µs/event", "less"),)
    rounds = 3
    limit_seconds = 1800.0

    def measure(self, task: Task) -> Figures:
        count = _count(task.contestant)
        if task.round > 1 and count >= _LARGE:
            return {}
        with ledger.open(Path(task.fixture) / NAME) as book:
            begun = time.perf_counter()
            report = book.verify()
            seconds = time.perf_counter() - begun
        report.raise_for_problem()
        return {"us": seconds / report.head * 1e6, "seconds": seconds}


def _count(contestant: str) -> int:
    return int(contestant.partition(":")[2])
