"""mlos_bench's interface: the ledger as its storage, and its own SqlStorage."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.disk import bytes_of
from benchmarks.rivals import load
from benchmarks.row import Bound, Figures, Fixture, Line, Row, Task, gaps
from benchmarks.rows.life import lived
from benchmarks.size import Size

_DRIVERS = {"ledger": "mlos_ledger", "mlos": "mlos"}


class _StorageRow(Row):
    """A row of both storages."""

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "mlos")

    def name_of(self, contestant: str, size: Size) -> str:
        return {"ledger": "LedgerStorage", "mlos:wal": "WAL (not durable)"}.get(contestant, "")


class StorageLife(_StorageRow):
    name = "mlos-life"
    title = "a trial's life through mlos_bench"
    work = (
        "`new_trial` with five tunables, `update(RUNNING)`, `update_telemetry` of five points, `update(SUCCEEDED)` with five "
        "metrics; then the next. On return of the last call all of it is as safe as the storage makes it."
    )
    lines = (Line("rate", title, "lives/s", "more", [Bound(5.0, "mlos")]),)

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "mlos", "mlos:wal")

    def measure(self, task: Task) -> Figures:
        with _lives(task, task.variant) as store:
            return lived(store, task.size.lives)


class StorageBytes(_StorageRow):
    name = "mlos-bytes"
    title = "bytes on disk of trials' lives through mlos_bench"
    work = "The same lives, many, then the storage is closed and what its directory takes on disk is divided by their number."
    lines = (Line("bytes", title, "bytes/trial", "less", [Bound(1 / 3, "mlos")]),)
    limit = "as in life-bytes: what does not compress are ids, salts and the entries of the indexes."
    rounds = 1  # it is no matter of chance
    limit_seconds = 1800.0

    def measure(self, task: Task) -> Figures:
        with _lives(task, "nosync" if task.rival == "mlos" else "") as store:
            for number in range(task.size.kept_lives):
                store.live(number)
        kept = [each for each in task.place.iterdir() if each.name not in (".git", "env.jsonc")]
        taken = sum(bytes_of(each) if each.is_dir() else each.stat().st_blocks * 512 for each in kept)
        return {"bytes": taken / task.size.kept_lives}


class _StoredRow(_StorageRow):
    """A row that reads what lives have left."""

    rounds = 5
    limit_seconds = 300.0

    def fixture(self, contestant: str, size: Size) -> Fixture:
        return Fixture("stored", contestant, size.stored_trials)


class StorageResults(_StoredRow):
    name = "mlos-results"
    title = "results_df of mlos_bench"
    work = "`storage.experiments[name].results_df`. Cold is the first time after opening, warm the next time."
    lines = (
        Line("cold_ms", "cold", "ms", "less"),
        Line("warm_ms", "warm", "ms", "less", [Bound(1 / 10, "mlos")]),
    )

    def measure(self, task: Task) -> Figures:
        from benchmarks.rivals.mlos import frame_of

        with _storage(task) as storage:
            return _cold_and_warm(frame_of(storage), len, task.size.stored_trials)


class StorageLoad(_StoredRow):
    name = "mlos-load"
    title = "load() of mlos_bench"
    work = "`experiment.load()`, which warms up an optimizer. Cold is the first time after opening, warm the next time."
    lines = (
        Line("cold_ms", "cold", "ms", "less", [Bound(1 / 10, "mlos")]),
        Line("warm_ms", "warm", "ms", "less", [Bound(1 / 10, "mlos")]),
    )

    def measure(self, task: Task) -> Figures:
        from benchmarks.rivals.mlos import loader_of

        with _storage(task) as storage:
            return _cold_and_warm(loader_of(storage, task.place), int, task.size.stored_trials)


@contextlib.contextmanager
def _lives(task: Task, variant: str) -> Iterator[Any]:
    with contextlib.closing(load(_DRIVERS[task.rival], "Lives")(task.place, variant)) as store:
        yield store


@contextlib.contextmanager
def _storage(task: Task) -> Iterator[Any]:
    """Open what lives have left in a storage."""
    if task.rival == "mlos":
        from benchmarks.rivals.mlos import sql_storage

        yield sql_storage(Path(task.fixture))
    else:
        from benchmarks.rivals.mlos_ledger import ledger_storage

        with ledger_storage(Path(task.fixture)) as storage:
            yield storage


def _cold_and_warm(show: Callable[[], Any], count: Callable[[Any], int], wanted: int) -> Figures:
    begun = time.perf_counter()
    found = count(show())
    cold = time.perf_counter() - begun
    if found != wanted:
        raise AssertionError(f"{found} trials are shown of {wanted}")
    times = [time.perf_counter()]
    for _ in range(5):
        show()
        times.append(time.perf_counter())
    return {"cold_ms": cold * 1e3, "warm_ms": statistics.median(gaps(times)) * 1e3}
